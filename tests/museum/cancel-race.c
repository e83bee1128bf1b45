/* SPDX-License-Identifier: MIT */
/*
 * cancel-race: a wakeup lost between a cancel and the look that follows it.
 *
 * A thread pool. A worker takes requests, writes its result, marks the request
 * DONE and schedules the completion bottom half. The callback delivers what is
 * DONE. A delivery may poll the loop, so the callback schedules itself before,
 * and when it is through it cancels that and looks once more: whoever finished
 * in between saw the flag set and relied on this look.
 *
 * With a cancel that is a plain store, the look may come before the 0 has left
 * the store buffer, where it waits behind the deliveries: into buffers that the
 * worker's processor read last. No delay is injected. As in flag-race, loop and
 * worker have processors of their own and look for work for a while before they
 * sleep, and the next batch is submitted when the last was collected.
 */
#include <stddef.h>

#include "museum.h"
#include "protocol.h"

enum { BATCH = 8, WORDS = 64, POLLS = 1000, SPINS = 1000 };

enum request_state { REQ_FREE, REQ_DONE };

struct request {
	_Alignas(BHP_CACHE_LINE) _Atomic uint32_t state; /* enum request_state */
	uint32_t n_words;
	uint64_t ticket;
	_Alignas(BHP_CACHE_LINE) uint64_t result[WORDS]; /* the worker's */
	_Alignas(BHP_CACHE_LINE) uint64_t caller[WORDS]; /* where it is wanted */
};

static struct museum museum;
static struct bh_loop *loop;
static struct bh *completion;
static struct request requests[BATCH];
static unsigned n_pending; /* of the current batch, not delivered yet; only the loop's thread */
static sem_t submitted;

static bool stuck(void)
{
	bool done = false;

	for (unsigned i = 0; i < BATCH; i++)
		done |= atomic_load(&requests[i].state) == REQ_DONE;
	return done && atomic_load(&loop->o.where) == BHP_WAIT &&
	       !(atomic_load(&completion->o.flags) & BHP_FLAG_SCHEDULED) && museum_all_asleep();
}

/* --- the worker ---------------------------------------------------------------------- */

static void compute(struct request *req)
{
	for (unsigned i = 0; i < req->n_words; i++)
		req->result[i] = (req->caller[i] ^ req->ticket) * 0x9e3779b97f4a7c15u;
}

static void *work(void *arg)
{
	pthread_setname_np(pthread_self(), "worker");
	museum_pin(1);
	for (;;) {
		museum_down(&submitted, SPINS);
		for (unsigned i = 0; i < BATCH; i++) {
			struct request *req = &requests[i];
			uint64_t ticket = museum_ticket(&museum, req->ticket);

			compute(req);
			/* Release: the result before the state. */
			atomic_store_explicit(&req->state, REQ_DONE, memory_order_release);
			bh_schedule_ticket(completion, ticket);
		}
	}
	return arg;
}

/* --- the loop ------------------------------------------------------------------------- */

static void submit(void)
{
	static uint64_t tickets;

	for (unsigned i = 0; i < BATCH; i++) {
		requests[i].n_words = 1 + museum_random(WORDS);
		requests[i].ticket = ++tickets;
	}
	n_pending = BATCH;
	sem_post(&submitted);
}

/* All the loads of states, at once: anything in between would move them away
 * from the cancel. */
static unsigned find_done(struct request **done)
{
	unsigned n = 0;

	for (unsigned i = 0; i < BATCH; i++)
		if (atomic_load_explicit(&requests[i].state, memory_order_acquire) == REQ_DONE)
			done[n++] = &requests[i];
	return n;
}

static void deliver(struct request *req)
{
	museum_consume(&museum, completion, req->ticket);
	atomic_store_explicit(&req->state, REQ_FREE, memory_order_relaxed);
	for (unsigned i = 0; i < req->n_words; i++)
		req->caller[i] = req->result[i];
	n_pending--;
}

static void complete(void *opaque)
{
	struct request *done[BATCH];
	unsigned n;

	(void)opaque;
	while ((n = find_done(done)) > 0) {
		bh_schedule(completion);
		for (unsigned i = 0; i < n; i++)
			deliver(done[i]);
		bh_cancel(completion);
	}
	if (n_pending == 0 && museum_advance(&museum, BATCH))
		submit();
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "cancel", "fixed", NULL };
	static const struct museum_piece piece = { "cancel-race",
						   "a wakeup is lost between a cancel and the look after it", variants,
						   2000000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	bh_fault = museum.fixed ? BH_FAULT_NONE : BH_FAULT_CANCEL;
	sem_init(&submitted, 0, 0);
	loop = bh_loop_new("disk");
	museum_need(loop, "no loop");
	completion = bh_new(loop, complete, NULL, "completion");
	museum_need(completion, "no bottom half");
	museum_thread(work, NULL);
	museum_watch(&museum, stuck);
	museum_pin(0);
	submit();
	museum_run(&museum, loop, POLLS);
	return 0;
}
