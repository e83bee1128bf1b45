/* SPDX-License-Identifier: MIT */
/*
 * Pools of loops and bottom halves: chunks of equal slots, reached from the
 * root, reused but never unmapped, so that an observer may read any slot at any
 * time and finds an object or the remains of one.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "flight.h"
#include "recorder.h"

enum { FIRST_CHUNK = 16, LARGEST_CHUNK = 4096 };

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned n_chunks; /* of all pools */

/* A free slot's first words: its state, and the next free slot. */
struct free_slot {
	_Atomic uint32_t state;
	struct free_slot *next;
};

static void pool_publish(struct bhp_pool *pool, enum bhp_pool_kind kind, size_t stride)
{
	pool->kind = kind;
	pool->stride = (uint32_t)stride;
	atomic_store_explicit(&pool->next, atomic_load_explicit(&bhp_flight_root.pools, memory_order_relaxed),
			      memory_order_relaxed);
	/* Pairs with the observer's reads: a pool that it reaches is filled in. */
	atomic_store_explicit(&bhp_flight_root.pools, pool, memory_order_release);
}

static int pool_grow(struct bhp_pool *pool)
{
	struct bhp_chunk *old = atomic_load_explicit(&pool->chunks, memory_order_relaxed);
	uint32_t count = old ? old->count * 2 : FIRST_CHUNK;
	if (count > LARGEST_CHUNK)
		count = LARGEST_CHUNK;

	struct bhp_chunk *chunk = bhp_chunk_map(pool, count, n_chunks);
	if (!chunk)
		return -ENOMEM;
	bhp_file_chunks(++n_chunks);
	atomic_store_explicit(&chunk->next, old, memory_order_relaxed);
	for (uint32_t i = count; i-- > 0;) {
		struct free_slot *slot = (void *)(chunk->slot + (size_t)i * pool->stride);
		slot->next = pool->free_list;
		pool->free_list = slot;
	}
	/* Pairs with the observer's reads, as in pool_publish(). */
	atomic_store_explicit(&pool->chunks, chunk, memory_order_release);
	return 0;
}

void *bhp_pool_get(struct bhp_pool *pool, enum bhp_pool_kind kind, size_t stride, uint64_t *serial)
{
	struct free_slot *slot = NULL;

	pthread_mutex_lock(&pool_lock);
	if (!pool->stride)
		pool_publish(pool, kind, stride);
	if (pool->free_list || pool_grow(pool) == 0) {
		slot = pool->free_list;
		pool->free_list = slot->next;
		*serial = ++pool->next_serial;
	}
	pthread_mutex_unlock(&pool_lock);
	if (!slot) {
		errno = ENOMEM;
		return NULL;
	}
	memset(slot, 0, stride);
	return slot;
}

void bhp_pool_put(struct bhp_pool *pool, void *object)
{
	struct free_slot *slot = object;

	atomic_store_explicit(&slot->state, BHP_FREE, memory_order_relaxed);
	pthread_mutex_lock(&pool_lock);
	slot->next = pool->free_list;
	pool->free_list = slot;
	pthread_mutex_unlock(&pool_lock);
}

/* --- fork ---------------------------------------------------------------------- */

/* The pages of a file would be the parent's in the child, too: the child gets
 * copies. They are made before the fork, because the parent goes on at once and
 * its free lists run through these pages. Each begins with what it is for. */
struct fork_copy {
	struct fork_copy *next;
	void *at;
	size_t size;
};

static struct fork_copy *fork_copies;

static void copy_chunk(const struct bhp_pool *pool, struct bhp_chunk *chunk)
{
	const size_t size = bhp_chunk_size(pool, chunk->count);
	struct fork_copy *copy =
		mmap(NULL, BHP_RING_HEADER + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (copy == MAP_FAILED)
		return;
	struct bhp_chunk *to = (void *)((char *)copy + BHP_RING_HEADER);
	memcpy(to, chunk, size);
	to->in_file = 0;
	*copy = (struct fork_copy){ fork_copies, (char *)chunk - BHP_RING_HEADER, BHP_RING_HEADER + size };
	fork_copies = copy;
}

/* Calls F for each chunk that is in a file. */
static void each_file(void (*f)(const struct bhp_pool *pool, struct bhp_chunk *chunk))
{
	struct bhp_pool *pool = atomic_load_explicit(&bhp_flight_root.pools, memory_order_relaxed);

	for (; pool; pool = atomic_load_explicit(&pool->next, memory_order_relaxed)) {
		struct bhp_chunk *chunk = atomic_load_explicit(&pool->chunks, memory_order_relaxed), *next;
		for (; chunk; chunk = next) {
			next = atomic_load_explicit(&chunk->next, memory_order_relaxed);
			if (chunk->in_file)
				f(pool, chunk);
		}
	}
}

/* There was no memory for a copy. A child that uses its parent's loops in spite
 * of libbh's rules shall rather end than change them. */
static void lock_chunk(const struct bhp_pool *pool, struct bhp_chunk *chunk)
{
	(void)mmap((char *)chunk - BHP_RING_HEADER, BHP_RING_HEADER + bhp_chunk_size(pool, chunk->count), PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void end_copies(bool child)
{
	for (struct fork_copy *copy = fork_copies, *next; copy; copy = next) {
		next = copy->next;
		if (!child ||
		    mremap(copy, copy->size, copy->size, MREMAP_MAYMOVE | MREMAP_FIXED, copy->at) == MAP_FAILED)
			munmap(copy, copy->size);
	}
	fork_copies = NULL;
}

/* What the child creates goes to files of its own, not to slots of its parent. */
static void forget_parent_slots(void)
{
	struct bhp_pool *pool = atomic_load_explicit(&bhp_flight_root.pools, memory_order_relaxed);

	n_chunks = 0;
	for (; pool; pool = atomic_load_explicit(&pool->next, memory_order_relaxed)) {
		pool->free_list = NULL;
		atomic_store_explicit(&pool->chunks, NULL, memory_order_relaxed);
	}
}

void bhp_pool_before_fork(void)
{
	pthread_mutex_lock(&pool_lock);
	each_file(copy_chunk);
}

void bhp_pool_after_fork(bool child)
{
	end_copies(child);
	if (child) {
		each_file(lock_chunk);
		if (bhp_config()->mode == BHP_FLIGHT_FILE)
			forget_parent_slots();
	}
	pthread_mutex_unlock(&pool_lock);
}
