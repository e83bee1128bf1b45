/* SPDX-License-Identifier: MIT */
/*
 * What decides beyond a single rule: the limits of the race window, which loss
 * matters, progress, and why nothing is wrong. The rules have test_lost.c,
 * test_stuck.c and test_late.c.
 */
#include "story.h"

static void expect(const struct story *s, enum bht_verdict verdict, enum bht_rule_id rule,
		   enum bht_confidence confidence)
{
	struct bht_diagnosis d;

	story_diagnose(s, &d);
	if (d.verdict != verdict)
		print_message("got %s: %s\n", bht_verdict_name(d.verdict),
			      d.n_findings  ? d.findings[0].detail
			      : d.n_reasons ? d.reasons[0]
					    : "");
	assert_int_equal(d.verdict, verdict);
	if (rule != BHT_RULES) {
		assert_int_equal(d.n_findings, 1);
		assert_int_equal(d.findings[0].rule, rule);
		assert_int_equal(d.findings[0].confidence, confidence);
		assert_string_equal(d.findings[0].loop.name, "main");
		assert_true(d.findings[0].n_witness > 0);
		assert_true(d.findings[0].detail[0] && d.findings[0].refute[0]);
	} else {
		assert_int_equal(d.n_findings, 0);
		assert_true((verdict == BHT_UNDECIDABLE) == (d.n_reasons > 0));
	}
	bht_diagnosis_free(&d);
}

#define expect_healthy(s)     expect(s, BHT_HEALTHY, BHT_RULES, 0)
#define expect_undecidable(s) expect(s, BHT_UNDECIDABLE, BHT_RULES, 0)

/* --- tickets ---------------------------------------------------------------------------- */

/* Ticket 1 is handled, ticket 2 coalesces at AT, the execution is [1000000,
 * 1000100]. Of the loop's thread what was before LOST is missing. */
static void lose_ticket_two(struct story *s, uint64_t at, uint64_t lost)
{
	story_begin(s);
	tell(s, OTHER, 985000, thread, .tid = OTHER);
	tell(s, PRODUCER, 999000, schedule, .loop = LOOP, .bh = BH, .seen = 0, .ticket = 1);
	tell(s, PRODUCER, 999100, notify, .loop = LOOP, .bh = BH, .notify_me = 1, .written = 1);
	if (at < 1000000)
		tell(s, OTHER, at, schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 2);
	if (lost && lost <= 1000000)
		story_lose(s, LOOP_TID, lost);
	story_executed(s, BH, 1000000, 1000100);
	if (at >= 1000000)
		tell(s, OTHER, at, schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 2);
	tell(s, LOOP_TID, 1000050, consume, .loop = LOOP, .bh = BH, .ticket = 1);
	if (lost > 1000000)
		story_lose(s, LOOP_TID, lost);
	story_sleeps(s, 1001000);
}

static void lost_ticket_is_proved(void **state)
{
	struct story *s = *state;
	static const uint64_t at[] = { 999500, 999990, 1000010, 1000090, 1000500, 1003000 };

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		lose_ticket_two(s, at[i], 0);
		expect(s, BHT_LOST, BHT_RULE_FLAG_RACE, BHT_PROVED);
	}
	/* 10 us before the clear it was seen. */
	lose_ticket_two(s, 989999, 0);
	expect_healthy(s);
}

/* The loop's stamp may be earlier than the producer's. */
static void consume_stamped_before_its_schedule(void **state)
{
	struct story *s = *state;

	story_begin(s);
	tell(s, PRODUCER, 999000, schedule, .loop = LOOP, .bh = BH, .seen = 0, .ticket = 1);
	story_executed(s, BH, 1000000, 1000100);
	tell(s, LOOP_TID, 1000040, consume, .loop = LOOP, .bh = BH, .ticket = 2);
	tell(s, LOOP_TID, 1000050, consume, .loop = LOOP, .bh = BH, .ticket = 1);
	tell(s, OTHER, 1000070, schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 2);
	expect_healthy(s);
}

static void program_that_never_consumes(void **state)
{
	struct story *s = *state;

	story_begin(s);
	story_executed(s, BH, 1000000, 1000100);
	tell(s, OTHER, 1000010, schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 2);
	expect_healthy(s);
}

/* --- loss ------------------------------------------------------------------------------- */

