/* SPDX-License-Identifier: MIT */
/*
 * bhtrace record --via lttng: the recording is LTTng's; this starts and ends it,
 * and keeps the evidence that LTTng knows nothing of.
 *
 *   DIR/lttng/, DIR/COMMAND-PID/          a recording (recording.h)
 *   DIR/snapshot-N/                       the same for each snapshot
 */
#include "record.h"

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "babeltrace.h"
#include "bhtrace.h"
#include "lttng_session.h"
#include "patient.h"
#include "procfs.h"
#include "render.h"

#define PROVIDER "libbh-lttng.so.0"

enum { POLL_MS = 500, REGISTER_MS = 5000, NAP_MS = 20, HOST_MAX = 255 };

/* Disk that is left free, besides the buffers that are still to be written; what no
 * disk is filled faster than; and what is read through at the end to count its events,
 * in about a second. */
enum { DISK_MIN = 4 * 1024 * 1024, DISK_BYTES_PER_MS = 1024 * 1024, COUNT_MAX = 64 * 1024 * 1024 };

struct recorder {
	const struct record_request *q;
	struct session_plan plan;
	struct session session;
	struct record_target target;
	char dir[PATH_MAX];         /* absolute */
	char output[PATH_MAX + 64]; /* plan.output; then where the last snapshot is */
	char live[400];             /* what a live session's URL begins with */
	struct record_hangs hangs;
	bool unexamined;                     /* the target cannot be looked at, which was said */
	unsigned n_snapshots, last_snapshot; /* tried, and the last that was taken; 0: none */
	uint64_t disk_free, disk_spare;      /* at the last look; the latter above what must stay free */
	bool disk_full, incomplete;
};

