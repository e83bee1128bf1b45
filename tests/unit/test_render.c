/* SPDX-License-Identifier: MIT */
/* Rendering of hand-built diagnoses: what must be there, and hostile names. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "render.h"

#define HOSTILE "a\x1b[31m\"\n\xff\xfe\xe2\x80\xaez"
enum { WORKER = 4712, LOOPER = 4711 };

struct fixture {
	enum bht_standing standing;
	struct bht_loop loop;
	struct bht_bh bh;
	struct bht_thread threads[2];
	struct bht_evidence ev;
	struct bht_finding finding;
	struct bht_diagnosis d;
};

static void add(struct fixture *x, uint32_t tid, struct bhp_record r, bool key, const char *role)
{
	struct bht_witness *w = &x->finding.witness[x->finding.n_witness++];

	*w = (struct bht_witness){ .event = { .r = r, .tid = tid }, .key = key };
	snprintf(w->role, sizeof(w->role), "%s", role);
}

#define RECORD(name, ns, ...) bhp_encode_##name(1000000 + 2 * (ns), &(struct bhp_##name){ .loop = loop, __VA_ARGS__ })

/* The consumer half of flag-race: the schedule of ticket 8 came between the
 * callback's look and the moment the cleared flag became visible. */
static void add_events(struct fixture *x)
{
	const void *loop = (void *)x->loop.addr, *bh = (void *)x->bh.addr;

	add(x, WORKER, RECORD(schedule, -5240, .bh = bh, .seen = 0, .took = 70, .ticket = 7), false, "");
	add(x, WORKER, RECORD(notify, -5190, .bh = bh, .notify_me = BHP_LOOP_SLEEPING, .written = 1), false, "");
	add(x, LOOPER, RECORD(wait_end, -1300, .woke = BHP_WOKE_NOTIFIER, .fd = -1, .ready = 1), false, "");
	add(x, LOOPER, RECORD(accept, -900, .by = BHP_BY_POLL, .value = 1), false, "");
	add(x, LOOPER, RECORD(execute_begin, 0, .bh = bh, .callback = (void *)x->bh.callback), true,
	    "cleared the flag");
	add(x, WORKER, RECORD(schedule, 40, .bh = bh, .seen = 1, .took = 50, .ticket = 8), true,
	    "saw the flag still set: told nobody");
	add(x, LOOPER, RECORD(consume, 90, .bh = bh, .ticket = 7), false, "");
	add(x, LOOPER, RECORD(execute_end, 160, .bh = bh, .begin = 1000000), true, "never saw ticket 8");
	add(x, LOOPER, RECORD(poll_end, 260, .progress = 1, .depth = 1, .iteration = 90211), false, "");
	add(x, LOOPER, RECORD(poll_begin, 330, .blocking = 1, .depth = 1, .iteration = 90212), false, "");
	add(x, LOOPER, RECORD(wait_begin, 700, .timeout_ns = -1), true, "asleep with work undone");
}

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	x->loop = (struct bht_loop){ .addr = 0x7f10,
				     .name = "main",
				     .owner = LOOPER,
				     .where = BHP_WAIT,
				     .iteration = 90212,
				     .notify_me = BHP_LOOP_SLEEPING,
				     .notifier_fd = 5 };
	x->bh = (struct bht_bh){
		.addr = 0x7f20, .name = "completion", .loop = 0x7f10, .callback = 0x5555, .runs = 90000
	};
	x->threads[0] = (struct bht_thread){ .tid = LOOPER, .name = "flag-race" };
	x->threads[1] = (struct bht_thread){ .tid = WORKER, .name = "worker-1" };
	x->ev = (struct bht_evidence){ .pid = LOOPER,
				       .command = "flag-race",
				       .live = true,
				       .ticks_per_ns = 2,
				       .clock_error_ns = 250,
				       .read_us = 412 };
	x->ev.last = (struct bht_sample){
		.loops = &x->loop, .n_loops = 1, .bhs = &x->bh, .n_bhs = 1, .threads = x->threads, .n_threads = 2
	};
	x->finding = (struct bht_finding){
		.rule = BHT_RULE_FLAG_RACE, .confidence = BHT_PROVED, .bh = x->bh, .loop = x->loop, .origin = 1000000
	};
	strcpy(x->finding.detail,
	       "Thread worker-1 (4712) announced ticket 8 and saw the flag set, 40 ns after loop \"main\" began the "
	       "execution that cleared it. That execution consumed ticket 7 only; nothing was scheduled since, and the "
	       "loop has slept for 3.4 s with ticket 8 undone.");
	strcpy(x->finding.refute, "A consume of ticket 8 by any thread, or a later schedule of this bottom half.");
	add_events(x);
	x->d = (struct bht_diagnosis){ .verdict = BHT_LOST,
				       .findings = &x->finding,
				       .n_findings = 1,
				       .n_events = 4094,
				       .lost_events = 12,
				       .loss_why = "overwritten before it was read",
				       .n_loops = 1,
				       .n_bhs = 10,
				       .n_asleep = 1,
				       .standing = &x->standing };
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static char *as_text(const struct fixture *x, struct bht_render how)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_int_equal(bht_render_text(out, &x->ev, &x->d, &how), 0);
	fclose(out);
	return text;
}

