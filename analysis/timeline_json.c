/* SPDX-License-Identifier: MIT */
/*
 * The trace-event format, as ui.perfetto.dev and chrome://tracing read it: an object
 * with traceEvents. Times are microseconds with three digits behind the point.
 *
 * Viewers sort by time and keep the order of what has the same one, nest the spans
 * (B, E and X) of a thread by that, and bind an arrow to the innermost span that is
 * open at its ends. So each place of a lane is written later than the one before, the
 * ends of arrows have a width of at least 1 ns, and an arrow is written after them.
 *
 * https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "render.h"
#include "timeline.h"

/* Process ids of several hosts may be the same: each index has its own range. */
enum { PID_RANGE = 10000000 };

struct json_pen {
	struct bht_pen base;
	struct bht_timeline *t;
	FILE *out;
	uint64_t n_arrows;
	bool started;
};

/* --- values -------------------------------------------------------------------- */

static void put_text(FILE *out, const char *s)
{
	char safe[8 * BHT_LINE];

	putc('"', out);
	for (const char *c = bht_escape(safe, sizeof(safe), s); *c; c++) {
		if (*c == '"' || *c == '\\')
			putc('\\', out);
		putc(*c, out);
	}
	putc('"', out);
}

static void put_time(const struct json_pen *p, const char *key, uint64_t ns)
{
	fprintf(p->out, ",\"%s\":%" PRIu64 ".%03u", key, ns / 1000, (unsigned)(ns % 1000));
}

static uint64_t ns_of(const struct json_pen *p, uint64_t time)
{
	return (uint64_t)bht_timeline_ns(p->t, time);
}

static uint64_t pid_of(const struct bht_timeline *t, uint32_t process)
{
	const uint32_t pid = t->process[process].ev.pid;

	for (uint32_t i = 0; i < process; i++)
		if (t->process[i].ev.pid == pid)
			return pid + (uint64_t)PID_RANGE * process;
	return pid;
}

/* A new event up to its thread. */
static void begin_event(struct json_pen *p, const char *phase, uint32_t process, uint32_t tid)
{
	fprintf(p->out, "%s{\"ph\":\"%s\",\"cat\":\"bh\",\"pid\":%" PRIu64 ",\"tid\":%" PRIu32,
		p->started ? ",\n" : "\n", phase, pid_of(p->t, process), tid);
	p->started = true;
}

static void put_name(struct json_pen *p, const char *prefix, const struct bht_object *object, const char *else_name)
{
	char who[BHT_WHO + 32];

	if (object && *object->name)
		snprintf(who, sizeof(who), "%s%s%s", prefix, *prefix ? " " : "", object->name);
	else if (object)
		snprintf(who, sizeof(who), "%s%s0x%" PRIx64, prefix, *prefix ? " " : "", object->addr);
	else
		snprintf(who, sizeof(who), "%s", else_name);
	fputs(",\"name\":", p->out);
	put_text(p->out, who);
}

/* Numbers that a double cannot hold are written as text. */
static void put_number(FILE *out, const struct bht_field *f)
{
	const bool is_signed = f->kind == BHP_FIELD_i32 || f->kind == BHP_FIELD_i64;
	const int64_t value = (int64_t)f->value;

	if (f->kind == BHP_FIELD_ptr)
		fprintf(out, "\"0x%" PRIx64 "\"", f->value);
	else if (is_signed && value < 0)
		fprintf(out, "%" PRId64, value);
	else if (f->value >> 53)
		fprintf(out, "\"%" PRIu64 "\"", f->value);
	else
		fprintf(out, "%" PRIu64, f->value);
}

/* What says something, without that which the BEGINNING of its span said already. */
static void put_fields(struct json_pen *p, const struct bht_object *object, const struct bht_event *e, bool beginning)
{
	const struct bht_object *loop = object && object->loop ? object->loop : object;
	struct bht_field f[BHP_FIELDS_MAX];
	const unsigned n = bht_event_fields(e, f);

	for (unsigned i = 0; i < n; i++) {
		const char *text = f[i].kind == BHP_FIELD_str           ? f[i].text
				   : *f[i].word                         ? f[i].word
				   : loop && !strcmp(f[i].name, "loop") ? loop->name
				   : loop && !strcmp(f[i].name, "bh")   ? object->name
									: NULL;
		if (f[i].quiet || (!beginning && (f[i].kind == BHP_FIELD_ptr || f[i].kind == BHP_FIELD_time)))
			continue;
		fprintf(p->out, ",\"%s\":", f[i].name);
		if (text && *text)
			put_text(p->out, text);
		else
			put_number(p->out, &f[i]);
	}
}

