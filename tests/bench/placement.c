/* SPDX-License-Identifier: MIT */
/*
 * The placement table: what a tracer does to the rate of lost wakeups,
 * depending on where it stands.
 *
 * The race is the seed's, re-implemented in its weak form. Two threads on two
 * CPUs meet at a barrier, wait a random time of up to about 1 us each, and do
 * what the two halves of the bug do:
 *
 *   producer:  [store to cold lines]  store payload;  load flag
 *   loop:      store flag = 0;                        load payload
 *
 * A round is lost when the producer saw 1, so told nobody, and the loop saw
 * the old payload. Cold lines are in no cache, as those of a real request from
 * a large pool.
 *
 * The random wait makes the rate a measure of how wide the window is; without
 * it, a tracer before the pair would merely shift one side against the other.
 */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "usdt.h"
#include "bench.h"
#include "race.h"

enum { RUNS = 10, REPEATS = 6, BLOCK = 2000, WAIT_MASK = 2047, PAUSE_MASK = 127, LEAD_TICKS = 2500 };

static struct line payload, flag, arrived[2], start_tick;
static uint8_t saw_one[BLOCK], saw_new[BLOCK];
static bool cold_rounds;
static uint64_t spins_100ns;

/* --- the tracers ------------------------------------------------------------------ */

typedef void trace_fn(uint64_t round);

TRACE nothing(uint64_t round)
{
	(void)round;
}

TRACE usdt_disabled(uint64_t round)
{
	USDT_SITE(untraced, &object[0], &object[1], round);
}

TRACE usdt_attached(uint64_t round)
{
	USDT_SITE(traced, &object[0], &object[1], round);
}

TRACE ring_untimed(uint64_t round)
{
	record_at(0, round);
}

#if defined(__x86_64__)
TRACE ring_rdtscp(uint64_t round)
{
	unsigned cpu;

	record_at(__builtin_ia32_rdtscp(&cpu), round);
}

TRACE ring_lfence(uint64_t round)
{
	__builtin_ia32_lfence();
	record_at(bhp_clock(), round);
}
#endif

TRACE gettime(uint64_t round)
{
	record_at(bench_now_ns(), round);
}

TRACE locked(uint64_t round)
{
	static __thread _Atomic uint64_t own;

	atomic_fetch_add_explicit(&own, round, memory_order_seq_cst);
}

TRACE delay_100ns(uint64_t round)
{
	(void)round;
	for (uint64_t i = spins_100ns; i-- > 0;)
		__asm__ volatile("");
}

TRACE system_call(uint64_t round)
{
	(void)round;
	syscall(SYS_getppid);
}

/* --- a round -------------------------------------------------------------------------- */

enum { PRODUCER, LOOP };

struct side {
	uint64_t meetings, started;
	uint32_t random;
};

static struct side side[2] = { { .random = 1 }, { .random = 2 } };

/* Not "pause": it would make one side late by a fixed time. A side that waits
 * very long lost its partner to the scheduler and had better let go, too. */
static inline void meet(unsigned me)
{
	uint64_t n = ++side[me].meetings;

	atomic_store_explicit(&arrived[me].value, n, memory_order_release);
	for (unsigned spins = 0; atomic_load_explicit(&arrived[!me].value, memory_order_acquire) < n; spins++)
		if (spins > 100000)
			sched_yield();
}

/* Both sides start at the same tick plus a random wait. A barrier alone would
 * release the side that arrives last earlier by the time that a cache line
 * takes to the other CPU, and it is always the same side. */
static inline void start_together(unsigned me)
{
	uint32_t r = next_random(&side[me].random);

	if (me == LOOP) {
		meet(LOOP);
		while (get(&start_tick) == side[LOOP].started)
			;
	} else {
		meet(PRODUCER);
		/* The loop's look at the flag may have taken the line away. */
		get(&flag);
		put(&start_tick, bhp_clock() + LEAD_TICKS);
	}
	side[me].started = get(&start_tick);
	while ((int64_t)(bhp_clock() - side[me].started) < (int64_t)(r & WAIT_MASK))
		;
	/* Its end is mispredicted, so that in every cell alike the pair begins
	 * there, and not speculatively during the wait above. */
	for (uint32_t i = r >> 16 & PAUSE_MASK; i-- > 0;)
		__asm__ volatile("");
}

