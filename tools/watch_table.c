/* SPDX-License-Identifier: MIT */
/* Numbers and names as lines of a table, and their order. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "render.h"
#include "watch.h"

/* What lies in a bucket is taken to be spread evenly over it. */
uint64_t watch_quantile_ns(const uint32_t bucket[BHB_BUCKETS], unsigned per_mille)
{
	uint64_t n = 0, before = 0;

	for (unsigned i = 0; i < BHB_BUCKETS; i++)
		n += bucket[i];
	if (!n)
		return 0;
	const double rank = (double)n * per_mille / 1000;
	for (unsigned i = 0; i < BHB_BUCKETS; i++) {
		if (bucket[i] && (double)(before + bucket[i]) >= rank) {
			const double from = i ? (double)(UINT64_C(1) << i) : 0, to = (double)(UINT64_C(2) << i);
			return (uint64_t)(from + (to - from) * (rank - (double)before) / bucket[i]);
		}
		before += bucket[i];
	}
	return UINT64_C(1) << BHB_BUCKETS;
}

char *watch_time(char dst[WATCH_CELL], uint64_t ns)
{
	static const struct {
		double ns;
		const char *unit;
	} units[] = { { 3600e9, "h" }, { 60e9, "m" }, { 1e9, "s" }, { 1e6, "ms" }, { 1e3, "us" }, { 1, "ns" } };
	unsigned i = 0;

	while (i < 5 && (double)ns < units[i].ns)
		i++;
	const double value = (double)ns / units[i].ns;
	if (!ns)
		snprintf(dst, WATCH_CELL, "-");
	else
		snprintf(dst, WATCH_CELL, "%.*f%s", value < 10 && i < 5 ? 1 : 0, value, units[i].unit);
	return dst;
}

char *watch_count(char dst[WATCH_CELL], double n)
{
	static const char *const units[] = { "", "k", "M", "G" };
	unsigned i = 0;

	for (; i < 3 && n >= 1000; i++)
		n /= 1000;
	snprintf(dst, WATCH_CELL, "%.*f%s", i && n < 100 ? 1 : 0, n, units[i]);
	return dst;
}

/* --- lines ------------------------------------------------------------------------------ */

struct line {
	char *at, *end;
	unsigned column, width;
};

/* TEXT in WIDTH columns, cut or filled up; nothing more when the line is full. */
static void cell(struct line *l, const char *text, unsigned width, bool right)
{
	const unsigned gap = l->column ? 1 : 0;
	size_t bytes = 0;
	unsigned columns = 0;

	if (l->column + gap + width > l->width)
		return;
	while (text[bytes] && columns < width) {
		do
			bytes++;
		while (((unsigned char)text[bytes] & 0xc0) == 0x80);
		columns++;
	}
	const unsigned fill = width - columns;
	const size_t room = (size_t)(l->end - l->at);
	const int n = snprintf(l->at, room, "%*s%*s%.*s%*s", (int)gap, "", right ? (int)fill : 0, "", (int)bytes, text,
			       right ? 0 : (int)fill, "");
	l->at += n > 0 && (size_t)n < room ? (size_t)n : 0;
	l->column += gap + width;
}

/* Without spaces at the end. */
static void end_line(struct line *l, char *dst)
{
	while (l->at > dst && l->at[-1] == ' ')
		l->at--;
	*l->at = '\0';
}

static struct line begin_line(char dst[WATCH_LINE], unsigned width)
{
	dst[0] = '\0';
	return (struct line){ dst, dst + WATCH_LINE, 0, width < 250 ? width : 250 };
}

/* Below that some numbers give way: what is overdue must be seen. */
enum { NUMBER = 8, NUMBERS = 6, VERDICT = 18, NAME_MIN = 6, NARROW = 110 };

static bool is_shown(unsigned number, unsigned width)
{
	return width >= NARROW || (number != 2 && number != 4);
}

/* What each of the three names may take. */
static unsigned name_width(unsigned width)
{
	const unsigned numbers = width >= NARROW ? NUMBERS : NUMBERS - 2, others = numbers * (NUMBER + 1) + VERDICT + 1;
	const unsigned each = width > others ? (width - others) / 3 : 0;

	return each < NAME_MIN + 1 ? NAME_MIN : each - 1;
}

/* The number first: it must not be cut. */
static const char *process_of(char dst[WATCH_NAME + WATCH_CELL], uint32_t pid, const char *name)
{
	snprintf(dst, WATCH_NAME + WATCH_CELL, "%" PRIu32 " %s", pid, name);
	return dst;
}

