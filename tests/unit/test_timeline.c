/* SPDX-License-Identifier: MIT */
/* What is drawn of a history: each test writes down what the pen was told. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "story.h"

#include <jansson.h>

#include "timeline.h"

enum { LOG = 1 << 16, ALL = 1 << 20 };

struct fixture {
	struct story story;
	struct bht_recorded process;
	struct bht_diagnosis d;
	struct bht_overview overview;
	struct bht_timeline t;
	char log[LOG];
};

struct log_pen {
	struct bht_pen base;
	char *log;
};

__attribute__((format(printf, 2, 3))) static void say(struct bht_pen *pen, const char *format, ...)
{
	char *log = ((struct log_pen *)pen)->log;
	const size_t n = strlen(log);
	va_list args;

	va_start(args, format);
	vsnprintf(log + n, LOG - n, format, args);
	va_end(args);
}

/* Spans and arrows are told with the times of their ends, points are not. */
static int log_event(struct bht_pen *pen, struct bht_lane *lane, const struct bht_object *object,
		     const struct bht_event *e, uint64_t *at)
{
	(void)pen, (void)object;
	assert_true(bht_time(e) >= lane->cursor);
	*at = lane->cursor = bht_time(e);
	return 0;
}

static const char *name_of(const struct bht_lane_span *s)
{
	return s->object ? s->object->name : "-";
}

static int log_begin(struct bht_pen *pen, const struct bht_lane_span *s)
{
	(void)pen;
	assert_true(s->begin <= s->lane->cursor);
	return 0;
}

static int log_end(struct bht_pen *pen, const struct bht_lane_span *s, const struct bht_event *e)
{
	static const char *const kind[] = { "turn", "sleep", "run", "loss" }, *const how[] = { "", " unseen",
											       " goes on" };

	assert_true((s->how == BHT_SPAN_ENDED) == (e != NULL));
	say(pen, "%u: %s %s %u..%u depth %u%s%s\n", s->lane->tid, kind[s->kind], name_of(s), (unsigned)s->begin,
	    (unsigned)s->end, s->depth, s->early ? " early" : "", how[s->how]);
	return 0;
}

static int log_arrow(struct bht_pen *pen, const struct bht_point *schedule, const struct bht_point *notify,
		     const struct bht_lane_span *execute)
{
	say(pen, "arrow %s %u:%u", name_of(execute), schedule->lane->tid, (unsigned)schedule->at);
	if (notify)
		say(pen, " %u:%u", notify->lane->tid, (unsigned)notify->at);
	say(pen, " %u:%u\n", execute->lane->tid, (unsigned)execute->begin);
	return 0;
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	story_begin(&x->story);
	story_more(&x->story, STORY_LOOPS, STORY_BHS);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	bht_timeline_free(&x->t);
	bht_overview_free(&x->overview);
	free(x);
	return 0;
}

static void first_reading(struct fixture *x)
{
	struct story_source source = { { story_next, story_close }, &x->story, 0 };
	struct bht_source *tap = bht_overview_tap(&source.base, &x->overview);
	struct bht_event e[4];

	while (tap->next(tap, e, 4) > 0)
		;
	tap->close(tap);
	x->process = (struct bht_recorded){ .ev = x->story.ev };
	x->t = (struct bht_timeline){ .name = "story",
				      .process = &x->process,
				      .d = &x->d,
				      .n_processes = 1,
				      .overview = &x->overview,
				      .only = BHT_ALL_PROCESSES,
				      .until = UINT64_MAX,
				      .max_events = UINT64_MAX,
				      .ticks_per_ns = 1 };
}

/* Draws what lies within [SINCE, UNTIL]; gives what was said. */
static const char *draw_part(struct fixture *x, uint64_t since, uint64_t until)
{
	struct story_source source = { { story_next, story_close }, &x->story, 0 };
	struct log_pen pen = { { log_event, log_begin, log_end, log_arrow }, x->log };

	first_reading(x);
	x->t.since = since;
	x->t.until = until;
	assert_int_equal(bht_timeline_draw(&x->t, &source.base, &pen.base), 0);
	return x->log;
}

static const char *draw(struct fixture *x)
{
	return draw_part(x, 0, UINT64_MAX);
}

/* --- spans --------------------------------------------------------------------- */

static void wakes(struct story *s, uint64_t t)
{
	tell(s, LOOP_TID, t, poll_begin, .loop = LOOP, .depth = 1, .blocking = 1);
	tell(s, LOOP_TID, t + 10, wait_begin, .loop = LOOP, .timeout_ns = -1);
	tell(s, LOOP_TID, t + 50, wait_end, .loop = LOOP, .woke = BHP_WOKE_NOTIFIER);
}

