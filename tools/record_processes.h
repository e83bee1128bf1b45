/* SPDX-License-Identifier: MIT */
/*
 * record_processes.h - the recordings of processes that come and go
 *
 * Takes what a capture tells (bpf/capture.h) and writes a recording for each process, a
 * stream for what each thread did and another one for what the kernel saw of it: a probe
 * fires later than its event happened, so the two are not in one order. One
 * that executes another program gets another recording. For one thread at a time.
 */
#ifndef BHTRACE_RECORD_PROCESSES_H
#define BHTRACE_RECORD_PROCESSES_H

#include "capture.h"
#include "record_writing.h"

enum { RECORD_BUCKETS = 4096 };

struct processes {
	const char *dir;
	double ticks_per_ns;
	uint32_t asked; /* this process has a recording although nothing is known to have happened in it, */
	bool everybody; /* and so have all that were there before */
	/* What came of it. */
	unsigned n, n_late;        /* recordings, and those of processes that ran before */
	struct bht_ctf_count done; /* of those that were closed */
	uint64_t cpu_ns;           /* of those that have ended */
	int error;                 /* the first one of writing, or 0 */
	/* Private. */
	struct process *first;
	struct lane *bucket[RECORD_BUCKETS];
	uint64_t second; /* of the last look at what is idle */
	bool looked_at;  /* evidence is taken */
};

/* A sink for bhb_capture_open(), borrowing P. */
struct bhb_sink processes_sink(struct processes *p);

/* Whether any that was told of is still there. */
bool processes_left(const struct processes *p);

/* To be called after each round: flushes what is due; all before UNTIL was told. */
void processes_flush(struct processes *p, uint64_t until);

/* So far, of all; what the capture has lost is not in it. CPU time while they were recorded, ns, 0: not known. */
struct bht_ctf_count processes_count(const struct processes *p);
uint64_t processes_cpu_ns(const struct processes *p);

/* Keeps the evidence of all that are left, as recording_evidence() does; *UNSEEN becomes
 * the number of those of which that was not possible. */
int processes_evidence(struct processes *p, int (*turn)(void *arg), void *arg, unsigned *unseen);
void processes_drop_evidence(const struct processes *p);

/* Closes all recordings, which are whole up to UNTIL. */
void processes_close(struct processes *p, uint64_t until);

#endif