static int done(const struct json_pen *p)
{
	return ferror(p->out) ? -EIO : 0;
}

/* --- the pen ------------------------------------------------------------------- */

static bool is_edge(unsigned id)
{
	return id == BHT_ID_CUT || id == BHT_ID_LOSS || (id >= BHP_ID_execute_begin && id <= BHP_ID_wait_end);
}

/* What an arrow may touch is a span, or else a mark. */
static void put_point(struct json_pen *p, struct bht_lane *lane, const struct bht_object *object,
		      const struct bht_event *e, uint64_t *at)
{
	const unsigned id = bht_event_id(e);
	const bool span = id == BHP_ID_schedule || id == BHP_ID_notify;
	const uint64_t took = id == BHP_ID_schedule ? bhp_decode_schedule(&e->r).took : 0;
	const uint64_t began = ns_of(p, took < bht_time(e) ? bht_time(e) - took : 0), ended = ns_of(p, bht_time(e));
	uint64_t end;

	*at = began > lane->cursor ? began : lane->cursor;
	end = span && ended <= *at ? *at + 1 : span ? ended : *at;
	begin_event(p, span ? "X" : "i", lane->process, lane->tid);
	put_time(p, "ts", *at);
	if (span)
		put_time(p, "dur", end - *at);
	else
		fputs(",\"s\":\"t\"", p->out);
	put_name(p, bht_event_name(id), object, bht_event_name(id));
	fprintf(p->out, ",\"args\":{\"ticks\":\"%" PRIu64 "\"", bht_time(e));
	put_fields(p, object, e, true);
	fputs("}}", p->out);
	lane->cursor = end;
}

static int json_event(struct bht_pen *pen, struct bht_lane *lane, const struct bht_object *object,
		      const struct bht_event *e, uint64_t *at)
{
	struct json_pen *p = (struct json_pen *)pen;
	const uint64_t ns = ns_of(p, bht_time(e));

	if (is_edge(bht_event_id(e)))
		*at = lane->cursor = ns > lane->cursor ? ns : lane->cursor;
	else
		put_point(p, lane, object, e, at);
	return done(p);
}

static int json_begin(struct bht_pen *pen, const struct bht_lane_span *span)
{
	static const char *const what[] = {
		[BHT_SPAN_TURN] = "turn", [BHT_SPAN_SLEEP] = "sleep", [BHT_SPAN_EXECUTE] = "", [BHT_SPAN_LOSS] = ""
	};
	struct json_pen *p = (struct json_pen *)pen;

	begin_event(p, "B", span->lane->process, span->lane->tid);
	put_time(p, "ts", span->lane->cursor); /* a lane that ends with a point is behind it */
	put_name(p, what[span->kind], span->object, "events lost");
	fprintf(p->out, ",\"args\":{\"ticks\":\"%" PRIu64 "\"", bht_time(&span->event));
	put_fields(p, span->object, &span->event, true);
	if (span->early)
		fputs(",\"beginning\":\"earlier\"", p->out);
	fputs("}}", p->out);
	return done(p);
}

static int json_end(struct bht_pen *pen, const struct bht_lane_span *span, const struct bht_event *e)
{
	static const char *const how[] = { [BHT_SPAN_ENDED] = "seen",
					   [BHT_SPAN_UNSEEN] = "not seen, later than this",
					   [BHT_SPAN_GOES_ON] = "none, it goes on" };
	struct json_pen *p = (struct json_pen *)pen;

	begin_event(p, "E", span->lane->process, span->lane->tid);
	put_time(p, "ts", span->lane->cursor);
	fprintf(p->out, ",\"args\":{\"end\":\"%s\"", how[span->how]);
	if (e && span->kind != BHT_SPAN_LOSS)
		put_fields(p, span->object, e, false);
	fputs("}}", p->out);
	return done(p);
}

static void flow(struct json_pen *p, const char *phase, const struct bht_lane *lane, uint64_t at)
{
	begin_event(p, phase, lane->process, lane->tid);
	put_time(p, "ts", at);
	fprintf(p->out, ",\"name\":\"wakeup\",\"id\":%" PRIu64 "%s}", p->n_arrows,
		*phase == 's' ? "" : ",\"bp\":\"e\"");
}

static int json_arrow(struct bht_pen *pen, const struct bht_point *schedule, const struct bht_point *notify,
		      const struct bht_lane_span *execute)
{
	struct json_pen *p = (struct json_pen *)pen;

	p->n_arrows++;
	flow(p, "s", schedule->lane, schedule->at);
	if (notify)
		flow(p, "t", notify->lane, notify->at);
	flow(p, "f", execute->lane, execute->begin);
	return done(p);
}

