/* SPDX-License-Identifier: MIT */
#include "histogram.h"

#include <errno.h>
#include <stdlib.h>

enum { BUCKETS = BHT_HISTOGRAM_BUCKETS, BITS = 5 };
_Static_assert(1 << BITS == BUCKETS && BHT_HISTOGRAM_OCTAVES == 64 - BITS + 1, "every value has its bucket");

/* Values below BUCKETS have one bucket each. Above, octave K holds those from BUCKETS
 * << (K - 1) on, in buckets 1 << (K - 1) wide. */
static unsigned octave_of(uint64_t value)
{
	return value < BUCKETS ? 0 : 64 - BITS - (unsigned)__builtin_clzll(value);
}

static uint64_t *count_of(struct bht_histogram *h, uint64_t value)
{
	unsigned k = octave_of(value);

	if (!h->octave[k])
		h->octave[k] = calloc(BUCKETS, sizeof(*h->octave[k]));
	return h->octave[k] ? &h->octave[k][(k ? value >> (k - 1) : value) % BUCKETS] : NULL;
}

static void widen(struct bht_histogram *h, uint64_t min, uint64_t max)
{
	if (!h->n || min < h->min)
		h->min = min;
	if (!h->n || max > h->max)
		h->max = max;
}

int bht_histogram_add(struct bht_histogram *h, uint64_t value)
{
	uint64_t *count = count_of(h, value);

	if (!count)
		return -ENOMEM;
	++*count;
	widen(h, value, value);
	h->n++;
	h->sum += value;
	return 0;
}

int bht_histogram_merge(struct bht_histogram *h, const struct bht_histogram *from)
{
	struct bht_bucket b = { 0 };

	if (!from->n)
		return 0;
	while (bht_histogram_next(from, &b)) {
		uint64_t *count = count_of(h, b.from);
		if (!count)
			return -ENOMEM;
		*count += b.count;
	}
	widen(h, from->min, from->max);
	h->n += from->n;
	h->sum += from->sum;
	return 0;
}

bool bht_histogram_next(const struct bht_histogram *h, struct bht_bucket *b)
{
	for (unsigned i = b->next; i < BHT_HISTOGRAM_OCTAVES * BUCKETS; i++) {
		unsigned k = i / BUCKETS, shift = k ? k - 1 : 0;
		if (!h->octave[k]) {
			i |= BUCKETS - 1;
			continue;
		}
		if (!h->octave[k][i % BUCKETS])
			continue;
		b->from = (uint64_t)(i % BUCKETS + (k ? BUCKETS : 0)) << shift;
		b->last = b->from + ((UINT64_C(1) << shift) - 1);
		b->count = h->octave[k][i % BUCKETS];
		b->next = i + 1;
		return true;
	}
	return false;
}

uint64_t bht_histogram_value(const struct bht_histogram *h, const struct bht_bucket *b)
{
	uint64_t middle = b->from + (b->last - b->from) / 2;

	return middle < h->min ? h->min : middle > h->max ? h->max : middle;
}

uint64_t bht_histogram_quantile(const struct bht_histogram *h, unsigned per_mille)
{
	/* How many there are up to it; in parts, because N * 1000 may not fit. */
	uint64_t rank = h->n / 1000 * per_mille + (h->n % 1000 * per_mille + 999) / 1000, seen = 0;
	struct bht_bucket b = { 0 };

	while (rank < h->n && bht_histogram_next(h, &b)) {
		seen += b.count;
		if (seen >= rank)
			return bht_histogram_value(h, &b);
	}
	return h->max;
}

void bht_histogram_free(struct bht_histogram *h)
{
	for (unsigned k = 0; k < BHT_HISTOGRAM_OCTAVES; k++)
		free(h->octave[k]);
	*h = (struct bht_histogram){ 0 };
}
