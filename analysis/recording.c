/* SPDX-License-Identifier: MIT */
#include "recording_lttng.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "beginnings.h"
#include "clock.h"
#include "ctf.h"
#include "epoch.h"
#include "refuse.h"
#include "snapshot.h"
#include "until.h"

enum { PROCESSES_MAX = 4096, TRACES_MAX = 256, PATH = 4096 };

/* What the arguments lead to. */
struct found {
	char *process[PROCESSES_MAX]; /* directories with evidence or a history of ours */
	unsigned n_processes;
	char *trace[TRACES_MAX]; /* for babeltrace */
	unsigned n_traces;
	struct bht_refusal *refusal;
};

/* --- what is there ------------------------------------------------------------- */

static bool is_a(const char *dir, const char *name, mode_t type)
{
	char path[PATH];
	struct stat st;

	return snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path) && !lstat(path, &st) &&
	       (st.st_mode & S_IFMT) == type;
}

static bool is_process(const char *dir)
{
	return is_a(dir, "evidence", S_IFREG) || is_a(dir, "history/metadata", S_IFREG);
}

static int keep(struct found *f, char **list, unsigned *n, unsigned max, const char *path)
{
	if (*n == max)
		return bht_refuse(f->refusal, -E2BIG, 0, "%s: more than %u of a kind", path, max);
	list[*n] = strdup(path);
	return list[*n] ? (++*n, 0) : bht_refuse(f->refusal, -ENOMEM, 0, "%s: no memory", path);
}

/* The process directories below a recording. */
static int look_inside(struct found *f, const char *path)
{
	DIR *dir = opendir(path);
	char child[PATH];
	int rc = 0;

	if (!dir)
		return bht_refuse(f->refusal, -errno, 0, "%s: %s", path, strerror(errno));
	for (struct dirent *e; !rc && (e = readdir(dir));)
		if (e->d_name[0] != '.' && is_a(path, e->d_name, S_IFDIR) &&
		    snprintf(child, sizeof(child), "%s/%s", path, e->d_name) < (int)sizeof(child) && is_process(child))
			rc = keep(f, f->process, &f->n_processes, PROCESSES_MAX, child);
	closedir(dir);
	return rc;
}

