/* SPDX-License-Identifier: MIT */
/*
 * monitor.h - bottom halves and loops of processes, kept in the kernel
 *
 * Counters, log2 histograms and what is pending live in maps; no event leaves the
 * kernel. A program on a timer looks through them and wakes user space for what is
 * overdue alone. Maps are bounded: what was not used for longest is thrown out, and
 * counted. What is told is a suspicion: a diagnosis decides. Children of a process are
 * followed, and what it executes. Not thread-safe.
 */
#ifndef BHB_MONITOR_H
#define BHB_MONITOR_H

#include "monitor_map.h"
#include "recipes.h"

struct bhb_monitor_options {
	bool everybody;
	uint64_t overdue_ns;    /* 0: 500 ms */
	uint64_t overdue_turns; /* 0: 1000; and 100 ms */
	unsigned max_objects;   /* entries of the map, 0: 8192 */
};

struct bhb_monitor_sink {
	/* Something is overdue, and has waited so long; asked again whenever that has doubled. BH is a copy. */
	void (*overdue)(void *arg, const struct bhb_key *key, enum bhb_overdue why, uint64_t waited_ns,
			const struct bhb_bh *bh);
	/* Probes of the process are attached; and it has exited. */
	void (*begins)(void *arg, uint32_t tgid);
	void (*ends)(void *arg, uint32_t tgid);
	/* As in capture.h, now and then; without options.everybody. */
	int (*look)(void *arg, uint32_t tgid, char why[BHB_WHY]);
	void *arg;
};

struct bhb_monitor;

/*
 * Loads the programs; nothing is attached to a process yet. NULL with errno and a
 * sentence in WHY that names the missing capability, file or setting: EPERM, ENOTSUP (no
 * BTF, or a kernel without what is needed), ENOMEM.
 */
struct bhb_monitor *bhb_monitor_open(const struct bhb_monitor_options *o, const struct bhb_monitor_sink *sink,
				     char why[BHB_WHY]);

/* Follows PID, which may have nothing to attach to so far; no options.everybody. 0, or -errno as
 * bhb_attach(). */
int bhb_monitor_follow(struct bhb_monitor *m, uint32_t pid, char why[BHB_WHY]);

/* Probes at functions of a process. As bhb_recipes_attach(), bhb_recipes_know() and bhb_recipes_any(). */
int bhb_monitor_probe(struct bhb_monitor *m, uint32_t pid, const struct bhb_probe *probes, size_t n, char why[BHB_WHY]);
int bhb_monitor_know(struct bhb_monitor *m, uint32_t pid, uint64_t callback);
bool bhb_monitor_probed(const struct bhb_monitor *m, uint32_t pid);

/* What there is to tell goes to the sink; new processes and files are attached to. 0, or -errno: the
 * last attach that failed, and WHY. */
int bhb_monitor_round(struct bhb_monitor *m, char why[BHB_WHY]);
int bhb_monitor_fd(const struct bhb_monitor *m); /* readable when a round is due */

/* Copies of all entries; EACH gives false to end. 0 or -errno. */
int bhb_monitor_bhs(struct bhb_monitor *m, bool (*each)(void *arg, const struct bhb_key *key, const struct bhb_bh *bh),
		    void *arg);
int bhb_monitor_loops(struct bhb_monitor *m,
		      bool (*each)(void *arg, const struct bhb_key *key, const struct bhb_loop *loop), void *arg);

struct bhb_monitor_stats {
	uint64_t hits, strange;    /* probes, as in wire.h */
	uint64_t told;             /* records that went to user space: overdue and the life of processes, no events */
	uint64_t evicted;          /* entries that the maps threw out, or had no room for */
	uint64_t bpf_ns, bpf_runs; /* a sample: spent in programs at probes, and how many of them that were */
	unsigned processes;
	struct bhb_attach_stats attach;
};
struct bhb_monitor_stats bhb_monitor_stats(struct bhb_monitor *m);

double bhb_monitor_ticks_per_ns(const struct bhb_monitor *m);

/* Detaches everything; how long that takes: attach.h. */
void bhb_monitor_close(struct bhb_monitor *m);

#endif
