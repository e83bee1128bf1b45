/* SPDX-License-Identifier: MIT */
/* The loop: one turn, sleeping and waking, being embedded in another loop. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "protocol.h"

enum { EVENTS_PER_TURN = 64, DEPTH_MAX = 15 };

/* One turn of a loop, as it goes. */
struct turn {
	struct epoll_event event[EVENTS_PER_TURN];
	int n_events;
	uint64_t iteration;
	uint8_t depth;
	bool blocking;
	bool announced; /* poll_begin was emitted */
};

static struct bhp_pool loop_pool;
static __thread uint32_t cached_tid;

static void forget_tid(void)
{
	cached_tid = 0;
}

__attribute__((constructor)) static void start(void)
{
	pthread_atfork(NULL, NULL, forget_tid);
}

uint32_t bh_tid(void)
{
	if (__builtin_expect(!cached_tid, 0))
		cached_tid = (uint32_t)syscall(SYS_gettid);
	return cached_tid;
}

uint64_t bh_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- life ------------------------------------------------------------------------ */

static int loop_open(struct bh_loop *loop)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &loop->o.notifier_fd };

	loop->o.notifier_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->o.notifier_fd < 0)
		return -errno;
	loop->o.poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->o.poll_fd >= 0 && epoll_ctl(loop->o.poll_fd, EPOLL_CTL_ADD, loop->o.notifier_fd, &event) == 0)
		return 0;
	int error = -errno;
	if (loop->o.poll_fd >= 0)
		close(loop->o.poll_fd);
	close(loop->o.notifier_fd);
	return error;
}

struct bh_loop *bh_loop_new(const char *name)
{
	uint64_t serial;
	struct bh_loop *loop = bhp_pool_get(&loop_pool, BHP_POOL_LOOP,
					    (sizeof(*loop) + BHP_CACHE_LINE - 1) & -BHP_CACHE_LINE, &serial);

	if (!loop)
		return NULL;
	int error = loop_open(loop);
	if (error) {
		bhp_pool_put(&loop_pool, loop);
		errno = -error;
		return NULL;
	}
	loop->o.serial = serial;
	loop->o.protocol = BH_PROTOCOL;
	loop->timer_fd = -1;
	atomic_store_explicit(&loop->next_deadline_ns, UINT64_MAX, memory_order_relaxed);
	pthread_mutex_init(&loop->lock, NULL);
	strncpy(loop->o.name, name ? name : "", sizeof(loop->o.name) - 1);
	atomic_store_explicit(&loop->o.state, BHP_LIVE, memory_order_release);
	bhp_emit(loop_new, .loop = loop, .protocol = (uint8_t)loop->o.protocol, .notifier_fd = loop->o.notifier_fd,
		 .name = loop->o.name);
	return loop;
}

int bh_loop_free(struct bh_loop *loop)
{
	if (atomic_load_explicit(&loop->o.depth, memory_order_relaxed) > 0)
		return -EBUSY;
	atomic_store_explicit(&loop->o.state, BHP_DYING, memory_order_relaxed);
	bh_free_all(loop);
	bh_fds_free(loop, true);
	bh_timers_free(loop, true);
	bhp_emit(loop_free, .loop = loop);
	if (loop->timer_fd >= 0)
		close(loop->timer_fd);
	close(loop->o.poll_fd);
	close(loop->o.notifier_fd);
	pthread_mutex_destroy(&loop->lock);
	bhp_pool_put(&loop_pool, loop);
	return 0;
}

/* --- what an observer sees --------------------------------------------------------- */

static void set_where(struct bh_loop *loop, enum bhp_where where)
{
	atomic_store_explicit(&loop->o.where, where, memory_order_relaxed);
}

static void set_frame(struct bh_loop *loop, const struct bh_frame *frame)
{
	atomic_store_explicit(&loop->o.current, frame->current, memory_order_relaxed);
	atomic_store_explicit(&loop->o.current_callback, frame->callback, memory_order_relaxed);
	atomic_store_explicit(&loop->o.current_since, frame->since, memory_order_relaxed);
	set_where(loop, frame->where);
}

