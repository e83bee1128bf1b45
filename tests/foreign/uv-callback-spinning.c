/* SPDX-License-Identifier: MIT */
/* uv-callback-spinning: a callback waits for a flag without sleeping, and nobody sets it. */
#include <uv.h>

#include "foreign.h"

static uv_async_t request;
static volatile bool spinning;

static void answer(uv_async_t *async)
{
	(void)async;
	while (foreign_goes_wrong())
		spinning = true;
	foreign_answer();
}

static void ask(bool faulty)
{
	(void)faulty;
	foreign_need(uv_async_send(&request) == 0, "not sent");
}

static bool stuck(void)
{
	return spinning;
}

int main(int argc, char **argv)
{
	struct foreign f = { .name = "uv-callback-spinning", .ask = ask, .stuck = stuck };

	foreign_open(&f, argc, argv);
	foreign_need(uv_async_init(uv_default_loop(), &request, answer) == 0, "no async");
	foreign_serve(&f);
	return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
