/* SPDX-License-Identifier: MIT */
/*
 * One page for a browser, from the files in timeline/. Its data are columns of numbers
 * in base64, which the page turns into typed arrays, and one JSON object with all that
 * has names. Nothing of the target is ever written as HTML: the page sets it as text.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "array.h"
#include "json_put.h"
#include "timeline.h"
#include "timeline/page.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
	       "typed arrays have the reader's byte order, nearly always this");

/* One event; the page's schema says where its fields are. */
struct row {
	double ns;
	uint64_t value; /* ARG, or ARG2 of what has no bottom half */
	uint32_t object, lane;
	uint16_t half;
	uint8_t id, bits; /* bits: T0 and T1 */
};

struct span_row {
	uint32_t begin, end; /* rows */
	uint8_t depth, kind; /* kind | how << 2 | early << 4 */
};

struct arrow_row {
	uint32_t schedule, notify, execute; /* rows; notify NONE when there is none */
};

enum { HTML_DEPTHS = 16 };
#define NONE UINT32_MAX

struct html_pen {
	struct bht_pen base;
	struct bht_timeline *t;
	struct row *row;
	struct span_row *span;
	struct arrow_row *arrow;
	size_t n_rows, n_spans, n_arrows;
};

/* --- the pen ------------------------------------------------------------------- */

static int html_event(struct bht_pen *pen, struct bht_lane *lane, const struct bht_object *object,
		      const struct bht_event *e, uint64_t *at)
{
	struct html_pen *p = (struct html_pen *)pen;
	const uint64_t *word = e->r.word;
	const bool bh = object && object->loop;

	if (p->n_rows == NONE || !bht_room_for_one(&p->row, p->n_rows, sizeof(*p->row)))
		return -ENOMEM;
	p->row[p->n_rows] = (struct row){ .ns = bht_timeline_ns(p->t, bht_time(e)),
					  .value = bh ? word[3] : word[2] | word[3],
					  .object = object ? object->index : NONE,
					  .lane = lane->index,
					  .half = bh ? (uint16_t)bhp_get_HALF(&e->r) : 0,
					  .id = (uint8_t)bht_event_id(e),
					  .bits = (uint8_t)(word[1] >> 8) };
	*at = p->n_rows++;
	return 0;
}

static int html_begin(struct bht_pen *pen, const struct bht_lane_span *span)
{
	(void)pen, (void)span;
	return 0;
}

static int html_end(struct bht_pen *pen, const struct bht_lane_span *span, const struct bht_event *e)
{
	struct html_pen *p = (struct html_pen *)pen;

	(void)e;
	if (!bht_room_for_one(&p->span, p->n_spans, sizeof(*p->span)))
		return -ENOMEM;
	p->span[p->n_spans++] =
		(struct span_row){ .begin = (uint32_t)span->begin,
				   .end = (uint32_t)span->end,
				   .depth = span->depth < HTML_DEPTHS ? (uint8_t)span->depth : HTML_DEPTHS - 1,
				   .kind = (uint8_t)(span->kind | span->how << 2 | span->early << 4) };
	return 0;
}

static int html_arrow(struct bht_pen *pen, const struct bht_point *schedule, const struct bht_point *notify,
		      const struct bht_lane_span *execute)
{
	struct html_pen *p = (struct html_pen *)pen;

	if (!bht_room_for_one(&p->arrow, p->n_arrows, sizeof(*p->arrow)))
		return -ENOMEM;
	p->arrow[p->n_arrows++] = (struct arrow_row){ .schedule = (uint32_t)schedule->at,
						      .notify = notify ? (uint32_t)notify->at : NONE,
						      .execute = (uint32_t)execute->begin };
	return 0;
}

/* --- columns ------------------------------------------------------------------- */

struct base64 {
	FILE *out;
	unsigned char left[3];
	unsigned n_left;
};

static void put_group(struct base64 *b)
{
	static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint32_t bits = (uint32_t)b->left[0] << 16 | (uint32_t)b->left[1] << 8 | b->left[2];

	for (unsigned i = 0; i < 4; i++)
		putc_unlocked(i > b->n_left ? '=' : digit[bits >> (18 - 6 * i) & 63], b->out);
	*b = (struct base64){ .out = b->out };
}

static void put_bytes(struct base64 *b, const void *bytes, size_t n)
{
	for (const unsigned char *c = bytes; n; n--) {
		b->left[b->n_left++] = *c++;
		if (b->n_left == 3)
			put_group(b);
	}
}

