/* SPDX-License-Identifier: MIT */
/* ringdir.h - what BH_FLIGHT=file:DIR left of a process that was killed */
#ifndef BHT_RINGDIR_H
#define BHT_RINGDIR_H

#include "event.h"
#include "evidence.h"
#include "registry.h"

/*
 * Reads the files of process PID in directory DIR, with 0 for the only one
 * there. EV, which must be empty, gets the one sample there is: loops, bottom
 * halves and the threads that wrote rings, all in the target's own numbering;
 * it borrows DIR. *HISTORY is merged from the rings while it is read; it has to
 * be closed. What is missing or damaged is told in ev->unseen and is a loss of
 * all threads in the history. 0, or -errno with the refusal filled in:
 *   ENOENT    no such directory or process in it
 *   ENOTUNIQ  several processes; the refusal lists them
 *   EBADMSG   nothing but files that this reader does not understand
 */
int bht_ringdir_open(const char *dir, uint32_t pid, struct bht_evidence *ev, struct bht_source **history,
		     struct bht_refusal *refusal);

#endif
