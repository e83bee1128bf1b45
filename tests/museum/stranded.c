/* SPDX-License-Identifier: MIT */
/*
 * stranded: a bottom half waits on a loop that nobody polls any more.
 *
 * A device has a bottom half on each of two loops and answers on the one that
 * it is attached to; an I/O thread polls that loop. Now and then a client looks
 * up where that is, has the device moved to the other loop, and prepares a
 * request. What it schedules on the old loop after the last turn of that stays
 * there.
 *
 *   detached  the I/O thread goes on with the other loop
 *   exited    it exits, and a new thread polls the other loop
 *   fixed     the device does not move between look-up and request, and what was
 *             asked is answered before its thread leaves the loop
 *
 * Answers go to the main loop, which passes them on to the client.
 */
#include "museum.h"
#include "protocol.h"

enum variant { DETACHED, EXITED, FIXED };

enum { RARE = 16, SPINS = 1000 };

/* The device's half of a loop. */
struct side {
	struct bh_loop *loop;
	struct bh *request, *move;
};

static struct museum museum;
static struct museum_service main_service;
static struct side sides[2];
static _Atomic unsigned attached; /* index into sides */
static pthread_mutex_t moving = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t asked;

static bool stuck(void)
{
	const struct side *old = &sides[!atomic_load(&attached)];

	return atomic_load(&old->request->o.flags) & BHP_FLAG_SCHEDULED &&
	       atomic_load(&old->loop->o.where) == BHP_OUTSIDE && museum_all_asleep();
}

static void answer(void *opaque)
{
	const struct side *side = opaque;
	uint64_t ticket = atomic_load_explicit(&asked, memory_order_acquire);

	museum_consume(&museum, side->request, ticket);
	museum_ask(&main_service, ticket);
}

static void move(void *opaque)
{
	const struct side *side = opaque;

	if (museum.fixed)
		pthread_mutex_lock(&moving);
	atomic_store(&attached, side == &sides[0]);
	if (museum.fixed)
		pthread_mutex_unlock(&moving);
}

static void *io_thread(void *arg)
{
	pthread_setname_np(pthread_self(), "iothread");
	for (struct side *side = arg;; side = &sides[side == &sides[0]]) {
		while (&sides[atomic_load(&attached)] == side)
			bh_loop_poll(side->loop, true);
		while (museum.fixed && bh_loop_poll(side->loop, false) > 0)
			;
		if (museum.variant == EXITED) {
			museum_thread(io_thread, &sides[side == &sides[0]]);
			break;
		}
	}
	return NULL;
}

static void ask_device(uint64_t ticket)
{
	if (museum.fixed)
		pthread_mutex_lock(&moving);
	const struct side *side = &sides[atomic_load(&attached)];

	if (ticket % RARE == 0) {
		bh_schedule(side->move);
		museum_spin(museum_random(SPINS)); /* preparing the request */
	}
	atomic_store_explicit(&asked, ticket, memory_order_release);
	bh_schedule_ticket(side->request, museum_ticket(&museum, ticket));
	if (museum.fixed)
		pthread_mutex_unlock(&moving);
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	for (uint64_t ticket = 1;; ticket++) {
		ask_device(ticket);
		museum_await(&main_service, 0);
	}
	return arg;
}

static void open_side(struct side *side, const char *name)
{
	side->loop = bh_loop_new(name);
	museum_need(side->loop, "no loop");
	side->request = bh_new(side->loop, answer, side, "device");
	side->move = bh_new(side->loop, move, side, "move");
	museum_need(side->request && side->move, "no bottom half");
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "detached", "exited", "fixed", NULL };
	static const struct museum_piece piece = { "stranded", "a bottom half is left on a loop that nobody polls",
						   variants, 50000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	struct bh_loop *main_loop = bh_loop_new("main");
	museum_need(main_loop, "no loop");
	museum_service_open(&main_service, &museum, main_loop);
	open_side(&sides[0], "first");
	open_side(&sides[1], "second");
	museum_thread(io_thread, &sides[0]);
	museum_thread(client, NULL);
	museum_watch(&museum, stuck);
	museum_run(&museum, main_loop, 0);
	return 0;
}
