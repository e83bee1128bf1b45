/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "array.h"
#include "packet.h"
#include "refuse.h"

/* In records: a page, and what is written at once. */
enum { PAGE = BHT_CTF_PAGE / sizeof(struct bhp_record), BUFFER = BHT_CTF_PACKET / sizeof(struct bhp_record) };
enum { SYNCED_EACH = 8 /* streams */ };

struct bht_ctf_writer {
	int dir;
	char *path;    /* of the trace, for messages */
	uint64_t made; /* ticks */
	struct bht_ctf_key key;
	struct bht_ctf_layout layout;
	struct bht_ctf_stream **stream;
	uint32_t n_streams;
	struct bht_ctf_count count;
};

struct bht_ctf_stream {
	struct bht_ctf_writer *w;
	struct bht_ctf_packet p;      /* the packet at hand, or the last one */
	struct bhp_record *record;    /* room for packets that are not written yet, or NULL: there are none */
	unsigned n, at;               /* of the records; where the packet at hand begins, n when there is none */
	uint64_t offset;              /* in the file, behind what was written */
	uint64_t last;                /* time */
	uint64_t written, discarded;  /* events, as the file has them */
	struct bht_ctf_packet unsaid; /* what could not be written: events_discarded, tid, loss */
};

/* --- files ------------------------------------------------------------------------- */

