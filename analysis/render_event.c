/* SPDX-License-Identifier: MIT */
/* render_event.c - an event as words; names and fields come from events.def.h */
#include <inttypes.h>
#include <string.h>

#include "render.h"

enum style {
	NUMBER, /* as it is */
	WORDS,  /* the index of a word */
	BITS,   /* a set of words */
	TICKS,  /* a duration of the target's clock */
	NS      /* a duration, -1 for ever */
};

#define NEVER (UINT64_MAX - 1)

/* How a field that is not just a number is shown, and the value that says
 * nothing. */
static const struct look {
	const char *event, *field;
	enum style style;
	uint64_t quiet;
	const char *word[6];
} looks[] = {
	{ "bh_delete", "flags", BITS, 0, { "scheduled", "linked", "idle", "deleted" } },
	{ "bh_cancel", "flags", BITS, 0, { "scheduled", "linked", "idle", "deleted" } },
	{ "schedule", "seen", WORDS, NEVER, { "effective", "coalesced" } },
	{ "schedule", "kind", WORDS, BHP_KIND_NORMAL, { "normal", "idle", "oneshot" } },
	{ "schedule", "took", TICKS, 0, { NULL } },
	{ "schedule", "ticket", NUMBER, 0, { NULL } },
	{ "notify", "notify_me", WORDS, NEVER, { "awake", "sleeping", "notified" } },
	{ "notify", "written", WORDS, NEVER, { "no", "yes", "failed" } },
	{ "accept", "by", WORDS, NEVER, { "poll", "embedder", "other" } },
	{ "poll_begin", "blocking", WORDS, NEVER, { "no", "yes" } },
	{ "poll_begin", "depth", NUMBER, 1, { NULL } },
	{ "poll_end", "progress", WORDS, NEVER, { "no", "yes" } },
	{ "poll_end", "depth", NUMBER, 1, { NULL } },
	{ "wait_begin", "timeout_ns", NS, NEVER, { NULL } },
	{ "wait_end", "woke", BITS, NEVER, { "notifier", "fd", "timeout", "signal" } },
	{ "wait_end", "fd", NUMBER, UINT64_MAX, { NULL } },
	{ "thread", "previous", NUMBER, 0, { NULL } },
	{ "waking", "waker", NUMBER, 0, { NULL } },
	{ "switch_in", "before", NUMBER, 0, { NULL } },
	{ "switch_out", "why", WORDS, NEVER, { "preempted", "asleep", "uninterruptible", "halted", "gone" } },
	{ "switch_out", "after", NUMBER, 0, { NULL } },
	{ "call_begin", "call", WORDS, NEVER, { NULL, "read", "write", "poll", "futex-wait", "futex-wake" } },
	{ "call_begin", "fd", NUMBER, UINT64_MAX, { NULL } },
	{ "call_end", "call", WORDS, NEVER, { NULL, "read", "write", "poll", "futex-wait", "futex-wake" } },
	{ "call_end", "fd", NUMBER, UINT64_MAX, { NULL } },
};

static const struct look *find_look(const char *event, const char *field)
{
	static const struct look plain = { NULL, NULL, NUMBER, NEVER, { NULL } };

	for (size_t i = 0; i < sizeof(looks) / sizeof(*looks); i++)
		if (!strcmp(looks[i].event, event) && !strcmp(looks[i].field, field))
			return &looks[i];
	return &plain;
}

static void set_bits(struct bht_field *f, const char *const word[6])
{
	for (unsigned bit = 0; bit < 4; bit++)
		if (f->value >> bit & 1) {
			if (*f->word)
				strcat(f->word, "+");
			strcat(f->word, word[bit]);
		}
	if (!*f->word)
		strcpy(f->word, "none");
}

static void describe(const char *event, struct bht_field *f)
{
	const struct look *look = find_look(event, f->name);

	f->quiet = f->value == look->quiet;
	if (look->style == BITS)
		set_bits(f, look->word);
	else if (look->style == WORDS && f->value < 6 && look->word[f->value])
		snprintf(f->word, sizeof(f->word), "%s", look->word[f->value]);
}

static uint64_t sign_extend(enum bhp_field_kind kind, uint64_t value)
{
	return kind == BHP_FIELD_i32 ? (uint64_t)(int64_t)(int32_t)(uint32_t)value : value;
}

const char *bht_event_name(unsigned id)
{
	switch (id) {
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	case number:                                                                                                   \
		return #name;
#define BHP_MARK BHP_EVENT
#include "events.def.h"
	case BHT_ID_LOSS:
		return "loss";
	default:
		return "unknown";
	}
}

static unsigned loss_fields(const struct bht_event *e, struct bht_field field[BHP_FIELDS_MAX])
{
	field[0] = (struct bht_field){ .name = "why", .kind = BHP_FIELD_u8, .value = bht_loss_reason(e) };
	snprintf(field[0].word, sizeof(field[0].word), "%s", bht_loss_name(bht_loss_reason(e)));
	field[1] = (struct bht_field){ .name = "count", .kind = BHP_FIELD_u64, .value = bht_loss_count(e) };
	field[1].quiet = !field[1].value;
	return 2;
}

