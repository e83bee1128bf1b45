/* SPDX-License-Identifier: MIT */
/* callstacks.h - the user stacks of all threads, as part of a report */
#ifndef BHTRACE_CALLSTACKS_H
#define BHTRACE_CALLSTACKS_H

#include <jansson.h>

#include "evidence.h"
#include "stacks.h"

/* Names of threads are those of EV. */
void callstacks_print(const struct bht_stacks *stacks, const struct bht_evidence *ev, bool color);

/* Key `stacks` of bhtrace.diagnosis/1; NULL without memory. */
json_t *callstacks_json(const struct bht_stacks *stacks);

#endif
