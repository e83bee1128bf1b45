/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "clock.h"
#include "refuse.h"
#include "ringdir.h"
#include "ringroot.h"
#include "roots.h"

enum { FILES_MAX = BHT_RINGS_MAX + BHT_CHUNKS_MAX, PIDS_SHOWN = 16 };

struct ringdir {
	struct bht_source base;
	struct bht_source *merged;
	struct bht_ringname *name;
	size_t n_names;
	struct bht_ringroot *root;
	unsigned n_roots;
	/* While it is opened. */
	int dir;
	struct bht_evidence *ev;
	struct bht_refusal *refusal;
};

/* --- names -------------------------------------------------------------------- */

/* The only process id among the names. */
static int find_pid(const char *path, DIR *dir, uint32_t *pid, struct bht_refusal *refusal)
{
	char list[PIDS_SHOWN * 12] = "";
	uint32_t seen[PIDS_SHOWN];
	unsigned n = 0;
	struct bht_ringname name;

	for (struct dirent *entry; n < PIDS_SHOWN && (entry = readdir(dir));) {
		unsigned i = 0;
		if (!bht_ringname_parse(entry->d_name, &name))
			continue;
		while (i < n && seen[i] != name.pid)
			i++;
		if (i == n)
			seen[n++] = name.pid;
	}
	if (!n)
		return bht_refuse(refusal, -ENOENT, 0, "%s: no files of a recorder in it (bh-*.flight)", path);
	*pid = seen[0];
	if (n == 1)
		return 0;
	for (unsigned i = 0; i < n; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), " %u", seen[i]);
	return bht_refuse(refusal, -ENOTUNIQ, 0, "%s: files of several processes; which?%s%s", path, list,
			  n == PIDS_SHOWN ? " ..." : "");
}

static int compare(const void *a, const void *b)
{
	const struct bht_ringname *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? 1 : -1; /* newest first */
	if (x->kind != y->kind)
		return (int)x->kind - (int)y->kind;
	return (x->number > y->number) - (x->number < y->number);
}

static int find_names(struct ringdir *d, const char *path, DIR *dir, uint32_t pid)
{
	struct bht_ringname name;

	rewinddir(dir);
	for (struct dirent *entry; (entry = readdir(dir));) {
		if (!bht_ringname_parse(entry->d_name, &name) || name.pid != pid)
			continue;
		if (d->n_names == FILES_MAX)
			return bht_refuse(d->refusal, -E2BIG, 0, "%s: more than %d files of process %u", path,
					  FILES_MAX, pid);
		if (!bht_room_for_one(&d->name, d->n_names, sizeof(*d->name)))
			return bht_refuse(d->refusal, -ENOMEM, 0, "%s: no memory", path);
		d->name[d->n_names++] = name;
	}
	if (!d->n_names)
		return bht_refuse(d->refusal, -ENOENT, 0, "%s: no files of process %u in it", path, pid);
	qsort(d->name, d->n_names, sizeof(*d->name), compare);
	return 0;
}

/* --- roots -------------------------------------------------------------------- */

/* Whether the files of START belong to the process of the first root: another
 * copy of the kit in it, not an earlier process with the same id. */
static bool same_process(const struct ringdir *d, const struct bht_ringroot *root)
{
	return !d->n_roots || (root->known && root->process.started && d->root[0].known &&
			       root->process.started == d->root[0].process.started);
}

static int open_roots(struct ringdir *d)
{
	unsigned others = 0;
	int rc = 0;

	d->root = calloc(BHT_ROOTS_MAX, sizeof(*d->root));
	if (!d->root)
		return bht_refuse(d->refusal, -ENOMEM, 0, "rings: no memory");
	bht_ringroot_allow(d->n_names);
	for (size_t first = 0, last; first < d->n_names && !rc; first = last) {
		struct bht_ringroot root = { .dir = d->dir, .ev = d->ev, .refusal = d->refusal };
		for (last = first + 1; last < d->n_names && d->name[last].start == d->name[first].start;)
			last++;
		bht_ringroot_begin(&root, &d->name[first]);
		if (!same_process(d, &root) || d->n_roots == BHT_ROOTS_MAX) {
			others++;
			continue;
		}
		d->root[d->n_roots] = root;
		rc = bht_ringroot_open(&d->root[d->n_roots++], &d->name[first], last - first);
	}
	if (others)
		bht_unseen(d->ev, "files of %u other processes that had the same id before", others);
	return rc;
}

