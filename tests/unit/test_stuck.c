/* SPDX-License-Identifier: MIT */
/* The rules of loops that cannot get there, each with its nearest neighbours. */
#include "rows.h"

enum { WATCHED_NS = 300000000 };

/* --- callback-blocked, loop-blocked, callback-spinning ---------------------------------- */

static void inside(struct story *s, enum bhp_where where)
{
	story_begin(s);
	both(s, loop[0].where, where);
	both(s, loop[0].notify_me, BHP_LOOP_AWAKE);
	both(s, loop[0].current_since, 1000000);
	both(s, thread[0].syscall, SYS_futex);
	s->ev.last.ticks = s->ev.first.ticks + WATCHED_NS;
	if (where != BHP_IN_BH)
		return;
	tell(s, PRODUCER, 999000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, 999100, notify, .loop = LOOP, .bh = BH, .notify_me = 1, .written = 1);
	story_executed(s, BH, 1000000, 0);
	both(s, loop[0].current, (uintptr_t)BH);
	both(s, loop[0].current_callback, 0x4000);
}

static void asleep_in_a_callback(struct story *s)
{
	inside(s, BHP_IN_BH);
}

/* Each holds what the other sleeps for. */
static void locks_in_a_circle(struct story *s)
{
	inside(s, BHP_IN_BH);
	both(s, thread[0].lock_owner, OTHER);
	both(s, thread[2].lock_owner, LOOP_TID);
	both(s, thread[2].syscall, SYS_futex);
}

static void holder_has_exited(struct story *s)
{
	inside(s, BHP_IN_BH);
	both(s, thread[0].lock_owner, 99);
}

/* The holder sleeps for ever, and waits for this loop most likely. */
static void holder_waits_for_the_callback(struct story *s)
{
	inside(s, BHP_IN_BH);
	both(s, thread[0].lock_owner, PRODUCER);
	both(s, thread[1].syscall, SYS_futex);
}

/* It sleeps with a time-out. */
static void holder_will_wake(struct story *s)
{
	holder_waits_for_the_callback(s);
	both(s, thread[1].args[3], 0x7000);
}

static void returned_from_the_callback(struct story *s)
{
	inside(s, BHP_IN_BH);
	s->last.loop[0].current_since = 2000000;
}

static void asleep_between_callbacks(struct story *s)
{
	inside(s, BHP_DISPATCH);
}

static void asleep_in_a_handler(struct story *s)
{
	inside(s, BHP_IN_FD);
}

static void asleep_in_a_timer(struct story *s)
{
	inside(s, BHP_IN_TIMER);
}

static void woke_in_the_callback(struct story *s)
{
	inside(s, BHP_IN_BH);
	s->last.thread[0].switches++;
}

static void spins(struct story *s)
{
	inside(s, BHP_IN_BH);
	both(s, thread[0].state, 'R');
	s->last.thread[0].cpu_ns = WATCHED_NS;
}

static void spins_since_a_moment(struct story *s)
{
	spins(s);
	s->last.thread[0].cpu_ns = BHT_SPINNING_MS * 1000000u - 1;
}

static void runs_between_callbacks(struct story *s)
{
	inside(s, BHP_DISPATCH);
	both(s, thread[0].state, 'R');
	s->last.thread[0].cpu_ns = WATCHED_NS;
}

