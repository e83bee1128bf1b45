/* SPDX-License-Identifier: MIT */
/*
 * notify-stolen: the wakeup is written, and read by somebody else.
 *
 * A client asks a loop and waits for the answer. Each variant clears the
 * notifier at a moment when nobody looks at the bottom halves afterwards:
 *
 *   poller      a second thread that polls the loop while the loop's own
 *               thread sleeps clears it as if the message were for itself
 *   after-scan  the loop clears it with its other descriptors before it sleeps,
 *               when it has announced that it sleeps and looked already
 *   unrecorded  a thread that knows nothing of the loop reads the eventfd
 *
 * The kernel wakes the sleeper at the write, but it looks at the eventfd again
 * before it returns: who reads quickly enough puts it back to sleep.
 */
#include <sys/epoll.h>
#include <unistd.h>

#include "museum.h"
#include "protocol.h"

enum variant { POLLER, AFTER_SCAN, UNRECORDED, FIXED };

enum { SPINS = 400, SOON = 64, RARE = 16 };

static struct museum museum;
static struct bh_loop *loop;
static struct museum_service service;

static bool stuck(void)
{
	return museum_unanswered(&service);
}

static void read_notifier(struct bh_loop *l)
{
	uint64_t value;

	if (read(l->o.notifier_fd, &value, sizeof(value)) != sizeof(value))
		return; /* not written */
}

/* Leaves the notifier to whom it was written for. */
static void poll_only(struct bh_loop *l)
{
	bh_loop_poll(l, false);
}

/* Looks at the descriptors once more, and clears the notifier with them. */
static void clear_late(void)
{
	struct epoll_event event;

	epoll_wait(loop->o.poll_fd, &event, 1, 0);
	bh_notify_accept(loop);
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	for (uint64_t ticket = 1;; ticket++) {
		if (museum.variant != AFTER_SCAN && ticket % RARE == 0)
			museum_second_poll();
		museum_spin(museum_random(museum.variant == AFTER_SCAN ? SOON : SPINS));
		museum_ask(&service, ticket);
		museum_await(&service, SPINS);
	}
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "poller", "after-scan", "unrecorded", "fixed", NULL };
	static void (*const polls[])(struct bh_loop *) = { bh_notify_accept, NULL, read_notifier, poll_only };
	static const struct museum_piece piece = { "notify-stolen", "a wakeup is written, and read by somebody else",
						   variants, 100000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	loop = bh_loop_new("server");
	museum_need(loop, "no loop");
	museum_service_open(&service, &museum, loop);
	if (museum.variant == AFTER_SCAN)
		bh_fault_wait_begin = clear_late;
	else
		museum_second_poller(loop, polls[museum.variant]);
	museum_thread(client, NULL);
	museum_watch(&museum, stuck);
	museum_run(&museum, loop, 0);
	return 0;
}
