/* SPDX-License-Identifier: MIT */
/*
 * The metadata is read loosely: values are looked for behind the words before them.
 * Then it is printed again, and what differs is refused. So there is one description
 * of the format, and nothing in it that was not looked at.
 *
 * A structure is aligned as its strictest field is, and starts there. So fields are
 * bytes after bytes without alignment of their own: the structure as a whole begins
 * where its first field lies, and each field reaches to the next.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "packet.h"
#include "refuse.h"

enum { EVENT_HEADER = 72 /* bits */, EXPECTED = 48 /* bytes shown */, NAME = 16 };

static const struct {
	const char *name;
	uint16_t at, width; /* bits */
} slots[] = {
#define SLOT(name, w, shift, width) [BHP_SLOT_##name] = { #name, (w)*64 + (shift), width },
	BHP_SLOT_LIST(SLOT)
#undef SLOT
		[BHP_SLOT_TEXT] = { "TEXT", 0, 8 },
};

#define KIND(name, properties) [BHP_FIELD_##name] = { #name, properties }
static const struct {
	const char *name, *properties;
} kinds[] = { KIND(ptr, "base = 16; "),
	      KIND(str, "encoding = UTF8; "),
	      KIND(u8, ""),
	      KIND(u16, ""),
	      KIND(u32, ""),
	      KIND(i32, "signed = true; "),
	      KIND(u64, ""),
	      KIND(i64, "signed = true; "),
	      KIND(time, "") };
#undef KIND

enum { SLOTS = sizeof(slots) / sizeof(slots[0]), KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* --- where fields lie -------------------------------------------------------------- */

static bool same_event(const struct bht_ctf_metadata *m, uint32_t a, uint32_t b)
{
	return a < m->n_fields && b < m->n_fields && m->field[a].event == m->field[b].event;
}

static unsigned end_of(const struct bhp_field_info *f)
{
	return slots[f->slot].at + slots[f->slot].width;
}

/* The bits from field I to the next of its event. */
static unsigned bits_of(const struct bht_ctf_metadata *m, uint32_t i)
{
	const struct bhp_field_info *f = &m->field[i], *next = f + 1;

	if (f->slot == BHP_SLOT_TEXT || !same_event(m, i, i + 1))
		return slots[f->slot].width;
	return (next->slot == BHP_SLOT_TEXT ? (end_of(f) + 7) & ~7u : slots[next->slot].at) - slots[f->slot].at;
}

static bool place(const struct bhp_field_info *f, struct bht_ctf_layout *layout)
{
	uint16_t *end = &layout->bits[f->event];

	if (!*end)
		*end = EVENT_HEADER;
	if (layout->text_at[f->event] || f->event == 0 || f->event >= BHT_ID_LOSS)
		return false;
	if (f->slot == BHP_SLOT_TEXT) {
		layout->text_at[f->event] = (uint8_t)((*end + 7) / 8);
		*end = (uint16_t)((layout->text_at[f->event] + BHP_TEXT_MAX) * 8);
		return true;
	}
	if (slots[f->slot].at < *end)
		return false;
	*end = (uint16_t)end_of(f);
	return true;
}

bool bht_ctf_layout(const struct bht_ctf_metadata *m, struct bht_ctf_layout *layout)
{
	memset(layout, 0, sizeof(*layout));
	for (uint32_t i = 0; i < m->n_fields; i++)
		if ((layout->bits[m->field[i].event] && !same_event(m, i, i - 1)) || !place(&m->field[i], layout))
			return false;
	return true;
}

static uint32_t count_events(const struct bht_ctf_metadata *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->n_fields; i++)
		n += !i || !same_event(m, i, i - 1);
	return n;
}

void bht_ctf_schema(struct bht_ctf_metadata *m)
{
	struct bhp_field_info *f = m->field;

	memset(f, 0, sizeof(m->field));
	m->n_fields = bhp_schema(f);
	m->n_events = count_events(m);
	for (uint32_t i = 1; i < m->n_fields; i++)
		for (uint32_t k = i; k > 0 && same_event(m, k, k - 1) && f[k - 1].slot != f[k].slot &&
				     (f[k - 1].slot == BHP_SLOT_TEXT ||
				      (f[k].slot != BHP_SLOT_TEXT && slots[f[k - 1].slot].at > slots[f[k].slot].at));
		     k--) {
			const struct bhp_field_info later = f[k - 1];
			f[k - 1] = f[k];
			f[k] = later;
		}
}

/* --- printing ---------------------------------------------------------------------- */

static void print_string(FILE *out, const char *name, const char *text, size_t size)
{
	fprintf(out, "\t%s = \"", name);
	for (size_t i = 0; i < size && text[i]; i++) {
		const unsigned char c = (unsigned char)text[i];
		fprintf(out, c < ' ' || c >= 0x7f || c == '"' || c == '\\' ? "\\%03o" : "%c", c);
	}
	fputs("\";\n", out);
}

