/* SPDX-License-Identifier: MIT */
/*
 * A snapshot may come from anybody: every line is checked against the list of
 * fields, every array is bounded, and rings are read in parts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "array.h"
#include "refuse.h"
#include "ringroot.h"
#include "rings.h"
#include "roots.h"
#include "snapline.h"
#include "snapshot.h"

enum { ARRAYS_MAX = 64 << 20 /* bytes of all arrays */ };

struct snapshot {
	struct bht_source base;
	struct bht_source *merged;
	struct bht_ringroot root[BHT_ROOTS_MAX];
	struct bht_rings say[BHT_ROOTS_MAX]; /* what the evidence says of them */
	unsigned n_roots;
	struct bht_tids tids;
	/* While it is opened. */
	const char *path;
	int dir;
	uid_t owner;
	FILE *file;
	uint64_t offset;  /* of line */
	size_t len, used; /* of line; bytes of arrays */
	unsigned n_rings;
	struct bht_evidence *ev;
	struct bht_refusal *refusal;
	char line[BHT_SNAPLINE];
};

/* --- lines -------------------------------------------------------------------- */

static int refuse(struct snapshot *s, int error, size_t at, const char *why)
{
	const uint64_t offset = s->offset + at;

	return bht_refuse(s->refusal, error, offset, "%s/evidence: offset %llu: %s", s->path,
			  (unsigned long long)offset, why);
}

static int next_line(struct snapshot *s)
{
	s->offset += s->len;
	s->len = 0;
	if (!fgets(s->line, sizeof(s->line), s->file))
		return ferror(s->file) ? refuse(s, -EIO, 0, strerror(errno))
				       : refuse(s, -EBADMSG, 0, "it ends without \"end\": writing it was interrupted");
	const size_t n = strlen(s->line);
	if (!n || s->line[n - 1] != '\n')
		return feof(s->file) ? refuse(s, -EBADMSG, n, "it ends within a line: writing it was interrupted")
				     : refuse(s, -EBADMSG, n, "a line that is too long, or not text");
	s->line[n - 1] = '\0';
	s->len = n;
	return 0;
}

/* The line into OBJECT; then the next line. */
static int take(struct snapshot *s, enum bht_snap what, void *object)
{
	const char *at, *wrong = bht_snap_parse(s->line, what, object, &at);

	return wrong ? refuse(s, -EBADMSG, (size_t)(at - s->line), wrong) : next_line(s);
}

/* All lines of one kind that follow, appended to the array of *N things of SIZE
 * bytes that the pointer at ARRAY leads to. */
static int take_all(struct snapshot *s, enum bht_snap what, void *array, size_t *n, size_t size)
{
	unsigned char *at;
	int rc = 0;

	for (; !rc && bht_snap_is(s->line, what); *n += !rc) {
		s->used += size;
		if (s->used > ARRAYS_MAX)
			return refuse(s, -E2BIG, 0, "more than 64 MiB of loops, bottom halves and threads");
		if (!bht_room_for_one(array, *n, size))
			return refuse(s, -ENOMEM, 0, "no memory");
		memcpy(&at, array, sizeof(at));
		memset(at + *n * size, 0, size);
		rc = take(s, what, at + *n * size);
	}
	return rc;
}

/* --- evidence ----------------------------------------------------------------- */

/* The numbers of system calls are the machine's. */
static int take_head(struct snapshot *s)
{
	static const char machine[] = "machine ";
	struct utsname ours;
	int rc = next_line(s);

	if (!rc && strcmp(s->line, BHT_SNAPSHOT_FIRST) != 0)
		return refuse(s, -EPROTO, 0, "does not begin with " BHT_SNAPSHOT_FIRST);
	if (!rc)
		rc = next_line(s);
	if (!rc && strncmp(s->line, machine, sizeof(machine) - 1) != 0)
		return refuse(s, -EBADMSG, 0, "another kind of line was expected");
	if (!rc && !uname(&ours) && strcmp(s->line + sizeof(machine) - 1, ours.machine) != 0)
		return refuse(s, -EPROTO, sizeof(machine) - 1, "of another kind of machine than this one");
	return rc ? rc : next_line(s);
}

