/* SPDX-License-Identifier: MIT */
/*
 * The flight recorder and the rate of lost wakeups when nothing aligns the
 * threads to the race.
 *
 * First the re-implemented race, with the records where libbh has them, on and
 * off in turn. The producer announces two pieces of work, some random time
 * apart; the loop polls. When the flag is 0 and the loop has gone round several
 * times without seeing the work, the wakeup was lost. Where the threads meet
 * depends on every nanosecond, so a third mode has the producer do arithmetic
 * for as long as its record takes: what that changes is not the recorder's doing.
 *
 * Then the museum's flag-race, given as argument: real libbh with the seed's
 * fault, BH_FLIGHT unset and "off" in turn.
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>

#include "race.h"

enum {
	RUNS = 30,
	ROUNDS = 200000,
	PATIENCE_TURNS = 8,
	MUSEUM_RUNS = 30,
	MUSEUM_ROUNDS = 400000,
	RECORD_STEPS = 40,
	SETTLE_STEPS = 2000
};
enum mode { OFF, RECORD, ARITHMETIC };

static const char TARGET[] = "ratio >= 0.9";

static struct line payload, flag, handled, turns, ending;
static bool cold;
static enum mode mode;

/* Arithmetic only, without touching memory. */
static inline void compute(uint32_t steps)
{
	while (steps-- > 0)
		__asm__ volatile("");
}

static inline void work(uint32_t *random, uint32_t mask)
{
	compute(next_random(random) & mask);
}

/* --- the loop's side ----------------------------------------------------------------- */

static void *loop_thread(void *unused)
{
	uint32_t random = 2;

	bench_pin(1);
	for (uint64_t turn = 1; get(&ending) == 0; turn++) {
		put(&turns, turn);
		if (get(&flag) == 0)
			continue;
		work(&random, 255);
		if (mode == RECORD)
			libbh_begin(0);
		in_order();
		put(&flag, 0);
		in_order();
		uint64_t seen = get(&payload);
		in_order();
		if (mode == RECORD)
			libbh_end(0);
		put(&handled, seen);
	}
	return unused;
}

/* --- the producer's side --------------------------------------------------------------- */

static inline void announce(uint64_t ticket)
{
	if (cold)
		cold_stores(ticket);
	in_order();
	put(&payload, ticket);
	in_order();
	uint64_t seen = get(&flag);
	in_order();
	if (seen == 0)
		atomic_exchange_explicit(&flag.value, 1, memory_order_seq_cst);
	if (mode == RECORD)
		ring(ticket);
	else if (mode == ARITHMETIC)
		compute(RECORD_STEPS);
}

/* Whether TICKET is never handled; rescues the loop then. */
static bool is_lost(uint64_t ticket)
{
	uint64_t since = 0;

	while (get(&handled) < ticket) {
		uint64_t turn = get(&turns);
		if (get(&flag) == 1 || since == 0) {
			since = turn;
		} else if (turn - since > PATIENCE_TURNS && get(&handled) < ticket) {
			atomic_exchange_explicit(&flag.value, 1, memory_order_seq_cst);
			while (get(&handled) < ticket)
				;
			return true;
		}
	}
	return false;
}

static unsigned lost_in_rounds(void)
{
	uint32_t random = 1;
	unsigned lost = 0;

	for (uint64_t round = 1; round <= ROUNDS; round++) {
		announce(2 * round);
		work(&random, 2047);
		announce(2 * round + 1);
		/* The look for the outcome shares the flag's line, so it would
		 * take part in the race, the sooner the less is recorded. */
		compute(SETTLE_STEPS);
		lost += is_lost(2 * round + 1);
	}
	return lost;
}

static double lost_per_million(bool with_cold, enum mode with_mode)
{
	pthread_t loop;

	cold = with_cold;
	mode = with_mode;
	put(&payload, 0), put(&flag, 0), put(&handled, 0), put(&turns, 0), put(&ending, 0);
	if (pthread_create(&loop, NULL, loop_thread, NULL) != 0)
		bench_die("no thread");
	unsigned lost = lost_in_rounds();
	put(&ending, 1);
	pthread_join(loop, NULL);
	return lost * 1e6 / ROUNDS;
}

/* --- the museum's flag-race ---------------------------------------------------------------- */

/* Wakeups lost in a million batches. */
static double museum_lost(const char *program, const char *variant, const char *flight)
{
	unsigned long long lost, batches;
	char command[512], line[128];
	bool counted = false;

	snprintf(command, sizeof(command), "%s%s %s --variant %s --count --rounds %d",
		 flight ? "BH_FLIGHT=" : "env -u BH_FLIGHT", flight ? flight : "", program, variant, MUSEUM_ROUNDS);
	FILE *out = popen(command, "r");
	while (out && fgets(line, sizeof(line), out))
		counted |= sscanf(line, "lost=%llu batches=%llu", &lost, &batches) == 2;
	if (!out || pclose(out) != 0 || !counted || batches == 0)
		bench_die("\"%s\" failed", command);
	return (double)lost * 1e6 / (double)batches;
}

/* --- rows ------------------------------------------------------------------------------------ */

static void print_row(const struct bench_set *set, const char *name, const char *on, const char *off, const char *unit,
		      const char *target)
{
	bench_print(&(struct bench_row){ .table = "Flight recorder and the rate of lost wakeups",
					 .name = name,
					 .value = bench_median(set, on),
					 .unit = unit,
					 .peer = "recorder off",
					 .peer_value = bench_median(set, off),
					 .ratio = bench_paired(set, on, off),
					 .target = target });
}

static void own_race(struct bench_set *set, bool with_cold, const char *name)
{
	static const char *const modes[] = { "off", "on", "arithmetic" };
	char row[64];

	/* The modes take turns in going first. */
	for (unsigned i = 0; i < RUNS * 3; i++) {
		enum mode m = (i + i / 3) % 3;
		bench_add(set, modes[m], lost_per_million(with_cold, m));
	}
	snprintf(row, sizeof(row), "libbh's placement, free-running, %s", name);
	print_row(set, row, "on", "off", "lost/1e6 rounds", TARGET);
	snprintf(row, sizeof(row), "arithmetic in its place, %s", name);
	print_row(set, row, "arithmetic", "off", "lost/1e6 rounds", NULL);
}

static void museum(struct bench_set *set, const char *program, const char *variant)
{
	char name[64];

	for (unsigned i = 0; i < MUSEUM_RUNS * 2; i++) {
		bool on = (i ^ i >> 1) & 1;
		bench_add(set, on ? "on" : "off", museum_lost(program, variant, on ? NULL : "off"));
	}
	snprintf(name, sizeof(name), "museum flag-race, %s half", variant);
	print_row(set, name, "on", "off", "lost/1e6 batches", TARGET);
}

int main(int argc, char **argv)
{
	static struct bench_set warm, lines, producer, consumer;

	if (argc != 2)
		bench_die("usage: freerun MUSEUM-FLAG-RACE");
	if (bench_cpus() < 2) {
		print_row(&warm, "free-running: a race needs two CPUs", "on", "off", "lost/1e6 rounds", TARGET);
		return 0;
	}
	museum(&producer, argv[1], "producer");
	museum(&consumer, argv[1], "consumer");
	cold_pool_make();
	bench_pin(0);
	own_race(&warm, false, "warm");
	own_race(&lines, true, "cold");
	return 0;
}
