/* SPDX-License-Identifier: MIT */
/* clock.h - this machine's monotonic clock, and how far stamps can be trusted */
#ifndef BHT_CLOCK_H
#define BHT_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Two CPUs' time stamps, taken at one moment, differ by less. */
static const double BHT_CLOCK_ERROR_NS = 250;

static inline uint64_t bht_mono_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
