/* SPDX-License-Identifier: MIT */
/*
 * bhtrace record --via flight: the rings of a live process, drained into a
 * recording; or with --snapshot, looked at until they are worth keeping.
 *
 *   DIR/COMMAND-PID/history/, evidence, until    a recording (recording.h, until.h)
 *   DIR/COMMAND-PID-N/                           a snapshot (snapshot.h)
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bhtrace.h"
#include "clock.h"
#include "ctf.h"
#include "drain.h"
#include "patient.h"
#include "record.h"
#include "render.h"
#include "snapshot.h"
#include "until.h"

/* How a command is looked for libbh: first often, because it may be busy at once. */
enum { ATTACH_MS = 1, ATTACH_TRIES = 200, ATTACH_SLOW_MS = 20, ATTACH_TELL_MS = 1000 };
enum { FLUSH_MS = 1000, SHOW_MS = 500, LOOK_MS = 500, EXIT_MS = 2000, PATH_SIZE = 4096 };

/* Where the events of one ring go. */
struct place {
	struct place *next;
	struct flight *flight;
	struct bht_ctf_stream *stream; /* NULL: it could not be made so far */
	uint64_t missed;               /* events until then */
	bool tried;                    /* since the last flush */
};

struct flight {
	const struct record_request *q;
	struct record_result *result;
	struct record_target target;
	struct bht_drain *drain;
	struct bht_ctf_writer *ctf;
	struct place *places;
	int until;            /* file descriptor */
	char path[PATH_SIZE]; /* of the process */
	uint64_t missed;      /* events that found no stream, of all places */
	uint64_t flushed_bytes, flushed_ms, shown_ms, began_ns;
	bool shown;
	int error; /* the first one of writing */
	struct bht_refusal refusal;
};

static int refuse(const struct bht_refusal *refusal, int error)
{
	const struct patient p = { .refusal = *refusal };

	return patient_refused(&p, error);
}

static void note(struct record_result *result, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct record_result *result, const char *format, ...)
{
	size_t len = strlen(result->note);
	va_list args;

	va_start(args, format);
	len += (size_t)snprintf(result->note + len, sizeof(result->note) - len, "%s", len ? " " : "");
	vsnprintf(result->note + len, sizeof(result->note) - len, format, args);
	va_end(args);
}

/* --- writing ---------------------------------------------------------------------- */

/* What cannot be written is counted, and said once. */
static void complain(struct flight *f, int error)
{
	char safe[PATH_SIZE];

	if (!error || f->error)
		return;
	f->error = error;
	fprintf(stderr, "%sbhtrace: %s: %s; recording goes on, and what does not fit is counted as discarded\n",
		f->shown ? "\r\x1b[K" : "", bht_escape(safe, sizeof(safe), f->path), strerror(-error));
	f->shown = false;
}

static void *make_place(void *arg)
{
	struct flight *f = arg;
	struct place *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	*p = (struct place){ .next = f->places, .flight = f };
	f->places = p;
	return p;
}

static bool open_stream(struct place *p)
{
	struct flight *f = p->flight;

	if (!p->stream && !p->tried) {
		p->stream = bht_ctf_add(f->ctf, &f->refusal);
		p->tried = true;
		if (!p->stream)
			complain(f, -errno);
	}
	return p->stream != NULL;
}

/* Says in stream S what P missed. */
static void tell_missed(struct place *p, struct bht_ctf_stream *s, uint64_t time)
{
	const struct bht_event gap = bht_loss(time, 0, BHT_LOSS_DROPPED, p->missed);

	if (!p->missed)
		return;
	p->flight->missed -= p->missed;
	p->missed = 0;
	complain(p->flight, bht_ctf_put(s, &gap));
}

static void put(void *place, const struct bht_event *e)
{
	const uint64_t n = bht_event_id(e) == BHT_ID_LOSS ? bht_loss_count(e) : 1;
	struct place *p = place;

	if (!open_stream(p)) {
		p->missed += n;
		p->flight->missed += n;
		return;
	}
	tell_missed(p, p->stream, bht_time(e));
	complain(p->flight, bht_ctf_put(p->stream, e));
}