/* The member of SIZE bytes at OFFSET of N rows that are STRIDE apart. */
static void put_column(FILE *out, const char *name, const void *rows, size_t n, size_t stride, size_t offset,
		       size_t size)
{
	struct base64 b = { .out = out };

	fprintf(out, "<script type=\"application/octet-stream\" id=\"%s\">", name);
	for (size_t i = 0; i < n; i++)
		put_bytes(&b, (const char *)rows + i * stride + offset, size);
	if (b.n_left)
		put_group(&b);
	fputs("</script>\n", out);
}

#define COLUMN(name, rows, n, member)                                                                                  \
	put_column(out, name, rows, n, sizeof(*(rows)), offsetof(__typeof__(*(rows)), member), sizeof((rows)->member))

static void put_columns(FILE *out, const struct html_pen *p)
{
	COLUMN("event-ns", p->row, p->n_rows, ns);
	COLUMN("event-value", p->row, p->n_rows, value);
	COLUMN("event-object", p->row, p->n_rows, object);
	COLUMN("event-lane", p->row, p->n_rows, lane);
	COLUMN("event-half", p->row, p->n_rows, half);
	COLUMN("event-id", p->row, p->n_rows, id);
	COLUMN("event-bits", p->row, p->n_rows, bits);
	COLUMN("span-begin", p->span, p->n_spans, begin);
	COLUMN("span-end", p->span, p->n_spans, end);
	COLUMN("span-depth", p->span, p->n_spans, depth);
	COLUMN("span-kind", p->span, p->n_spans, kind);
	COLUMN("arrow-schedule", p->arrow, p->n_arrows, schedule);
	COLUMN("arrow-notify", p->arrow, p->n_arrows, notify);
	COLUMN("arrow-execute", p->arrow, p->n_arrows, execute);
}

/* --- names --------------------------------------------------------------------- */

/* Shown as it is, so without control characters either. */
static json_t *escaped(const char *s)
{
	char safe[8 * BHT_LINE];

	return json_string(bht_escape(safe, sizeof(safe), s));
}

/* What the values of a field of four bits stand for. */
static json_t *field_words(const struct bhp_field_info *info, unsigned index)
{
	static const unsigned shift[] = { [BHP_SLOT_T0] = 8, [BHP_SLOT_T1] = 12 };
	struct bht_field field[BHP_FIELDS_MAX];
	json_t *words = json_array();
	bool failed = false;

	for (uint64_t value = 0; value < 16; value++) {
		struct bht_event e = { .r = { { 0, info->event | value << shift[info->slot], 0, 0 } } };
		const unsigned n = bht_event_fields(&e, field);
		failed |= ADD(words, json_string(index < n ? field[index].word : ""));
	}
	return unless(words, failed);
}

static json_t *field_schema(const struct bhp_field_info *info, unsigned index)
{
	static const char *const slots[] = {
		[BHP_SLOT_LOOP] = "LOOP", [BHP_SLOT_T0] = "T0",    [BHP_SLOT_T1] = "T1",  [BHP_SLOT_BH] = "BH",
		[BHP_SLOT_HALF] = "HALF", [BHP_SLOT_ARG] = "ARG",  [BHP_SLOT_LO] = "LO",  [BHP_SLOT_HI] = "HI",
		[BHP_SLOT_TEXT] = "TEXT", [BHP_SLOT_ARG2] = "ARG", [BHP_SLOT_LO2] = "LO", [BHP_SLOT_HI2] = "HI"
	};
	static const char *const kinds[] = { "ptr", "str", "u8", "u16", "u32", "i32", "u64", "i64", "time" };
	json_t *o = json_object();
	bool failed = PUT(o, "name", json_string(info->name));

	failed |= PUT(o, "slot", json_string(slots[info->slot]));
	failed |= PUT(o, "kind", json_string(kinds[info->kind]));
	if (info->slot == BHP_SLOT_T0 || info->slot == BHP_SLOT_T1)
		failed |= PUT(o, "words", field_words(info, index));
	return unless(o, failed);
}

/* By event number: its name and its fields. */
static json_t *schema(void)
{
	struct bhp_field_info info[BHP_FIELD_INFO_MAX];
	const uint32_t n = bhp_schema(info);
	json_t *o = json_object();
	bool failed = false;
	unsigned index = 0;

	for (uint32_t i = 0; i < n; i++) {
		char number[8];
		snprintf(number, sizeof(number), "%u", info[i].event);
		json_t *event = json_object_get(o, number);
		if (!event) {
			event = json_pack("{s:s, s:[]}", "name", info[i].event_name, "fields");
			failed |= PUT(o, number, event);
			index = 0;
		}
		failed |= ADD(json_object_get(event, "fields"), field_schema(&info[i], index++));
	}
	return unless(o, failed);
}

