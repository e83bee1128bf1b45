/* SPDX-License-Identifier: MIT */
/* report_json.c - a report for programs: schema bhtrace.report/1, docs/json.md */
#include <errno.h>

#include "json_put.h"
#include "report.h"

static json_t *ns(const struct bht_report *r, uint64_t ticks)
{
	return real(bht_report_ns(r, ticks));
}

/* One number a term, by its id; in ns when they are TICKS. */
static json_t *by_term(const struct bht_report *r, const struct bht_term *term, const uint64_t *value, unsigned n,
		       bool ticks)
{
	json_t *o = json_object();
	bool failed = false;

	for (unsigned i = 0; i < n; i++)
		failed |= PUT(o, term[i].id, ticks ? ns(r, value[i]) : number(value[i]));
	return unless(o, failed);
}

static json_t *segments(const struct bht_report *r, const uint64_t part[BHT_SEGMENTS])
{
	const bool kernel = bht_report_kernel(r);
	json_t *o = json_object();
	bool failed = false;

	for (unsigned i = 0; i < BHT_SEGMENTS; i++)
		if (kernel || !bht_segment_of_kernel(i))
			failed |= PUT(o, bht_segments[i].id, ns(r, part[i]));
	return unless(o, failed);
}

static json_t *buckets(const struct bht_report *r, const struct bht_histogram *h)
{
	struct bht_bucket b = { 0 };
	json_t *a = json_array();
	bool failed = false;

	while (bht_histogram_next(h, &b)) {
		json_t *one = json_array();
		bool bad = ADD(one, ns(r, b.from)) || ADD(one, ns(r, b.last)) || ADD(one, number(b.count));
		failed |= ADD(a, unless(one, bad));
	}
	return unless(a, failed);
}

static json_t *distribution(const struct bht_report *r, const struct bht_histogram *h)
{
	static const struct {
		const char *key;
		unsigned per_mille;
	} quantile[] = {
		{ "p50_ns", 500 }, { "p90_ns", 900 }, { "p99_ns", 990 }, { "p99_9_ns", 999 }, { "max_ns", 1000 }
	};
	json_t *o = json_object();
	bool failed = PUT(o, "count", number(h->n));

	failed |= PUT(o, "sum_ns", ns(r, h->sum));
	failed |= PUT(o, "min_ns", h->n ? ns(r, h->min) : json_null());
	for (unsigned i = 0; i < sizeof(quantile) / sizeof(quantile[0]); i++)
		failed |= PUT(o, quantile[i].key,
			      h->n ? ns(r, bht_histogram_quantile(h, quantile[i].per_mille)) : json_null());
	failed |= PUT(o, "buckets", buckets(r, h));
	return unless(o, failed);
}

static bool put_row(json_t *o, const struct bht_report *r, const struct bht_row *row)
{
	bool failed = PUT(o, "counts", by_term(r, bht_counts, row->count, BHT_COUNTS, false));

	failed |= PUT(o, "gaps", distribution(r, &row->gap));
	failed |= PUT(o, "segments_ns", segments(r, row->part));
	failed |= PUT(o, "rescued", number(row->rescued));
	failed |= PUT(o, "not_measured", by_term(r, bht_why_nots, row->unmeasured, BHT_WHY_NOTS, false));
	failed |= PUT(o, "callbacks", distribution(r, &row->callback));
	return failed;
}

static json_t *bottom_half(const struct bht_report *r, const struct bht_row *row)
{
	json_t *o = json_object();
	bool failed = PUT(o, "name", text(row->name));

	failed |= PUT(o, "addr", hex(row->addr));
	failed |= PUT(o, "objects", number(row->objects));
	failed |= put_row(o, r, row);
	return unless(o, failed);
}

static json_t *bottom_halves(const struct bht_report *r, const struct bht_loop_row *loop)
{
	json_t *a = json_array();
	bool failed = false;

	for (size_t i = 0; i < loop->n_rows; i++)
		failed |= ADD(a, bottom_half(r, loop->row[i]));
	return unless(a, failed);
}

static json_t *loop(const struct bht_report *r, const struct bht_loop_row *l)
{
	struct bht_row total = { 0 };
	json_t *o = json_object();
	bool failed = bht_loop_total(l, &total) != 0 || PUT(o, "name", text(l->name));

	failed |= PUT(o, "addr", hex(l->addr));
	failed |= PUT(o, "thread_tid", l->poller ? json_integer(l->poller) : json_null());
	failed |= PUT(o, "turns", number(l->turns));
	failed |= PUT(o, "wakes", number(l->wakes));
	failed |= PUT(o, "time_ns", by_term(r, bht_doings, l->spent, BHT_DOINGS, true));
	failed |= put_row(o, r, &total);
	failed |= PUT(o, "bottom_halves", bottom_halves(r, l));
	bht_row_clear(&total);
	return unless(o, failed);
}

