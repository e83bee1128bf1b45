/* SPDX-License-Identifier: MIT */
/*
 * evidence.h - what was seen of a process, apart from its events
 *
 * A sample is one look at the state: the loops and bottom halves from the
 * target's registry and the threads and file descriptors from the kernel. One
 * sample proves nothing: evidence of a live process has two, and what did not
 * change between them is stable. A core has one.
 *
 * All times are ticks of the target's bhp_clock(), unless a name says ns.
 */
#ifndef BHT_EVIDENCE_H
#define BHT_EVIDENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "flight.h"

/* What the protocol of a loop that was never instrumented is like; 0 of one of libbh's. */
enum bht_trait {
	BHT_TRAIT_FOREIGN = 1,       /* seen through an adapter: analysis/foreign/ */
	BHT_TRAIT_COALESCES = 2,     /* a schedule that sees the flag set does nothing */
	BHT_TRAIT_LISTS_PENDING = 4, /* only scheduled bottom halves are listed */
	BHT_TRAIT_FLAG_UNKNOWN = 8,  /* its bottom halves have no flag that could be read */
	BHT_TRAIT_CANNOT_TURN = 16,  /* its iteration is not known: it is always 0 */
	BHT_TRAIT_ASKS = 32,         /* schedulers notify only when notify_me is set */
	BHT_TRAIT_NOTIFIES = 64      /* each schedule that sets the flag notifies */
};

struct bht_loop {
	uint64_t addr;
	uint64_t serial;
	char name[BHP_NAME_SIZE]; /* as the target wrote it: escape before printing */
	uint32_t protocol;        /* enum bhp_protocol */
	uint32_t owner;           /* tid in the observer's namespace, 0 when nobody polled yet */
	uint32_t where;           /* enum bhp_where */
	uint32_t depth;
	uint64_t iteration;
	uint32_t notify_me; /* enum bhp_notify_me */
	int32_t notifier_fd;
	int32_t poll_fd; /* epoll set, -1 for none */
	uint64_t current;
	uint64_t current_callback;
	uint64_t current_since;
	int64_t wait_timeout_ns;
	int64_t notifier_count; /* eventfd counter, -1 when it could not be read */
	int notifier_watched;   /* 1 when the sleeper watches it for reading, 0 not, -1 not known */
	uint32_t notifier_mask; /* EPOLL* bits it is watched with, 0 when not known */
	int embedder_watches;   /* whether the owner sleeps in a set that has poll_fd: 1, 0, or -1 not known */
	char adapter[16];       /* name of the adapter that it was seen through, or "" */
	uint32_t traits;        /* enum bht_trait, bits */
};

struct bht_bh {
	uint64_t addr;
	uint64_t serial;
	char name[BHP_NAME_SIZE];
	uint64_t loop;
	uint64_t callback;
	uint32_t state; /* enum bhp_object_state */
	uint32_t flags; /* enum bhp_flag */
	uint64_t runs;
	uint64_t last_run;
	bool flags_unsure; /* they were inferred, and may be otherwise */
};

enum { BHT_SYSCALL_RUNNING = -1, BHT_SYSCALL_UNKNOWN = -2 };

struct bht_thread {
	uint32_t tid;    /* in the observer's namespace */
	uint32_t ns_tid; /* in the target's own */
	char name[16];
	char state;      /* as in /proc/PID/stat: R S D T t Z X; '?' when not known */
	int64_t syscall; /* number, or one of the above */
	uint64_t args[6];
	char wchan[32];    /* kernel function it sleeps in, when it could be read */
	uint64_t switches; /* context switches so far */
	uint64_t cpu_ns;   /* CPU time so far */
	/* What a thread that sleeps in futex(2) waits for; 0 when not known. */
	uint32_t lock_word;  /* value at args[0] */
	uint32_t lock_owner; /* tid in the observer's namespace, as the lock itself says */
};

