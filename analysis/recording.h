/* SPDX-License-Identifier: MIT */
/*
 * recording.h - whatever a history of one or more processes was kept in
 *
 * A recording of ours is a directory with one directory a process:
 *
 *   DIR/COMMAND-PID/evidence   what was seen of it when recording ended (snapshot.h)
 *   DIR/COMMAND-PID/history/   its events (ctf/ctf.h); not when LTTng has them
 *   DIR/COMMAND-PID/until      how far they are whole (until.h), should there be no evidence
 *   DIR/lttng/                 what lttng-consumerd wrote, of all processes
 *
 * A snapshot is such a process directory by itself. Traces that LTTng alone
 * recorded, and live ones (net://HOST/host/NAME/SESSION), have no evidence: it is
 * then made from the history, which knows less.
 */
#ifndef BHT_RECORDING_H
#define BHT_RECORDING_H

#include "diagnosis.h"
#include "registry.h"

/* One process. */
struct bht_recorded {
	struct bht_evidence ev; /* without samples until the history was read, unless it was kept */
	bool kept;              /* ev was kept beside the history */
	bool whole;             /* up to ev.history_until nothing is missing but what losses until then say */
	char *path;             /* where, or NULL; ev.source may point to it */
};

/* Zero-initialised, but for stop. */
struct bht_recording {
	const volatile bool *stop;    /* ends the reading of a live session when it becomes true; or NULL */
	struct bht_recorded *process; /* event.process is an index here; more may come with each call of next() */
	unsigned n;
	struct bht_source *history; /* merged events of all, on one clock; owned */
	double ticks_per_ns;        /* of that clock; the same in all ev */
	char name[256];             /* of the first trace, for messages */
	/* Private: evidence whose process is not in the history so far, and LTTng's source. */
	struct bht_recorded *kept;
	unsigned n_kept;
	struct bht_source *trace;
};

/*
 * Opens N traces as one: recordings of ours, or LTTng traces, of any machines. 0, or
 * -errno with the refusal; bht_recording_close() in both cases. Not thread-safe.
 */
int bht_recording_open(const char *const *traces, unsigned n, struct bht_recording *rec, struct bht_refusal *refusal);
void bht_recording_close(struct bht_recording *rec);

/*
 * Reads the history to its end and diagnoses each process: D becomes an array of
 * rec->n, to be freed with bht_diagnosis_free() one by one and free(). 0 or -errno.
 */
int bht_recording_diagnose(struct bht_recording *rec, uint64_t late_ns, struct bht_diagnosis **d);

#endif