/* What had no stream to the end is told in another. */
static void tell_all_missed(struct flight *f)
{
	const struct place *other = f->places;

	while (other && !other->stream)
		other = other->next;
	for (struct place *p = f->places; p && other; p = p->next)
		tell_missed(p, other->stream, bhp_clock());
}

/* After this, nothing that was read so far is lost with the recorder. */
static void flush(struct flight *f)
{
	for (struct place *p = f->places; p; p = p->next) {
		p->tried = false;
		if (p->stream)
			complain(f, bht_ctf_flush(p->stream));
	}
	/* Not beyond a gap that is not on the disk. */
	if (!f->error)
		complain(f, bht_until_write(f->until, bht_drain_stats(f->drain).until));
	f->flushed_bytes = bht_ctf_count(f->ctf).bytes;
	f->flushed_ms = patient_now_ms();
}

static void show(struct flight *f)
{
	const uint64_t now = patient_now_ms();

	if (!isatty(STDERR_FILENO) || now < f->shown_ms + SHOW_MS)
		return;
	const struct bht_ctf_count count = bht_ctf_count(f->ctf);
	fprintf(stderr,
		"\rrecording process %" PRIu32 ": %" PRIu64 " events, %" PRIu64 " discarded, %" PRIu64 " KiB\x1b[K",
		f->target.pid, count.events, count.discarded + f->missed, count.bytes / 1024);
	f->shown = true;
	f->shown_ms = now;
}

static void unshow(struct flight *f)
{
	if (f->shown)
		fputs("\r\x1b[K", stderr);
	f->shown = false;
}

/* --- opening ------------------------------------------------------------------------ */

/* What a command may still become: its libraries are loaded, and it may execute
 * what it was meant to start. */
static bool may_come(int error)
{
	return error == ENOENT || error == EAGAIN || error == EBADMSG || error == EFAULT;
}

static int attach(struct flight *f)
{
	const struct bht_drain_sink sink = { make_place, put, f };
	const uint64_t began = patient_now_ms();
	bool told = false;
	int error;

	for (unsigned tries = 1;; tries++) {
		f->drain = bht_drain_open(f->target.pid, &sink, &f->refusal);
		error = f->drain ? 0 : errno;
		if (!error || record_stopped() || record_target_exited(&f->target) ||
		    !(f->target.child ? may_come(error) : error == EAGAIN))
			break;
		if (!told && patient_now_ms() - began >= ATTACH_TELL_MS) {
			told = true;
			fprintf(stderr, "bhtrace: process %" PRIu32 " has not loaded libbh so far; waiting for it\n",
				f->target.pid);
		}
		record_target_wait(&f->target, tries < ATTACH_TRIES ? ATTACH_MS : ATTACH_SLOW_MS);
	}
	if (!error)
		return 0;
	if (f->target.child && f->target.exited)
		fprintf(stderr, "bhtrace: nothing was recorded: %s\n", record_ended(&f->target));
	return refuse(&f->refusal, f->target.exited && error == ESRCH ? ENOENT : error);
}

