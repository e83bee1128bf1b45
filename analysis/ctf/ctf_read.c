/* SPDX-License-Identifier: MIT */
/*
 * A stream is read through a window of its file, which holds one packet or, when
 * there are many streams, a part of one. A packet is believed when its sum is right:
 * it is read once for that, and then its events are taken where they lie.
 *
 * What is no packet is passed over, up to the next that is one. Packets count the
 * events before them, so how many are missing is known.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "decode.h"
#include "packet.h"
#include "refuse.h"
#include "ringfile.h"

enum {
	RECORD = sizeof(struct bhp_record),
	HEADER = sizeof(struct bht_ctf_packet),
	WINDOWS = 32 << 20, /* bytes of all streams together, */
	WINDOW_MIN = 512,   /* of each at least */
	WINDOW_MAX = 256 << 10,
	GARBAGE_MAX = 64 << 20 /* bytes that are searched for the next packet */
};

struct trace {
	struct bht_source base;
	struct bht_source *merged; /* NULL: there are no streams */
	int dir;
	struct bht_decoding how;
	uint8_t uuid[16];
	uint64_t window;        /* bytes */
	uint64_t last;          /* time of the last event */
	uint64_t whole, latest; /* as in bht_ctf_until() */
	bool cut;               /* something is missing there */
	bool over;
};

struct stream {
	struct bht_decoder d; /* first; its window is the packet, as far as it was read */
	struct trace *trace;
	struct bht_ctf_key key;
	uint64_t at;        /* of the next packet in the file */
	uint64_t body, end; /* of the decoder's first record, and of the packet */
	uint64_t events, discarded;
	uint64_t until; /* time of the packet's last event */
	bool ended;
	struct bht_event loss[2]; /* to be told before the packet's events */
	unsigned n_losses;
	uint64_t window_at, window_len; /* in the file */
	char *window;
};

/* --- the window ---------------------------------------------------------------------- */

static void fill(struct stream *s)
{
	char name[BHT_CTF_NAME];
	struct stat st;

	s->window_len = 0;
	bht_ctf_stream_name(name, (uint32_t)s->key.stream_instance_id);
	int fd = bht_file_open(s->trace->dir, name, &st, NULL);
	if (fd < 0)
		return;
	while (s->window_len < s->trace->window) {
		const ssize_t n = pread(fd, s->window + s->window_len, s->trace->window - s->window_len,
					(off_t)(s->window_at + s->window_len));
		if (n == 0 || (n < 0 && errno != EINTR))
			break;
		s->window_len += n > 0 ? (uint64_t)n : 0;
	}
	close(fd);
}

/* LEN bytes at AT, at most a window; NULL when the file ends before. */
static const void *load(struct stream *s, uint64_t at, uint64_t len)
{
	if (at < s->window_at || at + len > s->window_at + s->window_len) {
		s->window_at = at;
		fill(s);
	}
	return len <= s->window_len ? s->window + (at - s->window_at) : NULL;
}

/* --- packets ------------------------------------------------------------------------- */

static bool plausible(const struct stream *s, const struct bht_ctf_packet *p)
{
	const uint64_t size = p->packet_size, content = p->content_size;

	return size % (8 * RECORD) == 0 && size >= 8 * HEADER && size <= 8 * BHT_CTF_PACKET && content >= 8 * HEADER &&
	       content <= size && size - content < 8 * BHT_CTF_PAGE && p->events_before >= s->events &&
	       p->events_discarded >= s->discarded;
}

static bool check_sum(struct stream *s, const struct bht_ctf_packet *p)
{
	struct bht_ctf_sum sum = bht_ctf_sum_begin(p);
	const uint64_t end = s->at + p->packet_size / 8;

	for (uint64_t at = s->at + HEADER, len; at < end; at += len) {
		len = end - at < s->trace->window ? end - at : s->trace->window;
		const void *records = load(s, at, len);
		if (!records)
			return false;
		bht_ctf_sum(&sum, records, len / RECORD);
	}
	return bht_ctf_sum_end(&sum) == p->checksum;
}

