/* SPDX-License-Identifier: MIT */
/*
 * Timers: a binary heap by deadline. Room for every timer is made when it is
 * created, so that arming cannot fail.
 */
#include <errno.h>
#include <stdlib.h>

#include "loop.h"

/* --- the heap, under loop->lock ---------------------------------------------------- */

static void place(struct bh_loop *loop, struct bh_timer *timer, size_t i)
{
	loop->heap[i] = timer;
	timer->heap_index = i;
}

static void sift_up(struct bh_loop *loop, struct bh_timer *timer, size_t i)
{
	while (i > 0 && loop->heap[(i - 1) / 2]->deadline_ns > timer->deadline_ns) {
		place(loop, loop->heap[(i - 1) / 2], i);
		i = (i - 1) / 2;
	}
	place(loop, timer, i);
}

static void sift_down(struct bh_loop *loop, struct bh_timer *timer, size_t i)
{
	for (;;) {
		size_t child = 2 * i + 1;
		if (child + 1 < loop->n_armed && loop->heap[child + 1]->deadline_ns < loop->heap[child]->deadline_ns)
			child++;
		if (child >= loop->n_armed || loop->heap[child]->deadline_ns >= timer->deadline_ns)
			break;
		place(loop, loop->heap[child], i);
		i = child;
	}
	place(loop, timer, i);
}

static void heap_remove(struct bh_loop *loop, struct bh_timer *timer)
{
	size_t i = timer->heap_index;
	struct bh_timer *last;

	if (i == SIZE_MAX)
		return;
	timer->heap_index = SIZE_MAX;
	last = loop->heap[--loop->n_armed];
	if (last == timer)
		return;
	sift_up(loop, last, i);
	sift_down(loop, last, last->heap_index);
}

/* The earliest deadline, where the loop looks without the lock. Whether it
 * became earlier. */
static bool publish_deadline(struct bh_loop *loop)
{
	uint64_t first = loop->n_armed ? loop->heap[0]->deadline_ns : UINT64_MAX;
	/* seq_cst: with bh_notify() it is pair (2) of lib/protocol.h. */
	return atomic_exchange_explicit(&loop->next_deadline_ns, first, memory_order_seq_cst) > first;
}

/* --- from any thread ----------------------------------------------------------------- */

struct bh_timer *bh_timer_new(struct bh_loop *loop, bh_cb *cb, void *opaque)
{
	struct bh_timer *timer = calloc(1, sizeof(*timer));

	if (!timer)
		return NULL;
	timer->loop = loop;
	timer->cb = cb;
	timer->opaque = opaque;
	timer->heap_index = SIZE_MAX;

	pthread_mutex_lock(&loop->lock);
	if (loop->n_timers == loop->heap_size) {
		size_t size = loop->heap_size ? loop->heap_size * 2 : 8;
		struct bh_timer **heap = reallocarray(loop->heap, size, sizeof(struct bh_timer *));
		if (!heap) {
			pthread_mutex_unlock(&loop->lock);
			free(timer);
			return NULL;
		}
		loop->heap = heap;
		loop->heap_size = size;
	}
	loop->n_timers++;
	LIST_INSERT_HEAD(&loop->timers, timer, link);
	pthread_mutex_unlock(&loop->lock);
	return timer;
}

void bh_timer_set(struct bh_timer *timer, uint64_t deadline_ns)
{
	struct bh_loop *loop = timer->loop;
	bool earlier;

	pthread_mutex_lock(&loop->lock);
	heap_remove(loop, timer);
	timer->due = false;
	timer->deadline_ns = deadline_ns;
	sift_up(loop, timer, loop->n_armed++);
	earlier = publish_deadline(loop);
	pthread_mutex_unlock(&loop->lock);
	if (earlier)
		bh_notify(loop);
}

static void disarm(struct bh_loop *loop, struct bh_timer *timer)
{
	heap_remove(loop, timer);
	timer->due = false;
	publish_deadline(loop);
}

void bh_timer_cancel(struct bh_timer *timer)
{
	struct bh_loop *loop = timer->loop;

	pthread_mutex_lock(&loop->lock);
	disarm(loop, timer);
	pthread_mutex_unlock(&loop->lock);
}

void bh_timer_delete(struct bh_timer *timer)
{
	if (!timer)
		return;
	struct bh_loop *loop = timer->loop;

	pthread_mutex_lock(&loop->lock);
	disarm(loop, timer);
	loop->n_timers--;
	LIST_REMOVE(timer, link);
	LIST_INSERT_HEAD(&loop->dead_timers, timer, link);
	atomic_store_explicit(&loop->reap, true, memory_order_relaxed);
	pthread_mutex_unlock(&loop->lock);
}

/* --- from the polling thread ------------------------------------------------------------ */

int64_t bh_timers_timeout_ns(struct bh_loop *loop)
{
	uint64_t deadline = atomic_load_explicit(&loop->next_deadline_ns, memory_order_seq_cst);

	if (loop->due_first)
		return 0;
	if (deadline == UINT64_MAX)
		return -1;
	uint64_t now = bh_now_ns();
	uint64_t left = deadline > now ? deadline - now : 0;
	return left > INT64_MAX ? INT64_MAX : (int64_t)left;
}

/* Moves what is due by now to the list of due timers, so that one that arms
 * itself again for the past does not keep the turn from ending. */
static void collect_due(struct bh_loop *loop)
{
	uint64_t now = bh_now_ns();

	while (loop->n_armed && loop->heap[0]->deadline_ns <= now) {
		struct bh_timer *timer = loop->heap[0];
		heap_remove(loop, timer);
		timer->due = true;
		if (timer->queued)
			continue;
		timer->queued = true;
		timer->next_due = NULL;
		if (loop->due_last)
			loop->due_last->next_due = timer;
		else
			loop->due_first = timer;
		loop->due_last = timer;
	}
	publish_deadline(loop);
}

/* The next due timer that was not disarmed meanwhile. */
static struct bh_timer *pop_due(struct bh_loop *loop)
{
	struct bh_timer *timer;

	do {
		timer = loop->due_first;
		if (!timer)
			return NULL;
		loop->due_first = timer->next_due;
		if (!loop->due_first)
			loop->due_last = NULL;
		timer->queued = false;
	} while (!timer->due);
	timer->due = false;
	return timer;
}

bool bh_timers_run(struct bh_loop *loop)
{
	struct bh_timer *timer;
	bool progress = false;

	if (bh_timers_timeout_ns(loop) != 0)
		return false;
	pthread_mutex_lock(&loop->lock);
	collect_due(loop);
	while ((timer = pop_due(loop))) {
		bh_cb *cb = timer->cb;
		void *opaque = timer->opaque;
		pthread_mutex_unlock(&loop->lock);
		struct bh_frame outer = bh_enter_callback(loop, BHP_IN_TIMER, timer, (const void *)cb, bhp_clock());
		cb(opaque);
		bh_leave_callback(loop, &outer);
		progress = true;
		pthread_mutex_lock(&loop->lock);
	}
	pthread_mutex_unlock(&loop->lock);
	return progress;
}

void bh_timers_free(struct bh_loop *loop, bool live)
{
	struct bh_timer *timer;

	while ((timer = LIST_FIRST(&loop->dead_timers)) || (live && (timer = LIST_FIRST(&loop->timers)))) {
		LIST_REMOVE(timer, link);
		free(timer);
	}
	if (live)
		free(loop->heap);
}
