/* SPDX-License-Identifier: MIT */
/*
 * Stories of one gap or two: what is rescued, what a loss takes away, what a late record
 * leaves open, what belongs to a stretch of time, whose name it is.
 */
#include "gaps.h"
#include "story.h"

static const struct bht_gaps_options all = { .until = UINT64_MAX, .worst = 10 };

static void begin_gaps(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_gaps_options *how,
		       struct bht_gaps *first)
{
	int rc = first ? bht_gaps_begin_again(g, ev, how, first) : bht_gaps_begin(g, ev, how);

	assert_int_equal(rc, 0);
}

static void read_events(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_event *e, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(bht_gaps_feed(g, ev, &e[i]), 0);
	assert_int_equal(bht_gaps_finish(g, ev), 0);
}

enum { SLEPT = 1000, SET = 2000000, TOLD = 2000500, WOKE = 9000000, RAN = 9000100, ENDED = 9000900 };

static void begin_story(struct story *s)
{
	story_begin(s);
	tell(s, LOOP_TID, 10, loop_new, .loop = LOOP, .notifier_fd = 5);
	tell(s, LOOP_TID, 20, bh_new, .loop = LOOP, .bh = BH);
	tell(s, LOOP_TID, SLEPT, poll_begin, .loop = LOOP, .depth = 1, .blocking = 1);
	story_sleeps(s, SLEPT);
	tell(s, PRODUCER, SET, schedule, .loop = LOOP, .bh = BH);
}

static void end_story(struct story *s, uint8_t woke)
{
	tell(s, LOOP_TID, WOKE, wait_end, .loop = LOOP, .woke = woke, .fd = -1);
	story_executed(s, BH, RAN, ENDED);
	story_sleeps(s, ENDED + 1000);
}

static void measure(const struct story *s, struct bht_gaps *g, const struct bht_gaps_options *how)
{
	begin_gaps(g, &s->ev, how, NULL);
	read_events(g, &s->ev, s->event, s->n);
}

static void only_gap(const struct bht_gaps *g, enum bht_rescue rescue)
{
	assert_int_equal(g->n_worst, 1);
	assert_int_equal(g->worst[0].rescue, rescue);
	assert_true(bht_gap_length(&g->worst[0]) == RAN - SET);
	assert_int_equal(g->worst[0].row->rescued, rescue != BHT_NOT_RESCUED);
}

