/* SPDX-License-Identifier: MIT */
#include "status.h"

static bool asleep(const struct bht_thread *thread)
{
	return thread->state == 'S' || thread->state == 'D' || thread->state == 'I';
}

bool bht_thread_still(const struct bht_evidence *ev, const struct bht_thread *thread)
{
	const struct bht_thread *before = bht_sample_thread(&ev->first, thread->tid);

	if (!ev->live)
		return asleep(thread);
	return before && asleep(before) && asleep(thread) && before->switches == thread->switches;
}

static bool in_callback(const struct bht_loop *loop)
{
	return loop->where == BHP_IN_BH || loop->where == BHP_IN_FD || loop->where == BHP_IN_TIMER;
}

/* Where the iteration is not known: it changed places, or its thread woke from its wait and is in it again. */
static bool moved(const struct bht_evidence *ev, const struct bht_loop *first, const struct bht_loop *last,
		  const struct bht_thread *thread)
{
	return first->where != last->where ||
	       (last->where == BHP_WAIT && thread && asleep(thread) && !bht_thread_still(ev, thread));
}

/* Whether the loop did anything between the samples. */
static bool turned(const struct bht_evidence *ev, const struct bht_loop *first, const struct bht_loop *last,
		   const struct bht_thread *thread)
{
	if (!first || first->serial != last->serial || first->iteration != last->iteration)
		return true;
	if (last->traits & BHT_TRAIT_CANNOT_TURN && moved(ev, first, last, thread))
		return true;
	/* Of a foreign loop it may also mean that this look could not follow the thread's calls. */
	if (last->traits & BHT_TRAIT_FOREIGN && first->where == BHP_DISPATCH)
		return false;
	/* One turn that runs many callbacks makes progress too. */
	return in_callback(last) && (first->where != last->where || first->current_since != last->current_since ||
				     (first->current && last->current && first->current != last->current));
}

/* Ring files know where the loop was, and whether its thread had exited. */
static enum bht_activity activity_when_killed(const struct bht_loop *loop, const struct bht_thread *thread)
{
	if (loop->where == BHP_OUTSIDE)
		return BHT_NOT_POLLED;
	if (!thread || thread->state == 'X')
		return BHT_OWNER_UNKNOWN;
	return loop->where == BHP_WAIT ? BHT_ASLEEP : BHT_UNSTABLE;
}

static enum bht_activity activity_outside(const struct bht_evidence *ev, const struct bht_loop *loop,
					  const struct bht_thread *thread)
{
	if (!(loop->traits & BHT_TRAIT_FOREIGN) && loop->notify_me != BHP_LOOP_AWAKE && thread &&
	    bht_thread_still(ev, thread))
		return BHT_EMBEDDED;
	return BHT_NOT_POLLED;
}

static bool in_another_wait(const struct bht_evidence *ev, const struct bht_loop *loop)
{
	for (size_t i = 0; i < ev->last.n_loops; i++)
		if (ev->last.loops[i].owner == loop->owner && ev->last.loops[i].where == BHP_WAIT)
			return true;
	return false;
}

/* Nobody says when a foreign loop is polled: its thread is looked at, unless that does something else meanwhile. */
static bool kept_outside(const struct bht_evidence *ev, const struct bht_loop *loop, const struct bht_thread *thread)
{
	if (!(loop->traits & BHT_TRAIT_FOREIGN) || !thread || in_another_wait(ev, loop))
		return false;
	return !asleep(thread) || bht_thread_still(ev, thread);
}

static enum bht_activity activity_of(const struct bht_evidence *ev, const struct bht_loop *first,
				     const struct bht_loop *last, const struct bht_thread *thread, uint64_t cpu_ns)
{
	if (last->where == BHP_OUTSIDE && !kept_outside(ev, last, thread))
		return activity_outside(ev, last, thread);
	if (!thread)
		return BHT_OWNER_UNKNOWN;
	if (bht_thread_still(ev, thread)) {
		if (last->where != BHP_WAIT)
			return BHT_BLOCKED;
		if (first && (first->where != last->where || first->current_since != last->current_since ||
			      first->notify_me != last->notify_me || first->notifier_count != last->notifier_count))
			return BHT_UNSTABLE;
		return BHT_ASLEEP;
	}
	if (!asleep(thread))
		return cpu_ns || !ev->live ? BHT_ON_CPU : BHT_NO_CPU;
	return BHT_UNSTABLE;
}

double bht_watched_ms(const struct bht_evidence *ev)
{
	return ev->live ? (double)(ev->last.ticks - ev->first.ticks) / ev->ticks_per_ns / 1e6 : 0;
}

struct bht_loop_status bht_loop_status(const struct bht_evidence *ev, const struct bht_loop *last)
{
	const struct bht_loop *first = ev->live ? bht_sample_loop(&ev->first, last->addr) : NULL;
	const struct bht_thread *thread = bht_sample_thread(&ev->last, last->owner);
	const struct bht_thread *before = thread ? bht_sample_thread(&ev->first, last->owner) : NULL;
	struct bht_loop_status status = { .loop = last, .first = first, .thread = thread };

