/* SPDX-License-Identifier: MIT */
/*
 * notify-skipped: a scheduler believes that the loop is awake.
 *
 * A client asks a loop and waits for the answer. Before the loop sleeps it
 * updates its statistics, which the client reads. At times a second thread
 * polls the loop while the loop's own thread sleeps.
 *
 *   dispatching  the second poller says that it is dispatching, and whoever
 *                schedules meanwhile saves the notification: it will look
 *                again. It has looked for the last time, and the one who
 *                sleeps hears nothing. No reordering is needed.
 *   barrier      the loop says that it goes to sleep by a plain store, which
 *                waits behind those of the statistics in the store buffer; the
 *                client queues its request, still sees a loop that is awake,
 *                and the loop's last look came before that.
 */
#include "museum.h"
#include "protocol.h"

enum variant { DISPATCHING, BARRIER, FIXED };

enum { N_STATISTICS = 48, SPINS = 400, POLLS = 100 };

static struct museum museum;
static struct bh_loop *loop;
static struct museum_service service;
static struct {
	_Alignas(BHP_CACHE_LINE) _Atomic uint64_t sleeps;
} statistics[N_STATISTICS];

static bool stuck(void)
{
	return museum_unanswered(&service);
}

/* The mark stands from before the look at the bottom halves until the handlers
 * of file descriptors, which come after it, have run. */
static void poll_too(struct bh_loop *l)
{
	atomic_store(&bh_fault_dispatching, true);
	bh_loop_poll(l, false);
	museum_spin(museum_random(SPINS)); /* the handlers' work */
	atomic_store(&bh_fault_dispatching, false);
}

static void count_sleep(void)
{
	for (unsigned i = 0; i < N_STATISTICS; i++)
		atomic_store_explicit(&statistics[i].sleeps, statistics[i].sleeps + 1, memory_order_relaxed);
}

static void read_statistics(void)
{
	for (unsigned i = 0; i < N_STATISTICS; i++)
		(void)atomic_load_explicit(&statistics[i].sleeps, memory_order_relaxed);
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	museum_pin(1);
	for (uint64_t ticket = 1;; ticket++) {
		if (museum.variant == DISPATCHING || (museum.fixed && ticket % 2 == 0))
			museum_second_poll();
		read_statistics();
		museum_spin(museum_random(SPINS));
		museum_ask(&service, ticket);
		museum_await(&service, SPINS);
	}
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "dispatching", "barrier", "fixed", NULL };
	static const enum bh_fault faults[] = { BH_FAULT_DISPATCHING, BH_FAULT_SLEEP, BH_FAULT_NONE };
	static const struct museum_piece piece = { "notify-skipped", "a scheduler believes that the loop is awake",
						   variants, 50000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	museum.before_sleep = count_sleep;
	bh_fault = faults[museum.variant];
	loop = bh_loop_new("server");
	museum_need(loop, "no loop");
	museum_service_open(&service, &museum, loop);
	museum_second_poller(loop, poll_too);
	museum_thread(client, NULL);
	museum_watch(&museum, stuck);
	museum_pin(0);
	museum_run(&museum, loop, POLLS);
	return 0;
}
