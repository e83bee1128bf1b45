/* SPDX-License-Identifier: MIT */
/*
 * What memory cannot show: flag 0, notifier empty, loop asleep. An idle process looks like
 * that, and so does one that lost a wakeup to the race of its protocol. What decides is the
 * payload, which --witness reads:
 *
 *   nothing undone    the loop is idle
 *   work undone       and a loop sleeps, and nobody is on the way to tell it: flag-race where the
 *                     protocol has that race, otherwise nobody told it (notify-missing)
 *   not asked         undecidable for foreign loops whose protocol has that race, or whose sources are
 *                     polled; those of libbh have a history (flag_race.c)
 */
#include <string.h>

#include "case.h"

/* The loops that could have to do with undone work. */
struct choice {
	struct bht_loop_status sleeper; /* the first of those that sleep with nothing scheduled, */
	unsigned n_sleepers;            /* and how many there are */
	const struct bht_loop *busy;    /* one that may come to it yet, or NULL */
	char names[BHT_LINE / 2];       /* of the sleepers, the first ones */
};

static bool has_any(const struct bht_case *c, const struct bht_loop *loop)
{
	for (size_t i = 0; i < c->ev->last.n_bhs; i++)
		if (c->ev->last.bhs[i].loop == loop->addr && c->ev->last.bhs[i].state == BHP_LIVE)
			return true;
	return loop->traits & BHT_TRAIT_FOREIGN;
}

static bool any_scheduled(const struct bht_case *c, const struct bht_loop *loop)
{
	for (size_t i = 0; i < c->ev->last.n_bhs; i++)
		if (c->ev->last.bhs[i].loop == loop->addr && bht_is_due(loop, &c->ev->last.bhs[i]))
			return true;
	return false;
}

static void add_sleeper(struct choice *choice, const struct bht_loop_status *s)
{
	const size_t used = strlen(choice->names);

	if (choice->n_sleepers++ == 0)
		choice->sleeper = *s;
	snprintf(choice->names + used, sizeof(choice->names) - used, "%s\"%s\"", used ? ", " : "", s->loop->name);
}

static void choose(const struct bht_case *c, struct choice *choice)
{
	const struct bht_sample *sample = &c->ev->last;

	*choice = (struct choice){ 0 };
	for (size_t i = 0; i < sample->n_loops; i++) {
		const struct bht_loop_status s = bht_loop_status(c->ev, &sample->loops[i]);
		const bool waits = bht_waits(&s) && s.loop->notifier_count <= 0 && !any_scheduled(c, s.loop);

		if (!has_any(c, s.loop) || s.activity == BHT_NOT_POLLED || s.activity == BHT_OWNER_UNKNOWN)
			continue;
		if (waits)
			add_sleeper(choice, &s);
		else
			choice->busy = s.loop;
	}
}

/* --- work is undone ----------------------------------------------------------------------- */

static void say_values(const struct bht_case *c, char *buf, size_t size)
{
	const struct bht_payload *p = &c->ev->payload;

	snprintf(buf, size, "'%s' holds%s (%lld and %lld): work was published and not seen.", p->text,
		 c->ev->live ? " in both looks with the same values" : "", (long long)p->last.left,
		 (long long)p->last.right);
}

/* What is consistent without it is proved with it, when no other loop or mechanism can be meant. */
static void prove(struct bht_case *c)
{
	struct bht_finding *f = NULL;
	char values[400];

	for (unsigned i = 0; i < c->d->n_findings; i++) {
		struct bht_finding *g = &c->d->findings[i];
		if (g->rule != BHT_RULE_FLAG_RACE || g->loop.addr != c->d->findings[0].loop.addr)
			return;
		if (g->confidence == BHT_CONSISTENT && !f)
			f = g;
		else if (g->confidence >= BHT_CONSISTENT)
			return;
	}
	if (!f || !c->ev->live)
		return;
	f->confidence = BHT_PROVED;
	say_values(c, values, sizeof(values));
	const size_t used = strlen(f->detail);
	snprintf(f->detail + used, sizeof(f->detail) - used, " %s", values);
	snprintf(f->refute, sizeof(f->refute), "The callback runs, and '%s' ends, without help from outside.",
		 c->ev->payload.text);
}

