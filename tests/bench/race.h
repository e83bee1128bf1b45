/* SPDX-License-Identifier: MIT */
/* race.h - what the two re-implementations of the seed's race share */
#ifndef BENCH_RACE_H
#define BENCH_RACE_H

#include <stdlib.h>
#include <string.h>

#include "bhp.h"
#include "bench.h"

/* Two cache lines: the adjacent one is often fetched along. */
struct line {
	_Alignas(2 * BHP_CACHE_LINE) _Atomic uint64_t value;
};

static inline void put(struct line *line, uint64_t value)
{
	atomic_store_explicit(&line->value, value, memory_order_relaxed);
}

static inline uint64_t get(struct line *line)
{
	return atomic_load_explicit(&line->value, memory_order_relaxed);
}

/* Keeps the compiler, and nothing else, from moving accesses across. */
static inline void in_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

static inline uint32_t next_random(uint32_t *state)
{
	uint32_t r = *state;

	r ^= r << 13, r ^= r >> 17, r ^= r << 5;
	return *state = r;
}

/* --- cold lines --------------------------------------------------------------- */

enum { POOL_LINES = 1 << 19, COLD_LINES = 4 };

static struct line *cold_pool;

static inline void cold_pool_make(void)
{
	cold_pool = aligned_alloc(_Alignof(struct line), POOL_LINES * sizeof(*cold_pool));
	if (!cold_pool)
		bench_die("no memory");
	memset(cold_pool, 1, POOL_LINES * sizeof(*cold_pool));
}

/* Stores to lines of a pool far larger than the caches, in an order that no
 * prefetcher knows. */
static inline void cold_stores(uint64_t value)
{
	static uint32_t at;

	for (unsigned i = 0; i < COLD_LINES; i++) {
		at = at * 1664525 + 1013904223;
		put(&cold_pool[(at >> 8) % POOL_LINES], value);
	}
}

/* --- the recorder, as libbh places it -------------------------------------------- */

/* A tracer; ROUND is what it has to say. */
#define TRACE static inline __attribute__((always_inline)) void

/* Stand-ins for the objects that a record names. */
static char object[2];

static inline __attribute__((always_inline)) void record_at(uint64_t time, uint64_t round)
{
	bhp_emit_at(schedule, time, .loop = &object[0], .bh = &object[1], .seen = 1, .ticket = round);
}

TRACE ring(uint64_t round)
{
	record_at(bhp_clock(), round);
}

/* What libbh records on the loop's side: bh.c, execute(). */
static __thread uint64_t stamp;

TRACE libbh_begin(uint64_t round)
{
	(void)round;
	bhp_emit_at(execute_begin, stamp, .loop = &object[0], .bh = &object[1], .callback = &object[0]);
}

TRACE libbh_end(uint64_t round)
{
	uint64_t begin = stamp;

	(void)round;
	stamp = bhp_clock();
	bhp_emit_at(execute_end, stamp, .loop = &object[0], .bh = &object[1], .begin = begin);
}

#endif
