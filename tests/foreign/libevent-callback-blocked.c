/* SPDX-License-Identifier: MIT */
/* libevent-callback-blocked: a callback waits for a lock whose holder waits for the loop. */
#include <event2/event.h>
#include <event2/thread.h>

#include "foreign.h"

static struct event *request;

static void answer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
	foreign_answer();
}

static void ask(bool faulty)
{
	(void)faulty;
	event_active(request, EV_READ, 0);
}

int main(int argc, char **argv)
{
	struct foreign f = { .name = "libevent-callback-blocked", .ask = ask, .locks = true };

	foreign_open(&f, argc, argv);
	foreign_need(evthread_use_pthreads() == 0, "no threads");
	struct event_base *base = event_base_new();
	foreign_need(base, "no base");
	request = event_new(base, -1, EV_PERSIST, answer, NULL);
	foreign_need(request, "no event");
	foreign_serve(&f);
	return event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY) == 0 ? 0 : 1;
}
