/* SPDX-License-Identifier: MIT */
#include "record_writing.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "patient.h"
#include "refuse.h"
#include "render.h"
#include "until.h"

enum { FLUSH_MS = 1000, SHOW_MS = 500, SAME_NAME_MAX = 100000 };

struct recording_place {
	struct recording_place *next;
	struct recording *recording;
	struct bht_ctf_stream *stream; /* NULL: it could not be made so far */
	uint64_t missed;               /* events until then */
	bool tried;                    /* since the last flush */
};

/* --- what is said ------------------------------------------------------------------- */

static bool shown;

void record_show(const char *format, ...)
{
	static uint64_t shown_ms;
	const uint64_t now = patient_now_ms();
	va_list args;

	if (!isatty(STDERR_FILENO) || now < shown_ms + SHOW_MS)
		return;
	fputc('\r', stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputs("\x1b[K", stderr);
	shown = true;
	shown_ms = now;
}

void record_unshow(void)
{
	if (shown)
		fputs("\r\x1b[K", stderr);
	shown = false;
}

void record_note(struct record_result *result, const char *format, ...)
{
	size_t len = strlen(result->note);
	va_list args;

	if (len)
		len += (size_t)snprintf(result->note + len, sizeof(result->note) - len, " ");
	if (len >= sizeof(result->note))
		return;
	va_start(args, format);
	vsnprintf(result->note + len, sizeof(result->note) - len, format, args);
	va_end(args);
}

int record_refused(const struct bht_refusal *refusal, int error)
{
	const struct patient p = { .refusal = *refusal };

	record_unshow();
	return patient_refused(&p, error);
}

/* What cannot be written is counted, and said once. */
static void complain(struct recording *r, int error)
{
	char safe[sizeof(r->path)];

	if (!error || r->error)
		return;
	r->error = error;
	record_unshow();
	fprintf(stderr, "bhtrace: %s: %s; recording goes on, and what does not fit is counted as discarded\n",
		bht_escape(safe, sizeof(safe), r->path), strerror(-error));
}

/* --- opening ------------------------------------------------------------------------ */

/* A process that executes another program, or a number that is used again: -N. */
static int make_directory(struct recording *r, const char *dir, const char *command)
{
	int rc = record_command_path(r->path, sizeof(r->path), dir, command, r->pid);
	const size_t len = rc ? 0 : strlen(r->path);

	if (rc)
		return rc;
	for (unsigned n = 2; mkdir(r->path, 0700); n++) {
		if (errno != EEXIST || n > SAME_NAME_MAX)
			return -errno;
		if ((size_t)snprintf(r->path + len, sizeof(r->path) - len, "-%u", n) >= sizeof(r->path) - len)
			return -ENAMETOOLONG;
	}
	return 0;
}

static int open_files(struct recording *r, int dir, const struct bht_ctf_about *about, struct bht_refusal *refusal)
{
	r->until = openat(dir, BHT_UNTIL, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc = r->until < 0 ? -errno : bht_until_write(r->until, 0);
	if (rc)
		return bht_refuse(refusal, rc, 0, "%.300s/" BHT_UNTIL ": %s", r->path, strerror(-rc));
	r->ctf = bht_ctf_create(dir, "history", r->path, about, refusal);
	return r->ctf ? 0 : -errno;
}

int recording_open(struct recording *r, const char *dir, const struct bht_ctf_about *about, struct bht_refusal *refusal)
{
	r->pid = about->pid;
	int rc = make_directory(r, dir, about->command);
	if (rc)
		return bht_refuse(refusal, rc, 0, "%.300s: %s", r->path, strerror(-rc));
	const int fd = open(r->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	rc = fd < 0 ? bht_refuse(refusal, -errno, 0, "%.300s: %s", r->path, strerror(errno))
		    : open_files(r, fd, about, refusal);
	if (rc && r->until >= 0) {
		close(r->until);
		r->until = -1;
		unlinkat(fd, BHT_UNTIL, 0);
	}
	if (fd >= 0)
		close(fd);
	if (rc)
		rmdir(r->path);
	return rc;
}

/* --- events --------------------------------------------------------------------------- */

struct recording_place *recording_place(struct recording *r)
{
	struct recording_place *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	*p = (struct recording_place){ .next = r->places, .recording = r };
	r->places = p;
	return p;
}

static bool open_stream(struct recording_place *p)
{
	struct bht_refusal refusal;

	if (!p->stream && !p->tried) {
		p->stream = bht_ctf_add(p->recording->ctf, &refusal);
		p->tried = true;
		if (!p->stream)
			complain(p->recording, -errno);
	}
	return p->stream != NULL;
}

/* Says in stream S what P missed. */
static void tell_missed(struct recording_place *p, struct bht_ctf_stream *s, uint64_t time)
{
	const struct bht_event gap = bht_loss(time, 0, BHT_LOSS_DROPPED, p->missed);

	if (!p->missed)
		return;
	p->recording->missed -= p->missed;
	p->missed = 0;
	complain(p->recording, bht_ctf_put(s, &gap));
}

void recording_put(struct recording_place *p, const struct bht_event *e)
{
	const uint64_t n = bht_event_id(e) == BHT_ID_LOSS ? bht_loss_count(e) : 1;

	if (!open_stream(p)) {
		p->missed += n;
		p->recording->missed += n;
		return;
	}
	tell_missed(p, p->stream, bht_time(e));
	complain(p->recording, bht_ctf_put(p->stream, e));
}

/* What had no stream to the end is told in another. */
static void tell_all_missed(struct recording *r)
{
	const struct recording_place *other = r->places;

	while (other && !other->stream)
		other = other->next;
	for (struct recording_place *p = r->places; p && other; p = p->next)
		tell_missed(p, other->stream, bhp_clock());
}

bool recording_due(const struct recording *r)
{
	return patient_now_ms() >= r->flushed_ms + FLUSH_MS || bht_ctf_count(r->ctf).bytes != r->flushed_bytes;
}

void recording_flush(struct recording *r, uint64_t until)
{
	for (struct recording_place *p = r->places; p; p = p->next) {
		p->tried = false;
		if (p->stream)
			complain(r, bht_ctf_flush(p->stream));
	}
	/* Not beyond a gap that is not on the disk. */
	if (!r->error)
		complain(r, bht_until_write(r->until, until));
	r->flushed_bytes = bht_ctf_count(r->ctf).bytes;
	r->flushed_ms = patient_now_ms();
}

struct bht_ctf_count recording_count(const struct recording *r)
{
	struct bht_ctf_count count = bht_ctf_count(r->ctf);

	count.discarded += r->missed;
	return count;
}

/* --- evidence --------------------------------------------------------------------------- */

struct evidence {
	const char *path;
	uint32_t pid;
	int rc;
	atomic_bool done;
};

static void *take_evidence(void *arg)
{
	struct evidence *e = arg;

	e->rc = record_evidence_at(e->path, e->pid);
	atomic_store(&e->done, true);
	return NULL;
}

/* Beside the thread that keeps up with the process. */
int recording_evidence(struct recording *r, int (*turn)(void *arg), void *arg, int *kept)
{
	struct evidence e = { .path = r->path, .pid = r->pid };
	pthread_t thread;
	int rc = 0;

	record_unshow();
	const bool alone = pthread_create(&thread, NULL, take_evidence, &e);
	if (alone)
		take_evidence(&e);
	while (!rc && !atomic_load(&e.done))
		rc = turn(arg);
	if (!alone)
		pthread_join(thread, NULL);
	*kept = e.rc;
	return rc;
}

void recording_drop_evidence(const struct recording *r)
{
	char path[sizeof(r->path) + 16];

	snprintf(path, sizeof(path), "%s/evidence", r->path);
	unlink(path);
}

/* --- the end ----------------------------------------------------------------------------- */

void recording_close(struct recording *r, uint64_t until, struct bht_ctf_count *count)
{
	struct bht_refusal refusal;

	if (r->ctf) {
		tell_all_missed(r);
		recording_flush(r, until);
		*count = recording_count(r);
		complain(r, bht_ctf_close(r->ctf, &refusal));
	}
	if (r->until >= 0)
		close(r->until);
	r->ctf = NULL;
	r->until = -1;
	while (r->places) {
		struct recording_place *next = r->places->next;
		free(r->places);
		r->places = next;
	}
}