static json_t *lanes(const struct bht_timeline *t)
{
	json_t *a = json_array();
	bool failed = false;

	for (size_t i = 0; i < t->n_lanes; i++) {
		const struct bht_lane *lane = t->lane[i];
		json_t *o = json_pack("{s:I, s:I}", "process", (json_int_t)lane->process, "tid", (json_int_t)lane->tid);
		failed |= PUT(o, "name", escaped(lane->name)) || ADD(a, o);
	}
	return unless(a, failed);
}

static json_t *objects(const struct bht_timeline *t)
{
	json_t *a = json_array();
	bool failed = false;

	for (size_t i = 0; i < t->n_objects; i++) {
		const struct bht_object *object = t->object[i];
		json_t *o = json_pack("{s:I}", "loop", object->loop ? (json_int_t)object->loop->index : (json_int_t)-1);
		failed |= PUT(o, "addr", hex(object->addr)) || PUT(o, "name", escaped(object->name)) || ADD(a, o);
	}
	return unless(a, failed);
}

static json_t *processes(const struct bht_timeline *t)
{
	json_t *a = json_array();
	bool failed = false;

	for (unsigned i = 0; i < t->n_processes; i++) {
		const struct bht_evidence *ev = &t->process[i].ev;
		const struct bht_diagnosis *d = &t->d[i];
		char sentence[BHT_SENTENCE];
		json_t *o = json_pack("{s:I, s:s}", "pid", (json_int_t)ev->pid, "verdict",
				      bht_verdict_name(d->verdict)),
		       *notes = json_array();

		bht_verdict_sentence(sentence, d);
		failed |= PUT(o, "sentence", escaped(sentence)) || PUT(o, "command", escaped(ev->command));
		failed |= PUT(o, "hostname", escaped(ev->hostname)) || PUT(o, "loss", escaped(d->loss_why));
		failed |= PUT(o, "lost", json_integer((json_int_t)d->lost_events));
		for (unsigned n = 0; n < d->n_reasons; n++)
			failed |= ADD(notes, escaped(d->reasons[n]));
		for (unsigned n = 0; n < ev->n_unseen; n++)
			failed |= ADD(notes, escaped(ev->unseen[n]));
		failed |= PUT(o, "notes", notes) || ADD(a, o);
	}
	return unless(a, failed);
}

static json_int_t lane_of(const struct bht_timeline *t, uint32_t process, uint32_t tid)
{
	for (size_t i = 0; i < t->n_lanes; i++)
		if (t->lane[i]->process == process && t->lane[i]->tid == tid)
			return (json_int_t)i;
	return -1;
}

static json_t *witnesses(const struct bht_timeline *t, uint32_t process, const struct bht_finding *f)
{
	json_t *a = json_array();
	bool failed = false;
	char words[512];

	for (unsigned i = 0; i < f->n_witness; i++) {
		const struct bht_witness *w = &f->witness[i];
		json_t *o =
			json_pack("{s:f, s:b, s:I, s:I}", "ns", bht_timeline_ns(t, bht_time(&w->event)), "key", w->key,
				  "tid", (json_int_t)w->event.tid, "lane", lane_of(t, process, w->event.tid));
		bht_event_words(words, sizeof(words), &t->process[process].ev, f, &w->event);
		failed |= PUT(o, "role", escaped(w->role)) || PUT(o, "words", escaped(words)) || ADD(a, o);
	}
	return unless(a, failed);
}

static json_t *finding(const struct bht_timeline *t, uint32_t process, const struct bht_finding *f)
{
	const struct bht_rule *rule = &bht_rules[f->rule];
	uint64_t from, to;

	bht_finding_times(f, &from, &to);
	json_t *o = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:f, s:f}", "process", (json_int_t)process, "rule",
			      rule->id, "verdict", bht_verdict_name(rule->verdict), "confidence",
			      bht_confidence_name(f->confidence), "line", rule->line, "remedy", rule->remedy, "from",
			      bht_timeline_ns(t, from), "to", bht_timeline_ns(t, to));
	bool failed = PUT(o, "detail", escaped(f->detail)) || PUT(o, "refute", escaped(f->refute));
	failed |= PUT(o, "bh", escaped(f->bh.name)) || PUT(o, "loop", escaped(f->loop.name));
	failed |= PUT(o, "witnesses", witnesses(t, process, f));
	return unless(o, failed);
}

