/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "refuse.h"
#include "ringfile.h"
#include "rings.h"

static const uint64_t RECORD = sizeof(struct bhp_record);

/* --- files -------------------------------------------------------------------- */

int bht_file_open(int dir, const char *name, struct stat *st, struct bht_refusal *refusal)
{
	/* O_NONBLOCK: not to wait for the writer of a fifo. */
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int rc = fd < 0 || fstat(fd, st) ? -errno : S_ISREG(st->st_mode) ? 0 : -EBADMSG;

	if (!rc)
		return fd;
	if (fd >= 0)
		close(fd);
	return bht_refuse(refusal, rc, 0, "%s: %s", name,
			  rc == -EBADMSG ? "no regular file"
			  : rc == -ELOOP ? "a symbolic link"
					 : strerror(-rc));
}

int bht_file_read(int fd, const char *name, void *buf, size_t len, uint64_t offset, struct bht_refusal *refusal)
{
	size_t done = 0;

	while (done < len) {
		const unsigned long long at = offset + done;
		const ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return bht_refuse(refusal, n ? -errno : -EBADMSG, at, "%s: offset %llu: %s", name, at,
					  n ? strerror(errno) : "the file ends");
		done += (size_t)n;
	}
	return 0;
}

/* --- opening ------------------------------------------------------------------ */

static int check_table(struct bht_ringfile *f, struct bht_ring_table *table, struct bht_refusal *refusal)
{
	const uint64_t at = offsetof(struct bhp_ring, fields);
	const uint32_t n = f->header.n_fields;
	struct bht_ring_table own = { .n = n };

	if (!n || n > BHP_FIELD_INFO_MAX)
		return bht_refuse(refusal, -EBADMSG, offsetof(struct bhp_ring, n_fields),
				  "%s: offset %zu: %u fields, expected 1 to %d", f->name,
				  offsetof(struct bhp_ring, n_fields), n, BHP_FIELD_INFO_MAX);
	int rc = bht_file_read(f->fd, f->name, own.info, n * sizeof(own.info[0]), at, refusal);
	if (rc)
		return rc;
	if (!table->n)
		*table = own;
	if (table->n != n || memcmp(table->info, own.info, n * sizeof(own.info[0])))
		return bht_refuse(refusal, -EBADMSG, at, "%s: offset %llu: other fields than in another ring", f->name,
				  (unsigned long long)at);
	return 0;
}

/* Which records there are. The last ones may have been begun and not ended when
 * the process was killed. */
static int place(struct bht_ringfile *f, struct bht_refusal *refusal)
{
	const struct bht_ringhead *h = &f->header;
	const uint64_t kept = h->head < h->capacity ? h->head : h->capacity;

	if (h->reserved < h->head)
		return bht_refuse(refusal, -EBADMSG, offsetof(struct bhp_ring, reserved),
				  "%s: offset %zu: %llu records complete, %llu begun", f->name,
				  offsetof(struct bhp_ring, reserved), (unsigned long long)h->head,
				  (unsigned long long)h->reserved);
	f->head = h->head;
	f->next = h->head - kept;
	f->d.why = f->next ? BHT_LOSS_OVERWRITTEN : BHT_LOSS_UNSTABLE;
	if (h->reserved > h->capacity && h->reserved - h->capacity > f->next)
		f->next = h->reserved - h->capacity;
	if (f->next > f->head)
		f->next = f->head;
	f->d.lost = f->next;
	f->cut = f->next > 0;
	if (!f->next)
		f->d.why = 0;
	return 0;
}

static int read_header(struct bht_ringfile *f, const struct stat *st, struct bht_ring_table *table,
		       struct bht_refusal *refusal)
{
	struct bht_refusal why;
	struct bhp_ring h;
	int rc = bht_file_read(f->fd, f->name, &h, sizeof(h), 0, refusal);

	if (rc)
		return rc;
	rc = bht_ring_check(&h, 0, &why);
	if (rc)
		return bht_refuse(refusal, rc, 0, "%s: offset 0: %s", f->name, why.why);
	if ((uint64_t)st->st_size != BHP_RING_HEADER + h.capacity * RECORD)
		return bht_refuse(refusal, -EBADMSG, (uint64_t)st->st_size,
				  "%s: offset %lld: the file ends, not where %llu records end", f->name,
				  (long long)st->st_size, (unsigned long long)h.capacity);
	f->header = (struct bht_ringhead){ .capacity = h.capacity,
					   .head = h.head,
					   .reserved = h.reserved,
					   .mark = h.mark,
					   .tid = h.tid,
					   .state = h.state,
					   .n_fields = h.n_fields,
					   .clock = { h.clock[0], h.clock[1] } };
	rc = place(f, refusal);
	return rc ? rc : check_table(f, table, refusal);
}

static void file_close(struct bht_source *source)
{
	struct bht_ringfile *f = (struct bht_ringfile *)source;

	if (f->fd >= 0)
		close(f->fd);
	free(f->buffer);
	free(f);
}

int bht_ringfile_open(int dir, const char *name, uid_t owner, struct bht_ring_table *table, struct bht_ringfile **file,
		      struct bht_refusal *refusal)
{
	struct bht_ringfile *f = calloc(1, sizeof(*f));
	struct stat st = { .st_size = 0 };

	if (!f)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", name);
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->d.base = (struct bht_source){ bht_decoder_next, file_close };
	f->fd = bht_file_open(dir, name, &st, refusal);
	int rc = f->fd < 0 ? f->fd : 0;
	if (!rc && st.st_uid != owner)
		rc = bht_refuse(refusal, -EPERM, 0, "%s: belongs to uid %u, others to %u", name, st.st_uid, owner);
	if (!rc)
		rc = read_header(f, &st, table, refusal);
	if (rc)
		file_close(&f->d.base);
	else
		*file = f;
	return rc;
}

