/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "foreign.h"
#include "live.h"
#include "lock.h"
#include "process.h"
#include "refuse.h"
#include "roots.h"
#include "watch.h"

static const uint64_t CLOCK_SPAN_NS = 10 * 1000 * 1000; /* that a pair of clock pairs should span */
static const long CLOCK_SLEEP_NS = 2 * 1000 * 1000;     /* when there is no time for more */
enum { RUNNING_MAX = 4 };                               /* threads that are looked at while they run, a sample */

struct bht_live {
	struct bht_process process;
	struct bht_roots roots; /* none: then there is FOREIGN */
	struct bht_images images;
	struct bht_foreign *foreign;
	struct bht_claim claim; /* text "": none */
	struct bhp_clock_pair opened;
	double ticks_per_ns;
	uint64_t read_ns;
};

/* --- the clock ---------------------------------------------------------------- */

/* The tightest of a few tries: one that was interrupted is no pair. */
static struct bhp_clock_pair clock_now(void)
{
	struct bhp_clock_pair best = { 0, 0 };
	uint64_t narrowest = UINT64_MAX;

	for (int i = 0; i < 5; i++) {
		const uint64_t before = bhp_clock(), ns = bht_mono_ns(), width = bhp_clock() - before;
		if (width < narrowest) {
			narrowest = width;
			best = (struct bhp_clock_pair){ before + width / 2, ns };
		}
	}
	return best;
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
	return bht_clock_rate(&from, &to, 1);
}

static void calibrate(struct bht_live *live, struct bht_evidence *ev)
{
	const struct bhp_clock_pair now = clock_now();
	/* Another time namespace moves the target's CLOCK_MONOTONIC. */
	const bool comparable = !live->process.proc.other_time_ns;
	double rate = comparable ? bht_clock_rate(&live->roots.root[0].clock[0], &now, CLOCK_SPAN_NS) : 0;

	if (!rate)
		rate = bht_clock_rate(&live->opened, &now, CLOCK_SPAN_NS);
	if (!rate)
		rate = live->ticks_per_ns;
	if (!rate)
		rate = measure_rate();
	live->ticks_per_ns = rate;
	ev->ticks_per_ns = rate;
	ev->clock_error_ns = BHT_CLOCK_ERROR_NS;
}

/* --- opening ------------------------------------------------------------------ */

/* The loops of a process without libbh. REFUSAL says already that it has none. */
static int open_foreign(struct bht_live *live, struct bht_refusal *refusal)
{
	const struct bht_foreign_target target = bht_process_target(&live->process, &live->images);
	struct bht_refusal why;
	char first[sizeof(refusal->why)];
	int rc = bht_images_of_process(live->process.pid, &live->process.mem, &live->images, &why);

	if (!rc)
		rc = bht_foreign_open(&target, &live->foreign, &why);
	if (!rc)
		return 0;
	memcpy(first, refusal->why, sizeof(first));
	if (rc == -ENOENT)
		return bht_refuse(refusal, rc, 0, "%.170s; and %.200s", first, why.why);
	return bht_refuse(refusal, rc, why.addr, "process %u: %.360s", live->process.pid, why.why);
}

/* Adapters are for what libbh does not show: a recorder that was preloaded knows the same loops, and better; and
 * reading the symbols of a big program takes longer than all else. */
static int open_loops(struct bht_live *live, struct bht_refusal *refusal)
{
	int rc = bht_process_roots(&live->process, &live->roots, refusal);

	return rc == -ENOENT ? open_foreign(live, refusal) : rc;
}

struct bht_live *bht_live_open(uint32_t pid, struct bht_refusal *refusal)
{
	struct bht_live *live = calloc(1, sizeof(*live));
	const uint64_t began = bht_mono_ns();

