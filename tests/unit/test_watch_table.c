/* SPDX-License-Identifier: MIT */
/* What bhtrace watch makes of the kernel's counters: quantiles, lines, metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../tools/watch.h"
#include "render.h"

static void test_quantiles(void **state)
{
	uint32_t bucket[BHB_BUCKETS] = { 0 };

	(void)state;
	assert_int_equal(watch_quantile_ns(bucket, 500), 0);
	bucket[10] = 100; /* 1024 to 2048 ns */
	assert_int_equal(watch_quantile_ns(bucket, 500), 1536);
	assert_int_equal(watch_quantile_ns(bucket, 1000), 2048);
	assert_int_equal(watch_quantile_ns(bucket, 0), 1024);
	bucket[20] = 1;
	assert_true(watch_quantile_ns(bucket, 990) < 2048);
	assert_true(watch_quantile_ns(bucket, 999) > 1 << 20);
	assert_int_equal(watch_quantile_ns(bucket, 1000), 1 << 21);
}

/* Each quantile lies in the bucket in which the sorted values have it. */
static void test_quantiles_are_in_their_bucket(void **state)
{
	uint32_t bucket[BHB_BUCKETS] = { 0 };
	uint64_t n = 0;

	(void)state;
	for (unsigned i = 0; i < BHB_BUCKETS; i++)
		n += bucket[i] = i * 7919 % 13;
	for (unsigned per_mille = 1; per_mille <= 1000; per_mille++) {
		uint64_t below = 0;
		unsigned i = 0;
		while (below + bucket[i] < (n * per_mille + 999) / 1000)
			below += bucket[i++];
		const uint64_t q = watch_quantile_ns(bucket, per_mille);
		assert_in_range(q, i ? UINT64_C(1) << i : 0, UINT64_C(2) << i);
	}
}

static void test_bucket_counts_may_be_large(void **state)
{
	uint32_t bucket[BHB_BUCKETS];

	(void)state;
	memset(bucket, 0xff, sizeof(bucket));
	assert_in_range(watch_quantile_ns(bucket, 500), 1 << 23, 1 << 24);
	assert_true(watch_quantile_ns(bucket, 1000) == UINT64_C(1) << BHB_BUCKETS);
}

static void test_times_and_counts(void **state)
{
	char cell[WATCH_CELL];

	(void)state;
	assert_string_equal(watch_time(cell, 0), "-");
	assert_string_equal(watch_time(cell, 1), "1ns");
	assert_string_equal(watch_time(cell, 1500), "1.5us");
	assert_string_equal(watch_time(cell, 12345678), "12ms");
	assert_string_equal(watch_time(cell, 90000000000), "1.5m");
	assert_true(strlen(watch_time(cell, UINT64_MAX)) < WATCH_CELL);
	assert_string_equal(watch_count(cell, 0), "0");
	assert_string_equal(watch_count(cell, 999), "999");
	assert_string_equal(watch_count(cell, 1500), "1.5k");
	assert_string_equal(watch_count(cell, 2.5e8), "250M");
	assert_true(strlen(watch_count(cell, 1e30)) < WATCH_CELL);
}

static struct watch_row row_named(const char *name)
{
	struct watch_row row = { .rate = 1234, .share = 0.5, .verdict = "notify-skipped", .overdue = true };

	snprintf(row.process, sizeof(row.process), "%s", name);
	snprintf(row.loop_name, sizeof(row.loop_name), "%s", name);
	snprintf(row.name, sizeof(row.name), "%s", name);
	return row;
}

