/* SPDX-License-Identifier: MIT */
/* report_text.c - a report on a terminal: tables, a histogram for each loop, the worst gaps */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "render.h"
#include "report.h"

enum {
	INDENT = 3,
	CELL_MIN = 9,
	CELL_MAX = 11,
	CELLS_MAX = 8,
	NAME_MIN = 14,
	NAME_MAX = 40,
	ROWS_MAX = 20,
	BAR_MAX = 60
};

struct page {
	FILE *out;
	const struct bht_report *r;
	bool color;
	unsigned width;
};

typedef char cell[24];

static void heading(const struct page *p, const char *text)
{
	fputc('\n', p->out);
	bht_paint(p->out, p->color, "1");
	bht_wrap(p->out, 0, p->width, text);
	bht_paint(p->out, p->color, "");
}

static void bullet(const struct page *p, const char *text)
{
	fprintf(p->out, "%*s- ", INDENT, "");
	bht_wrap(p->out, INDENT + 2, p->width, text);
}

/* Cuts valid UTF-8 to so many columns. */
static void fit(char *s, unsigned columns)
{
	if (bht_columns(s) <= columns)
		return;
	for (unsigned i = 0; i + 2 < columns; i++)
		do
			s++;
		while (((unsigned char)*s & 0xc0) == 0x80);
	strcpy(s, "..");
}

/* --- tables ------------------------------------------------------------------------ */

static unsigned clamp(unsigned n, unsigned least, unsigned most)
{
	return n < least ? least : n > most ? most : n;
}

static void print_cells(const struct page *p, const char *name, const cell *c, unsigned n)
{
	unsigned cells = clamp((p->width - INDENT - NAME_MIN) / n, CELL_MIN, CELL_MAX);
	unsigned taken = INDENT + cells * n;
	unsigned width = clamp(p->width > taken ? p->width - taken : 0, NAME_MIN, NAME_MAX);
	char safe[4 * BHP_NAME_SIZE + 32];

	fit(bht_escape(safe, sizeof(safe), name), width);
	fprintf(p->out, "%*s%s%*s", INDENT, "", safe, (int)(width - bht_columns(safe)), "");
	for (unsigned i = 0; i < n; i++)
		fprintf(p->out, "%*s", (int)cells, c[i]);
	fputc('\n', p->out);
}

struct column {
	const char *title;
	void (*show)(const struct page *p, const struct bht_row *row, cell c);
};

static void print_header(const struct page *p, const char *title, const struct column *column, unsigned n)
{
	cell c[CELLS_MAX];

	for (unsigned i = 0; i < n; i++)
		snprintf(c[i], sizeof(c[i]), "%s", column[i].title);
	fputc('\n', p->out);
	bht_paint(p->out, p->color, "4");
	print_cells(p, title, (const cell *)c, n);
	bht_paint(p->out, p->color, "");
}

static void row_name(char *dst, size_t size, const struct bht_row *row)
{
	int n = *row->name ? snprintf(dst, size, "%s", row->name) : snprintf(dst, size, "0x%" PRIx64, row->addr);

	if (row->objects > 1)
		snprintf(dst + n, size - (size_t)n, " x%" PRIu64, row->objects);
}

static void print_table(const struct page *p, const char *title, const struct column *column, unsigned n,
			const struct bht_loop_row *loop, const struct bht_row *total)
{
	char name[BHP_NAME_SIZE + 24];
	cell c[CELLS_MAX];
	size_t rows = loop->n_rows < ROWS_MAX ? loop->n_rows : ROWS_MAX;

	print_header(p, title, column, n);
	for (size_t i = 0; i <= rows; i++) {
		const struct bht_row *row = i < rows ? loop->row[i] : total;
		if (i == rows && loop->n_rows < 2)
			break;
		for (unsigned k = 0; k < n; k++)
			column[k].show(p, row, c[k]);
		row_name(name, sizeof(name), row);
		print_cells(p, i < rows ? name : "all", (const cell *)c, n);
	}
	if (loop->n_rows > rows)
		fprintf(p->out, "%*s(%zu more are in --json; --bh=NAME shows one)\n", INDENT, "", loop->n_rows - rows);
}

static void show_count(uint64_t n, cell c)
{
	if (n < 10000000)
		snprintf(c, sizeof(cell), "%" PRIu64, n);
	else
		snprintf(c, sizeof(cell), "%.1fM", (double)n / 1e6);
}

