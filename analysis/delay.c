/* SPDX-License-Identifier: MIT */
/*
 * From schedule to execution: the longest gap of each bottom half with what it
 * consists of, and whether only luck ended it.
 */
#include "machines.h"

/* The longest execution that reached into the gap, and the longest wait of the thread that
 * begins for a processor. */
static void blame(const struct bht_machines *m, struct bht_delay *d, const struct bht_loop_machine *loop)
{
	const uint64_t from = bht_time(&d->schedule);
	const struct bht_stretch *x = bht_longest_since(&loop->longest, from);
	const struct bht_kernel *k = bht_machine_kernel(m, d->begin.tid);

	if (x) {
		d->blamed = x->bh;
		d->blamed_begin = x->begin;
		d->blamed_end = x->end;
	}
	x = k ? bht_longest_since(&k->waits, from) : NULL;
	if (x)
		d->queue = *x;
}

static struct bht_delay delay_of(const struct bht_machines *m, const struct bht_bh_machine *bh,
				 const struct bht_loop_machine *loop, const struct bht_event *begin)
{
	struct bht_delay d = { .schedule = bh->effective, .notify = bh->answer, .begin = *begin };

	if (bht_time(&loop->wait_end) > bht_time(&bh->effective))
		d.wait_end = loop->wait_end, d.woken = bht_time(&loop->waking);
	d.busy = loop->busy - bh->busy_before;
	blame(m, &d, loop);
	return d;
}

/*
 * Whether the wakeup before the execution had nothing to do with its schedule.
 * A correct loop looks at its bottom halves between saying that it sleeps and
 * sleeping. So a schedule that was recorded before the loop woke, and whose
 * notify found the loop awake, was made before it said so, and was overlooked.
 */
static enum bht_rescue rescue_of(const struct bht_machines *m, const struct bht_delay *d,
				 const struct bht_loop_machine *loop, bool *sure)
{
	struct bhp_notify n = bhp_decode_notify(&d->notify.r);
	uint64_t woke = bht_time(&d->wait_end);

	*sure = true;
	if (!woke || bht_time(&d->schedule) + m->error >= woke || bht_time(&d->begin) < woke ||
	    bhp_decode_wait_end(&d->wait_end.r).woke & BHP_WOKE_NOTIFIER)
		return BHT_NOT_RESCUED;
	if (!bht_time(&d->notify)) {
		*sure = false;
		return BHT_RESCUED_MISSING;
	}
	if (bht_time(&d->notify) + m->error >= woke)
		return BHT_NOT_RESCUED;
	if (n.notify_me == BHP_LOOP_AWAKE)
		return BHT_RESCUED_SKIPPED;
	/* Its own write, or the one of this sleep that it relied on. */
	uint64_t write = n.written == 1 ? bht_time(&d->notify) : bht_time(&loop->written);
	if (write > bht_time(&loop->wait_begin) && bht_time(&loop->stolen) > write + m->error &&
	    bht_time(&loop->stolen) < woke)
		return BHT_RESCUED_STOLEN;
	return BHT_NOT_RESCUED;
}

static void keep_rescue(struct bht_bh_machine *bh, const struct bht_delay *d)
{
	bh->n_rescued++;
	if (bh->rescued.rescue == BHT_NOT_RESCUED || bht_delay_length(d) > bht_delay_length(&bh->rescued))
		bh->rescued = *d;
}

/* A producer that comes back to schedule again has left the earlier one alone. */
static void doubt(struct bht_bh_machine *bh, const struct bht_delay *d)
{
	if (bh->doubtful.rescue != BHT_NOT_RESCUED && bh->doubtful.schedule.tid == d->schedule.tid)
		keep_rescue(bh, &bh->doubtful);
	bh->doubtful = *d;
}

void bht_delay_measure(struct bht_machines *m, struct bht_bh_machine *bh, const struct bht_loop_machine *loop,
		       const struct bht_event *begin)
{
	uint64_t since = bht_time(&bh->effective), woke = bht_time(&loop->wait_end);
	bool sure;

	if (bht_time(begin) <= since || bhp_decode_schedule(&bh->effective.r).kind == BHP_KIND_IDLE)
		return;
	/* Most are neither the slowest so far nor woken meanwhile by anything else. */
	bool slowest = bht_time(begin) - since > bh->slowest_gap;
	bool in_time = bhp_decode_wait_end(&loop->wait_end.r).woke & BHP_WOKE_NOTIFIER;
	if (!slowest && (in_time || since + m->error >= woke))
		return;
	/* It may have run, and been scheduled again, unseen. */
	if (!bht_lossless(m, since, bht_time(begin)))
		return;
	struct bht_delay d = delay_of(m, bh, loop, begin);
	if (slowest) {
		bh->slowest = d;
		bh->slowest_gap = bht_delay_length(&d);
	}
	d.rescue = rescue_of(m, &d, loop, &sure);
	if (d.rescue != BHT_NOT_RESCUED && sure)
		keep_rescue(bh, &d);
	else if (d.rescue != BHT_NOT_RESCUED)
		doubt(bh, &d);
}

void bht_delay_notified(struct bht_bh_machine *bh, uint64_t schedule)
{
	if (bht_time(&bh->doubtful.schedule) == schedule)
		bh->doubtful = (struct bht_delay){ 0 };
}

void bht_delay_missed(struct bht_bh_machine *bh, uint64_t schedule)
{
	if (bht_time(&bh->doubtful.schedule) != schedule)
		return;
	keep_rescue(bh, &bh->doubtful);
	bh->doubtful = (struct bht_delay){ 0 };
}
