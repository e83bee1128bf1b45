/* SPDX-License-Identifier: MIT */
/*
 * babeltrace.h - traces of LTTng, and any other CTF with our events
 *
 * Through libbabeltrace2: directories (each with all traces below it, merged), or
 * one live session of a relayd. Events of other providers are passed over.
 *
 * An event of LTTng carries its own time in ticks of bhp_clock(), because LTTng
 * stamps it later and with another clock; its thread and process are the contexts
 * vtid/tid and vpid/pid. Recordings of ours (ctf/ctf.h) read here give the same
 * events as bht_ctf_open() gives.
 */
#ifndef BHT_BABELTRACE_H
#define BHT_BABELTRACE_H

#include "event.h"
#include "registry.h"

struct bht_trace_process {
	uint32_t pid;
	char command[16];  /* "" when not known */
	char hostname[65]; /* "" when not known */
};

struct bht_trace_info {
	double ticks_per_ns;                     /* of event times; 1 when they are ns since the Epoch */
	double clock_error_ns;                   /* within a process; hosts are as far apart as their clocks are set */
	const struct bht_trace_process *process; /* event.process is an index here */
	unsigned n_processes;                    /* so far */
};

/*
 * Opens TRACES. Events come merged by their time (babeltrace_order.h says how well);
 * one host's in ticks, several hosts' in ns since the Epoch. Reads ahead until the rate
 * of the clock is known. Discarded events and packets are losses, of all threads of
 * that process when the stream is per process, else of BHT_ALL_PROCESSES. A live
 * session ends when it is closed, or when *STOP, which may be NULL, becomes true. 0, or
 * -errno with the refusal:
 *   ENOENT  no trace there, or no plugin for it; no event of ours in it is no error
 *   ELOOP   a symbolic link among the files of a trace
 *   EPROTO  events of ours without the contexts that name thread and process
 *   EBADMSG, EIO  babeltrace2 cannot read it, with its reason
 * A trace that is damaged further on ends there with a loss, and
 * bht_babeltrace_damage() has the reason.
 */
int bht_babeltrace_open(const char *const *traces, unsigned n, const volatile bool *stop, struct bht_source **source,
			struct bht_refusal *refusal);

/* What is known of SOURCE, which bht_babeltrace_open() gave; borrowed until its
 * next call. */
struct bht_trace_info bht_babeltrace_info(const struct bht_source *source);

/* Why it ended early, or what of it could not be understood, or "". */
const char *bht_babeltrace_damage(const struct bht_source *source);

#endif