static void show_share(uint64_t part, uint64_t all, cell c)
{
	if (all)
		snprintf(c, sizeof(cell), "%.1f %%", 100.0 * (double)part / (double)all);
	else
		snprintf(c, sizeof(cell), "-");
}

static void show_ticks(const struct page *p, const struct bht_histogram *h, unsigned per_mille, cell c)
{
	char brief[BHT_BRIEF] = "-";

	if (h->n)
		bht_brief_ns(brief, bht_report_ns(p->r, bht_histogram_quantile(h, per_mille)));
	snprintf(c, sizeof(cell), "%s", brief);
}

#define SHOW(name, ...)                                                                                                \
	static void show_##name(const struct page *p, const struct bht_row *row, cell c)                               \
	{                                                                                                              \
		(void)p;                                                                                               \
		__VA_ARGS__;                                                                                           \
	}

SHOW(schedules, show_count(row->count[BHT_SCHEDULES], c))
SHOW(coalesced, show_share(row->count[BHT_COALESCED], row->count[BHT_SCHEDULES], c))
SHOW(executions, show_count(row->count[BHT_EXECUTIONS], c))
SHOW(cancels, show_count(row->count[BHT_CANCELS], c))
SHOW(writes, show_count(row->count[BHT_WRITES], c))
SHOW(avoided, show_count(row->count[BHT_AVOIDED], c))
SHOW(gaps, show_count(row->gap.n, c))
SHOW(p50, show_ticks(p, &row->gap, 500, c))
SHOW(p90, show_ticks(p, &row->gap, 900, c))
SHOW(p99, show_ticks(p, &row->gap, 990, c))
SHOW(p999, show_ticks(p, &row->gap, 999, c))
SHOW(max, show_ticks(p, &row->gap, 1000, c))
SHOW(rescued, show_count(row->rescued, c))
SHOW(notify, show_share(row->part[BHT_TO_NOTIFY], row->gap.sum, c))
SHOW(waking, show_share(row->part[BHT_TO_WAKING], row->gap.sum, c))
SHOW(run_queue, show_share(row->part[BHT_RUN_QUEUE], row->gap.sum, c))
SHOW(wake, show_share(row->part[BHT_TO_WAKE], row->gap.sum, c))
SHOW(run, show_share(row->part[BHT_TO_RUN], row->gap.sum, c))
SHOW(callbacks, show_share(row->part[BHT_IN_CALLBACKS], row->gap.sum, c))
SHOW(callback_p50, show_ticks(p, &row->callback, 500, c))
SHOW(callback_p99, show_ticks(p, &row->callback, 990, c))
SHOW(callback_max, show_ticks(p, &row->callback, 1000, c))

static const struct column counts[] = { { "schedules", show_schedules }, { "coalesced", show_coalesced },
					{ "executed", show_executions }, { "cancelled", show_cancels },
					{ "writes", show_writes },       { "avoided", show_avoided } };
static const struct column latency[] = { { "gaps", show_gaps },      { "p50", show_p50 },    { "p90", show_p90 },
					 { "p99", show_p99 },        { "p99.9", show_p999 }, { "max", show_max },
					 { "rescued", show_rescued } };
/* One that the kernel has told of has more parts, and no room for more than these. */
static const struct column kernel_parts[] = {
	{ "notify", show_notify }, { "waking", show_waking }, { "run-queue", show_run_queue },
	{ "wake", show_wake },     { "run", show_run },       { "callback", show_callbacks }
};
static const struct column took[] = { { "p50", show_callback_p50 },
				      { "p99", show_callback_p99 },
				      { "max", show_callback_max } };
static const struct column parts[] = { { "notify", show_notify },
				       { "wake", show_wake },
				       { "run", show_run },
				       { "callback", show_callbacks },
				       { "took p50", show_callback_p50 },
				       { "took p99", show_callback_p99 },
				       { "took max", show_callback_max } };

#define COLUMNS(c) c, sizeof(c) / sizeof((c)[0])

/* --- a loop ------------------------------------------------------------------------ */