/* Says it on stderr; gives CODE. */
static int say(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int say(int code, const char *format, ...)
{
	char text[PATH_MAX + 512], safe[2 * sizeof(text)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "bhtrace: %s\n", bht_escape(safe, sizeof(safe), text));
	return code;
}

/* --- the disk --------------------------------------------------------------------------- */

static uint64_t free_bytes(const char *dir)
{
	struct statvfs disk;

	return statvfs(dir, &disk) ? UINT64_MAX : (uint64_t)disk.f_bavail * disk.f_frsize;
}

/*
 * A full disk leaves packets and metadata half written, which no reader takes. So a
 * recording ends while there is room for what is in the buffers, and for twice of
 * what came since the last look.
 */
static bool disk_has_room(struct recorder *r)
{
	uint64_t left = free_bytes(r->dir), used = r->disk_free > left ? r->disk_free - left : 0;
	uint64_t needed = session_buffers(&r->session) + DISK_MIN + 2 * used;

	r->disk_free = left;
	r->disk_spare = left > needed ? left - needed : 0;
	return left >= needed;
}

/* Until the disk is looked at again: before what it can spare could be filled. */
static int nap_ms(const struct recorder *r)
{
	uint64_t ms = r->disk_spare / DISK_BYTES_PER_MS;

	return r->plan.mode != SESSION_FILES || ms > POLL_MS ? POLL_MS : ms < NAP_MS ? NAP_MS : (int)ms;
}

/* --- the plan -------------------------------------------------------------------------- */

/*
 * net://HOST[:CONTROL[:DATA[:LIVE]]], of which LTTng gets all but the last, and
 * readers get the last.
 */
static int plan_relayd(struct recorder *r)
{
	const char *to = r->q->to, *host = strstr(to, "://");
	char hostname[HOST_NAME_MAX + 1] = "";
	unsigned port[3] = { 0 };
	int end = 0;

	if (r->q->snapshot)
		return say(EXIT_USAGE, "--snapshot keeps what it takes in a directory: -o DIR instead of --to");
	host = host ? host + 3 : to;
	int length = (int)strcspn(host, *host == '[' ? "]" : ":/");
	length += host[length] == ']';
	sscanf(host + length, ":%5u%n:%5u%n:%5u%n", &port[0], &end, &port[1], &end, &port[2], &end);
	if ((strncmp(to, "net://", 6) && strncmp(to, "net6://", 7)) || !length || length > HOST_MAX ||
	    host[length + end] || port[0] > 65535 || port[1] > 65535 || port[2] > 65535)
		return say(EXIT_USAGE, "--to %s: net://HOST[:CONTROL[:DATA[:LIVE]]] is needed", to);
	length += (int)(host - to);
	gethostname(hostname, sizeof(hostname) - 1);
	int n = snprintf(r->output, sizeof(r->output), "%.*s", length, to);
	for (unsigned i = 0; i < 2 && port[i]; i++)
		n += snprintf(r->output + n, sizeof(r->output) - (size_t)n, ":%u", port[i]);
	n = snprintf(r->live, sizeof(r->live), "%.*s", length, to);
	if (port[2])
		n += snprintf(r->live + n, sizeof(r->live) - (size_t)n, ":%u", port[2]);
	snprintf(r->live + n, sizeof(r->live) - (size_t)n, "/host/%s/", hostname);
	r->plan.mode = SESSION_LIVE;
	r->plan.output = r->output;
	return EXIT_HEALTHY;
}

static int plan_directory(struct recorder *r)
{
	const char *dir = r->q->dir;

	if (mkdir(dir, 0700) || !realpath(dir, r->dir))
		return say(errno == EACCES || errno == EPERM ? EXIT_NOT_PERMITTED : EXIT_BAD_INPUT, "%s: %s", dir,
			   strerror(errno));
	r->plan.mode = r->q->snapshot ? SESSION_SNAPSHOTS : SESSION_FILES;
	snprintf(r->output, sizeof(r->output), "%s/lttng", r->dir);
	r->plan.output = r->q->snapshot ? NULL : r->output;
	r->disk_free = free_bytes(r->dir);
	if (disk_has_room(r))
		return EXIT_HEALTHY;
	rmdir(r->dir);
	return say(EXIT_BAD_INPUT, "%s: of %" PRIu64 " KiB that are free, the buffers alone may fill %" PRIu64, dir,
		   r->disk_free / 1024, session_buffers(&r->session) / 1024);
}

/* A process that runs already must have the provider in it: nothing can be loaded
 * from outside without stopping it. */
static int check_process(uint32_t pid, struct session_plan *plan)
{
	struct bht_procfs proc;
	int error = -bht_procfs_open(&proc, pid);

	if (!error)
		error = -bht_text_read_list(&proc.text, proc.files, "maps");
	bool loaded = !error && strstr(proc.text.data, "libbh-lttng.so");
	plan->vpid = proc.ns_pid ? proc.ns_pid : pid;
	bht_procfs_close(&proc);
	if (error == ESRCH || error == ENOENT)
		return say(EXIT_BAD_INPUT, "process %" PRIu32 ": no such process", pid);
	if (error)
		return say(error == EACCES || error == EPERM ? EXIT_NOT_PERMITTED : EXIT_BAD_INPUT,
			   "process %" PRIu32 ": its maps cannot be read: %s", pid, strerror(error));
	if (!loaded)
		return say(EXIT_BAD_INPUT,
			   "process %" PRIu32 " has not loaded " PROVIDER ": start it with BH_LTTNG=1 in its "
			   "environment, or record it with --via flight",
			   pid);
	return EXIT_HEALTHY;
}

/* --- the target -------------------------------------------------------------------------- */

/* In the build tree the provider lies beside the tool, where nobody else looks. */
static void provider_variable(char *dst, size_t size)
{
	char self[PATH_MAX] = "", path[PATH_MAX + 32];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash = n > 0 ? strrchr(self, '/') : NULL;

	snprintf(path, sizeof(path), "%.*s/" PROVIDER, slash ? (int)(slash - self) : 0, self);
	snprintf(dst, size, "BH_LTTNG=%s", slash && access(path, R_OK) == 0 ? path : "1");
}

/* A command has its process id before it runs, so that the session is of it alone,
 * and has its first event. */
static int hold_target(struct recorder *r)
{
	char provider[2 * PATH_MAX];

	provider_variable(provider, sizeof(provider));
	const int code = record_target_hold(r->q, (char *const[]){ provider, NULL }, &r->target);
	if (!code && r->q->command)
		r->plan.vpid = r->target.pid;
	return code;
}

/* A daemon that was started just now is found by the process in its own time. */
static bool await_registration(struct recorder *r)
{
	uint64_t deadline = patient_now_ms() + REGISTER_MS;
	bool known;

	while (!(known = session_knows(&r->session, r->plan.vpid)) && patient_now_ms() < deadline &&
	       !record_stopped() && !record_target_exited(&r->target))
		record_target_wait(&r->target, NAP_MS);
	return known || record_stopped() || record_target_exited(&r->target);
}

/* What runs already was seen to have the provider; a command may load it later. */
static int check_registration(struct recorder *r)
{
	if (await_registration(r))
		return EXIT_HEALTHY;
	if (r->q->pid)
		return say(EXIT_BAD_INPUT,
			   "process %" PRIu32 " has not registered with the session daemon: it belongs to another "
			   "user, or was started with another LTTNG_HOME",
			   r->q->pid);
	return say(EXIT_HEALTHY,
		   "process %" PRIu32 " has not registered with LTTng so far: is it linked with libbh, and is " PROVIDER
		   " installed?",
		   r->target.pid);
}

/* --- snapshots --------------------------------------------------------------------------- */

static void keep_evidence(struct recorder *r, const char *dir)
{
	if (!record_target_exited(&r->target))
		record_evidence(dir, r->target.pid); /* it says itself what is wrong; the events are kept anyway */
}

static void take_snapshot(struct recorder *r, const char *why)
{
	char dir[sizeof(r->dir) + 32], output[sizeof(dir) + 8];
	int error = disk_has_room(r) ? 0 : ENOSPC;

	snprintf(dir, sizeof(dir), "%s/snapshot-%u", r->dir, ++r->n_snapshots);
	snprintf(output, sizeof(output), "%s/lttng", dir);
	if (!error && mkdir(dir, 0700))
		error = errno;
	if (error)
		say(0, "%s: %s: %s", dir, why, strerror(error));
	r->incomplete |= error != 0;
	if (error)
		return;
	keep_evidence(r, dir);
	if (session_snapshot(&r->session, output)) {
		r->incomplete = true;
		return;
	}
	r->last_snapshot = r->n_snapshots;
	say(0, "%s: %s", dir, why);
}

/* Looks without stopping it. One that cannot be looked at is recorded anyway. */
static void watch_for_hang(struct recorder *r)
{
	struct patient p;
	int error = -patient_open(&p, r->target.pid, BHT_LATE_NS);

	record_signals(); /* the patient's SIGINT is ours */
	if (!error)
		error = -patient_examine(&p);
	if (!error && record_stable_hang(&r->hangs, &p.d))
		take_snapshot(r, bht_rules[p.d.findings[0].rule].id);
	if (error == EPERM || error == EACCES) {
		patient_refused(&p, error);
		r->unexamined = true;
	}
	patient_close(&p);
}

/* --- the recording ------------------------------------------------------------------------- */

static void announce(const struct recorder *r)
{
	const struct session *s = &r->session;

	say(0, "LTTng session %s: %u sub-buffers of %" PRIu64 " KiB for each of %u CPUs, %s", s->name, s->n_subbuf,
	    s->subbuf_size / 1024, s->n_cpus,
	    r->plan.mode == SESSION_SNAPSHOTS ? "the oldest are overwritten" : "what does not fit is discarded");
	if (r->plan.mode == SESSION_LIVE)
		say(0, "to read it meanwhile: bhtrace diagnose %s%s", r->live, s->name);
}

static void record(struct recorder *r)
{
	while (!r->disk_full && !record_stopped() && !record_target_exited(&r->target)) {
		record_target_wait(&r->target, nap_ms(r));
		if (r->plan.mode == SESSION_FILES)
			r->disk_full = !disk_has_room(r);
		if (r->plan.mode != SESSION_SNAPSHOTS)
			continue;
		if (record_snapshot_wanted())
			take_snapshot(r, "asked for");
		else if (!r->unexamined)
			watch_for_hang(r);
	}
}

static uint64_t n_bytes;

static int add_bytes(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)path;
	(void)at;
	n_bytes += type == FTW_F ? (uint64_t)st->st_size : 0;
	return 0;
}

