/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "live.h"
#include "lock.h"
#include "process.h"
#include "refuse.h"
#include "roots.h"
#include "watch.h"

static const uint64_t CLOCK_SPAN_NS = 10 * 1000 * 1000; /* that a pair of clock pairs should span */
static const long CLOCK_SLEEP_NS = 2 * 1000 * 1000;     /* when there is no time for more */

struct bht_live {
	struct bht_process process;
	struct bht_roots roots;
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
		rc = bht_process_roots(&live->process, &live->roots, refusal);
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
