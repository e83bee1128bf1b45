/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "decode.h"

/* Beyond this a record is from the future: time stamps of two CPUs differ by
 * far less. */
static const uint64_t CLOCK_SKEW = UINT64_C(1) << 24;

void bht_decoding_init(struct bht_decoding *how, const struct bhp_field_info *table, uint32_t n, uint64_t now)
{
	bht_fields_init(&how->fields, table, n);
	for (unsigned i = 0; i < 256; i++)
		how->plain[i] = how->fields.same && how->fields.event[i].described && i != BHP_ID_thread;
	memset(how->text_at, 0, sizeof(how->text_at));
	how->now = now;
}

static uint64_t latest(const struct bht_decoding *how)
{
	return how->now < UINT64_MAX - CLOCK_SKEW ? how->now + CLOCK_SKEW : UINT64_MAX;
}

static unsigned id_of(const struct bhp_record *r)
{
	return r->word[1] & 0xff;
}

static bool is_text(const struct bht_decoder *d, uint64_t at)
{
	return at < d->n && id_of(&d->records[at]) == BHP_ID_TEXT;
}

void bht_decoder_skip_text(struct bht_decoder *d)
{
	for (unsigned i = 0; i < BHP_GROUP_MAX - 1 && is_text(d, d->at); i++)
		d->at++;
}

/* Collects the text records from AT on, at most what one event may have; gives
 * their number. */
static unsigned collect_text(struct bht_decoder *d, uint64_t at)
{
	unsigned n = 0;
	size_t len = 0;

	for (; n < BHP_GROUP_MAX - 1 && is_text(d, at + n); n++) {
		const struct bhp_record *r = &d->records[at + n];
		const size_t part = r->word[1] >> 8 & 0xff;
		if (part > BHP_TEXT_PER_RECORD)
			break;
		memcpy(d->text + len, &r->word[0], part < 8 ? part : 8);
		if (part > 8)
			memcpy(d->text + len + 8, &r->word[2], part - 8);
		len += part;
	}
	d->text[len] = '\0';
	return n;
}

/* How many records follow that have the rest of a text which begins at byte AT. */
static unsigned text_records(unsigned at)
{
	return at ? (at + BHP_TEXT_MAX - 1) / sizeof(struct bhp_record) : 0;
}

/* The same as collect_text() for a text behind the last field of record AT. */
static unsigned take_text(struct bht_decoder *d, uint64_t at, unsigned text_at)
{
	memcpy(d->text, (const char *)&d->records[at] + text_at, BHP_TEXT_MAX);
	d->text[BHP_TEXT_MAX] = '\0';
	return text_records(text_at);
}

/* Record AT, of which R is a copy. */
static enum bht_fields_verdict decode(const struct bht_decoder *d, struct bhp_record *r)
{
	const unsigned text_at = d->how->text_at[id_of(r)];

	if (bhp_record_time(r) > latest(d->how) || text_records(text_at) >= d->n - d->at)
		return BHT_RECORD_NONSENSE;
	if (text_at && text_at < sizeof(*r))
		memset((char *)r + text_at, 0, sizeof(*r) - text_at);
	return bht_fields_apply(&d->how->fields, r);
}

static bool tell_loss(struct bht_decoder *d, uint64_t time, struct bht_event *e)
{
	*e = bht_loss(time, d->tid, d->why, d->lost);
	d->why = 0;
	d->lost = 0;
	return true;
}

static bool next_event(struct bht_decoder *d, struct bht_event *e)
{
	while (d->at < d->n) {
		*e = (struct bht_event){ .r = d->records[d->at] };
		const unsigned text_at = d->how->text_at[id_of(&e->r)];
		enum bht_fields_verdict verdict = decode(d, &e->r);
		if (verdict == BHT_RECORD_OK && d->why)
			return tell_loss(d, bhp_record_time(&e->r), e);
		d->at++;
		if (verdict == BHT_RECORD_NONSENSE) {
			d->why = BHT_LOSS_DAMAGED;
			d->lost++;
			return false;
		}
		d->at += text_at ? take_text(d, d->at - 1, text_at) : collect_text(d, d->at);
		if (verdict == BHT_RECORD_UNKNOWN)
			return false;
		if (bhp_record_id(&e->r) == BHP_ID_thread && d->map)
			d->tid = d->map(d->arg, bhp_decode_thread(&e->r).tid);
		e->tid = d->tid;
		e->text = d->text[0] ? d->text : NULL;
		return true;
	}
	return false;
}

/* The common case, at a few ns a record: events of one record that need no
 * translation. Gives how many. */
static unsigned next_plain(struct bht_decoder *d, struct bht_event *e, unsigned max)
{
	const struct bht_decoding *how = d->how;
	const struct bhp_record *r = &d->records[d->at];
	/* The last one of the window may have a text behind it; where there is more to
	 * come, what is left must show the next event with its text. */
	const uint64_t keep = d->refill ? BHP_GROUP_MAX : 1, left = d->n - d->at;
	const uint64_t most = left < keep ? 0 : left - keep < max ? left - keep : max;
	const uint64_t last = latest(how);
	const uint32_t tid = d->tid;
	unsigned n = 0;

	for (; n < most && how->plain[id_of(&r[n])] && id_of(&r[n + 1]) != BHP_ID_TEXT && r[n].word[0] <= last; n++) {
		e[n].r = r[n];
		e[n].tid = tid;
		e[n].process = 0;
		e[n].text = NULL;
	}
	d->at += n;
	return n;
}

int bht_decoder_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct bht_decoder *d = (struct bht_decoder *)source;
	unsigned n = 0;

	while (n < max) {
		/* The window has to show an event with its text. */
		while (d->refill && d->n - d->at < BHP_GROUP_MAX)
			if (!d->refill(d))
				d->refill = NULL;
		if (!d->why)
			n += next_plain(d, e + n, max - n);
		if (n == max)
			break;
		if (d->at == d->n && !d->refill)
			break;
		if (next_event(d, &e[n]) && e[n++].text)
			return (int)n;
	}
	if (n < max && d->why && d->at == d->n && !d->refill)
		n += tell_loss(d, d->how->now, &e[n]);
	return (int)n;
}

bool bht_find_mark(const struct bht_decoding *how, const struct bhp_record *records, uint64_t n, uint32_t *before)
{
	for (uint64_t i = 0; i < n; i++) {
		struct bhp_record r = records[i];
		if (how->fields.event[id_of(&r)].id != BHP_ID_thread)
			continue;
		bht_fields_apply(&how->fields, &r);
		*before = bhp_decode_thread(&r).previous;
		return true;
	}
	return false;
}

/* --- loss --------------------------------------------------------------------- */

struct loss_source {
	struct bht_source base;
	struct bht_event event;
	bool told;
};

static int loss_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct loss_source *s = (struct loss_source *)source;

	(void)max;
	if (s->told)
		return 0;
	s->told = true;
	*e = s->event;
	return 1;
}

static void loss_close(struct bht_source *source)
{
	free(source);
}

struct bht_source *bht_loss_source(uint64_t time, enum bht_loss_why why, uint64_t count)
{
	struct loss_source *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	*s = (struct loss_source){ .base = { loss_next, loss_close }, .event = bht_loss(time, 0, why, count) };
	return &s->base;
}
