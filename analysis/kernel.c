/* SPDX-License-Identifier: MIT */
/*
 * What the kernel tells of a thread: when it was made runnable, and how long it then waited
 * for a processor.
 *
 * A thread may be woken that still has its processor: it was about to sleep, and either
 * goes on, or has left a moment later and comes back. Only when it comes back without
 * another waking was it that one which ended its sleep; until then it is taken to sleep.
 */
#include "machines.h"

#include <inttypes.h>
#include <stdio.h>

#include "evidence.h"

/* --- the run queue ----------------------------------------------------------------- */

static bool was_preempted(const struct bht_kernel *k)
{
	return bht_time(&k->out) > bht_time(&k->in) && bhp_decode_switch_out(&k->out.r).why == BHP_PREEMPTED;
}

static void sleep_ends(struct bht_kernel *k, uint64_t time)
{
	k->woken = k->waking;
	k->woken_queued = k->queued;
	k->since = time;
}

static void wakes(struct bht_kernel *k, const struct bht_event *e)
{
	k->waking = *e;
	if (!k->since && bht_time(&k->out) > bht_time(&k->in))
		sleep_ends(k, bht_time(e));
}

static void gets_processor(struct bht_kernel *k, const struct bht_event *e)
{
	const struct bhp_switch_in f = bhp_decode_switch_in(&e->r);
	const uint64_t woken = bht_time(&k->waking), left = bht_time(&k->out), now = bht_time(e);

	if (!k->since && woken > bht_time(&k->in))
		sleep_ends(k, woken > left ? woken : left);
	if (k->since && now > k->since) {
		struct bht_stretch x = { .behind = f.before, .cpu = f.cpu, .begin = k->since, .end = now };
		if (!x.behind && was_preempted(k))
			x.behind = bhp_decode_switch_out(&k->out.r).after;
		bht_longest_add(&k->waits, &x);
		k->queued += x.end - x.begin;
	}
	k->since = 0;
	k->in = *e;
}

static void leaves_processor(struct bht_kernel *k, const struct bht_event *e)
{
	k->out = *e;
	k->since = bhp_decode_switch_out(&e->r).why == BHP_PREEMPTED ? bht_time(e) : 0;
}

void bht_feed_kernel(struct bht_kernel *k, const struct bht_event *e)
{
	switch (bht_event_id(e)) {
	case BHP_ID_waking:
		wakes(k, e);
		break;
	case BHP_ID_switch_in:
		gets_processor(k, e);
		break;
	case BHP_ID_switch_out:
		leaves_processor(k, e);
		break;
	}
}

/* It may have got a processor meanwhile, or lost one. */
void bht_kernel_lost(struct bht_kernel *k)
{
	const struct bht_kernel none = { .queued = k->queued, .waits = k->waits };

	*k = none;
}

void bht_queue_words(char *dst, size_t size, const struct bht_machines *m, const struct bht_evidence *ev,
		     const struct bht_stretch *queue)
{
	const struct bht_thread_machine *t = bht_machine_thread(m, queue->behind);
	const struct bht_thread *now = bht_sample_thread(&ev->last, queue->behind);
	const char *name = t && t->name[0] ? t->name : now ? now->name : "";
	char behind[32] = "", called[BHP_TEXT_MAX + 4] = "";

	if (queue->behind)
		snprintf(behind, sizeof(behind), " behind thread %" PRIu32, queue->behind);
	if (queue->behind && *name)
		snprintf(called, sizeof(called), " (%s)", name);
	snprintf(dst, size, "on CPU %" PRIu32 "%s%s", queue->cpu, behind, called);
}
