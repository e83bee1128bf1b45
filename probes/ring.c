/* SPDX-License-Identifier: MIT */
/*
 * The life of a ring: taken by a thread at its first event, given up when the
 * thread exits, history kept, taken over by a later thread. Only this slow
 * path takes a lock.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lttng.h"
#include "recorder.h"

/* So many rings of exited threads keep their history before the oldest is
 * taken over. Memory is bounded by this plus the threads that live at once. */
enum { EXITED_KEPT = 32 };

__thread struct bhp_ring *bhp_tls_ring;
/* Set while this thread is in the slow path, with or without the lock: a signal
 * handler that comes then finds no ring and counts its event as dropped. */
static __thread volatile bool taking;

static struct {
	pthread_mutex_t lock;
	struct bhp_ring *oldest, *newest; /* rings of exited threads */
	unsigned n_exited;
	unsigned n_created;
	pthread_key_t key;
	bool key_valid;
} rings = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void thread_exits(void *arg)
{
	struct bhp_ring *ring = arg;

	taking = true;
	bhp_tls_ring = NULL;
	pthread_mutex_lock(&rings.lock);
	atomic_store_explicit(&ring->state, BHP_RING_EXITED, memory_order_relaxed);
	ring->next_exited = NULL;
	if (rings.newest)
		rings.newest->next_exited = ring;
	else
		rings.oldest = ring;
	rings.newest = ring;
	rings.n_exited++;
	pthread_mutex_unlock(&rings.lock);
	taking = false;
}

static struct bhp_ring *take_over_oldest(void)
{
	struct bhp_ring *ring = rings.oldest;

	rings.oldest = ring->next_exited;
	if (!rings.oldest)
		rings.newest = NULL;
	rings.n_exited--;
	return ring;
}

static struct bhp_ring *create(const struct bhp_config *config)
{
	struct bhp_ring *ring = bhp_ring_map(config, config->size, rings.n_created);

	if (!ring)
		return NULL;
	rings.n_created++;
	ring->abi = BHP_ABI;
	ring->record_size = sizeof(struct bhp_record);
	ring->capacity = config->size / sizeof(struct bhp_record);
	ring->pid = (uint32_t)getpid();
	_Static_assert(sizeof(struct bhp_ring) + BHP_FIELD_INFO_MAX * sizeof(struct bhp_field_info) <= BHP_RING_HEADER,
		       "the field table fits the header");
	ring->n_fields = bhp_schema(ring->fields);
	memcpy(ring->magic, BHP_RING_MAGIC, sizeof(ring->magic));
	atomic_store_explicit(&ring->next, atomic_load_explicit(&bhp_flight_root.rings, memory_order_relaxed),
			      memory_order_relaxed);
	/* Pairs with the observer's reads: a ring that it reaches is filled in. */
	atomic_store_explicit(&bhp_flight_root.rings, ring, memory_order_release);
	bhp_flight_root.n_rings++;
	return ring;
}

static struct bhp_ring *take(void)
{
	const struct bhp_config *config = bhp_config();
	struct bhp_ring *ring = NULL;

	pthread_mutex_lock(&rings.lock);
	if (!rings.key_valid && pthread_key_create(&rings.key, thread_exits) == 0)
		rings.key_valid = true;
	if (rings.n_exited >= EXITED_KEPT)
		ring = take_over_oldest();
	else
		ring = create(config);
	if (!ring && rings.oldest)
		ring = take_over_oldest();
	if (ring) {
		bhp_flight_root.clock[1] = bhp_clock_pair();
		ring->clock[0] = bhp_flight_root.clock[0];
		ring->clock[1] = bhp_flight_root.clock[1];
		bhp_file_rings(bhp_flight_root.n_rings);
	}
	pthread_mutex_unlock(&rings.lock);
	return ring;
}

/* The mark comes first and is not stamped later than what it stands before: who
 * merges rings by time keeps the order of each. */
static void sign_in(struct bhp_ring *ring, uint64_t now)
{
	uint32_t tid = (uint32_t)syscall(SYS_gettid);
	uint32_t previous = atomic_load_explicit(&ring->tid, memory_order_relaxed);
	char name[BHP_TEXT_MAX] = "";

	prctl(PR_GET_NAME, name);
	atomic_store_explicit(&ring->state, BHP_RING_LIVE, memory_order_relaxed);
	struct bhp_thread mark = { .tid = tid, .previous = previous, .name = name };
	const uint64_t at = atomic_load_explicit(&ring->reserved, memory_order_relaxed);
	/* Not known while TID and MARK disagree; readers look at TID first. */
	atomic_store_explicit(&ring->mark, 0, memory_order_relaxed);
	bhp_ring_write(ring, bhp_encode_thread(now, &mark), name);
	/* After the mark is published: who finds no mark in the records that it
	 * copied gives them all to this thread. */
	atomic_store_explicit(&ring->tid, tid, memory_order_release);
	atomic_store_explicit(&ring->mark, at + 1, memory_order_release);
	/* Last: what a signal handler writes belongs behind the mark. */
	atomic_signal_fence(memory_order_seq_cst);
	bhp_tls_ring = ring;
}

static struct bhp_ring *take_and_sign_in(uint64_t now)
{
	struct bhp_ring *ring = take();

	if (!ring) {
		bhp_dropped();
		return NULL;
	}
	sign_in(ring, now);
	if (rings.key_valid)
		pthread_setspecific(rings.key, ring);
	/* LTTng allocates for a thread's first event: not later, in a signal handler. */
	if (bhp_lttng)
		bhp_lttng->thread();
	return ring;
}

struct bhp_ring *bhp_ring_get(uint64_t now)
{
	int saved = errno;

	if (bhp_config()->mode == BHP_FLIGHT_OFF)
		return NULL;
	if (taking) {
		bhp_dropped();
		return NULL;
	}
	taking = true;
	/* A signal handler may have taken one since the caller looked. */
	struct bhp_ring *ring = bhp_tls_ring ? bhp_tls_ring : take_and_sign_in(now);
	taking = false;
	errno = saved;
	return ring;
}

void bhp_rings_before_fork(void)
{
	taking = true;
	pthread_mutex_lock(&rings.lock);
}

static void forget_parent_rings(void)
{
	struct bhp_ring *ring = atomic_load_explicit(&bhp_flight_root.rings, memory_order_relaxed);

	atomic_store_explicit(&bhp_flight_root.rings, NULL, memory_order_relaxed);
	while (ring) {
		struct bhp_ring *next = atomic_load_explicit(&ring->next, memory_order_relaxed);
		munmap(ring, BHP_RING_HEADER + ring->capacity * sizeof(struct bhp_record));
		ring = next;
	}
	rings.oldest = rings.newest = NULL;
	rings.n_exited = 0;
	rings.n_created = 0;
	bhp_flight_root.n_rings = 0;
	atomic_store_explicit(&bhp_flight_root.dropped, 0, memory_order_relaxed);
	bhp_tls_ring = NULL;
	if (rings.key_valid)
		pthread_setspecific(rings.key, NULL);
}

void bhp_rings_after_fork(bool child)
{
	/* The rings are the parent's: copies of them, or its files themselves. */
	if (child)
		forget_parent_rings();
	pthread_mutex_unlock(&rings.lock);
	taking = false;
}

/* dlclose() and exit: the hook is code that is about to go. Rings stay; other
 * threads may still write to theirs. */
__attribute__((destructor)) static void forget_key(void)
{
	pthread_mutex_lock(&rings.lock);
	if (rings.key_valid)
		pthread_key_delete(rings.key);
	rings.key_valid = false;
	pthread_mutex_unlock(&rings.lock);
}