/* --- reading ------------------------------------------------------------------ */

/* Records FIRST .. FIRST + N, at most the whole ring. */
static int read_records(const struct bht_ringfile *f, uint64_t first, uint64_t n, struct bhp_record *to)
{
	const uint64_t at = first & (f->header.capacity - 1);
	const uint64_t before_wrap = n < f->header.capacity - at ? n : f->header.capacity - at;
	int rc = bht_file_read(f->fd, f->name, to, before_wrap * RECORD, BHP_RING_HEADER + at * RECORD, NULL);

	if (!rc && n > before_wrap)
		rc = bht_file_read(f->fd, f->name, to + before_wrap, (n - before_wrap) * RECORD, BHP_RING_HEADER, NULL);
	return rc;
}

/* How many records were begun by now. */
static uint64_t begun(const struct bht_ringfile *f)
{
	uint64_t n = 0;

	return bht_file_read(f->fd, f->name, &n, sizeof(n), offsetof(struct bhp_ring, reserved), NULL) ? UINT64_MAX : n;
}

bool bht_ringfile_moved(const struct bht_ringfile *f)
{
	return begun(f) != f->header.reserved;
}

uint64_t bht_ringfile_latest(struct bht_ringfile *f, char name[BHP_TEXT_MAX + 1])
{
	struct bhp_record r[BHP_GROUP_MAX];
	const uint64_t there = f->head - f->next, n = there < BHP_GROUP_MAX ? there : BHP_GROUP_MAX;
	const uint64_t mark = f->header.mark - 1; /* UINT64_MAX for none */
	uint64_t latest = 0;

	name[0] = '\0';
	if (!read_records(f, f->head - n, n, r))
		for (uint64_t i = 0; i < n; i++)
			if ((r[i].word[1] & 0xff) != BHP_ID_TEXT && bhp_record_time(&r[i]) > latest)
				latest = bhp_record_time(&r[i]);
	if (mark >= f->next && mark < f->head && f->head - mark >= 2 && !read_records(f, mark, 2, r) &&
	    (r[1].word[1] & 0xff) == BHP_ID_TEXT) {
		memcpy(name, &r[1].word[0], 8);
		memcpy(name + 8, &r[1].word[2], 16);
		name[BHP_TEXT_PER_RECORD] = '\0';
	}
	return latest;
}

/* Who wrote record FROM: whom the first mark behind it relieved. */
static uint32_t writer_at(struct bht_ringfile *f, uint64_t from)
{
	uint32_t tid = f->header.tid;

	if (f->header.mark && f->header.mark - 1 < from)
		return tid;
	for (uint64_t n; from < f->head; from += n) {
		n = f->head - from < f->room ? f->head - from : f->room;
		if (read_records(f, from, n, f->buffer) || bht_find_mark(f->d.how, f->buffer, n, &tid))
			break;
	}
	return tid;
}

static void set_writer(struct bht_ringfile *f)
{
	const uint32_t writer = writer_at(f, f->next);

	f->d.tid = writer ? f->d.map(f->d.arg, writer) : 0;
}

/* The writer went on and has overwritten what is below OLDEST: the window is
 * empty, and goes on there. */
static void overtaken(struct bht_ringfile *f, uint64_t oldest)
{
	const uint64_t to = oldest < f->head ? oldest : f->head;

	f->d.lost += f->d.n - f->d.at + (to - f->next);
	f->d.why = BHT_LOSS_UNSTABLE;
	f->d.at = f->d.n = 0;
	f->next = to;
	f->cut = true;
	set_writer(f);
}

static void end(struct bht_ringfile *f, enum bht_loss_why why, uint64_t lost)
{
	f->d.why = why;
	f->d.lost += lost;
	f->next = f->head;
}

static bool file_refill(struct bht_decoder *d)
{
	struct bht_ringfile *f = (struct bht_ringfile *)d;
	const uint64_t rest = d->n - d->at, left = f->head - f->next;
	const uint64_t n = left < f->room ? left : f->room;

	if (!n) {
		if (f->header.reserved > f->head)
			end(f, BHT_LOSS_UNSTABLE, f->header.reserved - f->head);
		return false;
	}
	memmove(f->buffer, f->buffer + d->at, rest * RECORD);
	d->at = 0;
	d->n = rest;
	if (read_records(f, f->next, n, f->buffer + rest)) {
		end(f, BHT_LOSS_DAMAGED, left);
		return false;
	}
	/* Pairs with the release fence between raising `reserved` and writing
	 * the record. */
	atomic_thread_fence(memory_order_acquire);
	const uint64_t now = begun(f), oldest = now > f->header.capacity ? now - f->header.capacity : 0;
	if (oldest > f->next) {
		overtaken(f, oldest);
		return true;
	}
	d->n += n;
	f->next += n;
	if (f->cut)
		bht_decoder_skip_text(d);
	f->cut = false;
	return true;
}

int bht_ringfile_start(struct bht_ringfile *f, const struct bht_decoding *how, bht_tid_map map, void *arg,
		       uint64_t room)
{
	f->buffer = calloc(room + BHP_GROUP_MAX, RECORD);
	if (!f->buffer)
		return -ENOMEM;
	f->room = room;
	f->d.how = how;
	f->d.records = f->buffer;
	f->d.refill = file_refill;
	f->d.map = map;
	f->d.arg = arg;
	set_writer(f);
	return 0;
}
