/* SPDX-License-Identifier: MIT */
/* drained.h - what the files that drain rings share */
#ifndef BHT_DRAINED_H
#define BHT_DRAINED_H

#include "drain.h"
#include "process.h"
#include "rings.h"

/* One ring. */
struct bht_drained {
	uint64_t addr, capacity;
	uint64_t next;  /* record that is to be read */
	uint64_t begun; /* records, when it was looked at last */
	unsigned root;
	bool cut;  /* the event before `next` is not known, and so neither is its writer */
	bool dead; /* what it says makes no sense */
	struct bht_decoder d;
	void *place;
};

struct bht_drain {
	struct bht_process process; /* pid 0: MEM is somebody else's */
	struct bht_memory *mem;
	struct bht_drain_sink sink;
	bht_tid_map map;
	void *arg;
	/* In this round: unknown threads were looked for; records were lost. */
	bool looked, lossy;

	struct bht_roots roots;                  /* as they were when they were found */
	struct bht_rings *format[BHT_ROOTS_MAX]; /* how their records are read; no rings */
	uint64_t newest[BHT_ROOTS_MAX];          /* the ring at the head of each list */
	uint64_t dropped[BHT_ROOTS_MAX];

	struct bht_drained *ring;
	struct bhp_ring *header; /* of each, as read last */
	struct bht_span *span;
	struct bhp_record *buffer;
	uint64_t room; /* records in the buffer */
	void *common;  /* place of losses of no ring in particular */

	uint64_t began_ns, interval_ns;
	double fill; /* of the fastest ring, in the last round */
	struct bht_drain_stats stats;
};

/* Tells of a loss of all threads. */
void bht_drain_tell(struct bht_drain *d, enum bht_loss_why why, uint64_t count);
void bht_drain_damaged(struct bht_drain *d, const char *why);

/* Reads what is new in RING, whose header was H when the round began. 0 or -errno. */
int bht_drain_ring(struct bht_drain *d, struct bht_drained *ring, const struct bhp_ring *h);

#endif