static int take_unseen(struct snapshot *s)
{
	static const char unseen[] = "unseen ";
	char sentence[BHT_SNAPTEXT + 1];
	int rc = 0;

	while (!rc && !strncmp(s->line, unseen, sizeof(unseen) - 1)) {
		const char *text = s->line + sizeof(unseen) - 1;
		if (!bht_snap_unescape(text, strlen(text), sentence, sizeof(sentence)))
			return refuse(s, -EBADMSG, sizeof(unseen) - 1, "a string that is too long or damaged");
		bht_unseen(s->ev, "%s", sentence);
		rc = next_line(s);
	}
	return rc;
}

static int take_sample(struct snapshot *s, struct bht_sample *sample)
{
	int rc = take(s, BHT_SNAP_sample, sample);

	if (!rc)
		rc = take_all(s, BHT_SNAP_loop, &sample->loops, &sample->n_loops, sizeof(*sample->loops));
	if (!rc)
		rc = take_all(s, BHT_SNAP_bh, &sample->bhs, &sample->n_bhs, sizeof(*sample->bhs));
	if (!rc)
		rc = take_all(s, BHT_SNAP_thread, &sample->threads, &sample->n_threads, sizeof(*sample->threads));
	return rc;
}

static int take_evidence(struct snapshot *s)
{
	struct bht_evidence *ev = s->ev;
	int rc = take_head(s);

	if (!rc)
		rc = take(s, BHT_SNAP_evidence, ev);
	if (!rc && !(ev->ticks_per_ns > 0.001 && ev->ticks_per_ns < 100 && ev->clock_error_ns >= 0 &&
		     ev->clock_error_ns < 1e9))
		return refuse(s, -EBADMSG, 0, "before this: no clock");
	if (!rc)
		rc = take_unseen(s);
	if (!rc)
		rc = take_sample(s, &ev->first);
	if (!rc)
		rc = take_sample(s, &ev->last);
	return rc;
}

/* --- rings -------------------------------------------------------------------- */

/* Whether the file holds what the evidence says of it. */
static int place(struct snapshot *s, uint64_t offset, const struct bht_ring *say, struct bht_ringfile *f)
{
	if (say->n > f->header.capacity || say->lost > UINT64_MAX - say->n || say->lost + say->n != f->header.head ||
	    say->why > BHT_LOSS_DAMAGED || (say->lost && !say->why) || (say->damaged && say->n))
		return bht_refuse(s->refusal, -EBADMSG, offset, "%s/evidence: offset %llu: not what %s holds", s->path,
				  (unsigned long long)offset, f->name);
	f->next = say->lost;
	f->cut = say->lost > 0;
	f->d.lost = say->lost;
	f->d.why = say->damaged ? BHT_LOSS_DAMAGED : say->lost ? say->why : 0;
	return 0;
}

static int take_ring(struct snapshot *s, struct bht_ringroot *root)
{
	struct bht_ring say = { .n = 0 };
	struct bht_refusal why;
	char name[32];

	if (s->n_rings == BHT_RINGS_MAX)
		return refuse(s, -E2BIG, 0, "too many rings");
	if (!bht_room_for_one(&root->ring, root->n_rings, sizeof(*root->ring)))
		return refuse(s, -ENOMEM, 0, "no memory");
	const uint64_t offset = s->offset;
	int rc = take(s, BHT_SNAP_ring, &say);
	if (rc)
		return rc;
	bht_ringroot_allow(s->n_rings);
	snprintf(name, sizeof(name), "ring-%u.flight", s->n_rings++);
	rc = bht_ringfile_open(s->dir, name, s->owner, &root->table, &root->ring[root->n_rings], &why);
	if (rc)
		return bht_refuse(s->refusal, rc, why.addr, "%s/%s", s->path, why.why);
	root->n_rings++;
	return place(s, offset, &say, root->ring[root->n_rings - 1]);
}

static int take_history(struct snapshot *s)
{
	int rc = take(s, BHT_SNAP_tids, &s->tids);

	if (!rc)
		rc = take_all(s, BHT_SNAP_tid, &s->tids.pair, &s->tids.n, sizeof(*s->tids.pair));
	while (!rc && bht_snap_is(s->line, BHT_SNAP_root)) {
		if (s->n_roots == BHT_ROOTS_MAX)
			return refuse(s, -E2BIG, 0, "too many roots");
		struct bht_ringroot *root = &s->root[s->n_roots];
		rc = take(s, BHT_SNAP_root, &s->say[s->n_roots++]);
		while (!rc && bht_snap_is(s->line, BHT_SNAP_ring))
			rc = take_ring(s, root);
	}
	return rc;
}

