/* SPDX-License-Identifier: MIT */
/* The evidence is written last, and its last line says that it is all. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "refuse.h"
#include "rings.h"
#include "roots.h"
#include "snapline.h"
#include "snapshot.h"

struct writer {
	const char *path;
	int dir;
	unsigned n_rings; /* files begun */
	struct bht_refusal *refusal;
};

static int refuse(const struct writer *w, const char *name, int error)
{
	return bht_refuse(w->refusal, error, 0, "%s/%s: %s", w->path, name, strerror(-error));
}

static int create(const struct writer *w, const char *name)
{
	int fd = openat(w->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? refuse(w, name, -errno) : fd;
}

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

/* --- rings -------------------------------------------------------------------- */

static int write_header(int fd, const struct bht_rings *rings, const struct bht_ring *ring, uint64_t capacity)
{
	union {
		struct bhp_ring ring;
		unsigned char page[BHP_RING_HEADER];
	} h;

	memset(&h, 0, sizeof(h));
	memcpy(h.ring.magic, BHP_RING_MAGIC, sizeof(h.ring.magic));
	h.ring.abi = BHP_ABI;
	h.ring.record_size = sizeof(struct bhp_record);
	h.ring.capacity = capacity;
	h.ring.n_fields = rings->n_fields;
	h.ring.tid = ring->tid;
	h.ring.state = BHP_RING_LIVE;
	h.ring.mark = ring->mark;
	h.ring.head = h.ring.reserved = ring->lost + ring->n;
	memcpy(h.ring.fields, rings->table, rings->n_fields * sizeof(h.ring.fields[0]));
	return write_all(fd, &h, sizeof(h), 0);
}

/* Each record at the place that its index has. */
static int write_records(int fd, const struct bht_ring *ring, uint64_t capacity)
{
	const uint64_t record = sizeof(struct bhp_record), at = ring->lost & (capacity - 1);
	const uint64_t before_wrap = ring->n < capacity - at ? ring->n : capacity - at;
	int rc = ftruncate(fd, (off_t)(BHP_RING_HEADER + capacity * record)) ? -errno : 0;

	if (!rc)
		rc = write_all(fd, ring->records, before_wrap * record, BHP_RING_HEADER + at * record);
	if (!rc)
		rc = write_all(fd, ring->records + before_wrap, (ring->n - before_wrap) * record, BHP_RING_HEADER);
	return rc;
}

static int write_ring(struct writer *w, const struct bht_rings *rings, const struct bht_ring *ring)
{
	uint64_t capacity = 1;
	char name[32];

	while (capacity < ring->n)
		capacity *= 2;
	snprintf(name, sizeof(name), "ring-%u.flight", w->n_rings);
	int fd = create(w, name);
	if (fd < 0)
		return fd;
	w->n_rings++;
	int rc = write_header(fd, rings, ring, capacity);
	if (!rc)
		rc = write_records(fd, ring, capacity);
	if (!rc && fsync(fd))
		rc = -errno;
	if (close(fd) && !rc)
		rc = -errno;
	return rc ? refuse(w, name, rc) : 0;
}

static int write_rings(struct writer *w, const struct bht_source *history)
{
	const struct bht_tids *tids;
	unsigned n = 0;
	struct bht_rings *const *rings = history ? bht_flight_rings(history, &n, &tids) : NULL;
	int rc = 0;

	for (unsigned i = 0; i < n; i++) {
		if (rings[i]->n_fields > BHP_FIELD_INFO_MAX)
			return bht_refuse(w->refusal, -EPROTO, 0,
					  "process: its recorder has %u fields, a ring file holds %d",
					  rings[i]->n_fields, BHP_FIELD_INFO_MAX);
		for (size_t k = 0; k < rings[i]->n && !rc; k++)
			rc = write_ring(w, rings[i], &rings[i]->ring[k]);
	}
	return rc;
}

/* --- evidence ----------------------------------------------------------------- */

static void print_sample(FILE *out, const struct bht_sample *sample)
{
	bht_snap_print(out, BHT_SNAP_sample, sample);
	for (size_t i = 0; i < sample->n_loops; i++)
		bht_snap_print(out, BHT_SNAP_loop, &sample->loops[i]);
	for (size_t i = 0; i < sample->n_bhs; i++)
		bht_snap_print(out, BHT_SNAP_bh, &sample->bhs[i]);
	for (size_t i = 0; i < sample->n_threads; i++)
		bht_snap_print(out, BHT_SNAP_thread, &sample->threads[i]);
}

static void print_history(FILE *out, const struct bht_source *history)
{
	const struct bht_tids *tids;
	unsigned n;
	struct bht_rings *const *rings = bht_flight_rings(history, &n, &tids);

	bht_snap_print(out, BHT_SNAP_tids, tids);
	for (size_t i = 0; i < tids->n; i++)
		bht_snap_print(out, BHT_SNAP_tid, &tids->pair[i]);
	for (unsigned i = 0; i < n; i++) {
		bht_snap_print(out, BHT_SNAP_root, rings[i]);
		for (size_t k = 0; k < rings[i]->n; k++)
			bht_snap_print(out, BHT_SNAP_ring, &rings[i]->ring[k]);
	}
}

static void print_evidence(FILE *out, const struct bht_evidence *ev, const struct bht_source *history)
{
	struct utsname machine;

	fprintf(out, "%s\n", BHT_SNAPSHOT_FIRST);
	fprintf(out, "machine %s\n", uname(&machine) ? "" : machine.machine);
	bht_snap_print(out, BHT_SNAP_evidence, ev);
	for (unsigned i = 0; i < ev->n_unseen; i++) {
		fputs("unseen ", out);
		bht_snap_escape(out, ev->unseen[i], BHT_SNAPTEXT);
		fputc('\n', out);
	}
	print_sample(out, &ev->first);
	print_sample(out, &ev->last);
	if (history)
		print_history(out, history);
	fputs("end\n", out);
}

static int write_evidence(const struct writer *w, const struct bht_evidence *ev, const struct bht_source *history)
{
	int fd = create(w, "evidence");
	FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
	int rc = 0;

	if (fd < 0)
		return fd;
	if (!out) {
		rc = -errno;
		close(fd);
		return refuse(w, "evidence", rc);
	}
	errno = 0;
	print_evidence(out, ev, history);
	if (ferror(out) || fflush(out) || fsync(fd))
		rc = errno ? -errno : -EIO;
	if (fclose(out) && !rc)
		rc = -errno;
	return rc ? refuse(w, "evidence", rc) : 0;
}

/* --- all ---------------------------------------------------------------------- */

static void take_back(const struct writer *w)
{
	char name[32];

	unlinkat(w->dir, "evidence", 0);
	for (unsigned i = 0; i < w->n_rings; i++) {
		snprintf(name, sizeof(name), "ring-%u.flight", i);
		unlinkat(w->dir, name, 0);
	}
	rmdir(w->path);
}

int bht_snapshot_write(const char *dir, const struct bht_evidence *ev, const struct bht_source *history,
		       struct bht_refusal *refusal)
{
	struct writer w = { .path = dir, .refusal = refusal };

	if (mkdir(dir, 0700))
		return bht_refuse(refusal, -errno, 0, "%s: %s", dir, strerror(errno));
	w.dir = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (w.dir < 0)
		return bht_refuse(refusal, -errno, 0, "%s: %s", dir, strerror(errno));
	int rc = write_rings(&w, history);
	if (!rc)
		rc = write_evidence(&w, ev, history);
	if (!rc && fsync(w.dir))
		rc = refuse(&w, ".", -errno);
	if (rc)
		take_back(&w);
	close(w.dir);
	return rc;
}
