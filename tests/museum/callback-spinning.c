/* SPDX-License-Identifier: MIT */
/*
 * callback-spinning: a callback polls for what only its own loop can do.
 *
 * A client has the loop drain its requests: the callback waits until none is in
 * flight. Their completion is a bottom half of the same loop. Now and then the
 * drain comes before the completion, and waits for it by looking at the counter
 * for ever; the fixed variant lets the loop run in the meantime.
 */
#include <semaphore.h>
#include <stddef.h>

#include "museum.h"
#include "protocol.h"

enum { RARE = 64 };

static struct museum museum;
static struct bh_loop *loop;
static struct bh *drain, *completion;
static _Atomic uint64_t begun, completed; /* tickets of requests */
static sem_t drained;

static bool stuck(void)
{
	return atomic_load(&loop->o.current) == drain;
}

static bool in_flight(void)
{
	return atomic_load_explicit(&completed, memory_order_acquire) !=
	       atomic_load_explicit(&begun, memory_order_acquire);
}

static void complete(void *opaque)
{
	uint64_t ticket = atomic_load_explicit(&begun, memory_order_acquire);

	(void)opaque;
	museum_consume(&museum, completion, ticket);
	atomic_store_explicit(&completed, ticket, memory_order_release);
}

static void wait_until_drained(void *opaque)
{
	(void)opaque;
	while (in_flight()) {
		if (museum.fixed)
			bh_loop_poll(loop, true);
		else
			museum_relax();
	}
	if (museum_advance(&museum, 1))
		sem_post(&drained);
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	for (uint64_t ticket = 1;; ticket++) {
		bool drain_first = ticket % RARE == 0;

		atomic_store_explicit(&begun, ticket, memory_order_release);
		if (drain_first)
			bh_schedule(drain);
		bh_schedule_ticket(completion, museum_ticket(&museum, ticket));
		if (!drain_first)
			bh_schedule(drain);
		sem_wait(&drained);
	}
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "faulty", "fixed", NULL };
	static const struct museum_piece piece = { "callback-spinning",
						   "a callback polls for what its own loop must do", variants, 100000,
						   false };

	museum_open(&museum, &piece, 1, argc, argv);
	sem_init(&drained, 0, 0);
	loop = bh_loop_new("storage");
	museum_need(loop, "no loop");
	drain = bh_new(loop, wait_until_drained, NULL, "drain");
	completion = bh_new(loop, complete, NULL, "completion");
	museum_need(drain && completion, "no bottom half");
	museum_thread(client, NULL);
	museum_watch(&museum, stuck);
	museum_run(&museum, loop, 0);
	return 0;
}
