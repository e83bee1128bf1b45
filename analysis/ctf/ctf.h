/* SPDX-License-Identifier: MIT */
/*
 * ctf.h - recordings: one process's events as a CTF 1.8 trace
 *
 *   DIR/metadata   TSDL, written from the event schema (bhp_schema())
 *   DIR/stream-N   the events of one ring, in packets
 *
 * An event is the 32 bytes of probes/record.h as they are, aligned to 32: the
 * declarations in the metadata say where each slot lies. A text follows its last
 * field, BHP_TEXT_MAX bytes padded with zeros, so such an event takes
 * BHP_GROUP_MAX records. Packets begin with a header and a context of whole
 * records; the context has the thread, and events_discarded says what is missing
 * before and in the packet. No packet crosses a page of the file. They are
 * written together, BHT_CTF_PACKET bytes or when they are flushed, so a recorder that dies
 * loses only what it had not written, and leaves no half of a packet. A stream that was closed says so in its last packet, so a
 * reader knows which ones were not. docs/recordings.md has all of it.
 *
 * Format: Common Trace Format 1.8.3, https://diamon.org/ctf/v1.8.3/
 */
#ifndef BHT_CTF_H
#define BHT_CTF_H

#include "event.h"
#include "evidence.h"
#include "flight.h"
#include "registry.h"

enum { BHT_CTF_STREAMS_MAX = 65536, BHT_CTF_PACKET = 64 * 1024 };

/* What the metadata says of the process, in its env and its clock. */
struct bht_ctf_about {
	uint32_t pid; /* as the recorder's PID namespace numbers it */
	char command[16];
	char hostname[65];
	char build_id[41];           /* of the executable, hexadecimal; "" when not known */
	double ticks_per_ns;         /* > 0.001 and < 100 */
	struct bhp_clock_pair clock; /* one instant on both clocks, */
	uint64_t realtime_ns;        /* and on CLOCK_REALTIME */
	enum bht_recorder recorder;
};

/* --- writing ------------------------------------------------------------------- */

/* One writer and its streams are for one thread at a time. Files are opened for
 * each packet: the number of streams is not bounded by that of descriptors. */
struct bht_ctf_writer;
struct bht_ctf_stream;

/*
 * Makes directory NAME below the open directory DIR, which must not be there, and
 * its metadata. PATH is how messages call DIR. NULL with errno and the refusal.
 */
struct bht_ctf_writer *bht_ctf_create(int dir, const char *name, const char *path, const struct bht_ctf_about *about,
				      struct bht_refusal *refusal);

/* A new stream, owned by the writer. NULL with errno and the refusal. */
struct bht_ctf_stream *bht_ctf_add(struct bht_ctf_writer *w, struct bht_refusal *refusal);

/*
 * Appends an event, which must not be earlier than the one before (what is, is
 * stamped like that one), or a loss, which becomes discarded events. Copied: E may
 * change after the call. 0 or -errno (ENOSPC, EFBIG, EIO, ENOMEM): the packet at
 * hand is then lost and counted as discarded, the stream may be used on. EINVAL: E
 * is no event of the schema. For EFBIG to come back, SIGXFSZ must be ignored.
 */
int bht_ctf_put(struct bht_ctf_stream *s, const struct bht_event *e);

/* Writes the packet at hand, if it has events. 0 or -errno as above. */
int bht_ctf_flush(struct bht_ctf_stream *s);

/* Bytes and events written, and events discarded, so far. */
struct bht_ctf_count {
	uint64_t bytes, events, discarded;
};
struct bht_ctf_count bht_ctf_count(const struct bht_ctf_writer *w);

/* Flushes all streams, brings them to the disk and frees the writer. 0 or the
 * first -errno with the refusal; freed in any case. */
int bht_ctf_close(struct bht_ctf_writer *w, struct bht_refusal *refusal);

/* Removes what a writer made at NAME below DIR, as far as that is possible. */
void bht_ctf_remove(int dir, const char *name);

/* --- reading ------------------------------------------------------------------- */

/*
 * Opens trace directory NAME below DIR: one that this project wrote, now or
 * earlier; the order of its bytes is this machine's. PATH is how messages call DIR.
 * Events come back as they were put, merged. Read in parts with pread(): a file that
 * is cut while it is read is an ordinary end. What is damaged becomes a loss where
 * it can be told from what is not; a stream that ends without having been closed,
 * one at the end. 0, or -errno with file, offset and reason:
 *   ENOENT   no such directory, or no metadata in it
 *   EPROTO   a trace, but none of ours; of another byte order or format
 *   EBADMSG  damaged metadata, or a stream that is no regular file
 *   and what opening a file gives (ELOOP: a symbolic link)
 */
int bht_ctf_open(int dir, const char *name, const char *path, struct bht_ctf_about *about, struct bht_source **history,
		 struct bht_refusal *refusal);

/*
 * What is known besides of how HISTORY ends, which bht_ctf_open() gave; to be told
 * before it is read. All up to WHOLE was written, although the recorder was killed
 * before it could close the streams: that they were not closed is then no loss (0:
 * nothing is known of that). What is missing may be as late as LATEST (0: not known;
 * then as late as the last event and the clock of ABOUT).
 */
void bht_ctf_until(struct bht_source *history, uint64_t whole, uint64_t latest);

#endif