/* The next packet that is one; false when there is none. */
static bool find_packet(struct stream *s, struct bht_ctf_packet *p)
{
	const uint64_t enough = s->at + GARBAGE_MAX;

	for (uint64_t skip = 0; s->at < enough; s->at += skip) {
		const void *header = load(s, s->at, HEADER);
		skip = RECORD;
		if (!header)
			return false;
		if (memcmp(header, &s->key, sizeof(s->key)) != 0)
			continue;
		memcpy(p, header, HEADER);
		if (!plausible(s, p))
			continue;
		if (check_sum(s, p))
			return true;
		/* As a whole: looking into each again would take for ever. */
		skip = p->packet_size / 8;
	}
	return false;
}

static void tell(struct stream *s, const struct bht_ctf_packet *p, uint32_t tid, unsigned why, uint64_t count)
{
	s->loss[s->n_losses++] = bht_loss(p->timestamp_begin, tid, (enum bht_loss_why)why, count);
}

/* What is missing before P: packets that were passed over, then what it says itself. */
static void tell_losses(struct stream *s, const struct bht_ctf_packet *p)
{
	const unsigned said = p->loss & 0xf, why = said > BHT_LOSS_EARLIER ? BHT_LOSS_DAMAGED : said;
	const uint64_t discarded = p->events_discarded - s->discarded;
	const uint64_t missing = p->events_before - s->events + (why ? 0 : discarded);

	if (missing)
		tell(s, p, 0, BHT_LOSS_DAMAGED, missing);
	if (why)
		tell(s, p, p->tid, why, p->loss & BHT_CTF_COUNTED ? discarded : 0);
}

/* Moves the decoder's window on, to begin with record AT. */
static bool refill(struct bht_decoder *d)
{
	struct stream *s = (struct stream *)d;
	const uint64_t at = s->body + d->at * RECORD, left = s->end - at;
	const uint64_t len = left < s->trace->window ? left : s->trace->window;

	if (len / RECORD == d->n - d->at)
		return false;
	d->records = load(s, at, len);
	d->at = 0;
	d->n = d->records ? len / RECORD : 0;
	s->body = at;
	if (d->records)
		return true;
	/* It was there when the sum was made. */
	s->trace->cut = true;
	d->records = (const struct bhp_record *)s->window;
	return false;
}

/* Whether what the file has from AT on is what a recorder leaves that is killed
 * while it writes, and nothing of it was to be there. */
static bool just_ends(struct stream *s, uint64_t at)
{
	const struct bht_ctf_packet *p = load(s, at, HEADER);

	return s->trace->whole &&
	       (!p || (!memcmp(&p->key, &s->key, sizeof(s->key)) && p->timestamp_begin > s->trace->whole));
}

static bool next_packet(struct stream *s)
{
	const uint64_t at = s->at;
	struct bht_ctf_packet p;

	if (s->ended)
		return false;
	if (!find_packet(s, &p)) {
		s->trace->cut |= !just_ends(s, at);
		s->ended = true;
		return false;
	}
	tell_losses(s, &p);
	s->body = s->at + HEADER;
	s->end = s->at + (p.content_size / 8 + RECORD - 1) / RECORD * RECORD;
	s->at += p.packet_size / 8;
	s->events = p.events_before + p.events;
	s->discarded = p.events_discarded;
	s->until = p.timestamp_end;
	s->ended = p.ended;
	s->d.tid = p.tid;
	s->d.records = (const struct bhp_record *)s->window;
	s->d.at = s->d.n = 0;
	s->d.refill = refill;
	return true;
}

static int stream_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct stream *s = (struct stream *)source;

	for (;;) {
		if (s->n_losses) {
			*e = s->loss[0];
			s->loss[0] = s->loss[1];
			s->n_losses--;
			return 1;
		}
		int n = s->body ? bht_decoder_next(source, e, max) : 0;
		if (n && bht_time(&e[n - 1]) == UINT64_MAX)
			e[n - 1].r.word[0] = s->until; /* of a loss, by the decoder */
		if (n || !next_packet(s))
			return n;
	}
}