static void loss_of_the_loops_history_is_undecidable(void **state)
{
	struct story *s = *state;

	lose_ticket_two(s, 1000010, 1000090);
	expect_undecidable(s);
	/* The consume may be stamped before the schedule, whose exchange lies
	 * after its thread's event before, at 985000. */
	lose_ticket_two(s, 1000010, 998000);
	expect_undecidable(s);
	lose_ticket_two(s, 1000010, 990000);
	expect_undecidable(s);
	lose_ticket_two(s, 1000010, 980000);
	expect(s, BHT_LOST, BHT_RULE_FLAG_RACE, BHT_PROVED);
	/* Events of no known thread are missing until now. */
	lose_ticket_two(s, 1000010, 0);
	story_lose(s, 0, s->ev.last.ticks);
	expect_undecidable(s);
}

static void without_tickets(struct story *s, uint64_t at, uint32_t protocol)
{
	story_begin(s);
	both(s, loop[0].protocol, protocol);
	tell(s, PRODUCER, 900000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, OTHER, at < 1000000 ? at : 950000, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	story_executed(s, BH, 1000000, 1000100);
	if (at >= 1000000)
		tell(s, OTHER, at, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	story_sleeps(s, 1001000);
}

static void near_coalescing_without_tickets_is_consistent(void **state)
{
	struct story *s = *state;

	without_tickets(s, 999900, 0);
	expect(s, BHT_LOST, BHT_RULE_FLAG_RACE, BHT_CONSISTENT);
	without_tickets(s, 1000900, 0);
	expect(s, BHT_LOST, BHT_RULE_FLAG_RACE, BHT_CONSISTENT);
	/* Long before the clear the payload was visible. */
	without_tickets(s, 980000, 0);
	expect_healthy(s);
}

static void full_barrier_excludes_it(void **state)
{
	struct story *s = *state;

	without_tickets(s, 999900, BHP_PROTOCOL_FULL_BARRIER);
	expect_healthy(s);
	without_tickets(s, 1000900, BHP_PROTOCOL_FULL_BARRIER);
	expect_healthy(s);
}

static void missing_history_of_any_producer_matters_without_tickets(void **state)
{
	struct story *s = *state;

	without_tickets(s, 980000, 0);
	story_lose(s, PRODUCER, 1000050);
	expect_undecidable(s);
	both(s, loop[0].protocol, BHP_PROTOCOL_FULL_BARRIER);
	expect_healthy(s);
}

/* What is missing is counted, and its reason said, whatever the verdict. */
static void loss_is_reported(void **state)
{
	struct story *s = *state;
	struct bht_diagnosis d;

	story_begin(s);
	s->event[s->n++] = bht_loss(900000, PRODUCER, BHT_LOSS_OVERWRITTEN, 3);
	s->event[s->n++] = bht_loss(950000, OTHER, BHT_LOSS_DAMAGED, 4);
	story_diagnose(s, &d);
	assert_int_equal(d.verdict, BHT_HEALTHY);
	assert_int_equal(d.lost_events, 7);
	assert_non_null(strstr(d.loss_why, "overwritten by newer ones, damaged"));
	assert_non_null(strstr(d.loss_why, "29.050 ms"));
	bht_diagnosis_free(&d);
}

/* --- progress ---------------------------------------------------------------------------- */

static void scheduled_and_asleep(struct story *s)
{
	story_begin(s);
	story_due(s, 0);
	story_sleeps(s, 900000);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, 1000500, consume, .loop = LOOP, .bh = BH, .ticket = 1);
}

static void in_callback(struct story *s)
{
	story_begin(s);
	tell(s, LOOP_TID, 1000000, execute_begin, .loop = LOOP, .bh = BH);
	both(s, loop[0].where, BHP_IN_BH);
	both(s, loop[0].current, (uintptr_t)BH);
	both(s, loop[0].current_since, 1000000);
	s->ev.last.ticks = s->ev.first.ticks + 300000000;
}

static void progress_is_healthy(void **state)
{
	struct story *s = *state;

	in_callback(s);
	s->last.loop[0].iteration++;
	expect_healthy(s);
	in_callback(s);
	s->last.loop[0].current_since++; /* another callback of the same turn */
	expect_healthy(s);
	lose_ticket_two(s, 1000010, 0);
	s->last.loop[0].iteration++;
	expect_healthy(s);
	/* The loop turns, and ran it in between. */
	scheduled_and_asleep(s);
	s->last.loop[0].iteration++;
	s->last.bh[0].runs++;
	expect_healthy(s);
	assert_int_equal(bht_settled(&s->ev), BHT_SETTLED);
	/* It did not: the next turn may, so this is worth another look. */
	s->last.bh[0].runs--;
	expect_undecidable(s);
	assert_int_equal(bht_settled(&s->ev), BHT_LOOK_AGAIN);
}

static void things_that_move_are_undecidable(void **state)
{
	struct story *s = *state;

	story_begin(s);
	s->last.thread[0].switches++;
	expect_undecidable(s);
	assert_int_equal(bht_settled(&s->ev), BHT_START_OVER);
	story_begin(s);
	s->ev.last.unstable = true;
	expect_undecidable(s);
	assert_int_equal(bht_settled(&s->ev), BHT_START_OVER);
	story_begin(s);
	both(s, loop[0].owner, 99);
	expect_undecidable(s);
	story_begin(s);
	both(s, thread[0].state, 'T');
	expect_undecidable(s);
	assert_int_equal(bht_settled(&s->ev), BHT_LOOK_AGAIN);
}

static void settled_when_watched_long_enough(void **state)
{
	struct story *s = *state;

	in_callback(s);
	assert_int_equal(bht_settled(&s->ev), BHT_SETTLED);
	s->ev.last.ticks = s->ev.first.ticks + 199000000;
	assert_int_equal(bht_settled(&s->ev), BHT_LOOK_AGAIN);
	both(s, thread[0].state, 'R');
	s->last.thread[0].cpu_ns = 199000000;
	assert_int_equal(bht_settled(&s->ev), BHT_LOOK_AGAIN);
	s->last.thread[0].cpu_ns = 200000000;
	assert_int_equal(bht_settled(&s->ev), BHT_SETTLED);
}

/* --- the innocents -------------------------------------------------------------------------- */

static void expect_standing(const struct story *s, enum bht_standing standing)
{
	struct bht_diagnosis d;

	story_diagnose(s, &d);
	assert_int_equal(d.verdict, BHT_HEALTHY);
	assert_int_equal(d.standing[0], standing);
	bht_diagnosis_free(&d);
}

static void innocents_are_named(void **state)
{
	struct story *s = *state;

	story_begin(s);
	expect_standing(s, BHT_IS_IDLE);

	/* An idle schedule, which waits for its 10 ms. */
	story_due(s, 0);
	both(s, bh[0].flags, s->first.bh[0].flags | BHP_FLAG_IDLE);
	both(s, loop[0].wait_timeout_ns, 10000000);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .kind = BHP_KIND_IDLE);
	expect_standing(s, BHT_IS_THROTTLED);

	/* Due in the last sample only: the loop turns and will run it. */
	story_begin(s);
	s->last.bh[0].flags = BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED;
	s->last.loop[0].iteration++;
	expect_standing(s, BHT_IS_DUE);

	story_begin(s);
	both(s, bh[0].flags, BHP_FLAG_LINKED);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH);
	tell(s, PRODUCER, 1001000, bh_cancel, .loop = LOOP, .bh = BH, .flags = 3);
	expect_standing(s, BHT_IS_CANCELLED);
	/* A cancel before the last execution says nothing of now. */
	both(s, bh[0].last_run, 1002000);
	expect_standing(s, BHT_IS_IDLE);

	story_begin(s);
	both(s, bh[0].state, BHP_DYING);
	both(s, bh[0].flags, BHP_FLAG_LINKED | BHP_FLAG_DELETED);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH);
	tell(s, PRODUCER, 1001000, bh_delete, .loop = LOOP, .bh = BH, .flags = 3);
	expect_standing(s, BHT_IS_DELETED);
}

