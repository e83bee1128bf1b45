/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "live.h"
#include "note.h"
#include "process.h"
#include "refuse.h"

static const uint64_t CLOCK_SPAN_NS = 10 * 1000 * 1000; /* that a pair of clock pairs should span */
static const long CLOCK_SLEEP_NS = 2 * 1000 * 1000;     /* when there is no time for more */
static const double CLOCK_ERROR_NS = 250;

struct bht_live {
	struct bht_process process;
	uint64_t root_addr[BHT_ROOTS_MAX];
	struct bhp_root root[BHT_ROOTS_MAX]; /* as read last */
	unsigned n_roots;
	struct bht_refusal skipped; /* why another root was not read, or "" */
	struct bhp_clock_pair opened;
	double ticks_per_ns;
	uint64_t read_ns;
};

static uint64_t mono_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- the clock ---------------------------------------------------------------- */

/* The tightest of a few tries: one that was interrupted is no pair. */
static struct bhp_clock_pair clock_now(void)
{
	struct bhp_clock_pair best = { 0, 0 };
	uint64_t narrowest = UINT64_MAX;

	for (int i = 0; i < 5; i++) {
		const uint64_t before = bhp_clock(), ns = mono_ns(), width = bhp_clock() - before;
		if (width < narrowest) {
			narrowest = width;
			best = (struct bhp_clock_pair){ before + width / 2, ns };
		}
	}
	return best;
}

/* Ticks per ns between two pairs; 0 when they are less than SPAN_NS apart or
 * what they say is no clock. */
static double clock_rate(const struct bhp_clock_pair *from, const struct bhp_clock_pair *to, uint64_t span_ns)
{
	if (!from->ticks || to->ticks <= from->ticks || to->mono_ns < from->mono_ns + span_ns)
		return 0;
	const double rate = (double)(to->ticks - from->ticks) / (double)(to->mono_ns - from->mono_ns);
	return rate > 0.001 && rate < 100 ? rate : 0;
}

static double measure_rate(void)
{
	const struct timespec pause = { 0, CLOCK_SLEEP_NS };
	const struct bhp_clock_pair from = clock_now();
	struct bhp_clock_pair to;

	do {
		nanosleep(&pause, NULL);
		to = clock_now();
	} while (to.mono_ns < from.mono_ns + (uint64_t)CLOCK_SLEEP_NS);
	return clock_rate(&from, &to, 1);
}

static void calibrate(struct bht_live *live, struct bht_evidence *ev)
{
	const struct bhp_clock_pair now = clock_now();
	/* Another time namespace moves the target's CLOCK_MONOTONIC. */
	const bool comparable = !live->process.proc.other_time_ns;
	double rate = comparable ? clock_rate(&live->root[0].clock[0], &now, CLOCK_SPAN_NS) : 0;

	if (!rate)
		rate = clock_rate(&live->opened, &now, CLOCK_SPAN_NS);
	if (!rate)
		rate = live->ticks_per_ns;
	if (!rate)
		rate = measure_rate();
	live->ticks_per_ns = rate;
	ev->ticks_per_ns = rate;
	ev->clock_error_ns = CLOCK_ERROR_NS;
}

/* --- opening ------------------------------------------------------------------ */

static int refuse_notes(const struct bht_live *live, const struct bht_notes *notes, struct bht_refusal *refusal)
{
	if (notes->n_foreign && !notes->n_images)
		return bht_refuse(
			refusal, -EPROTO, notes->foreign,
			"process %u: an ELF image of 32 bits or another byte order; this reader is for 64 bits",
			live->process.pid);
	return bht_refuse(refusal, -ENOENT, 0,
			  "process %u: no bhtrace note in %u mapped ELF images: not linked with libbh",
			  live->process.pid, notes->n_images);
}

static int find_notes(struct bht_live *live, struct bht_notes *notes, struct bht_refusal *refusal)
{
	const struct bht_process *p = &live->process;
	uint64_t *addrs = calloc(p->n_maps + 1, sizeof(*addrs));
	size_t n = 0;

	if (!addrs)
		return bht_refuse(refusal, -ENOMEM, 0, "process %u: no memory", p->pid);
	for (size_t i = 0; i < p->n_maps; i++)
		if (p->maps[i].file_start)
			addrs[n++] = p->maps[i].start;
	int rc = bht_notes_find(&live->process.mem, addrs, n, notes);
	free(addrs);
	return rc ? bht_refuse_read(refusal, rc, 0, "ELF images") : 0;
}

