/* SPDX-License-Identifier: MIT */
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "lock.h"

/* How a glibc mutex begins: struct __pthread_mutex_s of 64-bit machines. */
struct mutex {
	uint32_t lock; /* 0 free, 1 held, 2 held and waited for; a robust one as FUTEX_LOCK_PI */
	uint32_t count;
	uint32_t owner;
	uint32_t users; /* not 0 while it is held */
};

static int by_number(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The ids of all threads in order, or NULL. */
static uint32_t *sorted_tids(const struct bht_sample *sample)
{
	uint32_t *tids = calloc(sample->n_threads, sizeof(*tids));

	for (size_t i = 0; tids && i < sample->n_threads; i++)
		tids[i] = sample->threads[i].tid;
	if (tids)
		qsort(tids, sample->n_threads, sizeof(*tids), by_number);
	return tids;
}

static bool is_pi(int operation)
{
	return operation == FUTEX_LOCK_PI || operation == FUTEX_LOCK_PI2;
}

/* Who owns the lock, in the target's namespace; 0 when it does not say. */
static uint32_t owner_of(struct bht_memory *mem, const struct bht_thread *thread)
{
	const int operation = (int)thread->args[1] & FUTEX_CMD_MASK;
	const uint32_t in_word = thread->lock_word & FUTEX_TID_MASK;
	struct mutex mutex;

	if (is_pi(operation))
		return in_word;
	if (operation != FUTEX_WAIT && operation != FUTEX_WAIT_BITSET)
		return 0;
	if (bht_read(mem, thread->args[0], &mutex, sizeof(mutex)) || !mutex.users)
		return 0;
	if (mutex.lock == 1 || mutex.lock == 2 || (mutex.lock & FUTEX_WAITERS && mutex.owner == in_word))
		return mutex.owner;
	return 0;
}

void bht_lock_read(struct bht_memory *mem, struct bht_sample *sample, bht_tid_map map, void *arg)
{
	uint32_t *tids = NULL;

	for (size_t i = 0; i < sample->n_threads; i++) {
		struct bht_thread *thread = &sample->threads[i];
		if (thread->syscall != SYS_futex ||
		    bht_read(mem, thread->args[0], &thread->lock_word, sizeof(thread->lock_word)))
			continue;
		uint32_t owner = owner_of(mem, thread);
		if (owner)
			owner = map(arg, owner);
		if (owner && !tids)
			tids = sorted_tids(sample);
		if (owner && tids && bsearch(&owner, tids, sample->n_threads, sizeof(*tids), by_number))
			thread->lock_owner = owner;
	}
	free(tids);
}