static void stream_close(struct bht_source *source)
{
	struct stream *s = (struct stream *)source;

	free(s->window);
	free(s);
}

/* --- the trace ----------------------------------------------------------------------- */

static int trace_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct trace *t = (struct trace *)source;
	int n = t->merged && !t->over ? t->merged->next(t->merged, e, max) : 0;

	t->over = n == 0;
	if (n > 0 && bht_time(&e[n - 1]) > t->last)
		t->last = bht_time(&e[n - 1]);
	if (n || !t->cut)
		return n;
	*e = bht_loss(t->last > t->latest ? t->last : t->latest, 0, BHT_LOSS_DAMAGED, 0);
	t->cut = false;
	return 1;
}

static void trace_close(struct bht_source *source)
{
	struct trace *t = (struct trace *)source;

	if (t->merged)
		t->merged->close(t->merged);
	if (t->dir >= 0)
		close(t->dir);
	free(t);
}

void bht_ctf_until(struct bht_source *history, uint64_t whole, uint64_t latest)
{
	struct trace *t = (struct trace *)history;

	t->whole = whole;
	if (latest)
		t->latest = latest;
}

/* --- opening -------------------------------------------------------------------------- */

static int read_metadata(struct trace *t, const char *path, struct bht_ctf_metadata *m, struct bht_refusal *refusal)
{
	char name[512], *text = calloc(1, BHT_CTF_METADATA_MAX + 1);
	struct bht_refusal why;
	struct stat st;
	int fd = bht_file_open(t->dir, "metadata", &st, &why);
	int rc = fd < 0 ? fd : 0;

	snprintf(name, sizeof(name), "%s/metadata", path);
	if (!rc && (!text || st.st_size > BHT_CTF_METADATA_MAX))
		rc = bht_refuse(&why, text ? -EPROTO : -ENOMEM, 0, "metadata: %s",
				text ? "too long to be that of a recording of bhtrace" : "no memory");
	if (!rc)
		rc = bht_file_read(fd, "metadata", text, (size_t)st.st_size, 0, &why);
	if (fd >= 0)
		close(fd);
	rc = rc ? bht_refuse(refusal, rc, why.addr, "%s/%s", path, why.why)
		: bht_ctf_metadata_parse(text, (size_t)st.st_size, name, m, refusal);
	free(text);
	return rc;
}

/* A schema that is ours needs no translation, whatever the order of its fields. */
static void init_decoding(struct trace *t, struct bht_ctf_metadata *m)
{
	struct bht_ctf_metadata ours;
	struct bht_ctf_layout layout;

	bht_ctf_layout(m, &layout);
	bht_ctf_schema(&ours);
	if (m->n_fields == ours.n_fields && !memcmp(m->field, ours.field, m->n_fields * sizeof(m->field[0])))
		bhp_schema(m->field);
	bht_decoding_init(&t->how, m->field, m->n_fields, UINT64_MAX);
	memcpy(t->how.text_at, layout.text_at, sizeof(layout.text_at));
	for (unsigned i = 0; i < 256; i++)
		t->how.plain[i] &= !layout.text_at[i];
}

