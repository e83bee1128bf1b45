/* SPDX-License-Identifier: MIT */
/* The rules of lost wakeups, each with its nearest neighbours. */
#include <sys/epoll.h>

#include "rows.h"

/* --- flag-race ----------------------------------------------------------------------- */

/* Ticket 1 is handled by [1000000, 1000100]; ticket 2 coalesces at AT. */
static void two_tickets(struct story *s, uint64_t at, bool consumed)
{
	story_begin(s);
	both(s, loop[0].protocol, 0);
	tell(s, OTHER, 985000, thread, .tid = OTHER);
	tell(s, PRODUCER, 999000, schedule, .loop = LOOP, .bh = BH, .seen = 0, .ticket = 1);
	tell(s, PRODUCER, 999100, notify, .loop = LOOP, .bh = BH, .notify_me = 1, .written = 1);
	if (at < 1000000)
		tell(s, OTHER, at, schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 2);
	story_executed(s, BH, 1000000, 1000100);
	if (at >= 1000000)
		tell(s, OTHER, at, schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 2);
	tell(s, LOOP_TID, 1000050, consume, .loop = LOOP, .bh = BH, .ticket = 1);
	if (consumed)
		tell(s, LOOP_TID, 1000060, consume, .loop = LOOP, .bh = BH, .ticket = 2);
	story_sleeps(s, 1001000);
}

static void lost_ticket(struct story *s)
{
	two_tickets(s, 1000010, false);
}

static void lost_ticket_before_the_clear(struct story *s)
{
	two_tickets(s, 999500, false);
}

static void consumed_ticket(struct story *s)
{
	two_tickets(s, 1000010, true);
}

/* A later execution must have seen the work, and chose to leave it. */
static void ignored_ticket(struct story *s)
{
	two_tickets(s, 1000010, false);
	s->n--;
	tell(s, PRODUCER, 1999000, schedule, .loop = LOOP, .bh = BH, .seen = 0, .ticket = 3);
	tell(s, PRODUCER, 1999100, notify, .loop = LOOP, .bh = BH, .notify_me = 1, .written = 1);
	tell(s, LOOP_TID, 2000000, execute_begin, .loop = LOOP, .bh = BH);
	tell(s, LOOP_TID, 2000050, consume, .loop = LOOP, .bh = BH, .ticket = 3);
	tell(s, LOOP_TID, 2000100, execute_end, .loop = LOOP, .bh = BH, .begin = 2000000);
	both(s, bh[0].last_run, 2000000);
	story_sleeps(s, 2001000);
}

