/* SPDX-License-Identifier: MIT */
/* What --witness decides: of loops that were never instrumented, and beside a history. And how it is told. */
#include "foreign_story.h"
#include "render.h"

static void turns(struct story *s)
{
	libuv(s);
	s->last.loop[0].iteration++;
	s->last.thread[0].switches += 2;
}

static void asleep_in_a_callback(struct story *s)
{
	libuv(s);
	both(s, loop[0].where, BHP_IN_FD);
	both(s, thread[0].syscall, SYS_futex);
}

static void libuv_all_done(struct story *s)
{
	libuv(s);
	witness(s, false, false);
}

static void libuv_done_meanwhile(struct story *s)
{
	libuv(s);
	witness(s, true, false);
}

static void libuv_undone(struct story *s)
{
	libuv(s);
	witness(s, true, true);
}

static void several_bottom_halves_undone(struct story *s)
{
	libuv_undone(s);
	story_more(s, 1, 2);
}

static void glib_undone(struct story *s)
{
	glib(s);
	witness(s, true, true);
}

static void glib_all_done(struct story *s)
{
	glib(s);
	witness(s, false, false);
}

static void qemu_undone(struct story *s)
{
	qemu(s);
	witness(s, true, true);
}

static void flags_not_known_all_done(struct story *s)
{
	flags_not_known(s);
	witness(s, false, false);
}

static void published_a_moment_ago(struct story *s)
{
	libuv(s);
	witness(s, false, true);
}

static void undone_and_moving(struct story *s)
{
	libuv_undone(s);
	s->ev.payload.last.left++;
}

static void witness_not_read(struct story *s)
{
	libuv_undone(s);
	s->ev.payload.last.known = false;
}

static void undone_and_watched_shortly(struct story *s)
{
	libuv_undone(s);
	s->ev.last.ticks = s->ev.first.ticks + 20000000;
}

static void undone_and_producer_preempted(struct story *s)
{
	libuv_undone(s);
	both(s, thread[1].state, 'R');
}

static void undone_while_one_runs(struct story *s)
{
	undone_and_producer_preempted(s);
	s->last.thread[1].cpu_ns = WATCHED_NS;
}

static void undone_in_one_of_two(struct story *s)
{
	libuv_undone(s);
	story_more(s, 2, 1);
	both(s, loop[1].owner, OTHER);
	both(s, thread[2].syscall, SYS_epoll_pwait);
}

static void undone_and_another_turns(struct story *s)
{
	undone_in_one_of_two(s);
	s->last.loop[1].iteration++;
}

static void undone_and_due(struct story *s)
{
	libuv_due(s);
	witness(s, true, true);
}

static void undone_and_blocked(struct story *s)
{
	asleep_in_a_callback(s);
	witness(s, true, true);
}

static void undone_and_turning(struct story *s)
{
	turns(s);
	witness(s, true, true);
}

static void moving_and_turning(struct story *s)
{
	undone_and_turning(s);
	s->ev.payload.last.left++;
}

/* clang-format off */
static const struct said table[] = {
	SAID(glib_all_done, NOTHING(HEALTHY), { NULL }),
	SAID(libuv_all_done, NOTHING(HEALTHY), { NULL }),
	SAID(libuv_done_meanwhile, NOTHING(HEALTHY), { NULL }),
	SAID(libuv_undone, FOUND(FLAG_RACE, CONSISTENT), { "produced != consumed", "8 and 7", "ordering gap", "#4584" }),
	SAID(several_bottom_halves_undone, FOUND(FLAG_RACE, CONSISTENT), { NULL }),
	SAID(glib_undone, FOUND(NOTIFY_MISSING, CONSISTENT), { "scheduled nothing" }),
	SAID(qemu_undone, FOUND(NOTIFY_MISSING, CONSISTENT), { "pending" }),
	SAID(flags_not_known_all_done, NOTHING(HEALTHY), { NULL }),
	SAID(published_a_moment_ago, NOTHING(UNDECIDABLE), { "a moment ago" }),
	SAID(undone_and_moving, NOTHING(UNDECIDABLE), { "a moment ago" }),
	SAID(witness_not_read, NOTHING(UNDECIDABLE), { "could not be read" }),
	SAID(undone_and_watched_shortly, NOTHING(UNDECIDABLE), { "not watched long enough" }),
	SAID(undone_and_producer_preempted, NOTHING(UNDECIDABLE), { "Thread 11 (state R)" }),
	SAID(undone_while_one_runs, FOUND(FLAG_RACE, SUSPECTED), { NULL }),
	SAID(undone_in_one_of_two, NOTHING(UNDECIDABLE), { "\"main\", \"aux\"" }),
	SAID(undone_and_another_turns, NOTHING(UNDECIDABLE), { "\"aux\" may come to it" }),
	SAID(undone_and_due, FOUND(NOTIFY_STOLEN, SUSPECTED), { NULL }),
	SAID(undone_and_blocked, FOUND(CALLBACK_BLOCKED, CONSISTENT), { NULL }),
	SAID(undone_and_turning, NOTHING(UNDECIDABLE), { "may come to it" }),
	SAID(moving_and_turning, NOTHING(HEALTHY), { NULL }),
};
/* clang-format on */

