/* SPDX-License-Identifier: MIT */
/* report_bars.c - a histogram of times on a terminal, with logarithmic bars */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "render.h"
#include "report.h"

enum { INDENT = 3, BAR_MAX = 60 };

struct bars {
	FILE *out;
	const struct bht_report *r;
	const struct bht_histogram *h;
	bool color;
	unsigned room;
};

/* Rows from 1, 2, 5, 10, 20, ... ns on; row 0 has what is less than a nanosecond. */
enum { STEPS = 3 * 13 };

static double step_ns(unsigned step)
{
	static const double first[] = { 1, 2, 5 };
	const unsigned power = (step - 1) / 3;

	return step ? first[(step - 1) % 3] * pow(10, power) : 0;
}

static unsigned step_of(double ns)
{
	unsigned step = 0;

	while (step + 1 < STEPS && step_ns(step + 1) <= ns)
		step++;
	return step;
}

static void step_label(unsigned step, char dst[BHT_BRIEF])
{
	static const char *const unit[] = { "ns", "us", "ms", "s" };
	double ns = step_ns(step);
	unsigned i = 0;

	for (; i < 3 && ns >= 1000; i++)
		ns /= 1000;
	snprintf(dst, BHT_BRIEF, "%.0f %s", ns, unit[i]);
}

static void step_marks(const struct bars *p, unsigned step, char *dst, size_t size)
{
	static const struct {
		const char *name;
		unsigned per_mille;
	} mark[] = { { "p50", 500 }, { "p90", 900 }, { "p99", 990 }, { "p99.9", 999 }, { "max", 1000 } };

	*dst = '\0';
	for (unsigned i = 0; i < sizeof(mark) / sizeof(mark[0]); i++)
		if (step_of(bht_report_ns(p->r, bht_histogram_quantile(p->h, mark[i].per_mille))) == step)
			snprintf(dst + strlen(dst), size - strlen(dst), " %s", mark[i].name);
}

static void print_step(const struct bars *p, unsigned step, uint64_t n, uint64_t most)
{
	unsigned room = p->room < BAR_MAX ? p->room : BAR_MAX;
	char from[BHT_BRIEF], to[BHT_BRIEF], marks[40], bar[BAR_MAX + 1];
	unsigned length;

	length = n ? 1 + (unsigned)((room - 1) * log((double)n) / log((double)most + 0.5)) : 0;
	step_label(step, from);
	step_label(step + 1, to);
	step_marks(p, step, marks, sizeof(marks));
	memset(bar, '#', length);
	bar[length] = '\0';
	fprintf(p->out, "%*s%6s - %6s |", INDENT, "", from, to);
	bht_paint(p->out, p->color, "36");
	fputs(bar, p->out);
	bht_paint(p->out, p->color, "");
	fprintf(p->out, "%*s%9" PRIu64 "%s\n", (int)(room - length), "", n, marks);
}

void bht_report_bars(FILE *out, const struct bht_report *r, const struct bht_histogram *h, bool color, unsigned width)
{
	const struct bars bars = { out, r, h, color, width > 62 ? width - 52 : 10 }, *p = &bars;
	uint64_t n[STEPS] = { 0 }, most = 1;
	struct bht_bucket b = { 0 };
	unsigned first = STEPS, last = 0;

	if (!h->n)
		return;
	while (bht_histogram_next(h, &b)) {
		unsigned step = step_of(bht_report_ns(p->r, bht_histogram_value(h, &b)));
		n[step] += b.count;
		first = step < first ? step : first;
		last = step > last ? step : last;
		most = n[step] > most ? n[step] : most;
	}
	fprintf(p->out, "\n%*sfrom schedule to execution; the bars are logarithmic\n", INDENT, "");
	for (unsigned step = first; step <= last; step++) {
		unsigned empty = 0;
		while (!n[step + empty])
			empty++;
		if (empty > 2) {
			fprintf(p->out, "%*s%15s |\n", INDENT, "", "...");
			step += empty;
		}
		print_step(p, step, n[step], most);
	}
}