static void notified_is_not_rescued(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	tell(s, PRODUCER, TOLD, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
	end_story(s, BHP_WOKE_NOTIFIER);
	measure(s, &g, &all);
	only_gap(&g, BHT_NOT_RESCUED);
	assert_true(g.worst[0].part[BHT_TO_NOTIFY] == TOLD - SET && g.worst[0].part[BHT_TO_WAKE] == WOKE - TOLD &&
		    g.worst[0].part[BHT_TO_RUN] == RAN - WOKE && g.worst[0].part[BHT_IN_CALLBACKS] == 0);
	bht_gaps_free(&g);
}

static void skipped_is_rescued(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	tell(s, PRODUCER, TOLD, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
	end_story(s, BHP_WOKE_TIMEOUT);
	measure(s, &g, &all);
	only_gap(&g, BHT_RESCUED_SKIPPED);
	bht_gaps_free(&g);
}

static void stolen_is_rescued(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	tell(s, PRODUCER, TOLD, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
	tell(s, OTHER, TOLD + 5000, accept, .loop = LOOP, .by = BHP_BY_OTHER, .value = 1);
	end_story(s, BHP_WOKE_FD);
	measure(s, &g, &all);
	only_gap(&g, BHT_RESCUED_STOLEN);
	bht_gaps_free(&g);
}

/* What is missing is known to be when the producer has gone on. */
static void missing_is_rescued(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	end_story(s, BHP_WOKE_TIMEOUT);
	for (unsigned i = 0; i < 10; i++)
		tell(s, PRODUCER, ENDED + 2000 + i, consume, .loop = LOOP, .bh = OUTER, .ticket = i);
	measure(s, &g, &all);
	only_gap(&g, BHT_RESCUED_MISSING);
	bht_gaps_free(&g);
}

static void notified_after_all(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	end_story(s, BHP_WOKE_TIMEOUT);
	tell(s, PRODUCER, ENDED + 2000, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
	measure(s, &g, &all);
	only_gap(&g, BHT_NOT_RESCUED);
	bht_gaps_free(&g);
}

/* At the end its silence is the last word, but not of one that may be on its way. */
static void silent_at_the_end(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	end_story(s, BHP_WOKE_TIMEOUT);
	measure(s, &g, &all);
	only_gap(&g, BHT_RESCUED_MISSING); /* it sleeps */
	bht_gaps_free(&g);
	both(s, thread[1].state, 'R');
	measure(s, &g, &all);
	only_gap(&g, BHT_NOT_RESCUED);
	bht_gaps_free(&g);
}

/* A loss that is told later took place in the gap: nothing of it is left, not the
 * rescue either, and a second reading knows from the start. */
static void loss_reaches_back(void **state)
{
	struct story *s = *state;
	struct bht_gaps g, again;

	begin_story(s);
	tell(s, PRODUCER, TOLD, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
	end_story(s, BHP_WOKE_TIMEOUT);
	story_lose(s, PRODUCER, ENDED + 5000);
	tell(s, PRODUCER, ENDED + 5000, consume, .loop = LOOP, .bh = OUTER);
	for (unsigned i = 0; i < 2; i++) {
		if (i == 0)
			measure(s, &g, &all);
		else
			begin_gaps(&again, &s->ev, &all, &g), read_events(&again, &s->ev, s->event, s->n);
		struct bht_gaps *now = i ? &again : &g;
		assert_int_equal(now->again, i == 0);
		assert_int_equal(now->n_worst, 0);
		assert_true(now->row[0]->gap.n == 0 && now->row[0]->rescued == 0);
		assert_true(now->row[0]->unmeasured[BHT_LOST_EVENTS] == 1);
	}
	bht_gaps_free(&g);
	bht_gaps_free(&again);
}

/* What came after it is measured in the second reading only if the loop had slept. */
static void loss_is_over(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	s->n = 0;
	story_lose(s, PRODUCER, 100);
	tell(s, LOOP_TID, SLEPT, poll_begin, .loop = LOOP, .depth = 1, .blocking = 1);
	story_sleeps(s, SLEPT);
	tell(s, PRODUCER, SET, schedule, .loop = LOOP, .bh = BH);
	tell(s, PRODUCER, TOLD, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
	end_story(s, BHP_WOKE_NOTIFIER);
	measure(s, &g, &all);
	only_gap(&g, BHT_NOT_RESCUED);
	assert_false(g.again);
	bht_gaps_free(&g);
	s->event[2].r.word[1] = (s->event[2].r.word[1] & ~UINT64_C(0xff)) | BHP_ID_accept; /* it did not sleep */
	measure(s, &g, &all);
	assert_int_equal(g.n_worst, 0);
	assert_true(g.row[0]->unmeasured[BHT_LOST_EVENTS] == 1);
	bht_gaps_free(&g);
}

/* An execution was lost, so the flag seems to be set for ever; until the loop sleeps,
 * and once more runs it, because a late record may come still. */
static void sleep_makes_up_for_loss(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	story_lose(s, LOOP_TID, SET + 1000);
	tell(s, PRODUCER, SET + 2000, schedule, .loop = LOOP, .bh = BH);
	story_executed(s, BH, SET + 3000, SET + 4000);
	tell(s, LOOP_TID, SET + 5000, poll_begin, .loop = LOOP, .depth = 1, .blocking = 1);
	story_sleeps(s, SET + 5000);
	tell(s, PRODUCER, SET + 6000, schedule, .loop = LOOP, .bh = BH);
	tell(s, LOOP_TID, SET + 7000, wait_end, .loop = LOOP, .woke = BHP_WOKE_NOTIFIER, .fd = -1);
	story_executed(s, BH, SET + 7000, SET + 7500);
	story_sleeps(s, SET + 8000);
	tell(s, PRODUCER, SET + 9000, schedule, .loop = LOOP, .bh = BH);
	tell(s, PRODUCER, SET + 9500, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
	end_story(s, BHP_WOKE_NOTIFIER);
	s->ev.clock_error_ns = 1000000; /* no program order */
	measure(s, &g, &all);
	assert_true(g.row[0]->unmeasured[BHT_LOST_EVENTS] == 1 && g.row[0]->unmeasured[BHT_AMBIGUOUS] == 1);
	assert_int_equal(g.n_worst, 1);
	assert_true(bht_time(&g.worst[0].schedule) == SET + 9000);
	bht_gaps_free(&g);
}

/* Two saw the flag clear and it ran once, as a weak exchange may have it: nothing is
 * certain until no late record can be the reason any more. */
static void wrong_balance_heals(void **state)
{
	enum { SECOND = 1000000000 };
	struct story *s = *state;
	struct bht_gaps g;
	uint64_t at = SLEPT + 100;

	begin_story(s);
	s->n--;
	tell(s, OTHER, SLEPT + 50, schedule, .loop = LOOP, .bh = BH);
	for (unsigned i = 0; i < 8; i++, at += SECOND / 4) {
		tell(s, PRODUCER, at, schedule, .loop = LOOP, .bh = BH);
		tell(s, LOOP_TID, at + 1000, wait_end, .loop = LOOP, .woke = BHP_WOKE_NOTIFIER, .fd = -1);
		story_executed(s, BH, at + 1000, at + 2000);
		story_sleeps(s, at + 3000);
	}
	s->ev.clock_error_ns = SECOND; /* no program order */
	measure(s, &g, &all);
	assert_true(g.row[0]->unmeasured[BHT_AMBIGUOUS] == 6 && g.row[0]->gap.n == 2);
	assert_true(g.row[0]->gap.min == 1000 && g.row[0]->gap.max == 1000);
	bht_gaps_free(&g);
}

/* The event that shows that one was rescued begins another, which was not. */
static void rescue_of_another(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	s->n -= 2;
	tell(s, LOOP_TID, SLEPT + 10, schedule, .loop = LOOP, .bh = BH);
	story_sleeps(s, SLEPT + 20);
	end_story(s, BHP_WOKE_TIMEOUT);
	s->n--;
	tell(s, LOOP_TID, ENDED + 10, poll_end, .loop = LOOP, .depth = 1);
	tell(s, PRODUCER, ENDED + 1000, schedule, .loop = LOOP, .bh = BH);
	tell(s, PRODUCER, ENDED + 1010, notify, .loop = LOOP, .bh = BH);
	tell(s, LOOP_TID, ENDED + 2000, poll_begin, .loop = LOOP, .depth = 1);
	tell(s, LOOP_TID, ENDED + 2010, accept, .loop = LOOP, .value = 1);
	story_executed(s, BH, ENDED + 2020, ENDED + 2030);
	measure(s, &g, &all);
	assert_int_equal(g.n_worst, 2);
	assert_true(g.worst[0].rescue == BHT_RESCUED_MISSING && bht_time(&g.worst[0].begin) == RAN);
	assert_true(g.worst[1].rescue == BHT_NOT_RESCUED);
	bht_gaps_free(&g);
}

/* Withdrawn and set again while it runs: perhaps before that run cleared the flag. */
static void set_while_it_runs(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	tell(s, PRODUCER, TOLD, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
	tell(s, LOOP_TID, WOKE, wait_end, .loop = LOOP, .woke = BHP_WOKE_NOTIFIER, .fd = -1);
	tell(s, LOOP_TID, RAN, execute_begin, .loop = LOOP, .bh = BH);
	tell(s, PRODUCER, RAN + 100, bh_cancel, .loop = LOOP, .bh = BH, .flags = BHP_FLAG_SCHEDULED);
	tell(s, PRODUCER, RAN + 200, schedule, .loop = LOOP, .bh = BH);
	tell(s, LOOP_TID, ENDED, execute_end, .loop = LOOP, .bh = BH, .begin = RAN);
	story_executed(s, BH, ENDED + 100, ENDED + 200);
	measure(s, &g, &all);
	only_gap(&g, BHT_NOT_RESCUED);
	assert_true(g.row[0]->count[BHT_EXECUTIONS] == 2 && g.row[0]->count[BHT_CANCELS] == 1);
	assert_true(g.row[0]->unmeasured[BHT_LATE_RECORD] == 1);
	bht_gaps_free(&g);
}

/* It belongs to the time in which it ended, in full. */
static void windows(void **state)
{
	struct story *s = *state;
	struct bht_gaps_options how = { .from = SET + 1, .until = ENDED, .worst = 5 };
	struct bht_gaps g;

	begin_story(s);
	tell(s, PRODUCER, TOLD, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
	end_story(s, BHP_WOKE_NOTIFIER);
	measure(s, &g, &how);
	only_gap(&g, BHT_NOT_RESCUED);
	assert_true(g.row[0]->count[BHT_SCHEDULES] == 0 && g.row[0]->count[BHT_WRITES] == 1);
	assert_true(g.loop[0]->spent[BHT_DOING_SLEEP] == WOKE - SET - 1);
	bht_gaps_free(&g);
	how.from = 0;
	how.until = RAN - 1;
	measure(s, &g, &how);
	assert_true(g.n_worst == 0 && g.row[0]->count[BHT_SCHEDULES] == 1 && g.row[0]->count[BHT_EXECUTIONS] == 0);
	bht_gaps_free(&g);
}

/* By the name it was made with; else by that of the last sample, if it is still that
 * one; those of one name are one row. */
static void names(void **state)
{
	struct story *s = *state;
	struct bht_gaps_options how = { .until = UINT64_MAX, .worst = 5, .glob = "do?e" };
	struct bht_gaps g;

	begin_story(s);
	story_more(s, 1, 2);
	tell(s, PRODUCER, TOLD, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
	tell(s, PRODUCER, TOLD + 10, schedule, .loop = LOOP, .bh = OUTER);
	end_story(s, BHP_WOKE_NOTIFIER);
	measure(s, &g, &all); /* nameless in the history */
	assert_int_equal(g.loop[0]->n_rows, 2);
	assert_string_equal(g.loop[0]->name, "main");
	assert_string_equal(g.loop[0]->row[0]->name, "done");
	assert_string_equal(g.loop[0]->row[1]->name, "outer");
	bht_gaps_free(&g);
	measure(s, &g, &how);
	assert_true(g.loop[0]->n_rows == 1 && g.n_worst == 1 && !strcmp(g.worst[0].row->name, "done"));
	bht_gaps_free(&g);
	both(s, bh[1].name[0], 'd');
	strcpy(s->last.bh[1].name, "done");
	measure(s, &g, &all);
	assert_true(g.loop[0]->n_rows == 1 && g.loop[0]->row[0]->objects == 2);
	assert_true(g.loop[0]->row[0]->count[BHT_SCHEDULES] == 2 && g.worst[0].row == g.loop[0]->row[0]);
	bht_gaps_free(&g);
	how.glob = "outer";
	measure(s, &g, &how);
	assert_true(g.loop[0]->n_rows == 0 && g.n_worst == 0);
	bht_gaps_free(&g);
}

/* --- what the kernel tells ------------------------------------------------------------ */

enum { HOG = 900, WRITES = TOLD - 200, WOKEN = TOLD + 1500, GOT_CPU = WOKE - 4000 };

static void write_begins(struct story *s)
{
	tell(s, PRODUCER, WRITES, call_begin, .call = BHP_CALL_WRITE, .fd = 5, .arg = 1);
}

static void notified(struct story *s, uint64_t at)
{
	tell(s, PRODUCER, at, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
}

/* The loop's thread sleeps, is woken, and gets a processor long afterwards. */
static void falls_asleep(struct story *s)
{
	struct bht_event schedule = s->event[--s->n];

	tell(s, LOOP_TID, SLEPT + 100, switch_out, .why = BHP_ASLEEP);
	s->event[s->n++] = schedule;
}

static void starves(struct story *s)
{
	tell(s, LOOP_TID, WOKEN, waking, .waker = PRODUCER);
	tell(s, LOOP_TID, GOT_CPU, switch_in, .before = HOG, .cpu = 1);
}

static void only_parts(const struct bht_gaps *g, const uint64_t part[BHT_SEGMENTS])
{
	uint64_t sum = 0;

	assert_int_equal(g->n_worst, 1);
	for (unsigned i = 0; i < BHT_SEGMENTS; i++) {
		if (g->worst[0].part[i] != part[i])
			fail_msg("%s is %llu", bht_segments[i].id, (unsigned long long)g->worst[0].part[i]);
		sum += part[i];
	}
	assert_true(sum == bht_gap_length(&g->worst[0]));
}

static void starved_of_a_processor(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	falls_asleep(s);
	write_begins(s);
	notified(s, TOLD);
	starves(s);
	end_story(s, BHP_WOKE_NOTIFIER);
	measure(s, &g, &all);
	only_parts(&g,
		   (const uint64_t[]){ WRITES - SET, WOKEN - WRITES, GOT_CPU - WOKEN, WOKE - GOT_CPU, RAN - WOKE, 0 });
	const struct bht_gap *gap = &g.worst[0];
	assert_true(gap->kernel && gap->queue.begin == WOKEN && gap->queue.end == GOT_CPU);
	assert_true(gap->queue.behind == HOG && gap->queue.cpu == 1);
	assert_true(bht_time(&gap->write) == WRITES && bht_time(&gap->waking) == WOKEN);
	assert_true(bht_time(&gap->running) == GOT_CPU);
	bht_gaps_free(&g);
}

/* The producer loses its processor as soon as it has written: the loop is faster. */
static void notified_after_it_ran(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	falls_asleep(s);
	write_begins(s);
	starves(s);
	end_story(s, BHP_WOKE_NOTIFIER);
	notified(s, ENDED + 1000);
	measure(s, &g, &all);
	only_parts(&g,
		   (const uint64_t[]){ WRITES - SET, WOKEN - WRITES, GOT_CPU - WOKEN, WOKE - GOT_CPU, RAN - WOKE, 0 });
	bht_gaps_free(&g);
}

/* What it writes elsewhere, and what another thread writes, tells nothing. */
static void other_writes(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	begin_story(s);
	falls_asleep(s);
	tell(s, PRODUCER, WRITES, call_begin, .call = BHP_CALL_WRITE, .fd = 6, .arg = 1);
	tell(s, PRODUCER, WRITES, call_begin, .call = BHP_CALL_READ, .fd = 5, .arg = 1);
	tell(s, OTHER, WRITES, call_begin, .call = BHP_CALL_WRITE, .fd = 5, .arg = 1);
	notified(s, TOLD);
	starves(s);
	end_story(s, BHP_WOKE_NOTIFIER);
	measure(s, &g, &all);
	only_parts(&g, (const uint64_t[]){ TOLD - SET, WOKEN - TOLD, GOT_CPU - WOKEN, WOKE - GOT_CPU, RAN - WOKE, 0 });
	assert_true(bht_time(&g.worst[0].write) == 0);
	bht_gaps_free(&g);
}

/* Another callback that loses its processor is a long callback; after it, the loop waits
 * for one. */
static void preempted(void **state)
{
	struct story *s = *state;
	struct bht_gaps g;

	story_begin(s);
	story_more(s, 1, 2);
	tell(s, LOOP_TID, 10, loop_new, .loop = LOOP, .notifier_fd = 5);
	tell(s, LOOP_TID, 20, bh_new, .loop = LOOP, .bh = BH);
	tell(s, LOOP_TID, 30, bh_new, .loop = LOOP, .bh = OUTER);
	tell(s, LOOP_TID, 100, poll_begin, .loop = LOOP, .depth = 1);
	tell(s, LOOP_TID, 200, execute_begin, .loop = LOOP, .bh = OUTER);
	tell(s, PRODUCER, 1000, schedule, .loop = LOOP, .bh = BH);
	tell(s, PRODUCER, 1100, notify, .loop = LOOP, .bh = BH);
	tell(s, LOOP_TID, 2000, switch_out, .why = BHP_PREEMPTED, .after = HOG, .cpu = 0);
	tell(s, LOOP_TID, 5000, switch_in, .before = HOG, .cpu = 1);
	tell(s, LOOP_TID, 6000, execute_end, .loop = LOOP, .bh = OUTER, .begin = 200);
	tell(s, LOOP_TID, 6500, switch_out, .why = BHP_PREEMPTED, .after = HOG, .cpu = 1);
	tell(s, LOOP_TID, 7500, switch_in, .before = 0, .cpu = 0);
	story_executed(s, BH, 8000, 8100);
	measure(s, &g, &all);
	only_parts(&g, (const uint64_t[]){ 0, 0, 1000, 0, 1000, 5000 });
	/* The longest wait is that of the callback: it is not this gap's. */
	assert_true(g.worst[0].kernel && !g.worst[0].queue.end);
	bht_gaps_free(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {

		cmocka_unit_test(notified_is_not_rescued),
		cmocka_unit_test(skipped_is_rescued),
		cmocka_unit_test(stolen_is_rescued),
		cmocka_unit_test(missing_is_rescued),
		cmocka_unit_test(notified_after_all),
		cmocka_unit_test(silent_at_the_end),
		cmocka_unit_test(loss_reaches_back),
		cmocka_unit_test(loss_is_over),
		cmocka_unit_test(windows),
		cmocka_unit_test(sleep_makes_up_for_loss),
		cmocka_unit_test(set_while_it_runs),
		cmocka_unit_test(names),
		cmocka_unit_test(wrong_balance_heals),
		cmocka_unit_test(rescue_of_another),
		cmocka_unit_test(starved_of_a_processor),
		cmocka_unit_test(notified_after_it_ran),
		cmocka_unit_test(other_writes),
		cmocka_unit_test(preempted),
	};

	return cmocka_run_group_tests(tests, story_setup, story_teardown);
}
