/* SPDX-License-Identifier: MIT */
/*
 * order.h - the flag as a register, and who read what
 *
 * For one bottom half the flag has three operations: schedule = exchange(1),
 * clear = exchange(0), cancel. A coalesced schedule read a 1. Its load lies
 * somewhere in [the thread's event before, the record], the clear in
 * [execute_begin, execute_end]. Stamps of two threads closer than the clock's
 * error are not ordered.
 */
#ifndef BHT_ORDER_H
#define BHT_ORDER_H

#include "evidence.h"
#include "machines.h"

/*
 * How long a store may wait in a store buffer, generously: some 70 entries that
 * miss every cache at 150 ns each. A schedule that was recorded longer than
 * this before the clear has published its payload, whatever barriers are
 * missing; a preemption in between publishes it too.
 */
enum { BHT_RACE_WINDOW_NS = 10000 };

enum bht_flag_order {
	BHT_LONG_BEFORE, /* the payload was visible when the callback looked: innocent */
	BHT_BEFORE,      /* loaded just before the clear: legal, if the payload was visible too */
	BHT_OVERLAPS,    /* cannot be ordered against the clear and the callback */
	BHT_AFTER        /* loaded wholly after the callback: it saw a stale 1 */
};

/*
 * Where a coalesced schedule lies against the last execution, which began at
 * BEGIN and ended at END (0: not seen to end). PREVIOUS is the time of its
 * thread's event before it, 0 when there is none.
 */
enum bht_flag_order bht_flag_order(const struct bht_evidence *ev, uint64_t schedule, uint64_t previous, uint64_t begin,
				   uint64_t end);

/* Ticks of NS nanoseconds, and back. */
uint64_t bht_ticks(const struct bht_evidence *ev, double ns);
double bht_ns(const struct bht_evidence *ev, uint64_t from, uint64_t to);

#endif
