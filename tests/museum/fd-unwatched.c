/* SPDX-License-Identifier: MIT */
/*
 * fd-unwatched: the wakeup is written, but the sleeper does not watch.
 *
 *   removed   a connection was closed and its record forgotten. The number of
 *             its descriptor was free again and became the loop's notifier.
 *             When the record is found at last, "its" descriptor is taken out
 *             of the loop's epoll set.
 *   disarmed  the notifier is watched with EPOLLONESHOT, and armed again after
 *             each wakeup; one path comes back without that.
 */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "museum.h"
#include "protocol.h"

enum variant { REMOVED, DISARMED, FIXED };

enum { RARE = 64 };

static struct museum museum;
static struct bh_loop *loop;
static struct museum_service service;
static int connection = -1; /* descriptor in the record, -1 for none */

static bool stuck(void)
{
	return museum_unanswered(&service);
}

/* Before there is a loop. */
static void connect_once(void)
{
	connection = eventfd(0, EFD_CLOEXEC);
	museum_need(connection >= 0, "no connection");
	close(connection);
	if (museum.variant != REMOVED)
		connection = -1;
}

static void drop_old_connections(void)
{
	if (connection >= 0)
		epoll_ctl(loop->o.poll_fd, EPOLL_CTL_DEL, connection, NULL);
	connection = -1;
}

static void arm(void)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.ptr = &loop->o.notifier_fd };

	epoll_ctl(loop->o.poll_fd, EPOLL_CTL_MOD, loop->o.notifier_fd, &event);
}

static void arm_again(void)
{
	static unsigned wakeups;

	if (++wakeups % RARE != 0 || museum.fixed)
		arm();
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	for (uint64_t ticket = 1;; ticket++) {
		if (ticket % RARE == 0)
			drop_old_connections();
		museum_ask(&service, ticket);
		museum_await(&service, 0);
	}
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "removed", "disarmed", "fixed", NULL };
	static const struct museum_piece piece = { "fd-unwatched",
						   "a wakeup is written where the sleeper does not look", variants,
						   100000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	connect_once();
	loop = bh_loop_new("server");
	museum_need(loop, "no loop");
	museum_service_open(&service, &museum, loop);
	if (museum.variant != REMOVED) {
		arm();
		bh_fault_wait_end = arm_again;
	}
	museum_thread(client, NULL);
	museum_watch(&museum, stuck);
	museum_run(&museum, loop, 0);
	return 0;
}
