/* SPDX-License-Identifier: MIT */
/* What the machines keep of a history: flags, executions, threads, loss. */
#include "machines.h"
#include "story.h"

static void feed(struct story *s, struct bht_machines *m)
{
	for (unsigned i = 0; i < s->n; i++)
		assert_int_equal(bht_machines_feed(m, &s->event[i]), 0);
}

static const struct bht_bh_machine *bh_machine(const struct bht_machines *m)
{
	const struct bht_bh_machine *bh = bht_machine_bh(m, (uintptr_t)BH);

	assert_non_null(bh);
	return bh;
}

static void pending_until_cleared(void **state)
{
	struct story *s = *state;
	static const struct {
		unsigned events;
		bool pending;
	} after[] = { { 1, true }, { 2, true }, { 3, false }, { 5, true }, { 6, false }, { 7, true }, { 8, false } };

	story_begin(s);
	tell(s, PRODUCER, 100, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, OTHER, 200, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	tell(s, LOOP_TID, 300, execute_begin, .loop = LOOP, .bh = BH);
	tell(s, LOOP_TID, 400, execute_end, .loop = LOOP, .bh = BH, .begin = 300);
	tell(s, PRODUCER, 500, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, OTHER, 600, bh_cancel, .loop = LOOP, .bh = BH, .flags = BHP_FLAG_SCHEDULED);
	tell(s, PRODUCER, 700, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, OTHER, 800, bh_delete, .loop = LOOP, .bh = BH, .flags = BHP_FLAG_SCHEDULED);
	for (unsigned i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
		struct bht_machines m = { 0 };
		s->n = after[i].events;
		feed(s, &m);
		assert_int_equal(bh_machine(&m)->pending, after[i].pending);
		bht_machines_free(&m);
	}
}

/* A slot that is used again is another object. */
static void made_anew(void **state)
{
	struct story *s = *state;
	struct bht_machines m = { 0 };

	story_begin(s);
	tell(s, PRODUCER, 100, schedule, .loop = LOOP, .bh = BH, .seen = 0, .ticket = 5);
	tell(s, OTHER, 200, bh_new, .loop = LOOP, .bh = BH);
	feed(s, &m);
	assert_false(bh_machine(&m)->pending);
	assert_int_equal(bh_machine(&m)->tickets.n, 0);
	assert_int_equal(bhp_record_time(&bh_machine(&m)->effective.r), 0);
	bht_machines_free(&m);
}

static void executions_nest(void **state)
{
	struct story *s = *state;
	struct bht_machines m = { 0 };

	story_begin(s);
	tell(s, LOOP_TID, 100, poll_begin, .loop = LOOP, .depth = 1);
	story_executed(s, OUTER, 200, 0);
	story_executed(s, BH, 300, 340);
	feed(s, &m);
	const struct bht_loop_machine *loop = bht_machine_loop(&m, (uintptr_t)LOOP);
	assert_non_null(loop);
	assert_int_equal(loop->n_open, 1);
	assert_int_equal(loop->open[0].bh, (uintptr_t)OUTER);
	assert_int_equal(loop->busy, 0); /* only the outermost count */
	s->n = 0;
	tell(s, LOOP_TID, 500, execute_end, .loop = LOOP, .bh = OUTER, .begin = 200);
	feed(s, &m);
	assert_int_equal(loop->n_open, 0);
	assert_int_equal(loop->busy, 300);
	assert_int_equal(loop->executions, 2);
	/* The end of one was lost: the next outermost turn knows. */
	s->n = 0;
	story_executed(s, BH, 600, 0);
	tell(s, LOOP_TID, 700, poll_begin, .loop = LOOP, .depth = 1);
	feed(s, &m);
	assert_int_equal(loop->n_open, 0);
	bht_machines_free(&m);
}

/* Ends without begins, and more begins than are kept, do no harm. */
static void executions_out_of_bounds(void **state)
{
	struct story *s = *state;
	struct bht_machines m = { 0 };

	story_begin(s);
	tell(s, LOOP_TID, 100, execute_end, .loop = LOOP, .bh = BH, .begin = 50);
	for (unsigned i = 0; i < 4 * BHT_OPEN_MAX; i++)
		tell(s, LOOP_TID, 200 + i, execute_begin, .loop = LOOP, .bh = BH);
	for (unsigned i = 0; i < 8 * BHT_OPEN_MAX; i++)
		tell(s, LOOP_TID, 2000 + i, execute_end, .loop = LOOP, .bh = BH, .begin = 200);
	feed(s, &m);
	assert_int_equal(bht_machine_loop(&m, (uintptr_t)LOOP)->n_open, 0);
	bht_machines_free(&m);
}

static void complete_since_loss(void **state)
{
	struct story *s = *state;
	struct bht_machines m = { 0 };

	story_begin(s);
	tell(s, LOOP_TID, 100, poll_begin, .loop = LOOP, .depth = 1);
	tell(s, PRODUCER, 200, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	story_lose(s, PRODUCER, 400);
	tell(s, PRODUCER, 400, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	story_lose(s, LOOP_TID, 300);
	feed(s, &m);
	assert_int_equal(bht_complete_since(&m), 400);
	assert_int_equal(bht_pollers_complete_since(&m, (uintptr_t)LOOP, 0), 300);
	assert_int_equal(bht_pollers_complete_since(&m, (uintptr_t)AUX, 0), 0);
	assert_int_equal(bht_pollers_complete_since(&m, (uintptr_t)AUX, PRODUCER), 400);
	assert_int_equal(m.lost, 2);
	assert_true(bht_lossless(&m, 0, 99));
	assert_false(bht_lossless(&m, 150, 160)); /* the loop's thread */
	assert_false(bht_lossless(&m, 350, 360)); /* the producer's */
	assert_true(bht_lossless(&m, 401, 500));
	/* Of no thread in particular: of all, from the beginning. */
	s->n = 0;
	story_lose(s, 0, 600);
	feed(s, &m);
	assert_int_equal(bht_complete_since(&m), 600);
	assert_false(bht_lossless(&m, 0, 99));
	bht_machines_free(&m);
}

/* Many holes become few, and cover at least what they covered. */
static void holes_are_bounded(void **state)
{
	struct story *s = *state;
	struct bht_machines m = { 0 };
	enum { HOLES = 4 * BHT_LOSSES_MAX };

	story_begin(s);
	for (uint64_t i = 1; i <= HOLES; i++) {
		tell(s, PRODUCER, i * 1000, schedule, .loop = LOOP, .bh = BH, .seen = 1);
		story_lose(s, PRODUCER, i * 1000 + 100);
	}
	feed(s, &m);
	assert_true(m.n_spans <= BHT_LOSSES_MAX);
	for (uint64_t i = 1; i <= HOLES; i++)
		assert_false(bht_lossless(&m, i * 1000 + 50, i * 1000 + 60));
	assert_true(bht_lossless(&m, HOLES * 1000 + 101, HOLES * 1000 + 500));
	bht_machines_free(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pending_until_cleared), cmocka_unit_test(made_anew),
		cmocka_unit_test(executions_nest),       cmocka_unit_test(executions_out_of_bounds),
		cmocka_unit_test(complete_since_loss),   cmocka_unit_test(holes_are_bounded),
	};

	return cmocka_run_group_tests(tests, story_setup, story_teardown);
}
