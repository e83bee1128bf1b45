/* SPDX-License-Identifier: MIT */
/* recording_lttng.h - the part of a recording that LTTng has */
#ifndef BHT_RECORDING_LTTNG_H
#define BHT_RECORDING_LTTNG_H

#include "recording.h"

/*
 * Opens the N traces as REC's history. Processes are added as they appear, with what
 * was kept of them in rec->kept. 0 or -errno with the refusal.
 */
int bht_recording_lttng(struct bht_recording *rec, const char *const *traces, unsigned n, struct bht_refusal *refusal);

#endif
