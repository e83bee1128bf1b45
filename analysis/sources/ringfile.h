/* SPDX-License-Identifier: MIT */
/*
 * ringfile.h - a ring file (flight.h), read in parts
 *
 * Such a file is anybody's: only what pread() gives is believed, never mapped
 * memory, which may be cut away under the reader. Memory is bounded by the part
 * that is read at a time, whatever the size of the ring.
 */
#ifndef BHT_RINGFILE_H
#define BHT_RINGFILE_H

#include <sys/stat.h>

#include "decode.h"
#include "flight.h"

/* The field table that the rings of one root share. */
struct bht_ring_table {
	uint32_t n; /* 0: not known yet */
	struct bhp_field_info info[BHP_FIELD_INFO_MAX];
};

/* What the header said when the file was opened. */
struct bht_ringhead {
	uint64_t capacity, head, reserved, mark;
	uint32_t tid, state, n_fields;
	struct bhp_clock_pair clock[2];
};

/* A source, once it was started. */
struct bht_ringfile {
	struct bht_decoder d;
	char name[64];
	int fd;
	struct bht_ringhead header;
	uint64_t next, head; /* records that are still to be read */
	bool cut;            /* the event before the next record is lost */
	uint64_t room;       /* records that are read at a time */
	struct bhp_record *buffer;
};

/*
 * Opens NAME below DIR for reading: a regular file and no link. The descriptor,
 * or -errno with the refusal filled in.
 */
int bht_file_open(int dir, const char *name, struct stat *st, struct bht_refusal *refusal);

/* Reads LEN bytes at OFFSET, all or nothing. 0 or -errno, -EBADMSG at the end. */
int bht_file_read(int fd, const char *name, void *buf, size_t len, uint64_t offset, struct bht_refusal *refusal);

/*
 * Opens ring file NAME, which must be OWNER's, and have the fields of TABLE
 * unless that is empty. 0 or -errno; release with the source's close().
 */
int bht_ringfile_open(int dir, const char *name, uid_t owner, struct bht_ring_table *table, struct bht_ringfile **file,
		      struct bht_refusal *refusal);

/* Time of the newest record, 0 when there is none; and into NAME what its last
 * thread was called, "" when that was overwritten. */
uint64_t bht_ringfile_latest(struct bht_ringfile *f, char name[BHP_TEXT_MAX + 1]);

/* Whether the ring was written to since it was opened. */
bool bht_ringfile_moved(const struct bht_ringfile *f);

/* Makes it a source that reads ROOM records at a time; HOW is borrowed. 0 or -ENOMEM. */
int bht_ringfile_start(struct bht_ringfile *f, const struct bht_decoding *how, bht_tid_map map, void *arg,
		       uint64_t room);

#endif