/* --- evidence ----------------------------------------------------------------- */

static void later(uint64_t *latest, uint64_t time)
{
	if (time > *latest)
		*latest = time;
}

static int add_thread(struct bht_sample *sample, const struct bht_ringfile *f, const char *name)
{
	const struct bht_ringhead *h = &f->header;
	struct bht_thread thread = { .tid = h->tid,
				     .ns_tid = h->tid,
				     .state = h->state == BHP_RING_EXITED ? 'X' : '?',
				     .syscall = BHT_SYSCALL_UNKNOWN };
	struct bht_thread *known = (struct bht_thread *)bht_sample_thread(sample, thread.tid);

	snprintf(thread.name, sizeof(thread.name), "%.15s", name);
	if (known) {
		/* The id was used again: the living one counts. */
		if (known->state == 'X')
			*known = thread;
		return 0;
	}
	if (!bht_room_for_one(&sample->threads, sample->n_threads, sizeof(*sample->threads)))
		return -ENOMEM;
	sample->threads[sample->n_threads++] = thread;
	return 0;
}

/* The widest pair of clock pairs says how fast the clock is. */
static void calibrate(struct bht_evidence *ev, const struct bhp_clock_pair *from, const struct bhp_clock_pair *to,
		      uint64_t *span)
{
	const double rate = bht_clock_rate(from, to, *span + 1);

	if (!rate)
		return;
	*span = to->mono_ns - from->mono_ns;
	ev->ticks_per_ns = rate;
}

static int sum_up(struct ringdir *d)
{
	struct bht_sample *sample = &d->ev->last;
	uint64_t span = 0;
	int rc = 0;

	for (unsigned i = 0; i < d->n_roots && !rc; i++) {
		const struct bht_ringroot *root = &d->root[i];
		calibrate(d->ev, &root->process.clock[0], &root->process.clock[1], &span);
		for (unsigned k = 0; k < root->n_rings && !rc; k++) {
			char name[BHP_TEXT_MAX + 1];
			later(&sample->ticks, bht_ringfile_latest(root->ring[k], name));
			calibrate(d->ev, &root->ring[k]->header.clock[0], &root->ring[k]->header.clock[1], &span);
			rc = root->ring[k]->header.tid ? add_thread(sample, root->ring[k], name) : 0;
		}
	}
	for (size_t i = 0; i < sample->n_bhs; i++)
		later(&sample->ticks, sample->bhs[i].last_run);
	for (size_t i = 0; i < sample->n_loops; i++)
		later(&sample->ticks, sample->loops[i].current_since);
	return rc;
}

static void describe(struct ringdir *d, const char *path)
{
	struct bht_evidence *ev = d->ev;

	ev->origin = BHT_FROM_RINGS;
	ev->source = path;
	ev->clock_error_ns = BHT_CLOCK_ERROR_NS;
	if (d->n_roots)
		memcpy(ev->command, d->root[0].process.command, sizeof(ev->command));
	for (unsigned i = 0; i < d->n_roots; i++)
		bht_ringroot_missing(&d->root[i]);
	if (ev->ticks_per_ns)
		return;
	ev->ticks_per_ns = 1;
	bht_unseen(ev, "how fast its clock was: times are in ticks");
}

/* --- history ------------------------------------------------------------------ */

static uint32_t same_tid(void *arg, uint32_t ns_tid)
{
	(void)arg;
	return ns_tid;
}

/* What is missing may be of any thread and any time. NULL for nothing, or with
 * errno ENOMEM. */
static struct bht_source *loss_of(const struct ringdir *d)
{
	bool missing = false;
	uint64_t dropped = 0;

