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

/* Whether the loop did anything between the samples. */
static bool turned(const struct bht_loop *first, const struct bht_loop *last)
{
	if (!first || first->serial != last->serial || first->iteration != last->iteration)
		return true;
	/* One turn that runs many callbacks makes progress too. */
	return in_callback(last) && (first->where != last->where || first->current_since != last->current_since);
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
	if (loop->notify_me != BHP_LOOP_AWAKE && thread && bht_thread_still(ev, thread))
		return BHT_EMBEDDED;
	return BHT_NOT_POLLED;
}

static enum bht_activity activity_of(const struct bht_evidence *ev, const struct bht_loop *first,
				     const struct bht_loop *last, const struct bht_thread *thread, uint64_t cpu_ns)
{
	if (last->where == BHP_OUTSIDE)
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

struct bht_loop_status bht_loop_status(const struct bht_evidence *ev, const struct bht_loop *last)
{
	const struct bht_loop *first = ev->live ? bht_sample_loop(&ev->first, last->addr) : NULL;
	const struct bht_thread *thread = bht_sample_thread(&ev->last, last->owner);
	const struct bht_thread *before = thread ? bht_sample_thread(&ev->first, last->owner) : NULL;
	struct bht_loop_status status = { .loop = last, .first = first, .thread = thread };

	if (before && thread->cpu_ns > before->cpu_ns)
		status.cpu_ns = thread->cpu_ns - before->cpu_ns;
	if (ev->live)
		status.watched_ms = (double)(ev->last.ticks - ev->first.ticks) / ev->ticks_per_ns / 1e6;
	if (bht_just_ends(ev))
		status.activity = activity_when_killed(last, thread);
	else if (ev->live && turned(first, last))
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

/* --- whether to look again ---------------------------------------------------------- */

static enum bht_settled loop_settled(const struct bht_evidence *ev, const struct bht_loop *loop)
{
	struct bht_loop_status status = bht_loop_status(ev, loop);

	switch (status.activity) {
	case BHT_TURNING:
		return someone_waits(ev, loop) ? BHT_LOOK_AGAIN : BHT_SETTLED;
	case BHT_ASLEEP:
	case BHT_EMBEDDED:
	case BHT_NOT_POLLED:
	case BHT_OWNER_UNKNOWN:
		return BHT_SETTLED;
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
	return worst;
}