static void blocked(void **state)
{
	static const struct row rows[] = {
		ROW(asleep_in_a_callback, STUCK(CALLBACK_BLOCKED, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
		ROW(locks_in_a_circle, STUCK(CALLBACK_BLOCKED, PROVED), STUCK(CALLBACK_BLOCKED, CONSISTENT),
		    UNDECIDABLE),
		ROW(holder_has_exited, STUCK(CALLBACK_BLOCKED, PROVED), STUCK(CALLBACK_BLOCKED, CONSISTENT),
		    UNDECIDABLE),
		ROW(holder_waits_for_the_callback, STUCK(CALLBACK_BLOCKED, CONSISTENT),
		    STUCK(CALLBACK_BLOCKED, CONSISTENT), UNDECIDABLE),
		ROW(holder_will_wake, STUCK(CALLBACK_BLOCKED, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
		ROW(returned_from_the_callback, HEALTHY, UNDECIDABLE, UNDECIDABLE),
		ROW(woke_in_the_callback, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(asleep_between_callbacks, STUCK(LOOP_BLOCKED, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
		ROW(asleep_in_a_handler, STUCK(LOOP_BLOCKED, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
		ROW(asleep_in_a_timer, STUCK(LOOP_BLOCKED, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
	};

	(void)state;
	CHECK_ROWS(rows);
}

static void spinning(void **state)
{
	static const struct row rows[] = {
		ROW(spins, STUCK(CALLBACK_SPINNING, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
		ROW(spins_since_a_moment, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(runs_between_callbacks, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
	};

	(void)state;
	CHECK_ROWS(rows);
}

/* Which call, which lock, whose it is: the finding names them. */
static void holders_are_named(void **state)
{
	struct story *s = *state;
	struct bht_diagnosis d;

	locks_in_a_circle(s);
	both(s, thread[0].args[0], 0xabc0);
	strcpy(s->last.thread[2].name, "holder");
	story_diagnose(s, &d);
	assert_int_equal(d.n_findings, 1);
	assert_non_null(strstr(d.findings[0].detail, "futex"));
	assert_non_null(strstr(d.findings[0].detail, "0xabc0"));
	assert_non_null(strstr(d.findings[0].detail, "holder (tid 12)"));
	assert_non_null(strstr(d.findings[0].detail, "deadlock"));
	bht_diagnosis_free(&d);
}

/* --- producer-stopped --------------------------------------------------------------------- */

static void scheduled_and_asleep(struct story *s)
{
	story_begin(s);
	story_due(s, 0);
	story_sleeps(s, 900000);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
}

static void stopped_before_its_notify(struct story *s)
{
	scheduled_and_asleep(s);
	both(s, thread[1].state, 'T');
}

static void exited_before_its_notify(struct story *s)
{
	scheduled_and_asleep(s);
	both(s, thread[1].state, 'X');
}

/* Its schedule is not recorded: it stopped earlier still. */
static void set_by_nobody(struct story *s)
{
	story_begin(s);
	story_due(s, 0);
	story_executed(s, BH, 800000, 800100);
	story_sleeps(s, 900000);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 1);
}

static void set_by_a_stopped_thread(struct story *s)
{
	set_by_nobody(s);
	both(s, thread[2].state, 't');
}

static void stopped_before_its_write(struct story *s)
{
	scheduled_and_asleep(s);
	tell(s, PRODUCER, 1000100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_NOTIFIED);
	both(s, thread[2].state, 'T');
}

/* A stopped thread that did notify has nothing to do with it. */
static void stopped_after_its_notify(struct story *s)
{
	stopped_before_its_notify(s);
	tell(s, PRODUCER, 1000100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
}

static void stopped_while_nothing_is_due(struct story *s)
{
	story_begin(s);
	both(s, thread[1].state, 'T');
}

static void producer_stopped(void **state)
{
	static const struct row rows[] = {
		ROW(stopped_before_its_notify, STUCK(PRODUCER_STOPPED, PROVED), UNDECIDABLE, UNDECIDABLE),
		ROW(exited_before_its_notify, STUCK(PRODUCER_STOPPED, SUSPECTED), STUCK(PRODUCER_STOPPED, SUSPECTED),
		    STUCK(PRODUCER_STOPPED, SUSPECTED)),
		ROW(set_by_nobody, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(set_by_a_stopped_thread, STUCK(PRODUCER_STOPPED, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
		ROW(stopped_before_its_write, STUCK(PRODUCER_STOPPED, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
		ROW(stopped_after_its_notify, { BHT_LOST, BHT_RULE_NOTIFY_SKIPPED, BHT_PROVED },
		    { BHT_LOST, BHT_RULE_NOTIFY_SKIPPED, BHT_CONSISTENT },
		    { BHT_LOST, BHT_RULE_NOTIFY_SKIPPED, BHT_CONSISTENT }),
		ROW(stopped_while_nothing_is_due, HEALTHY, HEALTHY, HEALTHY),
	};

	(void)state;
	CHECK_ROWS(rows);
}

/* --- nested-poll ----------------------------------------------------------------------------- */

/* The callback of "outer" polls, and the nested turn sleeps. */
static void nested(struct story *s)
{
	story_begin(s);
	story_more(s, 1, 2);
	both(s, loop[0].depth, 2);
	tell(s, PRODUCER, 900000, schedule, .loop = LOOP, .bh = OUTER, .seen = 0, .ticket = 1);
	tell(s, PRODUCER, 900100, notify, .loop = LOOP, .bh = OUTER, .notify_me = 1, .written = 1);
}

static void falls_asleep(struct story *s)
{
	story_executed(s, OUTER, 1000000, 0);
	tell(s, LOOP_TID, 1000100, consume, .loop = LOOP, .bh = OUTER, .ticket = 1);
	tell(s, LOOP_TID, 1001000, poll_begin, .loop = LOOP, .blocking = 1, .depth = 2, .iteration = 7);
	story_sleeps(s, 1002000);
}

static void taken_up_by_the_outer_turn(struct story *s)
{
	nested(s);
	story_due(s, 0);
	tell(s, OTHER, 950000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, OTHER, 950100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_NOTIFIED);
	falls_asleep(s);
}

static void taken_by_the_outer_execution(struct story *s)
{
	nested(s);
	tell(s, OTHER, 950000, schedule, .loop = LOOP, .bh = OUTER, .seen = 1, .ticket = 2);
	falls_asleep(s);
}

static void nested_and_all_handled(struct story *s)
{
	taken_by_the_outer_execution(s);
	s->n -= 2;
	tell(s, LOOP_TID, 1000200, consume, .loop = LOOP, .bh = OUTER, .ticket = 2);
	tell(s, LOOP_TID, 1001000, poll_begin, .loop = LOOP, .blocking = 1, .depth = 2, .iteration = 7);
	story_sleeps(s, 1002000);
}

static void nested_without_tickets(struct story *s)
{
	nested(s);
	falls_asleep(s);
	s->event[0].r = bhp_encode_schedule(900000, &(struct bhp_schedule){ .loop = LOOP, .bh = OUTER, .seen = 0 });
	s->event[3] = s->event[4];
	s->event[4] = s->event[5];
	s->n--;
}

/* What is scheduled in the nested turn is seen by it: this wakeup was lost. */
static void skipped_in_the_nested_turn(struct story *s)
{
	nested(s);
	story_due(s, 0);
	falls_asleep(s);
	tell(s, OTHER, 1003000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, OTHER, 1003100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
}

static void nested_poll(void **state)
{
	static const struct row rows[] = {
		ROW(taken_up_by_the_outer_turn, STUCK(NESTED_POLL, CONSISTENT), STUCK(NESTED_POLL, CONSISTENT),
		    STUCK(NESTED_POLL, CONSISTENT)),
		ROW(taken_by_the_outer_execution, STUCK(NESTED_POLL, CONSISTENT), STUCK(NESTED_POLL, CONSISTENT),
		    STUCK(NESTED_POLL, CONSISTENT)),
		ROW(nested_and_all_handled, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(nested_without_tickets, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(skipped_in_the_nested_turn, { BHT_LOST, BHT_RULE_NOTIFY_SKIPPED, BHT_PROVED },
		    { BHT_LOST, BHT_RULE_NOTIFY_SKIPPED, BHT_CONSISTENT },
		    { BHT_LOST, BHT_RULE_NOTIFY_SKIPPED, BHT_CONSISTENT }),
	};

	(void)state;
	CHECK_ROWS(rows);
}

/* --- starved ----------------------------------------------------------------------------------- */

/* Both samples find it scheduled; another one ran RUNS times in between. */
static void overtaken(struct story *s, unsigned runs)
{
	story_begin(s);
	story_more(s, 1, 2);
	story_due(s, 0);
	s->last.loop[0].iteration += 1000;
	s->last.bh[1].runs += runs;
	tell(s, PRODUCER, 900000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, 900100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
}

static void overtaken_often(struct story *s)
{
	overtaken(s, BHT_STARVED_RUNS);
}

static void overtaken_less_often(struct story *s)
{
	overtaken(s, BHT_STARVED_RUNS - 1);
}

static void overtaken_and_run(struct story *s)
{
	overtaken(s, BHT_STARVED_RUNS);
	s->last.bh[0].runs++;
	s->last.bh[0].last_run = 20000000;
}

static void overtaken_and_cancelled(struct story *s)
{
	overtaken(s, BHT_STARVED_RUNS);
	s->last.bh[0].flags = BHP_FLAG_LINKED;
}

static void overtaken_and_idle(struct story *s)
{
	overtaken(s, BHT_STARVED_RUNS);
	both(s, bh[0].flags, BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED | BHP_FLAG_IDLE);
	both(s, loop[0].wait_timeout_ns, 10000000);
}

static void of_another_loop(struct story *s)
{
	overtaken(s, BHT_STARVED_RUNS);
	story_more(s, 2, 2);
	both(s, loop[1].where, BHP_OUTSIDE);
	both(s, bh[1].loop, (uintptr_t)AUX);
}

static void without_cpu(struct story *s)
{
	inside(s, BHP_DISPATCH);
	story_due(s, 0);
	both(s, thread[0].state, 'R');
	s->ev.last.ticks = s->ev.first.ticks + BHT_NO_CPU_MS * UINT64_C(1000000);
	tell(s, PRODUCER, 900000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
}

static void without_cpu_for_less_long(struct story *s)
{
	without_cpu(s);
	s->ev.last.ticks--;
}

static void owner_is_stopped(struct story *s)
{
	without_cpu(s);
	both(s, thread[0].state, 'T');
}

static void starved(void **state)
{
	static const struct row rows[] = {
		ROW(overtaken_often, STUCK(STARVED, CONSISTENT), LOST(NOTIFY_SKIPPED, CONSISTENT),
		    LOST(NOTIFY_SKIPPED, CONSISTENT)),
		ROW(overtaken_less_often, UNDECIDABLE, LOST(NOTIFY_SKIPPED, CONSISTENT),
		    LOST(NOTIFY_SKIPPED, CONSISTENT)),
		ROW(of_another_loop, UNDECIDABLE, LOST(NOTIFY_SKIPPED, CONSISTENT), LOST(NOTIFY_SKIPPED, CONSISTENT)),
		ROW(without_cpu, STUCK(STARVED, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
		ROW(without_cpu_for_less_long, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(owner_is_stopped, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
	};
	static const struct row innocents[] = {
		ROW(overtaken_and_run, HEALTHY, UNDECIDABLE, UNDECIDABLE),
		ROW(overtaken_and_cancelled, HEALTHY, HEALTHY, HEALTHY),
		ROW(overtaken_and_idle, HEALTHY, HEALTHY, HEALTHY),
	};

	(void)state;
	CHECK_ROWS(rows);
	CHECK_ROWS(innocents);
}

/* One look and the history: N executions of another one since the schedule. */
static void overtaken_in_the_history(struct story *s, unsigned n, enum bht_origin origin)
{
	inside(s, BHP_DISPATCH);
	story_more(s, 1, 2);
	story_due(s, 0);
	both(s, thread[0].state, 'R');
	tell(s, PRODUCER, 900000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	for (unsigned i = 0; i < n; i++)
		story_executed(s, OUTER, 1000000 + i * 1000, 1000100 + i * 1000);
	story_look(s, origin);
}

static void starved_in_the_history(void **state)
{
	static const enum bht_origin origins[] = { BHT_FROM_CORE, BHT_FROM_RINGS };
	struct story *s = *state;

	for (unsigned i = 0; i < 2; i++) {
		overtaken_in_the_history(s, BHT_STARVED_RUNS, origins[i]);
		assert_int_equal(outcome_of(s).rule, BHT_RULE_STARVED);
		overtaken_in_the_history(s, BHT_STARVED_RUNS - 1, origins[i]);
		assert_int_equal(outcome_of(s).verdict, BHT_UNDECIDABLE);
		/* It may have run in what is missing. */
		overtaken_in_the_history(s, BHT_STARVED_RUNS, origins[i]);
		story_delete(s, 1);
		assert_int_equal(outcome_of(s).verdict, BHT_UNDECIDABLE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocked),
		cmocka_unit_test(spinning),
		cmocka_unit_test(holders_are_named),
		cmocka_unit_test(producer_stopped),
		cmocka_unit_test(nested_poll),
		cmocka_unit_test(starved),
		cmocka_unit_test(starved_in_the_history),
	};

	return cmocka_run_group_tests(tests, story_setup, story_teardown);
}