static json_t *findings(const struct bht_timeline *t)
{
	json_t *a = json_array();
	bool failed = false;

	for (unsigned i = 0; i < t->n_processes; i++)
		for (unsigned n = 0; n < t->d[i].n_findings; n++)
			failed |= ADD(a, finding(t, i, &t->d[i].findings[n]));
	return unless(a, failed);
}

static json_t *names(const struct bht_timeline *t)
{
	json_t *o = json_pack("{s:s, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:b, s:f}", "version", BHTRACE_VERSION, "begin",
			      bht_timeline_ns(t, t->begin), "end", bht_timeline_ns(t, t->end), "last",
			      bht_timeline_ns(t, t->overview->last), "before", (json_int_t)t->n_before, "events",
			      (json_int_t)t->n_events, "after", (json_int_t)t->n_after, "finding",
			      (json_int_t)t->finding, "full", t->full, "ticksPerNs", t->ticks_per_ns);
	bool failed = PUT(o, "firstTick", json_sprintf("%" PRIu64, t->overview->first));

	failed |= PUT(o, "name", escaped(t->name)) || PUT(o, "schema", schema()) || PUT(o, "lanes", lanes(t));
	failed |= PUT(o, "objects", objects(t)) || PUT(o, "processes", processes(t));
	failed |= PUT(o, "findings", findings(t));
	return unless(o, failed);
}

/* --- the page ------------------------------------------------------------------ */

/* In a script element only "<" can mean anything; in JSON it is in strings only. */
static int put_json(const char *s, size_t size, void *data)
{
	for (; size; s++, size--)
		if (*s == '<')
			fputs("\\u003c", data);
		else
			putc(*s, data);
	return ferror((FILE *)data) ? -1 : 0;
}

static int put_data(FILE *out, const struct html_pen *p)
{
	json_t *o = names(p->t);

	if (!o)
		return -ENOMEM;
	fputs("<script type=\"application/json\" id=\"names\">", out);
	const int failed = json_dump_callback(o, put_json, out, JSON_COMPACT);
	fputs("</script>\n", out);
	put_columns(out, p);
	json_decref(o);
	return failed ? -EIO : 0;
}

static void put_scripts(FILE *out, const char *nonce)
{
	const char *const scripts[] = { bht_page_data_js, bht_page_lanes_js, bht_page_panels_js, bht_page_page_js };

	for (size_t i = 0; i < sizeof(scripts) / sizeof(*scripts); i++)
		fprintf(out, "<script nonce=\"%s\">\n%s</script>\n", nonce, scripts[i]);
}

/* The page with what it leaves open: @NONCE@, @STYLE@, @DATA@, @SCRIPT@. */
static int put_page(FILE *out, const struct html_pen *p, const char *nonce)
{
	int rc = 0;

	for (const char *at = bht_page_html, *hole; !rc && *at; at = strchr(hole + 1, '@') + 1) {
		hole = strchr(at, '@');
		if (!hole) {
			fputs(at, out);
			break;
		}
		fwrite(at, 1, (size_t)(hole - at), out);
		if (hole[1] == 'N')
			fputs(nonce, out);
		else if (hole[1] == 'D')
			rc = put_data(out, p);
		else if (!strncmp(hole, "@STYLE@", 7))
			fputs(bht_page_css, out);
		else
			put_scripts(out, nonce);
	}
	return rc;
}

int bht_timeline_html(struct bht_timeline *t, struct bht_source *history, FILE *out)
{
	struct html_pen p = { .base = { html_event, html_begin, html_end, html_arrow }, .t = t };
	unsigned char bytes[16];
	char nonce[2 * sizeof(bytes) + 1];
	int rc = getrandom(bytes, sizeof(bytes), 0) == sizeof(bytes) ? 0 : -EIO;

	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(nonce + 2 * i, 3, "%02x", bytes[i]);
	if (!rc)
		rc = bht_timeline_draw(t, history, &p.base);
	if (!rc)
		rc = put_page(out, &p, nonce);
	if (!rc && (fflush(out) || ferror(out)))
		rc = -EIO;
	free(p.row);
	free(p.span);
	free(p.arrow);
	return rc;
}
