/* SPDX-License-Identifier: MIT */
#include "order.h"

uint64_t bht_ticks(const struct bht_evidence *ev, double ns)
{
	return (uint64_t)(ns * ev->ticks_per_ns);
}

double bht_ns(const struct bht_evidence *ev, uint64_t from, uint64_t to)
{
	return (double)(int64_t)(to - from) / ev->ticks_per_ns;
}

enum bht_flag_order bht_flag_order(const struct bht_evidence *ev, uint64_t schedule, uint64_t previous, uint64_t begin,
				   uint64_t end)
{
	uint64_t error = bht_ticks(ev, ev->clock_error_ns);

	if (schedule + bht_ticks(ev, BHT_RACE_WINDOW_NS) < begin)
		return BHT_LONG_BEFORE;
	if (schedule + error < begin)
		return BHT_BEFORE;
	if (end && previous > end + error)
		return BHT_AFTER;
	return BHT_OVERLAPS;
}
