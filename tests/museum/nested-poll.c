/* SPDX-License-Identifier: MIT */
/*
 * nested-poll: a callback polls the loop and waits for what only the turn that
 * called it could run.
 *
 * A worker completes requests in pairs and has the loop call back for each.
 * Now and then the callback of the first one needs the second, and lets the
 * loop run until that is done.
 *
 * completion  One bottom half completes all requests. When both were done
 *             before it began there is no schedule left for the second: the
 *             nested turn finds the flag at 0 and sleeps. The fixed control
 *             schedules the bottom half again before each callback.
 * slice       Each request has its own bottom half, and the turn that took both
 *             up keeps them in a list of its own, as in loops that run them in
 *             slices. The second one's flag is 1 and will be so for ever.
 */
#include "museum.h"
#include "protocol.h"

enum { COMPLETION, SLICE };
enum { PAIR = 2, RARE = 64 };

struct request {
	_Atomic bool done; /* and not called back yet */
	uint64_t ticket;
	struct bh *bh;
};

static struct museum museum;
static struct bh_loop *loop;
static struct request requests[PAIR];
static unsigned unfinished; /* callbacks of this pair that have not returned; only the loop's thread */
static sem_t submitted;

static bool stuck(void)
{
	return atomic_load(&loop->o.depth) > 1 && atomic_load(&loop->o.where) == BHP_WAIT && museum_all_asleep();
}

static void *work(void *arg)
{
	uint64_t ticket = 0;

	pthread_setname_np(pthread_self(), "worker");
	while (sem_wait(&submitted) == 0) {
		for (struct request *req = requests; req < requests + PAIR; req++) {
			req->ticket = ++ticket;
			atomic_store_explicit(&req->done, true, memory_order_release);
			bh_schedule_ticket(req->bh, museum_ticket(&museum, ticket));
		}
	}
	return arg;
}

static void submit(void)
{
	unfinished = PAIR;
	sem_post(&submitted);
}

/* Runs the loop until the other callback of the pair has returned, too. */
static void wait_for_other(void)
{
	struct bh *first = loop->ready_first, *last = loop->ready_last;

	if (museum.variant == SLICE)
		loop->ready_first = loop->ready_last = NULL;
	while (unfinished > 1)
		bh_loop_poll(loop, true);
	if (museum.variant == SLICE) {
		loop->ready_first = first;
		loop->ready_last = last;
	}
}

static void complete(struct request *req)
{
	if (!atomic_load_explicit(&req->done, memory_order_acquire))
		return;
	atomic_store_explicit(&req->done, false, memory_order_relaxed);
	museum_consume(&museum, req->bh, req->ticket);
	/* For the others that are done, should the callback poll. */
	if (museum.fixed)
		bh_schedule(req->bh);
	if (req == requests && museum.rounds % RARE == RARE - 1)
		wait_for_other();
	if (--unfinished == 0 && museum_advance(&museum, 1))
		submit();
}

static void complete_one(void *opaque)
{
	complete(opaque);
}

static void complete_all(void *opaque)
{
	(void)opaque;
	for (struct request *req = requests; req < requests + PAIR; req++)
		complete(req);
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "completion", "slice", "fixed", NULL };
	static const struct museum_piece piece = { "nested-poll",
						   "a callback polls and waits for what only the outer turn can run",
						   variants, 100000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	sem_init(&submitted, 0, 0);
	loop = bh_loop_new("disk");
	museum_need(loop, "no loop");
	if (museum.variant == SLICE) {
		requests[0].bh = bh_new(loop, complete_one, &requests[0], "first");
		requests[1].bh = bh_new(loop, complete_one, &requests[1], "second");
	} else {
		requests[0].bh = requests[1].bh = bh_new(loop, complete_all, NULL, "completion");
	}
	museum_need(requests[0].bh && requests[1].bh, "no bottom half");
	museum_thread(work, NULL);
	museum_watch(&museum, stuck);
	submit();
	museum_run(&museum, loop, 0);
	return 0;
}
