/* SPDX-License-Identifier: MIT */
/*
 * drain.h - the flight rings of a running process, read again and again
 *
 * The process is not stopped and does not notice. Each round reads the headers of
 * all rings and copies only what is new; what was overwritten before it could be
 * read is a loss at its place. One reader knows nothing of others, so any number
 * may drain the same process.
 */
#ifndef BHT_DRAIN_H
#define BHT_DRAIN_H

#include "event.h"
#include "registry.h"
#include "roots.h"

/* Where events go. Each ring has a place of its own; losses of no ring in
 * particular have one, too. */
struct bht_drain_sink {
	void *(*place)(void *arg); /* makes one, owned by the sink; NULL without memory */
	/* Takes an event or a loss. Within a place the order is that of the ring, in
	 * which a signal handler may have written something a little earlier. A text
	 * is valid during the call. */
	void (*put)(void *place, const struct bht_event *e);
	void *arg;
};

struct bht_drain;

/*
 * Opens process PID and finds its roots; SINK is copied. NULL with errno as
 * bht_live_open() gives it, and:
 *   EAGAIN   libbh is loaded there and has not been initialised yet
 *   ENODATA  its flight recorder is off
 */
struct bht_drain *bht_drain_open(uint32_t pid, const struct bht_drain_sink *sink, struct bht_refusal *refusal);

/* The same for memory and roots that are at hand; MEM, MAP and ARG are borrowed. */
struct bht_drain *bht_drain_new(struct bht_memory *mem, const struct bht_roots *roots, bht_tid_map map, void *arg,
				const struct bht_drain_sink *sink, struct bht_refusal *refusal);

/*
 * One round: all that is new goes to the sink. 0, or -errno with the refusal:
 *   ESRCH   the process is gone
 *   ESTALE  it executed another program
 *   EPERM   it may not be read any more
 */
int bht_drain_round(struct bht_drain *d, struct bht_refusal *refusal);

/*
 * How long to wait until the next round, in ms: until the fastest ring will have
 * filled a quarter at the rate last seen, between BHT_DRAIN_MIN_MS and
 * BHT_DRAIN_MAX_MS. Grows at most twofold a round, falls at once.
 */
enum { BHT_DRAIN_MIN_MS = 1, BHT_DRAIN_MAX_MS = 200 };
unsigned bht_drain_pause_ms(const struct bht_drain *d);

/* To be called after the last round: tells of losses that nothing followed. */
void bht_drain_end(struct bht_drain *d);

struct bht_drain_stats {
	uint64_t rounds;
	uint64_t until;       /* events of all threads up to here, and losses there, were told; some may have more */
	uint64_t bytes_read;  /* of the target's memory */
	uint64_t before;      /* records overwritten before their ring was seen first */
	uint64_t overwritten; /* and since */
	uint64_t capacity;    /* records, of the smallest ring that has lost any */
	unsigned rings;
	char damage[400]; /* why some rings are not read, or "" */
};
struct bht_drain_stats bht_drain_stats(const struct bht_drain *d);

void bht_drain_close(struct bht_drain *d);

#endif
