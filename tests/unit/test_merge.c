/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>

#include "event.h"

/* A source of the given times that checks what a source may expect. */
struct times {
	struct bht_source base;
	const uint64_t *time;
	unsigned n, at;
	uint32_t tid;
	int end; /* what next() gives after the last: 0 or -errno */
	bool ended;
	char text[24];
};

static unsigned n_open;

static int times_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct times *s = (struct times *)source;

	assert_true(max > 0);
	assert_false(s->ended);
	if (s->at == s->n) {
		s->ended = true;
		return s->end;
	}
	snprintf(s->text, sizeof(s->text), "%u.%u", s->tid, s->at);
	*e = (struct bht_event){ .r = { { s->time[s->at++], BHP_ID_notify, 0, 0 } }, .tid = s->tid, .text = s->text };
	return 1;
}

static void times_close(struct bht_source *source)
{
	free(source);
	n_open--;
}

static struct bht_source *times(uint32_t tid, const uint64_t *time, unsigned n, int end)
{
	struct times *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	*s = (struct times){ .base = { times_next, times_close }, .time = time, .n = n, .tid = tid, .end = end };
	n_open++;
	return &s->base;
}

#define TIMES(tid, end, ...)                                                                                           \
	times(tid, (const uint64_t[]){ __VA_ARGS__ }, sizeof((uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t), end)

static void expect(struct bht_source *merged, const char *text)
{
	struct bht_event e;

	assert_int_equal(merged->next(merged, &e, 1), 1);
	assert_string_equal(e.text, text);
}

static void finish(struct bht_source *merged, int end)
{
	struct bht_event e;

	assert_int_equal(merged->next(merged, &e, 1), end);
	merged->close(merged);
	assert_int_equal(n_open, 0);
}

static void test_none(void **state)
{
	(void)state;
	struct bht_source *merged = bht_merge(NULL, 0);

	assert_non_null(merged);
	finish(merged, 0);
}

static void test_one_is_passed_through(void **state)
{
	(void)state;
	struct bht_source *one = TIMES(1, 0, 3, 1);

	struct bht_source *merged = bht_merge(&one, 1);
	expect(merged, "1.0");
	expect(merged, "1.1");
	finish(merged, 0);
}

static void test_ties_and_texts(void **state)
{
	(void)state;
	struct bht_source *sources[] = { TIMES(1, 0, 5, 5, 9), TIMES(2, 0, 5, 6), TIMES(3, 0, 1, UINT64_MAX) };

	struct bht_source *merged = bht_merge(sources, 3);
	expect(merged, "3.0");
	expect(merged, "1.0");
	expect(merged, "1.1");
	expect(merged, "2.0");
	expect(merged, "2.1");
	expect(merged, "1.2");
	expect(merged, "3.1");
	finish(merged, 0);
}

/* Program order of a thread is worth more than its clock. */
static void test_source_order_is_kept(void **state)
{
	(void)state;
	struct bht_source *sources[] = { TIMES(1, 0, 10, 2, 11), TIMES(2, 0, 3) };

	struct bht_source *merged = bht_merge(sources, 2);
	expect(merged, "2.0");
	expect(merged, "1.0");
	expect(merged, "1.1");
	expect(merged, "1.2");
	finish(merged, 0);
}

static void test_empty_sources(void **state)
{
	(void)state;
	struct bht_source *sources[] = { times(1, NULL, 0, 0), TIMES(2, 0, 3), times(3, NULL, 0, 0) };

	struct bht_source *merged = bht_merge(sources, 3);
	expect(merged, "2.0");
	finish(merged, 0);
}

static void test_error_of_a_source(void **state)
{
	(void)state;
	struct bht_source *sources[] = { TIMES(1, -EIO, 1), TIMES(2, 0, 3) };

	struct bht_source *merged = bht_merge(sources, 2);
	expect(merged, "1.0");
	finish(merged, -EIO);
	struct bht_source *first[] = { times(1, NULL, 0, -EIO), TIMES(2, 0, 3) };
	finish(bht_merge(first, 2), -EIO);
}

/* Many sources of random length against the definition. */
static void test_many(void **state)
{
	(void)state;
	enum { SOURCES = 67, EVENTS = 50 };
	static uint64_t time[SOURCES][EVENTS];
	struct bht_source *sources[SOURCES];
	unsigned total = 0, seen[SOURCES] = { 0 };
	struct bht_event e;
	uint64_t last = 0;

	srand(1);
	for (uint32_t i = 0; i < SOURCES; i++) {
		const unsigned n = (unsigned)rand() % EVENTS;
		for (unsigned k = 0; k < n; k++)
			time[i][k] = (k ? time[i][k - 1] : 0) + (uint64_t)(rand() % 4);
		sources[i] = times(i, time[i], n, 0);
		total += n;
	}
	struct bht_source *merged = bht_merge(sources, SOURCES);
	for (uint32_t tid = 0; total > 0; total--) {
		assert_int_equal(merged->next(merged, &e, 1), 1);
		assert_true(bhp_record_time(&e.r) > last || (bhp_record_time(&e.r) == last && e.tid >= tid));
		assert_true(bhp_record_time(&e.r) == time[e.tid][seen[e.tid]++]);
		last = bhp_record_time(&e.r);
		tid = e.tid;
	}
	finish(merged, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),           cmocka_unit_test(test_one_is_passed_through),
		cmocka_unit_test(test_ties_and_texts), cmocka_unit_test(test_source_order_is_kept),
		cmocka_unit_test(test_empty_sources),  cmocka_unit_test(test_error_of_a_source),
		cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