void watch_row_line(char dst[WATCH_LINE], const struct watch_row *row, unsigned width)
{
	static const char *const heads[NUMBERS] = { "SCHED/S", "COALESC", "P50", "P99", "WORST", "PENDING" };
	struct line l = begin_line(dst, width);
	const unsigned names = name_width(l.width);
	char n[NUMBERS][WATCH_CELL], process[WATCH_NAME + WATCH_CELL];

	cell(&l, row ? process_of(process, row->key.tgid, row->process) : "PROCESS", names, false);
	cell(&l, row ? row->loop_name : "LOOP", names, false);
	cell(&l, row ? row->name : "BOTTOM HALF", names, false);
	if (row) {
		watch_count(n[0], row->rate);
		snprintf(n[1], WATCH_CELL, "%.0f%%", 100 * row->share);
		watch_time(n[2], row->p50_ns);
		watch_time(n[3], row->p99_ns);
		watch_time(n[4], row->worst_ns);
		watch_time(n[5], row->pending_ns);
	}
	for (unsigned i = 0; i < NUMBERS; i++)
		if (is_shown(i, l.width))
			cell(&l, row ? n[i] : heads[i], NUMBER, true);
	cell(&l, row ? row->verdict : "OVERDUE", VERDICT, false);
	end_line(&l, dst);
}

void watch_loop_line(char dst[WATCH_LINE], const struct watch_loop *loop, unsigned width)
{
	enum { LOOP_NUMBERS = 5 };
	static const char *const heads[LOOP_NUMBERS] = { "TURNS/S", "P50", "P99", "RESCUED", "ASLEEP" };
	struct line l = begin_line(dst, width);
	const unsigned names = name_width(l.width);
	char n[LOOP_NUMBERS][WATCH_CELL], process[WATCH_NAME + WATCH_CELL];

	cell(&l, loop ? process_of(process, loop->key.tgid, loop->process) : "PROCESS", names, false);
	cell(&l, loop ? loop->name : "LOOP", 2 * names + 1, false);
	if (loop) {
		watch_count(n[0], loop->rate);
		watch_time(n[1], loop->p50_ns);
		watch_time(n[2], loop->p99_ns);
		watch_count(n[3], (double)loop->rescued);
		watch_time(n[4], loop->asleep_ns);
	}
	for (unsigned i = 0; i < LOOP_NUMBERS; i++)
		cell(&l, loop ? n[i] : heads[i], NUMBER, true);
	end_line(&l, dst);
}

void watch_totals_line(char dst[WATCH_LINE], const struct watch_totals *t)
{
	char rate[WATCH_CELL], others[64] = "";

	if (t->bystanders)
		snprintf(others, sizeof(others), " (%u others use its files)", t->bystanders);
	snprintf(dst, WATCH_LINE,
		 "%u process%s%s, %s probes/s, about %.1f%% of a CPU; %" PRIu64 " overdue; suspected %" PRIu64
		 ", not confirmed %" PRIu64 ", undecidable %" PRIu64 ", raised %" PRIu64 "; rescued %" PRIu64
		 ", evicted %" PRIu64,
		 t->processes, t->processes == 1 ? "" : "es", others, watch_count(rate, t->hits_rate), 100 * t->cost,
		 t->overdue, t->suspected, t->cleared, t->undecided, t->raised, t->rescued, t->evicted);
}

/* --- the order of the table ------------------------------------------------------------------ */

const char *const watch_sorts[WATCH_SORTS] = { "name", "rate", "p99", "worst", "pending" };

static double weight(const struct watch_row *r, enum watch_sort by)
{
	switch (by) {
	case WATCH_BY_RATE:
		return r->rate;
	case WATCH_BY_P99:
		return (double)r->p99_ns;
	case WATCH_BY_WORST:
		return (double)r->worst_ns;
	case WATCH_BY_PENDING:
		return (double)r->pending_ns;
	default:
		return 0;
	}
}

static int compare(const void *a, const void *b, void *arg)
{
	const struct watch_row *x = *(const struct watch_row *const *)a, *y = *(const struct watch_row *const *)b;
	const enum watch_sort by = *(const enum watch_sort *)arg;
	const double more_x = weight(x, by), more_y = weight(y, by);
	int order = (int)y->overdue - (int)x->overdue;

	if (!order)
		order = (more_x < more_y) - (more_x > more_y);
	if (!order)
		order = strcmp(x->process, y->process);
	if (!order)
		order = strcmp(x->loop_name, y->loop_name);
	if (!order)
		order = strcmp(x->name, y->name);
	return order ? order : (x->key.addr > y->key.addr) - (x->key.addr < y->key.addr);
}

void watch_sort(const struct watch_row **rows, size_t n, enum watch_sort by)
{
	if (n)
		qsort_r(rows, n, sizeof(*rows), compare, &by);
}