static int open_recording(struct flight *f)
{
	struct bht_ctf_about about;
	int rc = record_process_path(f->path, sizeof(f->path), f->q->dir, f->target.pid);
	int dir = -1;

	if (!rc && mkdir(f->path, 0700))
		rc = -errno;
	if (!rc) {
		dir = open(f->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		rc = dir < 0 ? -errno : 0;
	}
	if (!rc) {
		f->until = openat(dir, BHT_UNTIL, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		rc = f->until < 0 ? -errno : bht_until_write(f->until, 0);
	}
	snprintf(f->refusal.why, sizeof(f->refusal.why), "%.300s: %s", f->path, strerror(-rc));
	if (!rc)
		rc = bht_ctf_about(f->target.pid, &about, &f->refusal);
	if (!rc) {
		f->ctf = bht_ctf_create(dir, "history", f->path, &about, &f->refusal);
		rc = f->ctf ? 0 : -errno;
	}
	if (rc && f->until >= 0)
		unlinkat(dir, BHT_UNTIL, 0);
	if (dir >= 0)
		close(dir);
	if (!rc)
		return 0;
	rmdir(f->path);
	return refuse(&f->refusal, -rc);
}

/* --- recording ------------------------------------------------------------------------ */

static int turn(struct flight *f)
{
	int rc = bht_drain_round(f->drain, &f->refusal);

	/* All or none: a ring whose events are on the disk must not be far ahead. */
	if (patient_now_ms() >= f->flushed_ms + FLUSH_MS || bht_ctf_count(f->ctf).bytes != f->flushed_bytes)
		flush(f);
	if (!rc)
		show(f);
	return rc;
}

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

/* What evidence knows has to be in the history, too. */
static void drop_evidence(const struct flight *f)
{
	char path[PATH_SIZE + 16];

	snprintf(path, sizeof(path), "%s/evidence", f->path);
	unlink(path);
}

/* Looking at it takes up to some seconds, while the rings fill. */
static int keep_evidence(struct flight *f)
{
	struct evidence e = { .path = f->path, .pid = f->target.pid };
	pthread_t thread;
	int rc = 0;

	unshow(f);
	const bool alone = pthread_create(&thread, NULL, take_evidence, &e);
	if (alone)
		take_evidence(&e);
	while (!rc && !atomic_load(&e.done)) {
		rc = turn(f);
		record_target_wait(&f->target, bht_drain_pause_ms(f->drain));
	}
	if (!alone)
		pthread_join(thread, NULL);
	if (!rc)
		rc = turn(f);
	if (rc)
		drop_evidence(f);
	else if (e.rc != -ESRCH && !f->error)
		f->error = e.rc; /* which was said */
	return rc;
}

static int record(struct flight *f)
{
	int rc = 0;

	while (!rc && !record_stopped() && !record_target_exited(&f->target)) {
		rc = turn(f);
		if (!rc)
			record_target_wait(&f->target, bht_drain_pause_ms(f->drain));
	}
	if (!rc && !record_target_exited(&f->target))
		rc = keep_evidence(f);
	/* It loses its memory some time before it has exited. */
	for (unsigned ms = 0; rc == -ESRCH && ms < EXIT_MS && !record_target_exited(&f->target); ms += 20)
		record_target_wait(&f->target, 20);
	return rc;
}

static void explain(struct flight *f, int rc)
{
	const struct bht_drain_stats stats = bht_drain_stats(f->drain);
	struct record_result *r = f->result;

	r->ended = rc == -ESTALE                       ? "the target executed another program"
		   : rc == -EPERM                      ? "the target may not be read any more"
		   : rc == -ENOMEM                     ? "there was no memory"
		   : rc == -ESRCH && !f->target.exited ? "the target is about to exit"
						       : record_ended(&f->target);
	if (stats.overwritten)
		note(r,
		     "%" PRIu64 " records were overwritten before they could be read: a ring of %" PRIu64
		     " KiB is too small for this rate. With BH_FLIGHT=4M in its environment the target has larger "
		     "ones.",
		     stats.overwritten, stats.capacity * sizeof(struct bhp_record) / 1024);
	if (stats.before)
		note(r, "%" PRIu64 " records had been overwritten before the recording began.", stats.before);
	if (stats.damage[0])
		note(r, "Not all could be read: %s.", stats.damage);
	if (rc == -ESRCH || f->target.exited)
		note(r,
		     "Its last moments, up to %d ms, are not in it; with BH_FLIGHT=file:DIR in its environment "
		     "a process leaves them behind.",
		     BHT_DRAIN_MAX_MS);
}

static int close_recording(struct flight *f, int rc)
{
	bht_drain_end(f->drain);
	tell_all_missed(f);
	flush(f);
	unshow(f);
	explain(f, rc);
	const struct bht_ctf_count count = bht_ctf_count(f->ctf);
	f->result->events = count.events;
	f->result->discarded = count.discarded + f->missed;
	f->result->bytes = count.bytes;
	f->result->bytes_read = bht_drain_stats(f->drain).bytes_read;
	complain(f, bht_ctf_close(f->ctf, &f->refusal));
	f->ctf = NULL;
	return f->error ? EXIT_BAD_INPUT : rc == -ENOMEM ? EXIT_UNDECIDABLE : EXIT_HEALTHY;
}

/* --- snapshots -------------------------------------------------------------------------- */

struct looks {
	struct record_hangs hangs;
	unsigned taken;
};

static int keep(struct flight *f, struct looks *l, struct patient *p, const char *why)
{
	char path[PATH_SIZE], safe[PATH_SIZE];

	if (snprintf(path, sizeof(path), "%s-%u", f->path, l->taken + 1) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	int rc = bht_snapshot_write(path, &p->ev, p->history, &p->refusal);
	if (rc)
		return rc;
	l->taken++;
	f->result->events = p->d.n_events;
	f->result->discarded = p->d.lost_events;
	snprintf(f->result->where, sizeof(f->result->where), "%.500s", path);
	fprintf(stderr, "bhtrace: %s: %s\n", bht_escape(safe, sizeof(safe), path), why);
	return 0;
}

/* Keeps what it sees when it hangs, or when WHY is not NULL. 0 or -errno. */
static int look(struct flight *f, struct looks *l, const char *why)
{
	struct patient p;
	int rc = patient_open(&p, f->target.pid, BHT_LATE_NS);

	record_signals(); /* the patient's SIGINT is ours */
	if (!rc)
		rc = patient_examine(&p);
	if (!rc && record_stable_hang(&l->hangs, &p.d) && !why)
		why = bht_rules[p.d.findings[0].rule].id;
	if (!rc && why)
		rc = keep(f, l, &p, why);
	f->refusal = p.refusal;
	patient_close(&p);
	return rc;
}

static int record_snapshots(struct flight *f)
{
	struct looks l = { .taken = 0 };
	int rc = record_process_path(f->path, sizeof(f->path), f->q->dir, f->target.pid);

	while (!rc && !record_stopped() && !record_target_exited(&f->target)) {
		rc = look(f, &l, record_snapshot_wanted() ? "asked for" : NULL);
		if (!rc)
			record_target_wait(&f->target, LOOK_MS);
	}
	if (!rc && !record_target_exited(&f->target))
		rc = look(f, &l, "at the end");
	f->result->ended = record_ended(&f->target);
	if (rc && !record_target_exited(&f->target))
		return refuse(&f->refusal, -rc);
	if (l.taken > 1)
		note(f->result, "There are %u snapshots; this is the last one.", l.taken);
	else if (!l.taken)
		note(f->result, "No snapshot was taken: no hang was seen while it lived.");
	return EXIT_HEALTHY;
}

/* --- all ----------------------------------------------------------------------------------- */

static int run(struct flight *f)
{
	char size[] = "BH_FLIGHT=1M", *env[] = { size, NULL };
	int code = record_target_open(f->q, getenv("BH_FLIGHT") ? NULL : env, &f->target);

	if (!code)
		code = attach(f);
	if (code)
		return code;
	f->result->target = f->target.pid;
	if (f->q->snapshot)
		return record_snapshots(f);
	code = open_recording(f);
	return code ? code : close_recording(f, record(f));
}

int record_flight(const struct record_request *q, struct record_result *result)
{
	struct flight f = {
		.q = q, .result = result, .target = { .pidfd = -1 }, .until = -1, .began_ns = bht_mono_ns()
	};
	struct timespec cpu;

	if (mkdir(q->dir, 0700)) {
		const int error = errno;
		snprintf(f.refusal.why, sizeof(f.refusal.why), "%.300s: %s", q->dir, strerror(error));
		return refuse(&f.refusal, error);
	}
	snprintf(result->where, sizeof(result->where), "%.500s", q->dir);
	const int code = run(&f);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	result->cpu_share = ((double)cpu.tv_sec * 1e9 + (double)cpu.tv_nsec) / (double)(bht_mono_ns() - f.began_ns);
	if (f.until >= 0)
		close(f.until);
	while (f.places) {
		struct place *next = f.places->next;
		free(f.places);
		f.places = next;
	}
	bht_drain_close(f.drain);
	record_target_close(&f.target);
	rmdir(q->dir); /* as far as there is nothing in it */
	return code;
}