/* Keeps the roots that can be read. An ELF file that the target only maps as
 * data leads to none; the reason matters when it is the only one. */
static int find_roots(struct bht_live *live, struct bht_refusal *refusal)
{
	struct bht_notes notes = { .n_roots = 0 };
	int rc = find_notes(live, &notes, refusal);

	if (rc)
		return rc;
	if (!notes.n_roots)
		return refuse_notes(live, &notes, refusal);
	for (unsigned i = 0; i < notes.n_roots; i++) {
		struct bht_refusal why;
		int error = bht_root_read(&live->process.mem, notes.root[i], &live->root[live->n_roots], &why);
		if (!error) {
			live->root_addr[live->n_roots++] = notes.root[i];
		} else if (rc != -EPROTO) {
			rc = error == -EFAULT ? -EBADMSG : error;
			*refusal = why;
		}
	}
	if (!live->n_roots)
		return rc;
	if (rc == -EPROTO)
		live->skipped = *refusal;
	return 0;
}

struct bht_live *bht_live_open(uint32_t pid, struct bht_refusal *refusal)
{
	struct bht_live *live = calloc(1, sizeof(*live));
	const uint64_t began = mono_ns();

	if (!live) {
		bht_refuse(refusal, -ENOMEM, 0, "process %u: no memory", pid);
		return NULL;
	}
	int rc = bht_process_open(&live->process, pid, refusal);
	if (!rc) {
		rc = find_roots(live, refusal);
		if (rc)
			rc = bht_process_refuse(&live->process, rc, refusal);
	}
	if (rc) {
		bht_live_close(live);
		errno = -rc;
		return NULL;
	}
	live->opened = clock_now();
	live->read_ns = live->opened.mono_ns - began;
	return live;
}

void bht_live_close(struct bht_live *live)
{
	if (!live)
		return;
	bht_process_close(&live->process);
	free(live);
}

bool bht_live_alive(const struct bht_live *live)
{
	return bht_process_alive(&live->process);
}

uint64_t bht_live_read_us(const struct bht_live *live)
{
	return live->read_ns / 1000;
}

/* --- sampling ----------------------------------------------------------------- */

/* A child that was made past fork() still has what libbh knew of its parent. */
static void check_pid(const struct bht_live *live, const struct bhp_root *root, struct bht_evidence *ev)
{
	const struct bht_procfs *proc = &live->process.proc;

	if (root->pid && proc->ns_pid && root->pid != proc->ns_pid)
		bht_unseen(ev, "the loops of this process itself: what it shows is a copy of process %u's", root->pid);
}

/* The registries of all roots. One that is damaged leaves the sample unstable:
 * what was found is shown, nothing is concluded from what was not. */
static int sample_registries(struct bht_live *live, struct bht_evidence *ev, struct bht_sample *sample,
			     struct bht_refusal *refusal)
{
	struct bht_memory *mem = &live->process.mem;

	for (unsigned i = 0; i < live->n_roots; i++) {
		struct bhp_root *root = &live->root[i];
		int rc = bht_root_read(mem, live->root_addr[i], root, refusal);
		if (!rc)
			rc = bht_registry_walk(mem, root, sample, refusal);
		if (rc == -ESRCH || rc == -EPERM || rc == -ENOMEM)
			return rc;
		if (rc) {
			sample->unstable = true;
			bht_unseen(ev, "loops and bottom halves: %s, at 0x%llx", refusal->why,
				   (unsigned long long)refusal->addr);
		}
		check_pid(live, root, ev);
	}
	return 0;
}

static int sample_all(struct bht_live *live, struct bht_evidence *ev, struct bht_sample *sample,
		      struct bht_refusal *refusal)
{
	struct bht_procfs *proc = &live->process.proc;
	int rc = sample_registries(live, ev, sample, refusal);

	if (rc)
		return rc;
	rc = bht_procfs_threads(proc, ev, sample);
	if (rc)
		return bht_refuse(refusal, rc, 0, "threads of process %u: %s", proc->pid, strerror(-rc));
	for (size_t i = 0; i < sample->n_loops; i++) {
		struct bht_loop *loop = &sample->loops[i];
		loop->owner = loop->owner ? bht_tids_map(&proc->tids, loop->owner) : 0;
		bht_procfs_notifier(proc, ev, loop);
	}
	return 0;
}

/* The name is the main thread's. */
static void tell_command(const struct bht_live *live, struct bht_evidence *ev, const struct bht_sample *sample)
{
	const struct bht_thread *leader = bht_sample_thread(sample, live->process.pid);

	ev->pid = live->process.pid;
	if (leader)
		memcpy(ev->command, leader->name, sizeof(ev->command));
}

