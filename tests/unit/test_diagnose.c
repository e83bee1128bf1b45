/* SPDX-License-Identifier: MIT */
/* The rules, on histories of a few events; what must not be called a finding. */
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

/* An execution of BH that ran in [BEGIN, END]. */
static void executed(struct story *s, uint64_t begin, uint64_t end)
{
	tell(s, LOOP_TID, begin, execute_begin, .loop = LOOP, .bh = BH);
	tell(s, LOOP_TID, end, execute_end, .loop = LOOP, .bh = BH, .begin = begin);
	for (int i = 0; i < 2; i++) {
		s->bh[i].runs++;
		s->bh[i].last_run = begin;
	}
}

static void sleeps(struct story *s, uint64_t at)
{
	tell(s, LOOP_TID, at, wait_begin, .loop = LOOP, .timeout_ns = -1);
}

/* Ticket 1 is handled, ticket 2 coalesces at AT, the execution is [1000000, 1000100]. */
static void lose_ticket_two(struct story *s, uint64_t at)
{
	story_begin(s);
	tell(s, OTHER, 985000, thread, .tid = OTHER);
	tell(s, PRODUCER, 999000, schedule, .loop = LOOP, .bh = BH, .seen = 0, .ticket = 1);
	tell(s, PRODUCER, 999100, notify, .loop = LOOP, .bh = BH, .notify_me = 1, .written = 1);
	if (at < 1000000)
		tell(s, OTHER, at, schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 2);
	executed(s, 1000000, 1000100);
	if (at >= 1000000)
		tell(s, OTHER, at, schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 2);
	tell(s, LOOP_TID, 1000050, consume, .loop = LOOP, .bh = BH, .ticket = 1);
	sleeps(s, 1001000);
}

static void lost_ticket_is_proved(void **state)
{
	struct story *s = *state;
	static const uint64_t at[] = { 999500, 999990, 1000010, 1000090, 1000500, 1003000 };

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		lose_ticket_two(s, at[i]);
		expect(s, BHT_LOST, BHT_RULE_FLAG_RACE, BHT_PROVED);
	}
}

static void consumed_ticket_is_healthy(void **state)
{
	struct story *s = *state;

	lose_ticket_two(s, 1000010);
	tell(s, LOOP_TID, 1000060, consume, .loop = LOOP, .bh = BH, .ticket = 2);
	expect_healthy(s);
}

/* The loop's stamp may be earlier than the producer's. */
static void consume_stamped_before_its_schedule(void **state)
{
	struct story *s = *state;

	story_begin(s);
	tell(s, PRODUCER, 999000, schedule, .loop = LOOP, .bh = BH, .seen = 0, .ticket = 1);
	executed(s, 1000000, 1000100);
	tell(s, LOOP_TID, 1000040, consume, .loop = LOOP, .bh = BH, .ticket = 2);
	tell(s, LOOP_TID, 1000050, consume, .loop = LOOP, .bh = BH, .ticket = 1);
	tell(s, OTHER, 1000070, schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 2);
	expect_healthy(s);
}

/* A ticket whose payload was visible for long when the callback looked. */
static void ignored_ticket_is_not_a_race(void **state)
{
	struct story *s = *state;

	lose_ticket_two(s, 1000010);
	s->n--; /* the sleep */
	executed(s, 2000000, 2000100);
	expect_healthy(s);
}

static void program_that_never_consumes(void **state)
{
	struct story *s = *state;

	story_begin(s);
	executed(s, 1000000, 1000100);
	tell(s, OTHER, 1000010, schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 2);
	expect_healthy(s);
}

static void loss_of_the_loops_history_is_undecidable(void **state)
{
	struct story *s = *state;

	lose_ticket_two(s, 1000010);
	struct bht_event *loss = &s->event[s->n++];
	*loss = bht_loss(1000090, LOOP_TID, BHT_LOSS_OVERWRITTEN, 9);
	expect_undecidable(s);
	/* The consume may be stamped before the schedule, whose exchange lies
	 * after its thread's event before, at 985000. */
	*loss = bht_loss(998000, LOOP_TID, BHT_LOSS_OVERWRITTEN, 9);
	expect_undecidable(s);
	*loss = bht_loss(990000, LOOP_TID, BHT_LOSS_OVERWRITTEN, 9);
	expect(s, BHT_LOST, BHT_RULE_FLAG_RACE, BHT_CONSISTENT);
	*loss = bht_loss(980000, LOOP_TID, BHT_LOSS_OVERWRITTEN, 9);
	expect(s, BHT_LOST, BHT_RULE_FLAG_RACE, BHT_PROVED);
	/* Events of no known thread are missing until now. */
	*loss = bht_loss(30000000, 0, BHT_LOSS_DROPPED, 1);
	expect_undecidable(s);
}

