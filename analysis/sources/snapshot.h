/* SPDX-License-Identifier: MIT */
/*
 * snapshot.h - evidence of a live process, kept in a directory
 *
 *   DIR/evidence       text, one thing a line (snapshot_fields.def.h), "end" last
 *   DIR/ring-N.flight  a ring as it was copied (flight.h)
 *
 * What is diagnosed from it is what was diagnosed from the process.
 */
#ifndef BHT_SNAPSHOT_H
#define BHT_SNAPSHOT_H

#include "event.h"
#include "evidence.h"
#include "registry.h"

/*
 * Writes EV, with both samples, and the rings behind HISTORY, which must come
 * from bht_live_history() and may have been read, into directory DIR, which must
 * not be there. Everything is on the disk when it returns 0. On -errno the
 * refusal is filled in and what was written is removed.
 */
int bht_snapshot_write(const char *dir, const struct bht_evidence *ev, const struct bht_source *history,
		       struct bht_refusal *refusal);

/*
 * Reads it. EV, which must be empty, borrows DIR; *HISTORY reads the rings while
 * it is read and has to be closed. 0, or -errno with file, offset and reason in
 * the refusal:
 *   ENOENT   no such directory, or no snapshot in it
 *   EPROTO   of another format or kind of machine
 *   EBADMSG  incomplete or damaged
 */
int bht_snapshot_open(const char *dir, struct bht_evidence *ev, struct bht_source **history,
		      struct bht_refusal *refusal);

#endif