/* Arrays are owned by the sample; bht_sample_free() frees them. */
struct bht_sample {
	uint64_t ticks; /* when it was begun; of a core or rings the latest time that they mention */
	struct bht_loop *loops;
	size_t n_loops;
	struct bht_bh *bhs;
	size_t n_bhs;
	struct bht_thread *threads;
	size_t n_threads;
	uint64_t bytes_read;
	bool unstable; /* the registry changed while it was walked */
};

void bht_sample_free(struct bht_sample *sample);

/* NULL when there is none. */
const struct bht_loop *bht_sample_loop(const struct bht_sample *sample, uint64_t addr);
const struct bht_thread *bht_sample_thread(const struct bht_sample *sample, uint32_t tid);
/* HINT is where it probably is: its index in another sample. */
const struct bht_bh *bht_sample_bh(const struct bht_sample *sample, uint64_t addr, size_t hint);

/* An execution that had begun and not ended. */
struct bht_begun {
	uint64_t loop, bh, begin;
	uint32_t tid;
};

/* What --witness says of the payload, in both samples: foreign/witness.h. */
struct bht_payload {
	char text[256]; /* as the user wrote it, "" when nothing was asked */
	struct bht_payload_look {
		bool known, holds; /* work was published and not seen */
		int64_t left, right;
	} first, last;
};

enum { BHT_UNSEEN_MAX = 16 };

/* Where evidence comes from, and so what it can show. */
enum bht_origin {
	BHT_FROM_PROCESS,  /* two samples, kernel state included */
	BHT_FROM_SNAPSHOT, /* the same, taken earlier */
	BHT_FROM_CORE,     /* one; threads by their registers, no kernel state */
	BHT_FROM_RINGS,    /* one: the ring files of a process that was killed; no threads */
	BHT_FROM_HISTORY   /* one, made of the events alone: history.h */
};

/* What recorded the history. All but the flight recorder leave out where an execution
 * begins: a heavy probe there would hide the race (docs/placement.md). */
enum bht_recorder { BHT_BY_FLIGHT, BHT_BY_LTTNG, BHT_BY_BPF, BHT_RECORDERS };

const char *bht_recorder_name(enum bht_recorder recorder); /* "flight", ... */

struct bht_evidence {
	enum bht_origin origin;
	enum bht_recorder recorder;
	const char *source; /* path it was read from, NULL for a process; borrowed */
	uint32_t pid;
	char command[16];
	char hostname[65]; /* "" for this machine */
	bool live;         /* two samples; otherwise only last */
	struct bht_sample first;
	struct bht_sample last;
	uint64_t
		history_until; /* what is later in the history does not count: some threads have no more; 0: all does */
	double ticks_per_ns;
	struct bhp_clock_pair clock; /* of a recording: one instant on its clocks, */
	uint64_t realtime_ns;        /* and on CLOCK_REALTIME; 0: not known */
	double clock_error_ns;       /* no two events closer than this are ordered by time alone */
	struct bht_begun *begun;     /* kept beside a history that leaves beginnings out; owned */
	size_t n_begun;
	struct bht_payload payload;
	char *unseen[BHT_UNSEEN_MAX]; /* sentences: what could not be seen, and why; owned */
	unsigned n_unseen;
	uint64_t stopped_us; /* how long the target was stopped for this */
	uint64_t read_us;    /* how long reading it took, all samples together */
};

/* Whether no thread was looked at: the history ends as if the process had been
 * killed there. */
static inline bool bht_just_ends(const struct bht_evidence *ev)
{
	return ev->origin == BHT_FROM_RINGS || ev->origin == BHT_FROM_HISTORY;
}

/* Adds a sentence to unseen[]; repeated ones are kept once. */
void bht_unseen(struct bht_evidence *ev, const char *format, ...) __attribute__((format(printf, 2, 3)));

void bht_evidence_free(struct bht_evidence *ev);

#endif
