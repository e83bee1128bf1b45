/* SPDX-License-Identifier: MIT */
/*
 * layout.h - an adapter applied to a module: every member has an offset, and it is known
 * how that was found
 */
#ifndef BHT_LAYOUT_H
#define BHT_LAYOUT_H

#include "adapter.h"
#include "image.h"

struct bht_place {
	uint64_t offset[BHT_ADAPTER_STEPS_MAX];
	enum bht_way_kind how[BHT_ADAPTER_STEPS_MAX];
	unsigned n; /* 0: the adapter has no such member */
	unsigned size;
	bool is_signed;
};

struct bht_layout {
	const struct bht_adapter *adapter; /* borrowed */
	struct bht_image *image;           /* borrowed */
	struct bht_place place[BHT_MEMBERS];
	struct bht_layout_root {
		uint64_t addr;
		bool is_loop; /* the loop itself; otherwise a pointer to it */
	} root[BHT_ADAPTER_ROOTS_MAX];
	unsigned n_roots;
};

/*
 * Whether IMAGE defines all functions that A needs. The images of a process are asked in turn; a
 * process may have several such modules, and several adapters may match.
 */
bool bht_layout_recognises(const struct bht_adapter *a, struct bht_image *image);

/*
 * Finds all offsets. 0, or -ENOTSUP with a refusal that names the adapter, the module with its build
 * id, the member, every way that was tried and why it failed, and what would do (debug information:
 * package or file; a build-id line): nothing is guessed. Two ways that disagree are a refusal, too.
 */
int bht_layout_find(const struct bht_adapter *a, struct bht_image *image, struct bht_layout *layout,
		    struct bht_refusal *refusal);

/*
 * The offset that PATTERN leads to in the machine code of IMAGE (derive.c, by libcapstone; x86_64).
 * Registers are followed from the entry through moves, spills and additions along the shortest path;
 * what is not understood ends the search: -ENOENT, with the reason in WHY, never a guess.
 */
int bht_derive(struct bht_image *image, const struct bht_code_pattern *pattern, uint64_t *offset, char why[160]);

const char *bht_way_name(enum bht_way_kind kind); /* "dwarf", "build-id", "code", "fixed" */

#endif
