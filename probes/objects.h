/* SPDX-License-Identifier: MIT */
/*
 * objects.h - what every loop and bottom half shows of itself
 *
 * An observer outside the process has to find all loops and all bottom halves,
 * also those that nobody scheduled for hours. So their state begins with one
 * of the structs below and lives in a pool: chunks of equal slots that are
 * reused but never unmapped, reached from bhp_flight_root. The owner writes
 * with plain or relaxed stores; the observer copies and checks twice.
 *
 * The layouts are an ABI between the process and its observer. Append only,
 * and raise BHP_ABI for anything else.
 */
#ifndef BHP_OBJECTS_H
#define BHP_OBJECTS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { BHP_ABI = 1, BHP_NAME_SIZE = 32, BHP_CACHE_LINE = 64 };

enum bhp_object_state {
	BHP_FREE = 0, /* slot not in use */
	BHP_LIVE = 1,
	BHP_DYING = 2 /* deleted, its loop has not freed it yet */
};

enum bhp_pool_kind { BHP_POOL_LOOP = 1, BHP_POOL_BH = 2 };

/* What a loop states about its own protocol; 0 when it states nothing. */
enum bhp_protocol {
	/* Schedule and clear are atomic exchanges with a full barrier, so that
	 * a coalesced schedule is always followed by a callback that sees it. */
	BHP_PROTOCOL_FULL_BARRIER = 1,
	/* The clear is a full barrier, a coalesced schedule is not: a loop that
	 * loses a wakeup loses it to the producer's half of the race. */
	BHP_PROTOCOL_CLEAR_BARRIER = 2
};

enum bhp_where {
	BHP_OUTSIDE = 0, /* nobody is polling this loop */
	BHP_DISPATCH,    /* polling, between callbacks */
	BHP_WAIT,        /* in the wait system call, or about to be */
	BHP_IN_BH,       /* inside a bottom half's callback */
	BHP_IN_FD,       /* inside a file descriptor's handler */
	BHP_IN_TIMER     /* inside a timer's callback */
};

struct bhp_loop_object {
	/* Written once. */
	_Atomic uint32_t state;   /* enum bhp_object_state */
	uint32_t protocol;        /* enum bhp_protocol, bits */
	uint64_t serial;          /* never reused in this process */
	int32_t notifier_fd;      /* eventfd */
	int32_t poll_fd;          /* epoll set, -1 when the loop uses poll() */
	char family[8];           /* adapter that knows the protocol ("libuv"), or "": libbh's own */
	char name[BHP_NAME_SIZE]; /* NUL-terminated, cut when longer */

	/* Written by the thread that polls. */
	_Alignas(BHP_CACHE_LINE) _Atomic uint32_t
		owner_tid;          /* gettid() of the last thread that polled, in its own PID namespace */
	_Atomic uint32_t where;     /* enum bhp_where */
	_Atomic uint64_t iteration; /* polls begun */
	_Atomic uint32_t depth;     /* polls nested in one another, 0 outside */
	uint32_t reserved1;
	const void *_Atomic current;          /* struct bhp_bh_object, or the handler, being run */
	const void *_Atomic current_callback; /* function being run */
	_Atomic uint64_t current_since;       /* bhp_clock() when it began; for BHP_WAIT when the wait began */
	_Atomic int64_t wait_timeout_ns;      /* of the current wait, -1 for ever */

	/* Written by the loop before and after it sleeps and by those who wake it. */
	_Alignas(BHP_CACHE_LINE) _Atomic uint32_t notify_me; /* enum bhp_notify_me */
	uint32_t reserved2;
	const void *_Atomic incoming; /* newest bottom half scheduled and not taken up */
};

struct bhp_bh_object {
	_Atomic uint32_t state; /* enum bhp_object_state */
	_Atomic uint32_t flags; /* enum bhp_flag: the register of the protocol */
	uint64_t serial;        /* never reused in this process */
	const void *loop;       /* struct bhp_loop_object */
	const void *callback;
	const void *_Atomic next;  /* next scheduled bottom half */
	_Atomic uint64_t runs;     /* executions begun */
	_Atomic uint64_t last_run; /* bhp_clock() of the last execute_begin */
	const void *opaque;        /* argument of the callback */
	char name[BHP_NAME_SIZE];
};

struct bhp_chunk {
	struct bhp_chunk *_Atomic next;
	uint32_t count;   /* slots in this chunk */
	uint32_t in_file; /* private: it is page BHP_RING_HEADER and on of a shared mapping */
	_Alignas(BHP_CACHE_LINE) unsigned char slot[];
};

struct bhp_pool {
	struct bhp_pool *_Atomic next; /* next pool of this root */
	uint32_t kind;                 /* enum bhp_pool_kind */
	uint32_t stride;               /* bytes from slot to slot; the object is at its start */
	struct bhp_chunk *_Atomic chunks;
	/* The rest is private to the process. */
	void *free_list;
	uint64_t next_serial;
};

/*
 * Takes a zeroed slot of at least the size of the observable object out of
 * POOL and gives it a serial number; its state stays BHP_FREE until the caller
 * has filled it in and stores BHP_LIVE. STRIDE is the caller's whole object, a
 * multiple of BHP_CACHE_LINE; the first call fixes it. Thread-safe, not
 * async-signal-safe. NULL with errno ENOMEM.
 */
void *bhp_pool_get(struct bhp_pool *pool, enum bhp_pool_kind kind, size_t stride, uint64_t *serial);

/* Gives a slot back. Its memory stays mapped and readable. Thread-safe. */
void bhp_pool_put(struct bhp_pool *pool, void *slot);

#endif
