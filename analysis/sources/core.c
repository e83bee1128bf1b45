/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "core.h"
#include "core_elf.h"
#include "lock.h"
#include "refuse.h"
#include "roots.h"

static const uint64_t CLOCK_SPAN_NS = 10 * 1000 * 1000; /* that the clock pairs should span */
static const uint64_t CLOCK_SPAN_MIN_NS = 50 * 1000;    /* and must: a pair may be off by some 100 ns */

/* All that the reading of one core needs. */
struct reader {
	struct bht_core core;
	struct bht_core_maps maps;
	struct bht_core_process process;
	struct bht_roots roots;
	struct bht_core_target foreign; /* without roots */
	struct bht_tids tids;
	struct bht_evidence *ev;
	uint64_t n_events;
	bool notes_cut;
};

/* --- notes and roots -------------------------------------------------------------- */

static int take_note(void *arg, uint32_t type, const unsigned char *desc, size_t size)
{
	struct reader *r = arg;
	int rc = bht_core_maps_note(&r->maps, type, desc, size);

	return rc ? rc : bht_core_process_note(&r->core.mem, &r->process, type, desc, size);
}

/* The loops of a process without libbh; REFUSAL says already that it has none. */
static int find_foreign(struct reader *r, const char *exe, struct bht_refusal *refusal)
{
	char first[sizeof(refusal->why)];
	struct bht_refusal why;
	int rc = bht_core_foreign_open(&r->foreign, &r->maps, exe, &why);

	if (!rc)
		return 0;
	memcpy(first, refusal->why, sizeof(first));
	if (rc == -ENOENT)
		return bht_refuse(refusal, rc, 0, "%.180s; and %.200s", first, why.why);
	return bht_refuse(refusal, rc, why.addr, "core %.100s: %.280s", r->core.path, why.why);
}

static int find_roots(struct reader *r, const char *exe, struct bht_refusal *refusal)
{
	struct bht_notes notes;
	char subject[256];
	int rc = bht_core_images(&r->core, &r->maps, exe, &notes, refusal);

	if (rc)
		return rc;
	snprintf(subject, sizeof(subject), "core %s", r->core.path);
	rc = bht_roots_open(&r->core.mem, &notes, subject, &r->roots, refusal);
	if ((rc == -ENOENT || rc == -EBADMSG) && (r->core.cut_off || r->notes_cut))
		return bht_refuse(refusal, -EBADMSG, r->core.file_size,
				  "core %s: offset 0x%llx: truncated before the %s", r->core.path,
				  (unsigned long long)r->core.file_size,
				  rc == -ENOENT ? "bhtrace note" : "memory that its note leads to");
	return rc;
}

/* The kernel writes thread ids as the target itself sees them, and so does gdb
 * in the same PID namespace. Otherwise nothing tells which thread is which. */
static void match_pids(struct reader *r)
{
	const uint32_t pid = r->process.pid, ns_pid = r->roots.root[0].pid;

	r->tids.same = !pid || !ns_pid || pid == ns_pid;
	if (!r->tids.same)
		bht_unseen(
			r->ev,
			"which thread did what: the core numbers the process %u, libbh %u; it was made in another PID "
			"namespace, or the process is a copy of that one",
			pid, ns_pid);
	r->ev->pid = pid ? pid : ns_pid;
	memcpy(r->ev->command, r->process.command, sizeof(r->ev->command));
}

/* --- state ------------------------------------------------------------------------ */

static int by_tid(const void *a, const void *b)
{
	const struct bht_thread *x = a, *y = b;

	return (x->tid > y->tid) - (x->tid < y->tid);
}

static struct bht_thread *find_thread(const struct reader *r, uint32_t tid)
{
	const struct bht_thread key = { .tid = tid };
	const struct bht_sample *sample = &r->ev->last;

	return sample->n_threads ? bsearch(&key, sample->threads, sample->n_threads, sizeof(key), by_tid) : NULL;
}