static inline __attribute__((always_inline)) void producer_block(trace_fn *before, trace_fn *inside, trace_fn *after)
{
	uint64_t serial = get(&payload);

	for (unsigned i = 0; i < BLOCK; i++) {
		put(&flag, 1);
		start_together(PRODUCER);
		serial++;
		if (cold_rounds)
			cold_stores(serial);
		before(serial);
		in_order();
		put(&payload, serial);
		inside(serial);
		in_order();
		uint64_t seen = get(&flag);
		in_order();
		after(serial);
		saw_one[i] = seen == 1;
		meet(PRODUCER);
	}
}

static inline __attribute__((always_inline)) void loop_block(trace_fn *before, trace_fn *inside, trace_fn *after)
{
	for (unsigned i = 0; i < BLOCK; i++) {
		while (get(&flag) != 1)
			;
		uint64_t old = get(&payload);
		start_together(LOOP);
		before(old);
		in_order();
		put(&flag, 0);
		inside(old);
		in_order();
		uint64_t seen = get(&payload);
		in_order();
		after(old);
		saw_new[i] = seen != old;
		meet(LOOP);
	}
}

/* --- the cells of the table -------------------------------------------------------------- */

struct cell {
	const char *tracer, *place;
	void (*side[2])(void);
};

/* X(name, label): a tracer in all three places */
#define TRACERS(X)                                                                                                     \
	X(usdt_disabled, "disabled USDT site")                                                                         \
	X(ring, "in-process ring")                                                                                     \
	X(ring_untimed, "the same without a time stamp")                                                               \
	TRACERS_X86(X)                                                                                                 \
	X(gettime, "the same with clock_gettime")                                                                      \
	X(locked, "a locked instruction")                                                                              \
	X(delay_100ns, "a delay of 100 ns")                                                                            \
	X(system_call, "a system call")                                                                                \
	X(usdt_attached, "USDT + eBPF, attached")
#if defined(__x86_64__)
#define TRACERS_X86(X)                                                                                                 \
	X(ring_rdtscp, "the same with rdtscp")                                                                         \
	X(ring_lfence, "the same with lfence + rdtsc")
#else
#define TRACERS_X86(X)
#endif

#define SIDES(name, p0, p1, p2, l0, l1, l2)                                                                            \
	static __attribute__((noinline)) void producer_##name(void)                                                    \
	{                                                                                                              \
		producer_block(p0, p1, p2);                                                                            \
	}                                                                                                              \
	static __attribute__((noinline)) void loop_##name(void)                                                        \
	{                                                                                                              \
		loop_block(l0, l1, l2);                                                                                \
	}
/* clang-format off */
#define CELL(label, place, name) { label, place, { producer_##name, loop_##name } },

