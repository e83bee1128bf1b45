/* SPDX-License-Identifier: MIT */
/*
 * recipe.h - how a call of any function becomes an event, as data
 *
 * Included by eBPF programs and user space. For loops that have no probes of their own: a
 * uprobe at the entry of a function, or at its return, finds its recipe by the cookie that it
 * was attached with. A field is an argument, what the function gives back, or what is
 * found behind one of them. Times are CLOCK_MONOTONIC in ns: BHB_IN_NS of wire.h.
 */
#ifndef BHB_RECIPE_H
#define BHB_RECIPE_H

#include <stdint.h>

enum {
	BHB_RECIPES_MAX = 1024, /* of all processes */
	BHB_PIECES_MAX = 6,
	BHB_HOPS_MAX = 4,
	BHB_BITS_MAX = 8,
	BHB_ARGUMENTS = 6,
	BHB_FRAMES_MAX = 8192 /* calls that have not returned, of all threads */
};

/* An event that is not of the schema: a loop, its epoll set in LO and its notifier in HI. */
enum { BHB_TELLS_LOOP = 0xef };

/* Where a field comes from; 1 to BHB_ARGUMENTS: that argument. */
enum bhb_from { BHB_FROM_VALUE, BHB_FROM_RESULT = 16, BHB_FROM_BEGIN /* time of the entry, at return */ };

struct bhb_piece {
	uint8_t from; /* enum bhb_from */
	uint8_t hops; /* at an offset from it is the value, or a pointer that is followed; 0: it is the value */
	uint8_t size; /* of the value, 1, 2, 4 or 8 bytes */
	uint8_t is_signed;
	uint8_t is_ms;              /* a timeout in ms: becomes ns, and -1 what is less than 0 */
	uint8_t n_bits;             /* not 0: becomes the MEANS of those masks of which a bit is set, */
	uint8_t inverted;           /* or, with bit 1 << i, none */
	uint8_t word, shift, width; /* of struct bhp_record; WIDTH 0: the text */
	uint8_t needed;             /* not an event when it is 0 */
	uint8_t means[BHB_BITS_MAX];
	uint64_t mask[BHB_BITS_MAX];
	uint64_t offset[BHB_HOPS_MAX];
	uint64_t value;
};

struct bhb_recipe {
	uint32_t event;    /* enum bhp_id; 0: none, the call is only remembered */
	uint32_t remember; /* at entry, not 0: for the recipe at return of this number - 1 */
	uint32_t held;     /* a gated process stops until its number was looked at: bhb_known */
	uint32_t n;
	struct bhb_piece piece[BHB_PIECES_MAX];
	struct bhb_piece flag; /* of a bottom half, from its address: whether it is scheduled; HOPS 0: not known */
};

/* A call that has not returned. SP: at entry, where the return address is. */
struct bhb_frame {
	uint64_t sp;
	uint32_t tid, recipe;
};

struct bhb_call {
	uint64_t time, argument[BHB_ARGUMENTS];
};

/* A function that bottom halves of a process run, which has its probes. */
struct bhb_known {
	uint64_t callback;
	uint32_t tgid, unused;
};

#endif
