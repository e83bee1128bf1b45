/* SPDX-License-Identifier: MIT */
#include "babeltrace_clock.h"

#include <stdbool.h>

/* A recent pair is so late at least, and may be so much later than the line says. */
static const double MARGIN_NS = 1000;

/* AT + DISTANCE, kept within what 63 bits hold. */
static uint64_t moved(uint64_t at, double distance)
{
	const double most = 4e18;

	if (!(distance > -most))
		return 0;
	if (distance > most)
		distance = most;
	if (distance < 0 && (uint64_t)-distance > at)
		return 0;
	return distance < 0 ? at - (uint64_t)-distance : at + (uint64_t)distance;
}

static double distance(uint64_t from, uint64_t to)
{
	return (double)(int64_t)(to - from);
}

static double late(const struct bht_line *line, struct bht_instant pair)
{
	return distance(line->at.ns, pair.ns) - distance(line->at.ticks, pair.ticks) * line->ns_per_tick;
}

static struct bht_instant least_late(const struct bht_line *line, const struct bht_instant *pair, size_t n)
{
	struct bht_instant best = pair[0];

	for (size_t i = 1; i < n; i++)
		if (late(line, pair[i]) < late(line, best))
			best = pair[i];
	return best;
}

static double slope(struct bht_instant a, struct bht_instant b)
{
	return distance(a.ns, b.ns) / distance(a.ticks, b.ticks);
}

static bool is_rate(double ns_per_tick)
{
	return ns_per_tick > 1e-3 && ns_per_tick < 1e3;
}

void bht_line_fit(struct bht_line *line, const struct bht_instant *pair, size_t n)
{
	const struct bht_instant first = pair[0], last = pair[n - 1];

	bht_line_set(line, first, 1);
	if (n < 2 || !is_rate(slope(first, last)))
		return;
	line->ns_per_tick = slope(first, last);
	/* The first and the last may be late, those that are not are better. */
	const size_t third = (n + 2) / 3;
	const struct bht_instant a = least_late(line, pair, third), b = least_late(line, pair + n - third, third);
	if (distance(a.ticks, b.ticks) * 4 > distance(first.ticks, last.ticks) && is_rate(slope(a, b)))
		line->ns_per_tick = slope(a, b);
	line->at = line->recent = least_late(line, pair, n);
}

void bht_line_set(struct bht_line *line, struct bht_instant at, double ticks_per_ns)
{
	*line = (struct bht_line){ true, 1 / ticks_per_ns, at, at, 0 };
}

void bht_line_follow(struct bht_line *line, struct bht_instant pair)
{
	const double lateness = late(line, pair);

	if (lateness > line->recent_late && distance(line->recent.ns, pair.ns) < BHT_RECENT_NS)
		return;
	line->recent = pair;
	line->recent_late = lateness;
}

uint64_t bht_line_ns(const struct bht_line *line, uint64_t ticks)
{
	return moved(line->at.ns, distance(line->at.ticks, ticks) * line->ns_per_tick);
}

uint64_t bht_line_ticks(const struct bht_line *line, uint64_t ns)
{
	return moved(line->recent.ticks, (distance(line->recent.ns, ns) + MARGIN_NS) / line->ns_per_tick);
}