static void a_turn(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	wakes(s, 100);
	story_executed(s, BH, 160, 190);
	tell(s, LOOP_TID, 200, poll_end, .loop = LOOP, .depth = 1);
	assert_string_equal(draw(x), "10: sleep main 110..150 depth 0\n"
				     "10: run done 160..190 depth 0\n"
				     "10: turn main 100..200 depth 0\n");
	assert_int_equal(x->t.n_events, 6);
}

static void a_nested_poll(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	wakes(s, 100);
	tell(s, LOOP_TID, 150, execute_begin, .loop = LOOP, .bh = OUTER);
	tell(s, LOOP_TID, 160, poll_begin, .loop = LOOP, .depth = 2);
	story_executed(s, BH, 170, 180);
	tell(s, LOOP_TID, 190, poll_end, .loop = LOOP, .depth = 2);
	tell(s, LOOP_TID, 195, execute_end, .loop = LOOP, .bh = OUTER, .begin = 150);
	tell(s, LOOP_TID, 200, poll_end, .loop = LOOP, .depth = 1);
	assert_string_equal(draw(x), "10: sleep main 110..150 depth 0\n"
				     "10: run done 170..180 depth 1\n"
				     "10: turn main 160..190 depth 1\n"
				     "10: run outer 150..195 depth 0\n"
				     "10: turn main 100..200 depth 0\n");
}

/* What the kernel tells is no lane and no point. */
static void the_kernel(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	tell(s, FOURTH, 50, waking, .waker = 1);
	wakes(s, 100);
	tell(s, LOOP_TID, 155, switch_out, .why = BHP_PREEMPTED);
	tell(s, FOURTH, 156, switch_in, .cpu = 1);
	story_executed(s, BH, 160, 190);
	tell(s, LOOP_TID, 300, call_begin, .call = BHP_CALL_POLL, .fd = -1);
	assert_string_equal(draw(x), "10: sleep main 110..150 depth 0\n"
				     "10: run done 160..190 depth 0\n"
				     "10: turn main 100..191 depth 0 goes on\n");
	assert_int_equal(x->t.n_events, 5);
	assert_int_equal(x->t.n_lanes, 1);
	assert_int_equal(x->overview.n_events, 5);
}

/* What is open at the end goes on a little behind it. */
static void a_hang(void **state)
{
	struct fixture *x = *state;

	wakes(&x->story, 100);
	tell(&x->story, LOOP_TID, 160, poll_end, .loop = LOOP, .depth = 1);
	tell(&x->story, LOOP_TID, 200, poll_begin, .loop = LOOP, .depth = 1);
	story_sleeps(&x->story, 600);
	assert_string_equal(draw(x), "10: sleep main 110..150 depth 0\n"
				     "10: turn main 100..160 depth 0\n"
				     "10: sleep main 600..610 depth 0 goes on\n"
				     "10: turn main 200..610 depth 0 goes on\n");
}

/* A turn begins, so what was open ended where its thread was seen last. */
static void ends_are_missing(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	wakes(s, 100);
	tell(s, LOOP_TID, 160, execute_begin, .loop = LOOP, .bh = BH);
	tell(s, LOOP_TID, 170, consume, .loop = LOOP, .bh = BH, .ticket = 1);
	wakes(s, 300);
	story_sleeps(s, 400);
	wakes(s, 500);
	tell(s, LOOP_TID, 600, poll_end, .loop = LOOP, .depth = 1);
	assert_string_equal(draw(x), "10: sleep main 110..150 depth 0\n"
				     "10: run done 160..170 depth 0 unseen\n"
				     "10: turn main 100..170 depth 0 unseen\n"
				     "10: sleep main 310..350 depth 0\n"
				     "10: sleep main 400..400 depth 0 unseen\n"
				     "10: turn main 300..400 depth 0 unseen\n"
				     "10: sleep main 510..550 depth 0\n"
				     "10: turn main 500..600 depth 0\n");
}

/* Only of a callback the beginning is known all the same, as far as it is free. */
static void beginnings_are_missing(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	tell(s, LOOP_TID, 100, wait_end, .loop = LOOP);
	tell(s, LOOP_TID, 200, execute_end, .loop = LOOP, .bh = BH, .begin = 150);
	tell(s, LOOP_TID, 300, execute_end, .loop = LOOP, .bh = OUTER, .begin = 120);
	tell(s, LOOP_TID, 400, execute_end, .loop = LOOP, .bh = OUTER, .begin = 500);
	tell(s, LOOP_TID, 400, poll_end, .loop = LOOP, .depth = 1);
	assert_string_equal(draw(x), "10: run done 150..200 depth 0\n"
				     "10: run outer 200..300 depth 0 early\n");
}

