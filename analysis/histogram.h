/* SPDX-License-Identifier: MIT */
/*
 * histogram.h - a distribution in little memory, after the idea of HdrHistogram
 *
 * Log-linear: each power of two is divided into equal buckets, so a value is known
 * to 1/32 of itself, whatever its size. Number, sum, least and most are exact.
 * Buckets take memory when they are used: 256 bytes for each power of two, at most
 * 16 KiB, however many values there are.
 *
 * http://hdrhistogram.org/
 */
#ifndef BHT_HISTOGRAM_H
#define BHT_HISTOGRAM_H

#include <stdbool.h>
#include <stdint.h>

enum { BHT_HISTOGRAM_BUCKETS = 32, BHT_HISTOGRAM_OCTAVES = 60 };

/* Zero-initialised is empty; bht_histogram_free() makes it so again. Not thread-safe. */
struct bht_histogram {
	uint64_t n, sum; /* the sum is right if it fits */
	uint64_t min, max;
	uint64_t *octave[BHT_HISTOGRAM_OCTAVES]; /* of BHT_HISTOGRAM_BUCKETS counts; NULL: none */
};

/* 0 or -ENOMEM, and then it is as it was. */
int bht_histogram_add(struct bht_histogram *h, uint64_t value);

/* Adds what is in FROM. 0 or -ENOMEM, and then only a part was added. */
int bht_histogram_merge(struct bht_histogram *h, const struct bht_histogram *from);

/* The value that so many of a thousand do not exceed, within 1/32; 0 when empty. */
uint64_t bht_histogram_quantile(const struct bht_histogram *h, unsigned per_mille);

/* A bucket that is not empty, and what lies in it: FROM to LAST, both included. */
struct bht_bucket {
	uint64_t from, last, count;
	unsigned next; /* 0 before the first */
};

/* The next bucket in the order of values. False: there are no more. */
bool bht_histogram_next(const struct bht_histogram *h, struct bht_bucket *b);

/* The middle of B, or what is known better. */
uint64_t bht_histogram_value(const struct bht_histogram *h, const struct bht_bucket *b);

void bht_histogram_free(struct bht_histogram *h);

#endif
