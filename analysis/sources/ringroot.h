/* SPDX-License-Identifier: MIT */
/* ringroot.h - the files that one copy of the kit in a process has left (flight.h) */
#ifndef BHT_RINGROOT_H
#define BHT_RINGROOT_H

#include "ringfile.h"

enum bht_ringname_kind { BHT_RING_PROCESS, BHT_RING_FLIGHT, BHT_RING_OBJECTS };
enum { BHT_RINGNAME = 96 };

struct bht_ringname {
	uint32_t pid;
	uint64_t start;
	enum bht_ringname_kind kind;
	uint32_t number;
};

void bht_ringname_print(const struct bht_ringname *name, char *buf, size_t size);
/* Only what the recorder would write in the same way is one of its names. */
bool bht_ringname_parse(const char *text, struct bht_ringname *name);

struct bht_ringroot {
	struct bhp_process_file process;
	bool known; /* there is such a file */
	bool damaged;
	uid_t owner;
	struct bht_ring_table table;
	struct bht_decoding how;
	struct bht_ringfile **ring;
	unsigned n_rings, rings_found, chunks_found;
	/* Borrowed, while it is opened; objects go to ev->last. */
	int dir;
	struct bht_evidence *ev;
	struct bht_refusal *refusal;
};

/* Reads the file of the process, if FIRST is its name, and finds the owner. */
void bht_ringroot_begin(struct bht_ringroot *root, const struct bht_ringname *first);

/* Opens the rings and reads the objects among N names. What is damaged is told
 * in ev->unseen. 0 or -ENOMEM. */
int bht_ringroot_open(struct bht_ringroot *root, const struct bht_ringname *names, size_t n);

/* Says in ev->unseen what is not there, and whether the process still runs: then
 * objects and rings were not read at the same time. Both make the sample unstable. */
void bht_ringroot_missing(struct bht_ringroot *root);

/* How many records of each of N rings may be in memory at a time. */
uint64_t bht_ringroot_room(size_t n);

/* Raises the limit of open files for N more, as far as that is allowed: a ring
 * keeps its file open. Without room it counts as damaged. */
void bht_ringroot_allow(size_t n);

/* Starts all rings and hands them over to SOURCES, *N of which are there; all of
 * them even when it fails. 0 or -ENOMEM. */
int bht_ringroot_start(struct bht_ringroot *root, bht_tid_map map, void *arg, uint64_t room,
		       struct bht_source **sources, unsigned *n);

/* Closes the rings that are still there. */
void bht_ringroot_close(struct bht_ringroot *root);

#endif