static void near_the_clear_without_tickets(struct story *s)
{
	story_begin(s);
	both(s, loop[0].protocol, 0);
	tell(s, PRODUCER, 900000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, 900100, notify, .loop = LOOP, .bh = BH, .notify_me = 1, .written = 1);
	story_executed(s, BH, 1000000, 1000100);
	tell(s, OTHER, 1000900, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	story_sleeps(s, 1001000);
}

static void long_before_the_clear_without_tickets(struct story *s)
{
	near_the_clear_without_tickets(s);
	s->n -= 2;
	s->event[s->n - 2] = s->event[s->n]; /* before the execution */
	s->event[s->n - 2].r = bhp_encode_schedule(980000, &(struct bhp_schedule){ .loop = LOOP, .bh = BH, .seen = 1 });
	s->event[s->n - 2].tid = OTHER;
	s->event[s->n - 1].r = bhp_encode_execute_begin(1000000, &(struct bhp_execute_begin){ .loop = LOOP, .bh = BH });
	tell(s, LOOP_TID, 1000100, execute_end, .loop = LOOP, .bh = BH, .begin = 1000000);
	story_sleeps(s, 1001000);
}

static void flag_race(void **state)
{
	static const struct row rows[] = {
		ROW(lost_ticket, LOST(FLAG_RACE, PROVED), LOST(FLAG_RACE, PROVED), LOST(FLAG_RACE, PROVED)),
		ROW(lost_ticket_before_the_clear, LOST(FLAG_RACE, PROVED), LOST(FLAG_RACE, PROVED),
		    LOST(FLAG_RACE, PROVED)),
		ROW(consumed_ticket, HEALTHY, HEALTHY, HEALTHY),
		ROW(ignored_ticket, HEALTHY, HEALTHY, HEALTHY),
		ROW(near_the_clear_without_tickets, LOST(FLAG_RACE, CONSISTENT), LOST(FLAG_RACE, CONSISTENT),
		    LOST(FLAG_RACE, CONSISTENT)),
		ROW(long_before_the_clear_without_tickets, HEALTHY, HEALTHY, HEALTHY),
	};

	(void)state;
	CHECK_ROWS(rows);
}

/* One loss explains the hang: of two that are possible the closer one. */
static void closest_race_is_the_likely_one(void **state)
{
	struct story *s = *state;
	struct bht_diagnosis d;

	near_the_clear_without_tickets(s);
	story_more(s, 1, 2);
	s->n--;
	story_executed(s, OUTER, 1002000, 1002100);
	tell(s, OTHER, 1009000, schedule, .loop = LOOP, .bh = OUTER, .seen = 1);
	story_diagnose(s, &d);
	assert_int_equal(d.verdict, BHT_LOST);
	assert_int_equal(d.n_findings, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(d.findings[i].rule, BHT_RULE_FLAG_RACE);
		assert_int_equal(d.findings[i].confidence, i ? BHT_SUSPECTED : BHT_CONSISTENT);
		assert_int_equal(d.findings[i].bh.addr, i ? (uintptr_t)OUTER : (uintptr_t)BH);
	}
	bht_diagnosis_free(&d);
}

/* --- notify-skipped, -stolen, -missing ------------------------------------------------- */

/* The flag is set and the loop sleeps. */
static void scheduled_and_asleep(struct story *s)
{
	story_begin(s);
	story_due(s, 0);
	story_sleeps(s, 900000);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
}

static void notified(struct story *s, enum bhp_notify_me me, uint8_t written)
{
	scheduled_and_asleep(s);
	tell(s, PRODUCER, 1000100, notify, .loop = LOOP, .bh = BH, .notify_me = (uint8_t)me, .written = written);
}

static void saw_it_awake(struct story *s)
{
	notified(s, BHP_LOOP_AWAKE, 0);
}

/* It was scheduled before the loop went to sleep. */
static void saw_it_awake_before_it_slept(struct story *s)
{
	saw_it_awake(s);
	s->event[0] = s->event[1];
	s->event[1] = s->event[2];
	s->n--;
	story_sleeps(s, 1001000);
}

static void write_failed(struct story *s)
{
	notified(s, BHP_LOOP_SLEEPING, 2);
}

/* Count 0, and no accept: somebody outside of this library read it. */
static void taken_by_an_outsider(struct story *s)
{
	notified(s, BHP_LOOP_SLEEPING, 1);
}

static void taken_by_a_thread(struct story *s)
{
	taken_by_an_outsider(s);
	tell(s, OTHER, 1000800, accept, .loop = LOOP, .by = BHP_BY_OTHER, .value = 1);
}

static void taken_by_a_thread_earlier(struct story *s)
{
	taken_by_a_thread(s);
	s->event[3] = s->event[0];
	s->event[0].r = bhp_encode_accept(800000, &(struct bhp_accept){ .loop = LOOP, .by = BHP_BY_OTHER, .value = 1 });
	s->event[0].tid = OTHER;
	s->event[3].r = bhp_encode_notify(1000100, &(struct bhp_notify){ LOOP, BH, BHP_LOOP_SLEEPING, 2 });
	s->event[2] = s->event[1];
	s->event[1].r = bhp_encode_wait_begin(900000, &(struct bhp_wait_begin){ .loop = LOOP, .timeout_ns = -1 });
	s->event[1].tid = LOOP_TID;
	s->event[2].r = bhp_encode_schedule(1000000, &(struct bhp_schedule){ .loop = LOOP, .bh = BH });
	s->event[2].tid = s->event[3].tid = PRODUCER;
}

/* Cleared by the loop after its last look at its bottom halves. */
static void cleared_too_late(struct story *s)
{
	story_begin(s);
	story_due(s, 0);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, 1000100, notify, .loop = LOOP, .bh = BH, .notify_me = 1, .written = 1);
	tell(s, LOOP_TID, 1000800, accept, .loop = LOOP, .by = BHP_BY_POLL, .value = 1);
	story_sleeps(s, 1000900);
}