/* No line is wider than the screen, whatever the names are, and all columns are in line. */
static void test_lines_fit(void **state)
{
	static const char *const names[] = {
		"", "a", "a name that is much longer than a column may be wide, and then some",
		"\xc3\xa4\xc3\xb6\xc3\xbc\xc3\xa4\xc3\xb6\xc3\xbc\xc3\xa4\xc3\xb6\xc3\xbc\xc3\xa4"
		"\xc3\xb6\xc3\xbc\xc3\xa4\xc3\xb6\xc3\xbc\xc3\xa4\xc3\xb6\xc3\xbc\xc3\xa4\xc3\xb6"
	};
	char heading[WATCH_LINE], line[WATCH_LINE];

	(void)state;
	for (unsigned width = 0; width < 400; width += 3)
		for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
			const struct watch_row row = row_named(names[i]);
			const struct watch_loop loop = { .asleep_ns = 5 };
			watch_row_line(heading, NULL, width);
			watch_row_line(line, &row, width);
			assert_true(bht_columns(heading) <= width);
			assert_true(bht_columns(line) <= width);
			/* Cells are cut between characters, not within. */
			char safe[4 * WATCH_LINE];
			assert_string_equal(bht_escape(safe, sizeof(safe), line), line);
			watch_loop_line(line, &loop, width);
			assert_true(bht_columns(line) <= width);
		}
}

static void test_overdue_is_seen_on_80_columns(void **state)
{
	const struct watch_row row = row_named("name");
	char line[WATCH_LINE];

	(void)state;
	watch_row_line(line, &row, 80);
	assert_non_null(strstr(line, "notify-skipped"));
}

static void test_sort(void **state)
{
	struct watch_row rows[3] = { row_named("b"), row_named("a"), row_named("c") };
	const struct watch_row *order[] = { &rows[0], &rows[1], &rows[2] };

	(void)state;
	rows[0].overdue = rows[1].overdue = false;
	rows[0].p99_ns = 5;
	watch_sort(order, 3, WATCH_BY_NAME);
	assert_ptr_equal(order[0], &rows[2]); /* what is overdue comes first */
	assert_ptr_equal(order[1], &rows[1]);
	watch_sort(order, 3, WATCH_BY_P99);
	assert_ptr_equal(order[0], &rows[2]);
	assert_ptr_equal(order[1], &rows[0]);
}

/* --- metrics ------------------------------------------------------------------------------ */

static char *metrics_of(const struct watch_view *view)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	assert_int_equal(watch_metrics(out, view), 0);
	fclose(out);
	return text;
}

static void test_metrics_without_anything(void **state)
{
	const struct watch_view view = { .ns = 1 };
	char *text = metrics_of(&view);

	(void)state;
	assert_non_null(strstr(text, "bhtrace_hangs_total 0\n"));
	assert_string_equal(text + strlen(text) - 6, "# EOF\n");
	free(text);
}

static void test_metrics_of_a_loop(void **state)
{
	struct watch_loop loop = {
		.key = { .tgid = 7, .addr = 0x10 }, .sum_ns = 2500000000, .rescued = 3, .overdue = 1
	};
	const struct watch_view view = { .loops = &loop, .n_loops = 1, .totals = { .raised = 2 } };

	(void)state;
	snprintf(loop.process, sizeof(loop.process), "qe\"mu");
	snprintf(loop.name, sizeof(loop.name), "a\\x0a\nb");
	loop.bucket[3] = 5;  /* below the first bound, */
	loop.bucket[20] = 6; /* within, */
	loop.bucket[47] = 1; /* above the last one */
	char *text = metrics_of(&view);
	assert_non_null(strstr(text, "process=\"qe\\\"mu\",loop=\"a\\\\x0a\\nb\""));
	assert_non_null(strstr(text, "le=\"2.048e-06\"} 5\n"));
	assert_non_null(strstr(text, "le=\"0.001048576\"} 5\n"));
	assert_non_null(strstr(text, "le=\"0.002097152\"} 11\n"));
	assert_non_null(strstr(text, "le=\"+Inf\"} 12\n"));
	assert_non_null(strstr(text, "bhtrace_gap_seconds_count{pid=\"7\""));
	assert_non_null(strstr(text, "} 2.500000000\n"));
	assert_non_null(strstr(text, "bhtrace_hangs_total 2\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_quantiles_are_in_their_bucket),
		cmocka_unit_test(test_bucket_counts_may_be_large),
		cmocka_unit_test(test_times_and_counts),
		cmocka_unit_test(test_lines_fit),
		cmocka_unit_test(test_overdue_is_seen_on_80_columns),
		cmocka_unit_test(test_sort),
		cmocka_unit_test(test_metrics_without_anything),
		cmocka_unit_test(test_metrics_of_a_loop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
