/* SPDX-License-Identifier: MIT */
/* gaps_measure.c - one gap: whether it is known, what it consists of, who was rescued */
#include <stdlib.h>

#include "gaps_inside.h"
#include "status.h"

/* BHT_WHY_NOTS when nothing is against it. */
enum bht_why_not bht_gaps_why_not(const struct bht_gaps *g, const struct bht_gaps_object *o,
				  const struct bht_bh_machine *m, uint64_t now)
{
	uint64_t since = bht_time(&m->effective);

	if (!o->synced)
		return g->m.n_losses ? BHT_LOST_EVENTS : BHT_BEFORE_HISTORY;
	if (!o->certain)
		return o->balance <= 0 ? BHT_LATE_RECORD : BHT_AMBIGUOUS;
	if (bhp_decode_schedule(&m->effective.r).kind == BHP_KIND_IDLE)
		return BHT_IDLE_SCHEDULE;
	if (since > now)
		return BHT_LATE_RECORD;
	return bht_gaps_lossless(&g->losses, since, now) && bht_gaps_lossless(&g->known, since, now) ? BHT_WHY_NOTS
												     : BHT_LOST_EVENTS;
}

static uint64_t spent(uint64_t from, uint64_t to, uint64_t most)
{
	const uint64_t n = to > from ? to - from : 0;

	return n < most ? n : most;
}

/* Fills in the parts: they add up to the gap, whatever the stamps say. */
static void cut(struct bht_gap *gap, struct bht_mark from, struct bht_mark mark[BHT_IN_CALLBACKS])
{
	struct bht_mark limit = mark[BHT_IN_CALLBACKS - 1];

	/* No part ends after the one behind it. */
	for (unsigned i = BHT_IN_CALLBACKS; i-- > 0;) {
		if (mark[i].time > limit.time)
			mark[i] = limit;
		else if (mark[i].time)
			limit = mark[i];
	}
	for (unsigned i = 0; i < BHT_IN_CALLBACKS; i++) {
		if (mark[i].time <= from.time)
			continue; /* not seen, or too early */
		const uint64_t length = mark[i].time - from.time;
		const uint64_t busy = spent(from.busy, mark[i].busy, length);
		const uint64_t queued = spent(from.queued, mark[i].queued, length - busy);
		gap->part[i] = length - busy - queued;
		gap->part[BHT_IN_CALLBACKS] += busy;
		gap->part[BHT_RUN_QUEUE] += queued;
		from = mark[i];
	}
}

static void blame(struct bht_gaps *g, struct bht_gap *gap, const struct bht_loop_machine *m)
{
	const struct bht_stretch *x = bht_longest_since(&m->longest, bht_time(&gap->schedule));
	const struct bht_gaps_object *o = x ? bht_map_get(&g->objects, x->bh) : NULL;

	if (!x)
		return;
	gap->blamed = o ? o->row : NULL;
	gap->blamed_begin = x->begin;
	gap->blamed_end = x->end;
}

/* When the loop's wait ended, and what the kernel told of that. */
static void woke(struct bht_gap *gap, const struct bht_loop_row *loop, const struct bht_loop_machine *m,
		 struct bht_mark mark[BHT_IN_CALLBACKS])
{
	gap->wait_end = m->wait_end;
	mark[BHT_TO_WAKE] = loop->woke;
	if (bht_time(&m->waking) <= bht_time(&gap->schedule))
		return;
	gap->waking = m->waking;
	gap->running = m->running;
	mark[BHT_TO_WAKING] = loop->waking;
}

/* The longest wait for a processor, unless a callback was interrupted by it. */
static void queued(struct bht_gap *gap, const struct bht_kernel *k)
{
	const uint64_t from = bht_time(&gap->schedule);
	const struct bht_stretch *x = bht_longest_since(&k->waits, from);

	gap->kernel = bht_time(&k->in) || bht_time(&k->out) || bht_time(&k->waking);
	if (x && x->end - (x->begin > from ? x->begin : from) <= gap->part[BHT_RUN_QUEUE])
		gap->queue = *x;
}

static struct bht_gap gap_of(struct bht_gaps *g, const struct bht_gaps_object *o, const struct bht_bh_machine *m,
			     const struct bht_event *begin)
{
	const struct bht_loop_row *loop = o->row->loop;
	const struct bht_loop_machine *lm = bht_machine_loop(&g->m, loop->addr);
	const struct bht_kernel *k = bht_machine_kernel(&g->m, begin->tid);
	struct bht_gap gap = {
		.row = o->row, .bh = m->addr, .schedule = m->effective, .notify = m->answer, .begin = *begin
	};
	struct bht_mark mark[BHT_IN_CALLBACKS] = { 0 };

	gap.schedule.text = gap.notify.text = gap.begin.text = NULL;
	if (lm && bht_time(&lm->wait_end) > bht_time(&gap.schedule))
		woke(&gap, loop, lm, mark);
	if (o->writes.time)
		gap.write = o->write;
	mark[BHT_TO_NOTIFY] = o->writes.time ? o->writes : o->notified;
	mark[BHT_TO_RUN] = bht_mark_at(loop, bht_time(begin));
	cut(&gap, o->scheduled, mark);
	if (lm && gap.part[BHT_IN_CALLBACKS])
		blame(g, &gap, lm);
	if (k)
		queued(&gap, k);
	return gap;
}