static void print_env(FILE *out, const struct bht_ctf_metadata *m)
{
	const struct bht_ctf_about *a = &m->about;
	uint64_t rate;

	memcpy(&rate, &a->ticks_per_ns, sizeof(rate));
	fputs("env {\n\ttracer_name = \"bhtrace\";\n\ttracer_format = 1;\n", out);
	print_string(out, "hostname", a->hostname, sizeof(a->hostname));
	print_string(out, "machine", m->machine, sizeof(m->machine));
	print_string(out, "command", a->command, sizeof(a->command));
	print_string(out, "build_id", a->build_id, sizeof(a->build_id));
	/* Recordings that do not say these two are older. */
	if (m->n_events)
		fprintf(out, "\tevents = %" PRIu32 ";\n", m->n_events);
	if (a->recorder != BHT_BY_FLIGHT)
		print_string(out, "recorder", bht_recorder_name(a->recorder), NAME);
	fprintf(out, "\tpid = %" PRIu32 ";\n\tticks_per_ns_bits = 0x%" PRIx64 ";\n", a->pid, rate);
	fprintf(out, "\tclock_ticks = %" PRIu64 ";\n\tclock_monotonic_ns = %" PRIu64 ";\n", a->clock.ticks,
		a->clock.mono_ns);
	fprintf(out, "\tclock_realtime_ns = %" PRIu64 ";\n};\n\n", a->realtime_ns);
}

