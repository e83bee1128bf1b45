/* SPDX-License-Identifier: MIT */
/*
 * A snapshot may come from anybody: every line is checked against the list of
 * fields, and every array is bounded.
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
#include "ringfile.h"
#include "snapline.h"
#include "snapshot.h"

enum { ARRAYS_MAX = 64 << 20 /* bytes of all arrays */ };

struct snapshot {
	const char *path;
	FILE *file;
	uint64_t offset;  /* of line */
	size_t len, used; /* of line; bytes of arrays */
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
		return refuse(s, -EPROTO, 0,
			      strncmp(s->line, BHT_SNAPSHOT_WORD, sizeof(BHT_SNAPSHOT_WORD) - 1)
				      ? "does not begin with " BHT_SNAPSHOT_FIRST
				      : "of another format than " BHT_SNAPSHOT_FIRST);
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
	if (!rc)
		rc = take_all(s, BHT_SNAP_begun, &ev->begun, &ev->n_begun, sizeof(*ev->begun));
	if (!rc && bht_snap_is(s->line, BHT_SNAP_payload))
		rc = take(s, BHT_SNAP_payload, &ev->payload);
	return rc;
}

/* Evidence of this machine names no other. */
static void take_host(struct bht_evidence *ev)
{
	char ours[sizeof(ev->hostname)] = "";

	if (!gethostname(ours, sizeof(ours) - 1) && !strcmp(ours, ev->hostname))
		ev->hostname[0] = '\0';
}

static int take_everything(struct snapshot *s)
{
	int rc = take_evidence(s);

	if (!rc && strcmp(s->line, "end") != 0)
		return refuse(s, -EBADMSG, 0, "another kind of line was expected");
	if (!rc && fgetc(s->file) != EOF)
		return refuse(s, -EBADMSG, s->len, "more than was expected");
	return rc;
}

/* --- files -------------------------------------------------------------------- */

static int read_evidence(struct snapshot *s, int dir)
{
	struct bht_refusal why;
	struct stat st;
	int fd = bht_file_open(dir, "evidence", &st, &why);

	if (fd < 0)
		return bht_refuse(s->refusal, fd, 0, "%s/%s", s->path, why.why);
	s->file = fdopen(fd, "r");
	if (!s->file) {
		close(fd);
		return bht_refuse(s->refusal, -ENOMEM, 0, "%s: no memory", s->path);
	}
	int rc = take_everything(s);
	fclose(s->file);
	take_host(s->ev);
	return rc;
}

static int open_history(struct snapshot *s, int dir, struct bht_source **history)
{
	struct bht_ctf_about about;

	if (faccessat(dir, "history", F_OK, AT_SYMLINK_NOFOLLOW) && errno == ENOENT)
		return 0;
	int rc = bht_ctf_open(dir, "history", s->path, &about, history, s->refusal);
	if (rc)
		return rc;
	bht_ctf_until(*history, 0, s->ev->last.ticks);
	s->ev->clock = about.clock;
	s->ev->realtime_ns = about.realtime_ns;
	s->ev->recorder = about.recorder;
	return 0;
}

int bht_snapshot_open(const char *dir, struct bht_evidence *ev, struct bht_source **history,
		      struct bht_refusal *refusal)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	*history = NULL;
	if (!s || fd < 0) {
		rc = bht_refuse(refusal, s ? -errno : -ENOMEM, 0, "%s: %s", dir, s ? strerror(errno) : "no memory");
		goto out;
	}
	*s = (struct snapshot){ .path = dir, .ev = ev, .refusal = refusal };
	rc = read_evidence(s, fd);
	if (!rc)
		rc = open_history(s, fd, history);
	if (rc) {
		bht_evidence_free(ev);
		goto out;
	}
	ev->origin = BHT_FROM_SNAPSHOT;
	ev->source = dir;
	ev->live = true;
out:
	if (fd >= 0)
		close(fd);
	free(s);
	return rc;
}
