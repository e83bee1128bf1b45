/* SPDX-License-Identifier: MIT */
/* beginnings.h - histories of recorders that leave out where an execution begins */
#ifndef BHT_BEGINNINGS_H
#define BHT_BEGINNINGS_H

#include "recording.h"

/*
 * OF, which is merged, with the beginnings of all executions: of those that ended (unfold.h),
 * and of those that go on and were kept as evidence of PROCESS[0] to PROCESS[N - 1]; those
 * are their indexes in OF, too. Takes ownership of OF, also when it fails: NULL with errno ENOMEM.
 */
struct bht_source *bht_whole_history(struct bht_source *of, const struct bht_recorded *process, unsigned n);

#endif