struct bh_frame bh_enter_callback(struct bh_loop *loop, enum bhp_where where, const void *object, const void *callback,
				  uint64_t now)
{
	struct bh_frame outer = {
		.where = atomic_load_explicit(&loop->o.where, memory_order_relaxed),
		.current = atomic_load_explicit(&loop->o.current, memory_order_relaxed),
		.callback = atomic_load_explicit(&loop->o.current_callback, memory_order_relaxed),
		.since = atomic_load_explicit(&loop->o.current_since, memory_order_relaxed),
	};

	set_frame(loop, &(struct bh_frame){ where, object, callback, now });
	return outer;
}

void bh_leave_callback(struct bh_loop *loop, const struct bh_frame *outer)
{
	set_frame(loop, outer);
}

/* Turns that find nothing to do leave no trace: a busy-polling program would
 * fill the ring with them. */
static void announce(struct bh_loop *loop, struct turn *turn)
{
	if (turn->announced)
		return;
	turn->announced = true;
	bhp_emit_at(poll_begin, bh_stamp(loop), .loop = loop, .blocking = turn->blocking, .depth = turn->depth,
		    .iteration = turn->iteration);
}

/* --- sleeping ------------------------------------------------------------------------ */

static int64_t earlier(int64_t a, int64_t b)
{
	return a < 0 ? b : b < 0 || a < b ? a : b;
}

/* How long the loop may sleep: 0 when something is pending, -1 for ever. The
 * loads of what other threads write are seq_cst: after bh_sleep_begin() they
 * are the second access of pair (2). */
static int64_t sleep_ns(struct bh_loop *loop)
{
	if (atomic_load_explicit(&loop->wake, memory_order_seq_cst))
		return 0;
	return earlier(bh_pending_timeout_ns(loop), bh_timers_timeout_ns(loop));
}

static int wait_ns(int epfd, struct epoll_event *events, int64_t timeout_ns)
{
	struct timespec t = { timeout_ns / 1000000000, timeout_ns % 1000000000 };

	/* The two common cases without the younger system call (Linux 5.11). */
	if (timeout_ns <= 0)
		return epoll_wait(epfd, events, EVENTS_PER_TURN, timeout_ns < 0 ? -1 : 0);
	int n = epoll_pwait2(epfd, events, EVENTS_PER_TURN, &t, NULL);
	if (n >= 0 || errno != ENOSYS)
		return n;
	int64_t ms = (timeout_ns + 999999) / 1000000;
	return epoll_wait(epfd, events, EVENTS_PER_TURN, ms > INT_MAX ? INT_MAX : (int)ms);
}

/* Makes the timer's descriptor readable after so long, with -1 never. */
static void set_timer_fd(struct bh_loop *loop, int64_t timeout_ns)
{
	struct itimerspec t = { 0 };

	if (timeout_ns > 0)
		t.it_value = (struct timespec){ timeout_ns / 1000000000, timeout_ns % 1000000000 };
	timerfd_settime(loop->timer_fd, 0, &t, NULL);
}

/* Takes the loop's own descriptors out of the turn. The timer's is cleared at
 * once: readable, it would keep nested polls from sleeping. arm_embedder() sets
 * it again at the end of the outermost turn. */
static void take_own_events(struct bh_loop *loop, struct turn *turn)
{
	int kept = 0;

	for (int i = 0; i < turn->n_events; i++) {
		const void *ptr = turn->event[i].data.ptr;
		if (ptr == &loop->o.notifier_fd)
			loop->accept_due = true;
		else if (ptr == &loop->timer_fd)
			set_timer_fd(loop, -1);
		else
			turn->event[kept++] = turn->event[i];
	}
	turn->n_events = kept;
}

static int first_fd(const struct turn *turn)
{
	const struct bh_fd *first = turn->n_events ? turn->event[0].data.ptr : NULL;

	return first && bh_fd_live(first) ? first->fd : -1;
}

