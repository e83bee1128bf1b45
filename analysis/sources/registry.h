/* SPDX-License-Identifier: MIT */
/*
 * registry.h - the roots, pools and rings of a target, read from its memory
 *
 * Nothing that is read is trusted: every count is bounded, every list is
 * followed at most so often, every pointer is checked against the maps.
 */
#ifndef BHT_REGISTRY_H
#define BHT_REGISTRY_H

#include "evidence.h"
#include "event.h"
#include "memory.h"

enum {
	BHT_ROOTS_MAX = 16, /* copies of the kit in one process */
	BHT_RINGS_MAX = 65536,
	BHT_OBJECTS_MAX = 1 << 19, /* loops or bottom halves */
	BHT_CHUNKS_MAX = 4096
};

/* Why a target was refused: which thing, at which address, and what is wrong
 * with it. Filled in by all functions here that return a negative number. */
struct bht_refusal {
	uint64_t addr;
	char why[400];
};

/*
 * The root at ADDR, checked (magic, ABI, sizes). 0, or -EPROTO for an ABI or
 * size this reader does not know, -EBADMSG for no root, or what read() said.
 */
int bht_root_read(struct bht_memory *mem, uint64_t addr, struct bhp_root *root, struct bht_refusal *refusal);

/*
 * Appends the loops and bottom halves of ROOT to SAMPLE. Owners are thread ids
 * in the target's own namespace. Sets sample->unstable when a list changed
 * under the walk. 0 or -errno.
 */
int bht_registry_walk(struct bht_memory *mem, const struct bhp_root *root, struct bht_sample *sample,
		      struct bht_refusal *refusal);

/*
 * The same for slots that are at hand: COUNT of them, STRIDE bytes each, which
 * the process had at SLOTS, of a pool of KIND. Check before they are read: 0,
 * -EBADMSG or -E2BIG. Then 0 or -ENOMEM.
 */
int bht_registry_check(const struct bht_sample *sample, uint32_t kind, uint32_t stride, uint64_t slots, uint32_t count,
		       struct bht_refusal *refusal);
int bht_registry_slots(struct bht_sample *sample, uint32_t kind, uint32_t stride, uint64_t slots, const void *bytes,
		       uint32_t count, struct bht_refusal *refusal);

/* The rings of one root, copied. */
struct bht_rings;

/*
 * Copies all rings of ROOT (at their head). CLOCK is the target's: what is
 * stamped later than the end of the copy is damaged; NULL when it stands still. Free with bht_rings_free().
 * A damaged list or field table is no error: the rings before it are kept,
 * refusal->why says what is wrong, and the sources will tell of the loss.
 * NULL with errno, ENOMEM or what read() said.
 */
struct bht_rings *bht_rings_copy(struct bht_memory *mem, const struct bhp_root *root, uint64_t (*clock)(void),
				 struct bht_refusal *refusal);
void bht_rings_free(struct bht_rings *rings);

/* Maps a thread id of the target's namespace to the observer's. */
typedef uint32_t (*bht_tid_map)(void *arg, uint32_t ns_tid);

/*
 * Makes one source for each ring of RINGS, decoded with the field table the
 * target carries, and up to two for losses of no ring in particular (dropped,
 * damaged); *SOURCES is malloc'ed, *N long. The sources
 * borrow RINGS. 0 or -errno.
 */
int bht_rings_sources(struct bht_rings *rings, bht_tid_map map, void *arg, struct bht_source ***sources, unsigned *n);

#endif
