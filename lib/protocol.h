/* SPDX-License-Identifier: MIT */
/*
 * protocol.h - the exchanges that must not lose a wakeup
 *
 * Two pairs of accesses race, and each needs a full barrier on both sides.
 *
 *   (1) the flag
 *       producer:  store payload;       exchange(flag, 1)
 *       loop:      exchange(flag, 0);   callback loads payload
 *     A producer that sees 1 does nothing more, so the loop's exchange must
 *     come after and see the payload. Either exchange reads what the other
 *     wrote, and both are full barriers.
 *
 *   (2) the notifier
 *       producer:  push on incoming;           load notify_me
 *       loop:      exchange(notify_me, SLEEPING);  load incoming
 *     At least one of the loads sees the other side's write: the producer
 *     wakes the loop or the loop does not go to sleep.
 *
 * Nothing may be recorded between the two accesses of a line, see bhp.h.
 *
 * The museum (tests/museum) compiles these files once more with faults.h, which
 * puts weaker, historic variants before some of these functions; they are never
 * part of libbh.
 */
#ifndef BH_PROTOCOL_H
#define BH_PROTOCOL_H

#include "loop.h"

enum bh_flag_op { BH_OP_SCHEDULE, BH_OP_SCHEDULE_IDLE, BH_OP_CANCEL, BH_OP_DELETE };

/* The flag word after OP. LINKED says that the bottom half is, or is about to
 * be, in the incoming list; only whoever sets it pushes. */
static inline uint32_t bh_flags_after(uint32_t flags, enum bh_flag_op op)
{
	switch (op) {
	case BH_OP_SCHEDULE:
		return (flags | BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED) & ~(uint32_t)BHP_FLAG_IDLE;
	case BH_OP_SCHEDULE_IDLE:
		return flags & BHP_FLAG_SCHEDULED ? flags
						  : flags | BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED | BHP_FLAG_IDLE;
	case BH_OP_CANCEL:
		return flags & ~(uint32_t)(BHP_FLAG_SCHEDULED | BHP_FLAG_IDLE);
	case BH_OP_DELETE:
		break;
	}
	return (flags | BHP_FLAG_DELETED | BHP_FLAG_LINKED) & ~(uint32_t)(BHP_FLAG_SCHEDULED | BHP_FLAG_IDLE);
}

enum { BH_PROTOCOL = BHP_PROTOCOL_FULL_BARRIER };

/* Pair (1), producer. The flags before. A full barrier also when they do not
 * change: the caller's payload must be visible before it relies on "already
 * scheduled". Pairs with bh_flag_clear(). */
static inline uint32_t bh_flag_update(struct bh *bh, enum bh_flag_op op)
{
	uint32_t old = atomic_load_explicit(&bh->o.flags, memory_order_relaxed);

	while (!atomic_compare_exchange_weak_explicit(&bh->o.flags, &old, bh_flags_after(old, op), memory_order_seq_cst,
						      memory_order_relaxed))
		;
	return old;
}

/* Pair (1), loop: takes all flags. Pairs with bh_flag_update(). */
static inline uint32_t bh_flag_clear(struct bh *bh)
{
	return atomic_exchange_explicit(&bh->o.flags, 0, memory_order_seq_cst);
}

/* Pair (2), producer. Pairs with bh_sleep_begin(). */
static inline void bh_push(struct bh_loop *loop, struct bh *bh)
{
	const void *first = atomic_load_explicit(&loop->o.incoming, memory_order_relaxed);

	do
		atomic_store_explicit(&bh->o.next, first, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&loop->o.incoming, &first, bh, memory_order_seq_cst,
						      memory_order_relaxed));
}

/* Pair (2), producer, after bh_push(). Pairs with bh_sleep_begin(). */
static inline uint32_t bh_notify_me(struct bh_loop *loop)
{
	return atomic_load_explicit(&loop->o.notify_me, memory_order_seq_cst);
}

/* Pair (2), loop, before it looks at incoming for the last time. Pairs with
 * bh_push() and bh_notify_me(). */
static inline void bh_sleep_begin(struct bh_loop *loop)
{
	atomic_exchange_explicit(&loop->o.notify_me, BHP_LOOP_SLEEPING, memory_order_seq_cst);
}

#ifdef BH_FAULTS
#include "faults.h"
#endif
#endif