static int read_sample(struct reader *r, struct bht_refusal *refusal)
{
	struct bht_sample *sample = &r->ev->last;
	int rc = bht_roots_sample(&r->core.mem, &r->roots, 0, r->ev, sample, refusal);

	if (rc)
		return rc;
	sample->threads = r->process.threads;
	sample->n_threads = r->process.n_threads;
	r->process.threads = NULL;
	if (sample->n_threads)
		qsort(sample->threads, sample->n_threads, sizeof(*sample->threads), by_tid);
	bht_roots_owners(sample, &r->tids);
	bht_lock_read(&r->core.mem, sample, bht_tids_map, &r->tids);
	if (r->foreign.foreign)
		rc = bht_foreign_sample(r->foreign.foreign, r->ev, sample, refusal);
	if (rc)
		return rc;
	for (size_t i = 0; i < sample->n_loops; i++)
		if (sample->loops[i].current_since > sample->ticks)
			sample->ticks = sample->loops[i].current_since;
	for (size_t i = 0; i < sample->n_bhs; i++)
		if (sample->bhs[i].last_run > sample->ticks)
			sample->ticks = sample->bhs[i].last_run;
	return 0;
}

/* From the target's own clock pairs: when it started, when its last ring was taken. */
static void calibrate(struct reader *r)
{
	const uint64_t wanted[] = { CLOCK_SPAN_NS, CLOCK_SPAN_MIN_NS };
	double rate = 0;

	for (unsigned i = 0; i < 2 && !rate; i++)
		for (unsigned k = 0; k < r->roots.n && !rate; k++)
			rate = bht_clock_rate(&r->roots.root[k].clock[0], &r->roots.root[k].clock[1], wanted[i]);
	if (!r->roots.n)
		bht_unseen(r->ev, "the history: nothing in this process recorded it");
	else if (!rate)
		bht_unseen(r->ev, "the speed of the clock: all times are given as if a tick took a nanosecond");
	r->ev->ticks_per_ns = rate ? rate : 1;
	r->ev->clock_error_ns = BHT_CLOCK_ERROR_NS;
}

/* --- history ---------------------------------------------------------------------- */

/* The directory of ring files that the target had mapped, or NULL. */
static const char *ring_directory(const struct bht_core_maps *maps, int *len)
{
	for (size_t i = 0; i < maps->n; i++) {
		const char *name = maps->map[i].name, *slash = strrchr(name, '/'), *dot = strrchr(name, '.');
		if (!slash || !dot || strncmp(slash, "/bh-", 4) != 0 || strcmp(dot, ".flight") != 0)
			continue;
		*len = (int)(slash - name);
		return name;
	}
	return NULL;
}

static void tell_ring_files(struct reader *r)
{
	int len = 0;
	const char *directory = ring_directory(&r->maps, &len);

	for (unsigned i = 0; i < r->roots.n; i++)
		if (r->roots.root[i].mode == BHP_FLIGHT_FILE)
			bht_unseen(r->ev,
				   "what libbh keeps in files (BH_FLIGHT): a core has it only with bit 3 of "
				   "coredump_filter; "
				   "--ring %.*s reads the files",
				   directory ? len : 3, directory ? directory : "DIR");
}

/* The latest time, and the names of threads: notes have only the program's. */
static void see_event(void *arg, const struct bht_event *e)
{
	struct reader *r = arg;
	struct bht_sample *sample = &r->ev->last;

	if (bht_event_id(e) == BHT_ID_LOSS)
		return;
	r->n_events++;
	if (bhp_record_time(&e->r) >= sample->ticks)
		sample->ticks = bhp_record_time(&e->r) + (bhp_record_time(&e->r) < UINT64_MAX);
	struct bht_thread *thread = bht_event_id(e) == BHP_ID_thread && e->text ? find_thread(r, e->tid) : NULL;
	if (thread)
		snprintf(thread->name, sizeof(thread->name), "%s", e->text);
}