static json_t *as_json(const struct fixture *x)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	json_error_t error;

	assert_int_equal(bht_render_json(out, &x->ev, &x->d), 0);
	fclose(out);
	json_t *root = json_loads(text, 0, &error);
	if (!root)
		fail_msg("%s at %d in: %s", error.text, error.position, text);
	free(text);
	return root;
}

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" is missing in:\n%s", part, text);
}

static void test_every_rule_has_all_texts(void **state)
{
	static const char *const parts[] = { BHT_PAGE_PARTS };

	(void)state;
	for (unsigned i = 0; i < BHT_RULES; i++) {
		const struct bht_rule *r = &bht_rules[i];
		const char *page = r->page;

		assert_true(r->id[0] && r->line[0] && r->decides[0] && r->remedy[0]);
		assert_int_equal(strspn(r->id, "abcdefghijklmnopqrstuvwxyz-"), strlen(r->id));
		assert_true(r->verdict == BHT_LOST || r->verdict == BHT_STUCK || r->verdict == BHT_LATE);
		for (unsigned k = 0; k < sizeof(parts) / sizeof(*parts); k++) {
			assert_int_equal(strncmp(page, parts[k], strlen(parts[k])), 0);
			assert_int_equal(page[strlen(parts[k])], ':');
			page = strstr(page, "\n\n") ? strstr(page, "\n\n") + 2 : "";
		}
		assert_string_equal(page, "");
	}
}

static void test_exit_codes(void **state)
{
	(void)state;
	assert_int_equal(bht_exit_code(BHT_HEALTHY), 0);
	assert_int_equal(bht_exit_code(BHT_LATE), 1);
	assert_int_equal(bht_exit_code(BHT_STUCK), 1);
	assert_int_equal(bht_exit_code(BHT_LOST), 1);
	assert_int_equal(bht_exit_code(BHT_UNDECIDABLE), 3);
}

static void test_text_of_a_finding(void **state)
{
	struct fixture *x = *state;
	char *text = as_text(x, (struct bht_render){ .width = 120 });
	const char *first = "LOST: bottom half \"completion\" of loop \"main\" lost a wakeup by flag-race (proved): ";

	assert_int_equal(strncmp(text, first, strlen(first)), 0);
	assert_has(text, "| worker-1 (4712)");
	assert_has(text, "| loop: flag-race (4711)");
	assert_has(text, ">      +0.04 ~");
	assert_has(text, "schedule seen=coalesced took=25 ns ticket=8");
	assert_has(text, "wait_begin timeout_ns=forever");
	assert_has(text, "saw the flag still set");
	assert_has(text, "12 events of the history lost: overwritten");
	assert_has(text, "target stopped for 0 us, read for 412 us");
	assert_has(text, "flight recorder: plain stores");
	assert_null(strchr(text, '\x1b'));
	free(text);
}

