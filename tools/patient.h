/* SPDX-License-Identifier: MIT */
/*
 * patient.h - what is examined: a live process, looked at until it settles, or
 * what was kept of one
 */
#ifndef BHTRACE_PATIENT_H
#define BHTRACE_PATIENT_H

#include "diagnosis.h"
#include "live.h"

struct patient {
	struct bht_live *live;      /* NULL for what was kept */
	struct bht_source *history; /* that was diagnosed; owned */
	struct bht_evidence ev;
	uint64_t late_ns; /* what ran sooner was not late */
	struct bht_diagnosis d;
	struct bht_refusal refusal;
};

/* Opens process PID; from then on SIGINT only ends what takes time. 0 or as
 * bht_live_open(); patient_close() in any case. */
int patient_open(struct patient *p, uint32_t pid, uint64_t late_ns);
void patient_close(struct patient *p);

/* From now on SIGINT only ends what takes time; what becomes true then. */
const volatile bool *patient_catch_interrupt(void);

/* Whether SIGINT came. */
bool patient_interrupted(void);

/* The last sample becomes the first. */
void patient_start_over(struct patient *p);

/* Diagnoses from two samples that settled, or those of two seconds later. 0, or
 * -errno with the refusal filled in; -ECANCELED when the process exited. */
int patient_examine(struct patient *p);

/* Says on stderr why it came to nothing: ERROR is an errno. Gives the exit code. */
int patient_refused(const struct patient *p, int error);

/* CLOCK_MONOTONIC in milliseconds, and a sleep that a signal may shorten. */
uint64_t patient_now_ms(void);
void patient_nap(unsigned ms);

#endif
