/* SPDX-License-Identifier: MIT */
/*
 * libevent-notify-missing: event_active() from another thread, and libevent knows of no threads.
 *
 * Without evthread_use_pthreads() before event_base_new() a base has no notifier. The event
 * gets into the active queue, and epoll_wait() goes on sleeping. The documentation asks for that
 * call in every program with threads; without it this works whenever the loop is awake.
 */
#include <event2/event.h>
#include <event2/thread.h>
#include <unistd.h>

#include "foreign.h"

static struct event *request;
static pid_t loop_tid;

static void answer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
	foreign_answer();
}

static void ask(bool faulty)
{
	(void)faulty;
	/* Otherwise two threads may change the queue at a time, and nobody would know what they left. */
	foreign_wait_asleep(loop_tid);
	event_active(request, EV_READ, 0);
}

int main(int argc, char **argv)
{
	struct foreign f = { .name = "libevent-notify-missing", .ask = ask };

	foreign_open(&f, argc, argv);
	if (f.fixed)
		foreign_need(evthread_use_pthreads() == 0, "no threads");
	struct event_base *base = event_base_new();
	foreign_need(base, "no base");
	request = event_new(base, -1, EV_PERSIST, answer, NULL);
	foreign_need(request, "no event");
	loop_tid = gettid();
	foreign_serve(&f);
	return event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY) == 0 ? 0 : 1;
}
