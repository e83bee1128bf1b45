/* SPDX-License-Identifier: MIT */
/*
 * witness.h - payload evidence from the target's own variables: --witness 'produced != consumed'
 *
 * True means: there is work that has been published and not been seen. Operands are
 * symbols (with members by DWARF: "queue.done"), ADDRESS:TYPE (0x55d0:u64; u8 ... u64, i8 ... i64),
 * or numbers. One comparison: == != < <= > >=.
 */
#ifndef BHT_WITNESS_H
#define BHT_WITNESS_H

#include "image.h"

struct bht_claim_operand {
	char text[96]; /* as the user wrote it */
	bool constant;
	uint64_t value; /* when it is; and after bht_claim_read(), sign-extended */
	uint64_t addr;
	unsigned size;
	bool is_signed;
	bool sign_unknown; /* a symbol tells only the size: is_signed is false then */
};

struct bht_claim {
	char text[256];
	struct bht_claim_operand left, right;
	enum bht_comparison { BHT_EQ, BHT_NE, BHT_LT, BHT_LE, BHT_GT, BHT_GE } comparison;
};

/* 0 or -EINVAL, naming the column. */
int bht_claim_parse(struct bht_claim *w, const char *text, struct bht_refusal *refusal);

/* Finds the operands in IMAGES. 0, -ENOENT, -ENOTUNIQ (several define it), or -EINVAL (of another size or type). */
int bht_claim_resolve(struct bht_claim *w, struct bht_images *images, struct bht_refusal *refusal);

/* Reads the operands; *HOLDS. Both are read in one go, so that they belong together. 0 or -errno, -ERANGE when the
 * answer depends on a sign that is not known. */
int bht_claim_read(struct bht_claim *w, struct bht_memory *mem, bool *holds, struct bht_refusal *refusal);

#endif