unsigned bht_event_fields(const struct bht_event *e, struct bht_field field[BHP_FIELDS_MAX])
{
	unsigned n = 0;

	switch (bht_event_id(e)) {
#define BHP_F(slot, kind_, name_, doc)                                                                                 \
	field[n++] = (struct bht_field){ .name = #name_,                                                               \
					 .kind = BHP_FIELD_##kind_,                                                    \
					 .value = sign_extend(BHP_FIELD_##kind_, BHP_TO_##kind_(v.name_)) };
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	case number: {                                                                                                 \
		struct bhp_##name v = bhp_decode_##name(&e->r);                                                        \
		fields break;                                                                                          \
	}
#define BHP_MARK BHP_EVENT
#include "events.def.h"
#undef BHP_F
	case BHT_ID_LOSS:
		return loss_fields(e, field);
	default:
		return 0;
	}
	for (unsigned i = 0; i < n; i++) {
		if (field[i].kind == BHP_FIELD_str)
			field[i].text = e->text;
		describe(bht_event_name(bht_event_id(e)), &field[i]);
	}
	return n;
}

static void print_duration(FILE *out, double ns)
{
	if (ns < 1e3)
		fprintf(out, "%.0f ns", ns);
	else if (ns < 1e6)
		fprintf(out, "%.2f us", ns / 1e3);
	else
		fprintf(out, "%.3f ms", ns / 1e6);
}

static const char *name_at(const struct bht_evidence *ev, const char *field, uint64_t addr)
{
	const struct bht_sample *s = &ev->last;

	if (!strcmp(field, "loop")) {
		const struct bht_loop *loop = bht_sample_loop(s, addr);
		return loop ? loop->name : "";
	}
	for (size_t i = 0; !strcmp(field, "bh") && i < s->n_bhs; i++)
		if (s->bhs[i].addr == addr)
			return s->bhs[i].name;
	return "";
}

/* Whether the reader knows this pointer from the finding itself. */
static bool is_known(const struct bht_finding *f, const struct bht_field *v)
{
	return (!strcmp(v->name, "loop") && v->value == f->loop.addr) ||
	       (!strcmp(v->name, "bh") && (!v->value || v->value == f->bh.addr)) ||
	       (!strcmp(v->name, "callback") && v->value == f->bh.callback);
}

static void print_pointer(FILE *out, const struct bht_evidence *ev, const struct bht_field *v)
{
	char safe[4 * BHP_NAME_SIZE];
	const char *name = name_at(ev, v->name, v->value);

	if (*name)
		fprintf(out, "\"%s\"", bht_escape(safe, sizeof(safe), name));
	else
		fprintf(out, "0x%" PRIx64, v->value);
}

static void print_field(FILE *out, const struct bht_evidence *ev, const struct bht_event *e, const struct bht_field *v)
{
	enum style style = find_look(bht_event_name(bht_event_id(e)), v->name)->style;
	char safe[4 * BHP_TEXT_MAX];

	fprintf(out, " %s=", v->name);
	if (*v->word)
		fputs(v->word, out);
	else if (v->kind == BHP_FIELD_ptr)
		print_pointer(out, ev, v);
	else if (v->kind == BHP_FIELD_str)
		fprintf(out, "\"%s\"", bht_escape(safe, sizeof(safe), v->text));
	else if (style == NS && v->value == UINT64_MAX)
		fputs("forever", out);
	else if (style == NS)
		print_duration(out, (double)v->value);
	else if (style == TICKS)
		print_duration(out, bht_since_ns(ev, 0, v->value));
	else if (v->kind == BHP_FIELD_i32 || v->kind == BHP_FIELD_i64)
		fprintf(out, "%" PRId64, (int64_t)v->value);
	else
		fprintf(out, "%" PRIu64, v->value);
}

void bht_event_words(char *dst, size_t size, const struct bht_evidence *ev, const struct bht_finding *f,
		     const struct bht_event *e)
{
	struct bht_field field[BHP_FIELDS_MAX];
	unsigned n = bht_event_fields(e, field);
	FILE *out = fmemopen(dst, size, "w");

	*dst = '\0';
	if (!out)
		return;
	fputs(bht_event_name(bht_event_id(e)), out);
	for (unsigned i = 0; i < n; i++) {
		/* A time in an event is shown by how long before the event it was. */
		if (field[i].quiet || (field[i].kind == BHP_FIELD_str && !field[i].text))
			continue;
		if (field[i].kind == BHP_FIELD_time) {
			fprintf(out, " %s=-", field[i].name);
			print_duration(out, bht_since_ns(ev, field[i].value, bht_time(e)));
		} else if (!is_known(f, &field[i])) {
			print_field(out, ev, e, &field[i]);
		}
	}
	fclose(out);
	dst[size - 1] = '\0';
}