static void woken(struct bh_loop *loop, struct turn *turn, int error)
{
	unsigned woke = (loop->accept_due ? BHP_WOKE_NOTIFIER : 0) | (turn->n_events ? BHP_WOKE_FD : 0) |
			(error == EINTR ? BHP_WOKE_SIGNAL : 0);

	bhp_emit_at(wait_end, bh_stamp(loop), .loop = loop, .woke = (uint8_t)(woke ? woke : BHP_WOKE_TIMEOUT),
		    .fd = first_fd(turn), .ready = (uint32_t)turn->n_events);
}

static int collect(struct bh_loop *loop, struct turn *turn, int64_t timeout_ns)
{
	int n = wait_ns(loop->o.poll_fd, turn->event, timeout_ns);

	turn->n_events = n > 0 ? n : 0;
	return n < 0 ? errno : 0;
}

/* No barrier: a producer that still sees SLEEPING writes once too often, and
 * what one pushes that sees AWAKE is found at the latest after the next
 * bh_sleep_begin(). */
static void set_awake(struct bh_loop *loop)
{
	atomic_store_explicit(&loop->o.notify_me, BHP_LOOP_AWAKE, memory_order_relaxed);
}

/* Clears the notifier, if it fired. Only after the callbacks: the read would
 * delay the one that the loop was woken for. It takes nobody's wakeup away:
 * whoever wrote had pushed before, and the next bh_sleep_begin() looks. */
static void accept_notifier(struct bh_loop *loop)
{
	if (loop->accept_due)
		bh_notify_accept(loop);
	loop->accept_due = false;
}

/* Sleeps unless something is pending. The error of the wait, 0, or -1 when it
 * did not come to that. */
static int sleep_until_woken(struct bh_loop *loop, struct turn *turn)
{
	int error = 0;

	bh_sleep_begin(loop);
	int64_t timeout = sleep_ns(loop);
	if (timeout != 0) {
		struct bh_frame outer = bh_enter_callback(loop, BHP_WAIT, NULL, NULL, bhp_clock());
		atomic_store_explicit(&loop->o.wait_timeout_ns, timeout, memory_order_relaxed);
		announce(loop, turn);
		bhp_emit(wait_begin, .loop = loop, .timeout_ns = timeout);
		error = collect(loop, turn, timeout);
		take_own_events(loop, turn);
		woken(loop, turn, error);
		bh_leave_callback(loop, &outer);
	}
	set_awake(loop);
	return timeout != 0 ? error : -1;
}

/* Looks at the file descriptors, asleep in the meantime when the turn may
 * block. 0 or -errno. */
static int gather(struct bh_loop *loop, struct turn *turn)
{
	int error = -1; /* not looked yet */

	if (turn->blocking && sleep_ns(loop) != 0)
		error = sleep_until_woken(loop, turn);
	/* A loop that is kept busy still has to look at its descriptors; the
	 * notifier alone is not worth a system call. */
	if (error < 0 && (loop->embedded || atomic_load_explicit(&loop->n_fds, memory_order_relaxed))) {
		error = collect(loop, turn, 0);
		take_own_events(loop, turn);
	}
	/* The turns of an embedded loop do not block, its embedder does. An
	 * exchange, so that the bh_loop_stop() before it is seen too. */
	if ((turn->blocking || loop->embedded) && atomic_load_explicit(&loop->wake, memory_order_relaxed))
		atomic_exchange_explicit(&loop->wake, false, memory_order_acquire);
	return error > 0 && error != EINTR ? -error : 0;
}

/* --- a turn ---------------------------------------------------------------------------- */

static bool dispatch(struct bh_loop *loop, struct turn *turn)
{
	bool progress = false;

	/* Announced before anything runs: the first callback takes its stamp. */
	if (bh_take_scheduled(loop) || turn->n_events || bh_timers_timeout_ns(loop) == 0)
		announce(loop, turn);
	progress |= bh_run_ready(loop);
	/* A nested poll has handled what is left: its readiness is stale. */
	for (int i = 0; i < turn->n_events && turn->iteration == loop->o.iteration; i++)
		progress |= bh_fd_dispatch(loop, turn->event[i].data.ptr, turn->event[i].events);
	progress |= bh_timers_run(loop);
	return progress;
}

