/* SPDX-License-Identifier: MIT */
/*
 * roots.h - from the roots of a target to its registries and its history
 *
 * What a live process, a core and a snapshot share once each has shown its
 * memory. Not thread-safe.
 */
#ifndef BHT_ROOTS_H
#define BHT_ROOTS_H

#include "flight.h"
#include "note.h"
#include "procfs.h"

struct bht_roots {
	uint64_t addr[BHT_ROOTS_MAX];
	struct bhp_root root[BHT_ROOTS_MAX]; /* as read last */
	unsigned n;
	struct bht_refusal skipped; /* why another root was not read, or "" */
};

/*
 * Reads the roots that NOTES lead to. SUBJECT names the target in a refusal
 * ("process 12"). 0 or -errno:
 *   ENOENT   no note: not linked with libbh
 *   EPROTO, EBADMSG  nothing but notes that this reader does not understand
 */
int bht_roots_open(struct bht_memory *mem, const struct bht_notes *notes, const char *subject, struct bht_roots *roots,
		   struct bht_refusal *refusal);

/*
 * Reads the roots again and appends the loops and bottom halves of all
 * registries to SAMPLE. One that is damaged leaves the sample unstable and is
 * told in ev->unseen. NS_PID is the target's process id in its own namespace,
 * 0 when not known. 0 or -errno.
 */
int bht_roots_sample(struct bht_memory *mem, struct bht_roots *roots, uint32_t ns_pid, struct bht_evidence *ev,
		     struct bht_sample *sample, struct bht_refusal *refusal);

/* Maps the owners of the loops to the observer's namespace; to be called once,
 * when the threads are known. */
void bht_roots_owners(struct bht_sample *sample, struct bht_tids *tids);

/* The copied rings of all roots. */
struct bht_flight;

/*
 * Reads the roots again and copies the rings of all; CLOCK as in
 * bht_rings_copy(): events later than the call are not shown, because of some
 * threads they are missing. What else is missing is told in ev->unseen. Free
 * with bht_flight_free(). NULL with errno.
 */
struct bht_flight *bht_roots_flight(struct bht_memory *mem, struct bht_roots *roots, uint64_t (*clock)(void),
				    struct bht_evidence *ev, struct bht_refusal *refusal);
void bht_flight_free(struct bht_flight *flight);

/*
 * For a target that stands still and so has no clock: shows all events once to
 * SEE, before bht_flight_source(); a text is valid during the call. 0 or -errno.
 */
int bht_flight_scan(struct bht_flight *flight, const struct bht_tids *tids,
		    void (*see)(void *arg, const struct bht_event *e), void *arg);

/* Losses of unknown time are put at END. */
void bht_flight_end(struct bht_flight *flight, uint64_t end);

/*
 * One merged source of all that was copied. It owns FLIGHT (also when it fails)
 * and a copy of TIDS. NULL with errno.
 */
struct bht_source *bht_flight_source(struct bht_flight *flight, const struct bht_tids *tids);

/* What HISTORY, which bht_flight_source() gave, was decoded from: the rings of *N
 * roots and the thread ids. Borrowed until it is closed. */
struct bht_rings *const *bht_flight_rings(const struct bht_source *history, unsigned *n, const struct bht_tids **tids);

/* Ticks per ns between two clock pairs; 0 when they are less than SPAN_NS apart
 * or what they say is no clock. */
double bht_clock_rate(const struct bhp_clock_pair *from, const struct bhp_clock_pair *to, uint64_t span_ns);

#endif
