/* SPDX-License-Identifier: MIT */
/*
 * uv-stranded: work for a loop whose thread has gone.
 *
 * The loop runs in a thread of a module that is shut down by uv_stop(). Some other part still
 * has the handle, sends, and waits for an answer.
 */
#include <pthread.h>
#include <unistd.h>
#include <uv.h>

#include "foreign.h"

static uv_async_t request, leave;
static pthread_t loop_thread;

static void answer(uv_async_t *async)
{
	(void)async;
	foreign_answer();
}

static void go(uv_async_t *async)
{
	uv_stop(async->loop);
}

static void *run(void *arg)
{
	uv_run(arg, UV_RUN_DEFAULT);
	return NULL;
}

static void ask(bool faulty)
{
	if (faulty) {
		foreign_need(uv_async_send(&leave) == 0, "not sent");
		pthread_join(loop_thread, NULL);
	}
	foreign_need(uv_async_send(&request) == 0, "not sent");
}

int main(int argc, char **argv)
{
	struct foreign f = { .name = "uv-stranded", .ask = ask };
	uv_loop_t *loop = uv_default_loop();

	foreign_open(&f, argc, argv);
	foreign_need(uv_async_init(loop, &request, answer) == 0 && uv_async_init(loop, &leave, go) == 0, "no async");
	foreign_need(pthread_create(&loop_thread, NULL, run, loop) == 0, "no thread");
	foreign_serve(&f);
	for (;;)
		pause();
	return 0;
}
