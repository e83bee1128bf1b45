/* SPDX-License-Identifier: MIT */
/* record.h - what bhtrace record asks of each way to record */
#ifndef BHTRACE_RECORD_H
#define BHTRACE_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "diagnosis.h"

struct record_request {
	const char *dir; /* does not exist; NULL with to */
	const char *to;  /* net://HOST of a relayd, or NULL */
	uint32_t pid;    /* a live process, or 0 */
	char **command;  /* to be started, NULL-terminated, or NULL */
	bool all;        /* every process that uses an instrumented file; neither pid nor command */
	bool begins;     /* probes before callbacks, too */
	bool no_kernel;  /* no events of the scheduler and of system calls */
	uint64_t for_ns; /* 0: until the target exits or Ctrl-C */
	bool snapshot;   /* flight-recorder mode: keep only when asked, or when a hang is seen */
	bool json;
};

/* What attached probes did to the processes that were recorded. */
struct record_probes {
	unsigned processes, files, links, bystanders; /* processes that use the same files, not recorded */
	uint64_t hits, strange;                       /* of ours and of the bystanders */
	double attach_ms;
	double trap_ns, program_ns; /* of a hit, on this machine; 0: not measured, not counted by the kernel */
	uint64_t cpu_ns;            /* CPU time of the processes while they were recorded; 0: not known */
	bool begins;
	/* At functions of loops that were never instrumented. */
	unsigned functions, returns; /* probes; those at returns */
	uint64_t return_hits;
	char modules[600]; /* "libuv in /usr/bin/node"; "" when there are none */
};

/* Nanoseconds that a hit costs besides its program, and the share of the CPU time; 0: not known. */
double record_cost_ns(const struct record_probes *p);
double record_cost_share(const struct record_probes *p);

/* What was recorded, for the last words. */
#define RECORD_UNCOUNTED UINT64_MAX
struct record_result {
	uint64_t events; /* or RECORD_UNCOUNTED: LTTng does not count, and it is much to read */
	uint64_t discarded, bytes;
	uint32_t target;   /* process id, 0 with all */
	const char *ended; /* why: "the target exited", "Ctrl-C", ... */
	char where[512];   /* what to give to bhtrace diagnose */
	char note[1024];   /* what the user has to know besides, or "" */
	/* The recorder's own: its share of one CPU, and what it read of the target. */
	double cpu_share;
	uint64_t bytes_read;
	bool probed; /* probes is filled in */
	struct record_probes probes;
};

/* All print progress and refusals on stderr, and give an exit code; RESULT,
 * which is zero before, is filled in for EXIT_HEALTHY, and whenever RESULT->ended is set. */
int record_flight(const struct record_request *q, struct record_result *result);
int record_lttng(const struct record_request *q, struct record_result *result);
int record_bpf(const struct record_request *q, struct record_result *result);

/* --- the target (record_target.c) ---------------------------------------------- */

/* SIGINT, SIGTERM and --for end a recording; SIGUSR1 asks for a snapshot. */
void record_signals(void);
bool record_stopped(void);
bool record_snapshot_wanted(void); /* true once for each SIGUSR1 */

struct record_target {
	uint32_t pid;
	int pidfd;
	bool child;     /* started here */
	int also;       /* a descriptor that ends record_target_wait() when it is readable, or -1 */
	int gate, said; /* private: it waits here before it is executed, and says why it could not be */
	char **command;
	/* From record_target_exited(): */
	bool exited;
	int status; /* as waitpid() gives it, of a child */
};

/*
 * Opens the process, or starts the command, with the variables ENV ("NAME=VALUE",
 * NULL-terminated, or NULL) added to its environment; a child that cannot be
 * executed is refused. With all, there is no process, which never exits. 0 or an exit code,
 * with the reason on stderr.
 */
int record_target_open(const struct record_request *q, char *const *env, struct record_target *t);

/* The same in two steps: a command has its process id, but does not run before it is
 * started. */
int record_target_hold(const struct record_request *q, char *const *env, struct record_target *t);
int record_target_start(struct record_target *t);

/* Whether it has exited; a child of ours is reaped. */
bool record_target_exited(struct record_target *t);

/* Waits up to MS for the target's exit or a signal. */
void record_target_wait(const struct record_target *t, unsigned ms);

/* Why a recording ended: record_stopped(), or the target's exit and how. Static. */
const char *record_ended(const struct record_target *t);

/* A child that still runs is left running. */
void record_target_close(struct record_target *t);

/* A hang: the finding and its objects, in one turn of the loop. */
struct record_hangs {
	struct record_hang {
		enum bht_rule_id rule;
		uint64_t bh, loop, iteration;
	} seen, kept;
	bool looked;
};

/* To be told of each look: true once for a hang that two of them in a row have shown. */
bool record_stable_hang(struct record_hangs *h, const struct bht_diagnosis *d);

/* The name of a process, as the kernel has it; false when that cannot be read. */
enum { RECORD_COMMAND = 16 };
bool record_command(uint32_t pid, char command[RECORD_COMMAND]);

/* DIR/COMMAND-PID into PATH; COMMAND is made a safe file name. 0 or -ENAMETOOLONG. */
int record_command_path(char *path, size_t size, const char *dir, const char *command, uint32_t pid);
int record_process_path(char *path, size_t size, const char *dir, uint32_t pid);

/*
 * Keeps the evidence of PID at DIR/COMMAND-PID, without its history: 0, -ESRCH when
 * it is gone, or -errno with the reason on stderr. The other: at PATH, which is there.
 */
int record_evidence(const char *dir, uint32_t pid);
int record_evidence_at(const char *path, uint32_t pid);

#endif
