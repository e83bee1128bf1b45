/* SPDX-License-Identifier: MIT */
/*
 * capture.h - the events of processes as the kernel hands them over
 *
 * USDT probes and what the scheduler and system calls do for the threads of these
 * processes, from one ring. Children of a process are followed, and so is what it
 * executes. Filtered in the kernel. Not thread-safe.
 */
#ifndef BHB_CAPTURE_H
#define BHB_CAPTURE_H

#include "recipes.h"

struct bhb_options {
	bool everybody; /* all processes that use a file with probes, found in /proc and as they appear */
	bool begins;    /* also the probe before a callback, which may hide the race */
	bool kernel;    /* scheduler and system calls, too */
	bool gated; /* a process stops when it maps a file, until its probes are attached: for one that was started here */
	uint32_t ring_size;  /* bytes, a power of two; 0: 8 MiB */
	double ticks_per_ns; /* of bhp_clock(); > 0 */
};

/* Where events go; all are called from bhb_capture_round(). */
struct bhb_sink {
	/* A record of the schema, its time in ticks. KERNEL: of a BHP_KERNEL event. TEXT or NULL. */
	void (*event)(void *arg, uint32_t tgid, uint32_t tid, bool kernel, const struct bhp_record *r,
		      const char *text);
	/* COUNT events of all processes may be missing before TIME. */
	void (*lost)(void *arg, uint64_t time, uint64_t count);
	/* The process is followed from TIME on: what it did before with bottom halves is not known,
	 * unless WHOLE. A child is told here, too; and one that executes another program, again. */
	void (*begins)(void *arg, uint32_t tgid, uint64_t time, bool whole);
	void (*ends)(void *arg, uint32_t tgid, uint64_t time);
	/* Or NULL; without options.everybody. The process may have mapped files, or have made a bottom half whose function has no probes: what
	 * is to be attached to it besides, by bhb_capture_probe(). How many there were, or -errno with WHY. */
	int (*look)(void *arg, uint32_t tgid, char why[BHB_WHY]);
	void *arg;
};

struct bhb_capture;

/*
 * Loads the programs; nothing is attached to a process yet. NULL with errno and a
 * sentence in WHY that names the missing capability, file or setting: EPERM, ENOTSUP (no
 * BTF, or a kernel without what is needed), ENOMEM.
 */
struct bhb_capture *bhb_capture_open(const struct bhb_options *o, const struct bhb_sink *sink, char why[BHB_WHY]);

/* Follows PID. WHOLE: it has not run so far (it waits to be executed). 0 or -errno: as bhb_attach();
 * ENOENT: no file of it has probes, and it is not gated. */
int bhb_capture_follow(struct bhb_capture *c, uint32_t pid, bool whole, char why[BHB_WHY]);

/* Probes at functions of a process that is followed, or will be. As bhb_recipes_attach() and bhb_recipes_know(). */
int bhb_capture_probe(struct bhb_capture *c, uint32_t pid, const struct bhb_probe *probes, size_t n, char why[BHB_WHY]);
int bhb_capture_know(struct bhb_capture *c, uint32_t pid, uint64_t callback);
bool bhb_capture_probed(const struct bhb_capture *c, uint32_t pid);

/* Takes what there is out of the ring, and attaches where that is needed. 0 or -errno. */
int bhb_capture_round(struct bhb_capture *c, char why[BHB_WHY]);

/* How long to wait until the next round, in ms: so that the ring is a quarter full at most. */
unsigned bhb_capture_pause_ms(const struct bhb_capture *c);

/* To wait for: readable when a process needs a round at once. */
int bhb_capture_fd(const struct bhb_capture *c);

struct bhb_capture_stats {
	uint64_t hits, strange, dropped, events;
	uint64_t until; /* ticks: all before was told */
	unsigned processes;
	struct bhb_attach_stats attach;
	uint64_t bpf_ns, bpf_runs; /* spent in the programs, with kernel.bpf_stats_enabled=1; else 0 */
	char missing[BHB_WHY];     /* what this kernel does not have and is done without, or "" */
};
struct bhb_capture_stats bhb_capture_stats(struct bhb_capture *c);

/* Of what bhb_capture_probe() attached; takes a while. */
struct bhb_recipes_stats bhb_capture_recipes(const struct bhb_capture *c);

void bhb_capture_close(struct bhb_capture *c);

#endif