/* The rings of one root and its losses, as bht_rings_sources() has them. */
static int start_root(struct snapshot *s, unsigned i, struct bht_source **sources, unsigned *n)
{
	const struct bht_rings *say = &s->say[i];
	struct bht_ringroot *root = &s->root[i];

	bht_decoding_init(&root->how, root->table.info, root->table.n, say->how.now);
	int rc = bht_ringroot_start(root, bht_tids_map, &s->tids, bht_ringroot_room(s->n_rings), sources, n);
	if (!rc && (say->dropped || say->off)) {
		sources[*n] = bht_loss_source(say->how.now, BHT_LOSS_DROPPED, say->dropped);
		rc = sources[*n] ? 0 : -ENOMEM;
		*n += !rc;
	}
	if (!rc && say->damaged) {
		sources[*n] = bht_loss_source(say->how.now, BHT_LOSS_DAMAGED, 0);
		rc = sources[*n] ? 0 : -ENOMEM;
		*n += !rc;
	}
	return rc;
}

static int merge(struct snapshot *s)
{
	struct bht_source **sources = calloc(s->n_rings + 2 * s->n_roots + 1, sizeof(struct bht_source *));
	unsigned n = 0;
	int rc = sources ? 0 : -ENOMEM;

	for (unsigned i = 0; i < s->n_roots && !rc; i++)
		rc = start_root(s, i, sources, &n);
	if (!rc) {
		s->merged = bht_merge(sources, n);
		rc = s->merged ? 0 : -errno;
	} else {
		for (unsigned i = 0; i < n; i++)
			sources[i]->close(sources[i]);
	}
	free(sources);
	return rc;
}

static int snapshot_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct snapshot *s = (struct snapshot *)source;

	return s->merged->next(s->merged, e, max);
}

static void snapshot_close(struct bht_source *source)
{
	struct snapshot *s = (struct snapshot *)source;

	if (s->merged)
		s->merged->close(s->merged);
	for (unsigned i = 0; i < s->n_roots; i++)
		bht_ringroot_close(&s->root[i]);
	free(s->tids.pair);
	if (s->file)
		fclose(s->file);
	if (s->dir >= 0)
		close(s->dir);
	free(s);
}

/* --- all ---------------------------------------------------------------------- */

static int open_files(struct snapshot *s)
{
	struct bht_refusal why;
	struct stat st;

	s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0)
		return bht_refuse(s->refusal, -errno, 0, "%s: %s", s->path, strerror(errno));
	int fd = bht_file_open(s->dir, "evidence", &st, &why);
	if (fd < 0)
		return bht_refuse(s->refusal, fd, 0, "%s/%s", s->path, why.why);
	s->owner = st.st_uid;
	s->file = fdopen(fd, "r");
	if (s->file)
		return 0;
	close(fd);
	return bht_refuse(s->refusal, -ENOMEM, 0, "%s: no memory", s->path);
}

/* *MORE tells whether there is a history. */
static int take_everything(struct snapshot *s, bool *more)
{
	int rc = take_evidence(s);

	*more = !rc && bht_snap_is(s->line, BHT_SNAP_tids);
	if (*more)
		rc = take_history(s);
	if (!rc && strcmp(s->line, "end") != 0)
		return refuse(s, -EBADMSG, 0, "another kind of line was expected");
	if (!rc && fgetc(s->file) != EOF)
		return refuse(s, -EBADMSG, s->len, "more than was expected");
	return rc;
}

int bht_snapshot_open(const char *dir, struct bht_evidence *ev, struct bht_source **history,
		      struct bht_refusal *refusal)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	bool more = false;

	*history = NULL;
	if (!s)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", dir);
	s->base = (struct bht_source){ snapshot_next, snapshot_close };
	s->path = dir;
	s->dir = -1;
	s->ev = ev;
	s->refusal = refusal;
	int rc = open_files(s);
	if (!rc)
		rc = take_everything(s, &more);
	if (!rc && more) {
		rc = merge(s);
		if (rc)
			bht_refuse(refusal, rc, 0, "%s: %s", dir, strerror(-rc));
	}
	if (rc || !more)
		snapshot_close(&s->base);
	else
		*history = &s->base;
	if (rc) {
		bht_evidence_free(ev);
		return rc;
	}
	ev->origin = BHT_FROM_SNAPSHOT;
	ev->source = dir;
	ev->live = true;
	return 0;
}