/* LTTng does not count the events it has written. */
static uint64_t count_events(const char *dir)
{
	struct bht_event batch[BHT_BATCH];
	struct bht_refusal refusal;
	struct bht_source *source;
	uint64_t n = 0;
	int got;

	if (bht_babeltrace_open(&dir, 1, NULL, &source, &refusal))
		return 0;
	while ((got = source->next(source, batch, BHT_BATCH)) > 0)
		for (int i = 0; i < got; i++)
			n += bht_event_id(&batch[i]) != BHT_ID_LOSS;
	source->close(source);
	return n;
}

static void sum_up(struct recorder *r, struct record_result *result)
{
	result->target = r->target.pid;
	result->ended = r->disk_full ? "the disk was nearly full" : record_ended(&r->target);
	result->events = UINT64_MAX;
	if (r->plan.mode == SESSION_LIVE) {
		snprintf(result->where, sizeof(result->where), "%s%s", r->live, r->session.name);
		return;
	}
	if (r->last_snapshot)
		snprintf(r->output, sizeof(r->output), "%s/snapshot-%u/lttng", r->dir, r->last_snapshot);
	snprintf(result->where, sizeof(result->where), r->last_snapshot ? "%s/snapshot-%u" : "%s", r->q->dir,
		 r->last_snapshot);
	n_bytes = 0;
	nftw(r->output, add_bytes, 16, FTW_PHYS);
	result->bytes = n_bytes;
	if (n_bytes <= COUNT_MAX)
		result->events = count_events(r->output);
}

