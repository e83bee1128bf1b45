/* SPDX-License-Identifier: MIT */
/*
 * notify-missing: one path schedules and forgets to wake the loop.
 *
 * A client asks a loop and waits for the answer. Now and then it answers itself
 * from a cache and only wants the loop to know; that path sets the flag and
 * queues the bottom half, and leaves it at that. As long as the loop happens to
 * be awake nobody notices.
 */
#include <stddef.h>

#include "museum.h"
#include "protocol.h"

enum { RARE = 64 };

static struct museum museum;
static struct bh_loop *loop;
static struct museum_service service;

static bool stuck(void)
{
	return museum_unanswered(&service);
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	for (uint64_t ticket = 1;; ticket++) {
		if (ticket % RARE == 0 && !museum.fixed)
			museum_ask_silently(&service, ticket);
		else
			museum_ask(&service, ticket);
		museum_await(&service, 0);
	}
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "faulty", "fixed", NULL };
	static const struct museum_piece piece = { "notify-missing", "a path schedules and forgets to wake the loop",
						   variants, 100000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	loop = bh_loop_new("server");
	museum_need(loop, "no loop");
	museum_service_open(&service, &museum, loop);
	museum_thread(client, NULL);
	museum_watch(&museum, stuck);
	museum_run(&museum, loop, 0);
	return 0;
}