static int look_at(struct found *f, const char *path)
{
	char lttng[PATH];
	struct stat st;

	if (!strncmp(path, "net://", 6) || !strncmp(path, "net4://", 7))
		return keep(f, f->trace, &f->n_traces, TRACES_MAX, path);
	if (stat(path, &st))
		return bht_refuse(f->refusal, -errno, 0, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return bht_refuse(f->refusal, -ENOTDIR, 0, "%s: not a directory, as a recording is", path);
	if (is_process(path))
		return keep(f, f->process, &f->n_processes, PROCESSES_MAX, path);
	const unsigned before = f->n_processes;
	int rc = look_inside(f, path);
	if (rc)
		return rc;
	if (is_a(path, "lttng", S_IFDIR)) {
		if (snprintf(lttng, sizeof(lttng), "%s/lttng", path) >= (int)sizeof(lttng))
			return bht_refuse(f->refusal, -ENAMETOOLONG, 0, "%s: too long", path);
		return keep(f, f->trace, &f->n_traces, TRACES_MAX, lttng);
	}
	return f->n_processes > before ? 0 : keep(f, f->trace, &f->n_traces, TRACES_MAX, path);
}

static void found_free(struct found *f)
{
	for (unsigned i = 0; i < f->n_processes; i++)
		free(f->process[i]);
	for (unsigned i = 0; i < f->n_traces; i++)
		free(f->trace[i]);
}

/* --- our own ------------------------------------------------------------------- */

/* How far all streams are whole. What is missing at their end is later. */
static int read_until(int dir, struct bht_recorded *p, struct bht_source *history, struct bht_refusal *refusal)
{
	uint64_t until = 0;
	int fd = openat(dir, BHT_UNTIL, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int rc = fd < 0 ? -errno : bht_until_read(fd, &until);

	if (fd >= 0)
		close(fd);
	if (rc == -ENOENT)
		return 0;
	if (rc)
		return bht_refuse(refusal, rc, 0, "%s/%s: offset 0: %s", p->path, BHT_UNTIL,
				  rc == -EBADMSG ? "no time" : strerror(-rc));
	p->ev.history_until = until;
	p->whole = true;
	bht_ctf_until(history, until, until + 1);
	return 0;
}

/* A recorder that was killed has left no evidence, nor has a process. */
static int open_history(struct bht_recorded *p, struct bht_source **history, struct bht_refusal *refusal)
{
	struct bht_evidence *ev = &p->ev;
	struct bht_ctf_about about;
	int dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return bht_refuse(refusal, -errno, 0, "%s: %s", p->path, strerror(errno));
	int rc = bht_ctf_open(dir, "history", p->path, &about, history, refusal);
	if (!rc)
		rc = read_until(dir, p, *history, refusal);
	close(dir);
	if (rc) {
		if (*history)
			(*history)->close(*history);
		*history = NULL;
		return rc;
	}
	ev->source = p->path;
	ev->pid = about.pid;
	memcpy(ev->command, about.command, sizeof(ev->command));
	memcpy(ev->hostname, about.hostname, sizeof(ev->hostname));
	ev->ticks_per_ns = about.ticks_per_ns;
	ev->clock = about.clock;
	ev->realtime_ns = about.realtime_ns;
	ev->recorder = about.recorder;
	ev->clock_error_ns = BHT_CLOCK_ERROR_NS;
	bht_unseen(ev, "the state of the process: it or its recorder ended before that could be kept");
	return 0;
}

/* Whether only the end of an execution is recorded: by a heavy recorder, or by one between a program and a loop
 * of others (probes/uv/). */
static bool leaves_beginnings_out(const struct bht_evidence *ev)
{
	const struct bht_sample *s = &ev->last;
	bool put_between = false;

	for (size_t i = 0; i < s->n_loops; i++)
		put_between |= *s->loops[i].adapter && !(s->loops[i].traits & BHT_TRAIT_FOREIGN);
	return ev->recorder != BHT_BY_FLIGHT || put_between;
}

static int open_process(const char *path, struct bht_recorded *p, struct bht_source **history,
			struct bht_refusal *refusal)
{
	*history = NULL;
	*p = (struct bht_recorded){ .path = strdup(path), .kept = is_a(path, "evidence", S_IFREG) };
	if (!p->path)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", path);
	int rc = p->kept ? bht_snapshot_open(p->path, &p->ev, history, refusal) : open_history(p, history, refusal);
	if (rc || !*history || !leaves_beginnings_out(&p->ev))
		return rc;
	*history = bht_whole_history(*history, p, 1);
	return *history ? 0 : bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", path);
}

/* Says of each event which process it is of. */
struct stamp {
	struct bht_source base;
	struct bht_source *of;
	uint32_t process;
	bool convert; /* to ns since the Epoch */
	struct bht_epoch epoch;
};

static int stamp_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct stamp *s = (struct stamp *)source;
	int n = s->of->next(s->of, e, max);

	for (int i = 0; i < n; i++) {
		e[i].process = s->process;
		if (s->convert)
			bht_epoch_event(&s->epoch, &e[i]);
	}
	return n;
}

static void stamp_close(struct bht_source *source)
{
	struct stamp *s = (struct stamp *)source;

	s->of->close(s->of);
	free(s);
}

static struct bht_source *stamp(struct bht_source *of, uint32_t process, const struct bht_evidence *ev)
{
	struct stamp *s = calloc(1, sizeof(*s));

	if (!s) {
		of->close(of);
		return NULL;
	}
	*s = (struct stamp){ { stamp_next, stamp_close }, of, process, false, bht_epoch_of(ev) };
	return &s->base;
}

/* Several machines have no clock in common but real time. */
static int share_clock(struct bht_recording *rec, struct bht_source **sources, unsigned n, struct bht_refusal *refusal)
{
	bool same = true, known = true;

	for (unsigned i = 0; i < rec->n; i++) {
		same &= bht_epoch_same(&rec->process[0].ev, &rec->process[i].ev);
		known &= rec->process[i].ev.realtime_ns != 0;
	}
	if (same)
		return 0;
	if (!known)
		return bht_refuse(refusal, -EXDEV, 0, "%s: of several machines, and one has no clock; one at a time",
				  rec->name);
	for (unsigned i = 0; i < n; i++)
		((struct stamp *)sources[i])->convert = true;
	for (unsigned i = 0; i < rec->n; i++)
		bht_epoch_evidence(&rec->process[i].ev);
	return 0;
}

/* Opens what is ours; what has a history of its own goes to SOURCES. */
static int open_own(struct bht_recording *rec, const struct found *f, struct bht_source **sources, unsigned *n)
{
	struct bht_source *history;
	int rc = 0;

	rec->kept = calloc(f->n_processes + 1, sizeof(*rec->kept));
	rec->process = calloc(f->n_processes + 1, sizeof(*rec->process));
	if (!rec->kept || !rec->process)
		return bht_refuse(f->refusal, -ENOMEM, 0, "%s: no memory", rec->name);
	for (unsigned i = 0; i < f->n_processes && !rc; i++) {
		struct bht_recorded *p = &rec->kept[rec->n_kept++];
		rc = open_process(f->process[i], p, &history, f->refusal);
		if (rc || (!history && f->n_traces))
			continue; /* LTTng has it */
		rec->process[rec->n++] = *p;
		rec->n_kept--;
		if (!history)
			continue;
		sources[*n] = stamp(history, rec->n - 1, &p->ev);
		if (sources[*n])
			++*n;
		else
			rc = bht_refuse(f->refusal, -ENOMEM, 0, "%s: no memory", rec->name);
	}
	return rc ? rc : share_clock(rec, sources, *n, f->refusal);
}

static int merge_own(struct bht_recording *rec, const struct found *f)
{
	struct bht_source **sources = calloc(f->n_processes + 1, sizeof(struct bht_source *));
	unsigned n = 0;
	int rc = sources ? open_own(rec, f, sources, &n)
			 : bht_refuse(f->refusal, -ENOMEM, 0, "%s: no memory", rec->name);

	if (!rc && n && f->n_traces)
		rc = bht_refuse(f->refusal, -EXDEV, 0, "%s: a recording of ours and one of LTTng; one at a time",
				rec->name);
	if (rc) {
		while (n)
			n--, sources[n]->close(sources[n]);
	} else if (n) {
		rec->history = bht_merge(sources, n);
		rc = rec->history ? 0 : bht_refuse(f->refusal, -ENOMEM, 0, "%s: no memory", rec->name);
	}
	free(sources);
	if (rec->n)
		rec->ticks_per_ns = rec->process[0].ev.ticks_per_ns;
	return rc;
}

/* --- all ----------------------------------------------------------------------- */

int bht_recording_open(const char *const *traces, unsigned n, struct bht_recording *rec, struct bht_refusal *refusal)
{
	struct found *f = calloc(1, sizeof(*f));
	int rc = 0;

	snprintf(rec->name, sizeof(rec->name), "%s", n ? traces[0] : "");
	if (!f)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", rec->name);
	f->refusal = refusal;
	for (unsigned i = 0; i < n && !rc; i++)
		rc = look_at(f, traces[i]);
	if (!rc)
		rc = merge_own(rec, f);
	if (!rc && f->n_traces)
		rc = bht_recording_lttng(rec, (const char *const *)f->trace, f->n_traces, refusal);
	found_free(f);
	free(f);
	return rc;
}

void bht_recording_close(struct bht_recording *rec)
{
	if (rec->history)
		rec->history->close(rec->history);
	for (unsigned i = 0; i < rec->n; i++) {
		bht_evidence_free(&rec->process[i].ev);
		free(rec->process[i].path);
	}
	for (unsigned i = 0; i < rec->n_kept; i++) {
		bht_evidence_free(&rec->kept[i].ev);
		free(rec->kept[i].path);
	}
	free(rec->process);
	free(rec->kept);
	*rec = (struct bht_recording){ .stop = rec->stop };
}
