/* SPDX-License-Identifier: MIT */
/* Bottom halves: creating, scheduling, running, deleting. */
#include <errno.h>
#include <string.h>

#include "protocol.h"

enum { IDLE_DELAY_NS = 10 * 1000 * 1000 };

static struct bhp_pool bh_pool;

static struct bh *bh_create(struct bh_loop *loop, bh_cb *cb, void *opaque, const char *name, bool oneshot)
{
	uint64_t serial;
	struct bh *bh =
		bhp_pool_get(&bh_pool, BHP_POOL_BH, (sizeof(*bh) + BHP_CACHE_LINE - 1) & -BHP_CACHE_LINE, &serial);

	if (!bh)
		return NULL;
	bh->o.serial = serial;
	bh->o.loop = loop;
	bh->o.callback = (const void *)cb;
	bh->o.opaque = opaque;
	bh->oneshot = oneshot;
	strncpy(bh->o.name, name ? name : "", sizeof(bh->o.name) - 1);
	atomic_store_explicit(&bh->o.state, BHP_LIVE, memory_order_release);

	pthread_mutex_lock(&loop->lock);
	LIST_INSERT_HEAD(&loop->bhs, bh, link);
	pthread_mutex_unlock(&loop->lock);
	bhp_emit(bh_new, .loop = loop, .bh = bh, .callback = (const void *)cb, .name = bh->o.name);
	return bh;
}

struct bh *bh_new(struct bh_loop *loop, bh_cb *cb, void *opaque, const char *name)
{
	return bh_create(loop, cb, opaque, name, false);
}

static void bh_free(struct bh_loop *loop, struct bh *bh)
{
	pthread_mutex_lock(&loop->lock);
	LIST_REMOVE(bh, link);
	pthread_mutex_unlock(&loop->lock);
	bhp_pool_put(&bh_pool, bh);
}

/* --- the producer's side ------------------------------------------------------ */

static inline __attribute__((always_inline)) void schedule(struct bh *bh, enum bh_flag_op op,
							   enum bhp_schedule_kind kind, uint64_t ticket)
{
	/* Loaded first: once it is scheduled, the loop may run and free it. */
	struct bh_loop *loop = (struct bh_loop *)bh->o.loop;
	uint32_t old = bh_flag_update(bh, op);
	bool coalesced = old & BHP_FLAG_SCHEDULED;
	bool idle = op == BH_OP_SCHEDULE_IDLE;

	/* A normal schedule makes a pending idle one urgent. */
	if (__builtin_expect(coalesced && (idle || !(old & BHP_FLAG_IDLE)), 1)) {
		bhp_emit(schedule, .loop = loop, .bh = bh, .seen = 1, .kind = kind, .ticket = ticket);
		return;
	}
	if (!(old & BHP_FLAG_LINKED))
		bh_push(loop, bh);
	uint32_t me = bh_notify_me(loop);
	bhp_emit(schedule, .loop = loop, .bh = bh, .seen = coalesced, .kind = kind, .ticket = ticket);
	bh_notify_write(loop, bh, me);
}

void bh_schedule(struct bh *bh)
{
	schedule(bh, BH_OP_SCHEDULE, BHP_KIND_NORMAL, 0);
}

void bh_schedule_ticket(struct bh *bh, uint64_t ticket)
{
	schedule(bh, BH_OP_SCHEDULE, BHP_KIND_NORMAL, ticket);
}

void bh_schedule_idle(struct bh *bh)
{
	schedule(bh, BH_OP_SCHEDULE_IDLE, BHP_KIND_IDLE, 0);
}

int bh_schedule_oneshot(struct bh_loop *loop, bh_cb *cb, void *opaque, const char *name)
{
	struct bh *bh = bh_create(loop, cb, opaque, name, true);

	if (!bh)
		return -ENOMEM;
	schedule(bh, BH_OP_SCHEDULE, BHP_KIND_ONESHOT, 0);
	return 0;
}

void bh_consume(struct bh *bh, uint64_t ticket)
{
	bhp_emit(consume, .loop = bh->o.loop, .bh = bh, .ticket = ticket);
}

void bh_cancel(struct bh *bh)
{
	uint32_t old = bh_flag_update(bh, BH_OP_CANCEL);

	bhp_emit(bh_cancel, .loop = bh->o.loop, .bh = bh, .flags = (uint8_t)old);
}

void bh_delete(struct bh *bh)
{
	if (!bh)
		return;
	struct bh_loop *loop = (struct bh_loop *)bh->o.loop;

	atomic_store_explicit(&bh->o.state, BHP_DYING, memory_order_relaxed);
	uint32_t old = bh_flag_update(bh, BH_OP_DELETE);
	/* The loop frees what it finds in the list and marked. */
	if (!(old & BHP_FLAG_LINKED))
		bh_push(loop, bh);
	bhp_emit(bh_delete, .loop = loop, .bh = bh, .flags = (uint8_t)old);
}

/* --- the loop's side ------------------------------------------------------------ */

static bool runnable(uint32_t flags)
{
	return (flags & (BHP_FLAG_SCHEDULED | BHP_FLAG_DELETED)) == BHP_FLAG_SCHEDULED;
}

