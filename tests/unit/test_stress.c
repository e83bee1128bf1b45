/* SPDX-License-Identifier: MIT */
/*
 * Many threads against one loop, for a bounded time: no wakeup is lost, what
 * was written before a schedule is seen, nothing deleted runs.
 */
#include <sched.h>

#include "support.h"

enum { PRODUCERS = 3, SHARED = 4, RUN_MS = 700 };

static struct bh_loop *loop;
static _Atomic bool over;
static _Atomic int failures;

static void *run_loop(void *arg)
{
	assert_int_equal(bh_loop_run(loop), 0);
	return arg;
}

static int setup(void **state)
{
	(void)state;
	over = false;
	failures = 0;
	loop = bh_loop_new("stress");
	return loop ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return bh_loop_free(loop);
}

/* Runs F in some threads and G in one more beside the loop for RUN_MS. */
static void together(void *(*f)(void *), void *(*g)(void *))
{
	pthread_t poller = in_thread(run_loop, NULL), thread[PRODUCERS + 1];

	for (intptr_t i = 0; i < PRODUCERS; i++)
		thread[i] = in_thread(f, (void *)i);
	thread[PRODUCERS] = in_thread(g, (void *)(intptr_t)PRODUCERS);
	usleep(RUN_MS * 1000);
	over = true;
	for (int i = 0; i <= PRODUCERS; i++)
		pthread_join(thread[i], NULL);
	bh_loop_stop(loop);
	pthread_join(poller, NULL);
	while (bh_loop_poll(loop, false) > 0)
		;
	assert_int_equal(failures, 0);
}

/* --- payloads ------------------------------------------------------------------------- */

/* What producer P wrote for bottom half B, and what B's callback saw of it.
 * Relaxed on purpose: bh_schedule() alone must order them. */
static _Atomic uint64_t payload[PRODUCERS][SHARED], seen[PRODUCERS][SHARED];
static struct bh *shared[SHARED];
static unsigned nesting;

static void look(void *opaque)
{
	size_t b = (size_t)opaque;

	for (int p = 0; p < PRODUCERS; p++) {
		uint64_t v = atomic_load_explicit(&payload[p][b], memory_order_relaxed);
		atomic_store_explicit(&seen[p][b], v, memory_order_relaxed);
	}
	/* One of them polls inside. */
	if (b == 0 && nesting < 3) {
		nesting++;
		if (bh_loop_poll(loop, false) < 0)
			failures++;
		nesting--;
	}
}

static void wait_until_seen(int p, int b, uint64_t value)
{
	uint64_t deadline = bh_now_ns() + 20000 * MS;

	while (atomic_load_explicit(&seen[p][b], memory_order_relaxed) < value) {
		sched_yield();
		if (bh_now_ns() > deadline) {
			failures++;
			return;
		}
	}
}

static void *produce(void *arg)
{
	int p = (int)(intptr_t)arg;
	unsigned seed = (unsigned)p + 1;

	for (uint64_t i = 1; !over; i++) {
		int b = rand_r(&seed) % SHARED;
		atomic_store_explicit(&payload[p][b], i, memory_order_relaxed);
		if (rand_r(&seed) % 2)
			bh_schedule(shared[b]);
		else
			bh_schedule_ticket(shared[b], i);
		/* Nobody else may come to its rescue at the end of a burst. */
		if (rand_r(&seed) % 8 == 0)
			wait_until_seen(p, b, i);
		else if (rand_r(&seed) % 1000 == 0)
			usleep(rand_r(&seed) % 300);
	}
	return NULL;
}

static void *produce_idly(void *arg)
{
	unsigned seed = 99;

	while (!over) {
		bh_schedule_idle(shared[rand_r(&seed) % SHARED]);
		usleep(200);
	}
	return arg;
}

static void every_payload_is_seen(void **state)
{
	(void)state;
	memset(payload, 0, sizeof(payload));
	memset(seen, 0, sizeof(seen));
	for (size_t b = 0; b < SHARED; b++)
		shared[b] = bh_new(loop, look, (void *)b, "shared");
	together(produce, produce_idly);
	for (int p = 0; p < PRODUCERS; p++)
		for (int b = 0; b < SHARED; b++)
			assert_int_equal(seen[p][b], payload[p][b]);
}

