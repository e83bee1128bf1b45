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

static enum bht_activity activity_of(const struct bht_evidence *ev, const struct bht_loop *first,
				     const struct bht_loop *last, const struct bht_thread *thread, uint64_t cpu_ns)
{
	if (last->where == BHP_OUTSIDE)
		return BHT_NOT_POLLED;
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
		return cpu_ns ? BHT_ON_CPU : BHT_NO_CPU;
	return BHT_UNSTABLE;
}

struct bht_loop_status bht_loop_status(const struct bht_evidence *ev, const struct bht_loop *last)
{
	const struct bht_loop *first = ev->live ? bht_sample_loop(&ev->first, last->addr) : NULL;
	const struct bht_thread *thread = bht_sample_thread(&ev->last, last->owner);
	const struct bht_thread *before = thread ? bht_sample_thread(&ev->first, last->owner) : NULL;
	struct bht_loop_status status = { .loop = last, .thread = thread };

	if (before && thread->cpu_ns > before->cpu_ns)
		status.cpu_ns = thread->cpu_ns - before->cpu_ns;
	if (ev->live && turned(first, last))
		status.activity = BHT_TURNING;
	else
		status.activity = activity_of(ev, first, last, thread, status.cpu_ns);
	return status;
}

static enum bht_settled loop_settled(const struct bht_evidence *ev, const struct bht_loop *loop)
{
	struct bht_loop_status status = bht_loop_status(ev, loop);
	double watched_ms = (double)(ev->last.ticks - ev->first.ticks) / ev->ticks_per_ns / 1e6;

	switch (status.activity) {
	case BHT_TURNING:
	case BHT_ASLEEP:
	case BHT_NOT_POLLED:
	case BHT_OWNER_UNKNOWN:
		return BHT_SETTLED;
	case BHT_BLOCKED:
		return watched_ms >= BHT_BLOCKED_MS ? BHT_SETTLED : BHT_LOOK_AGAIN;
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
