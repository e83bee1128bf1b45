/* SPDX-License-Identifier: MIT */
/*
 * bhtrace record --via flight: the rings of a live process, drained into a
 * recording; or with --snapshot, looked at until they are worth keeping.
 *
 *   DIR/COMMAND-PID/history/, evidence, until    a recording (recording.h, until.h)
 *   DIR/COMMAND-PID-N/                           a snapshot (snapshot.h)
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bhtrace.h"
#include "clock.h"
#include "drain.h"
#include "patient.h"
#include "record_writing.h"
#include "render.h"
#include "snapshot.h"

/* How a command is looked for libbh: first often, because it may be busy at once. */
enum { ATTACH_MS = 1, ATTACH_TRIES = 200, ATTACH_SLOW_MS = 20, ATTACH_TELL_MS = 1000 };
enum { LOOK_MS = 500, EXIT_MS = 2000, PATH_SIZE = 4096 };

struct flight {
	const struct record_request *q;
	struct record_result *result;
	struct record_target target;
	struct bht_drain *drain;
	struct recording r;
	uint64_t began_ns;
	struct bht_refusal refusal;
};

static void *make_place(void *recording)
{
	return recording_place(recording);
}

static void put(void *place, const struct bht_event *e)
{
	recording_put(place, e);
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
	const struct bht_drain_sink sink = { make_place, put, &f->r };
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
	return record_refused(&f->refusal, f->target.exited && error == ESRCH ? ENOENT : error);
}

static int open_recording(struct flight *f)
{
	struct bht_ctf_about about;
	int rc = bht_ctf_about(f->target.pid, &about, &f->refusal);

	if (!rc)
		rc = recording_open(&f->r, f->q->dir, &about, &f->refusal);
	return rc ? record_refused(&f->refusal, -rc) : 0;
}

/* --- recording ------------------------------------------------------------------------ */

static void show(const struct flight *f)
{
	const struct bht_ctf_count count = recording_count(&f->r);

	record_show("recording process %" PRIu32 ": %" PRIu64 " events, %" PRIu64 " discarded, %" PRIu64 " KiB",
		    f->target.pid, count.events, count.discarded, count.bytes / 1024);
}

static int turn(struct flight *f)
{
	int rc = bht_drain_round(f->drain, &f->refusal);

	if (recording_due(&f->r))
		recording_flush(&f->r, bht_drain_stats(f->drain).until);
	if (!rc)
		show(f);
	return rc;
}

static int turn_and_wait(void *flight)
{
	struct flight *f = flight;
	const int rc = turn(f);

	if (!rc)
		record_target_wait(&f->target, bht_drain_pause_ms(f->drain));
	return rc;
}

/* Looking at it takes up to some seconds, while the rings fill. */
static int keep_evidence(struct flight *f)
{
	int kept, rc = recording_evidence(&f->r, turn_and_wait, f, &kept);

	if (!rc)
		rc = turn(f);
	if (rc)
		recording_drop_evidence(&f->r);
	else if (kept != -ESRCH && !f->r.error)
		f->r.error = kept; /* which was said */
	return rc;
}

static int record(struct flight *f)
{
	int rc = 0;

	while (!rc && !record_stopped() && !record_target_exited(&f->target))
		rc = turn_and_wait(f);
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
		record_note(
			r,
			"%" PRIu64 " records were overwritten before they could be read: a ring of %" PRIu64
			" KiB is too small for this rate. With BH_FLIGHT=4M in its environment the target has larger "
			"ones.",
			stats.overwritten, stats.capacity * sizeof(struct bhp_record) / 1024);
	if (stats.before)
		record_note(r, "%" PRIu64 " records had been overwritten before the recording began.", stats.before);
	if (stats.damage[0])
		record_note(r, "Not all could be read: %s.", stats.damage);
	if (rc == -ESRCH || f->target.exited)
		record_note(r,
			    "Its last moments, up to %d ms, are not in it; with BH_FLIGHT=file:DIR in its environment "
			    "a process leaves them behind.",
			    BHT_DRAIN_MAX_MS);
}

static int close_recording(struct flight *f, int rc)
{
	struct bht_ctf_count count;

	bht_drain_end(f->drain);
	record_unshow();
	explain(f, rc);
	recording_close(&f->r, bht_drain_stats(f->drain).until, &count);
	f->result->events = count.events;
	f->result->discarded = count.discarded;
	f->result->bytes = count.bytes;
	f->result->bytes_read = bht_drain_stats(f->drain).bytes_read;
	return f->r.error ? EXIT_BAD_INPUT : rc == -ENOMEM ? EXIT_UNDECIDABLE : EXIT_HEALTHY;
}

/* --- snapshots -------------------------------------------------------------------------- */

struct looks {
	struct record_hangs hangs;
	unsigned taken;
};

static int keep(struct flight *f, struct looks *l, struct patient *p, const char *why)
{
	char path[PATH_SIZE], safe[PATH_SIZE];

	if (snprintf(path, sizeof(path), "%s-%u", f->r.path, l->taken + 1) >= (int)sizeof(path))
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
	int rc = record_process_path(f->r.path, sizeof(f->r.path), f->q->dir, f->target.pid);

	while (!rc && !record_stopped() && !record_target_exited(&f->target)) {
		rc = look(f, &l, record_snapshot_wanted() ? "asked for" : NULL);
		if (!rc)
			record_target_wait(&f->target, LOOK_MS);
	}
	if (!rc && !record_target_exited(&f->target))
		rc = look(f, &l, "at the end");
	f->result->ended = record_ended(&f->target);
	if (rc && !record_target_exited(&f->target))
		return record_refused(&f->refusal, -rc);
	if (l.taken > 1)
		record_note(f->result, "There are %u snapshots; this is the last one.", l.taken);
	else if (!l.taken)
		record_note(f->result, "No snapshot was taken: no hang was seen while it lived.");
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
		.q = q, .result = result, .target = { .pidfd = -1 }, .r = RECORDING_NONE, .began_ns = bht_mono_ns()
	};
	struct bht_ctf_count count;
	struct timespec cpu;

	if (mkdir(q->dir, 0700)) {
		const int error = errno;
		snprintf(f.refusal.why, sizeof(f.refusal.why), "%.300s: %s", q->dir, strerror(error));
		return record_refused(&f.refusal, error);
	}
	snprintf(result->where, sizeof(result->where), "%.500s", q->dir);
	const int code = run(&f);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	result->cpu_share = ((double)cpu.tv_sec * 1e9 + (double)cpu.tv_nsec) / (double)(bht_mono_ns() - f.began_ns);
	recording_close(&f.r, 0, &count); /* unless it was */
	bht_drain_close(f.drain);
	record_target_close(&f.target);
	rmdir(q->dir); /* as far as there is nothing in it */
	return code;
}