	if (!live) {
		bht_refuse(refusal, -ENOMEM, 0, "process %u: no memory", pid);
		return NULL;
	}
	int rc = bht_process_open(&live->process, pid, refusal);
	if (!rc) {
		rc = open_loops(live, refusal);
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
	bht_foreign_free(live->foreign);
	bht_images_free(&live->images);
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

static int sample_foreign(struct bht_live *live, struct bht_evidence *ev, struct bht_sample *sample,
			  struct bht_refusal *refusal)
{
	/* What was mapped since then may hold a loop; it does no harm if that cannot be read. */
	bht_process_remap(&live->process);
	live->process.running_max = RUNNING_MAX;
	return bht_foreign_sample(live->foreign, ev, sample, refusal);
}

static int sample_all(struct bht_live *live, struct bht_evidence *ev, struct bht_sample *sample,
		      struct bht_refusal *refusal)
{
	struct bht_procfs *proc = &live->process.proc;
	int rc = bht_roots_sample(&live->process.mem, &live->roots, proc->ns_pid, ev, sample, refusal);

	if (rc)
		return rc;
	rc = bht_procfs_threads(proc, ev, sample);
	if (rc)
		return bht_refuse(refusal, rc, 0, "threads of process %u: %s", proc->pid, strerror(-rc));
	bht_roots_owners(sample, &proc->tids);
	bht_lock_read(&live->process.mem, sample, bht_tids_map, &proc->tids);
	if (live->foreign)
		rc = sample_foreign(live, ev, sample, refusal);
	if (rc)
		return rc;
	bht_watch_read(proc, &live->process.mem, ev, sample);
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

static void read_payload(struct bht_live *live, struct bht_evidence *ev, const struct bht_sample *sample)
{
	struct bht_claim *w = &live->claim;
	struct bht_payload_look look = { .known = false };

	if (!w->text[0])
		return;
	look.known = !bht_claim_read(w, &live->process.mem, &look.holds, NULL);
	look.left = (int64_t)w->left.value;
	look.right = (int64_t)w->right.value;
	memcpy(ev->payload.text, w->text, sizeof(ev->payload.text));
	*(sample == &ev->first ? &ev->payload.first : &ev->payload.last) = look;
}

int bht_live_witness(struct bht_live *live, const struct bht_claim *w, struct bht_refusal *refusal)
{
	int rc = 0;

	live->claim = *w;
	if (!live->images.n)
		rc = bht_images_of_process(live->process.pid, &live->process.mem, &live->images, refusal);
	if (!rc)
		rc = bht_claim_resolve(&live->claim, &live->images, refusal);
	if (rc)
		live->claim.text[0] = '\0';
	return rc;
}

int bht_live_sample(struct bht_live *live, struct bht_evidence *ev, struct bht_sample *sample,
		    struct bht_refusal *refusal)
{
	const uint64_t began = bht_mono_ns(), bytes = live->process.mem.bytes_read;

	*sample = (struct bht_sample){ .ticks = bhp_clock() };
	int rc = sample_all(live, ev, sample, refusal);
	if (rc || bht_process_gone(&live->process)) {
		bht_sample_free(sample);
		return bht_process_refuse(&live->process, rc, refusal);
	}
	sample->bytes_read = live->process.mem.bytes_read - bytes;
	live->read_ns += bht_mono_ns() - began;
	ev->read_us = bht_live_read_us(live);
	tell_command(live, ev, sample);
	calibrate(live, ev);
	read_payload(live, ev, sample);
	return 0;
}

/* --- history ------------------------------------------------------------------ */

static uint64_t ticks_now(void)
{
	return bhp_clock();
}

struct bht_source *bht_live_history(struct bht_live *live, struct bht_evidence *ev, struct bht_refusal *refusal)
{
	const uint64_t began = bht_mono_ns();
	struct bht_flight *flight = bht_roots_flight(&live->process.mem, &live->roots, ticks_now, ev, refusal);
	int rc = flight ? 0 : -errno;

	live->read_ns += bht_mono_ns() - began;
	if (live->foreign)
		bht_unseen(ev, "the history: nothing in this process records it");
	struct bht_source *history = flight ? bht_flight_source(flight, &live->process.proc.tids) : NULL;
	if (flight && !history)
		rc = -errno;
	if (history) {
		ev->read_us = bht_live_read_us(live);
		calibrate(live, ev);
		return history;
	}
	errno = -bht_process_refuse(&live->process, rc, refusal);
	return NULL;
}
