/* SPDX-License-Identifier: MIT */
/* What ran, but late: the rules, each with its nearest neighbours. */
#include "rows.h"

enum { MS = 1000000, SLEPT = 1 * MS, SET = 2 * MS, WOKE = 502 * MS };

static void begin(struct story *s)
{
	story_begin(s);
	s->ev.first.ticks = 2000u * MS;
	s->ev.last.ticks = 2020u * MS;
}

/* --- rescued -------------------------------------------------------------------------------- */

static void wakes(struct story *s, uint64_t at, uint8_t woke)
{
	tell(s, LOOP_TID, at, wait_end, .loop = LOOP, .woke = woke, .fd = -1);
}

/* The loop sleeps, the flag is set in its sleep; a timer wakes it and it runs. */
static void woken(struct story *s, uint8_t woke, void (*middle)(struct story *))
{
	begin(s);
	story_sleeps(s, SLEPT);
	tell(s, PRODUCER, SET, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	if (middle)
		middle(s);
	wakes(s, WOKE, woke);
	story_executed(s, BH, WOKE + 100, WOKE + 200);
	story_sleeps(s, WOKE + 1000);
}

static void producer_goes_on(struct story *s)
{
	for (unsigned i = 0; i < 10; i++)
		tell(s, PRODUCER, SET + 1000 + i, consume, .loop = LOOP, .bh = OUTER, .ticket = i);
}

static void saw_awake(struct story *s)
{
	tell(s, PRODUCER, SET + 100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
}

static void wrote(struct story *s)
{
	tell(s, PRODUCER, SET + 100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
}

static void wrote_and_was_robbed(struct story *s)
{
	tell(s, OTHER, SLEPT, poll_begin, .loop = AUX, .depth = 1);
	tell(s, LOOP_TID, SLEPT, poll_begin, .loop = LOOP, .depth = 1, .blocking = 1);
	wrote(s);
	tell(s, OTHER, SET + 5000, accept, .loop = LOOP, .by = BHP_BY_OTHER, .value = 1);
}

static void rescued_without_notify(struct story *s)
{
	woken(s, BHP_WOKE_TIMEOUT, producer_goes_on);
}

static void rescued_by_a_descriptor(struct story *s)
{
	woken(s, BHP_WOKE_FD, saw_awake);
}

static void rescued_after_a_theft(struct story *s)
{
	woken(s, BHP_WOKE_SIGNAL, wrote_and_was_robbed);
}

/* The producer sleeps now: it will not notify any more. */
static void rescued_while_it_sleeps(struct story *s)
{
	woken(s, BHP_WOKE_TIMEOUT, NULL);
}

/* It lost the CPU between its exchange and its record, or still is on its way. */
static void producer_is_on_its_way(struct story *s)
{
	rescued_while_it_sleeps(s);
	both(s, thread[1].state, 'R');
}

static void notified_after_all(struct story *s)
{
	woken(s, BHP_WOKE_TIMEOUT, NULL);
	tell(s, PRODUCER, WOKE + 5000, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
	tell(s, PRODUCER, WOKE + 6000, consume, .loop = LOOP, .bh = OUTER, .ticket = 1);
}

static void woken_by_its_notifier(struct story *s)
{
	woken(s, BHP_WOKE_NOTIFIER, wrote);
	s->event[3].r = bhp_encode_wait_end(
		SET + 9000, &(struct bhp_wait_end){ .loop = LOOP, .woke = BHP_WOKE_NOTIFIER, .fd = -1 });
	s->n = 4;
	story_executed(s, BH, SET + 9100, SET + 9200);
	story_sleeps(s, SET + 10000);
}

/* Scheduled within the clock's error of the waking: in time for what follows. */
static void scheduled_as_it_woke(struct story *s)
{
	begin(s);
	story_sleeps(s, SLEPT);
	tell(s, PRODUCER, WOKE - 200, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	wakes(s, WOKE, BHP_WOKE_TIMEOUT);
	tell(s, PRODUCER, WOKE + 50, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
	story_executed(s, BH, WOKE + 100, WOKE + 200);
	story_sleeps(s, WOKE + 1000);
}

/* An idle schedule does not wake anybody, on purpose. */
static void idle_schedule(struct story *s)
{
	woken(s, BHP_WOKE_TIMEOUT, producer_goes_on);
	s->event[1].r =
		bhp_encode_schedule(SET, &(struct bhp_schedule){ .loop = LOOP, .bh = BH, .kind = BHP_KIND_IDLE });
}

static void rescued(void **state)
{
	static const struct row rows[] = {
		ROW(rescued_without_notify, LATE(RESCUED, CONSISTENT), LATE(RESCUED, CONSISTENT),
		    LATE(RESCUED, CONSISTENT)),
		ROW(rescued_by_a_descriptor, LATE(RESCUED, CONSISTENT), LATE(RESCUED, CONSISTENT),
		    LATE(RESCUED, CONSISTENT)),
		ROW(rescued_after_a_theft, LATE(RESCUED, CONSISTENT), LATE(RESCUED, CONSISTENT),
		    LATE(RESCUED, CONSISTENT)),
		ROW(rescued_while_it_sleeps, LATE(RESCUED, CONSISTENT), LATE(RESCUED, CONSISTENT), HEALTHY),
		ROW(producer_is_on_its_way, HEALTHY, HEALTHY, HEALTHY),
		ROW(notified_after_all, HEALTHY, HEALTHY, HEALTHY),
		ROW(woken_by_its_notifier, HEALTHY, HEALTHY, HEALTHY),
		ROW(scheduled_as_it_woke, HEALTHY, HEALTHY, HEALTHY),
		ROW(idle_schedule, HEALTHY, HEALTHY, HEALTHY),
	};

	(void)state;
	CHECK_ROWS(rows);
}

/* --- slow-callback, slow-wake ------------------------------------------------------------------ */

/* "done" is scheduled and executed GAP later; "outer" runs for BUSY of it. */
static void waited(struct story *s, uint64_t gap, uint64_t busy)
{
	begin(s);
	story_more(s, 1, 2);
	tell(s, LOOP_TID, SET - 2000, execute_begin, .loop = LOOP, .bh = OUTER);
	tell(s, PRODUCER, SET, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	saw_awake(s);
	tell(s, LOOP_TID, SET + busy, execute_end, .loop = LOOP, .bh = OUTER, .begin = SET - 2000);
	both(s, bh[1].last_run, SET - 2000);
	story_executed(s, BH, SET + gap, SET + gap + 100);
	story_sleeps(s, SET + gap + 1000);
}

static void behind_a_long_callback(struct story *s)
{
	waited(s, 600 * MS, 599 * MS);
}

static void behind_a_callback_not_so_long(struct story *s)
{
	waited(s, BHT_LATE_NS - 1, BHT_LATE_NS - 1000);
}

/* The loop's owner was elsewhere: not the fault of a callback. */
static void owner_was_outside(struct story *s)
{
	waited(s, 600 * MS, 1 * MS);
}

/* The loop is woken by its notifier after WAKING, and executes after GAP. */
static void slept(struct story *s, uint64_t waking, uint64_t gap)
{
	begin(s);
	story_sleeps(s, SLEPT);
	tell(s, PRODUCER, SET, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	wrote(s);
	wakes(s, SET + waking, BHP_WOKE_NOTIFIER);
	story_executed(s, BH, SET + gap, SET + gap + 100);
	story_sleeps(s, SET + gap + 1000);
}

static void slow_to_wake(struct story *s)
{
	slept(s, 590 * MS, 600 * MS);
}

static void slow_after_waking(struct story *s)
{
	slept(s, 10 * MS, 600 * MS);
}

static void woke_in_time(struct story *s)
{
	slept(s, 1 * MS, 2 * MS);
}

/* It was scheduled late, not woken late. */
static void notified_late(struct story *s)
{
	slept(s, 600 * MS, 601 * MS);
	s->event[2].r = bhp_encode_notify(SET + 599 * MS,
					  &(struct bhp_notify){ .loop = LOOP, .bh = BH, .notify_me = 1, .written = 1 });
}

static void cancelled_and_scheduled_again(struct story *s)
{
	begin(s);
	tell(s, PRODUCER, SET, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	saw_awake(s);
	tell(s, OTHER, SET + 1000, bh_cancel, .loop = LOOP, .bh = BH, .flags = 3);
	tell(s, PRODUCER, SET + 600 * MS, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, SET + 600 * MS + 100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
	story_executed(s, BH, SET + 600 * MS + 1000, SET + 600 * MS + 2000);
	story_sleeps(s, SET + 601 * MS);
}

static void slow(void **state)
{
	static const struct row rows[] = {
		ROW(behind_a_long_callback, LATE(SLOW_CALLBACK, CONSISTENT), LATE(SLOW_CALLBACK, CONSISTENT),
		    LATE(SLOW_CALLBACK, CONSISTENT)),
		ROW(behind_a_callback_not_so_long, HEALTHY, HEALTHY, HEALTHY),
		ROW(owner_was_outside, HEALTHY, HEALTHY, HEALTHY),
		ROW(slow_to_wake, LATE(SLOW_WAKE, CONSISTENT), LATE(SLOW_WAKE, CONSISTENT),
		    LATE(SLOW_WAKE, CONSISTENT)),
		ROW(slow_after_waking, LATE(SLOW_WAKE, SUSPECTED), LATE(SLOW_WAKE, SUSPECTED),
		    LATE(SLOW_WAKE, SUSPECTED)),
		ROW(woke_in_time, HEALTHY, HEALTHY, HEALTHY),
		ROW(notified_late, HEALTHY, HEALTHY, HEALTHY),
		ROW(cancelled_and_scheduled_again, HEALTHY, HEALTHY, HEALTHY),
	};

	(void)state;
	CHECK_ROWS(rows);
}

/* --- what the finding says ------------------------------------------------------------------------ */

static void expect_detail(struct story *s, const char *first, const char *second)
{
	struct bht_diagnosis d;

	story_diagnose(s, &d);
	assert_int_equal(d.n_findings, 1);
	if (!strstr(d.findings[0].detail, first) || !strstr(d.findings[0].detail, second))
		fail_msg("%s", d.findings[0].detail);
	bht_diagnosis_free(&d);
}

static void the_cause_is_named(void **state)
{
	struct story *s = *state;

	rescued_without_notify(s);
	expect_detail(s, "a timer woke the loop", "500.000 ms late");
	rescued_by_a_descriptor(s);
	expect_detail(s, "file descriptor -1 woke", "notify-skipped");
	rescued_after_a_theft(s);
	expect_detail(s, "a signal woke", "notify-stolen");
	behind_a_long_callback(s);
	expect_detail(s, "the longest of them \"outer\"", "for 599.002 ms");
	slow_to_wake(s);
	expect_detail(s, "to waking 590.000", "to execution 10.000 ms");
}

/* The same as slow_to_wake(), with what the kernel tells of the loop's thread. */
static void kernel_names_the_cause(void **state)
{
	struct story *s = *state;

	begin(s);
	story_sleeps(s, SLEPT);
	tell(s, LOOP_TID, SLEPT + 100, switch_out, .why = BHP_ASLEEP);
	tell(s, PRODUCER, SET, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	wrote(s);
	tell(s, LOOP_TID, SET + 2 * MS, waking, .waker = PRODUCER);
	tell(s, LOOP_TID, SET + 590 * MS, switch_in, .before = OTHER, .cpu = 1);
	wakes(s, SET + 590 * MS + 100, BHP_WOKE_NOTIFIER);
	story_executed(s, BH, SET + 600 * MS, SET + 600 * MS + 100);
	story_sleeps(s, SET + 601 * MS);
	expect_detail(s, "to waking 590.000",
		      "to execution 10.000 ms; made runnable after 2.000 ms; run queue 588.000 ms "
		      "on CPU 1 behind thread 12 (t)");
}

/* The worst of several is shown, and how many there were. */
static void rescues_are_counted(void **state)
{
	struct story *s = *state;

	begin(s);
	for (unsigned i = 1; i <= 3; i++) {
		uint64_t at = 300u * MS * i;
		story_sleeps(s, at);
		tell(s, PRODUCER, at + 1000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
		tell(s, PRODUCER, at + 1100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
		wakes(s, at + 1000 + (i == 2 ? 200 * MS : 50 * MS) - 100, BHP_WOKE_TIMEOUT);
		story_executed(s, BH, at + 1000 + (i == 2 ? 200 * MS : 50 * MS), at + 250 * MS);
	}
	story_sleeps(s, 1500u * MS);
	expect_detail(s, "It ran 3 times only", "at worst 200.000 ms late");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rescued),
		cmocka_unit_test(slow),
		cmocka_unit_test(the_cause_is_named),
		cmocka_unit_test(kernel_names_the_cause),
		cmocka_unit_test(rescues_are_counted),
	};

	return cmocka_run_group_tests(tests, story_setup, story_teardown);
}
