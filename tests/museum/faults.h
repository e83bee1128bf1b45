/* SPDX-License-Identifier: MIT */
/*
 * faults.h - historic, weaker variants of lib/protocol.h
 *
 * Included by protocol.h where BH_FAULTS is defined, that is for the museum's
 * test library only. It puts a choice before each function that history had
 * weaker; all the rest is libbh as it is.
 */
#ifndef BH_FAULTS_H
#define BH_FAULTS_H

enum bh_fault {
	BH_FAULT_NONE,
	BH_FAULT_PRODUCER, /* "already scheduled" is found by a plain load */
	BH_FAULT_CONSUMER, /* the flag is cleared by a plain store */
};

/* Set before the first loop is made, then left alone: it is read without any
 * synchronisation, so that the choice itself orders nothing. */
extern enum bh_fault bh_fault;

/* No barrier where nothing changes: the caller's payload may still be in its
 * store buffer when it relies on a schedule that the loop is about to take. */
static inline uint32_t bh_fault_flag_update(struct bh *bh, enum bh_flag_op op)
{
	if (bh_fault == BH_FAULT_PRODUCER) {
		uint32_t old = atomic_load_explicit(&bh->o.flags, memory_order_relaxed);

		if (bh_flags_after(old, op) == old)
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

#define bh_flag_update bh_fault_flag_update
#define bh_flag_clear  bh_fault_flag_clear
#define BH_PROTOCOL    (bh_fault == BH_FAULT_NONE ? BHP_PROTOCOL_FULL_BARRIER : 0)

#endif
