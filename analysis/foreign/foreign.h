/* SPDX-License-Identifier: MIT */
/*
 * foreign.h - the loops of a target that was never instrumented, as samples
 *
 * Loops are found from an adapter's roots and from the stacks of the threads: every word there
 * that points at something which passes all checks is a loop. The checks are invariants of
 * the live object: descriptors that are what they should be (eventfd, epoll), lists whose
 * links agree, pointers that are mapped, callbacks in executable maps, flags within
 * range, bottom halves that point back. What fails one is none.
 */
#ifndef BHT_FOREIGN_H
#define BHT_FOREIGN_H

#include "evidence.h"
#include "layout.h"

struct bht_foreign;

/* How much is known of where a thread's stack is. */
enum bht_stack_known {
	BHT_STACK_UNKNOWN,
	BHT_STACK_SOMEWHERE, /* within [stack pointer, *END); the thread runs, and what of that it uses is not known */
	BHT_STACK_EXACT      /* [stack pointer, *END) */
};

/* By their DWARF numbers. */
#if defined(__x86_64__)
enum { BHT_REGISTERS = 17, BHT_REGISTER_SP = 7, BHT_REGISTER_PC = 16 };
#else
enum { BHT_REGISTERS = 33, BHT_REGISTER_SP = 31, BHT_REGISTER_PC = 32 };
#endif

struct bht_registers {
	uint64_t value[BHT_REGISTERS];
	uint64_t known; /* bit N: register N is; of a sleeping thread that is the stack pointer and the pc */
};

/* What a target offers, apart from its memory. All borrowed; live.c and core.c provide it. */
struct bht_foreign_target {
	struct bht_memory *mem;
	struct bht_images *images;
	/* Whether the map that holds ADDR may be executed; and whether it may be written. They are asked of any number
	 * that is found on a stack, and do not look for new maps. */
	bool (*executable)(void *arg, uint64_t addr);
	bool (*writable)(void *arg, uint64_t addr);
	/* What FD is: 'e' eventfd, 'p' epoll set, 'f' pipe, 's' socket, '?' anything else, 0 not open, -1 not known (a core). */
	int (*descriptor)(void *arg, int32_t fd);
	enum bht_stack_known (*stack)(void *arg, const struct bht_thread *thread, struct bht_registers *registers,
				      uint64_t *end);
	/* The registers of a thread that runs; it may take some ms. False when they cannot be had. */
	bool (*running)(void *arg, const struct bht_thread *thread, struct bht_registers *registers);
	void *arg;
};

/*
 * Applies all adapters to all images. 0 or -errno:
 *   ENOENT   no module that an adapter recognises; the refusal says what was looked for
 *   ENOTSUP  there is one, but its structures could not be placed (the refusal of bht_layout_find())
 * Free with bht_foreign_free(). Not thread-safe.
 */
int bht_foreign_open(const struct bht_foreign_target *target, struct bht_foreign **foreign,
		     struct bht_refusal *refusal);
void bht_foreign_free(struct bht_foreign *foreign);

/*
 * Appends the loops and bottom halves to SAMPLE, whose threads are there already. Their owners, where they are (in
 * their wait or not) and their iteration are worked out from threads and stacks; loop.adapter names
 * the adapter. Unstable lists set sample->unstable. How the members were placed goes once to
 * ev->unseen when it was by machine code. 0 or -errno, -ENOMSG when there is no loop.
 */
int bht_foreign_sample(struct bht_foreign *foreign, struct bht_evidence *ev, struct bht_sample *sample,
		       struct bht_refusal *refusal);

/* The layouts in use, for probes: *N of them. */
const struct bht_layout *bht_foreign_layouts(const struct bht_foreign *foreign, unsigned *n);

#endif