/* --- what is known at the end -------------------------------------------------- */

static void metadata(struct json_pen *p, const char *what, uint32_t process, uint32_t tid, const char *key)
{
	begin_event(p, "M", process, tid);
	fprintf(p->out, ",\"name\":\"%s\",\"args\":{\"%s\":", what, key);
}

static void name_processes(struct json_pen *p)
{
	for (uint32_t i = 0; i < p->t->n_processes; i++) {
		const struct bht_evidence *ev = &p->t->process[i].ev;
		metadata(p, "process_name", i, 0, "name");
		put_text(p->out, *ev->command ? ev->command : "process");
		fputs("}}", p->out);
		metadata(p, "process_labels", i, 0, "labels");
		put_text(p->out, *ev->hostname ? ev->hostname : "this host");
		fprintf(p->out, ",\"pid\":%" PRIu32 "}}", ev->pid);
	}
}

static void name_threads(struct json_pen *p)
{
	for (size_t i = 0; i < p->t->n_lanes; i++) {
		const struct bht_lane *lane = p->t->lane[i];
		if (!lane->drawn)
			continue;
		metadata(p, "thread_name", lane->process, lane->tid, "name");
		put_text(p->out, *lane->name ? lane->name : lane->tid ? "thread" : "all threads");
		fputs("}}", p->out);
		metadata(p, "thread_sort_index", lane->process, lane->tid, "sort_index");
		fprintf(p->out, "%zu}}", i);
	}
}

static void put_witness(struct json_pen *p, uint32_t process, const struct bht_finding *f, unsigned number,
			const struct bht_witness *w)
{
	char name[256], words[512];

	if (bht_time(&w->event) < p->t->begin || bht_time(&w->event) > p->t->end)
		return;
	snprintf(name, sizeof(name), "finding %u: %s%s%s", number, bht_rules[f->rule].id, *w->role ? ": " : "",
		 w->role);
	bht_event_words(words, sizeof(words), &p->t->process[process].ev, f, &w->event);
	begin_event(p, "i", process, w->event.tid);
	put_time(p, "ts", ns_of(p, bht_time(&w->event)));
	fputs(w->key ? ",\"s\":\"p\",\"name\":" : ",\"s\":\"t\",\"name\":", p->out);
	put_text(p->out, name);
	fputs(",\"args\":{\"event\":", p->out);
	put_text(p->out, words);
	fputs("}}", p->out);
}

static void put_findings(struct json_pen *p)
{
	unsigned number = 0;

	for (uint32_t i = 0; i < p->t->n_processes; i++)
		for (unsigned n = 0; n < p->t->d[i].n_findings; n++) {
			const struct bht_finding *f = &p->t->d[i].findings[n];
			number++;
			for (unsigned w = 0; w < f->n_witness; w++)
				put_witness(p, i, f, number, &f->witness[w]);
		}
}

static void put_other_data(struct json_pen *p)
{
	const struct bht_timeline *t = p->t;
	char sentence[BHT_SENTENCE];

	fprintf(p->out, "\n],\n\"displayTimeUnit\":\"ns\",\n\"otherData\":{\"generator\":\"bhtrace %s\",\"recording\":",
		BHTRACE_VERSION);
	put_text(p->out, t->name);
	fprintf(p->out,
		",\"first_tick\":\"%" PRIu64 "\",\"events\":%" PRIu64 ",\"events_before\":%" PRIu64
		",\"events_after\":%" PRIu64,
		t->overview->first, t->n_events, t->n_before, t->n_after);
	for (uint32_t i = 0; i < t->n_processes; i++) {
		bht_verdict_sentence(sentence, &t->d[i]);
		fprintf(p->out, ",\"verdict_%" PRIu32 "\":", i);
		put_text(p->out, sentence);
		fprintf(p->out, ",\"events_lost_%" PRIu32 "\":%" PRIu64, i, t->d[i].lost_events);
		if (*t->d[i].loss_why) {
			fprintf(p->out, ",\"loss_%" PRIu32 "\":", i);
			put_text(p->out, t->d[i].loss_why);
		}
	}
	fputs("}}\n", p->out);
}

int bht_timeline_json(struct bht_timeline *t, struct bht_source *history, FILE *out)
{
	struct json_pen p = { .base = { json_event, json_begin, json_end, json_arrow }, .t = t, .out = out };

	fputs("{\"traceEvents\":[", out);
	int rc = bht_timeline_draw(t, history, &p.base);
	if (rc)
		return rc;
	name_processes(&p);
	name_threads(&p);
	put_findings(&p);
	put_other_data(&p);
	return fflush(out) || ferror(out) ? -EIO : 0;
}
