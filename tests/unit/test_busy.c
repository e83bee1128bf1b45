/* SPDX-License-Identifier: MIT */
/*
 * A hang in a process that is busy otherwise: other threads run, schedule, and
 * overwrite their history. That must not keep the hang from being named, unless
 * they may have a part in it.
 */
#include "story.h"

static void run(struct story *s, unsigned thread)
{
	both(s, thread[thread].state, 'R');
	s->last.thread[thread].switches++;
}

/* PRODUCER set the flag, took the loop for awake, and the loop slept. */
static void skipped(struct story *s)
{
	story_begin(s);
	story_due(s, 0);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, 1000100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
	story_sleeps(s, 1000900);
	run(s, 2);
	run(s, 3);
}

static void go_on_scheduling(struct story *s, const void *loop, uint64_t from)
{
	for (uint64_t i = 0; i < 10; i++) {
		tell(s, OTHER, from + i * 1000, schedule, .loop = loop, .bh = loop == LOOP ? BH : OUTER, .seen = 1);
		tell(s, FOURTH, from + i * 1000 + 500, schedule, .loop = loop, .bh = loop == LOOP ? BH : OUTER,
		     .seen = 1);
	}
}

static void expect(struct story *s, enum bht_verdict verdict, enum bht_confidence confidence)
{
	struct bht_diagnosis d;

	story_diagnose(s, &d);
	assert_int_equal(d.verdict, verdict);
	if (verdict == BHT_LOST) {
		assert_int_equal(d.findings[0].rule, BHT_RULE_NOTIFY_SKIPPED);
		assert_int_equal(d.findings[0].confidence, confidence);
	}
	bht_diagnosis_free(&d);
}

static void producers_that_go_on(void **state)
{
	struct story *s = *state;

	skipped(s);
	go_on_scheduling(s, LOOP, s->ev.first.ticks + 1000);
	expect(s, BHT_LOST, BHT_PROVED);
}

/* They may have withdrawn it and set the flag again, and not recorded that. */
static void producers_in_the_middle_of_it(void **state)
{
	struct story *s = *state;

	skipped(s);
	go_on_scheduling(s, LOOP, 1100000);
	expect(s, BHT_UNDECIDABLE, 0);
}

static void strangers(void **state)
{
	struct story *s = *state;

	skipped(s);
	go_on_scheduling(s, AUX, 1100000);
	expect(s, BHT_LOST, BHT_PROVED);
}

/* What they overwrote may have been about this loop. */
static void strangers_who_overwrote_their_history(void **state)
{
	struct story *s = *state;

	skipped(s);
	s->event[s->n++] = bht_loss(2000000, OTHER, BHT_LOSS_OVERWRITTEN, 1000);
	s->event[s->n++] = bht_loss(2000000, FOURTH, BHT_LOSS_OVERWRITTEN, 1000);
	go_on_scheduling(s, AUX, 2000000);
	expect(s, BHT_LOST, BHT_CONSISTENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(producers_that_go_on),
		cmocka_unit_test(producers_in_the_middle_of_it),
		cmocka_unit_test(strangers),
		cmocka_unit_test(strangers_who_overwrote_their_history),
	};

	return cmocka_run_group_tests(tests, story_setup, story_teardown);
}
