/* SPDX-License-Identifier: MIT */
/* libevent: a handle is an event without a descriptor, made active by hand. */
#include <event2/event.h>
#include <event2/thread.h>
#include <stdlib.h>

#include "peer.h"

enum { HANDLES_MAX = 256 };

struct loop {
	struct event_base *base;
	struct handle *handle[HANDLES_MAX];
	unsigned n;
};

struct handle {
	struct event *event;
	peer_cb *cb;
	void *arg;
};

static void *loop_open(void)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	evthread_use_pthreads();
	if (!loop || !(loop->base = event_base_new()) || evthread_make_base_notifiable(loop->base) != 0)
		return NULL;
	return loop;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct handle *h = arg;

	(void)fd, (void)what;
	h->cb(h->arg);
}

static void *handle(void *arg, peer_cb *cb, void *cb_arg)
{
	struct loop *loop = arg;
	struct handle *h = malloc(sizeof(*h));

	if (!h || loop->n == HANDLES_MAX || !(h->event = event_new(loop->base, -1, 0, on_event, h)))
		return NULL;
	h->cb = cb;
	h->arg = cb_arg;
	loop->handle[loop->n++] = h;
	return h;
}

static void post(void *h)
{
	event_active(((struct handle *)h)->event, EV_WRITE, 1);
}

static void run(void *loop)
{
	event_base_loop(((struct loop *)loop)->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

static void stop(void *loop)
{
	event_base_loopbreak(((struct loop *)loop)->base);
}

static void loop_close(void *arg)
{
	struct loop *loop = arg;

	for (unsigned i = 0; i < loop->n; i++) {
		event_free(loop->handle[i]->event);
		free(loop->handle[i]);
	}
	event_base_free(loop->base);
	free(loop);
}

const struct peer peer_event = {
	"event", "libevent event_active", true, loop_open, handle, post, run, stop, loop_close
};
