/* SPDX-License-Identifier: MIT */
/*
 * uv-fd-unwatched: the notifier is no longer in the loop's epoll set.
 *
 * As after a second close() of a number that has been given out again, with a duplicate that
 * keeps the eventfd itself alive.
 */
#include <sys/epoll.h>
#include <uv.h>

#include "foreign.h"

static uv_async_t request;

static void answer(uv_async_t *async)
{
	(void)async;
	foreign_answer();
}

static void ask(bool faulty)
{
	if (faulty)
		foreign_need(epoll_ctl(uv_backend_fd(request.loop), EPOLL_CTL_DEL, foreign_eventfd(), NULL) == 0,
			     "not deleted");
	foreign_need(uv_async_send(&request) == 0, "not sent");
}

int main(int argc, char **argv)
{
	struct foreign f = { .name = "uv-fd-unwatched", .ask = ask };

	foreign_open(&f, argc, argv);
	foreign_need(uv_async_init(uv_default_loop(), &request, answer) == 0, "no async");
	foreign_serve(&f);
	return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
