/* SPDX-License-Identifier: MIT */
/* render_table.c - the evidence of a finding: one time axis, one column a thread */
#include <math.h>
#include <string.h>

#include "render.h"

enum { INDENT = 3, TIME = 12, COLUMN_MIN = 24, COLUMN_MAX = 46, CELL = 512 };

struct table {
	FILE *out;
	const struct bht_evidence *ev;
	const struct bht_finding *f;
	bool color;
	struct bht_scale scale;
	uint32_t tid[BHT_WITNESS_MAX];
	unsigned n_threads;
	unsigned n_columns; /* n_threads, or 1 when they do not fit side by side */
	unsigned width;     /* of one column */
	unsigned total;     /* of the page */
	bool has_ties;
};

static char *thread_label(char *dst, size_t size, const struct table *t, uint32_t tid)
{
	const struct bht_thread *thread = bht_sample_thread(&t->ev->last, tid);
	const char *role = tid && tid == t->f->loop.owner ? "loop: " : "";
	char safe[4 * sizeof(thread->name)];

	if (!tid)
		snprintf(dst, size, "any thread");
	else if (thread)
		snprintf(dst, size, "%s%s (%u)", role, bht_escape(safe, sizeof(safe), thread->name), tid);
	else
		snprintf(dst, size, "%sthread %u, gone", role, tid);
	return dst;
}

static unsigned thread_index(const struct table *t, uint32_t tid)
{
	unsigned i = 0;

	while (i < t->n_threads && t->tid[i] != tid)
		i++;
	return i;
}

/* Producers in the order of their first event, the loop's thread last. */
static void find_threads(struct table *t)
{
	uint32_t owner = t->f->loop.owner;
	bool has_owner = false;

	for (unsigned i = 0; i < t->f->n_witness; i++) {
		uint32_t tid = t->f->witness[i].event.tid;
		if (tid == owner)
			has_owner = true;
		else if (thread_index(t, tid) == t->n_threads)
			t->tid[t->n_threads++] = tid;
	}
	if (has_owner)
		t->tid[t->n_threads++] = owner;
}

static void choose_layout(struct table *t)
{
	unsigned frame = INDENT + 2 + TIME + 1, room = t->total > frame ? t->total - frame : 0;

	t->n_columns = t->n_threads ? t->n_threads : 1;
	t->width = room / t->n_columns - 3;
	if (room / t->n_columns < COLUMN_MIN + 3) {
		t->n_columns = 1;
		t->width = room > COLUMN_MIN + 3 ? room - 3 : COLUMN_MIN;
	}
	if (t->n_columns > 1 && t->width > COLUMN_MAX)
		t->width = COLUMN_MAX;
}

/* One line: what stands left of the columns, and TEXT in one of them. */
static void print_line(const struct table *t, const char *left, unsigned column, const char *text)
{
	int pad = TIME + 3 - (int)bht_columns(left);

	fprintf(t->out, "%*s%s", INDENT, "", left);
	for (unsigned i = 0; i < t->n_columns; i++) {
		fprintf(t->out, "%*s|", pad, "");
		pad = (int)t->width + 2;
		if (i == column) {
			fprintf(t->out, " %s", text);
			pad -= 1 + (int)bht_columns(text);
		}
	}
	fputc('\n', t->out);
}

/* TEXT wrapped in its column; LEFT stands before the first line only. */
static void print_wrapped(const struct table *t, const char *left, unsigned column, const char *text)
{
	const char *next = text;
	char line[CELL];

	for (bool first = true; first || *next; first = false) {
		const char *begin = next;
		size_t len = bht_line(begin, first ? t->width : t->width - 2, &next);

		snprintf(line, sizeof(line), "%s%.*s", first ? "" : "  ", (int)len, begin);
		print_line(t, first ? left : "", column, line);
	}
}