static void print_time(const struct page *p, const struct bht_loop_row *loop)
{
	uint64_t all = 0;
	char line[BHT_LINE], brief[BHT_BRIEF];
	cell c[BHT_DOINGS];

	for (unsigned i = 0; i < BHT_DOINGS; i++)
		all += loop->spent[i];
	for (unsigned i = 0; i < BHT_DOINGS; i++)
		show_share(loop->spent[i], all, c[i]);
	int n = snprintf(line, sizeof(line), "%s asleep, %s in callbacks, %s else", c[BHT_DOING_SLEEP],
			 c[BHT_DOING_CALLBACKS], c[BHT_DOING_OTHER]);
	if (loop->spent[BHT_DOING_UNKNOWN] > all / 2000)
		n += snprintf(line + n, sizeof(line) - (size_t)n, ", %s not known", c[BHT_DOING_UNKNOWN]);
	snprintf(line + n, sizeof(line) - (size_t)n, ", of %s; %" PRIu64 " turns, %" PRIu64 " wakes.",
		 bht_brief_ns(brief, bht_report_ns(p->r, all)), loop->turns, loop->wakes);
	fprintf(p->out, "%*s", INDENT, "");
	bht_wrap(p->out, INDENT, p->width, line);
}

static void loop_title(const struct page *p, unsigned process, const struct bht_loop_row *loop)
{
	const struct bht_evidence *ev = &p->r->rec->process[process].ev;
	char who[BHT_WHO], thread[BHT_THREAD_LABEL] = "", of[160] = "", line[BHT_LINE];

	bht_who(who, "Loop", loop->name, loop->addr);
	if (p->r->n > 1)
		snprintf(of, sizeof(of), " of process %" PRIu32 " (%s)%s%s", ev->pid, ev->command,
			 *ev->hostname ? " on " : "", ev->hostname);
	if (loop->poller)
		bht_gap_thread(thread, p->r, process, loop->poller);
	snprintf(line, sizeof(line), "%s%s%s%s", who, of, *thread ? ", thread " : "", thread);
	heading(p, line);
}

static void print_parts(const struct page *p, const struct bht_loop_row *loop, const struct bht_row *total)
{
	if (bht_report_kernel(p->r)) {
		print_table(p, "waited for", COLUMNS(kernel_parts), loop, total);
		print_table(p, "took", COLUMNS(took), loop, total);
	} else {
		print_table(p, "waited for", COLUMNS(parts), loop, total);
	}
}

static int print_loop(const struct page *p, unsigned process, const struct bht_loop_row *loop)
{
	struct bht_row total = { 0 };
	int rc = bht_loop_total(loop, &total);

	if (rc == 0) {
		loop_title(p, process, loop);
		print_time(p, loop);
		print_table(p, "bottom half", COLUMNS(counts), loop, &total);
		print_table(p, "waited", COLUMNS(latency), loop, &total);
		print_parts(p, loop, &total);
		bht_report_bars(p->out, p->r, &total.gap, p->color, p->width);
	}
	bht_row_clear(&total);
	return rc;
}

/* --- the worst --------------------------------------------------------------------- */

/* One letter a segment, as long as its part; what took any time has at least one. Those
 * of the kernel have a capital. */
static void print_cuts(const struct page *p, const struct bht_gap *gap)
{
	char line[BHT_LINE] = "", brief[BHT_BRIEF], bar[BAR_MAX + BHT_SEGMENTS + 1];
	double length = (double)bht_gap_length(gap);
	unsigned n = 0, room = p->width > 80 ? BAR_MAX : 40;

	for (unsigned i = 0; i < BHT_SEGMENTS; i++) {
		if (!gap->part[i])
			continue;
		size_t at = strlen(line);
		snprintf(line + at, sizeof(line) - at, "%s%s %s", at ? ", " : "", bht_segments[i].id,
			 bht_brief_ns(brief, bht_report_ns(p->r, gap->part[i])));
		unsigned end = n + 1 + (unsigned)((double)(room - 1) * (double)gap->part[i] / length);
		for (; n < end && n < sizeof(bar) - 1; n++)
			bar[n] = (char)(bht_segment_of_kernel(i) ? toupper(bht_segments[i].id[0])
								 : bht_segments[i].id[0]);
	}
	bar[n] = '\0';
	fprintf(p->out, "     ");
	bht_wrap(p->out, 5, p->width, line);
	fprintf(p->out, "     [");
	bht_paint(p->out, p->color, "36");
	fputs(bar, p->out);
	bht_paint(p->out, p->color, "");
	fputs("]\n", p->out);
}