static int end(struct recorder *r, struct record_result *result)
{
	if (r->plan.mode == SESSION_FILES)
		keep_evidence(r, r->dir);
	else if (r->plan.mode == SESSION_SNAPSHOTS)
		take_snapshot(r, "at the end");
	r->incomplete |= !session_stop(&r->session, &result->discarded) || r->disk_full;
	sum_up(r, result);
	return r->incomplete ? EXIT_BAD_INPUT : EXIT_HEALTHY;
}

static int remove_empty(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)at;
	if (type == FTW_DP)
		rmdir(path);
	return 0;
}

int record_lttng(const struct record_request *q, struct record_result *result)
{
	struct recorder r = { .q = q, .target = { .pidfd = -1 } };
	int code = q->pid ? check_process(q->pid, &r.plan) : EXIT_HEALTHY;

	session_init(&r.session);
	if (!code)
		code = q->to ? plan_relayd(&r) : plan_directory(&r);
	if (code)
		return code;
	code = hold_target(&r);
	if (!code)
		code = session_open(&r.plan, &r.session);
	if (!code) {
		announce(&r);
		code = record_target_start(&r.target);
	}
	if (!code)
		code = check_registration(&r);
	if (!code) {
		record(&r);
		code = end(&r, result);
	}
	session_close(&r.session);
	record_target_close(&r.target);
	if (!result->ended && !q->to)
		nftw(r.dir, remove_empty, 16, FTW_PHYS | FTW_DEPTH);
	return code;
}