/* The only bottom half of LOOP, NULL: there are several. OPEN: whether flag-race is possible. */
static const struct bht_bh *which(const struct bht_case *c, const struct bht_loop *loop, bool *open)
{
	const struct bht_bh *only = NULL;
	unsigned n = 0;

	*open = bht_may_race(loop) && loop->traits & BHT_TRAIT_LISTS_PENDING;
	for (size_t i = 0; i < c->ev->last.n_bhs; i++) {
		const struct bht_bh *bh = &c->ev->last.bhs[i];
		if (bh->loop != loop->addr || bh->state != BHP_LIVE)
			continue;
		*open |= bht_flag_race_open(c, loop, bh);
		only = bh;
		n++;
	}
	return n == 1 && !(loop->traits & BHT_TRAIT_LISTS_PENDING) ? only : NULL;
}

/* Whether a thread runs that has had its time to schedule, and may have other plans. */
static bool someone_runs(const struct bht_case *c)
{
	for (size_t i = 0; i < c->ev->last.n_threads; i++)
		if (c->ev->last.threads[i].state == 'R')
			return true;
	return false;
}

static void nobody_looks(struct bht_case *c, const struct bht_loop_status *s)
{
	const struct bht_loop *loop = s->loop;
	const bool sure = !(loop->traits & BHT_TRAIT_FLAG_UNKNOWN) && !someone_runs(c);
	char values[400];
	bool open;
	const struct bht_bh *bh = which(c, loop, &open);
	struct bht_finding *f = bht_finding_add(c, open ? BHT_RULE_FLAG_RACE : BHT_RULE_NOTIFY_MISSING,
						sure ? BHT_CONSISTENT : BHT_SUSPECTED, loop, bh);

	if (!f)
		return;
	say_values(c, values, sizeof(values));
	snprintf(f->detail, sizeof(f->detail),
		 "%s The loop sleeps %s, nothing is scheduled%s, and nobody is on the way to tell it. %s", values,
		 loop->wait_timeout_ns < 0 ? "for ever" : "until its timer",
		 loop->traits & BHT_TRAIT_FLAG_UNKNOWN ? ", as far as that can be seen" : "",
		 open ? "Its schedule does nothing when it sees the flag set, without a full barrier before that: one "
			"that met the last execution leaves just this. A program that published and never scheduled "
			"would look the same; a history tells them apart (bhtrace run, bhtrace record --via bpf)."
		      : "A schedule would have left its flag, or an execution that sees the work: whoever published "
			"it scheduled nothing afterwards, and woke nobody.");
	snprintf(f->refute, sizeof(f->refute),
		 "A callback runs, and the expression becomes false, without help from outside; or a thread that "
		 "means to schedule later.");
	f->origin = c->ev->last.ticks;
	bht_witness_fill(c, f);
}

static void undone(struct bht_case *c)
{
	const struct bht_thread *late;
	struct choice choice;
	char values[400];

	choose(c, &choice);
	late = choice.n_sleepers ? bht_on_its_way(c, choice.sleeper.loop) : NULL;
	say_values(c, values, sizeof(values));
	/* What was found explains it. */
	if (c->d->n_findings) {
		if (choice.n_sleepers == 1 && !choice.busy && !late)
			prove(c);
	} else if (choice.busy) {
		bht_reason(c, "%s Loop \"%s\" may come to it yet.", values, choice.busy->name);
	} else if (late) {
		bht_reason(c, "%s Thread %u (state %c) may still be on its way to schedule it.", values, late->tid,
			   late->state);
	} else if (choice.n_sleepers > 1) {
		bht_reason(c, "%s Which of the loops that sleep should have seen it cannot be told: %s.", values,
			   choice.names);
	} else if (choice.n_sleepers && bht_watched_ms(c->ev) < BHT_UNDONE_MS) {
		bht_reason(c, "%s That was not watched long enough to call it forgotten.", values);
	} else if (choice.n_sleepers) {
		nobody_looks(c, &choice.sleeper);
	} else {
		bht_reason(c, "%s No loop that sleeps or turns was found that could see it.", values);
	}
}

