/* SPDX-License-Identifier: MIT */
/*
 * snapshot.h - evidence of a live process, kept in a directory
 *
 *   DIR/evidence   text, one thing a line (snapshot_fields.def.h), "end" last
 *   DIR/history/   the events, a stream a ring (ctf/ctf.h); may be missing
 *
 * What is diagnosed from it is what was diagnosed from the process.
 */
#ifndef BHT_SNAPSHOT_H
#define BHT_SNAPSHOT_H

#include "ctf.h"
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

/* Writes EV alone into directory DIR, which is there and has none. As above. */
int bht_evidence_write(const char *dir, const struct bht_evidence *ev, struct bht_refusal *refusal);

/*
 * Reads it. EV, which must be empty, borrows DIR; *HISTORY reads the events while
 * it is read and has to be closed; it is NULL when none were kept. 0, or -errno
 * with file, offset and reason in the refusal:
 *   ENOENT   no such directory, or no snapshot in it
 *   EPROTO   of another format or kind of machine
 *   EBADMSG  incomplete or damaged
 */
int bht_snapshot_open(const char *dir, struct bht_evidence *ev, struct bht_source **history,
		      struct bht_refusal *refusal);

/*
 * What a recording of process PID says of it: clocks as they are now, the rate of
 * the process's clock measured since it began. 0, or -errno as bht_live_open().
 */
int bht_ctf_about(uint32_t pid, struct bht_ctf_about *about, struct bht_refusal *refusal);

/* The same from EV, which was seen of a process that may have exited since: its
 * build id is then not known. */
void bht_ctf_about_evidence(const struct bht_evidence *ev, struct bht_ctf_about *about);

#endif
