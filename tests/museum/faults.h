/* SPDX-License-Identifier: MIT */
/*
 * faults.h - historic, weaker variants of lib/protocol.h
 *
 * Included by protocol.h where BH_FAULTS is defined, that is for the museum's
 * test library only. It puts a choice before each function that history had
 * weaker, and something to do before and after the loop's wait; all the rest is
 * libbh as it is.
 */
#ifndef BH_FAULTS_H
#define BH_FAULTS_H

#include <sys/epoll.h>

enum bh_fault {
	BH_FAULT_NONE,
	/* pair (2) */
	BH_FAULT_DISPATCHING, /* no notification while somebody says that he is dispatching */
	BH_FAULT_SLEEP,       /* notify_me is set by a plain store */
	/* pair (1) */
	BH_FAULT_PRODUCER, /* "already scheduled" is found by a plain load */
	BH_FAULT_CONSUMER, /* the flag is cleared by a plain store */
	BH_FAULT_CANCEL,   /* and so by a cancel */
};

/* Set before the first loop is made, then left alone: it is read without any
 * synchronisation, so that the choice itself orders nothing. */
extern enum bh_fault bh_fault;

/* For BH_FAULT_DISPATCHING. */
extern _Atomic bool bh_fault_dispatching;

/* Called by the loop's thread right before and after a wait that may sleep,
 * NULL for nothing. To be set before the loop is polled. */
extern void (*bh_fault_wait_begin)(void), (*bh_fault_wait_end)(void);
int bh_fault_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms);

/* Producer: no barrier where nothing changes. The caller's payload may still be in
 * its store buffer when it relies on a schedule that the loop is about to take.
 * Cancel: the caller may look at its work before the 0 has left the store
 * buffer. No other thread writes the word while it says scheduled. */
static inline uint32_t bh_fault_flag_update(struct bh *bh, enum bh_flag_op op)
{
	if (bh_fault == BH_FAULT_PRODUCER) {
		uint32_t old = atomic_load_explicit(&bh->o.flags, memory_order_relaxed);

		if (bh_flags_after(old, op) == old)
			return old;
	}
	if (bh_fault == BH_FAULT_CANCEL && op == BH_OP_CANCEL) {
		uint32_t old = atomic_load_explicit(&bh->o.flags, memory_order_relaxed);

		atomic_store_explicit(&bh->o.flags, bh_flags_after(old, op), memory_order_relaxed);
		return old;
	}
	return bh_flag_update(bh, op);
}

/* The fence keeps the callback's loads behind the load of the flag, but not
 * behind the store: the 0 may still be in the store buffer when the callback
 * has looked at everything. */
static inline uint32_t bh_fault_flag_clear(struct bh *bh)
{
	if (bh_fault != BH_FAULT_CONSUMER)
		return bh_flag_clear(bh);
	uint32_t old = atomic_load_explicit(&bh->o.flags, memory_order_relaxed);

	atomic_store_explicit(&bh->o.flags, 0, memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	return old;
}

/* "It will look again before it sleeps", whoever it is. */
static inline uint32_t bh_fault_notify_me(struct bh_loop *loop)
{
	if (bh_fault == BH_FAULT_DISPATCHING && atomic_load_explicit(&bh_fault_dispatching, memory_order_seq_cst))
		return BHP_LOOP_AWAKE;
	return bh_notify_me(loop);
}

/* The announcement may still be in the store buffer when the loop has looked. */
static inline void bh_fault_sleep_begin(struct bh_loop *loop)
{
	if (bh_fault != BH_FAULT_SLEEP)
		bh_sleep_begin(loop);
	else
		atomic_store_explicit(&loop->o.notify_me, BHP_LOOP_SLEEPING, memory_order_relaxed);
}

#define bh_flag_update bh_fault_flag_update
#define bh_flag_clear  bh_fault_flag_clear
#define bh_notify_me   bh_fault_notify_me
#define bh_sleep_begin bh_fault_sleep_begin
#define epoll_wait     bh_fault_epoll_wait
#define BH_PROTOCOL    (bh_fault < BH_FAULT_PRODUCER ? BHP_PROTOCOL_FULL_BARRIER : 0)

#endif
