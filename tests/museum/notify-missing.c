/* SPDX-License-Identifier: MIT */
/*
 * notify-missing: one path schedules and forgets to wake the loop.
 *
 * A client asks a loop and waits for the answer. Now and then it answers itself
 * from a cache and only wants the loop to know; that path sets the flag and
 * queues the bottom half, and leaves it at that. As long as the loop happens to
 * be awake nobody notices.
 */
#include <semaphore.h>
#include <stddef.h>

#include "museum.h"
#include "protocol.h"

enum { RARE = 64 };

static struct museum museum;
static struct bh_loop *loop;
static struct bh *request;
static _Atomic uint64_t asked; /* ticket of the latest request */
static sem_t answered;

static bool stuck(void)
{
	return atomic_load(&loop->o.where) == BHP_WAIT && atomic_load(&request->o.flags) & BHP_FLAG_SCHEDULED;
}

/* What bh_schedule_ticket() does, but for the last step. */
static void schedule_shortcut(struct bh *bh, uint64_t ticket)
{
	uint32_t old = bh_flag_update(bh, BH_OP_SCHEDULE);

	if (!(old & BHP_FLAG_LINKED))
		bh_push(loop, bh);
	bhp_emit(schedule, .loop = loop, .bh = bh, .seen = old & BHP_FLAG_SCHEDULED, .kind = BHP_KIND_NORMAL,
		 .ticket = ticket);
}

static void answer(void *opaque)
{
	(void)opaque;
	bh_consume(request, atomic_load_explicit(&asked, memory_order_acquire));
	if (museum_advance(&museum, 1))
		sem_post(&answered);
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	for (uint64_t ticket = 1;; ticket++) {
		atomic_store_explicit(&asked, ticket, memory_order_release);
		if (ticket % RARE == 0 && !museum.fixed)
			schedule_shortcut(request, ticket);
		else
			bh_schedule_ticket(request, ticket);
		sem_wait(&answered);
	}
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "faulty", "fixed", NULL };
	static const struct museum_piece piece = { "notify-missing", "a path schedules and forgets to wake the loop",
						   variants, 100000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	sem_init(&answered, 0, 0);
	loop = bh_loop_new("server");
	museum_need(loop, "no loop");
	request = bh_new(loop, answer, NULL, "request");
	museum_need(request, "no bottom half");
	museum_thread(client, NULL);
	museum_watch(&museum, stuck);
	museum_run(&museum, loop, 0);
	return 0;
}
