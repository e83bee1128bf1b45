/* SPDX-License-Identifier: MIT */
/*
 * babeltrace_clock.h - what LTTng's clock and the ticks of an event's own time have
 * to do with each other, on one machine
 *
 * LTTng stamps an event later than the event says, by a hundred ns or, when its thread
 * lost the CPU in between, by much more. So the pairs that are least late count.
 */
#ifndef BHT_BABELTRACE_CLOCK_H
#define BHT_BABELTRACE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Almost the same instant: ns since the Epoch, ticks. */
struct bht_instant {
	uint64_t ns, ticks;
};

struct bht_line {
	bool known;
	double ns_per_tick;
	struct bht_instant at;     /* one point of the line */
	struct bht_instant recent; /* a good pair, at most BHT_RECENT_NS older than the latest, */
	double recent_late;        /* and how far above the line it lies */
};

enum { BHT_RECENT_NS = 20 * 1000 * 1000 };

/* Lays the line through N pairs in the order of time, at least one. When they are
 * too few to say, a tick is a ns. */
void bht_line_fit(struct bht_line *line, const struct bht_instant *pair, size_t n);

/* The same for a clock of a known rate. */
void bht_line_set(struct bht_line *line, struct bht_instant at, double ticks_per_ns);

/* Pairs that come later keep what bht_line_ticks() goes by close. */
void bht_line_follow(struct bht_line *line, struct bht_instant pair);

/* TICKS in ns since the Epoch: the same for the same ticks, always. */
uint64_t bht_line_ns(const struct bht_line *line, uint64_t ticks);

/* NS in ticks, rather too late than too early. */
uint64_t bht_line_ticks(const struct bht_line *line, uint64_t ns);

#endif