/* --- cancel and delete ------------------------------------------------------------------- */

enum { MORTALS = 20000 };

static struct mortal {
	_Atomic uint64_t last_turn; /* it may run in this turn and not later; 0: alive */
	_Atomic uint64_t magic;
} mortals[PRODUCERS][MORTALS], immortal;

static void run_mortal(void *opaque)
{
	struct mortal *m = opaque;
	uint64_t last = atomic_load(&m->last_turn);

	if (atomic_load(&m->magic) != (uintptr_t)m || (last && atomic_load(&loop->o.iteration) > last))
		failures++;
}

/* Creates, schedules, cancels, deletes; slots are reused all the time. */
static void *live_and_die(void *arg)
{
	intptr_t p = (intptr_t)arg;
	unsigned seed = (unsigned)p + 7;

	atomic_store(&immortal.magic, (uintptr_t)&immortal);
	for (int i = 0; i < MORTALS && !over; i++) {
		struct mortal *m = &mortals[p][i];
		atomic_store(&m->last_turn, 0);
		atomic_store(&m->magic, (uintptr_t)m);
		struct bh *bh = bh_new(loop, run_mortal, m, "mortal");
		for (int k = rand_r(&seed) % 4; k > 0; k--)
			bh_schedule(bh);
		if (rand_r(&seed) % 3 == 0)
			bh_cancel(bh);
		if (rand_r(&seed) % 3 == 0)
			bh_schedule_idle(bh);
		bh_cancel(shared[rand_r(&seed) % SHARED]);
		bh_delete(bh);
		atomic_store(&m->last_turn, atomic_load(&loop->o.iteration) + 1);
		if (bh_schedule_oneshot(loop, run_mortal, &immortal, "oneshot") != 0)
			failures++;
	}
	return NULL;
}

static void delete_and_replace(void *opaque)
{
	struct bh **bh = opaque;
	struct bh *old = *bh;

	*bh = bh_new(loop, delete_and_replace, bh, "phoenix");
	if (!over)
		bh_schedule_idle(*bh);
	bh_delete(old);
}

static void *schedule_shared(void *arg)
{
	unsigned seed = 5;

	while (!over)
		bh_schedule(shared[rand_r(&seed) % SHARED]);
	return arg;
}

static void nothing_deleted_runs_and_all_are_freed(void **state)
{
	(void)state;
	int runs[SHARED] = { 0 };
	struct bh *phoenix = bh_new(loop, delete_and_replace, &phoenix, "phoenix");

	for (int b = 0; b < SHARED; b++)
		shared[b] = bh_new(loop, count, &runs[b], "cancelled often");
	bh_schedule(phoenix);
	together(live_and_die, schedule_shared);
}

static void cancelled_ones_can_still_be_scheduled(void **state)
{
	(void)state;
	int runs[SHARED] = { 0 };

	for (int b = 0; b < SHARED; b++)
		shared[b] = bh_new(loop, count, &runs[b], "cancelled often");
	together(live_and_die, schedule_shared);
	for (int b = 0; b < SHARED; b++) {
		int before = runs[b];
		bh_schedule(shared[b]);
		assert_int_equal(bh_loop_poll(loop, true), 1);
		assert_int_equal(runs[b], before + 1);
	}
}

/* --- two loops, one ball -------------------------------------------------------------------- */

struct player {
	struct bh_loop *loop;
	struct bh *bh, *peer;
	int left;
};

static void hit(void *opaque)
{
	struct player *p = opaque;

	bh_schedule(p->peer);
	if (--p->left == 0)
		bh_loop_stop(p->loop);
}

static void *play(void *player)
{
	assert_int_equal(bh_loop_run(((struct player *)player)->loop), 0);
	return NULL;
}