/* Somebody else's write, for this sleep, was taken. */
static void others_write_was_taken(struct story *s)
{
	story_begin(s);
	story_due(s, 0);
	story_sleeps(s, 900000);
	tell(s, OTHER, 999000, notify, .loop = LOOP, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, 1000100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_NOTIFIED);
	tell(s, OTHER, 1000800, accept, .loop = LOOP, .by = BHP_BY_OTHER, .value = 1);
}

static void others_write_is_not_recorded(struct story *s)
{
	notified(s, BHP_LOOP_NOTIFIED, 0);
}

static void not_notified(struct story *s)
{
	scheduled_and_asleep(s);
	tell(s, PRODUCER, 1000500, consume, .loop = LOOP, .bh = BH, .ticket = 1);
}

static void not_notified_and_asleep(struct story *s)
{
	scheduled_and_asleep(s);
}

static void not_notified_yet(struct story *s)
{
	scheduled_and_asleep(s);
	both(s, thread[1].state, 'R');
}

/* The notify is recorded after the write. */
static void in_the_write(struct story *s)
{
	scheduled_and_asleep(s);
	both(s, thread[1].syscall, SYS_write);
	both(s, thread[1].args[0], (uint64_t)s->first.loop[0].notifier_fd);
}

/* An idle schedule that a normal one made urgent without a word: or was it
 * another one, which is not recorded yet? */
static void upgraded_and_not_notified(struct story *s)
{
	story_begin(s);
	story_due(s, 0);
	tell(s, OTHER, 800000, schedule, .loop = LOOP, .bh = BH, .seen = 0, .kind = BHP_KIND_IDLE);
	tell(s, OTHER, 800100, notify, .loop = LOOP, .bh = BH, .notify_me = 1, .written = 1);
	story_sleeps(s, 900000);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	tell(s, PRODUCER, 1000500, consume, .loop = LOOP, .bh = BH, .ticket = 1);
}

