/* SPDX-License-Identifier: MIT */
/*
 * slow-callback: a bottom half waits in line behind one that computes.
 *
 * A client asks a loop and waits for the answer. A few times it also has the
 * loop rebuild an index, which takes most of a second of computing, and then
 * asks. In the faulty variant that is one callback; in the fixed control it is
 * many, each of which does a little and schedules itself for the rest.
 */
#include <time.h>

#include "museum.h"
#include "protocol.h"

enum { RARE = 64, REBUILDS = 3, REBUILD_MS = 800, SLICE_MS = 1, WORDS = 1 << 12 };

static struct museum museum;
static struct bh_loop *loop;
static struct bh *rebuild;
static struct museum_service service;
static unsigned left_ms; /* of the rebuild in progress */

/* --- the loop ---------------------------------------------------------------------- */

static uint64_t cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Computes for so much of the processor's time, however long that takes. */
static void compute(unsigned ms)
{
	static uint32_t words[WORDS];
	uint64_t end = cpu_ms() + ms;

	do
		for (unsigned i = 1; i < WORDS; i++)
			words[i] += words[i - 1] * 2654435761u + i;
	while (cpu_ms() < end);
}

static void rebuild_index(void *opaque)
{
	unsigned ms = museum.fixed ? SLICE_MS : REBUILD_MS;

	(void)opaque;
	if (left_ms == 0)
		left_ms = REBUILD_MS;
	compute(ms);
	left_ms -= ms;
	if (left_ms > 0)
		bh_schedule(rebuild);
}

/* --- the client -------------------------------------------------------------------- */

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	for (uint64_t ticket = 1; museum.fixed || ticket <= RARE * REBUILDS; ticket++) {
		if (ticket % RARE == 0 && ticket <= RARE * REBUILDS)
			bh_schedule(rebuild);
		museum_ask(&service, ticket);
		museum_await(&service, 0);
	}
	museum_late(&museum, loop);
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "faulty", "fixed", NULL };
	static const struct museum_piece piece = { "slow-callback", "a bottom half waits behind one that computes",
						   variants, 100000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	loop = bh_loop_new("search");
	museum_need(loop, "no loop");
	rebuild = bh_new(loop, rebuild_index, NULL, "rebuild");
	museum_need(rebuild, "no bottom half");
	museum_service_open(&service, &museum, loop);
	museum_thread(client, NULL);
	museum_run(&museum, loop, 0);
	return 0;
}
