/* SPDX-License-Identifier: MIT */
/*
 * bh.h - libbh: event loops around bottom halves
 *
 * A bottom half is a callback that any thread may schedule and one event loop
 * runs. Scheduling is O(1), lock-free and async-signal-safe; schedules that
 * find the bottom half already scheduled coalesce into one execution.
 *
 * The promise: everything that a thread wrote before it called bh_schedule()
 * is seen by an execution of the callback that begins after the call began.
 *
 * Threads. "Any thread" functions may be called from everywhere, also from
 * callbacks. "Loop thread" functions only from the thread that polls the loop
 * at the time (or, while nobody polls it, from one thread at a time). After
 * bh_loop_free() and after a bottom half was deleted its pointer is dead: the
 * caller must know that no other thread still schedules it.
 *
 * Signals. A handler that may have interrupted a function of libbh must not be
 * left by siglongjmp(3). After fork(2) a loop belongs to the parent alone.
 *
 * Errors. Functions that return int give 0 (or a value described there) or a
 * negative errno; those that return a pointer give NULL and set errno.
 *
 * Names are copied, up to 31 bytes; NULL means "".
 */
#ifndef BH_H
#define BH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BH_API __attribute__((visibility("default")))
#else
#define BH_API
#endif

struct bh_loop;
struct bh;
struct bh_fd;
struct bh_timer;

typedef void bh_cb(void *opaque);
/* EVENTS are those of poll(2): POLLIN, POLLOUT, POLLHUP, POLLERR. */
typedef void bh_fd_cb(int fd, unsigned events, void *opaque);

/* --- loops ------------------------------------------------------------------ */

/* A new loop, owned by the caller. errno: ENOMEM, EMFILE, ENFILE. Any thread. */
BH_API struct bh_loop *bh_loop_new(const char *name);

/*
 * Frees a loop, its bottom halves (without running them), file descriptor
 * handlers and timers. -EBUSY from inside a poll of it. Loop thread.
 */
BH_API int bh_loop_free(struct bh_loop *loop);

/*
 * One turn: runs what is scheduled, ready or due; when nothing is and BLOCKING,
 * sleeps until something is. May be called from inside a callback (nested
 * poll): it then also runs what the outer turn had not reached yet.
 * 1 when anything ran, 0 when nothing did, or -errno. Loop thread.
 */
BH_API int bh_loop_poll(struct bh_loop *loop, bool blocking);

/* Polls until bh_loop_stop(); a stop that came before makes it return at
 * once. 0 or -errno. Loop thread. */
BH_API int bh_loop_run(struct bh_loop *loop);

/* Makes the innermost bh_loop_run() return after its current turn. Any thread,
 * async-signal-safe. */
BH_API void bh_loop_stop(struct bh_loop *loop);

/* Makes the current or next blocking turn return. Any thread,
 * async-signal-safe. */
BH_API void bh_loop_wake(struct bh_loop *loop);

/*
 * A file descriptor for embedding the loop in another one: when it is readable
 * call bh_loop_poll(loop, false). From the first call on the loop is in
 * embedded mode: whoever schedules wakes the descriptor, timers included, and
 * each turn ends what bh_loop_wake() began. The loop keeps ownership. -errno.
 * Loop thread.
 */
BH_API int bh_loop_pollable_fd(struct bh_loop *loop);

/* --- bottom halves ------------------------------------------------------------ */

/* A new bottom half of LOOP, not scheduled. Any thread. errno: ENOMEM. */
BH_API struct bh *bh_new(struct bh_loop *loop, bh_cb *cb, void *opaque, const char *name);

/* Makes the loop run the callback soon. Any thread, lock-free,
 * async-signal-safe once the thread has used libbh before. */
BH_API void bh_schedule(struct bh *bh);

/*
 * The same for work that may wait: a loop that has only such work pending takes
 * its next turn after 10 ms, so a bottom half that schedules itself this way
 * polls without spinning. Does not weaken a normal schedule that is pending.
 */
BH_API void bh_schedule_idle(struct bh *bh);

/*
 * bh_schedule() that announces a piece of work by a number of the caller's
 * choice, not 0. The callback says with bh_consume() which work it has seen.
 * Both are only recorded; they let an observer prove that a wakeup was lost.
 */
BH_API void bh_schedule_ticket(struct bh *bh, uint64_t ticket);

/* Call it from the callback, after its own loads of that work. Loop thread. */
BH_API void bh_consume(struct bh *bh, uint64_t ticket);

/* Runs CB once in LOOP, without a bottom half to keep. Any thread. 0 or
 * -ENOMEM. */
BH_API int bh_schedule_oneshot(struct bh_loop *loop, bh_cb *cb, void *opaque, const char *name);

/* Withdraws a pending schedule. An execution that has begun goes on. Any
 * thread. */
BH_API void bh_cancel(struct bh *bh);

/*
 * Cancels and frees it; the memory is reused only after the loop's next turn,
 * so a callback may delete its own or another bottom half. NULL is allowed.
 * Any thread.
 */
BH_API void bh_delete(struct bh *bh);

/* --- file descriptors ----------------------------------------------------------- */

/* Calls CB while one of EVENTS is ready on FD (level-triggered). FD stays the
 * caller's. errno: ENOMEM, EEXIST, EBADF, EPERM, ... of epoll_ctl(2). Any thread. */
BH_API struct bh_fd *bh_fd_new(struct bh_loop *loop, int fd, unsigned events, bh_fd_cb *cb, void *opaque);

/* Changes the events, 0 for none. 0 or -errno. Any thread. */
BH_API int bh_fd_set(struct bh_fd *handler, unsigned events);

/* Stops watching; call it before closing the file descriptor. From the loop
 * thread the callback is never called afterwards, from another thread a call
 * that has begun may still run. NULL is allowed. */
BH_API void bh_fd_delete(struct bh_fd *handler);

/* --- timers --------------------------------------------------------------------- */

/* A new timer, not armed. Any thread. errno: ENOMEM. */
BH_API struct bh_timer *bh_timer_new(struct bh_loop *loop, bh_cb *cb, void *opaque);

/* Fires once at DEADLINE_NS of CLOCK_MONOTONIC, or as soon as possible after
 * it; replaces an earlier deadline. Any thread. */
BH_API void bh_timer_set(struct bh_timer *timer, uint64_t deadline_ns);

/* Disarms. Any thread; one that is firing goes on. */
BH_API void bh_timer_cancel(struct bh_timer *timer);

/* Disarms and frees. As bh_fd_delete(). NULL is allowed. */
BH_API void bh_timer_delete(struct bh_timer *timer);

/* CLOCK_MONOTONIC in ns, for bh_timer_set(). Any thread. */
BH_API uint64_t bh_now_ns(void);

#ifdef __cplusplus
}
#endif
#endif