static void print_trace(FILE *out, const uint8_t uuid[16])
{
	fputs("typealias integer { size = 8; align = 8; } := uint8_t;\n"
	      "typealias integer { size = 16; align = 16; } := uint16_t;\n"
	      "typealias integer { size = 32; align = 32; } := uint32_t;\n"
	      "typealias integer { size = 64; align = 64; } := uint64_t;\n"
	      "typealias integer { size = 64; align = 64; base = 16; } := sum_t;\n"
	      "typealias integer { size = 4; align = 1; } := half_t;\n\n"
	      "trace {\n\tmajor = 1;\n\tminor = 8;\n\tuuid = \"",
	      out);
	for (unsigned i = 0; i < 16; i++)
		fprintf(out, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
	fputs("\";\n\tbyte_order = le;\n\tpacket.header := struct {\n"
	      "\t\tuint32_t magic;\n\t\tuint8_t uuid[16];\n\t\tuint32_t stream_id;\n"
	      "\t\tuint64_t stream_instance_id;\n\t};\n};\n\n",
	      out);
}

/* The clock begins at the Epoch: what it showed at the one instant that is known. */
static void print_clock(FILE *out, const struct bht_ctf_about *a)
{
	const uint64_t second = 1000000000, freq = (uint64_t)(a->ticks_per_ns * 1e9);
	const uint64_t now_s = a->realtime_ns / second, ticks = freq ? a->clock.ticks % freq : 0;
	uint64_t ago_s = freq ? a->clock.ticks / freq : 0;
	uint64_t now = (uint64_t)((unsigned __int128)(a->realtime_ns % second) * freq / second);

	if (now < ticks) {
		now += freq;
		ago_s++;
	}
	fprintf(out,
		"clock {\n\tname = \"ticks\";\n\tdescription = \"bhp_clock()\";\n\tfreq = %" PRIu64
		";\n\toffset_s = %" PRIu64 ";\n\toffset = %" PRIu64 ";\n\tabsolute = true;\n};\n\n",
		freq, now_s > ago_s ? now_s - ago_s : 0, now - ticks);
}

static void print_stream(FILE *out)
{
	fputs("typealias integer { size = 64; align = 64; map = clock.ticks.value; } := ticks_t;\n\n"
	      "stream {\n\tid = 0;\n\tpacket.context := struct {\n"
	      "\t\tticks_t timestamp_begin;\n\t\tticks_t timestamp_end;\n"
	      "\t\tuint64_t content_size;\n\t\tuint64_t packet_size;\n"
	      "\t\tuint64_t events_before;\n\t\tuint64_t events_discarded;\n\t\tsum_t checksum;\n"
	      "\t\tuint32_t tid;\n\t\tuint16_t events;\n"
	      "\t\thalf_t loss_why;\n\t\thalf_t loss_counted;\n\t\tuint8_t ended;\n\t};\n"
	      "\tevent.header := struct {\n\t\tticks_t timestamp;\n\t\tuint8_t id;\n\t} align(256);\n};\n\n",
	      out);
}

/* BH_ptr_64 and so on: slot, kind, bits. */
static void print_type(FILE *out, const struct bht_ctf_metadata *m, uint32_t i)
{
	fprintf(out, "%s_%s_%u", slots[m->field[i].slot].name, kinds[m->field[i].kind].name, bits_of(m, i));
}

static void print_types(FILE *out, const struct bht_ctf_metadata *m)
{
	for (uint32_t i = 0; i < m->n_fields; i++) {
		const struct bhp_field_info *f = &m->field[i];
		uint32_t k = 0;
		while (m->field[k].slot != f->slot || m->field[k].kind != f->kind || bits_of(m, k) != bits_of(m, i))
			k++;
		if (k < i)
			continue;
		fprintf(out, "typealias integer { size = %u; align = %d; %s} := ", bits_of(m, i),
			f->slot == BHP_SLOT_T0 || f->slot == BHP_SLOT_T1 ? 1 : 8, kinds[f->kind].properties);
		print_type(out, m, i);
		fputs(";\n", out);
	}
}

/* The event whose fields begin with FIRST; gives where the next one's begin. */
static uint32_t print_event(FILE *out, const struct bht_ctf_metadata *m, uint32_t first)
{
	const struct bhp_field_info *f = &m->field[first];
	const unsigned at = f->slot == BHP_SLOT_TEXT ? EVENT_HEADER : slots[f->slot].at;
	uint32_t i = first;

	fprintf(out, "\nevent {\n\tname = \"bh:%.*s\";\n\tid = %u;\n\tstream_id = 0;\n\tfields := struct {\n",
		(int)sizeof(f->event_name), f->event_name, f->event);
	do {
		fputs("\t\t", out);
		print_type(out, m, i);
		fprintf(out, " %.*s", (int)sizeof(f->name), m->field[i].name);
		if (m->field[i].slot == BHP_SLOT_TEXT)
			fprintf(out, "[%d]", BHP_TEXT_MAX);
		fputs(";\n", out);
	} while (same_event(m, first, ++i));
	/* The lowest bit: where it lies is the next multiple of that. */
	fprintf(out, "\t} align(%u);\n};\n", at & -at);
	return i;
}

void bht_ctf_metadata_print(FILE *out, const struct bht_ctf_metadata *m)
{
	fputs("/* CTF 1.8 */\n\n", out);
	print_env(out, m);
	print_trace(out, m->uuid);
	print_clock(out, &m->about);
	print_stream(out);
	print_types(out, m);
	for (uint32_t i = 0; i < m->n_fields;)
		i = print_event(out, m, i);
}

/* --- reading ----------------------------------------------------------------------- */

static const char *behind(const char *text, const char *words)
{
	const char *at = strstr(text, words);

	return at ? at + strlen(words) : "";
}

static uint64_t number(const char *text, const char *words)
{
	return strtoull(behind(text, words), NULL, 0);
}

static void parse_string(const char *text, const char *words, char *to, size_t size)
{
	const char *from = behind(text, words);

	for (size_t i = 0; i + 1 < size && *from && *from != '"'; i++) {
		unsigned octal;
		int len;
		if (sscanf(from, "\\%3o%n", &octal, &len) == 1) {
			to[i] = (char)octal;
			from += len;
		} else {
			to[i] = *from++;
		}
	}
}

static enum bht_recorder parse_recorder(const char *text)
{
	enum bht_recorder r = BHT_BY_FLIGHT;
	char name[NAME] = "";

	parse_string(text, "\trecorder = \"", name, sizeof(name));
	while (++r < BHT_RECORDERS)
		if (!strcmp(name, bht_recorder_name(r)))
			return r;
	return BHT_BY_FLIGHT;
}

static void parse_env(const char *text, struct bht_ctf_metadata *m)
{
	struct bht_ctf_about *a = &m->about;
	const uint64_t rate = number(text, "\tticks_per_ns_bits = ");

	memcpy(&a->ticks_per_ns, &rate, sizeof(rate));
	if (!(a->ticks_per_ns > 0.001 && a->ticks_per_ns < 100))
		a->ticks_per_ns = 0;
	parse_string(text, "\thostname = \"", a->hostname, sizeof(a->hostname));
	parse_string(text, "\tmachine = \"", m->machine, sizeof(m->machine));
	parse_string(text, "\tcommand = \"", a->command, sizeof(a->command));
	parse_string(text, "\tbuild_id = \"", a->build_id, sizeof(a->build_id));
	a->recorder = parse_recorder(text);
	a->pid = (uint32_t)number(text, "\tpid = ");
	a->clock.ticks = number(text, "\tclock_ticks = ");
	a->clock.mono_ns = number(text, "\tclock_monotonic_ns = ");
	a->realtime_ns = number(text, "\tclock_realtime_ns = ");
}

static void parse_uuid(const char *text, uint8_t uuid[16])
{
	const char *at = behind(text, "\tuuid = \"");

	int len;

	for (unsigned i = 0; i < 16 && sscanf(at, "%2hhx%n", &uuid[i], &len) == 1; i++)
		at += len + (at[len] == '-');
}

/* "\t\tLOOP_ptr_48 loop;" */
static bool parse_field(const char *line, struct bhp_field_info *f)
{
	char slot[8], kind[8], name[sizeof(f->name) + 1] = "";

	if (sscanf(line, "\t\t%7[A-Z0-9]_%7[a-z0-9]_%*u %14[a-z0-9_]", slot, kind, name) != 3)
		return false;
	while (f->slot < SLOTS && strcmp(slots[f->slot].name, slot) != 0)
		f->slot++;
	while (f->kind < KINDS && strcmp(kinds[f->kind].name, kind) != 0)
		f->kind++;
	memcpy(f->name, name, sizeof(f->name));
	return f->slot < SLOTS && f->kind < KINDS;
}

static void parse_events(const char *text, struct bht_ctf_metadata *m)
{
	static const char begin[] = "\nevent {\n\tname = \"bh:";

	while (*(text = behind(text, begin))) {
		struct bhp_field_info event = { .event = (uint8_t)number(text, "\tid = ") };
		memcpy(event.event_name, text, strnlen(text, sizeof(event.event_name)));
		char *end = memchr(event.event_name, '"', sizeof(event.event_name));
		if (end)
			memset(end, 0, sizeof(event.event_name) - (size_t)(end - event.event_name));
		const char *line = behind(text, "struct {\n");
		for (; m->n_fields < BHP_FIELD_INFO_MAX; m->n_fields++) {
			m->field[m->n_fields] = event;
			if (!parse_field(line, &m->field[m->n_fields]))
				break;
			line = behind(line, "\n");
		}
	}
}

static int compare(const char *text, size_t len, const char *path, const struct bht_ctf_metadata *m,
		   struct bht_refusal *refusal)
{
	char *ours = NULL;
	size_t size = 0, at = 0;
	FILE *out = open_memstream(&ours, &size);
	int rc = 0;

	if (!out)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", path);
	bht_ctf_metadata_print(out, m);
	if (fclose(out)) {
		free(ours);
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", path);
	}
	while (at < len && at < size && text[at] == ours[at])
		at++;
	const int shown = at < size ? (int)strcspn(ours + at, "\n") : 0;
	if (at < size)
		rc = bht_refuse(refusal, -EBADMSG, at, "%s: offset %zu: %s \"%.*s\"", path, at,
				at < len ? "damaged, here should be" : "it ends, here should be",
				shown < EXPECTED ? shown : EXPECTED, ours + at);
	else if (at < len)
		rc = bht_refuse(refusal, -EBADMSG, at, "%s: offset %zu: more than was expected", path, at);
	free(ours);
	return rc;
}

int bht_ctf_metadata_parse(const char *text, size_t len, const char *path, struct bht_ctf_metadata *m,
			   struct bht_refusal *refusal)
{
	struct bht_ctf_layout layout;

	memset(m, 0, sizeof(*m));
	if (!len)
		return bht_refuse(refusal, -EBADMSG, 0, "%s: offset 0: it is empty, writing it was interrupted", path);
	if (!strstr(text, "\ttracer_name = \"bhtrace\";\n"))
		return bht_refuse(refusal, -EPROTO, 0, "%s: no recording of bhtrace", path);
	if (!strstr(text, "\ttracer_format = 1;\n"))
		return bht_refuse(refusal, -EPROTO, 0, "%s: of another format than 1", path);
	if (strstr(text, "\tbyte_order = be;\n"))
		return bht_refuse(refusal, -EPROTO, (uint64_t)(strstr(text, "\tbyte_order = be;\n") - text),
				  "%s: of a machine with another byte order", path);
	parse_env(text, m);
	m->n_events = (uint32_t)number(text, "\tevents = ");
	parse_uuid(text, m->uuid);
	parse_events(text, m);
	int rc = compare(text, len, path, m, refusal);
	if (!rc && !m->about.ticks_per_ns)
		rc = bht_refuse(refusal, -EBADMSG, 0, "%s: a clock without a rate", path);
	if (!rc && m->n_events && m->n_events != count_events(m))
		rc = bht_refuse(refusal, -EBADMSG, len, "%s: offset %zu: it ends, with %" PRIu32 " events of %" PRIu32,
				path, len, count_events(m), m->n_events);
	if (!rc && (!m->n_fields || !bht_ctf_layout(m, &layout)))
		rc = bht_refuse(refusal, -EBADMSG, len,
				"%s: offset %zu: no fields before it, or such that fit no record", path, len);
	return rc;
}