static void upgraded_and_skipped(struct story *s)
{
	upgraded_and_not_notified(s);
	s->n--;
	tell(s, PRODUCER, 1000100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
}

/* One of the two was run before it was recorded: which? */
static void set_twice(struct story *s)
{
	not_notified(s);
	tell(s, OTHER, 1020000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, OTHER, 1020100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
}

/* Who finds the flag set later has nothing to notify. */
static void upgraded_then_coalesced(struct story *s)
{
	upgraded_and_skipped(s);
	tell(s, OTHER, 1000200, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	tell(s, OTHER, 1000300, consume, .loop = LOOP, .bh = BH, .ticket = 1);
}

static void idle_schedule_waits(struct story *s)
{
	upgraded_and_not_notified(s);
	s->n -= 2;
	both(s, bh[0].flags, BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED | BHP_FLAG_IDLE);
	both(s, loop[0].wait_timeout_ns, 10000000);
}

static void notification(void **state)
{
	static const struct row rows[] = {
		ROW(saw_it_awake, LOST(NOTIFY_SKIPPED, PROVED), LOST(NOTIFY_SKIPPED, CONSISTENT),
		    LOST(NOTIFY_SKIPPED, CONSISTENT)),
		ROW(saw_it_awake_before_it_slept, LOST(NOTIFY_SKIPPED, PROVED), LOST(NOTIFY_SKIPPED, CONSISTENT),
		    LOST(NOTIFY_SKIPPED, CONSISTENT)),
		ROW(upgraded_and_skipped, LOST(NOTIFY_SKIPPED, PROVED), LOST(NOTIFY_SKIPPED, CONSISTENT),
		    LOST(NOTIFY_SKIPPED, CONSISTENT)),
		ROW(write_failed, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(taken_by_a_thread, LOST(NOTIFY_STOLEN, PROVED), LOST(NOTIFY_STOLEN, CONSISTENT),
		    LOST(NOTIFY_STOLEN, CONSISTENT)),
		ROW(taken_by_a_thread_earlier, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(taken_by_an_outsider, LOST(NOTIFY_STOLEN, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
		ROW(cleared_too_late, LOST(NOTIFY_STOLEN, CONSISTENT), LOST(NOTIFY_STOLEN, CONSISTENT),
		    LOST(NOTIFY_STOLEN, CONSISTENT)),
		ROW(others_write_was_taken, LOST(NOTIFY_STOLEN, PROVED), LOST(NOTIFY_STOLEN, CONSISTENT),
		    LOST(NOTIFY_STOLEN, CONSISTENT)),
		ROW(others_write_is_not_recorded, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(not_notified, LOST(NOTIFY_MISSING, PROVED), LOST(NOTIFY_MISSING, CONSISTENT),
		    LOST(NOTIFY_MISSING, CONSISTENT)),
		ROW(upgraded_and_not_notified, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(not_notified_and_asleep, LOST(NOTIFY_MISSING, PROVED), LOST(NOTIFY_MISSING, CONSISTENT),
		    UNDECIDABLE),
		ROW(not_notified_yet, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(in_the_write, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(idle_schedule_waits, HEALTHY, HEALTHY, HEALTHY),
	};

	(void)state;
	CHECK_ROWS(rows);
}

/* The one that notified is not the last that found the flag set: whatever is
 * said, it is not that the last one forgot. */
static void last_coalesced_is_not_blamed(void **state)
{
	struct story *s = *state;

	upgraded_then_coalesced(s);
	struct outcome o = outcome_of(s);
	assert_true(o.verdict == BHT_UNDECIDABLE || o.rule == BHT_RULE_NOTIFY_SKIPPED);
}

static void of_two_that_set_it_none_is_blamed(void **state)
{
	struct story *s = *state;

	set_twice(s);
	assert_int_equal(outcome_of(s).verdict, BHT_UNDECIDABLE);
}

/* --- fd-unwatched, kernel-lost-wake ------------------------------------------------------- */

static void unwatched(struct story *s)
{
	notified(s, BHP_LOOP_SLEEPING, 1);
	both(s, loop[0].notifier_count, 1);
	both(s, loop[0].notifier_watched, 0);
}

static void watched_without_epollin(struct story *s)
{
	unwatched(s);
	both(s, loop[0].notifier_mask, EPOLLERR);
}

static void embedder_does_not_watch(struct story *s)
{
	unwatched(s);
	both(s, loop[0].where, BHP_OUTSIDE);
	both(s, loop[0].depth, 0);
	both(s, loop[0].notifier_watched, 1);
	both(s, loop[0].embedder_watches, 0);
}

static void unwatched_or_not_is_not_known(struct story *s)
{
	unwatched(s);
	both(s, loop[0].notifier_watched, -1);
}

static void readable_and_watched(struct story *s)
{
	unwatched(s);
	both(s, loop[0].notifier_watched, 1);
}

static void edge_triggered(struct story *s)
{
	readable_and_watched(s);
	both(s, loop[0].notifier_mask, EPOLLIN | EPOLLET);
}

static void written_between_the_samples(struct story *s)
{
	readable_and_watched(s);
	s->first.loop[0].notifier_count = 0;
}

/* An eventfd that is readable is only a wakeup on its way when nothing waits. */
static void readable_and_nothing_due(struct story *s)
{
	story_begin(s);
	both(s, loop[0].notifier_count, 1);
	both(s, loop[0].notifier_watched, 1);
	story_sleeps(s, 900000);
}

static void unheard(void **state)
{
	static const struct row rows[] = {
		ROW(unwatched, LOST(FD_UNWATCHED, PROVED), UNDECIDABLE, UNDECIDABLE),
		ROW(watched_without_epollin, LOST(FD_UNWATCHED, PROVED), UNDECIDABLE, UNDECIDABLE),
		ROW(embedder_does_not_watch, LOST(FD_UNWATCHED, PROVED), UNDECIDABLE, UNDECIDABLE),
		ROW(unwatched_or_not_is_not_known, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(readable_and_watched, LOST(KERNEL_LOST_WAKE, CONSISTENT), UNDECIDABLE, UNDECIDABLE),
		ROW(edge_triggered, LOST(KERNEL_LOST_WAKE, SUSPECTED), UNDECIDABLE, UNDECIDABLE),
		ROW(written_between_the_samples, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(readable_and_nothing_due, HEALTHY, HEALTHY, HEALTHY),
	};

	(void)state;
	CHECK_ROWS(rows);
}

/* --- stranded ------------------------------------------------------------------------------ */

static void outside(struct story *s)
{
	story_begin(s);
	both(s, loop[0].where, BHP_OUTSIDE);
	both(s, loop[0].depth, 0);
	both(s, loop[0].notify_me, BHP_LOOP_AWAKE);
	tell(s, LOOP_TID, 900000, poll_end, .loop = LOOP, .depth = 1, .iteration = 7);
}

static void due_outside(struct story *s)
{
	outside(s);
	story_due(s, 0);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, 1000100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
}

static void owner_exited(struct story *s)
{
	due_outside(s);
	both(s, thread[0].state, 'X');
}

static void owner_exited_in_a_turn(struct story *s)
{
	owner_exited(s);
	both(s, loop[0].where, BHP_DISPATCH);
}

static void owner_exited_and_nothing_due(struct story *s)
{
	outside(s);
	both(s, thread[0].state, 'X');
}

static void owner_exited_after_a_cancel(struct story *s)
{
	owner_exited(s);
	both(s, bh[0].flags, BHP_FLAG_LINKED);
	tell(s, OTHER, 1100000, bh_cancel, .loop = LOOP, .bh = BH, .flags = 3);
}

static void owner_polls_another_loop(struct story *s)
{
	due_outside(s);
	story_more(s, 2, 1);
}

/* Whoever schedules on an embedded loop wakes it where its owner sleeps. */
static void embedded_and_idle(struct story *s)
{
	outside(s);
	story_more(s, 2, 1);
	both(s, loop[0].notify_me, BHP_LOOP_SLEEPING);
}

static void owner_does_something_else(struct story *s)
{
	due_outside(s);
}

static void never_polled(struct story *s)
{
	due_outside(s);
	both(s, loop[0].owner, 0);
}

static void stranded(void **state)
{
	static const struct row rows[] = {
		ROW(owner_exited, LOST(STRANDED, CONSISTENT), LOST(STRANDED, CONSISTENT), LOST(STRANDED, CONSISTENT)),
		ROW(owner_exited_in_a_turn, LOST(STRANDED, CONSISTENT), LOST(STRANDED, CONSISTENT),
		    LOST(STRANDED, CONSISTENT)),
		ROW(owner_exited_and_nothing_due, HEALTHY, HEALTHY, HEALTHY),
		ROW(owner_exited_after_a_cancel, HEALTHY, HEALTHY, HEALTHY),
		ROW(owner_polls_another_loop, LOST(STRANDED, CONSISTENT), LOST(STRANDED, CONSISTENT),
		    LOST(STRANDED, CONSISTENT)),
		ROW(embedded_and_idle, HEALTHY, HEALTHY, HEALTHY),
		ROW(owner_does_something_else, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
		ROW(never_polled, UNDECIDABLE, UNDECIDABLE, UNDECIDABLE),
	};

	(void)state;
	CHECK_ROWS(rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flag_race),
		cmocka_unit_test(closest_race_is_the_likely_one),
		cmocka_unit_test(notification),
		cmocka_unit_test(last_coalesced_is_not_blamed),
		cmocka_unit_test(of_two_that_set_it_none_is_blamed),
		cmocka_unit_test(unheard),
		cmocka_unit_test(stranded),
	};

	return cmocka_run_group_tests(tests, story_setup, story_teardown);
}
