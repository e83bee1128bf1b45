/* SPDX-License-Identifier: MIT */
/*
 * monitor_map.h - what the programs of monitor.bpf.c keep of each object, and tell
 *
 * Included by both sides. Times are ticks of bhp_clock(), those of the records; what
 * is in ns is CLOCK_MONOTONIC, and of the look's own: it has no other clock.
 */
#ifndef BHB_MONITOR_MAP_H
#define BHB_MONITOR_MAP_H

#include <stdint.h>

enum { BHB_BUCKETS = 48, BHB_NAME = 48 };

struct bhb_key {
	uint32_t tgid, unused;
	uint64_t addr;
};

struct bhb_bh {
	uint64_t loop;
	uint64_t schedules, coalesced, executions, cancels;
	uint64_t rescued;   /* ran after it had waited while its loop slept, and no notification ended that */
	uint64_t effective; /* time of the latest schedule that found the flag 0, */
	uint64_t before;    /* of the one before, */
	uint64_t joined;    /* and of the latest one that found it 1 */
	uint64_t served;    /* what was scheduled until then has run, or was cancelled */
	uint64_t cleared;   /* the flag was cleared then, or a little later */
	uint64_t ended;     /* end of the latest execution */
	uint64_t worst_ns;
	/* Of the look, 20 times a second: */
	uint64_t watched;  /* time of the schedule that it waits with, */
	uint64_t since_ns; /* since then, */
	uint64_t turn;     /* and since this turn of its loop */
	uint64_t told_ns;  /* it had waited so long when it was told; 0: it was not */
	uint64_t told_rescued;
	uint32_t kind;                /* enum bhp_schedule_kind of the latest effective schedule */
	uint32_t bucket[BHB_BUCKETS]; /* log2 of ns from schedule to execution */
	char name[BHB_NAME];          /* "": it is older than the watch */
};

struct bhb_loop {
	uint64_t turns, sleeps, rescued;
	uint64_t slept;               /* began to, */
	uint64_t waked;               /* and was awake again; 0: it sleeps */
	int64_t timeout_ns;           /* of that sleep, -1 for ever */
	uint32_t woke;                /* enum bhp_woke */
	uint32_t tid;                 /* that polled last */
	uint64_t sum_ns;              /* of all gaps, */
	uint32_t bucket[BHB_BUCKETS]; /* which are these: also of bottom halves that are gone */
	char name[BHB_NAME];
};

/* Whether something waits in it, and with which schedule; 0: no. */
static inline uint64_t bhb_waits(const struct bhb_bh *b)
{
	return b->effective > b->served ? b->effective : 0;
}

/*
 * A coalesced schedule that came about when the flag was cleared, or later, and nothing
 * after it: who knows whether the callback saw its work. Mostly it has.
 */
static inline uint64_t bhb_stale(const struct bhb_bh *b)
{
	return !bhb_waits(b) && b->joined > b->cleared ? b->joined : 0;
}

enum bhb_overdue { BHB_PENDING_LONG = 1, BHB_PENDING_TURNS, BHB_STALE, BHB_RESCUED };

/* What goes through the ring. */
struct bhb_told {
	uint32_t what; /* enum bhb_overdue, or enum bhb_life with KEY.addr a child */
	uint32_t unused;
	struct bhb_key key;
	uint64_t ns; /* it has waited so long; of the life of a process: when */
};

#endif