/* Each step is a wakeup of a loop that sleeps or is just about to. */
static void loops_wake_each_other(void **state)
{
	(void)state;
	struct player a = { .loop = loop, .left = 20000 }, b = { .loop = bh_loop_new("b"), .left = 20000 };

	a.bh = b.peer = bh_new(a.loop, hit, &a, "a");
	b.bh = a.peer = bh_new(b.loop, hit, &b, "b");
	bh_schedule(a.bh);
	pthread_t t = in_thread(play, &b);
	play(&a);
	pthread_join(t, NULL);
	assert_int_equal(bh_loop_free(b.loop), 0);
}

/* --- timers and descriptors from everywhere ------------------------------------------------------ */

static struct bh_timer *timers[SHARED];

static void nothing(int fd, unsigned events, void *opaque)
{
	(void)fd, (void)events, (void)opaque;
}

static void *churn(void *arg)
{
	unsigned seed = (unsigned)(intptr_t)arg;
	int ends[2], runs = 0;

	if (pipe(ends) != 0)
		failures++;
	while (!over) {
		struct bh_timer *own = bh_timer_new(loop, count, &runs);
		struct bh_fd *handler = bh_fd_new(loop, ends[1], POLLOUT, nothing, NULL);
		bh_timer_set(timers[rand_r(&seed) % SHARED], bh_now_ns() + rand_r(&seed) % (2 * MS));
		bh_timer_set(own, UINT64_MAX - 2);
		if (rand_r(&seed) % 4 == 0)
			bh_timer_cancel(timers[rand_r(&seed) % SHARED]);
		if (bh_fd_set(handler, 0) != 0)
			failures++;
		bh_fd_delete(handler);
		bh_timer_delete(own);
	}
	close(ends[0]);
	close(ends[1]);
	return NULL;
}

static void timers_and_descriptors_come_and_go(void **state)
{
	(void)state;
	int runs = 0;

	for (int i = 0; i < SHARED; i++)
		timers[i] = bh_timer_new(loop, count, &runs);
	together(churn, churn);
	assert_true(runs > 0);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

/* --- an execution is stamped by the turn that it belongs to ------------------------- */

static _Atomic bool hammering;

static void *hammer(void *bh)
{
	for (unsigned i = 0; i < 200000; i++) {
		bh_schedule(bh);
		for (unsigned k = i % 64; k-- > 0;)
			atomic_signal_fence(memory_order_seq_cst);
	}
	atomic_store(&hammering, false);
	return NULL;
}

static void every_execution_is_in_an_announced_turn(void **state)
{
	struct bh_loop *polled = bh_loop_new("polled");
	int runs = 0;
	uint64_t turn = 0, executions = 0;

	(void)state;
	struct bh *bh = bh_new(polled, count, &runs, "hammered");
	atomic_store(&hammering, true);
	pthread_t thread = in_thread(hammer, bh);
	while (atomic_load(&hammering))
		bh_loop_poll(polled, false);
	pthread_join(thread, NULL);

	struct bhp_ring *ring = bhp_tls_ring;
	uint64_t head = atomic_load(&ring->head);
	for (uint64_t i = head > ring->capacity ? head - ring->capacity : 0; i < head; i++) {
		const struct bhp_record *r = bhp_ring_slot(ring, i);
		if (bhp_record_id(r) == BHP_ID_poll_begin)
			turn = bhp_record_time(r);
		if (bhp_record_id(r) == BHP_ID_execute_begin && turn) {
			assert_true(bhp_record_time(r) >= turn);
			executions++;
		}
		/* The next turn has to announce itself again. */
		if (bhp_record_id(r) == BHP_ID_poll_end)
			turn = turn ? UINT64_MAX : 0;
	}
	assert_true(executions > 100);
	bh_delete(bh);
	assert_int_equal(bh_loop_free(polled), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(every_payload_is_seen),
		test(nothing_deleted_runs_and_all_are_freed),
		test(cancelled_ones_can_still_be_scheduled),
		test(loops_wake_each_other),
		test(timers_and_descriptors_come_and_go),
		test(every_execution_is_in_an_announced_turn),
	};

	/* A wakeup that is lost for ever ends here. */
	alarm(120);
	return cmocka_run_group_tests_name("stress", tests, NULL, NULL);
}