	for (unsigned i = 0; i < d->n_roots; i++) {
		missing |= d->root[i].damaged;
		dropped += d->root[i].process.dropped;
	}
	errno = 0;
	if (missing)
		return bht_loss_source(d->ev->last.ticks, BHT_LOSS_DAMAGED, 0);
	return dropped ? bht_loss_source(d->ev->last.ticks, BHT_LOSS_DROPPED, dropped) : NULL;
}

static int merge_rings(struct ringdir *d)
{
	unsigned n = 0, all = 0;
	int rc = 0;

	for (unsigned i = 0; i < d->n_roots; i++)
		all += d->root[i].n_rings;
	struct bht_source **sources = calloc(all + 1, sizeof(struct bht_source *));
	if (!sources)
		return -ENOMEM;
	for (unsigned i = 0; i < d->n_roots && !rc; i++) {
		struct bht_ringroot *root = &d->root[i];
		bht_decoding_init(&root->how, root->table.info, root->table.n, d->ev->last.ticks);
		rc = bht_ringroot_start(root, same_tid, NULL, bht_ringroot_room(all), sources, &n);
	}
	sources[n] = rc ? NULL : loss_of(d);
	if (sources[n])
		n++;
	else if (!rc)
		rc = -errno;
	if (!rc) {
		d->merged = bht_merge(sources, n);
		rc = d->merged ? 0 : -errno;
	} else {
		for (unsigned i = 0; i < n; i++)
			sources[i]->close(sources[i]);
	}
	free(sources);
	return rc;
}

static int ringdir_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct ringdir *d = (struct ringdir *)source;

	return d->merged->next(d->merged, e, max);
}

static void ringdir_close(struct bht_source *source)
{
	struct ringdir *d = (struct ringdir *)source;

	if (d->merged)
		d->merged->close(d->merged);
	for (unsigned i = 0; i < d->n_roots; i++)
		bht_ringroot_close(&d->root[i]);
	free(d->root);
	free(d->name);
	if (d->dir >= 0)
		close(d->dir);
	free(d);
}

/* --- all ---------------------------------------------------------------------- */

static int find_files(struct ringdir *d, const char *path, uint32_t *pid)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		int rc = bht_refuse(d->refusal, -errno, 0, "%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	d->dir = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	int rc = d->dir < 0 ? bht_refuse(d->refusal, -errno, 0, "%s: %s", path, strerror(errno)) : 0;
	if (!rc && !*pid)
		rc = find_pid(path, dir, pid, d->refusal);
	if (!rc)
		rc = find_names(d, path, dir, *pid);
	closedir(dir);
	return rc;
}

/* Nothing of use in any file: the last refusal says why. */
static int check_found(const struct ringdir *d)
{
	for (unsigned i = 0; i < d->n_roots; i++)
		if (d->root[i].known || d->root[i].n_rings || d->ev->last.n_loops + d->ev->last.n_bhs)
			return 0;
	return -EBADMSG;
}

int bht_ringdir_open(const char *dir, uint32_t pid, struct bht_evidence *ev, struct bht_source **history,
		     struct bht_refusal *refusal)
{
	struct bht_refusal why = { 0 };
	struct ringdir *d = calloc(1, sizeof(*d));

	if (!d)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", dir);
	*d = (struct ringdir){ .base = { ringdir_next, ringdir_close }, .dir = -1, .ev = ev, .refusal = &why };
	ev->pid = pid;
	int rc = find_files(d, dir, &ev->pid);
	if (!rc)
		rc = open_roots(d);
	if (!rc)
		rc = check_found(d);
	if (!rc)
		rc = sum_up(d);
	if (!rc) {
		describe(d, dir);
		rc = merge_rings(d);
	}
	if (!rc) {
		*history = &d->base;
		return 0;
	}
	ringdir_close(&d->base);
	bht_evidence_free(ev);
	return bht_refuse(refusal, rc, why.addr, "%s", why.why[0] ? why.why : strerror(-rc));
}
