/* SPDX-License-Identifier: MIT */
/*
 * flag-race: a wakeup lost in a store buffer.
 *
 * A disk that encrypts. Worker threads take requests, write the result to the
 * request's bounce buffer, mark it DONE and schedule the completion bottom
 * half. Its callback, on the loop's thread, collects what is DONE and copies it
 * back to the caller. When a batch is all collected the next is submitted, so
 * that a completion nobody was told of is never made good by a later one.
 *
 * Nothing here delays anybody. The window is as wide as the store buffers are
 * full, and real requests fill them: the bounce buffer was last read, and the
 * flag last written, by the other processor. Loop and workers have processors
 * of their own and, as with adaptive polling, look for work for some
 * microseconds before they sleep: threads that share a processor or wake one
 * another each time hardly ever meet.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "museum.h"
#include "protocol.h"

enum { BATCH = 8, WORDS = 64, WORKERS = 1, POLLS = 1000, SPINS = 1000, PATIENCE_NS = 200 * 1000 };

enum request_state { REQ_FREE, REQ_DONE };

struct request {
	_Alignas(BHP_CACHE_LINE) _Atomic uint32_t state; /* enum request_state */
	uint32_t n_words;
	uint64_t ticket;
	_Alignas(BHP_CACHE_LINE) uint64_t bounce[WORDS]; /* the worker's result */
	_Alignas(BHP_CACHE_LINE) uint64_t caller[WORDS]; /* where it is wanted */
};

static struct museum museum;
static struct bh_loop *loop;
static struct bh *completion;
static struct request requests[BATCH];

/* Of the current batch, not collected yet; only the loop's thread. */
static struct request *pending[BATCH];
static unsigned n_pending;

static struct {
	pthread_mutex_t lock;
	pthread_cond_t submitted;
	_Atomic unsigned next; /* request of the batch to be taken */
	unsigned idle;         /* workers that wait for a batch */
	uint64_t lost;         /* with --count */
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER, .submitted = PTHREAD_COND_INITIALIZER, .next = BATCH };

/* --- a wakeup that was lost ------------------------------------------------------ */

static bool asleep(void)
{
	return atomic_load(&loop->o.where) == BHP_WAIT && atomic_load(&loop->o.notify_me) == BHP_LOOP_SLEEPING;
}

static bool work_is_done(void)
{
	for (unsigned i = 0; i < BATCH; i++)
		if (atomic_load(&requests[i].state) == REQ_DONE)
			return true;
	return false;
}

/* Whether work is done while nothing is scheduled and the loop sleeps; a turn
 * that it took meanwhile would have another number. Not to be asked while a
 * worker is still about to schedule. */
static bool wakeup_is_lost(void)
{
	uint64_t iteration = atomic_load(&loop->o.iteration);

	return asleep() && atomic_load(&completion->o.flags) == 0 && work_is_done() && asleep() &&
	       atomic_load(&loop->o.iteration) == iteration;
}

static bool stuck(void)
{
	return wakeup_is_lost() && museum_all_asleep();
}

/* --- workers ----------------------------------------------------------------------- */

static struct timespec patience(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += PATIENCE_NS;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

/* Waits for the next batch, under the lock. With --count it also looks whether
 * the last one got stuck, and if so repairs it. */
static void wait_for_batch(void)
{
	int error = 0;

	pool.idle++;
	if (museum.count) {
		struct timespec until = patience();
		error = pthread_cond_timedwait(&pool.submitted, &pool.lock, &until);
	} else {
		pthread_cond_wait(&pool.submitted, &pool.lock);
	}
	if (error == ETIMEDOUT && pool.idle == museum.workers && wakeup_is_lost()) {
		pool.lost++;
		bh_schedule(completion);
	}
	pool.idle--;
}

static struct request *take(void)
{
	for (unsigned i = 0; i < SPINS && atomic_load_explicit(&pool.next, memory_order_relaxed) == BATCH; i++)
		museum_relax();
	pthread_mutex_lock(&pool.lock);
	while (pool.next == BATCH)
		wait_for_batch();
	struct request *req = &requests[pool.next++];
	pthread_mutex_unlock(&pool.lock);
	return req;
}

static void encrypt(struct request *req)
{
	for (unsigned i = 0; i < req->n_words; i++)
		req->bounce[i] = (req->caller[i] ^ req->ticket) * 0x9e3779b97f4a7c15u;
}

static void *work(void *arg)
{
	pthread_setname_np(pthread_self(), "worker");
	museum_pin(1 + (unsigned)(uintptr_t)arg);
	for (;;) {
		struct request *req = take();
		uint64_t ticket = museum_ticket(&museum, req->ticket);

		encrypt(req);
		/* Release: the result before the state. To order the state
		 * before the look at the flag is up to bh_schedule(). */
		atomic_store_explicit(&req->state, REQ_DONE, memory_order_release);
		bh_schedule_ticket(completion, ticket);
	}
	return arg;
}

/* --- the loop ----------------------------------------------------------------------- */

static void submit(void)
{
	static uint64_t tickets;

	for (unsigned i = 0; i < BATCH; i++) {
		requests[i].n_words = 1 + museum_random(WORDS);
		requests[i].ticket = ++tickets;
		pending[i] = &requests[i];
	}
	n_pending = BATCH;
	pthread_mutex_lock(&pool.lock);
	pool.next = 0;
	pthread_cond_broadcast(&pool.submitted);
	pthread_mutex_unlock(&pool.lock);
}

/* All the loads of states, at once: anything recorded or copied in between
 * would move them away from the clearing of the flag. */
static unsigned take_done(struct request **done)
{
	unsigned n = 0, left = 0;

	for (unsigned i = 0; i < n_pending; i++) {
		struct request *req = pending[i];
		if (atomic_load_explicit(&req->state, memory_order_acquire) == REQ_DONE)
			done[n++] = req;
		else
			pending[left++] = req;
	}
	n_pending = left;
	return n;
}

static void deliver(struct request *req)
{
	museum_consume(&museum, completion, req->ticket);
	for (unsigned i = 0; i < req->n_words; i++)
		req->caller[i] = req->bounce[i];
	atomic_store_explicit(&req->state, REQ_FREE, memory_order_relaxed);
}

static void complete(void *opaque)
{
	struct request *done[BATCH];
	unsigned n = take_done(done);

	(void)opaque;
	for (unsigned i = 0; i < n; i++)
		deliver(done[i]);
	if (n > 0 && n_pending == 0 && museum_advance(&museum, BATCH))
		submit();
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "producer", "consumer", "fixed", NULL };
	static const enum bh_fault faults[] = { BH_FAULT_PRODUCER, BH_FAULT_CONSUMER, BH_FAULT_NONE };
	static const struct museum_piece piece = { "flag-race", "a wakeup is lost in a store buffer", variants,
						   10000000, true };

	museum_open(&museum, &piece, WORKERS, argc, argv);
	bh_fault = faults[museum.variant];
	loop = bh_loop_new("disk");
	museum_need(loop, "no loop");
	completion = bh_new(loop, complete, NULL, "completion");
	museum_need(completion, "no bottom half");
	for (unsigned i = 0; i < museum.workers; i++)
		museum_thread(work, (void *)(uintptr_t)i);
	if (!museum.count)
		museum_watch(&museum, stuck);
	museum_pin(0);
	submit();
	museum_run(&museum, loop, POLLS);
	if (museum.count)
		printf("lost=%llu batches=%llu\n", (unsigned long long)pool.lost,
		       (unsigned long long)(museum.rounds / BATCH));
	return 0;
}