/* An idle schedule that no time-out of its loop will end is no innocent. */
static void idle_work_without_a_timer(void **state)
{
	struct story *s = *state;

	story_begin(s);
	story_due(s, 0);
	both(s, bh[0].flags, s->first.bh[0].flags | BHP_FLAG_IDLE);
	story_sleeps(s, 900000);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .kind = BHP_KIND_IDLE);
	tell(s, PRODUCER, 1000500, consume, .loop = LOOP, .bh = BH, .ticket = 1);
	expect(s, BHT_LOST, BHT_RULE_NOTIFY_MISSING, BHT_PROVED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lost_ticket_is_proved),
		cmocka_unit_test(consume_stamped_before_its_schedule),
		cmocka_unit_test(program_that_never_consumes),
		cmocka_unit_test(loss_of_the_loops_history_is_undecidable),
		cmocka_unit_test(near_coalescing_without_tickets_is_consistent),
		cmocka_unit_test(full_barrier_excludes_it),
		cmocka_unit_test(missing_history_of_any_producer_matters_without_tickets),
		cmocka_unit_test(loss_is_reported),
		cmocka_unit_test(progress_is_healthy),
		cmocka_unit_test(things_that_move_are_undecidable),
		cmocka_unit_test(settled_when_watched_long_enough),
		cmocka_unit_test(innocents_are_named),
		cmocka_unit_test(idle_work_without_a_timer),
	};

	return cmocka_run_group_tests(tests, story_setup, story_teardown);
}
