/* SPDX-License-Identifier: MIT */
/*
 * slow-wake: the loop is woken in time, but its thread gets no processor.
 *
 * A client asks a loop and waits for the answer. A few times other threads
 * compute meanwhile, on the processor that is the loop's, until the answer is
 * there. In the faulty variant the loop's thread has idle priority, so that it
 * is hardly ever its turn; should the answer come quickly all the same, there
 * will be more of the others the next time. In the fixed control its priority
 * is that of the others.
 */
#include <sched.h>

#include "museum.h"
#include "protocol.h"

enum { RARE = 64, ENOUGH = 2, LATE_MS = 700, BUSY_MIN = 4, BUSY_MAX = 16 };

static struct museum museum;
static struct bh_loop *loop;
static struct museum_service service;

/* The threads that compute. */
static sem_t start;
static _Atomic bool stop;
static _Atomic unsigned at_work;

static void *compute(void *arg)
{
	pthread_setname_np(pthread_self(), "busy");
	for (;;) {
		museum_down(&start, 0);
		atomic_fetch_add(&at_work, 1);
		while (!atomic_load(&stop))
			museum_relax();
		atomic_fetch_sub(&at_work, 1);
	}
	return arg;
}

/* Asks while N threads compute. Whether the answer was late. */
static bool ask_in_crowd(uint64_t ticket, unsigned n)
{
	while (!museum_loop_asleep(loop))
		museum_relax();
	atomic_store(&stop, false);
	for (unsigned i = 0; i < n; i++)
		sem_post(&start);
	while (atomic_load(&at_work) < n)
		museum_relax();
	uint64_t begin = bh_now_ns();
	museum_ask(&service, ticket);
	museum_await(&service, 0);
	uint64_t end = bh_now_ns();
	atomic_store(&stop, true);
	while (atomic_load(&at_work) > 0)
		museum_relax();
	return end - begin >= LATE_MS * 1000000u;
}

static void *client(void *arg)
{
	unsigned n = BUSY_MIN, crowds = 0, late = 0;

	pthread_setname_np(pthread_self(), "client");
	museum_pin(1);
	for (uint64_t ticket = 1; museum.fixed || late < ENOUGH; ticket++) {
		if (ticket % RARE != 0 || (museum.fixed && crowds == ENOUGH)) {
			museum_ask(&service, ticket);
			museum_await(&service, 0);
			continue;
		}
		crowds++;
		if (ask_in_crowd(ticket, n))
			late++;
		else if (n < BUSY_MAX)
			n *= 2;
	}
	museum_late(&museum, loop);
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "faulty", "fixed", NULL };
	static const struct museum_piece piece = { "slow-wake", "the loop is woken, but its thread gets no processor",
						   variants, 100000, false };
	const struct sched_param none = { 0 };

	museum_open(&museum, &piece, 1, argc, argv);
	sem_init(&start, 0, 0);
	loop = bh_loop_new("server");
	museum_need(loop, "no loop");
	museum_service_open(&service, &museum, loop);
	museum_thread(client, NULL);
	museum_pin(0);
	for (unsigned i = 0; i < BUSY_MAX; i++)
		museum_thread(compute, NULL);
	if (!museum.fixed)
		museum_need(sched_setscheduler(0, SCHED_IDLE, &none) == 0, "no idle priority");
	museum_run(&museum, loop, 0);
	return 0;
}
