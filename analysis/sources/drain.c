/* SPDX-License-Identifier: MIT */
/*
 * Rings are found once. They are only ever added at the head of the list, and a
 * thread that takes one over says so in a record.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "clock.h"
#include "drained.h"
#include "refuse.h"

/* How full a ring may become between two rounds. */
static const double FILL = 0.25;
static const uint64_t MS = 1000000;

/* --- finding rings --------------------------------------------------------------- */

static bool known(const struct bht_drain *d, uint64_t addr)
{
	for (unsigned i = d->stats.rings; i-- > 0;)
		if (d->ring[i].addr == addr)
			return true;
	return false;
}

static int grow(struct bht_drain *d)
{
	const unsigned n = d->stats.rings;

	return bht_room_for_one(&d->ring, n, sizeof(*d->ring)) && bht_room_for_one(&d->header, n, sizeof(*d->header)) &&
			       bht_room_for_one(&d->span, n, sizeof(*d->span))
		       ? 0
		       : -ENOMEM;
}

/* The ring at ADDR of a root, whose list goes on at *NEXT. */
static int add_ring(struct bht_drain *d, unsigned root, uint64_t addr, uint64_t *next, struct bht_refusal *refusal)
{
	struct bhp_ring h;
	int rc = bht_read(d->mem, addr, &h, sizeof(h));

	if (rc)
		return bht_refuse_read(refusal, rc, addr, "ring");
	rc = bht_ring_check(&h, addr, refusal);
	if (!rc && !d->mem->mapped(d->mem, addr, BHP_RING_HEADER + h.capacity * sizeof(struct bhp_record)))
		rc = bht_refuse(refusal, -EBADMSG, addr, "ring: %llu records, not all mapped",
				(unsigned long long)h.capacity);
	if (!rc && d->stats.rings >= BHT_RINGS_MAX)
		rc = bht_refuse(refusal, -E2BIG, addr, "list of rings: too long");
	if (!rc && grow(d))
		rc = bht_refuse(refusal, -ENOMEM, addr, "rings: no memory for %u", d->stats.rings);
	void *place = rc ? NULL : d->sink.place(d->sink.arg);
	if (!rc && !place)
		rc = bht_refuse(refusal, -ENOMEM, addr, "rings: no place for ring %u", d->stats.rings);
	if (rc)
		return rc;
	d->ring[d->stats.rings++] = (struct bht_drained){
		.addr = addr,
		.capacity = h.capacity,
		.begun = d->stats.rounds ? 0 : h.reserved, /* what was there at first says nothing of the rate */
		.root = root,
		.cut = true,
		.d = { .base = { bht_decoder_next, NULL }, .how = &d->format[root]->how, .map = d->map, .arg = d->arg },
		.place = place,
	};
	*next = (uintptr_t)h.next;
	return 0;
}

/* What hangs behind a ring that makes no sense is out of reach. */
static int add_rings(struct bht_drain *d, unsigned root, uint64_t head, struct bht_refusal *refusal)
{
	int rc = 0;

	for (uint64_t addr = head, next = 0; !rc && addr && !known(d, addr); addr = next)
		rc = add_ring(d, root, addr, &next, refusal);
	if (rc == -EBADMSG || rc == -E2BIG || rc == -EFAULT) {
		bht_drain_damaged(d, refusal->why);
		rc = 0;
	}
	if (!rc)
		d->newest[root] = head;
	return rc;
}

static int look_at_root(struct bht_drain *d, unsigned i, struct bht_refusal *refusal)
{
	const struct bhp_root *was = &d->roots.root[i];
	struct bhp_root root;
	int rc = bht_root_read(d->mem, d->roots.addr[i], &root, refusal);

	if (rc)
		return rc;
	/* Taken when the program began. */
	if (root.clock[0].ticks != was->clock[0].ticks)
		return bht_refuse(refusal, -ESTALE, d->roots.addr[i], "root: that of another program");
	if (root.dropped > d->dropped[i])
		bht_drain_tell(d, BHT_LOSS_DROPPED, root.dropped - d->dropped[i]);
	d->dropped[i] = root.dropped;
	return (uintptr_t)root.rings == d->newest[i] ? 0 : add_rings(d, i, (uintptr_t)root.rings, refusal);
}