	if (before && thread->cpu_ns > before->cpu_ns)
		status.cpu_ns = thread->cpu_ns - before->cpu_ns;
	status.watched_ms = bht_watched_ms(ev);
	if (bht_just_ends(ev))
		status.activity = activity_when_killed(last, thread);
	else if (ev->live && turned(ev, first, last, thread))
		status.activity = BHT_TURNING;
	else
		status.activity = activity_of(ev, first, last, thread, status.cpu_ns);
	return status;
}

/* --- waiting while the loop turns ------------------------------------------------- */

static bool due(const struct bht_bh *bh)
{
	return bh->state == BHP_LIVE && (bh->flags & (BHP_FLAG_SCHEDULED | BHP_FLAG_IDLE)) == BHP_FLAG_SCHEDULED;
}

static const struct bht_bh *before_of(const struct bht_evidence *ev, const struct bht_bh *bh)
{
	const struct bht_bh *before = bht_sample_bh(&ev->first, bh->addr, (size_t)(bh - ev->last.bhs));

	return before && before->serial == bh->serial ? before : NULL;
}

bool bht_still_due(const struct bht_evidence *ev, const struct bht_bh *bh)
{
	const struct bht_bh *before = ev->live && due(bh) ? before_of(ev, bh) : NULL;

	return before && due(before) && before->runs == bh->runs;
}

bool bht_someone_due(const struct bht_evidence *ev, const struct bht_loop *loop)
{
	for (size_t i = 0; i < ev->last.n_bhs; i++)
		if (ev->last.bhs[i].loop == loop->addr && bht_still_due(ev, &ev->last.bhs[i]))
			return true;
	return false;
}

uint64_t bht_overtaken(const struct bht_evidence *ev, const struct bht_bh *bh, const struct bht_bh **by)
{
	uint64_t most = 0;

	for (size_t i = 0; i < ev->last.n_bhs; i++) {
		const struct bht_bh *other = &ev->last.bhs[i];
		const struct bht_bh *before = other->loop == bh->loop && other != bh ? before_of(ev, other) : NULL;
		if (!before || other->runs - before->runs <= most)
			continue;
		most = other->runs - before->runs;
		*by = other;
	}
	return most;
}

/* Whether a bottom half of a turning loop must be watched longer. */
static bool someone_waits(const struct bht_evidence *ev, const struct bht_loop *loop)
{
	const struct bht_bh *by;

	for (size_t i = 0; i < ev->last.n_bhs; i++)
		if (ev->last.bhs[i].loop == loop->addr && bht_still_due(ev, &ev->last.bhs[i]) &&
		    bht_overtaken(ev, &ev->last.bhs[i], &by) < BHT_STARVED_RUNS)
			return true;
	return false;
}

/* --- the payload ------------------------------------------------------------------ */

enum bht_undone bht_undone(const struct bht_evidence *ev)
{
	const struct bht_payload_look *first = &ev->payload.first, *last = &ev->payload.last;

	if (!ev->payload.text[0])
		return BHT_NOT_ASKED;
	if (!last->known || (ev->live && !first->known))
		return BHT_NOT_READ;
	if (!last->holds)
		return BHT_ALL_DONE;
	if (ev->live && (!first->holds || first->left != last->left || first->right != last->right))
		return BHT_UNDONE_MOVING;
	return BHT_UNDONE;
}

/* --- whether to look again ---------------------------------------------------------- */

static enum bht_settled loop_settled(const struct bht_evidence *ev, const struct bht_loop *loop)
{
	struct bht_loop_status status = bht_loop_status(ev, loop);

	switch (status.activity) {
	case BHT_TURNING:
		return someone_waits(ev, loop) ? BHT_LOOK_AGAIN : BHT_SETTLED;
	case BHT_ASLEEP:
	case BHT_EMBEDDED:
	case BHT_OWNER_UNKNOWN:
		return BHT_SETTLED;
	case BHT_NOT_POLLED:
		/* Whether somebody turns a foreign loop after all is seen by watching. */
		return !(loop->traits & BHT_TRAIT_FOREIGN) || status.watched_ms >= BHT_BLOCKED_MS ||
				       !bht_someone_due(ev, loop)
			       ? BHT_SETTLED
			       : BHT_LOOK_AGAIN;
	case BHT_BLOCKED:
		return status.watched_ms >= BHT_BLOCKED_MS ? BHT_SETTLED : BHT_LOOK_AGAIN;
	case BHT_ON_CPU:
		return status.cpu_ns >= BHT_SPINNING_MS * UINT64_C(1000000) ? BHT_SETTLED : BHT_LOOK_AGAIN;
	case BHT_NO_CPU:
		return BHT_LOOK_AGAIN;
	case BHT_UNSTABLE:
		break;
	}
	return BHT_START_OVER;
}

enum bht_settled bht_settled(const struct bht_evidence *ev)
{
	enum bht_settled worst = ev->last.unstable ? BHT_START_OVER : BHT_SETTLED;

	for (size_t i = 0; i < ev->last.n_loops; i++) {
		enum bht_settled s = loop_settled(ev, &ev->last.loops[i]);
		if (s > worst)
			worst = s;
	}
	if (worst == BHT_SETTLED && bht_undone(ev) == BHT_UNDONE && bht_watched_ms(ev) < BHT_UNDONE_MS)
		worst = BHT_LOOK_AGAIN;
	return worst;
}
