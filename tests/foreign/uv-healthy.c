/* SPDX-License-Identifier: MIT */
/*
 * uv-healthy: nothing is wrong.
 *
 * Two loops in two threads pass every request on; one has a timer that ticks, also when all
 * rounds are done. No variant goes wrong.
 */
#include <uv.h>

#include "foreign.h"

enum { TICK_MS = 20 };

static uv_async_t front, back, done;
static uv_loop_t back_loop;

static void pass_on(uv_async_t *async)
{
	foreign_need(uv_async_send(async == &front ? &back : &done) == 0, "not sent");
}

static void answer(uv_async_t *async)
{
	(void)async;
	foreign_answer();
}

static void tick(uv_timer_t *timer)
{
	(void)timer;
}

static void *run_back(void *arg)
{
	uv_run(arg, UV_RUN_DEFAULT);
	return NULL;
}

static void ask(bool faulty)
{
	(void)faulty;
	foreign_need(uv_async_send(&front) == 0, "not sent");
}

int main(int argc, char **argv)
{
	struct foreign f = { .name = "uv-healthy", .ask = ask };
	uv_loop_t *loop = uv_default_loop();
	uv_timer_t timer;

	foreign_open(&f, argc, argv);
	foreign_need(uv_loop_init(&back_loop) == 0 && uv_async_init(loop, &front, pass_on) == 0 &&
			     uv_async_init(loop, &done, answer) == 0 &&
			     uv_async_init(&back_loop, &back, pass_on) == 0 && uv_timer_init(loop, &timer) == 0,
		     "no loop");
	foreign_need(uv_timer_start(&timer, tick, TICK_MS, TICK_MS) == 0, "no timer");
	foreign_thread("back", run_back, &back_loop);
	foreign_serve(&f);
	return uv_run(loop, UV_RUN_DEFAULT);
}
