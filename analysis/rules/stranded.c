/* SPDX-License-Identifier: MIT */
/*
 * stranded: the bottom half is scheduled on a loop that nobody will poll: its
 * thread has exited, or sleeps in another loop.
 */
#include "case.h"
#include "syscalls.h"

static struct bht_finding *stranded(struct bht_case *c, enum bht_confidence confidence, const struct bht_loop *loop,
				    const struct bht_bh *bh)
{
	const struct bht_bh_machine *m = bht_machine_bh(c->m, bh->addr);
	const struct bht_loop_machine *lm = bht_machine_loop(c->m, loop->addr);
	struct bht_finding *f = bht_finding_add(c, BHT_RULE_STRANDED, confidence, loop, bh);

	if (!f)
		return NULL;
	f->origin = m ? bht_time(&m->effective) : c->ev->last.ticks;
	if (m)
		bht_witness_key(f, &m->effective, "set the flag");
	if (lm)
		bht_witness_key(f, &lm->poll, "the last turn of the loop");
	snprintf(f->refute, sizeof(f->refute), "A poll of this loop by any thread.");
	bht_witness_fill(c, f);
	return f;
}

/* The loop in whose wait the owner sleeps. */
static const struct bht_loop *moved_to(const struct bht_case *c, const struct bht_loop *loop)
{
	const struct bht_sample *s = &c->ev->last;

	for (size_t i = 0; i < s->n_loops; i++)
		if (&s->loops[i] != loop && s->loops[i].owner == loop->owner &&
		    bht_loop_status(c->ev, &s->loops[i]).activity == BHT_ASLEEP)
			return &s->loops[i];
	return NULL;
}

/* No thread is in the foreign loop, nor can one get there: all have slept long enough for that. */
static bool nobody_comes(const struct bht_case *c, const struct bht_bh *bh)
{
	const struct bht_sample *s = &c->ev->last;

	if (!bht_still_due(c->ev, bh) || s->unstable || bht_watched_ms(c->ev) < BHT_BLOCKED_MS)
		return false;
	for (size_t i = 0; i < s->n_threads; i++)
		if (!bht_thread_still(c->ev, &s->threads[i]))
			return false;
	return true;
}

/* Nobody says who turns a foreign loop: a thread that is elsewhere may have no turn of it on its stack. */
static void nobodys(struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh)
{
	const struct bht_thread *main_thread = bht_sample_thread(&c->ev->last, c->ev->pid);
	char who[80], call[160];

	if (!nobody_comes(c, bh)) {
		bht_reason(c, "bottom half \"%s\" is scheduled, but no thread was seen in loop \"%s\"", bh->name,
			   loop->name);
		return;
	}
	struct bht_finding *f = stranded(c, BHT_SUSPECTED, loop, bh);
	if (!f)
		return;
	size_t n =
		(size_t)snprintf(f->detail, sizeof(f->detail),
				 "It is scheduled in both looks, no thread is in a turn of this loop, and all threads "
				 "sleep: the one that turned it has exited or left it, or is held up elsewhere.");
	if (main_thread)
		snprintf(f->detail + n, sizeof(f->detail) - n, " The main thread, %s, sleeps in %s.",
			 bht_thread_label(c, main_thread->tid, who, sizeof(who)),
			 bht_syscall_text(main_thread, call, sizeof(call)));
}

static void not_polled(struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh)
{
	const struct bht_loop *other = moved_to(c, loop);
	char who[80];

	/* Embedded in that one, it will be polled when it says so. A foreign loop does not say so, and a callback
	 * may turn another loop until something is done. */
	if (!other || loop->notify_me != BHP_LOOP_AWAKE || loop->traits & BHT_TRAIT_FOREIGN) {
		bht_reason(c, "bottom half \"%s\" is scheduled, but nobody polls loop \"%s\"%s%s%s", bh->name,
			   loop->name, other ? "; its thread sleeps in loop \"" : "", other ? other->name : "",
			   other ? "\"" : "");
		return;
	}
	struct bht_finding *f = stranded(c, BHT_CONSISTENT, loop, bh);
	if (f)
		snprintf(f->detail, sizeof(f->detail),
			 "%s, which polled this loop last (turn %llu), sleeps in loop \"%s\" and will not come back by "
			 "itself.",
			 bht_thread_label(c, loop->owner, who, sizeof(who)), (unsigned long long)loop->iteration,
			 other->name);
}

void bht_rule_stranded(struct bht_case *c, const struct bht_loop_status *status, const struct bht_bh *bh)
{
	const struct bht_loop *loop = status->loop;

	if (!bht_is_due(loop, bh) || (status->activity != BHT_NOT_POLLED && status->activity != BHT_OWNER_UNKNOWN))
		return;
	if (loop->owner == 0 && loop->traits & BHT_TRAIT_FOREIGN) {
		nobodys(c, loop, bh);
	} else if (loop->owner == 0) {
		bht_reason(c, "bottom half \"%s\" is scheduled, but nobody has polled loop \"%s\" yet", bh->name,
			   loop->name);
	} else if (bht_thread_gone(c, loop->owner)) {
		struct bht_finding *f = stranded(c, BHT_CONSISTENT, loop, bh);
		if (f)
			snprintf(f->detail, sizeof(f->detail),
				 "The thread that polled this loop last (tid %u, turn %llu) has exited%s, and nobody "
				 "took over.",
				 loop->owner, (unsigned long long)loop->iteration,
				 loop->where == BHP_OUTSIDE ? "" : " in the middle of a turn");
	} else {
		not_polled(c, loop, bh);
	}
}
