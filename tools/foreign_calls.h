/* SPDX-License-Identifier: MIT */
/*
 * foreign_calls.h - what system calls say of loops that were never instrumented
 *
 * A write to the notifier of a loop is a notification, a read of it accepts them, and a wait on its epoll set is its
 * sleep: the kernel tells all without a probe. The flag of a bottom half is cleared between the event of the thread before
 * and the entry of its callback, so the execution begins with that event. A probe at the entry of a function sees the flag before the
 * function does; where one notifies exactly when it found the flag clear, the write tells what it saw. For that an
 * event waits for the next one of its thread, a while. Pure; for one thread at a time.
 */
#ifndef BHTRACE_FOREIGN_CALLS_H
#define BHTRACE_FOREIGN_CALLS_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"

enum { FOREIGN_LOOPS_MAX = 64, FOREIGN_THREADS = 256, FOREIGN_NESTED = 4 };

/* Where events go. */
struct foreign_sink {
	void (*event)(void *arg, uint32_t pid, uint32_t tid, bool kernel, const struct bhp_record *r, const char *text);
	void *arg;
};

/* Of one process; zero-initialised but for PID and SINK. */
struct foreign_calls {
	uint32_t pid;
	struct foreign_sink sink;
	struct foreign_loop {
		uint64_t addr;
		int32_t poll_fd, notifier_fd; /* -1: not known */
		bool exact;                   /* it is notified when the flag was clear, and only then */
	} loop[FOREIGN_LOOPS_MAX];
	unsigned n_loops;
	struct foreign_thread {
		uint32_t tid;
		bool held;
		struct bhp_record schedule; /* its latest */
		const struct foreign_loop *waits;
		uint64_t last; /* of its events, but those of the scheduler */
		struct {
			uint64_t entered, begin; /* of a callback; its flag was cleared between the two */
		} execution[FOREIGN_NESTED];
		unsigned n_executions;
	} thread[FOREIGN_THREADS];
};

/* The loop has these descriptors now; more than fit are not told of. */
void foreign_calls_loop(struct foreign_calls *c, const struct foreign_loop *loop);

/* Passes on the event, and what follows from it. */
void foreign_calls_event(struct foreign_calls *c, uint32_t tid, bool kernel, const struct bhp_record *r,
			 const char *text);

/* Passes on what waits and is earlier than BEFORE, in ticks. Gives the time of the earliest that is left; UINT64_MAX: none. */
uint64_t foreign_calls_flush(struct foreign_calls *c, uint64_t before);

#endif