#define TRACER_SIDES(t, label)                                                                                         \
	SIDES(inside_##t, nothing, t, nothing, nothing, t, nothing)                                                    \
	SIDES(after_##t, nothing, nothing, t, nothing, nothing, t)                                                     \
	SIDES(before_##t, t, nothing, nothing, t, nothing, nothing)
#define TRACER_CELLS(t, label)                                                                                         \
	CELL(label, "inside", inside_##t)                                                                           \
	CELL(label, "after", after_##t)                                                                             \
	CELL(label, "before", before_##t)

TRACERS(TRACER_SIDES)
SIDES(untraced, nothing, nothing, nothing, nothing, nothing, nothing)
SIDES(libbh, nothing, nothing, ring, libbh_begin, nothing, libbh_end)

static const struct cell cells[] = {
	CELL("untraced", "", untraced)
	CELL("recorder as libbh places it", "libbh", libbh)
	TRACERS(TRACER_CELLS)
};
/* clang-format on */
enum { UNTRACED, LIBBH, N_CELLS = sizeof(cells) / sizeof(cells[0]) };

/* --- running them ------------------------------------------------------------------------- */

/* What the loop's thread is to do next; NULL: end. Published by meet(). */
static const struct cell *next_cell;

static void *loop_thread(void *unused)
{
	(void)unused;
	bench_pin(1);
	for (;;) {
		meet(LOOP);
		if (!next_cell)
			return NULL;
		next_cell->side[LOOP]();
		meet(LOOP);
	}
}

static unsigned lost_in_block(const struct cell *cell, bool cold)
{
	unsigned lost = 0;

	next_cell = cell;
	cold_rounds = cold;
	meet(PRODUCER);
	cell->side[PRODUCER]();
	meet(PRODUCER);
	for (unsigned i = 0; i < BLOCK; i++)
		lost += saw_one[i] && !saw_new[i];
	usdt_drain();
	return lost;
}

static void key_of(char key[64], const struct cell *cell, bool cold)
{
	snprintf(key, 64, "%s/%s/%s", cell->tracer, cell->place, cold ? "cold" : "warm");
}

struct tally {
	uint64_t lost[2], rounds[2]; /* warm, cold */
};

static void visit(struct tally tally[N_CELLS], unsigned i)
{
	for (unsigned cold = 0; cold < 2; cold++) {
		tally[i].lost[cold] += lost_in_block(&cells[i], cold);
		tally[i].rounds[cold] += BLOCK;
	}
}

/* One run: all cells in turn, several times, so that a change of the machine's
 * mood meets all of them; the two that the target compares more often. */
static void run(struct bench_set *set, bool tracer, unsigned number)
{
	struct tally tally[N_CELLS] = { 0 };
	char key[64];

	for (unsigned n = 0; n < REPEATS * N_CELLS; n++) {
		/* Another start in each repeat: no cell always follows the same. */
		unsigned i = (n + n / N_CELLS * 7 + number) % N_CELLS;
		if (tracer || !strstr(cells[i].tracer, "attached"))
			visit(tally, i);
		for (unsigned k = UNTRACED; n % 4 == 0 && k <= LIBBH; k++)
			visit(tally, k);
	}
	for (unsigned i = 0; i < N_CELLS * 2; i++) {
		const struct tally *t = &tally[i / 2];
		if (t->rounds[i & 1] == 0)
			continue;
		key_of(key, &cells[i / 2], i & 1);
		bench_add(set, key, (double)t->lost[i & 1] * 1e6 / (double)t->rounds[i & 1]);
	}
}

static void calibrate(void)
{
	enum { TRIAL = 1000000 };

	spins_100ns = TRIAL;
	uint64_t start = bench_now_ns();
	delay_100ns(0);
	uint64_t took = bench_now_ns() - start;
	spins_100ns = 100 * (uint64_t)TRIAL / (took ? took : 1);
}

/* --- rows ------------------------------------------------------------------------------------ */

static void print_cell(const struct bench_set *set, const struct cell *cell, bool cold, const char *note)
{
	const char *temperature = cold ? "cold" : "warm";
	char key[64], base[64], name[96], column[32];
	bool target = strcmp(cell->place, "libbh") == 0;

	key_of(key, cell, cold);
	key_of(base, &cells[UNTRACED], cold);
	snprintf(name, sizeof(name), "%s, %s%s%s", cell->tracer, target ? "aligned" : cell->place, ", ", temperature);
	snprintf(column, sizeof(column), "%s %s", target ? "after" : cell->place, temperature);
	bench_print(&(struct bench_row){ .table = target ? "Flight recorder and the rate of lost wakeups"
							 : "Placement: lost wakeups relative to untraced",
					 .name = name,
					 .value = bench_median(set, key),
					 .unit = "lost/1e6 rounds",
					 .peer = "untraced",
					 .peer_value = bench_median(set, base),
					 .ratio = bench_paired(set, key, base),
					 .target = target ? "ratio >= 0.9" : NULL,
					 .note = bench_has(set, key) ? NULL : note,
					 .line = target ? NULL : cell->tracer,
					 .column = column });
}

int main(void)
{
	static struct bench_set set;
	const char *note = NULL;
	pthread_t thread;
	bool possible = bench_cpus() > 1;

	if (possible) {
		cold_pool_make();
		calibrate();
		note = usdt_attach();
		bench_pin(0);
		if (pthread_create(&thread, NULL, loop_thread, NULL) != 0)
			bench_die("no thread");
		for (unsigned i = 0; i < RUNS; i++)
			run(&set, !note, i);
		next_cell = NULL;
		meet(PRODUCER);
		pthread_join(thread, NULL);
		usdt_detach();
	} else {
		note = "a race needs two CPUs";
	}
	for (unsigned i = LIBBH * 2; i < N_CELLS * 2; i++)
		print_cell(&set, &cells[i / 2], i & 1, note);
	return 0;
}