bool bht_gap_worse(const struct bht_gap *a, const struct bht_gap *b)
{
	if (!a->rescue != !b->rescue)
		return a->rescue != BHT_NOT_RESCUED;
	return bht_gap_length(a) > bht_gap_length(b);
}

static void keep_worst(struct bht_gaps *g, const struct bht_gap *gap)
{
	unsigned i = g->n_worst;

	if (!g->how->worst || (i == g->how->worst && !bht_gap_worse(gap, &g->worst[i - 1])))
		return;
	if (i == g->how->worst)
		i--;
	else
		g->n_worst++;
	for (; i > 0 && bht_gap_worse(gap, &g->worst[i - 1]); i--)
		g->worst[i] = g->worst[i - 1];
	g->worst[i] = *gap;
}

static int keep(struct bht_gaps *g, const struct bht_gap *gap)
{
	struct bht_row *row = gap->row;
	int rc = bht_histogram_add(&row->gap, bht_gap_length(gap));

	if (rc)
		return rc;
	for (unsigned i = 0; i < BHT_SEGMENTS; i++)
		row->part[i] += gap->part[i];
	row->rescued += gap->rescue != BHT_NOT_RESCUED;
	if (row->wanted)
		keep_worst(g, gap);
	return 0;
}

/* --- rescued ------------------------------------------------------------------------- */

/* delay.c has decided that it was; in this order it asks how. */
static enum bht_rescue rescued_how(const struct bht_gap *gap)
{
	if (!bht_time(&gap->notify))
		return BHT_RESCUED_MISSING;
	return bhp_decode_notify(&gap->notify.r).notify_me == BHP_LOOP_AWAKE ? BHT_RESCUED_SKIPPED : BHT_RESCUED_STOLEN;
}

static bool is_doubtful(const struct bht_bh_machine *m, const struct bht_gap *gap)
{
	return m->doubtful.rescue != BHT_NOT_RESCUED && bht_time(&m->doubtful.begin) == bht_time(&gap->begin) &&
	       bht_time(&m->doubtful.schedule) == bht_time(&gap->schedule);
}

static int hold(struct bht_gaps *g, struct bht_gaps_object *o, const struct bht_gap *gap)
{
	/* Nobody will tell about so many. */
	if (g->n_held == BHT_HELD_MAX)
		return keep(g, gap);
	g->held[g->n_held++] = (struct bht_held){ o, *gap };
	return 0;
}

static int let_go(struct bht_gaps *g, unsigned i, bool rescued)
{
	struct bht_held held = g->held[i];

	g->held[i] = g->held[--g->n_held];
	if (rescued)
		held.gap.rescue = BHT_RESCUED_MISSING;
	return keep(g, &held.gap);
}

/* Those that the event has decided. */
int bht_gaps_settle(struct bht_gaps *g)
{
	int rc = 0;

	for (unsigned i = g->n_held; i-- > 0 && !rc;) {
		struct bht_gaps_object *o = g->held[i].object;
		const struct bht_bh_machine *m = bht_machine_bh(&g->m, g->held[i].gap.bh);
		bool rescued = m->n_rescued > o->rescued;
		o->rescued = m->n_rescued;
		if (!is_doubtful(m, &g->held[i].gap))
			rc = let_go(g, i, rescued);
	}
	return rc;
}

/* As in rules/late.c: at the end a producer that has gone on, or sleeps, has not
 * notified. */
static bool has_gone_on(const struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_gap *gap)
{
	const struct bht_thread_machine *t = bht_machine_thread(&g->m, gap->schedule.tid);
	const struct bht_thread *now = bht_sample_thread(&ev->last, gap->schedule.tid);

	return t && (t->last > bht_time(&gap->schedule) || (now && now->state != '?' && bht_thread_still(ev, now)));
}

int bht_gaps_settle_rest(struct bht_gaps *g, const struct bht_evidence *ev)
{
	int rc = 0;

	while (g->n_held && !rc)
		rc = let_go(g, 0, has_gone_on(g, ev, &g->held[0].gap));
	return rc;
}

int bht_gaps_measure(struct bht_gaps *g, struct bht_gaps_object *o, const struct bht_bh_machine *m,
		     const struct bht_event *e, const struct bht_before *before)
{
	struct bht_gap gap = gap_of(g, o, m, e);
	unsigned closed = before->doubtful && bht_time(&m->doubtful.begin) != before->doubtful;

	g->measured_until = bht_time(e);
	if (is_doubtful(m, &gap)) {
		o->rescued = m->n_rescued;
		return hold(g, o, &gap);
	}
	if (m->n_rescued > before->rescued + closed)
		gap.rescue = rescued_how(&gap);
	return keep(g, &gap);
}
