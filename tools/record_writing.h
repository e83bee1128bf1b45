/* SPDX-License-Identifier: MIT */
/*
 * record_writing.h - the recording of one process, as it is written
 *
 *   DIR/COMMAND-PID/history/, evidence, until    recording.h, until.h
 *
 * What cannot be written is counted, and said once on stderr; recording goes on. For
 * one thread at a time.
 */
#ifndef BHTRACE_RECORD_WRITING_H
#define BHTRACE_RECORD_WRITING_H

#include "ctf.h"
#include "record.h"

/* Where the events of one ring, or one thread, go. */
struct recording_place;

#define RECORDING_NONE                                                                                                 \
	{                                                                                                              \
		.until = -1                                                                                            \
	}
struct recording {
	char path[4096]; /* DIR/COMMAND-PID */
	uint32_t pid;
	int error;       /* the first one of writing, or 0 */
	uint64_t missed; /* events that found no stream, of all places */
	/* Private. */
	struct bht_ctf_writer *ctf;
	struct recording_place *places;
	int until; /* file descriptor */
	uint64_t flushed_bytes, flushed_ms;
};

/*
 * Makes DIR/COMMAND-PID, or DIR/COMMAND-PID-N when that is there, with an empty history
 * of the process ABOUT; COMMAND is made a safe file name. R is RECORDING_NONE, or has places
 * already. 0, or -errno with the refusal and nothing left behind.
 */
int recording_open(struct recording *r, const char *dir, const struct bht_ctf_about *about,
		   struct bht_refusal *refusal);

/* A new place, owned by the recording. NULL without memory. */
struct recording_place *recording_place(struct recording *r);

/* Takes an event or a loss; the order is that of bht_ctf_put(). A text is valid during the call. */
void recording_put(struct recording_place *place, const struct bht_event *e);

/* Whether it is time to flush: a second has passed, or some of it is on the disk. All
 * or none: a stream must not be far ahead of the others. */
bool recording_due(const struct recording *r);

/* After this, nothing that was put so far is lost with the recorder; all before UNTIL was. */
void recording_flush(struct recording *r, uint64_t until);

/* So far, with the events that found no stream. */
struct bht_ctf_count recording_count(const struct recording *r);

/*
 * Keeps the evidence of the process, which takes up to some seconds; calls TURN meanwhile
 * again and again, which keeps up with what it does and waits for more. 0 or what TURN gave. *KEPT is
 * then as record_evidence_at() gave it. What evidence knows has to be in the history,
 * too: it is to be dropped unless one can be sure of that.
 */
int recording_evidence(struct recording *r, int (*turn)(void *arg), void *arg, int *kept);
void recording_drop_evidence(const struct recording *r);

/* Flushes and closes; *COUNT is as recording_count() in the end. Frees the places, also of one that was
 * not opened. */
void recording_close(struct recording *r, uint64_t until, struct bht_ctf_count *count);

/* --- what is said -------------------------------------------------------------------- */

/* Appends a sentence to what the user has to know besides. */
void record_note(struct record_result *result, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says a refusal on stderr; ERROR is an errno. Gives the exit code. */
int record_refused(const struct bht_refusal *refusal, int error);

/* A line on stderr that is overwritten, twice a second, if that is a terminal; and the line is gone. */
void record_show(const char *format, ...) __attribute__((format(printf, 1, 2)));
void record_unshow(void);

#endif
