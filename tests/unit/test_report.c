/* SPDX-License-Identifier: MIT */
/* A report of two processes with hostile names, in all forms and widths. */
#include <stdio.h>

#include "render.h"
#include "report.h"
#include "story.h"

#define HOSTILE "a\x1b[31m;\"\n\xff\xe2\x80\xaez"
enum { EVENTS = 512 };

struct tape {
	struct bht_source base;
	struct bht_event event[EVENTS];
	unsigned n, next;
};

/* One that has a text is the last of its batch. */
static int tape_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct tape *t = (struct tape *)source;
	unsigned n = 0;

	while (n < max && t->next < t->n && (n == 0 || !e[n - 1].text))
		e[n++] = t->event[t->next++];
	return (int)n;
}

static void tape_close(struct bht_source *source)
{
	(void)source;
}

struct fixture {
	struct tape tape;
	struct bht_recorded process[2];
	struct bht_recording rec;
	struct bht_report report;
};

static void add(struct fixture *x, struct bhp_record r, uint32_t tid, uint32_t process, const char *text)
{
	x->tape.event[x->tape.n++] =
		(struct bht_event){ .r = r, .tid = tid + 100 * process, .process = process, .text = text };
}

#define add_event(x, p, tid, time, name_, ...)                                                                         \
	add(x, bhp_encode_##name_(time, &(struct bhp_##name_){ .loop = LOOP, __VA_ARGS__ }), tid, p, NULL)

/* A bottom half that runs and one that waits for it; process 1 is told when only a timer
 * wakes it. */
static void add_process(struct fixture *x, uint32_t p)
{
	const uint64_t t = 1000 + 500000 * p;

	add(x, bhp_encode_thread(t, &(struct bhp_thread){ .tid = LOOP_TID }), LOOP_TID, p, HOSTILE);
	add(x, bhp_encode_loop_new(t, &(struct bhp_loop_new){ .loop = LOOP }), LOOP_TID, p, HOSTILE);
	add(x, bhp_encode_bh_new(t, &(struct bhp_bh_new){ .loop = LOOP, .bh = BH }), LOOP_TID, p, HOSTILE);
	add(x, bhp_encode_bh_new(t, &(struct bhp_bh_new){ .loop = LOOP, .bh = OUTER }), LOOP_TID, p, "slow one");
	add_event(x, p, LOOP_TID, t + 10, poll_begin, .depth = 1, .blocking = 1);
	add_event(x, p, LOOP_TID, t + 20, wait_begin, .timeout_ns = -1);
	add_event(x, p, PRODUCER, t + 1000, schedule, .bh = OUTER);
	add_event(x, p, PRODUCER, t + 1100, notify, .bh = OUTER, .notify_me = !p, .written = !p);
	add_event(x, p, LOOP_TID, t + 40000, wait_end, .fd = -1, .woke = p ? BHP_WOKE_TIMEOUT : BHP_WOKE_NOTIFIER);
	add_event(x, p, LOOP_TID, t + 40000, execute_begin, .bh = OUTER);
	add_event(x, p, PRODUCER, t + 50000, schedule, .bh = BH);
	add_event(x, p, PRODUCER, t + 50100, notify, .bh = BH);
	add_event(x, p, PRODUCER, t + 50200, schedule, .bh = BH, .seen = 1);
	add_event(x, p, LOOP_TID, t + 340000, execute_end, .bh = OUTER, .begin = t + 40000);
	add_event(x, p, LOOP_TID, t + 340000, execute_begin, .bh = BH);
	add_event(x, p, LOOP_TID, t + 341000, execute_end, .bh = BH, .begin = t + 340000);
	add_event(x, p, LOOP_TID, t + 342000, poll_end, .depth = 1, .progress = 1);
}

/* The loop of process 0 sleeps, is woken with the notification, and waits for a processor
 * behind somebody else until 30 us. */
static void add_kernel(struct fixture *x)
{
	const uint64_t t = 1000;
	struct tape told = x->tape;

#define ADD_KERNEL(tid, time, name_, ...)                                                                              \
	add(x, bhp_encode_##name_(time, &(struct bhp_##name_){ __VA_ARGS__ }), tid, 0, NULL)
	x->tape.n = 0;
	for (unsigned i = 0; i < told.n; i++) {
		x->tape.event[x->tape.n++] = told.event[i];
		if (i == 5)
			ADD_KERNEL(LOOP_TID, t + 30, switch_out, .why = BHP_ASLEEP);
		if (i == 6)
			ADD_KERNEL(PRODUCER, t + 1020, call_begin, .call = BHP_CALL_WRITE, .fd = 0);
		if (i == 7)
			ADD_KERNEL(LOOP_TID, t + 1500, waking, .waker = PRODUCER);
		if (i == 7)
			ADD_KERNEL(LOOP_TID, t + 30000, switch_in, .before = OTHER, .cpu = 3);
	}
	x->process[0].ev.recorder = BHT_BY_BPF;
#undef ADD_KERNEL
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	if (!x)
		return -1;
	x->tape.base = (struct bht_source){ tape_next, tape_close };
	x->rec = (struct bht_recording){ .process = x->process, .n = 2, .history = &x->tape.base, .ticks_per_ns = 1 };
	strcpy(x->rec.name, HOSTILE);
	for (unsigned p = 0; p < 2; p++) {
		x->process[p].ev = (struct bht_evidence){
			.origin = BHT_FROM_SNAPSHOT, .pid = 77 + p, .ticks_per_ns = 1, .clock_error_ns = 250
		};
		strcpy(x->process[p].ev.command, HOSTILE);
		strcpy(x->process[p].ev.hostname, HOSTILE);
		x->process[p].ev.source = HOSTILE;
		add_process(x, p);
	}
	x->report.how.worst = 10;
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	bht_report_free(&x->report);
	free(x);
	return 0;
}

static void read_it(struct fixture *x)
{
	assert_int_equal(bht_report_read(&x->report, &x->rec), 0);
	assert_false(bht_report_wants_again(&x->report));
}

/* What one of the renderers writes; freed by the caller. */
static char *written(const struct bht_report *r, int (*render)(FILE *, const struct bht_report *))
{
	char *buf;
	size_t size;
	FILE *out = open_memstream(&buf, &size);

	assert_non_null(out);
	assert_int_equal(render(out, r), 0);
	assert_int_equal(fclose(out), 0);
	return buf;
}

static unsigned width;

static int render_text(FILE *out, const struct bht_report *r)
{
	return bht_report_text(out, r, false, width);
}

/* No control characters but newlines, and no line that does not fit. */
static void check_lines(const char *text, unsigned columns)
{
	char line[4096];

	for (const char *next; *text; text = next + 1) {
		next = strchr(text, '\n');
		assert_non_null(next);
		size_t n = (size_t)(next - text);
		assert_true(n < sizeof(line));
		memcpy(line, text, n);
		line[n] = '\0';
		for (size_t i = 0; i < n; i++)
			assert_true((unsigned char)line[i] >= ' ' && (unsigned char)line[i] < 0x7f);
		if (bht_columns(line) > columns)
			fail_msg("too long for %u columns: %s", columns, line);
	}
}

static void text_fits(void **state)
{
	static const unsigned widths[] = { 80, 100, 120, 200 };
	struct fixture *x = *state;

	read_it(x);
	for (unsigned i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
		width = widths[i];
		char *text = written(&x->report, render_text);
		check_lines(text, width);
		free(text);
	}
	char *text = written(&x->report, render_text);
	assert_non_null(strstr(text, "only luck woke the loop for 1 of them"));
	assert_non_null(strstr(text, "slow callback: the loop was in callbacks for 290 us"));
	assert_non_null(strstr(text, "notify-skipped"));
	free(text);
}

static json_t *parse(struct fixture *x)
{
	char *text = written(&x->report, bht_report_json);
	json_t *root = json_loads(text, 0, NULL);

	assert_non_null(root);
	free(text);
	return root;
}

static double number_at(const json_t *root, const char *object, const char *key)
{
	return json_number_value(json_object_get(json_object_get(root, object), key));
}

static void json_has_all(void **state)
{
	struct fixture *x = *state;

	read_it(x);
	json_t *root = parse(x), *worst = json_object_get(root, "worst"), *first = json_array_get(worst, 0);
	assert_string_equal(json_string_value(json_object_get(root, "schema")), "bhtrace.report/1");
	assert_true(number_at(root, "counts", "schedules") == 6 && number_at(root, "counts", "coalesced") == 2);
	assert_true(number_at(root, "counts", "writes") == 1 && number_at(root, "counts", "avoided") == 3);
	assert_true(number_at(root, "gaps", "count") == 4 && number_at(root, "gaps", "max_ns") == 290000);
	assert_true(number_at(root, "segments_ns", "callbacks") == 2 * 290000);
	assert_true(number_at(root, "callbacks", "max_ns") == 300000);
	assert_int_equal(json_array_size(worst), 4);
	assert_int_equal(json_array_size(json_object_get(root, "processes")), 2);
	/* Process 1 was rescued and comes first, though another gap is longer. */
	assert_string_equal(json_string_value(json_object_get(first, "rescued")), "notify-skipped");
	assert_int_equal(json_integer_value(json_object_get(first, "process")), 1);
	assert_true(json_number_value(json_object_get(first, "gap_ns")) == 39000);
	assert_true(json_number_value(json_object_get(json_array_get(worst, 1), "gap_ns")) == 290000);
	json_decref(root);
}

/* Without the kernel there is not a word of it; with it, its parts and the cause. */
static void kernel_part(void **state)
{
	struct fixture *x = *state;
	char *text;

	width = 100;
	read_it(x);
	text = written(&x->report, render_text);
	assert_null(strstr(text, "run-queue"));
	assert_null(strstr(text, "of the kernel"));
	free(text);
	json_t *root = parse(x);
	assert_null(json_object_get(json_object_get(root, "segments_ns"), "run-queue"));
	json_decref(root);
	bht_report_free(&x->report);

	x->report = (struct bht_report){ .how.worst = 10 };
	x->tape.next = 0;
	add_kernel(x);
	read_it(x);
	root = parse(x);
	assert_true(number_at(root, "segments_ns", "run-queue") == 28500 && number_at(root, "gaps", "count") == 4);
	assert_true(number_at(root, "segments_ns", "waking") == 480 && number_at(root, "segments_ns", "notify") >= 20);
	const json_t *gap = json_array_get(json_object_get(root, "worst"), 3);
	assert_string_equal(json_string_value(json_object_get(gap, "cause")),
			    "run queue 28.5 us on CPU 3 behind thread 12");
	assert_true(number_at(gap, "run_queue", "behind_tid") == OTHER && number_at(gap, "run_queue", "cpu") == 3);
	assert_int_equal(json_array_size(json_object_get(gap, "events")), 7);
	json_decref(root);
	for (width = 80; width <= 120; width += 20) {
		text = written(&x->report, render_text);
		check_lines(text, width);
		assert_non_null(strstr(text, "run-queue: meanwhile runnable"));
		assert_non_null(strstr(text, "17 events and 4 of the kernel"));
		assert_non_null(strstr(text, "recorded by eBPF"));
		free(text);
	}
}

static void folded_has_four_frames(void **state)
{
	struct fixture *x = *state;
	unsigned lines = 0;

	x->process[0].ev.ticks_per_ns = x->process[1].ev.ticks_per_ns = x->rec.ticks_per_ns = 0.001;
	read_it(x);
	char *text = written(&x->report, bht_report_folded);
	check_lines(text, 4096);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), lines++) {
		unsigned frames = 1;
		for (const char *c = line; *c; c++)
			frames += *c == ';';
		assert_int_equal(frames, 4);
		assert_true(strtoull(strrchr(line, ' '), NULL, 10) > 0);
	}
	/* slow: notify, wake; the other: notify (in a callback: none), callbacks. */
	assert_int_equal(lines, 2 * 3);
	free(text);
}