static void print_header(const struct table *t)
{
	char label[128];
	unsigned rule = TIME + 3 + t->n_columns * (t->width + 3) - 1;

	fprintf(t->out, "%*s%*s   ", INDENT, "", TIME, t->scale.unit);
	for (unsigned i = 0; i < t->n_columns; i++) {
		if (t->n_columns < t->n_threads)
			snprintf(label, sizeof(label), "thread: event");
		else
			thread_label(label, sizeof(label), t, t->tid[i]);
		fprintf(t->out, "| %s%*s", label, i + 1 < t->n_columns ? (int)(t->width + 1 - bht_columns(label)) : 0,
			"");
	}
	fprintf(t->out, "\n%*s", INDENT, "");
	for (unsigned i = 0; i < rule; i++)
		fputc(i >= TIME + 3 && !((i - TIME - 3) % (t->width + 3)) ? '+' : '-', t->out);
	fputc('\n', t->out);
}

/* Whether an event of another thread comes so shortly before witness I that
 * their time stamps do not order them. */
static bool is_tie(const struct table *t, unsigned i)
{
	const struct bht_event *e = &t->f->witness[i].event;

	while (i--) {
		const struct bht_event *before = &t->f->witness[i].event;
		double gap = bht_since_ns(t->ev, bht_time(before), bht_time(e));

		if (gap >= t->ev->clock_error_ns)
			return false;
		if (before->tid != e->tid)
			return true;
	}
	return false;
}

static void print_witness(struct table *t, unsigned i)
{
	const struct bht_witness *w = &t->f->witness[i];
	double ns = bht_since_ns(t->ev, t->f->origin, bht_time(&w->event));
	char left[64], words[CELL], label[128], text[CELL + 160], role[2 * sizeof(w->role)];
	unsigned column = t->n_columns > 1 ? thread_index(t, w->event.tid) : 0;
	bool tie = is_tie(t, i);

	t->has_ties |= tie;
	snprintf(left, sizeof(left), "%c %+*.*f%s", w->key ? '>' : ' ', TIME - 2, t->scale.digits, ns / t->scale.ns,
		 tie ? " ~" : "");
	bht_event_words(words, sizeof(words), t->ev, t->f, &w->event);
	if (t->n_columns < t->n_threads)
		snprintf(text, sizeof(text), "%s: %s", thread_label(label, sizeof(label), t, w->event.tid), words);
	else
		snprintf(text, sizeof(text), "%s", words);
	bht_paint(t->out, t->color && w->key, "1");
	print_wrapped(t, left, column, text);
	if (*w->role) {
		snprintf(text, sizeof(text), "^ %s", bht_escape(role, sizeof(role), w->role));
		print_wrapped(t, "", column, text);
	}
	bht_paint(t->out, t->color && w->key, "");
}

static double longest_ns(const struct table *t)
{
	double most = 0;

	for (unsigned i = 0; i < t->f->n_witness; i++) {
		double ns = fabs(bht_since_ns(t->ev, t->f->origin, bht_time(&t->f->witness[i].event)));
		if (ns > most)
			most = ns;
	}
	return most;
}

static void print_legend(const struct table *t)
{
	char line[160];

	fprintf(t->out, "\n%*s> an event without which this would not hold\n", INDENT, "");
	if (!t->has_ties)
		return;
	snprintf(line, sizeof(line),
		 "less than %.0f ns after an event of another thread: the clock does not order these two",
		 t->ev->clock_error_ns);
	fprintf(t->out, "%*s~ ", INDENT, "");
	bht_wrap(t->out, INDENT + 2, t->total, line);
}

void bht_render_table(FILE *out, const struct bht_evidence *ev, const struct bht_finding *f,
		      const struct bht_render *how)
{
	struct table t = { .out = out, .ev = ev, .f = f, .color = how->color, .total = how->width ? how->width : 100 };

	if (!f->n_witness)
		return;
	t.scale = bht_scale_for(longest_ns(&t));
	find_threads(&t);
	choose_layout(&t);
	print_header(&t);
	for (unsigned i = 0; i < f->n_witness; i++)
		print_witness(&t, i);
	print_legend(&t);
}