static void test_width_is_kept(void **state)
{
	struct fixture *x = *state;
	static const unsigned widths[] = { 50, 80, 100, 120, 200 };

	for (unsigned i = 0; i < sizeof(widths) / sizeof(*widths); i++) {
		char *text = as_text(x, (struct bht_render){ .width = widths[i], .all = true });
		/* The verdict is one line, however long: it is what scripts cut out. */
		for (char *line = strtok(strchr(text, '\n'), "\n"); line; line = strtok(NULL, "\n"))
			if (bht_columns(line) > widths[i])
				fail_msg("%u columns of %u: %s", bht_columns(line), widths[i], line);
		free(text);
	}
}

static void test_color_only_when_asked(void **state)
{
	struct fixture *x = *state;
	char *text = as_text(x, (struct bht_render){ .color = true });

	assert_has(text, "\x1b[1;31mLOST\x1b[m:");
	free(text);
}

static void test_verdicts_without_finding(void **state)
{
	struct fixture *x = *state;
	char *text;

	x->d = (struct bht_diagnosis){ .verdict = BHT_HEALTHY, .n_loops = 1, .n_bhs = 10, .n_asleep = 1 };
	text = as_text(x, (struct bht_render){ 0 });
	assert_int_equal(strncmp(text, "HEALTHY: 1 loop, 10 bottom halves: ", 35), 0);
	assert_has(text, "no event history");
	free(text);
	x->d.verdict = BHT_UNDECIDABLE;
	x->d.n_reasons = 2;
	strcpy(x->d.reasons[0], "12 events were lost in the window of loop \"main\".");
	strcpy(x->d.reasons[1], "The registry changed while it was read.");
	text = as_text(x, (struct bht_render){ 0 });
	assert_int_equal(strncmp(text, "UNDECIDABLE: 12 events were lost", 32), 0);
	assert_has(text, "- The registry changed");
	free(text);
}

static void test_many_threads(void **state)
{
	struct fixture *x = *state;
	char *text;

	for (unsigned i = 0; i < x->finding.n_witness; i++)
		x->finding.witness[i].event.tid = 100 + i;
	text = as_text(x, (struct bht_render){ .width = 80 });
	assert_has(text, "| thread: event");
	assert_has(text, "thread 100, gone: schedule");
	free(text);
}

static void test_hostile_names(void **state)
{
	struct fixture *x = *state;
	json_t *root;
	char *text;

	strcpy(x->bh.name, HOSTILE);
	strcpy(x->loop.name, HOSTILE);
	strcpy(x->threads[1].name, "\xc3(\x07");
	strcpy(x->ev.command, "\x80\x9b");
	x->finding.bh = x->bh;
	x->finding.loop = x->loop;
	strcpy(x->finding.detail, HOSTILE);
	text = as_text(x, (struct bht_render){ .all = true });
	assert_has(text, "a\\x1b[31m\"\\x0a\\xff\\xfe\\xe2\\x80\\xaez");
	assert_null(strpbrk(text, "\x1b\x07\xff\xfe"));
	free(text);
	root = as_json(x);
	assert_has(json_string_value(json_object_get(json_object_get(root, "target"), "command")), "\\x80\\x9b");
	json_decref(root);
}

static void test_escape(void **state)
{
	char dst[64], again[64], tiny[8];

	(void)state;
	assert_string_equal(bht_escape(dst, sizeof(dst), "gr\xc3\xbc\xc3\x9f\x65 \xf0\x9f\x90\x9b"),
			    "gr\xc3\xbc\xc3\x9f\x65 \xf0\x9f\x90\x9b");
	assert_string_equal(bht_escape(dst, sizeof(dst), "\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82"),
			    "\\xc0\\xaf\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80\\xe2\\x82");
	bht_escape(dst, sizeof(dst), HOSTILE);
	assert_string_equal(bht_escape(again, sizeof(again), dst), dst);
	assert_string_equal(bht_escape(tiny, sizeof(tiny), "abc\x01\x02"), "abc\\x01");
	assert_string_equal(bht_escape(tiny, sizeof(tiny), "abcd\x01\x02"), "abcd");
}