static void print_events(const struct page *p, unsigned process, const struct bht_gap *gap)
{
	const struct bht_evidence *ev = &p->r->rec->process[process].ev;
	struct bht_finding known = { .loop.addr = gap->row->loop->addr, .bh.addr = gap->bh };
	known.bh.callback = (uintptr_t)bhp_decode_execute_begin(&gap->begin.r).callback;
	struct bht_gap_event event[BHT_GAP_EVENTS];
	unsigned n = bht_gap_events(gap, event);
	char words[512], thread[BHT_THREAD_LABEL], brief[BHT_BRIEF], line[sizeof(words) + sizeof(thread) + 8];

	for (unsigned i = 0; i < n; i++) {
		const struct bht_event *e = event[i].event;
		bht_brief_ns(brief, bht_report_ns(p->r, bht_time(e) - bht_time(&gap->schedule)));
		bht_event_words(words, sizeof(words), ev, &known, e);
		snprintf(line, sizeof(line), "%s by %s", words, bht_gap_thread(thread, p->r, process, e->tid));
		fprintf(p->out, "     +%-8s ", brief);
		bht_wrap(p->out, 15, p->width, line);
	}
}

static void print_gap(const struct page *p, unsigned number, unsigned process, const struct bht_gap *gap)
{
	const struct bht_evidence *ev = &p->r->rec->process[process].ev;
	char bh[BHT_WHO], loop[BHT_WHO], length[BHT_BRIEF], line[BHT_LINE], cause[BHT_LINE], of[64] = "";
	double at = bht_report_ns(p->r, bht_time(&gap->schedule) - p->r->first) / 1e9;

	bht_who(bh, "bottom half", gap->row->name, gap->row->addr);
	bht_who(loop, "loop", gap->row->loop->name, gap->row->loop->addr);
	if (p->r->n > 1)
		snprintf(of, sizeof(of), " of process %" PRIu32, ev->pid);
	bht_brief_ns(length, bht_report_ns(p->r, bht_gap_length(gap)));
	snprintf(line, sizeof(line), "%s: %s of %s%s, scheduled at %.6f s", length, bh, loop, of, at);
	fprintf(p->out, "\n%3u. ", number);
	bht_paint(p->out, p->color, gap->rescue ? "1;33" : "1");
	bht_wrap(p->out, 5, p->width, line);
	bht_paint(p->out, p->color, "");
	bht_gap_cause(cause, p->r, process, gap);
	snprintf(line, sizeof(line), "%.*s.", BHT_LINE - 2, cause);
	fprintf(p->out, "     ");
	bht_wrap(p->out, 5, p->width, line);
	print_cuts(p, gap);
	print_events(p, process, gap);
}

static void print_worst(const struct page *p)
{
	const struct bht_gap *gap;
	unsigned process;

	for (unsigned i = 0; (gap = bht_report_worst(p->r, i, &process)); i++) {
		if (i == 0)
			heading(p, "The worst gaps");
		print_gap(p, i + 1, process, gap);
	}
}

/* --- what is not there --------------------------------------------------------------- */

static void print_unmeasured(const struct page *p, const struct bht_row *total)
{
	char line[BHT_LINE];

	if (!bht_row_unmeasured(total))
		return;
	heading(p, "Executions without a measured gap");
	for (unsigned i = 0; i < BHT_WHY_NOTS; i++) {
		if (!total->unmeasured[i])
			continue;
		snprintf(line, sizeof(line), "%" PRIu64 ": %s", total->unmeasured[i], bht_why_nots[i].meaning);
		bullet(p, line);
	}
}

static void print_loss(const struct page *p, unsigned process)
{
	const struct bht_gaps *g = &p->r->gaps[process];
	char line[BHT_LINE], some[BHT_BRIEF], all[BHT_BRIEF], end[BHT_BRIEF];
	uint64_t hidden = 0, last = 0;

	for (size_t i = 0; i < g->losses.n; i++) {
		uint64_t from = g->losses.span[i].from > g->first ? g->losses.span[i].from : g->first;
		last = g->losses.span[i].to > g->first ? g->losses.span[i].to : g->first;
		hidden += last > from ? last - from : 0;
	}
	int n = snprintf(line, sizeof(line), "process %" PRIu32 ": ", p->r->rec->process[process].ev.pid);
	if (g->m.lost)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "%" PRIu64 " events lost", g->m.lost);
	else
		n += snprintf(line + n, sizeof(line) - (size_t)n, "events lost, how many is not known");
	for (unsigned i = 1; i < sizeof(g->m.losses) / sizeof(g->m.losses[0]); i++)
		if (g->m.losses[i])
			n += snprintf(line + n, sizeof(line) - (size_t)n, ", %s", bht_loss_name((enum bht_loss_why)i));
	snprintf(line + n, sizeof(line) - (size_t)n,
		 "; no gap is measured in %s of %s: in %zu stretch%s, the last of which ends at %s",
		 bht_brief_ns(some, bht_report_ns(p->r, hidden)),
		 bht_brief_ns(all, bht_report_ns(p->r, g->last - g->first)), g->losses.n, g->losses.n == 1 ? "" : "es",
		 bht_brief_ns(end, bht_report_ns(p->r, last - g->first)));
	bullet(p, line);
}

