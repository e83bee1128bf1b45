/* SPDX-License-Identifier: MIT */
/* Bottom halves: each sentence of bh.h about them. */
#include "fixture.h"

enum { MANY = 10 };

static void a_name_is_copied_and_cut(void **state)
{
	(void)state;
	char name[] = "a name of more than thirty-one bytes";
	struct bh *named = bh_new(loop, count, NULL, name), *unnamed = bh_new(loop, count, NULL, NULL);

	memset(name, 'x', sizeof(name));
	assert_string_equal(named->o.name, "a name of more than thirty-one ");
	assert_string_equal(unnamed->o.name, "");
}

static void a_schedule_runs_once(void **state)
{
	(void)state;
	int runs = 0;
	struct bh *bh = bh_new(loop, count, &runs, "once");

	assert_int_equal(turn(), 0);
	bh_schedule(bh);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(runs, 1);
}

static void schedules_coalesce(void **state)
{
	(void)state;
	int runs = 0;
	struct bh *bh = bh_new(loop, count, &runs, "often");

	for (int i = 0; i < 1000; i++) {
		bh_schedule(bh);
		bh_schedule_idle(bh);
		bh_schedule_ticket(bh, (uint64_t)i + 1);
	}
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(runs, 1);
}

static char order[MANY + 1];
static size_t n_ordered;

static void order_begin(void)
{
	memset(order, 0, sizeof(order));
	n_ordered = 0;
}

static void append(void *letter)
{
	order[n_ordered++ % MANY] = *(const char *)letter;
}

static void they_run_in_order_of_schedule(void **state)
{
	(void)state;
	static char letters[] = "abcdefghij";
	struct bh *bh[MANY];

	order_begin();
	for (int i = 0; i < MANY; i++)
		bh[i] = bh_new(loop, append, &letters[i], NULL);
	for (int i = 0; i < MANY; i++)
		bh_schedule(bh[i * 3 % MANY]);
	bh_schedule(bh[0]); /* coalesces and keeps its place */
	assert_int_equal(turn(), 1);
	assert_string_equal(order, "adgjcfibeh");
}

static void schedule_again(void *opaque)
{
	struct actor *a = opaque;

	a->runs++;
	bh_schedule(a->bh);
}

static void one_that_schedules_itself_does_not_hold_the_turn(void **state)
{
	(void)state;
	struct actor a = { .runs = 0 };

	a.bh = bh_new(loop, schedule_again, &a, "again");
	bh_schedule(a.bh);
	for (int i = 1; i <= 5; i++) {
		assert_int_equal(turn(), 1);
		assert_int_equal(a.runs, i);
	}
}

static void cancel_withdraws(void **state)
{
	(void)state;
	int runs = 0;
	struct bh *bh = bh_new(loop, count, &runs, "cancelled");

	bh_cancel(bh);
	bh_schedule(bh);
	bh_cancel(bh);
	assert_int_equal(turn(), 0);
	assert_int_equal(runs, 0);
	bh_schedule(bh);
	bh_cancel(bh);
	bh_schedule(bh);
	assert_int_equal(turn(), 1);
	assert_int_equal(runs, 1);
}

static void cancel_other(void *opaque)
{
	struct actor *a = opaque;

	bh_cancel(a->other);
}

static void delete_other(void *opaque)
{
	struct actor *a = opaque;

	bh_delete(a->other);
}

static void reached_later_in_the_turn(bh_cb *withdraw, int expected_turn)
{
	int runs = 0;
	struct actor a = { .loop = loop };
	struct bh *first = bh_new(loop, withdraw, &a, "first");

	a.other = bh_new(loop, count, &runs, "second");
	bh_schedule(first);
	bh_schedule(a.other);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), expected_turn);
	assert_int_equal(runs, 0);
}

static void a_callback_cancels_what_the_turn_had_not_reached(void **state)
{
	(void)state;
	reached_later_in_the_turn(cancel_other, 0);
}

static void a_callback_deletes_what_the_turn_had_not_reached(void **state)
{
	(void)state;
	reached_later_in_the_turn(delete_other, 0);
}

