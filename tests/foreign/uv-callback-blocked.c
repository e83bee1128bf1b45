/* SPDX-License-Identifier: MIT */
/* uv-callback-blocked: a callback waits for a lock whose holder waits for the loop. */
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
	(void)faulty;
	foreign_need(uv_async_send(&request) == 0, "not sent");
}

int main(int argc, char **argv)
{
	struct foreign f = { .name = "uv-callback-blocked", .ask = ask, .locks = true };

	foreign_open(&f, argc, argv);
	foreign_need(uv_async_init(uv_default_loop(), &request, answer) == 0, "no async");
	foreign_serve(&f);
	return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
