/* SPDX-License-Identifier: MIT */
/* File descriptors: level-triggered handlers in the loop's epoll set. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "loop.h"

static int control(struct bh_fd *handler, int op, unsigned events)
{
	/* On Linux the bits of poll(2) and of epoll_ctl(2) are the same. */
	struct epoll_event event = { .events = events, .data.ptr = handler };

	return epoll_ctl(handler->loop->o.poll_fd, op, handler->fd, &event) == 0 ? 0 : -errno;
}

struct bh_fd *bh_fd_new(struct bh_loop *loop, int fd, unsigned events, bh_fd_cb *cb, void *opaque)
{
	struct bh_fd *handler = calloc(1, sizeof(*handler));

	if (!handler)
		return NULL;
	handler->loop = loop;
	handler->fd = fd;
	handler->cb = cb;
	handler->opaque = opaque;
	atomic_store_explicit(&handler->live, true, memory_order_release);

	pthread_mutex_lock(&loop->lock);
	int error = control(handler, EPOLL_CTL_ADD, events);
	if (error == 0) {
		LIST_INSERT_HEAD(&loop->fds, handler, link);
		atomic_fetch_add_explicit(&loop->n_fds, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&loop->lock);
	if (error == 0)
		return handler;
	free(handler);
	errno = -error;
	return NULL;
}

int bh_fd_set(struct bh_fd *handler, unsigned events)
{
	return control(handler, EPOLL_CTL_MOD, events);
}

void bh_fd_delete(struct bh_fd *handler)
{
	if (!handler)
		return;
	struct bh_loop *loop = handler->loop;

	atomic_store_explicit(&handler->live, false, memory_order_relaxed);
	control(handler, EPOLL_CTL_DEL, 0);
	pthread_mutex_lock(&loop->lock);
	LIST_REMOVE(handler, link);
	LIST_INSERT_HEAD(&loop->dead_fds, handler, link);
	atomic_store_explicit(&loop->reap, true, memory_order_relaxed);
	atomic_fetch_sub_explicit(&loop->n_fds, 1, memory_order_relaxed);
	pthread_mutex_unlock(&loop->lock);
}

/* Acquires what bh_fd_new() released: the pointer came through the kernel,
 * which the memory model of C does not know. */
bool bh_fd_live(const struct bh_fd *handler)
{
	return atomic_load_explicit(&handler->live, memory_order_acquire);
}

bool bh_fd_dispatch(struct bh_loop *loop, struct bh_fd *handler, unsigned events)
{
	if (!bh_fd_live(handler))
		return false;
	struct bh_frame outer = bh_enter_callback(loop, BHP_IN_FD, handler, (const void *)handler->cb, bhp_clock());
	handler->cb(handler->fd, events, handler->opaque);
	bh_leave_callback(loop, &outer);
	return true;
}

void bh_fds_free(struct bh_loop *loop, bool live)
{
	struct bh_fd *handler;

	while ((handler = LIST_FIRST(&loop->dead_fds)) || (live && (handler = LIST_FIRST(&loop->fds)))) {
		LIST_REMOVE(handler, link);
		free(handler);
	}
}
