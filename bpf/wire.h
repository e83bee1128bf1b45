/* SPDX-License-Identifier: MIT */
/* wire.h - what the eBPF programs and user space agree on. Included by both. */
#ifndef BHB_WIRE_H
#define BHB_WIRE_H

#include "record.h"

/* Key of the map of the processes to look at: a process id, as the initial PID
 * namespace numbers it. The value is flags. */
enum bhb_target {
	BHB_TARGET = 1,
	BHB_GATED = 2, /* stops when it maps a file to be executed, until its probes are attached */
	BHB_STOPPED_BY_US = 4,
	BHB_FOLLOWED = 8 /* without BHB_TARGET: its life alone, as its probes are not attached yet */
};

/*
 * What goes through the ring: an event with the thread it happened in. The time of a
 * USDT event is that of its record, in ticks of bhp_clock(); all others are stamped
 * with CLOCK_MONOTONIC in ns and are converted in user space. A text follows the events
 * that have one, zero-terminated.
 */
struct bhb_wire {
	struct bhp_record r;
	uint32_t tid, tgid; /* TGID: and BHB_IN_NS */
};

/* An event by a recipe (recipe.h): its time, and the beginning of an execution, are in ns, too. More than PID_MAX_LIMIT. */
#define BHB_IN_NS UINT32_C(0x80000000)

struct bhb_wire_text {
	struct bhb_wire w;
	char text[BHP_TEXT_MAX + 1 + 7];
};

/* Numbers of what is no event of the schema: the life of processes. */
enum bhb_life {
	BHB_FORKED = 0xe0, /* of the parent; LO2 is the child, a process; HI2 is 1 when both have the same memory */
	BHB_EXECUTED,      /* tgid executes another program; when it is gated, it is stopped */
	BHB_EXITED,        /* tgid's last thread is gone */
	BHB_MAPPED,        /* tgid has mapped a file to be executed; when it is gated, it is stopped */
	BHB_HEADLESS,      /* tgid's main thread is gone while others go on */
	BHB_MADE           /* tgid makes a bottom half whose function has no probes; when it is gated, it is stopped */
};

/* One a processor. */
struct bhb_counts {
	uint64_t hits;       /* USDT probes of our processes */
	uint64_t strange;    /* of other processes that use the same file */
	uint64_t dropped;    /* events that found the ring full, */
	uint64_t dropped_ns; /* the last one at this time, CLOCK_MONOTONIC */
};

/* What is recorded of a system call, by its number. */
enum { BHB_CALLS_MAX = 512, BHB_READ_MORE = 1024 /* the buffer that libuv has for it */ };
enum bhb_shape {
	BHB_SHAPE_NONE,
	BHB_SHAPE_READ,     /* fd, buffer, 8 or BHB_READ_MORE: an eventfd, perhaps */
	BHB_SHAPE_WRITE,    /* fd, buffer, 8: the same */
	BHB_SHAPE_POLL_MS3, /* third argument: ms (poll) */
	BHB_SHAPE_POLL_TS3, /* third argument: timespec (ppoll) */
	BHB_SHAPE_EPOLL_MS, /* fourth argument: ms (epoll_wait, epoll_pwait) */
	BHB_SHAPE_EPOLL_TS, /* fourth argument: timespec (epoll_pwait2) */
	BHB_SHAPE_FUTEX,
	BHB_SHAPE_MMAP /* no event of its own, but BHB_MAPPED */
};

#endif