/* --- nobody asked ----------------------------------------------------------------------------- */

/* Whether the thread of LOOP sleeps in one of another kind as well, which this one is a part of: QEMU's in GLib's. */
static bool part_of_another(const struct bht_case *c, const struct bht_loop *loop)
{
	const struct bht_sample *s = &c->ev->last;

	for (size_t i = 0; i < s->n_loops; i++)
		if (s->loops[i].owner == loop->owner && s->loops[i].where == BHP_WAIT &&
		    strcmp(s->loops[i].adapter, loop->adapter) != 0)
			return true;
	return false;
}

/* What a foreign loop that looks idle may hide; NULL: nothing. */
static const char *hidden(const struct bht_case *c, const struct bht_loop *loop)
{
	bool open;

	if (loop->traits & BHT_TRAIT_FLAG_UNKNOWN)
		return "have lost a wakeup (what is scheduled cannot be read)";
	if (!(loop->traits & BHT_TRAIT_COALESCES))
		return part_of_another(c, loop) ? NULL : "not have been told of work that the program keeps for itself";
	which(c, loop, &open);
	return open ? "have lost a wakeup to the race of this protocol (flag-race)" : NULL;
}

/* One sentence an adapter, however many loops there are. */
static void not_asked(struct bht_case *c)
{
	const struct bht_sample *s = &c->ev->last;
	const unsigned before = c->d->n_reasons;

	for (size_t i = 0; i < s->n_loops; i++) {
		const struct bht_loop *loop = &s->loops[i];
		const bool asleep = loop->traits & BHT_TRAIT_FOREIGN && !bht_found_on(c, loop) &&
				    bht_loop_status(c->ev, loop).activity == BHT_ASLEEP;
		const char *what = asleep ? hidden(c, loop) : NULL;
		if (what)
			bht_reason(c,
				   "%s loops that sleep with nothing scheduled may be idle, or %s: memory is the same, "
				   "and there is no history of it. What would decide: "
				   "--witness 'PRODUCED != CONSUMED' with variables of the program, bhtrace run, or "
				   "bhtrace record --via bpf while it happens",
				   loop->adapter, what);
	}
	c->d->n_lasting += c->d->n_reasons - before;
}

/* A loop that nobody polls may be left over; when that is so of all of them, a thread was missed, or is elsewhere. */
static void nobody_polls(struct bht_case *c)
{
	const struct bht_sample *s = &c->ev->last;

	for (size_t i = 0; i < s->n_loops; i++)
		if (!(s->loops[i].traits & BHT_TRAIT_FOREIGN) ||
		    bht_loop_status(c->ev, &s->loops[i]).activity != BHT_NOT_POLLED || bht_found_on(c, &s->loops[i]))
			return;
	if (s->n_loops)
		bht_reason(c, "no thread was seen in any of the loops: each may be blocked before it gets there, or "
			      "have no need of them");
}

void bht_rule_undone(struct bht_case *c)
{
	struct choice choice;

	nobody_polls(c);
	switch (bht_undone(c->ev)) {
	case BHT_ALL_DONE:
		break;
	case BHT_UNDONE:
		undone(c);
		break;
	case BHT_UNDONE_MOVING:
		choose(c, &choice);
		if (choice.n_sleepers && !choice.busy && !c->d->n_findings)
			bht_reason(c, "'%s' holds, but not with the same values as a moment ago: work is going on",
				   c->ev->payload.text);
		break;
	case BHT_NOT_READ:
		bht_reason(c, "the variables of '%s' could not be read", c->ev->payload.text);
		break;
	case BHT_NOT_ASKED:
		not_asked(c);
		break;
	}
}
