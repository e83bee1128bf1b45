/* SPDX-License-Identifier: MIT */
/*
 * history.h - evidence made of events alone
 *
 * A trace that nobody kept evidence beside still says where each loop was when it
 * ended, and which bottom halves were scheduled. It says less than a look at the
 * process: nothing of threads, of kernel state, and of what was made before the
 * recording began.
 */
#ifndef BHT_HISTORY_H
#define BHT_HISTORY_H

#include "evidence.h"
#include "machines.h"

/* Whether something that the history mentions was made before its first event: then
 * earlier events are missing. */
bool bht_history_begins_late(const struct bht_machines *m);

/*
 * Makes ev->last of what the machines have become, and says in ev->unseen what it
 * lacks. EV has its clock, process and source already. 0 or -ENOMEM.
 */
int bht_history_evidence(const struct bht_machines *m, struct bht_evidence *ev);

#endif
