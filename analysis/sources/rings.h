/* SPDX-License-Identifier: MIT */
/* rings.h - copied rings, as the files that make and keep them see them */
#ifndef BHT_RINGS_H
#define BHT_RINGS_H

#include "decode.h"
#include "flight.h"

/* One copied ring: records with index lost .. lost + n. */
struct bht_ring {
	struct bhp_record *records;
	uint64_t n;
	uint64_t lost; /* records before the first */
	enum bht_loss_why why;
	bool damaged;  /* the counters make no sense: n is 0 */
	uint32_t tid;  /* of the last writer, in the target's namespace */
	uint64_t mark; /* as in struct bhp_ring */
};

struct bht_rings {
	struct bht_decoding how;
	struct bht_ring *ring;
	size_t n;
	uint64_t copied;  /* bytes */
	uint64_t dropped; /* events that found no ring */
	bool off;         /* the recorder was told not to record */
	bool damaged;     /* not all rings could be read */
};

/* Whether H, found at ADDR, is the header of a ring. 0 or -EBADMSG. */
int bht_ring_check(const struct bhp_ring *h, uint64_t addr, struct bht_refusal *refusal);

#endif