static void print_unseen(const struct page *p)
{
	bool any = false;

	for (unsigned i = 0; i < p->r->n; i++)
		any |= p->r->gaps[i].losses.n || p->r->rec->process[i].ev.n_unseen;
	if (any)
		heading(p, "What could not be seen");
	for (unsigned i = 0; i < p->r->n; i++) {
		const struct bht_evidence *ev = &p->r->rec->process[i].ev;
		if (p->r->gaps[i].losses.n)
			print_loss(p, i);
		for (unsigned k = 0; k < ev->n_unseen; k++)
			bullet(p, ev->unseen[k]);
	}
}

/* What it may hide. */
static void print_recorder(const struct page *p, enum bht_recorder recorder)
{
	char line[BHT_LINE];

	for (unsigned i = 0; i < p->r->n; i++) {
		const struct bht_evidence *ev = &p->r->rec->process[i].ev;
		if (ev->recorder != recorder)
			continue;
		snprintf(line, sizeof(line), "recorded by %s", bht_recorder_note(ev, 1));
		bullet(p, line);
		return;
	}
}

static void print_legend(const struct page *p)
{
	double error = 0;
	char line[BHT_LINE];

	for (unsigned i = 0; i < p->r->n; i++)
		error = fmax(error, p->r->rec->process[i].ev.clock_error_ns);
	heading(p, "How to read it");
	for (unsigned i = 0; i < BHT_SEGMENTS; i++) {
		if (bht_segment_of_kernel(i) && !bht_report_kernel(p->r))
			continue;
		snprintf(line, sizeof(line), "%s: %s", bht_segments[i].id, bht_segments[i].meaning);
		bullet(p, line);
	}
	bullet(p, "took: how long its own callback ran");
	for (unsigned r = 0; r < BHT_RECORDERS; r++)
		print_recorder(p, r);
	snprintf(line, sizeof(line),
		 "Clocks of two threads may differ by %.0f ns, and so may a gap; quantiles are "
		 "right within 1/32, max is exact.",
		 error);
	bullet(p, line);
}

/* --- all ----------------------------------------------------------------------------- */

static void print_source(const struct page *p, unsigned process)
{
	const struct bht_evidence *ev = &p->r->rec->process[process].ev;
	const struct bht_gaps *g = &p->r->gaps[process];
	char words[BHT_SENTENCE], kernel[48] = "", line[BHT_SENTENCE + 96 + sizeof(kernel)];

	bht_evidence_words(words, ev);
	if (g->m.n_kernel)
		snprintf(kernel, sizeof(kernel), " and %" PRIu64 " of the kernel", g->m.n_kernel);
	snprintf(line, sizeof(line), "%s; %" PRIu64 " events%s in %.6f s.", words, g->m.n_events, kernel,
		 bht_report_ns(p->r, g->last - g->first) / 1e9);
	bht_wrap(p->out, 0, p->width, line);
}

static int print_all(const struct page *p, const struct bht_row *total)
{
	char sentence[BHT_LINE];
	int rc = 0;

	bht_report_sentence(sentence, p->r, total);
	bht_paint(p->out, p->color, !total->gap.n || total->rescued ? "1;33" : "1;32");
	bht_wrap(p->out, 0, p->width, sentence);
	bht_paint(p->out, p->color, "");
	for (unsigned i = 0; i < p->r->n; i++)
		print_source(p, i);
	for (unsigned i = 0; i < p->r->n; i++)
		for (size_t k = 0; k < p->r->gaps[i].n_loops && !rc; k++)
			if (p->r->gaps[i].loop[k]->n_rows)
				rc = print_loop(p, i, p->r->gaps[i].loop[k]);
	print_worst(p);
	print_unmeasured(p, total);
	print_unseen(p);
	if (total->gap.n)
		print_legend(p);
	return rc;
}

int bht_report_text(FILE *out, const struct bht_report *r, bool color, unsigned width)
{
	const struct page p = { out, r, color, width ? width : 100 };
	struct bht_row total = { 0 };
	int rc = bht_report_total(r, &total);

	if (rc == 0)
		rc = print_all(&p, &total);
	bht_row_clear(&total);
	return rc ? rc : fflush(out) || ferror(out) ? -EIO : 0;
}