static void without_tickets(struct story *s, uint64_t at, uint32_t protocol)
{
	story_begin(s);
	s->loop[0].protocol = s->loop[1].protocol = protocol;
	tell(s, PRODUCER, 900000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, OTHER, at < 1000000 ? at : 950000, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	executed(s, 1000000, 1000100);
	if (at >= 1000000)
		tell(s, OTHER, at, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	sleeps(s, 1001000);
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
	s->event[s->n++] = bht_loss(1000050, PRODUCER, BHT_LOSS_OVERWRITTEN, 3);
	expect_undecidable(s);
	s->loop[0].protocol = s->loop[1].protocol = BHP_PROTOCOL_FULL_BARRIER;
	expect_healthy(s);
}

/* The flag is set and the loop sleeps. */
static void scheduled_and_asleep(struct story *s)
{
	story_begin(s);
	s->bh[0].flags = s->bh[1].flags = BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED;
	sleeps(s, 900000);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
}

static void missing_notification(void **state)
{
	struct story *s = *state;

	scheduled_and_asleep(s);
	expect(s, BHT_LOST, BHT_RULE_NOTIFY_MISSING, BHT_PROVED);
	/* The producer was about to notify when it lost the CPU. */
	s->thread[1][1].state = 'R';
	expect_undecidable(s);
	/* But not if it has done something else since. */
	tell(s, PRODUCER, 1000500, consume, .loop = LOOP, .bh = BH, .ticket = 1);
	expect(s, BHT_LOST, BHT_RULE_NOTIFY_MISSING, BHT_PROVED);
}

static void notified_or_unknown_is_not_missing(void **state)
{
	struct story *s = *state;

	scheduled_and_asleep(s);
	tell(s, PRODUCER, 1000100, notify, .loop = LOOP, .bh = BH, .notify_me = 0);
	expect_undecidable(s);

	scheduled_and_asleep(s);
	s->event[s->n++] = bht_loss(1000100, PRODUCER, BHT_LOSS_OVERWRITTEN, 1);
	expect_undecidable(s);

	scheduled_and_asleep(s);
	s->n = 0;
	expect_undecidable(s);

	scheduled_and_asleep(s);
	s->loop[0].notifier_count = s->loop[1].notifier_count = 1;
	expect_undecidable(s);
}

static void idle_work_waits_on_purpose(void **state)
{
	struct story *s = *state;

	scheduled_and_asleep(s);
	s->bh[0].flags = s->bh[1].flags = BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED | BHP_FLAG_IDLE;
	s->loop[0].wait_timeout_ns = s->loop[1].wait_timeout_ns = 10000000;
	expect_healthy(s);
}

static void in_callback(struct story *s)
{
	story_begin(s);
	tell(s, LOOP_TID, 1000000, execute_begin, .loop = LOOP, .bh = BH);
	for (int i = 0; i < 2; i++) {
		s->loop[i].where = BHP_IN_BH;
		s->loop[i].current = (uintptr_t)BH;
		s->loop[i].current_since = 1000000;
		s->thread[i][0].syscall = 202;
	}
	s->ev.last.ticks = s->ev.first.ticks + 300000000;
}

static void stuck_in_a_callback(void **state)
{
	struct story *s = *state;

	in_callback(s);
	expect(s, BHT_STUCK, BHT_RULE_CALLBACK_BLOCKED, BHT_CONSISTENT);
	assert_int_equal(bht_settled(&s->ev), BHT_SETTLED);

	s->thread[0][0].state = s->thread[1][0].state = 'R';
	s->thread[1][0].cpu_ns = 290000000;
	expect(s, BHT_STUCK, BHT_RULE_CALLBACK_SPINNING, BHT_CONSISTENT);

	/* On a loaded machine it got little CPU: not watched long enough. */
	s->thread[1][0].cpu_ns = 20000000;
	expect_undecidable(s);
	assert_int_equal(bht_settled(&s->ev), BHT_LOOK_AGAIN);
	s->thread[1][0].cpu_ns = 0;
	expect_undecidable(s);
}

static void progress_is_healthy(void **state)
{
	struct story *s = *state;

	in_callback(s);
	s->loop[1].iteration++;
	expect_healthy(s);
	in_callback(s);
	s->loop[1].current_since++; /* another callback of the same turn */
	expect_healthy(s);
	scheduled_and_asleep(s);
	s->loop[1].iteration++;
	expect_healthy(s);
	lose_ticket_two(s, 1000010);
	s->loop[1].iteration++;
	expect_healthy(s);
}

static void what_no_rule_names_is_undecidable(void **state)
{
	struct story *s = *state;

	story_begin(s);
	s->loop[0].where = s->loop[1].where = BHP_DISPATCH;
	expect_undecidable(s);
	story_begin(s);
	s->loop[0].owner = s->loop[1].owner = 99;
	expect_undecidable(s);
	story_begin(s);
	s->loop[0].where = s->loop[1].where = BHP_OUTSIDE;
	expect_healthy(s);
	s->bh[1].flags = BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED;
	expect_undecidable(s);
	story_begin(s);
	s->thread[1][0].switches++;
	expect_undecidable(s);
	assert_int_equal(bht_settled(&s->ev), BHT_START_OVER);
}

static int setup(void **state)
{
	*state = calloc(1, sizeof(struct story));
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lost_ticket_is_proved),
		cmocka_unit_test(consumed_ticket_is_healthy),
		cmocka_unit_test(consume_stamped_before_its_schedule),
		cmocka_unit_test(ignored_ticket_is_not_a_race),
		cmocka_unit_test(program_that_never_consumes),
		cmocka_unit_test(loss_of_the_loops_history_is_undecidable),
		cmocka_unit_test(near_coalescing_without_tickets_is_consistent),
		cmocka_unit_test(full_barrier_excludes_it),
		cmocka_unit_test(missing_history_of_any_producer_matters_without_tickets),
		cmocka_unit_test(missing_notification),
		cmocka_unit_test(notified_or_unknown_is_not_missing),
		cmocka_unit_test(idle_work_waits_on_purpose),
		cmocka_unit_test(stuck_in_a_callback),
		cmocka_unit_test(progress_is_healthy),
		cmocka_unit_test(what_no_rule_names_is_undecidable),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