/* --- rounds ---------------------------------------------------------------------- */

static int read_headers(struct bht_drain *d, struct bht_refusal *refusal)
{
	for (unsigned i = 0; i < d->stats.rings; i++)
		d->span[i] = (struct bht_span){ d->ring[i].addr, &d->header[i], sizeof(d->header[i]) };
	int rc = d->stats.rings ? d->mem->read(d->mem, d->span, d->stats.rings) : 0;
	return rc ? bht_refuse_read(refusal, rc, 0, "rings") : 0;
}

static int drain_all(struct bht_drain *d, struct bht_refusal *refusal)
{
	int rc = 0;

	for (unsigned i = 0; i < d->roots.n && !rc; i++)
		rc = look_at_root(d, i, refusal);
	if (!rc)
		rc = read_headers(d, refusal);
	for (unsigned i = 0; i < d->stats.rings && !rc; i++) {
		rc = bht_drain_ring(d, &d->ring[i], &d->header[i]);
		if (rc)
			bht_refuse_read(refusal, rc, d->ring[i].addr, "ring");
	}
	return rc;
}

/* The thread whose memory was read may have exited before the others. */
static bool try_another_thread(struct bht_drain *d)
{
	struct bht_procfs *proc = &d->process.proc;

	bht_procfs_close(proc);
	return bht_procfs_open(proc, d->process.pid) == 0 && bht_process_alive(&d->process);
}

static int refuse(struct bht_drain *d, int rc, struct bht_refusal *refusal)
{
	if (rc == -ENOMEM || !d->process.pid)
		return rc;
	rc = bht_process_refuse(&d->process, rc, refusal);
	if (rc == -ESRCH || rc == -EPERM)
		return rc;
	return bht_refuse(refusal, -ESTALE, 0, "process %u: it executed another program", d->process.pid);
}

static void adapt(struct bht_drain *d, uint64_t since_last_ns)
{
	const uint64_t most = d->interval_ns * 2 < BHT_DRAIN_MAX_MS * MS ? d->interval_ns * 2 : BHT_DRAIN_MAX_MS * MS;
	const double wanted = d->fill > 0 ? (double)since_last_ns * FILL / d->fill : (double)most;

	d->interval_ns = wanted < (double)most ? (uint64_t)wanted : most;
	if (d->interval_ns < BHT_DRAIN_MIN_MS * MS)
		d->interval_ns = BHT_DRAIN_MIN_MS * MS;
}

/* Told only when something follows it. */
static bool loss_pending(const struct bht_drain *d)
{
	for (unsigned i = 0; i < d->stats.rings; i++)
		if (d->ring[i].d.why)
			return true;
	return false;
}

int bht_drain_round(struct bht_drain *d, struct bht_refusal *refusal)
{
	const uint64_t now = bht_mono_ns(), since_last = now - d->began_ns, until = bhp_clock();

	d->began_ns = now;
	d->looked = d->lossy = false;
	d->fill = 0;
	int rc = drain_all(d, refusal);
	if (rc && rc != -ENOMEM && rc != -ESTALE && d->process.pid && try_another_thread(d))
		rc = drain_all(d, refusal);
	if (rc)
		return refuse(d, rc, refusal);
	d->stats.rounds++;
	if (!d->lossy && !loss_pending(d))
		d->stats.until = until;
	adapt(d, since_last);
	return 0;
}

unsigned bht_drain_pause_ms(const struct bht_drain *d)
{
	return (unsigned)(d->interval_ns / MS);
}

void bht_drain_end(struct bht_drain *d)
{
	struct bht_event e;

	for (unsigned i = 0; i < d->stats.rings; i++) {
		struct bht_drained *ring = &d->ring[i];
		d->format[ring->root]->how.now = bhp_clock();
		ring->d.at = ring->d.n = 0;
		if (ring->d.why && bht_decoder_next(&ring->d.base, &e, 1) == 1)
			d->sink.put(ring->place, &e);
	}
}

struct bht_drain_stats bht_drain_stats(const struct bht_drain *d)
{
	struct bht_drain_stats stats = d->stats;

