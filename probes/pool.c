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

void bhp_pool_before_fork(void)
{
	pthread_mutex_lock(&pool_lock);
}

void bhp_pool_after_fork(void)
{
	pthread_mutex_unlock(&pool_lock);
}

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

	size_t size = sizeof(struct bhp_chunk) + (size_t)count * pool->stride;
	struct bhp_chunk *chunk = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (chunk == MAP_FAILED)
		return -ENOMEM;
	chunk->count = count;
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
