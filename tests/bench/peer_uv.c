/* SPDX-License-Identifier: MIT */
/* libuv: a handle is a uv_async_t. */
#include <stdlib.h>
#include <uv.h>

#include "peer.h"

struct handle {
	uv_async_t async;
	peer_cb *cb;
	void *arg;
};

struct loop {
	uv_loop_t uv;
	uv_async_t stop;
};

static void on_stop(uv_async_t *async)
{
	uv_stop(async->loop);
}

static void *loop_open(void)
{
	struct loop *loop = malloc(sizeof(*loop));

	if (!loop || uv_loop_init(&loop->uv) != 0 || uv_async_init(&loop->uv, &loop->stop, on_stop) != 0)
		return NULL;
	loop->stop.data = NULL;
	return loop;
}

static void on_async(uv_async_t *async)
{
	struct handle *h = async->data;

	h->cb(h->arg);
}

static void *handle(void *loop, peer_cb *cb, void *arg)
{
	struct handle *h = malloc(sizeof(*h));

	if (!h || uv_async_init(&((struct loop *)loop)->uv, &h->async, on_async) != 0)
		return NULL;
	h->async.data = h;
	h->cb = cb;
	h->arg = arg;
	return h;
}

static void post(void *h)
{
	uv_async_send(&((struct handle *)h)->async);
}

static void run(void *loop)
{
	uv_run(&((struct loop *)loop)->uv, UV_RUN_DEFAULT);
}

static void stop(void *loop)
{
	uv_async_send(&((struct loop *)loop)->stop);
}

static void on_close(uv_handle_t *h)
{
	free(h->data);
}

static void close_handle(uv_handle_t *h, void *unused)
{
	(void)unused;
	uv_close(h, on_close);
}

static void loop_close(void *arg)
{
	struct loop *loop = arg;

	uv_walk(&loop->uv, close_handle, NULL);
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	uv_loop_close(&loop->uv);
	free(loop);
}

const struct peer peer_uv = { "uv", "libuv uv_async_send", true, loop_open, handle, post, run, stop, loop_close };
