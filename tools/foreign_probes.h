/* SPDX-License-Identifier: MIT */
/*
 * foreign_probes.h - probes at the functions of loops that were never instrumented, in processes
 * that are recorded or watched
 *
 * What adapters know of their functions becomes recipes (bpf/recipes.h); the functions that
 * bottom halves run get probes as they become known. For one thread at a time.
 */
#ifndef BHTRACE_FOREIGN_PROBES_H
#define BHTRACE_FOREIGN_PROBES_H

#include "foreign_calls.h"
#include "recipes.h"

/* Who attaches: a capture or a monitor. */
struct foreign_ops {
	int (*probe)(void *arg, uint32_t pid, const struct bhb_probe *probes, size_t n, char why[BHB_WHY]);
	int (*know)(void *arg, uint32_t pid, uint64_t callback);
	bool (*any)(const void *arg, uint32_t pid);
	bool calls; /* its events tell of system calls: what these say needs no probes */
};

/* What that does to a race, for people. */
#define FOREIGN_EFFECT                                                                                                 \
	"uprobes stand inside the racing pairs of these loops, at the entry of the function that schedules and of "    \
	"the "                                                                                                         \
	"callback: a race on the flag will hardly happen meanwhile, so that none was lost proves nothing"

struct foreign;

/* ARG is that of OPS; SINK gets what foreign_event() passes on. NULL without memory. */
struct foreign *foreign_new(const struct foreign_ops *ops, void *arg, const struct foreign_sink *sink);
void foreign_free(struct foreign *f);

/* Attaches to what is new in process PID: modules that an adapter knows, and callbacks. How many probes, or -errno with
 * a sentence in WHY: ENOPKG, a module is known and cannot be understood. */
int foreign_look(struct foreign *f, uint32_t pid, char why[BHB_WHY]);
void foreign_forget(struct foreign *f, uint32_t pid);

/* Bottom half BH of PID is there; CALLBACK, when that is known, or 0: it is read from the process. */
void foreign_met(struct foreign *f, uint32_t pid, uint64_t bh, uint64_t callback);

/* Passes an event on: bottom halves are called as their functions, what calls say is added, and what is of no bottom
 * half is left out, as timers may be closed by the same function. */
void foreign_event(struct foreign *f, uint32_t pid, uint32_t tid, bool kernel, const struct bhp_record *r,
		   const char *text);

/* Events may wait for what explains them: passes on those before BEFORE. Until which time all were passed on, when
 * foreign_event() got all until UNTIL. Ticks. */
uint64_t foreign_flush(struct foreign *f, uint64_t before, uint64_t until);

/* A process with callbacks that have no probes and may be running, or 0: one for foreign_look(). */
uint32_t foreign_due(const struct foreign *f);

/* Modules that probes were attached to, as "libuv in /usr/bin/node"; "" when none ever were. */
const char *foreign_modules(const struct foreign *f);

#endif