static json_t *loops(const struct bht_report *r, const struct bht_gaps *g)
{
	json_t *a = json_array();
	bool failed = false;

	for (size_t i = 0; i < g->n_loops; i++)
		if (g->loop[i]->n_rows || !r->how.glob)
			failed |= ADD(a, loop(r, g->loop[i]));
	return unless(a, failed);
}

/* Where events are missing, since the first event of all; the oldest first. */
static json_t *stretches(const struct bht_report *r, const struct bht_losses *l)
{
	json_t *a = json_array();
	bool failed = false;

	for (size_t i = 0; i < l->n; i++) {
		uint64_t from = l->span[i].from > r->first ? l->span[i].from - r->first : 0;
		uint64_t to = l->span[i].to > r->first ? l->span[i].to - r->first : 0;
		json_t *one = json_array();
		bool bad = ADD(one, ns(r, from)) || ADD(one, ns(r, to));
		failed |= ADD(a, unless(one, bad));
	}
	return unless(a, failed);
}

static json_t *loss(const struct bht_report *r, const struct bht_gaps *g)
{
	json_t *o = json_object(), *why = json_object();
	bool failed = PUT(o, "events", number(g->m.lost));

	for (unsigned i = 1; i < sizeof(g->m.losses) / sizeof(g->m.losses[0]); i++)
		if (g->m.losses[i])
			failed |= PUT(why, bht_loss_name((enum bht_loss_why)i), json_integer(g->m.losses[i]));
	failed |= PUT(o, "times", why);
	failed |= PUT(o, "stretches_ns", stretches(r, &g->losses));
	return unless(o, failed);
}

static json_t *unseen(const struct bht_evidence *ev)
{
	json_t *a = json_array();
	bool failed = false;

	for (unsigned i = 0; i < ev->n_unseen; i++)
		failed |= ADD(a, text(ev->unseen[i]));
	return unless(a, failed);
}

static json_t *process(const struct bht_report *r, unsigned index)
{
	const struct bht_evidence *ev = &r->rec->process[index].ev;
	const struct bht_gaps *g = &r->gaps[index];
	json_t *o = json_object();
	bool failed = PUT(o, "pid", json_integer(ev->pid));

	failed |= PUT(o, "command", text(ev->command));
	failed |= PUT(o, "host", *ev->hostname ? text(ev->hostname) : json_null());
	failed |= PUT(o, "source", ev->source ? text(ev->source) : json_null());
	failed |= PUT(o, "recorder", json_string(bht_recorder_name(ev->recorder)));
	failed |= PUT(o, "events", number(g->m.n_events));
	failed |= PUT(o, "kernel_events", number(g->m.n_kernel));
	failed |= PUT(o, "clock_error_ns", isfinite(ev->clock_error_ns) ? json_real(ev->clock_error_ns) : json_null());
	failed |= PUT(o, "loss", loss(r, g));
	failed |= PUT(o, "unseen", unseen(ev));
	failed |= PUT(o, "loops", loops(r, g));
	return unless(o, failed);
}

static json_t *field_value(const struct bht_field *f)
{
	if (f->kind == BHP_FIELD_ptr)
		return f->value ? hex(f->value) : json_null();
	if (f->kind == BHP_FIELD_i32 || f->kind == BHP_FIELD_i64)
		return json_integer((json_int_t)f->value);
	return number(f->value);
}

static json_t *witness(const struct bht_report *r, const struct bht_gap *gap, const struct bht_gap_event *w)
{
	struct bht_field field[BHP_FIELDS_MAX];
	unsigned n = bht_event_fields(w->event, field);
	json_t *o = json_object(), *fields = json_object();
	bool failed = PUT(o, "event", json_string(bht_event_name(bht_event_id(w->event))));

	failed |= PUT(o, "role", json_string(w->role));
	failed |= PUT(o, "time_ns", ns(r, bht_time(w->event) - bht_time(&gap->schedule)));
	failed |= PUT(o, "ticks", number(bht_time(w->event)));
	failed |= PUT(o, "tid", w->event->tid ? json_integer(w->event->tid) : json_null());
	for (unsigned i = 0; i < n; i++)
		if (field[i].kind != BHP_FIELD_str)
			failed |= PUT(fields, field[i].name, field_value(&field[i]));
	failed |= PUT(o, "fields", fields);
	return unless(o, failed);
}

static json_t *witnesses(const struct bht_report *r, const struct bht_gap *gap)
{
	struct bht_gap_event event[BHT_GAP_EVENTS];
	unsigned n = bht_gap_events(gap, event);
	json_t *a = json_array();
	bool failed = false;

	for (unsigned i = 0; i < n; i++)
		failed |= ADD(a, witness(r, gap, &event[i]));
	return unless(a, failed);
}