/* Time is counted from the first event of all. */
static void window_is_relative(void **state)
{
	struct fixture *x = *state;

	x->report.since_ns = 500000;
	read_it(x);
	json_t *root = parse(x);
	assert_true(number_at(root, "gaps", "count") == 2 && number_at(root, "counts", "executions") == 2);
	assert_true(json_number_value(json_object_get(root, "rescued")) == 1);
	json_decref(root);
}

/* A loss of all processes is one of each; what it hides is told, and not measured. */
static void loss_of_all(void **state)
{
	struct fixture *x = *state;
	struct bht_event loss = bht_loss(2000000, 0, BHT_LOSS_DROPPED, 7);
	struct bht_row total = { 0 };

	loss.process = BHT_ALL_PROCESSES;
	x->tape.event[x->tape.n++] = loss;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(bht_report_read(&x->report, &x->rec), 0);
		assert_int_equal(bht_report_wants_again(&x->report), i == 0);
		assert_int_equal(bht_report_total(&x->report, &total), 0);
		assert_true(bht_report_blind(&total) && total.unmeasured[BHT_LOST_EVENTS] == 4);
		bht_row_clear(&total);
		total = (struct bht_row){ 0 };
		json_t *root = parse(x);
		const json_t *p = json_array_get(json_object_get(root, "processes"), 1);
		assert_true(number_at(p, "loss", "events") == 7);
		json_decref(root);
		width = 80;
		char *text = written(&x->report, render_text);
		assert_non_null(strstr(text, "None of 4 executions could be measured"));
		assert_non_null(strstr(text, "7 events lost, dropped"));
		free(text);
		bht_report_again(&x->report);
		x->tape.next = 0;
	}
}

static void nothing_at_all(void **state)
{
	struct fixture *x = *state;

	x->tape.n = 0;
	read_it(x);
	width = 80;
	char *text = written(&x->report, render_text);
	assert_non_null(strstr(text, "No bottom half ran"));
	free(text);
	json_t *root = parse(x);
	assert_true(number_at(root, "gaps", "count") == 0);
	json_decref(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(text_fits, setup, teardown),
		cmocka_unit_test_setup_teardown(json_has_all, setup, teardown),
		cmocka_unit_test_setup_teardown(kernel_part, setup, teardown),
		cmocka_unit_test_setup_teardown(folded_has_four_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(window_is_relative, setup, teardown),
		cmocka_unit_test_setup_teardown(loss_of_all, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_at_all, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