static int write_all(int fd, const void *from, size_t len, uint64_t offset)
{
	for (size_t done = 0; done < len;) {
		const ssize_t n = pwrite(fd, (const char *)from + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int open_stream(const struct bht_ctf_stream *s, int flags)
{
	char name[BHT_CTF_NAME];

	bht_ctf_stream_name(name, (uint32_t)s->p.key.stream_instance_id);
	int fd = openat(s->w->dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
	return fd < 0 ? -errno : fd;
}

static int refuse(const struct bht_ctf_writer *w, const char *name, int error, struct bht_refusal *refusal)
{
	return bht_refuse(refusal, error, 0, "%s/%s: %s", w->path, name, strerror(-error));
}

static int write_metadata(const struct bht_ctf_writer *w, const struct bht_ctf_metadata *m, struct bht_refusal *refusal)
{
	char *text = NULL;
	size_t size = 0;
	int fd = -1, rc = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return refuse(w, "metadata", -ENOMEM, refusal);
	bht_ctf_metadata_print(out, m);
	if (fclose(out))
		rc = -ENOMEM;
	if (!rc) {
		fd = openat(w->dir, "metadata", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		rc = fd < 0 ? -errno : write_all(fd, text, size, 0);
	}
	if (!rc && fsync(fd))
		rc = -errno;
	if (fd >= 0)
		close(fd);
	free(text);
	return rc ? refuse(w, "metadata", rc, refusal) : 0;
}

/* --- making ------------------------------------------------------------------------ */

static int fill_metadata(struct bht_ctf_metadata *m, const struct bht_ctf_about *about)
{
	struct utsname machine;

	memset(m, 0, sizeof(*m));
	m->about = *about;
	if (!uname(&machine))
		snprintf(m->machine, sizeof(m->machine), "%s", machine.machine);
	bht_ctf_schema(m);
	if (getrandom(m->uuid, sizeof(m->uuid), 0) != sizeof(m->uuid))
		return -EIO;
	m->uuid[6] = (m->uuid[6] & 0x0f) | 0x40; /* RFC 4122: version 4, */
	m->uuid[8] = (m->uuid[8] & 0x3f) | 0x80; /* and variant 1 */
	return 0;
}

static int make(struct bht_ctf_writer *w, int dir, const char *name, const struct bht_ctf_about *about,
		struct bht_refusal *refusal)
{
	struct bht_ctf_metadata m;
	int rc = fill_metadata(&m, about);

	if (rc)
		return bht_refuse(refusal, rc, 0, "%s: no random numbers", w->path);
	if (!bht_ctf_layout(&m, &w->layout))
		return bht_refuse(refusal, -EINVAL, 0, "%s: the schema does not fit its records", w->path);
	w->key = (struct bht_ctf_key){ .magic = BHT_CTF_MAGIC };
	memcpy(w->key.uuid, m.uuid, sizeof(m.uuid));
	if (mkdirat(dir, name, 0700))
		return bht_refuse(refusal, -errno, 0, "%s: %s", w->path, strerror(errno));
	w->dir = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	rc = w->dir < 0 ? bht_refuse(refusal, -errno, 0, "%s: %s", w->path, strerror(errno))
			: write_metadata(w, &m, refusal);
	if (rc)
		bht_ctf_remove(dir, name);
	return rc;
}

static void release(struct bht_ctf_writer *w)
{
	for (uint32_t i = 0; i < w->n_streams; i++) {
		free(w->stream[i]->record);
		free(w->stream[i]);
	}
	free(w->stream);
	if (w->dir >= 0)
		close(w->dir);
	free(w->path);
	free(w);
}

struct bht_ctf_writer *bht_ctf_create(int dir, const char *name, const char *path, const struct bht_ctf_about *about,
				      struct bht_refusal *refusal)
{
	struct bht_ctf_writer *w = calloc(1, sizeof(*w));

	if (!w || asprintf(&w->path, "%s/%s", path, name) < 0) {
		free(w);
		bht_refuse(refusal, -ENOMEM, 0, "%s/%s: no memory", path, name);
		errno = ENOMEM;
		return NULL;
	}
	w->dir = -1;
	w->made = about->clock.ticks;
	int rc = make(w, dir, name, about, refusal);
	if (!rc)
		return w;
	release(w);
	errno = -rc;
	return NULL;
}

static int add(struct bht_ctf_writer *w, struct bht_ctf_stream *s, struct bht_refusal *refusal)
{
	char name[BHT_CTF_NAME];

	if (w->n_streams == BHT_CTF_STREAMS_MAX)
		return bht_refuse(refusal, -E2BIG, 0, "%s: more than %d streams", w->path, BHT_CTF_STREAMS_MAX);
	if (!s || !bht_room_for_one(&w->stream, w->n_streams, sizeof(struct bht_ctf_stream *)))
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", w->path);
	*s = (struct bht_ctf_stream){ .w = w, .p.key = w->key };
	s->p.key.stream_instance_id = w->n_streams;
	bht_ctf_stream_name(name, w->n_streams);
	int fd = open_stream(s, O_CREAT | O_EXCL);
	if (fd < 0)
		return refuse(w, name, fd, refusal);
	close(fd);
	w->stream[w->n_streams++] = s;
	return 0;
}

struct bht_ctf_stream *bht_ctf_add(struct bht_ctf_writer *w, struct bht_refusal *refusal)
{
	struct bht_ctf_stream *s = calloc(1, sizeof(*s));
	int rc = add(w, s, refusal);

	if (!rc)
		return s;
	free(s);
	errno = -rc;
	return NULL;
}

/* --- packets ------------------------------------------------------------------------ */

/* Records up to the end of the page; none when the packet at hand has reached it. */
static unsigned room(const struct bht_ctf_stream *s)
{
	const unsigned used = (unsigned)((s->offset / sizeof(*s->record) + s->n) % PAGE);

	return used || s->at == s->n ? PAGE - used : 0;
}

/* The packet at hand is complete. The rest of a page that is too short for another one belongs to it. */
static void seal(struct bht_ctf_stream *s)
{
	struct bht_ctf_sum sum;

	if (s->at == s->n)
		return;
	if (room(s) < BHT_CTF_HEADER + BHP_GROUP_MAX) {
		memset(s->record + s->n, 0, room(s) * sizeof(*s->record));
		s->n += room(s);
	}
	s->p.packet_size = (s->n - s->at) * sizeof(*s->record) * 8;
	sum = bht_ctf_sum_begin(&s->p);
	bht_ctf_sum(&sum, s->record + s->at + BHT_CTF_HEADER, s->n - s->at - BHT_CTF_HEADER);
	s->p.checksum = bht_ctf_sum_end(&sum);
	memcpy(s->record + s->at, &s->p, sizeof(s->p));
	s->at = s->n;
}

/* Begins a packet without events, at hand. */
static void begin_packet(struct bht_ctf_stream *s, uint32_t tid, uint64_t time)
{
	const bool first = !s->n;

	s->at = s->n;
	s->n += BHT_CTF_HEADER;
	s->p = (struct bht_ctf_packet){ .key = s->p.key,
					.timestamp_begin = time,
					.timestamp_end = time,
					.content_size = sizeof(s->p) * 8,
					.events_before = first ? s->written : s->p.events_before + s->p.events,
					.events_discarded = first ? s->discarded : s->p.events_discarded,
					.tid = tid };
}

/* The same in a buffer. Before it, one that tells of those that could not be written. */
static int begin(struct bht_ctf_stream *s, uint32_t tid, uint64_t time)
{
	if (!s->record) {
		s->n = s->at = 0;
		s->record = malloc(BHT_CTF_PACKET);
		if (!s->record) {
			s->p = (struct bht_ctf_packet){ .key = s->p.key, .events_discarded = s->discarded, .tid = tid };
			return -ENOMEM;
		}
		if (s->unsaid.events_discarded) {
			begin_packet(s, s->unsaid.tid, time);
			s->p.loss = s->unsaid.loss;
			s->p.events_discarded += s->unsaid.events_discarded;
			s->unsaid.events_discarded = 0;
			seal(s);
		}
	}
	begin_packet(s, tid, time);
	return 0;
}

/* BEFORE it so many were discarded. */
static void not_written(struct bht_ctf_stream *s, const struct bht_ctf_packet *p, uint64_t before)
{
	struct bht_ctf_packet *u = &s->unsaid;

	if (!u->events_discarded) {
		u->tid = p->tid;
		u->loss = BHT_LOSS_DROPPED | BHT_CTF_COUNTED;
	}
	if (u->tid != p->tid)
		u->tid = 0;
	if (p->loss && !(p->loss & BHT_CTF_COUNTED))
		u->loss = BHT_LOSS_DROPPED;
	u->events_discarded += p->events_discarded - before + p->events;
	s->w->count.discarded += p->events;
}

/* What was WRITTEN of the buffer, or was not. */
static void account(struct bht_ctf_stream *s, bool written)
{
	uint64_t before = s->discarded;
	struct bht_ctf_packet p;

	for (unsigned i = 0; i < s->n; i += p.packet_size / 8 / sizeof(*s->record)) {
		memcpy(&p, s->record + i, sizeof(p));
		if (!written) {
			not_written(s, &p, before);
		} else {
			s->written += p.events;
			s->discarded = p.events_discarded;
			s->w->count.events += p.events;
		}
		before = p.events_discarded;
	}
}

static int write_buffer(struct bht_ctf_stream *s)
{
	const size_t size = s->n * sizeof(*s->record);
	int fd = open_stream(s, 0);

	if (fd < 0)
		return fd;
	int rc = write_all(fd, s->record, size, s->offset);
	/* Some packets of them are none; the next ones take their place. */
	if (rc && ftruncate(fd, (off_t)s->offset))
		rc = -errno;
	if (close(fd) && !rc)
		rc = -errno;
	if (rc)
		return rc;
	s->offset += size;
	s->w->count.bytes += size;
	return 0;
}

int bht_ctf_flush(struct bht_ctf_stream *s)
{
	if (!s->record)
		return 0;
	seal(s);
	const int rc = write_buffer(s);
	account(s, !rc);
	free(s->record);
	s->record = NULL;
	return rc;
}

static int put_loss(struct bht_ctf_stream *s, const struct bht_event *e, uint64_t time)
{
	const uint64_t count = bht_loss_count(e), told = count ? count : 1;
	int rc = bht_ctf_flush(s);

	/* Other readers count what is discarded from the packet before. */
	if (!s->offset && !rc && !begin(s, e->tid, time))
		rc = bht_ctf_flush(s);
	int no_room = begin(s, e->tid, time);
	s->w->count.discarded += told;
	s->p.events_discarded += told;
	s->p.loss = (uint8_t)((bht_loss_reason(e) & 0xf) | (count ? BHT_CTF_COUNTED : 0));
	if (no_room)
		not_written(s, &s->p, s->discarded);
	return rc ? rc : no_room;
}

static void append(struct bht_ctf_stream *s, const struct bht_event *e, uint64_t time, unsigned bits)
{
	const unsigned id = bht_event_id(e), text_at = s->w->layout.text_at[id];
	struct bhp_record *r = &s->record[s->n];

	s->p.content_size = (s->n - s->at) * sizeof(*r) * 8 + bits;
	s->p.timestamp_end = time;
	s->p.events++;
	s->n += bht_ctf_records(bits);
	r[0] = e->r;
	r[0].word[0] = time;
	if (!text_at)
		return;
	memset((char *)r + text_at, 0, (char *)&s->record[s->n] - (char *)r - text_at);
	if (e->text)
		memcpy((char *)r + text_at, e->text, strnlen(e->text, BHP_TEXT_MAX));
}

int bht_ctf_put(struct bht_ctf_stream *s, const struct bht_event *e)
{
	const uint64_t time = bht_time(e) > s->last ? bht_time(e) : s->last;
	const unsigned id = bht_event_id(e), bits = s->w->layout.bits[id];
	int rc = 0;

	s->last = time;
	if (id == BHT_ID_LOSS)
		return put_loss(s, e, time);
	if (!bits)
		return -EINVAL;
	if (s->record && (s->p.tid != e->tid || bht_ctf_records(bits) > room(s)))
		seal(s);
	if (s->record && s->at == s->n && s->n + PAGE > BUFFER)
		rc = bht_ctf_flush(s);
	if ((!s->record || s->at == s->n) && begin(s, e->tid, time)) {
		s->p.events = 1;
		not_written(s, &s->p, s->discarded);
		return -ENOMEM;
	}
	append(s, e, time, bits);
	return rc;
}

struct bht_ctf_count bht_ctf_count(const struct bht_ctf_writer *w)
{
	return w->count;
}

/* --- the end ------------------------------------------------------------------------- */

static int end_stream(struct bht_ctf_stream *s)
{
	int rc = s->record ? 0 : begin(s, 0, s->last ? s->last : s->w->made);

	s->p.ended = 1;
	return rc ? rc : bht_ctf_flush(s);
}

/* Many files are brought to the disk faster with all others than one by one. */
static int sync_stream(const struct bht_ctf_stream *s)
{
	if (s->w->n_streams > SYNCED_EACH)
		return 0;
	int fd = open_stream(s, 0), rc = fd < 0 ? fd : 0;
	if (!rc && fsync(fd))
		rc = -errno;
	if (fd >= 0)
		close(fd);
	return rc;
}

int bht_ctf_close(struct bht_ctf_writer *w, struct bht_refusal *refusal)
{
	char name[BHT_CTF_NAME];
	int rc = 0;

	for (uint32_t i = 0; i < w->n_streams; i++) {
		int error = end_stream(w->stream[i]);
		if (!error)
			error = sync_stream(w->stream[i]);
		bht_ctf_stream_name(name, i);
		if (error && !rc)
			rc = refuse(w, name, error, refusal);
	}
	if ((w->n_streams > SYNCED_EACH ? syncfs(w->dir) : fsync(w->dir)) && !rc)
		rc = refuse(w, ".", -errno, refusal);
	release(w);
	return rc;
}

void bht_ctf_remove(int dir, const char *name)
{
	int trace = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char stream[BHT_CTF_NAME];
	uint32_t i = 0;

	if (trace < 0)
		return;
	do
		bht_ctf_stream_name(stream, i++);
	while (!unlinkat(trace, stream, 0));
	unlinkat(trace, "metadata", 0);
	close(trace);
	unlinkat(dir, name, AT_REMOVEDIR);
}