static json_t *blamed(const struct bht_report *r, const struct bht_gap *gap)
{
	json_t *o = json_object();
	bool failed = PUT(o, "name", text(gap->blamed->name));

	failed |= PUT(o, "addr", hex(gap->blamed->addr));
	failed |= PUT(o, "took_ns", ns(r, gap->blamed_end - gap->blamed_begin));
	return unless(o, failed);
}

static json_t *queue(const struct bht_report *r, const struct bht_gap *gap)
{
	json_t *o = json_object();
	bool failed = PUT(o, "cpu", number(gap->queue.cpu));

	failed |= PUT(o, "behind_tid", gap->queue.behind ? number(gap->queue.behind) : json_null());
	failed |= PUT(o, "took_ns", ns(r, gap->queue.end - gap->queue.begin));
	return unless(o, failed);
}

static json_t *gap_json(const struct bht_report *r, unsigned process_index, const struct bht_gap *gap)
{
	static const char *const rescue[] = { [BHT_RESCUED_MISSING] = "notify-missing",
					      [BHT_RESCUED_SKIPPED] = "notify-skipped",
					      [BHT_RESCUED_STOLEN] = "notify-stolen" };
	char cause[BHT_LINE];
	json_t *o = json_object();
	bool failed = PUT(o, "process", json_integer(process_index));

	bht_gap_cause(cause, r, process_index, gap);
	failed |= PUT(o, "loop", text(gap->row->loop->name));
	failed |= PUT(o, "bh", text(gap->row->name));
	failed |= PUT(o, "addr", hex(gap->bh));
	failed |= PUT(o, "at_ns", ns(r, bht_time(&gap->schedule) - r->first));
	failed |= PUT(o, "gap_ns", ns(r, bht_gap_length(gap)));
	failed |= PUT(o, "segments_ns", segments(r, gap->part));
	failed |= PUT(o, "rescued", gap->rescue ? json_string(rescue[gap->rescue]) : json_null());
	failed |= PUT(o, "slow_callback", gap->blamed ? blamed(r, gap) : json_null());
	failed |= PUT(o, "run_queue", gap->queue.end ? queue(r, gap) : json_null());
	failed |= PUT(o, "cause", text(cause));
	failed |= PUT(o, "events", witnesses(r, gap));
	return unless(o, failed);
}

static json_t *worst(const struct bht_report *r)
{
	const struct bht_gap *gap;
	json_t *a = json_array();
	unsigned p;
	bool failed = false;

	for (unsigned i = 0; (gap = bht_report_worst(r, i, &p)); i++)
		failed |= ADD(a, gap_json(r, p, gap));
	return unless(a, failed);
}

static json_t *processes(const struct bht_report *r)
{
	json_t *a = json_array();
	bool failed = false;

	for (unsigned i = 0; i < r->n; i++)
		failed |= ADD(a, process(r, i));
	return unless(a, failed);
}

static json_t *window(const struct bht_report *r)
{
	json_t *o = json_object();
	bool failed = PUT(o, "since_ns", json_real(r->since_ns));

	failed |= PUT(o, "until_ns", r->until_ns > 0 ? json_real(r->until_ns) : json_null());
	failed |= PUT(o, "recorded_ns", ns(r, r->last - r->first));
	failed |= PUT(o, "first_ticks", number(r->first));
	failed |= PUT(o, "bh", r->how.glob ? text(r->how.glob) : json_null());
	return unless(o, failed);
}

static json_t *meanings(const struct bht_term *term, unsigned n)
{
	json_t *o = json_object();
	bool failed = false;

	for (unsigned i = 0; i < n; i++)
		failed |= PUT(o, term[i].id, json_string(term[i].meaning));
	return unless(o, failed);
}

static json_t *all(const struct bht_report *r)
{
	struct bht_row total = { 0 };
	char sentence[BHT_LINE];
	json_t *o = json_object();
	bool failed = bht_report_total(r, &total) != 0 || PUT(o, "schema", json_string("bhtrace.report/1"));

	bht_report_sentence(sentence, r, &total);
	failed |= PUT(o, "source", text(r->rec->name));
	failed |= PUT(o, "sentence", text(sentence));
	failed |= PUT(o, "events", number(r->n_events));
	failed |= PUT(o, "window", window(r));
	failed |= PUT(o, "segments", meanings(bht_segments, BHT_SEGMENTS));
	failed |= PUT(o, "reasons", meanings(bht_why_nots, BHT_WHY_NOTS));
	failed |= put_row(o, r, &total);
	failed |= PUT(o, "processes", processes(r));
	failed |= PUT(o, "worst", worst(r));
	bht_row_clear(&total);
	return unless(o, failed);
}

int bht_report_json(FILE *out, const struct bht_report *r)
{
	return print_json(out, all(r));
}