static void without_a_history(void **state)
{
	CHECK_SAID(*state, table);
}

/* --- with a history ------------------------------------------------------------------------------------ */

/* As bhtrace run records it: objects of libbh, no full barrier, no tickets; the last schedule coalesced DELTA ns
 * after the last execution had begun. */
static void raced(struct story *s, int delta)
{
	story_begin(s);
	both(s, loop[0].protocol, 0);
	s->ev.last.ticks = s->ev.first.ticks + WATCHED_NS;
	tell(s, PRODUCER, 999000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, 999100, notify, .loop = LOOP, .bh = BH, .notify_me = 1, .written = 1);
	if (delta < 0)
		tell(s, PRODUCER, 1000000 + (unsigned)delta, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	story_executed(s, BH, 1000000, 1000500);
	if (delta > 0)
		tell(s, PRODUCER, 1000000 + (unsigned)delta, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	story_sleeps(s, 1001000);
	tell(s, PRODUCER, 2000000, schedule, .loop = LOOP, .bh = OUTER, .seen = 1);
}

static void check(struct story *s, enum bht_rule_id rule, enum bht_confidence confidence)
{
	struct bht_diagnosis d;

	story_diagnose(s, &d);
	if (rule == BHT_RULES
		    ? d.n_findings
		    : d.n_findings != 1 || d.findings[0].rule != rule || d.findings[0].confidence != confidence)
		print_said("check", &d);
	assert_int_equal(d.n_findings, rule != BHT_RULES);
	if (d.n_findings) {
		assert_int_equal(d.findings[0].rule, rule);
		assert_int_equal(d.findings[0].confidence, confidence);
	}
	bht_diagnosis_free(&d);
}

static void witness_proves(void **state)
{
	struct story *s = *state;

	raced(s, -100);
	check(s, BHT_RULE_FLAG_RACE, BHT_CONSISTENT);
	raced(s, -100);
	witness(s, true, true);
	check(s, BHT_RULE_FLAG_RACE, BHT_PROVED);
	raced(s, 50);
	witness(s, true, true);
	check(s, BHT_RULE_FLAG_RACE, BHT_PROVED);
	/* Undone since a moment, or by another loop. */
	raced(s, -100);
	witness(s, false, true);
	check(s, BHT_RULE_FLAG_RACE, BHT_CONSISTENT);
	raced(s, -100);
	witness(s, true, true);
	story_more(s, 2, 2);
	both(s, bh[1].loop, (uintptr_t)AUX);
	check(s, BHT_RULE_FLAG_RACE, BHT_CONSISTENT);
}

/* The history excludes the race: nobody scheduled after publishing. */
static void witness_without_a_race(void **state)
{
	struct story *s = *state;

	raced(s, 0);
	check(s, BHT_RULES, 0);
	raced(s, 0);
	witness(s, true, true);
	check(s, BHT_RULE_NOTIFY_MISSING, BHT_CONSISTENT);
}

/* --- how it is told -------------------------------------------------------------------------------------- */

static char *text_of(const struct story *s, bool json)
{
	const struct bht_render how = { .all = true };
	struct bht_diagnosis d;
	char *buf = NULL;
	size_t size;
	FILE *out = open_memstream(&buf, &size);

	assert_non_null(out);
	diagnose(s, false, &d);
	assert_int_equal(json ? bht_render_json(out, &s->ev, &d) : bht_render_text(out, &s->ev, &d, &how), 0);
	fclose(out);
	bht_diagnosis_free(&d);
	return buf;
}

static void told(void **state)
{
	static const char *const words[] = { "through the adapter libuv, without a history", "The payload",
					     "produced != consumed: at the first look it holds (8 and 7)",
					     "not instrumented" };
	static const char *const keys[] = { "\"adapter\": \"libuv\"", "\"expression\": \"produced != consumed\"",
					    "\"holds\": true", "\"left\": 8", "\"recorder\": null" };
	char *text;

	libuv_undone(*state);
	text = text_of(*state, false);
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		assert_non_null(strstr(text, words[i]));
	assert_null(strstr(text, "executions\n"));
	free(text);
	text = text_of(*state, true);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		assert_non_null(strstr(text, keys[i]));
	free(text);
	qemu(*state);
	due(*state);
	text = text_of(*state, true);
	assert_non_null(strstr(text, "\"iteration\": null"));
	assert_non_null(strstr(text, "\"payload\": null"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_history),
		cmocka_unit_test(witness_proves),
		cmocka_unit_test(witness_without_a_race),
		cmocka_unit_test(told),
	};

	return cmocka_run_group_tests(tests, story_setup, story_teardown);
}
