/* SPDX-License-Identifier: MIT */
/* gaps_inside.h - for the files that make up gaps.h, and nobody else */
#ifndef BHT_GAPS_INSIDE_H
#define BHT_GAPS_INSIDE_H

#include "gaps.h"

/* One bottom half, as long as it is one. */
struct bht_gaps_object {
	struct bht_row *row;
	bool synced;      /* the balance is known */
	bool overtaken;   /* withdrawn while it ran: perhaps before that run cleared the flag */
	unsigned running; /* executions begun and not ended */
	bool certain;     /* the last effective schedule is the one that waits */
	int balance;      /* effective schedules recorded less clears recorded */
	int at_sleep;     /* the same when the loop slept before, */
	uint64_t at_sleep_since;
	unsigned sleeps;
	uint32_t setter;     /* whose effective schedules were recorded since the last clear; 0 nobody's */
	uint32_t cleared_by; /* thread of the last clear */
	unsigned rescued;    /* as the machine knows */
	/* The schedule that waits; time 0, or not seen: its notification, and where that began
	 * to write the eventfd. */
	struct bht_mark scheduled, notified, writes;
	struct bht_event write;
};

/* A gap whose producer may notify yet: delay.c calls it doubtful. */
struct bht_held {
	struct bht_gaps_object *object;
	struct bht_gap gap;
};

enum { BHT_HELD_MAX = 256 };

/* What the machines knew before the event at hand. */
struct bht_before {
	uint64_t previous; /* time of the thread's last event */
	unsigned rescued;
	uint64_t doubtful;
};

/* --- gaps.c ---------------------------------------------------------------------- */

/* Whether none of L touches the time between. */
bool bht_gaps_lossless(const struct bht_losses *l, uint64_t from, uint64_t to);

/* TIME, as far as it is known what the loop did until then. */
static inline struct bht_mark bht_mark_at(const struct bht_loop_row *loop, uint64_t time)
{
	const uint64_t queued = bht_queued_at(loop->kernel, time);
	struct bht_mark mark = { time, loop->busy, loop->queued };

	if (loop->doing != BHT_DOING_CALLBACKS)
		mark.queued += queued > loop->thread_queued ? queued - loop->thread_queued : 0;
	else if (time > loop->since)
		mark.busy += time - loop->since;
	return mark;
}

/* --- gaps_kernel.c ---------------------------------------------------------------- */

/* Feeds an event of the kernel; nothing else is measured of those. 0 or -ENOMEM. */
int bht_gaps_feed_kernel(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_event *e);

/* --- gaps_measure.c: what begins at NOW, or with E, to be executed ------------------- */

/* BHT_WHY_NOTS when nothing is against measuring it. */
enum bht_why_not bht_gaps_why_not(const struct bht_gaps *g, const struct bht_gaps_object *o,
				  const struct bht_bh_machine *m, uint64_t now);

/* Measures it and keeps it, or holds it until it is known whether it was rescued. 0 or
 * -ENOMEM. */
int bht_gaps_measure(struct bht_gaps *g, struct bht_gaps_object *o, const struct bht_bh_machine *m,
		     const struct bht_event *e, const struct bht_before *before);

/* Keeps those that the event at hand has decided; at the end the others. 0 or -ENOMEM. */
int bht_gaps_settle(struct bht_gaps *g);
int bht_gaps_settle_rest(struct bht_gaps *g, const struct bht_evidence *ev);

/* --- gaps_rows.c ----------------------------------------------------------------- */

/* The row of this name and loop, or, without a name, of the bottom half at ADDR; made
 * when it is new. NULL: no memory. */
struct bht_row *bht_gaps_row(struct bht_gaps *g, const struct bht_evidence *ev, struct bht_loop_row *loop,
			     const char *name, uint64_t addr);

/* The loop that is at ADDR now. NULL: no memory. */
struct bht_loop_row *bht_gaps_loop(struct bht_gaps *g, uint64_t addr, uint64_t time);

/* A loop was made at ADDR. NULL: no memory. */
struct bht_loop_row *bht_gaps_new_loop(struct bht_gaps *g, uint64_t addr, uint64_t time, const char *name);

/* Names what only the last sample names, and sorts. 0 or -ENOMEM. */
int bht_gaps_arrange(struct bht_gaps *g, const struct bht_evidence *ev);

#endif
