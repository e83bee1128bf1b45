/* SPDX-License-Identifier: MIT */
/* The histogram against a sorted array of the same values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "histogram.h"

enum { VALUES = 20000, ROUNDS = 40 };

static uint64_t seed = 1;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

/* All sizes alike, or all values alike, or few values many times. */
static uint64_t draw(unsigned round)
{
	switch (round % 4) {
	case 0:
		return rnd() >> rnd() % 64;
	case 1:
		return rnd() % (1 + round * 1000);
	case 2:
		return UINT64_C(1) << rnd() % 64;
	default:
		return (UINT64_C(1) << (1 + rnd() % 63)) - rnd() % 2;
	}
}

static bool near(uint64_t got, uint64_t wanted)
{
	uint64_t apart = got > wanted ? got - wanted : wanted - got;

	return apart <= wanted / 32;
}

static void check_quantiles(const struct bht_histogram *h, const uint64_t *sorted, uint64_t n)
{
	static const unsigned per_mille[] = { 1, 10, 500, 900, 990, 999, 1000 };

	for (unsigned i = 0; i < sizeof(per_mille) / sizeof(per_mille[0]); i++) {
		uint64_t rank = (n * per_mille[i] + 999) / 1000;
		assert_true(near(bht_histogram_quantile(h, per_mille[i]), sorted[rank - 1]));
	}
	assert_true(bht_histogram_quantile(h, 1000) == sorted[n - 1]);
}

/* The buckets hold what they say, in order, each no wider than 1/32 of its least. */
static void check_buckets(const struct bht_histogram *h, const uint64_t *sorted, uint64_t n)
{
	struct bht_bucket b = { 0 };
	uint64_t seen = 0, last = 0;

	while (bht_histogram_next(h, &b)) {
		assert_true(!seen || b.from > last);
		assert_true(b.last - b.from <= b.from / 32);
		assert_true(seen + b.count <= n);
		assert_true(sorted[seen] >= b.from && sorted[seen + b.count - 1] <= b.last);
		seen += b.count;
		last = b.last;
	}
	assert_true(seen == n);
}

static void check(const struct bht_histogram *h, uint64_t *value, uint64_t n)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++)
		sum += value[i];
	qsort(value, n, sizeof(*value), by_value);
	assert_true(h->n == n && h->sum == sum && h->min == value[0] && h->max == value[n - 1]);
	check_quantiles(h, value, n);
	check_buckets(h, value, n);
}

static void as_the_array(void **state)
{
	uint64_t *value = calloc(VALUES, sizeof(*value));

	(void)state;
	assert_non_null(value);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct bht_histogram h = { 0 };
		uint64_t n = 1 + rnd() % VALUES;
		for (uint64_t i = 0; i < n; i++) {
			value[i] = draw(round);
			assert_int_equal(bht_histogram_add(&h, value[i]), 0);
		}
		check(&h, value, n);
		bht_histogram_free(&h);
	}
	free(value);
}

static void merged_is_all(void **state)
{
	uint64_t *value = calloc(VALUES, sizeof(*value));

	(void)state;
	assert_non_null(value);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct bht_histogram a = { 0 }, b = { 0 };
		uint64_t n = 1 + rnd() % VALUES, first = rnd() % (n + 1);
		for (uint64_t i = 0; i < n; i++) {
			value[i] = draw(round);
			assert_int_equal(bht_histogram_add(i < first ? &a : &b, value[i]), 0);
		}
		assert_int_equal(bht_histogram_merge(&a, &b), 0);
		check(&a, value, n);
		bht_histogram_free(&a);
		bht_histogram_free(&b);
	}
	free(value);
}

static void ends_of_the_range(void **state)
{
	static const uint64_t value[] = { 0, 1, 31, 32, 33, 63, 64, 65, UINT64_MAX - 1, UINT64_MAX };

	(void)state;
	for (unsigned i = 0; i < sizeof(value) / sizeof(value[0]); i++) {
		struct bht_histogram h = { 0 };
		assert_true(bht_histogram_quantile(&h, 500) == 0);
		assert_int_equal(bht_histogram_add(&h, value[i]), 0);
		/* One value is known exactly. */
		assert_true(bht_histogram_quantile(&h, 1) == value[i] && bht_histogram_quantile(&h, 1000) == value[i]);
		bht_histogram_free(&h);
		assert_true(h.n == 0 && bht_histogram_quantile(&h, 500) == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_the_array),
		cmocka_unit_test(merged_is_all),
		cmocka_unit_test(ends_of_the_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