static void delete_itself(void *opaque)
{
	struct actor *a = opaque;

	a->runs++;
	bh_schedule(a->bh);
	bh_delete(a->bh);
}

static void delete_itself_and_poll(void *opaque)
{
	struct actor *a = opaque;

	delete_itself(a);
	bh_loop_poll(a->loop, false);
	/* Likely in the slot of the deleted one. */
	a->other = bh_new(a->loop, count, &a->result, "new");
	bh_schedule(a->other);
}

static void a_callback_deletes_itself(void **state)
{
	(void)state;
	struct actor a = { .loop = loop };

	a.bh = bh_new(loop, delete_itself, &a, "mortal");
	bh_schedule(a.bh);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(a.runs, 1);
	bh_delete(NULL);
}

static void a_callback_deletes_itself_and_polls(void **state)
{
	(void)state;
	struct actor a = { .loop = loop };

	a.bh = bh_new(loop, delete_itself_and_poll, &a, "mortal");
	bh_schedule(a.bh);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 1);
	assert_int_equal(a.runs, 1);
	assert_int_equal(a.result, 1);
}

static void *delete_from_thread(void *bh)
{
	bh_delete(bh);
	return NULL;
}

static void another_thread_deletes_pending_and_idle_ones(void **state)
{
	(void)state;
	int runs = 0;
	struct bh *pending = bh_new(loop, count, &runs, "pending"), *unused = bh_new(loop, count, &runs, "unused");

	bh_schedule(pending);
	elsewhere(delete_from_thread, pending);
	elsewhere(delete_from_thread, unused);
	assert_int_equal(turn(), 0);
	assert_int_equal(runs, 0);
	assert_true(LIST_EMPTY(&loop->bhs));
}

static void a_oneshot_runs_once_and_is_freed(void **state)
{
	(void)state;
	int runs = 0;

	assert_int_equal(bh_schedule_oneshot(loop, count, &runs, "one"), 0);
	assert_int_equal(bh_schedule_oneshot(loop, count, &runs, NULL), 0);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(runs, 2);
	assert_true(LIST_EMPTY(&loop->bhs));
	assert_int_equal(bh_schedule_oneshot(loop, count, &runs, "freed with the loop"), 0);
}

static void idle_again(void *opaque)
{
	struct actor *a = opaque;

	a->runs++;
	bh_schedule_idle(a->bh);
}

/* The delay is 10 ms: at most 10 turns in 100 ms, and not one alone. */
static void idle_work_is_throttled(void **state)
{
	(void)state;
	struct actor a = { .runs = 0 };
	uint64_t end = bh_now_ns() + 100 * MS;

	a.bh = bh_new(loop, idle_again, &a, "idle");
	bh_schedule_idle(a.bh);
	while (bh_now_ns() < end)
		assert_true(bh_loop_poll(loop, true) >= 0);
	assert_in_range(a.runs, 2, 11);
}

static void idle_does_not_weaken_a_pending_schedule(void **state)
{
	(void)state;
	int runs = 0;
	struct bh *bh = bh_new(loop, count, &runs, "urgent");

	bh_schedule(bh);
	bh_schedule_idle(bh);
	assert_int_equal(bh_pending_timeout_ns(loop), 0);
	assert_int_equal(turn(), 1);
	bh_schedule_idle(bh);
	assert_in_range(bh_pending_timeout_ns(loop), 1, 10 * MS);
	bh_schedule(bh);
	assert_int_equal(bh_pending_timeout_ns(loop), 0);
	bh_cancel(bh);
	assert_int_equal(bh_pending_timeout_ns(loop), -1);
	bh_schedule_idle(bh);
	assert_in_range(bh_pending_timeout_ns(loop), 1, 10 * MS);
	assert_int_equal(turn(), 1);
	assert_int_equal(runs, 2);
}

static void poll_inside(void *opaque)
{
	struct actor *a = opaque;

	a->result = bh_loop_poll(a->loop, false);
	append("-");
}