static void arm_embedder(struct bh_loop *loop)
{
	int64_t timeout;

	/* From here on whoever schedules wakes the descriptor. */
	bh_sleep_begin(loop);
	timeout = sleep_ns(loop);
	if (timeout == 0) {
		bh_notify(loop);
		timeout = -1;
	}
	set_timer_fd(loop, timeout);
}

/* At the start of an outermost turn nothing is left of an earlier one that
 * could name a deleted handler or timer, and epoll reports them no more. */
static void reap(struct bh_loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	atomic_store_explicit(&loop->reap, false, memory_order_relaxed);
	bh_fds_free(loop, false);
	bh_timers_free(loop, false);
	pthread_mutex_unlock(&loop->lock);
}

static void turn_begin(struct bh_loop *loop, struct turn *turn, bool blocking)
{
	uint32_t depth = atomic_load_explicit(&loop->o.depth, memory_order_relaxed) + 1;

	turn->n_events = 0;
	turn->announced = false;
	turn->blocking = blocking;
	turn->depth = (uint8_t)(depth < DEPTH_MAX ? depth : DEPTH_MAX);
	turn->iteration = atomic_load_explicit(&loop->o.iteration, memory_order_relaxed) + 1;
	atomic_store_explicit(&loop->o.iteration, turn->iteration, memory_order_relaxed);
	atomic_store_explicit(&loop->o.depth, depth, memory_order_relaxed);
	if (depth > 1) {
		/* Or the nested turn would wake for what woke the outer one. */
		accept_notifier(loop);
		return;
	}
	atomic_store_explicit(&loop->o.owner_tid, bh_tid(), memory_order_relaxed);
	set_where(loop, BHP_DISPATCH);
	if (atomic_load_explicit(&loop->reap, memory_order_relaxed))
		reap(loop);
	if (loop->embedded)
		set_awake(loop);
}

static void turn_end(struct bh_loop *loop, struct turn *turn, bool progress)
{
	uint32_t depth = atomic_load_explicit(&loop->o.depth, memory_order_relaxed) - 1;

	if (turn->announced)
		bhp_emit(poll_end, .loop = loop, .progress = progress, .depth = turn->depth,
			 .iteration = turn->iteration);
	if (depth == 0) {
		if (loop->embedded)
			arm_embedder(loop);
		set_where(loop, BHP_OUTSIDE);
	}
	atomic_store_explicit(&loop->o.depth, depth, memory_order_relaxed);
}

int bh_loop_poll(struct bh_loop *loop, bool blocking)
{
	struct turn turn;
	bool progress;

	turn_begin(loop, &turn, blocking);
	int error = gather(loop, &turn);
	progress = dispatch(loop, &turn);
	accept_notifier(loop);
	turn_end(loop, &turn, progress);
	return error ? error : progress;
}

int bh_loop_run(struct bh_loop *loop)
{
	int r = 0;

	while (r >= 0 && !atomic_exchange_explicit(&loop->stop, false, memory_order_seq_cst))
		r = bh_loop_poll(loop, true);
	return r < 0 ? r : 0;
}

void bh_loop_stop(struct bh_loop *loop)
{
	atomic_store_explicit(&loop->stop, true, memory_order_seq_cst);
	bh_loop_wake(loop);
}

void bh_loop_wake(struct bh_loop *loop)
{
	atomic_store_explicit(&loop->wake, true, memory_order_seq_cst);
	bh_notify(loop);
}

int bh_loop_pollable_fd(struct bh_loop *loop)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = &loop->timer_fd };

	if (!loop->embedded) {
		int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (epoll_ctl(loop->o.poll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
			int error = -errno;
			close(fd);
			return error;
		}
		loop->timer_fd = fd;
		loop->embedded = true;
		if (atomic_load_explicit(&loop->o.depth, memory_order_relaxed) == 0)
			arm_embedder(loop);
	}
	return loop->o.poll_fd;
}