/* --- arrows -------------------------------------------------------------------- */

static void schedule(struct story *s, uint64_t t, bool notifies)
{
	tell(s, PRODUCER, t, schedule, .loop = LOOP, .bh = BH);
	if (notifies)
		tell(s, PRODUCER, t + 10, notify, .loop = LOOP, .bh = BH, .written = 1);
}

static const char *arrows(struct fixture *x)
{
	char *line = x->log, *to = x->log;

	draw(x);
	for (char *next; *line; line = next) {
		next = strchr(line, '\n') + 1;
		if (!strncmp(line, "arrow", 5)) {
			memmove(to, line, (size_t)(next - line));
			to += next - line;
		}
	}
	*to = '\0';
	return x->log;
}

static void an_arrow(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	schedule(s, 100, true);
	tell(s, OTHER, 120, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	tell(s, OTHER, 130, notify, .loop = LOOP, .bh = BH);
	story_executed(s, BH, 5000, 5100);
	schedule(s, 6000, false);
	story_executed(s, BH, 7000, 7100);
	assert_string_equal(arrows(x), "arrow done 11:100 11:110 10:5000\narrow done 11:6000 10:7000\n");
	assert_int_equal(x->t.n_arrows, 2);
}

static void no_arrow_from_what_was_withdrawn(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	schedule(s, 100, true);
	tell(s, OTHER, 1000, bh_cancel, .loop = LOOP, .bh = BH, .flags = BHP_FLAG_SCHEDULED);
	story_executed(s, BH, 5000, 5100);
	assert_string_equal(arrows(x), "");
}

static void no_arrow_when_two_could_be_meant(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	schedule(s, 100, true);
	schedule(s, 2000, true);
	story_executed(s, BH, 5000, 5100);
	assert_string_equal(arrows(x), "");
}

static void no_arrow_across_a_loss(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	tell(s, OTHER, 50, schedule, .loop = AUX, .bh = OUTER);
	schedule(s, 100, true);
	story_lose(s, OTHER, 1000);
	story_executed(s, BH, 5000, 5100);
	schedule(s, 6000, true);
	story_executed(s, BH, 7000, 7100);
	assert_string_equal(arrows(x), "arrow done 11:6000 11:6010 10:7000\n");
}

/* --- loss ---------------------------------------------------------------------- */

static void a_thread_loses(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	wakes(s, 100);
	story_lose(s, LOOP_TID, 400);
	tell(s, LOOP_TID, 450, poll_end, .loop = LOOP, .depth = 1);
	assert_string_equal(draw(x), "10: sleep main 110..150 depth 0\n"
				     "10: turn main 100..150 depth 0 unseen\n"
				     "10: loss - 150..400 depth 0\n");
}

static void all_lose(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	tell(s, PRODUCER, 50, schedule, .loop = LOOP, .bh = BH);
	story_lose(s, 0, 120);
	story_lose(s, OTHER, 130);
	wakes(s, 200);
	tell(s, LOOP_TID, 300, poll_end, .loop = LOOP, .depth = 1);
	s->event[s->n++] = bht_loss(400, 0, BHT_LOSS_DROPPED, 7);
	s->event[s->n - 1].process = BHT_ALL_PROCESSES;
	assert_string_equal(draw(x), "0: loss - 50..120 depth 0\n"
				     "12: loss - 50..130 depth 0\n"
				     "10: sleep main 210..250 depth 0\n"
				     "10: turn main 200..300 depth 0\n"
				     "0: loss - 120..400 depth 0\n");
}

/* --- a part of it -------------------------------------------------------------- */

static void a_window(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	schedule(s, 40, true);
	wakes(s, 100);
	story_executed(s, BH, 160, 190);
	tell(s, LOOP_TID, 200, poll_end, .loop = LOOP, .depth = 1);
	tell(s, OTHER, 210, schedule, .loop = LOOP, .bh = BH);
	story_lose(s, OTHER, 300);
	assert_string_equal(draw_part(x, 120, 180), "10: sleep main 120..150 depth 0 early\n"
						    "10: run done 160..180 depth 0 goes on\n"
						    "10: turn main 120..180 depth 0 early goes on\n");
	assert_int_equal(x->t.n_before, 4);
	assert_int_equal(x->t.n_events, 2);
	assert_int_equal(x->t.n_after, 3);
	assert_false(x->t.full);
}

/* A loss is known after it: it may reach into the picture. */
static void a_loss_behind_the_window(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	wakes(s, 100);
	tell(s, PRODUCER, 140, schedule, .loop = LOOP, .bh = BH);
	tell(s, PRODUCER, 250, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	story_lose(s, LOOP_TID, 400);
	story_lose(s, PRODUCER, 500);
	assert_string_equal(draw_part(x, 0, 200), "10: sleep main 110..150 depth 0\n"
						  "10: turn main 100..150 depth 0 unseen\n"
						  "10: loss - 150..200 depth 0\n");
}

/* Nothing happened in it, but something was going on. */
static void a_window_without_events(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	tell(s, LOOP_TID, 100, poll_begin, .loop = LOOP, .depth = 1);
	tell(s, OTHER, 120, schedule, .loop = LOOP, .bh = BH, .seen = 1);
	tell(s, LOOP_TID, 900, poll_end, .loop = LOOP, .depth = 1);
	story_lose(s, OTHER, 1000);
	assert_string_equal(draw_part(x, 300, 400), "12: loss - 300..400 depth 0\n"
						    "10: turn main 300..400 depth 0 early goes on\n");
	assert_int_equal(x->t.n_events, 0);
}

static void no_room_for_more(void **state)
{
	struct fixture *x = *state;
	struct story_source source = { { story_next, story_close }, &x->story, 0 };
	struct log_pen pen = { { log_event, log_begin, log_end, log_arrow }, x->log };

	wakes(&x->story, 100);
	wakes(&x->story, 300);
	first_reading(x);
	x->t.max_events = 3;
	assert_int_equal(bht_timeline_draw(&x->t, &source.base, &pen.base), 0);
	assert_string_equal(x->log, "10: sleep main 110..150 depth 0\n10: turn main 100..150 depth 0 goes on\n");
	assert_true(x->t.full);
	assert_int_equal(x->t.n_after, 3);
}

static void another_process(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	wakes(s, 100);
	for (unsigned i = 0; i < s->n; i++)
		s->event[i].process = 1; /* it came after the first reading */
	assert_string_equal(draw(x), "");
	assert_int_equal(x->t.n_events, 0);
}

/* --- names --------------------------------------------------------------------- */

static void a_place_used_again(void **state)
{
	struct fixture *x = *state;
	struct story *s = &x->story;

	story_executed(s, BH, 100, 110);
	tell(s, LOOP_TID, 120, bh_new, .loop = LOOP, .bh = BH);
	s->event[s->n - 1].text = "second";
	story_executed(s, BH, 130, 140);
	story_executed(s, OUTER, 150, 160);
	/* The evidence calls the last one "done": that is not the name of the first. */
	assert_string_equal(draw(x), "10: run  100..110 depth 0\n"
				     "10: run second 130..140 depth 0\n"
				     "10: run outer 150..160 depth 0\n");
}

/* --- the overview -------------------------------------------------------------- */

static void narrowing(void **state)
{
	uint64_t since = 0, until = UINT64_MAX, mark[100];
	const struct bht_overview o = { .n_events = 100 * 1024, .mark = mark, .n_marks = 100 };

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		mark[i] = 1000 * i;
	bht_overview_narrow(&o, 200 * 1024, 50000, 50000, &since, &until);
	assert_true(since == 0 && until == UINT64_MAX);
	bht_overview_narrow(&o, 20 * 1024, 50000, 52000, &since, &until);
	assert_in_range(since, 40000, 43000);
	assert_in_range(until, 59000, 61000);
	/* Around the end, and of what is too long its end. */
	since = 0, until = UINT64_MAX;
	bht_overview_narrow(&o, 20 * 1024, 10000, 99500, &since, &until);
	assert_in_range(since, 80000, 90000);
	assert_true(until == UINT64_MAX); /* with what comes after the last mark */
	/* Within what was asked for. */
	since = 30000, until = 70000;
	bht_overview_narrow(&o, 20 * 1024, 0, 0, &since, &until);
	assert_int_equal(since, 30000);
	assert_in_range(until, 47000, 50000);
}

/* --- files --------------------------------------------------------------------- */

static void hostile_names(struct fixture *x)
{
	struct story *s = &x->story;

	strcpy(s->last.bh[0].name, "</script><b>\"\\\n\xff");
	strcpy(s->last.loop[0].name, "<!--<script>");
	schedule(s, 100, true);
	wakes(s, 1000);
	story_executed(s, BH, 1060, 1070);
	story_lose(s, PRODUCER, 1100);
	story_sleeps(s, 1200);
	first_reading(x);
}

static char *file_of(struct fixture *x, int (*write)(struct bht_timeline *, struct bht_source *, FILE *))
{
	struct story_source source = { { story_next, story_close }, &x->story, 0 };
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_int_equal(write(&x->t, &source.base, out), 0);
	fclose(out);
	return text;
}

static unsigned count_phase(const json_t *events, const char *phase)
{
	unsigned n = 0;

	for (size_t i = 0; i < json_array_size(events); i++)
		n += !strcmp(json_string_value(json_object_get(json_array_get(events, i), "ph")), phase);
	return n;
}

static void as_json(void **state)
{
	struct fixture *x = *state;

	hostile_names(x);
	char *text = file_of(x, bht_timeline_json);
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *events = json_object_get(root, "traceEvents");
	assert_non_null(root);
	/* Turn, two sleeps, the callback, the loss. */
	assert_int_equal(count_phase(events, "B"), 5);
	assert_int_equal(count_phase(events, "E"), 5);
	assert_int_equal(count_phase(events, "X"), 2);
	assert_int_equal(count_phase(events, "s"), 1);
	assert_int_equal(count_phase(events, "t"), 1);
	assert_int_equal(count_phase(events, "f"), 1);
	assert_non_null(strstr(text, "\"name\":\"</script><b>\\\"\\\\\\\\x0a\\\\xff\""));
	json_decref(root);
	free(text);
}

static unsigned count_text(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		n++;
	return n;
}

static void as_html(void **state)
{
	struct fixture *x = *state;

	hostile_names(x);
	char *text = file_of(x, bht_timeline_html);
	assert_null(strstr(text, "@DATA@"));
	assert_null(strstr(text, "</script><b>"));
	assert_null(strstr(text, "<!--"));
	assert_non_null(strstr(text, "\\u003c/script>\\u003cb>"));
	assert_int_equal(count_text(text, "<script"), count_text(text, "</script>"));
	assert_int_equal(count_text(text, "http://"), 1); /* the name space of SVG */
	assert_int_equal(count_text(text, "https://"), 0);
	free(text);
}

static int damaged_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	(void)source, (void)e, (void)max;
	return -EBADMSG;
}

static void failures(void **state)
{
	struct fixture *x = *state;
	struct bht_source damaged = { damaged_next, story_close };
	struct story_source source = { { story_next, story_close }, &x->story, 0 };
	FILE *full = fopen("/dev/full", "w"), *null = fopen("/dev/null", "w");

	hostile_names(x);
	assert_int_equal(bht_timeline_html(&x->t, &damaged, null), -EBADMSG);
	bht_timeline_free(&x->t);
	if (full)
		assert_int_equal(bht_timeline_json(&x->t, &source.base, full), -EIO);
	if (full)
		fclose(full);
	fclose(null);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(the_kernel, setup, teardown),
		cmocka_unit_test_setup_teardown(a_nested_poll, setup, teardown),
		cmocka_unit_test_setup_teardown(a_hang, setup, teardown),
		cmocka_unit_test_setup_teardown(ends_are_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(beginnings_are_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(an_arrow, setup, teardown),
		cmocka_unit_test_setup_teardown(no_arrow_from_what_was_withdrawn, setup, teardown),
		cmocka_unit_test_setup_teardown(no_arrow_when_two_could_be_meant, setup, teardown),
		cmocka_unit_test_setup_teardown(no_arrow_across_a_loss, setup, teardown),
		cmocka_unit_test_setup_teardown(a_thread_loses, setup, teardown),
		cmocka_unit_test_setup_teardown(all_lose, setup, teardown),
		cmocka_unit_test_setup_teardown(a_window, setup, teardown),
		cmocka_unit_test_setup_teardown(a_loss_behind_the_window, setup, teardown),
		cmocka_unit_test_setup_teardown(a_window_without_events, setup, teardown),
		cmocka_unit_test_setup_teardown(no_room_for_more, setup, teardown),
		cmocka_unit_test_setup_teardown(another_process, setup, teardown),
		cmocka_unit_test_setup_teardown(a_place_used_again, setup, teardown),
		cmocka_unit_test_setup_teardown(narrowing, setup, teardown),
		cmocka_unit_test_setup_teardown(as_json, setup, teardown),
		cmocka_unit_test_setup_teardown(as_html, setup, teardown),
		cmocka_unit_test_setup_teardown(failures, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