static void a_nested_poll_runs_what_the_outer_had_not_reached(void **state)
{
	(void)state;
	struct actor a = { .loop = loop };
	struct bh *first = bh_new(loop, append, "a", NULL), *nest = bh_new(loop, poll_inside, &a, "nest");
	struct bh *b = bh_new(loop, append, "b", NULL), *c = bh_new(loop, append, "c", NULL);

	order_begin();
	bh_schedule(first);
	bh_schedule(nest);
	bh_schedule(b);
	bh_schedule(c);
	assert_int_equal(turn(), 1);
	assert_string_equal(order, "abc-");
	assert_int_equal(a.result, 1);
	assert_int_equal(turn(), 0);
}

static void nest_deeper(void *opaque)
{
	struct actor *a = opaque;

	if (++a->runs < 20) {
		bh_schedule(a->bh);
		assert_int_equal(bh_loop_poll(a->loop, true), 1);
	}
	a->result += (int)atomic_load(&a->loop->o.depth);
}

static void polls_nest_deeply(void **state)
{
	(void)state;
	struct actor a = { .loop = loop };

	a.bh = bh_new(loop, nest_deeper, &a, "deep");
	bh_schedule(a.bh);
	assert_int_equal(turn(), 1);
	assert_int_equal(a.runs, 20);
	assert_int_equal(a.result, 20 * 21 / 2);
	assert_int_equal(atomic_load(&loop->o.depth), 0);
}

static void look_at_the_loop(void *opaque)
{
	struct actor *a = opaque;

	a->result = atomic_load(&a->loop->o.where) == BHP_IN_BH && atomic_load(&a->loop->o.current) == a->bh &&
		    atomic_load(&a->loop->o.current_callback) == (const void *)look_at_the_loop &&
		    atomic_load(&a->loop->o.owner_tid) == (uint32_t)gettid() && atomic_load(&a->bh->o.runs) == 1;
	bh_consume(a->bh, 1);
}

static void an_observer_sees_what_runs(void **state)
{
	(void)state;
	struct actor a = { .loop = loop };

	a.bh = bh_new(loop, look_at_the_loop, &a, "seen");
	bh_schedule_ticket(a.bh, 1);
	assert_int_equal(turn(), 1);
	assert_true(a.result);
	assert_int_equal(atomic_load(&loop->o.where), BHP_OUTSIDE);
	assert_null(atomic_load(&loop->o.current));
}

/* Of several rounds the fastest: the machine may be busy with others. */
static uint64_t best_poll_ns(struct bh *bh)
{
	uint64_t best = UINT64_MAX;

	for (int round = 0; round < 50; round++) {
		uint64_t begin = bh_now_ns();
		for (int i = 0; i < 200; i++) {
			bh_schedule(bh);
			turn();
		}
		uint64_t took = bh_now_ns() - begin;
		best = took < best ? took : best;
	}
	return best / 200;
}

static void bottom_halves_that_do_nothing_cost_nothing(void **state)
{
	(void)state;
	enum { IDLE = 100000 };
	int runs = 0;
	struct bh *bh = bh_new(loop, count, &runs, "busy");
	uint64_t alone = best_poll_ns(bh);

	for (int i = 0; i < IDLE; i++)
		assert_non_null(bh_new(loop, count, &runs, "idle"));
	assert_true(best_poll_ns(bh) < 3 * alone + 500);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_name_is_copied_and_cut),
		test(a_schedule_runs_once),
		test(schedules_coalesce),
		test(they_run_in_order_of_schedule),
		test(one_that_schedules_itself_does_not_hold_the_turn),
		test(cancel_withdraws),
		test(a_callback_cancels_what_the_turn_had_not_reached),
		test(a_callback_deletes_what_the_turn_had_not_reached),
		test(a_callback_deletes_itself),
		test(a_callback_deletes_itself_and_polls),
		test(another_thread_deletes_pending_and_idle_ones),
		test(a_oneshot_runs_once_and_is_freed),
		test(idle_work_is_throttled),
		test(idle_does_not_weaken_a_pending_schedule),
		test(a_nested_poll_runs_what_the_outer_had_not_reached),
		test(polls_nest_deeply),
		test(an_observer_sees_what_runs),
		test(bottom_halves_that_do_nothing_cost_nothing),
	};

	return cmocka_run_group_tests_name("bh", tests, NULL, NULL);
}