static void test_json_keys(void **state)
{
	struct fixture *x = *state;
	json_t *root = as_json(x), *finding, *event;
	const char *schema, *verdict, *rule, *confidence, *bh, *loop, *explanation, *remedy, *why, *role, *addr;
	int pid, events, stopped, read, seen, ticket, key;

	assert_int_equal(json_unpack(root, "{s:s, s:{s:i}, s:s, s:{s:i, s:s}, s:{s:i, s:i}}", "schema", &schema,
				     "target", "pid", &pid, "verdict", &verdict, "loss", "events", &events, "why", &why,
				     "cost", "stopped_us", &stopped, "read_us", &read),
			 0);
	assert_string_equal(schema, "bhtrace.diagnosis/1");
	assert_string_equal(verdict, "lost");
	assert_int_equal(pid, LOOPER);
	assert_int_equal(events, 12);
	assert_int_equal(read, 412);
	finding = json_array_get(json_object_get(root, "findings"), 0);
	assert_int_equal(json_unpack(finding, "{s:s, s:s, s:{s:s, s:s}, s:{s:s}, s:s, s:s}", "rule", &rule,
				     "confidence", &confidence, "bh", "name", &bh, "addr", &addr, "loop", "name", &loop,
				     "explanation", &explanation, "remedy", &remedy),
			 0);
	assert_string_equal(rule, "flag-race");
	assert_string_equal(confidence, "proved");
	assert_string_equal(bh, "completion");
	assert_string_equal(addr, "0x7f20");
	assert_string_equal(loop, "main");
	event = json_array_get(json_object_get(finding, "evidence"), 5);
	assert_int_equal(json_unpack(event, "{s:b, s:s, s:{s:i, s:i}}", "key", &key, "role", &role, "fields", "seen",
				     &seen, "ticket", &ticket),
			 0);
	assert_true(key && seen == 1 && ticket == 8);
	assert_true(json_is_array(json_object_get(root, "reasons")));
	assert_true(json_is_array(json_object_get(root, "unseen")));
	json_decref(root);
}

static void test_json_extremes(void **state)
{
	struct fixture *x = *state;
	const void *loop = NULL;
	json_t *root, *fields;

	x->ev.ticks_per_ns = 1e-300;
	x->ev.clock_error_ns = INFINITY;
	x->finding.bh.addr = 0;
	x->finding.n_witness = 0;
	add(x, 0, RECORD(schedule, 0, .ticket = UINT64_MAX), true, "");
	add(x, 0, (struct bhp_record){ { UINT64_MAX, 0x77, ~0ull, ~0ull } }, true, "\xff");
	x->finding.witness[x->finding.n_witness++].event = bht_loss(3, 0, BHT_LOSS_DROPPED, 9);
	root = as_json(x);
	json_t *finding = json_array_get(json_object_get(root, "findings"), 0);
	json_t *evidence = json_object_get(finding, "evidence");
	assert_true(json_is_null(json_object_get(finding, "bh")));
	fields = json_object_get(json_array_get(evidence, 0), "fields");
	assert_string_equal(json_string_value(json_object_get(fields, "ticket")), "0xffffffffffffffff");
	assert_string_equal(json_string_value(json_object_get(json_array_get(evidence, 1), "event")), "unknown");
	assert_string_equal(json_string_value(json_object_get(json_array_get(evidence, 2), "words")),
			    "loss why=dropped count=9");
	json_decref(root);
	free(as_text(x, (struct bht_render){ .width = 1 }));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_rule_has_all_texts),
		cmocka_unit_test(test_exit_codes),
		cmocka_unit_test(test_escape),
		cmocka_unit_test_setup_teardown(test_text_of_a_finding, setup, teardown),
		cmocka_unit_test_setup_teardown(test_width_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_color_only_when_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_verdicts_without_finding, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_extremes, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
