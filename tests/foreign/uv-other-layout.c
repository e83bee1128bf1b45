/* SPDX-License-Identifier: MIT */
/*
 * uv-other-layout: a library with libuv's names whose structures are not libuv 1.x's, as a 2.0
 * might be. To be built as libuv.so.1 for programs that use no more than this. Who takes the
 * offsets of 1.x for granted reads nonsense here.
 */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>

#include "foreign.h"

struct other_async {
	int pending;
	void (*callback)(uv_async_t *async);
	struct other_loop *loop;
};

struct other_loop {
	struct other_async *async;
	char reserved[256];
	uint64_t turns;
	int notifier, backend;
};

static struct other_loop only = { .notifier = -1 };

uv_loop_t *uv_default_loop(void)
{
	return (uv_loop_t *)&only;
}

int uv_backend_fd(const uv_loop_t *loop)
{
	return ((const struct other_loop *)loop)->backend;
}

uint64_t uv_now(const uv_loop_t *loop)
{
	return ((const struct other_loop *)loop)->turns;
}

int uv_async_init(uv_loop_t *loop, uv_async_t *async, uv_async_cb callback)
{
	struct other_loop *l = (struct other_loop *)loop;
	struct other_async *a = (struct other_async *)async;
	struct epoll_event event = { .events = EPOLLIN };

	*a = (struct other_async){ .loop = l, .callback = callback };
	l->async = a;
	l->notifier = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	l->backend = epoll_create1(EPOLL_CLOEXEC);
	return epoll_ctl(l->backend, EPOLL_CTL_ADD, l->notifier, &event);
}

int uv_async_send(uv_async_t *async)
{
	struct other_async *a = (struct other_async *)async;
	const uint64_t one = 1;

	if (__atomic_exchange_n(&a->pending, 1, __ATOMIC_SEQ_CST))
		return 0;
	return write(a->loop->notifier, &one, sizeof(one)) == sizeof(one) ? 0 : -1;
}

int uv_run(uv_loop_t *loop, uv_run_mode mode)
{
	struct other_loop *l = (struct other_loop *)loop;
	struct epoll_event event;
	uint64_t value;

	(void)mode;
	for (;; l->turns++) {
		if (epoll_wait(l->backend, &event, 1, -1) != 1 || read(l->notifier, &value, sizeof(value)) < 0)
			continue;
		if (__atomic_exchange_n(&l->async->pending, 0, __ATOMIC_SEQ_CST))
			l->async->callback((uv_async_t *)l->async);
	}
	return 0;
}