static int read_history(struct reader *r, struct bht_source **history, struct bht_refusal *refusal)
{
	struct bht_flight *flight = bht_roots_flight(&r->core.mem, &r->roots, NULL, r->ev, refusal);

	if (!flight)
		return -errno;
	int rc = bht_flight_scan(flight, &r->tids, see_event, r);
	tell_ring_files(r);
	if (rc || !r->n_events) {
		bht_flight_free(flight);
		bht_unseen(r->ev, "the history: no flight ring with events could be read");
		return rc ? bht_refuse(refusal, rc, 0, "history: %s", strerror(-rc)) : 0;
	}
	bht_flight_end(flight, r->ev->last.ticks);
	*history = bht_flight_source(flight, &r->tids);
	return *history ? 0 : bht_refuse(refusal, -errno, 0, "history: %s", strerror(errno));
}

/* --- what a core does not show ------------------------------------------------------ */

static void tell_limits(struct reader *r)
{
	const struct bht_core *core = &r->core;

	bht_unseen(r->ev,
		   "notifier counts, epoll sets, CPU time and context switches: a core has nothing of the kernel");
	if (core->cut_off)
		bht_unseen(r->ev, "%llu bytes of memory: the core is truncated, it ends at offset 0x%llx",
			   (unsigned long long)core->cut_off, (unsigned long long)core->file_size);
	if (core->not_dumped)
		bht_unseen(r->ev, "%llu KiB of writable memory: left out of the core, see coredump_filter in core(5)",
			   (unsigned long long)core->not_dumped >> 10);
	if (core->too_much)
		bht_unseen(r->ev, "part of the memory: more was asked for than is read of a core");
	if (r->notes_cut)
		bht_unseen(r->ev, "some threads: the notes of the core are truncated");
	if (r->process.n_strange)
		bht_unseen(r->ev, "%u threads: notes that this reader does not understand", r->process.n_strange);
	if (!r->process.n_threads)
		bht_unseen(r->ev, "threads: the core has no registers of any");
}

/* --- opening ------------------------------------------------------------------------ */

static int read_all(struct reader *r, const char *path, const char *exe, struct bht_source **history,
		    struct bht_refusal *refusal)
{
	int rc = bht_core_elf_open(&r->core, path, refusal);

	if (rc)
		return rc;
	rc = bht_core_notes(&r->core, take_note, r, &r->notes_cut);
	if (rc)
		return bht_refuse(refusal, rc, 0, "core %s: notes: %s", path, strerror(-rc));
	rc = find_roots(r, exe, refusal);
	if (rc == -ENOENT)
		rc = find_foreign(r, exe, refusal);
	if (rc)
		return rc;
	match_pids(r);
	rc = read_sample(r, refusal);
	if (!rc && r->roots.n)
		rc = read_history(r, history, refusal);
	calibrate(r);
	struct bht_thread *leader = find_thread(r, r->process.pid);
	if (leader && r->process.command[0])
		memcpy(leader->name, r->process.command, sizeof(leader->name));
	return rc;
}

static void reader_close(struct reader *r)
{
	bht_core_foreign_close(&r->foreign);
	bht_core_elf_close(&r->core);
	bht_core_maps_free(&r->maps);
	free(r->process.threads);
	free(r->process.registers);
}

/* What was refused by the parts that know memory only. */
static void name_file(const char *path, struct bht_refusal *refusal)
{
	char why[sizeof(refusal->why)];

	if (strstr(refusal->why, path))
		return;
	memcpy(why, refusal->why, sizeof(why));
	bht_refuse(refusal, 0, refusal->addr, "core %s: %.150s, at address 0x%llx", path, why,
		   (unsigned long long)refusal->addr);
}

int bht_core_open(const char *core, const char *exe, struct bht_evidence *ev, struct bht_source **history,
		  struct bht_refusal *refusal)
{
	const uint64_t began = bht_mono_ns();
	struct reader r = { .ev = ev, .foreign = { .core = &r.core, .process = &r.process } };

	*history = NULL;
	*ev = (struct bht_evidence){ .origin = BHT_FROM_CORE, .source = core };
	refusal->why[0] = '\0';
	int rc = read_all(&r, core, exe, history, refusal);
	if (!rc) {
		tell_limits(&r);
		ev->last.bytes_read = r.core.mem.bytes_read;
		ev->read_us = (bht_mono_ns() - began) / 1000;
	} else {
		name_file(core, refusal);
		bht_evidence_free(ev);
	}
	reader_close(&r);
	return rc;
}