int bht_live_sample(struct bht_live *live, struct bht_evidence *ev, struct bht_sample *sample,
		    struct bht_refusal *refusal)
{
	const uint64_t began = mono_ns(), bytes = live->process.mem.bytes_read;

	*sample = (struct bht_sample){ .ticks = bhp_clock() };
	int rc = sample_all(live, ev, sample, refusal);
	if (rc || bht_process_gone(&live->process)) {
		bht_sample_free(sample);
		return bht_process_refuse(&live->process, rc, refusal);
	}
	sample->bytes_read = live->process.mem.bytes_read - bytes;
	live->read_ns += mono_ns() - began;
	ev->read_us = bht_live_read_us(live);
	tell_command(live, ev, sample);
	calibrate(live, ev);
	return 0;
}

/* --- history ------------------------------------------------------------------ */

/* The merged events, with all that they are decoded from. */
struct history {
	struct bht_source base;
	struct bht_source *merged;
	struct bht_rings *rings[BHT_ROOTS_MAX];
	unsigned n_rings;
	struct bht_tids tids;
};

static int history_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct history *h = (struct history *)source;

	return h->merged->next(h->merged, e, max);
}

static void history_close(struct bht_source *source)
{
	struct history *h = (struct history *)source;

	if (h->merged)
		h->merged->close(h->merged);
	for (unsigned i = 0; i < h->n_rings; i++)
		bht_rings_free(h->rings[i]);
	free(h->tids.pair);
	free(h);
}

static int copy_tids(struct bht_tids *to, const struct bht_tids *from)
{
	*to = *from;
	to->pair = malloc((from->n + 1) * sizeof(*to->pair));
	if (!to->pair)
		return -ENOMEM;
	for (size_t i = 0; i < from->n; i++)
		to->pair[i] = from->pair[i];
	return 0;
}

static uint64_t ticks_now(void)
{
	return bhp_clock();
}

static int copy_rings(struct bht_live *live, struct bht_evidence *ev, struct history *h, struct bht_refusal *refusal)
{
	for (unsigned i = 0; i < live->n_roots; i++) {
		struct bhp_root *root = &live->root[i];
		int rc = bht_root_read(&live->process.mem, live->root_addr[i], root, refusal);
		if (rc)
			return rc;
		refusal->why[0] = '\0';
		h->rings[i] = bht_rings_copy(&live->process.mem, root, ticks_now, refusal);
		if (!h->rings[i])
			return -errno;
		h->n_rings++;
		if (refusal->why[0])
			bht_unseen(ev, "part of the history: %s, at 0x%llx", refusal->why,
				   (unsigned long long)refusal->addr);
		if (root->mode == BHP_FLIGHT_OFF)
			bht_unseen(ev, "the history: the flight recorder is off (BH_FLIGHT)");
	}
	return 0;
}

/* Merges the rings of each root, then the roots. */
static int merge_rings(struct history *h)
{
	struct bht_source *of_root[BHT_ROOTS_MAX];
	unsigned done = 0;
	int rc = 0;

	for (; done < h->n_rings; done++) {
		struct bht_source **sources;
		unsigned n;
		rc = bht_rings_sources(h->rings[done], bht_tids_map, &h->tids, &sources, &n);
		if (rc)
			break;
		of_root[done] = bht_merge(sources, n);
		free(sources);
		if (!of_root[done]) {
			rc = -errno;
			break;
		}
	}
	if (!rc) {
		h->merged = bht_merge(of_root, done);
		return h->merged ? 0 : -errno;
	}
	for (unsigned i = 0; i < done; i++)
		of_root[i]->close(of_root[i]);
	return rc;
}

struct bht_source *bht_live_history(struct bht_live *live, struct bht_evidence *ev, struct bht_refusal *refusal)
{
	struct history *h = calloc(1, sizeof(*h));
	const uint64_t began = mono_ns();

	if (!h)
		return NULL;
	h->base = (struct bht_source){ history_next, history_close };
	int rc = copy_tids(&h->tids, &live->process.proc.tids);
	if (!rc)
		rc = copy_rings(live, ev, h, refusal);
	live->read_ns += mono_ns() - began;
	if (!rc)
		rc = merge_rings(h);
	if (!rc) {
		ev->read_us = bht_live_read_us(live);
		calibrate(live, ev);
		return &h->base;
	}
	history_close(&h->base);
	errno = -bht_process_refuse(&live->process, rc, refusal);
	return NULL;
}
