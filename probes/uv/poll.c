/* SPDX-License-Identifier: MIT */
/* The turns of a loop: uv_run(), its waits, and its notifier being read. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "recorder-uv.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT int uv_run(uv_loop_t *loop, int mode);

enum { DEPTH_MAX = 15, NS_PER_MS = 1000000 };

static void set_where(struct uvr_loop *l, enum bhp_where where)
{
	atomic_store_explicit(&l->o.where, where, memory_order_relaxed);
}

static uint64_t iteration(const struct uvr_loop *l)
{
	return atomic_load_explicit(&l->o.iteration, memory_order_relaxed);
}

/* --- a turn: from one wait to the next ------------------------------------------------ */

static void turn_end(struct uvr_loop *l)
{
	if (l->announced)
		bhp_emit(poll_end, .loop = l, .progress = l->progress, .depth = l->depth, .iteration = iteration(l));
	l->announced = l->progress = false;
}

static void turn_begin(struct uvr_loop *l, bool blocking)
{
	turn_end(l);
	l->blocking = blocking;
	atomic_store_explicit(&l->o.iteration, iteration(l) + 1, memory_order_relaxed);
}

/* Turns that find nothing to do leave no trace. */
static void announce(struct uvr_loop *l)
{
	if (l->announced)
		return;
	l->announced = true;
	l->stamp = bhp_clock();
	bhp_emit_at(poll_begin, l->stamp, .loop = l, .blocking = l->blocking, .depth = l->depth,
		    .iteration = iteration(l));
}

/* --- waiting ---------------------------------------------------------------------------- */

static void wait_begin(struct uvr_loop *l, int timeout)
{
	const int64_t ns = timeout < 0 ? -1 : (int64_t)timeout * NS_PER_MS;

	turn_begin(l, timeout != 0);
	if (timeout == 0)
		return;
	announce(l);
	atomic_store_explicit(&l->o.current_since, l->stamp, memory_order_relaxed);
	atomic_store_explicit(&l->o.wait_timeout_ns, ns, memory_order_relaxed);
	/* For observers: every send that sets the flag writes the notifier. */
	atomic_store_explicit(&l->o.notify_me, BHP_LOOP_SLEEPING, memory_order_relaxed);
	set_where(l, BHP_WAIT);
	bhp_emit(wait_begin, .loop = l, .timeout_ns = ns);
}

static void wait_end(struct uvr_loop *l, const struct epoll_event *events, int n, int timeout, int error)
{
	unsigned woke = error == EINTR ? BHP_WOKE_SIGNAL : 0;
	uint32_t ready = 0;
	int first = -1;

	if (timeout == 0 && n <= 0)
		return;
	announce(l);
	l->progress |= n > 0;
	if (timeout == 0)
		return;
	for (int i = 0; i < n; i++) {
		/* In all of libuv 1.x. */
		int fd;
		memcpy(&fd, &events[i].data.fd, sizeof(fd));
		if (fd == l->o.notifier_fd) {
			woke |= BHP_WOKE_NOTIFIER;
			continue;
		}
		woke |= BHP_WOKE_FD;
		first = ready++ ? first : fd;
	}
	atomic_store_explicit(&l->o.notify_me, BHP_LOOP_AWAKE, memory_order_relaxed);
	set_where(l, BHP_DISPATCH);
	l->stamp = bhp_clock();
	bhp_emit_at(wait_end, l->stamp, .loop = l, .woke = (uint8_t)(woke ? woke : BHP_WOKE_TIMEOUT), .fd = first,
		    .ready = ready);
}

/* The loop that this thread polls, when EPFD is what it waits with. */
static struct uvr_loop *waiting(int epfd)
{
	struct uvr_loop *l = uvr_thread.polling;

	return l && epfd == l->o.poll_fd ? l : NULL;
}

static int waited(struct uvr_loop *l, const struct epoll_event *events, int n, int timeout)
{
	const int saved = errno;

	wait_end(l, events, n, timeout, n < 0 ? saved : 0);
	errno = saved;
	return n;
}

EXPORT int epoll_wait(int epfd, struct epoll_event *events, int max, int timeout)
{
	static int (*next)(int epfd, struct epoll_event *events, int max, int timeout);
	struct uvr_loop *l = waiting(epfd);

	if (__builtin_expect(!next, 0))
		next = (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
	if (!l)
		return next(epfd, events, max, timeout);
	wait_begin(l, timeout);
	return waited(l, events, next(epfd, events, max, timeout), timeout);
}

EXPORT int epoll_pwait(int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask)
{
	static int (*next)(int epfd, struct epoll_event *events, int max, int timeout, const sigset_t *mask);
	struct uvr_loop *l = waiting(epfd);

	if (__builtin_expect(!next, 0))
		next = (int (*)(int, struct epoll_event *, int, int, const sigset_t *))dlsym(RTLD_NEXT, "epoll_pwait");
	if (!l)
		return next(epfd, events, max, timeout, mask);
	wait_begin(l, timeout);
	return waited(l, events, next(epfd, events, max, timeout, mask), timeout);
}

/* --- the notifier ------------------------------------------------------------------------- */

static void accepted(struct uvr_loop *l, const void *data, ssize_t n)
{
	const int saved = errno;
	const bool poller = uvr_thread.polling == l;
	const uint64_t now = bhp_clock();
	uint64_t value = 0;

	if (n == sizeof(value))
		memcpy(&value, data, sizeof(value));
	if (poller)
		l->stamp = now;
	bhp_emit_at(accept, now, .loop = l, .by = poller ? BHP_BY_POLL : BHP_BY_OTHER, .value = value);
	errno = saved;
}

EXPORT ssize_t read(int fd, void *data, size_t size)
{
	static ssize_t (*next)(int fd, void *data, size_t size);

	if (__builtin_expect(!next, 0))
		next = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
	const ssize_t n = next(fd, data, size);
	struct uvr_loop *l =
		fd >= 0 && fd < UVR_NOTIFIERS ? atomic_load_explicit(&uvr_notifier[fd], memory_order_acquire) : NULL;
	if (__builtin_expect(l != NULL, 0))
		accepted(l, data, n);
	return n;
}

/* --- uv_run --------------------------------------------------------------------------------- */

static int run(struct uvr_loop *l, uv_loop_t *loop, int mode)
{
	struct uvr_loop *outer = uvr_thread.polling;
	const uint32_t depth = atomic_load_explicit(&l->o.depth, memory_order_relaxed) + 1;
	const uint32_t where = atomic_load_explicit(&l->o.where, memory_order_relaxed);

	atomic_store_explicit(&l->o.owner_tid, uvr_tid(), memory_order_relaxed);
	atomic_store_explicit(&l->o.depth, depth, memory_order_relaxed);
	l->depth = (uint8_t)(depth < DEPTH_MAX ? depth : DEPTH_MAX);
	set_where(l, BHP_DISPATCH);
	uvr_thread.polling = l;
	const int rc = uvr_real.run(loop, mode);
	uvr_thread.polling = outer;
	turn_end(l);
	l->depth = (uint8_t)(l->depth - 1);
	atomic_store_explicit(&l->o.depth, depth - 1, memory_order_relaxed);
	set_where(l, depth > 1 ? (enum bhp_where)where : BHP_OUTSIDE);
	return rc;
}

int uv_run(uv_loop_t *loop, int mode)
{
	UVR_NEED(run);
	struct uvr_loop *l = uvr_find_loop(loop);
	return l ? run(l, loop, mode) : uvr_real.run(loop, mode);
}
