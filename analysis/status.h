/* SPDX-License-Identifier: MIT */
/*
 * status.h - what a loop is doing, judged from two samples
 *
 * Judged by progress (iterations, context switches), not by wall-clock time: a
 * loaded machine makes everything late and nothing hang.
 */
#ifndef BHT_STATUS_H
#define BHT_STATUS_H

#include "evidence.h"

enum bht_activity {
	BHT_TURNING,    /* it made progress between the samples */
	BHT_ASLEEP,     /* in its wait in both samples, the thread did not run */
	BHT_EMBEDDED,   /* not polled; its owner sleeps elsewhere, and who schedules wakes it there */
	BHT_NOT_POLLED, /* nobody is inside a poll of it */
	BHT_BLOCKED,    /* its thread sleeps elsewhere, and did not run; of a foreign loop perhaps outside of a turn */
	BHT_ON_CPU,     /* its thread used the CPU, without progress of the loop */
	BHT_NO_CPU,     /* its thread could run, but got no CPU */
	BHT_UNSTABLE,   /* something moved, but not the loop */
	BHT_OWNER_UNKNOWN /* no thread of that id: exited, or never polled */
};

struct bht_loop_status {
	enum bht_activity activity;
	const struct bht_loop *loop;     /* in the last sample */
	const struct bht_thread *thread; /* of its owner in the last sample, or NULL */
	const struct bht_loop *first;    /* in the first sample, or NULL */
	uint64_t cpu_ns;                 /* CPU time of that thread between the samples */
	double watched_ms;               /* time between the samples */
};

/* Whether the loop waits for its notifier: in its own wait or its embedder's. */
static inline bool bht_waits(const struct bht_loop_status *status)
{
	return status->activity == BHT_ASLEEP || status->activity == BHT_EMBEDDED;
}

struct bht_loop_status bht_loop_status(const struct bht_evidence *ev, const struct bht_loop *last);

/* Whether THREAD (of the last sample) slept through both samples. */
bool bht_thread_still(const struct bht_evidence *ev, const struct bht_thread *thread);

/* What --witness says. */
enum bht_undone {
	BHT_NOT_ASKED,
	BHT_NOT_READ,
	BHT_ALL_DONE,
	BHT_UNDONE,       /* work is undone, and it is the same in all looks */
	BHT_UNDONE_MOVING /* work is undone, and perhaps since a moment only */
};
enum bht_undone bht_undone(const struct bht_evidence *ev);

/* Milliseconds between the samples; 0 when there are no two. */
double bht_watched_ms(const struct bht_evidence *ev);

/* How far the evidence supports a verdict on each loop. */
enum bht_settled {
	BHT_SETTLED,
	BHT_LOOK_AGAIN, /* take another last sample, keep the first */
	BHT_START_OVER  /* things moved: the last sample becomes the first */
};

enum bht_settled bht_settled(const struct bht_evidence *ev);

/* A loop that stays in one callback is called blocked after so long and
 * spinning after so much CPU time: short ones are just callbacks. A thread that
 * can run is called starved after so long without any CPU, a bottom half after
 * so many executions of another one, and published work forgotten after so long. */
enum { BHT_BLOCKED_MS = 200, BHT_SPINNING_MS = 200, BHT_NO_CPU_MS = 1000, BHT_STARVED_RUNS = 100, BHT_UNDONE_MS = 500 };

/* Whether BH (of the last sample) was scheduled in both samples and not run. */
bool bht_still_due(const struct bht_evidence *ev, const struct bht_bh *bh);

/* Whether that is so of a bottom half of LOOP. */
bool bht_someone_due(const struct bht_evidence *ev, const struct bht_loop *loop);

/* The most often that another bottom half of its loop ran between the samples. */
uint64_t bht_overtaken(const struct bht_evidence *ev, const struct bht_bh *bh, const struct bht_bh **by);

#endif