static int by_number(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The numbers of the streams, in order; *ALL, owned by the caller, has N. */
static int list_streams(struct trace *t, const char *path, uint32_t **all, size_t *n, struct bht_refusal *refusal)
{
	char name[BHT_CTF_NAME];
	int fd = fcntl(t->dir, F_DUPFD_CLOEXEC, 0), rc = 0;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		rc = bht_refuse(refusal, -errno, 0, "%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	for (struct dirent *e; !rc && (e = readdir(dir));) {
		const unsigned long number = strncmp(e->d_name, "stream-", 7) ? 0 : strtoul(e->d_name + 7, NULL, 10);
		bht_ctf_stream_name(name, (uint32_t)number);
		if (strcmp(e->d_name, name) != 0)
			continue;
		if (number >= BHT_CTF_STREAMS_MAX)
			rc = bht_refuse(refusal, -EBADMSG, 0, "%s/%s: a number that no stream has", path, name);
		else if (!bht_room_for_one(all, *n, sizeof(**all)))
			rc = bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", path);
		else
			(*all)[(*n)++] = (uint32_t)number;
	}
	closedir(dir);
	if (*n)
		qsort(*all, *n, sizeof(**all), by_number);
	t->cut = !*n || *n != (*all)[*n - 1] + 1;
	return rc;
}

/* NULL with errno and the refusal. */
static struct bht_source *open_stream(struct trace *t, const char *path, uint32_t number, struct bht_refusal *refusal)
{
	struct bht_refusal why;
	char name[BHT_CTF_NAME];
	struct stat st;

	bht_ctf_stream_name(name, number);
	int fd = bht_file_open(t->dir, name, &st, &why);
	if (fd < 0) {
		bht_refuse(refusal, fd, 0, "%s/%s", path, why.why);
		errno = -fd;
		return NULL;
	}
	close(fd);
	struct stream *s = calloc(1, sizeof(*s));
	char *window = malloc(t->window);
	if (!s || !window) {
		free(s);
		free(window);
		bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", path);
		errno = ENOMEM;
		return NULL;
	}
	*s = (struct stream){ .d = { .base = { stream_next, stream_close }, .how = &t->how },
			      .trace = t,
			      .key = { .magic = BHT_CTF_MAGIC, .stream_instance_id = number },
			      .window = window };
	memcpy(s->key.uuid, t->uuid, sizeof(t->uuid));
	return &s->d.base;
}

static int open_streams(struct trace *t, const char *path, const uint32_t *number, size_t n,
			struct bht_refusal *refusal)
{
	const uint64_t window = WINDOWS / (n + 1) / RECORD * RECORD;
	struct bht_source **sources = calloc(n + 1, sizeof(*sources));
	unsigned opened = 0;
	int rc = 0;

	if (!sources)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", path);
	t->window = window < WINDOW_MIN ? WINDOW_MIN : window > WINDOW_MAX ? WINDOW_MAX : window;
	while (opened < n && (sources[opened] = open_stream(t, path, number[opened], refusal)))
		opened++;
	if (opened < n) {
		rc = -errno;
		while (opened > 0) {
			opened--;
			sources[opened]->close(sources[opened]);
		}
	} else if (n) {
		t->merged = bht_merge(sources, opened);
		rc = t->merged ? 0 : bht_refuse(refusal, -errno, 0, "%s: %s", path, strerror(errno));
	}
	free(sources);
	return rc;
}

static int open_trace(struct trace *t, int dir, const char *name, const char *path, struct bht_ctf_about *about,
		      struct bht_refusal *refusal)
{
	struct bht_ctf_metadata m = { .n_fields = 0 };
	uint32_t *number = NULL;
	size_t n = 0;

	t->dir = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (t->dir < 0)
		return bht_refuse(refusal, -errno, 0, "%s: %s", path, strerror(errno));
	int rc = read_metadata(t, path, &m, refusal);
	if (rc)
		return rc;
	*about = m.about;
	t->latest = about->clock.ticks;
	memcpy(t->uuid, m.uuid, sizeof(t->uuid));
	init_decoding(t, &m);
	rc = list_streams(t, path, &number, &n, refusal);
	if (!rc)
		rc = open_streams(t, path, number, n, refusal);
	free(number);
	return rc;
}

int bht_ctf_open(int dir, const char *name, const char *path, struct bht_ctf_about *about, struct bht_source **history,
		 struct bht_refusal *refusal)
{
	struct trace *t = calloc(1, sizeof(*t));
	char of[400];

	*history = NULL;
	if (!t)
		return bht_refuse(refusal, -ENOMEM, 0, "%s/%s: no memory", path, name);
	snprintf(of, sizeof(of), "%s/%s", path, name);
	t->base = (struct bht_source){ trace_next, trace_close };
	t->dir = -1;
	int rc = open_trace(t, dir, name, of, about, refusal);
	if (rc)
		trace_close(&t->base);
	else
		*history = &t->base;
	return rc;
}
