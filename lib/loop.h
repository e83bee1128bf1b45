/* SPDX-License-Identifier: MIT */
/* loop.h - what the files of libbh share with one another */
#ifndef BH_LOOP_H
#define BH_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "bh.h"
#include "bhp.h"

/* Every loop and bottom half begins with what it shows to observers. */
struct bh {
	struct bhp_bh_object o;
	LIST_ENTRY(bh) link; /* in loop->bhs */
	bool oneshot;
};

struct bh_timer {
	struct bh_loop *loop;
	bh_cb *cb;
	void *opaque;
	uint64_t deadline_ns;
	size_t heap_index; /* where it is in the heap, SIZE_MAX when not armed */
	bool due;          /* to be fired by the current turn */
	bool queued;       /* linked in loop->due */
	struct bh_timer *next_due;
	LIST_ENTRY(bh_timer) link; /* in loop->timers or loop->dead_timers */
};

struct bh_fd {
	struct bh_loop *loop;
	bh_fd_cb *cb;
	void *opaque;
	int fd;
	_Atomic bool live;
	LIST_ENTRY(bh_fd) link; /* in loop->fds or loop->dead_fds */
};

struct bh_loop {
	struct bhp_loop_object o;

	/* Only the polling thread. */
	struct bh *ready_first, *ready_last; /* taken up, not run yet */
	bool embedded;
	uint64_t stamp;  /* bhp_clock() of the loop's last event */
	bool accept_due; /* the notifier fired and was not cleared yet */

	struct bh_timer *due_first, *due_last;

	_Atomic bool stop, wake;
	_Atomic bool reap; /* there are dead handlers or timers */
	_Atomic unsigned n_fds;
	_Atomic uint64_t next_deadline_ns; /* of the earliest timer, UINT64_MAX for none */
	int timer_fd;                      /* embedded mode only, else -1 */

	pthread_mutex_t lock; /* for the rest */
	LIST_HEAD(, bh) bhs;
	LIST_HEAD(, bh_fd) fds;
	LIST_HEAD(, bh_timer) timers;
	/* Deleted, but the turn in progress may still name them. */
	LIST_HEAD(, bh_fd) dead_fds;
	LIST_HEAD(, bh_timer) dead_timers;
	struct bh_timer **heap; /* armed timers */
	size_t n_armed, n_timers, heap_size;
};

/* What the loop is inside of, saved around each callback: callbacks nest. */
struct bh_frame {
	uint32_t where;
	const void *current, *callback;
	uint64_t since;
};

struct bh_frame bh_enter_callback(struct bh_loop *loop, enum bhp_where where, const void *object, const void *callback,
				  uint64_t now);
void bh_leave_callback(struct bh_loop *loop, const struct bh_frame *outer);

/* The time, remembered as that of the loop's last event. */
static inline uint64_t bh_stamp(struct bh_loop *loop)
{
	return loop->stamp = bhp_clock();
}

/* notify.c */
void bh_notify_write(struct bh_loop *loop, const struct bh *bh, uint32_t seen);
void bh_notify(struct bh_loop *loop);
void bh_notify_accept(struct bh_loop *loop);

/* bh.c: all from the polling thread */
bool bh_take_scheduled(struct bh_loop *loop);        /* makes ready what was scheduled; whether anything is */
bool bh_run_ready(struct bh_loop *loop);             /* runs what is ready; whether anything ran */
int64_t bh_pending_timeout_ns(struct bh_loop *loop); /* 0, at most the idle delay, or -1 */
void bh_free_all(struct bh_loop *loop);

/* fd.c */
bool bh_fd_live(const struct bh_fd *handler); /* before any other look at what epoll reported */
bool bh_fd_dispatch(struct bh_loop *loop, struct bh_fd *handler, unsigned events);
void bh_fds_free(struct bh_loop *loop, bool live); /* the dead ones, and the live ones too? */

/* timer.c */
bool bh_timers_run(struct bh_loop *loop);
int64_t bh_timers_timeout_ns(struct bh_loop *loop); /* -1 for none */
void bh_timers_free(struct bh_loop *loop, bool live);

/* Thread id as the kernel knows it, without a system call after the first. */
uint32_t bh_tid(void);

#endif