	stats.bytes_read = d->mem->bytes_read;
	return stats;
}

/* --- opening ----------------------------------------------------------------------- */

/* How the records of root I are read: a copy of its rings, without any. */
static int open_format(struct bht_drain *d, unsigned i, struct bht_refusal *refusal)
{
	struct bhp_root root = d->roots.root[i];

	root.rings = NULL;
	d->format[i] = bht_rings_copy(d->mem, &root, NULL, refusal);
	if (!d->format[i])
		return -errno;
	return d->format[i]->damaged ? -EBADMSG : 0;
}

static int open_roots(struct bht_drain *d, struct bht_refusal *refusal)
{
	bool off = true;
	int rc = 0;

	for (unsigned i = 0; i < d->roots.n && !rc; i++) {
		off &= d->roots.root[i].mode == BHP_FLIGHT_OFF;
		/* Set last when libbh starts. */
		if (d->roots.root[i].mode == BHP_FLIGHT_UNSET)
			rc = bht_refuse(refusal, -EAGAIN, d->roots.addr[i], "root: not initialised yet");
		else
			rc = open_format(d, i, refusal);
	}
	if (!rc && off)
		rc = bht_refuse(refusal, -ENODATA, 0, "the flight recorder is off there (BH_FLIGHT=off)");
	return rc;
}

static int open_on(struct bht_drain *d, struct bht_memory *mem, bht_tid_map map, void *arg,
		   const struct bht_drain_sink *sink, struct bht_refusal *refusal)
{
	d->mem = mem;
	d->map = map;
	d->arg = arg;
	d->sink = *sink;
	d->interval_ns = BHT_DRAIN_MIN_MS * MS;
	return open_roots(d, refusal);
}

struct bht_drain *bht_drain_new(struct bht_memory *mem, const struct bht_roots *roots, bht_tid_map map, void *arg,
				const struct bht_drain_sink *sink, struct bht_refusal *refusal)
{
	struct bht_drain *d = calloc(1, sizeof(*d));
	int rc = d ? 0 : bht_refuse(refusal, -ENOMEM, 0, "no memory");

	if (d) {
		d->roots = *roots;
		d->process = (struct bht_process){ .proc = { .dir = -1, .files = -1 }, .pidfd = -1 };
		rc = open_on(d, mem, map, arg, sink, refusal);
	}
	if (!rc)
		return d;
	bht_drain_close(d);
	errno = -rc;
	return NULL;
}

/* A thread of another PID namespace is looked up when it is seen first. */
static uint32_t map_tid(void *arg, uint32_t ns_tid)
{
	struct bht_drain *d = arg;
	struct bht_sample sample = { 0 };
	struct bht_evidence ev = { 0 };
	uint32_t tid = bht_tids_map(&d->process.proc.tids, ns_tid);

	if (tid || d->looked)
		return tid;
	d->looked = true;
	bht_procfs_threads(&d->process.proc, &ev, &sample);
	bht_sample_free(&sample);
	bht_evidence_free(&ev);
	return bht_tids_map(&d->process.proc.tids, ns_tid);
}

struct bht_drain *bht_drain_open(uint32_t pid, const struct bht_drain_sink *sink, struct bht_refusal *refusal)
{
	struct bht_drain *d = calloc(1, sizeof(*d));

	if (!d) {
		errno = -bht_refuse(refusal, -ENOMEM, 0, "process %u: no memory", pid);
		return NULL;
	}
	int rc = bht_process_open(&d->process, pid, refusal);
	if (!rc) {
		rc = bht_process_roots(&d->process, &d->roots, refusal);
		if (!rc)
			rc = open_on(d, &d->process.mem, map_tid, d, sink, refusal);
		if (rc)
			rc = bht_process_refuse(&d->process, rc, refusal);
	}
	if (!rc)
		return d;
	bht_drain_close(d);
	errno = -rc;
	return NULL;
}

void bht_drain_close(struct bht_drain *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < d->roots.n; i++)
		bht_rings_free(d->format[i]);
	bht_process_close(&d->process);
	free(d->ring);
	free(d->header);
	free(d->span);
	free(d->buffer);
	free(d);
}
