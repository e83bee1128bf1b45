/* SPDX-License-Identifier: MIT */
/*
 * uv-notify-stolen: the wakeup is written, and read by somebody who is not the loop.
 *
 * As happens when a descriptor is closed twice: its number is given out again, and its former
 * owner reads from what is the loop's eventfd now.
 */
#include <unistd.h>
#include <uv.h>

#include "foreign.h"

static uv_async_t request;
static int notifier = -1;

static void answer(uv_async_t *async)
{
	(void)async;
	foreign_answer();
}

static void ask(bool faulty)
{
	uint64_t value;

	foreign_need(uv_async_send(&request) == 0, "not sent");
	if (faulty && read(notifier, &value, sizeof(value)) != sizeof(value))
		return; /* the loop was quicker */
}

int main(int argc, char **argv)
{
	struct foreign f = { .name = "uv-notify-stolen", .ask = ask };

	foreign_open(&f, argc, argv);
	foreign_need(uv_async_init(uv_default_loop(), &request, answer) == 0, "no async");
	notifier = foreign_eventfd();
	foreign_serve(&f);
	return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
