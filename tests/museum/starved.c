/* SPDX-License-Identifier: MIT */
/*
 * starved: a bottom half is scheduled, the loop turns and turns, and never gets
 * to it.
 *
 * storm   A drain waits until no request is in flight, by scheduling itself as
 *         long as there is one. So that nobody hogs the loop it also ends its
 *         turn: what the turn had not reached goes back to the queue - behind
 *         the drain, which is in it already. The fixed control gives back first
 *         and then schedules itself.
 * no-cpu  Nothing is wrong with the loop, but its thread has the lowest
 *         priority and shares its processor with threads that compute all the
 *         time.
 */
#include <sched.h>

#include "museum.h"
#include "protocol.h"

enum { STORM, NO_CPU };
enum { RARE = 64, MANY = 1000, BUSY = 32, CHECKSUM_WORDS = 1 << 14 };

static struct museum museum;
static struct bh_loop *loop;
static struct bh *drain;
static struct museum_service service;
static sem_t crowded;

static bool stuck(void)
{
	if (!(atomic_load(&service.bh->o.flags) & BHP_FLAG_SCHEDULED))
		return false;
	return museum.variant == NO_CPU ? atomic_load(&loop->o.where) == BHP_WAIT : atomic_load(&drain->o.runs) > MANY;
}

/* --- the loop ---------------------------------------------------------------------- */

static bool in_flight(void)
{
	return atomic_load_explicit(&service.asked, memory_order_relaxed) != museum.rounds;
}

/* What the loop has taken up, and not reached, goes to the end of the queue. */
static void give_back(void)
{
	struct bh *bh = loop->ready_first;

	loop->ready_first = loop->ready_last = NULL;
	while (bh) {
		struct bh *next = (struct bh *)atomic_load_explicit(&bh->o.next, memory_order_relaxed);
		bh_push(loop, bh);
		bh = next;
	}
}

static void flush_some(void)
{
	static uint32_t words[CHECKSUM_WORDS];

	for (unsigned i = 1; i < CHECKSUM_WORDS; i++)
		words[i] += words[i - 1] * 2654435761u + i;
}

static void drain_some(void *opaque)
{
	(void)opaque;
	flush_some();
	if (museum.fixed)
		give_back();
	if (in_flight())
		bh_schedule(drain);
	if (!museum.fixed)
		give_back();
}

/* --- the others -------------------------------------------------------------------- */

static void *compute(void *arg)
{
	volatile uint64_t n = 0;

	pthread_setname_np(pthread_self(), "busy");
	sem_wait(&crowded);
	for (;;)
		n++;
	return arg;
}

static void crowd(void)
{
	for (unsigned i = 0; i < BUSY; i++)
		sem_post(&crowded);
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	museum_pin(1);
	for (uint64_t ticket = 1;; ticket++) {
		if (ticket == RARE && museum.variant == NO_CPU)
			crowd();
		if (ticket % RARE == 0 && museum.variant != NO_CPU)
			bh_schedule(drain);
		museum_ask(&service, ticket);
		museum_await(&service, 0);
	}
	return arg;
}

/* The loop's thread and those that compute are put on one processor. */
static void share_processor(void)
{
	const struct sched_param none = { 0 };

	museum_pin(0);
	for (unsigned i = 0; i < BUSY; i++)
		museum_thread(compute, NULL);
	museum_need(sched_setscheduler(0, SCHED_IDLE, &none) == 0, "no idle priority");
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "storm", "no-cpu", "fixed", NULL };
	static const struct museum_piece piece = {
		"starved", "the loop turns, or wants to, and never reaches one of its bottom halves", variants, 100000,
		false
	};

	museum_open(&museum, &piece, 1, argc, argv);
	sem_init(&crowded, 0, 0);
	loop = bh_loop_new("storage");
	museum_need(loop, "no loop");
	drain = bh_new(loop, drain_some, NULL, "drain");
	museum_need(drain, "no bottom half");
	museum_service_open(&service, &museum, loop);
	museum_thread(client, NULL);
	museum_watch(&museum, stuck);
	if (museum.variant == NO_CPU)
		share_processor();
	museum_run(&museum, loop, 0);
	return 0;
}
