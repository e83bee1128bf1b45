/* SPDX-License-Identifier: MIT */
/*
 * event.h - the normalised event, and where events come from
 *
 * A normalised event is a record of probes/record.h with the thread and the
 * process it happened in. Every source delivers this form; nothing behind a
 * source knows which one it was.
 *
 * Loss is an event: a source that cannot show a stretch of a thread's history
 * delivers BHT_ID_LOSS at the place where the stretch ends.
 */
#ifndef BHT_EVENT_H
#define BHT_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"

enum { BHT_ID_LOSS = 0xfe };
#define BHT_ALL_PROCESSES UINT32_MAX

/* Why events are missing. */
enum bht_loss_why {
	BHT_LOSS_OVERWRITTEN = 1, /* the ring wrapped: older records are gone */
	BHT_LOSS_UNSTABLE,        /* overwritten while they were being read */
	BHT_LOSS_DROPPED,         /* the recorder had no room */
	BHT_LOSS_DAMAGED,         /* bytes that are no record */
	BHT_LOSS_EARLIER          /* before the recording began */
};

struct bht_event {
	struct bhp_record r;
	uint32_t tid;     /* as the observer's PID namespace numbers it; 0 when not known */
	uint32_t process; /* index of the process in a recording of several, BHT_ALL_PROCESSES for a loss of all */
	const char *text; /* TEXT field; valid until the source's next call; or NULL */
};

/* Whether the kernel saw the event: it is about a thread, and no loop. */
static inline bool bht_is_kernel(unsigned id)
{
	switch (id) {
#define BHP_KERNEL(number, name, fields, doc) case (number):
#include "events.def.h"
		return true;
	default:
		return false;
	}
}

/* Everything of thread TID (0: of all threads) before TIME may be missing.
 * COUNT is how many events, 0 when that is not known. */
static inline struct bht_event bht_loss(uint64_t time, uint32_t tid, enum bht_loss_why why, uint64_t count)
{
	struct bht_event e = { .r = { { time, BHT_ID_LOSS | (uint64_t)why << 8, 0, count } }, .tid = tid };
	return e;
}

static inline enum bht_loss_why bht_loss_reason(const struct bht_event *e)
{
	return (enum bht_loss_why)bhp_get_T0(&e->r);
}

static inline uint64_t bht_loss_count(const struct bht_event *e)
{
	return bhp_get_ARG(&e->r);
}

static inline uint64_t bht_time(const struct bht_event *e)
{
	return bhp_record_time(&e->r);
}

static inline unsigned bht_event_id(const struct bht_event *e)
{
	return (unsigned)(e->r.word[1] & 0xff);
}

/*
 * A source of events in the order of time of one thread (or already merged).
 * next() fills in up to MAX events, at least one, and returns how many, 0 at
 * the end, or -errno; after 0 or an error it is not called again. An event with
 * a text is the last of its batch. close() frees the source. Not thread-safe.
 */
struct bht_source {
	int (*next)(struct bht_source *source, struct bht_event *e, unsigned max);
	void (*close)(struct bht_source *source);
};

enum { BHT_BATCH = 128 }; /* a good MAX */

/*
 * Merges N sources by time stamp; events of one source keep their order, ties
 * go to the lower index. Takes ownership of the sources (also when it fails),
 * not of the array. NULL with errno ENOMEM.
 */
struct bht_source *bht_merge(struct bht_source **sources, unsigned n);

#endif