static struct bh *next_of(const struct bh *bh)
{
	return (struct bh *)atomic_load_explicit(&bh->o.next, memory_order_relaxed);
}

/* Moves what was scheduled since to the end of the ready list, oldest first. */
static void take_incoming(struct bh_loop *loop)
{
	struct bh *bh, *first = NULL, *last = NULL;

	/* Acquires what bh_push() released: the pushed objects. */
	bh = (struct bh *)atomic_exchange_explicit(&loop->o.incoming, NULL, memory_order_acquire);
	last = bh;
	while (bh) {
		struct bh *older = next_of(bh);
		atomic_store_explicit(&bh->o.next, first, memory_order_relaxed);
		first = bh;
		bh = older;
	}
	if (loop->ready_last)
		atomic_store_explicit(&loop->ready_last->o.next, first, memory_order_relaxed);
	else
		loop->ready_first = first;
	loop->ready_last = last;
}

bool bh_take_scheduled(struct bh_loop *loop)
{
	if (atomic_load_explicit(&loop->o.incoming, memory_order_relaxed))
		take_incoming(loop);
	return loop->ready_first;
}

static struct bh *pop_ready(struct bh_loop *loop)
{
	struct bh *bh = loop->ready_first;

	if (bh) {
		loop->ready_first = next_of(bh);
		if (!loop->ready_first)
			loop->ready_last = NULL;
	}
	return bh;
}

/*
 * Clears the flag and runs the callback; between the two stands nothing that is
 * not in the callback itself. The begin is stamped with the time of the loop's
 * last event, some 50 ns ago: a clock that is read just before the clear hid a
 * tenth of the lost wakeups of the weak protocol (make bench), and [begin, end]
 * contains the clear either way.
 */
static void execute(struct bh_loop *loop, struct bh *bh)
{
	bh_cb *cb = (bh_cb *)bh->o.callback;
	void *opaque = (void *)bh->o.opaque;
	bool oneshot = bh->oneshot;
	uint64_t begin = loop->stamp;
	uint64_t runs = atomic_load_explicit(&bh->o.runs, memory_order_relaxed);
	struct bh_frame outer = bh_enter_callback(loop, BHP_IN_BH, bh, (const void *)cb, begin);

	atomic_store_explicit(&bh->o.runs, runs + 1, memory_order_relaxed);
	atomic_store_explicit(&bh->o.last_run, begin, memory_order_relaxed);
	bhp_emit_at(execute_begin, begin, .loop = loop, .bh = bh, .callback = (const void *)cb);
	uint32_t old = bh_flag_clear(bh);
	if (runnable(old))
		cb(opaque);
	/* The callback may have deleted BH, and a nested poll freed it. */
	bhp_emit_at(execute_end, bh_stamp(loop), .loop = loop, .bh = bh, .begin = begin);
	bh_leave_callback(loop, &outer);
	if (oneshot || old & BHP_FLAG_DELETED)
		bh_free(loop, bh);
}

/* A bottom half in the list that is not to be run was cancelled or deleted. */
static void discard(struct bh_loop *loop, struct bh *bh, uint32_t flags)
{
	if (flags & BHP_FLAG_DELETED)
		bh_free(loop, bh);
	else if (!atomic_compare_exchange_strong(&bh->o.flags, &flags, 0))
		bh_push(loop, bh); /* scheduled again, or deleted, just now */
}

bool bh_run_ready(struct bh_loop *loop)
{
	struct bh *bh;
	bool progress = false;

	while ((bh = pop_ready(loop))) {
		/* Acquires what bh_delete() released: its thread is done with BH. */
		uint32_t flags = atomic_load_explicit(&bh->o.flags, memory_order_acquire);

		if (!runnable(flags)) {
			discard(loop, bh, flags);
			continue;
		}
		execute(loop, bh);
		progress = true;
	}
	return progress;
}

int64_t bh_pending_timeout_ns(struct bh_loop *loop)
{
	int64_t timeout = -1;

	if (loop->ready_first)
		return 0;
	/* seq_cst: the load of pair (2). Only this thread takes objects out of
	 * the list, so they stay while it is walked. */
	const struct bh *bh = atomic_load_explicit(&loop->o.incoming, memory_order_seq_cst);
	for (; bh; bh = next_of(bh)) {
		/* seq_cst, too: a schedule of one that is linked already,
		 * cancelled or idle, changes only its flags. */
		uint32_t flags = atomic_load_explicit(&bh->o.flags, memory_order_seq_cst);

		if (runnable(flags) && !(flags & BHP_FLAG_IDLE))
			return 0;
		if (runnable(flags))
			timeout = IDLE_DELAY_NS;
	}
	return timeout;
}

void bh_free_all(struct bh_loop *loop)
{
	struct bh *bh;

	while ((bh = LIST_FIRST(&loop->bhs))) {
		bhp_emit(bh_delete, .loop = loop, .bh = bh,
			 .flags = (uint8_t)atomic_load_explicit(&bh->o.flags, memory_order_relaxed));
		bh_free(loop, bh);
	}
}
