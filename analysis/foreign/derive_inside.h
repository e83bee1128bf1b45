/* SPDX-License-Identifier: MIT */
/* derive_inside.h - what is known of registers and stack while machine code is followed */
#ifndef BHT_DERIVE_INSIDE_H
#define BHT_DERIVE_INSIDE_H

#include <capstone/capstone.h>

#include "layout.h"

enum { BHT_MACHINE_REGISTERS = 16, BHT_MACHINE_SLOTS = 32, BHT_ACCESSES_MAX = 3 };

struct bht_value {
	enum { BHT_UNKNOWN, BHT_NUMBER /* or an address of the module */, BHT_ARGUMENT, BHT_RETURNED, BHT_STACK } kind;
	unsigned arg; /* of an argument: 1...6 */
	unsigned len; /* bytes of it that are kept, 4 or 8; the others are 0 or gone */
	int64_t n;    /* the number, or what was added */
};

/* What is known at one place of the code. */
struct bht_machine {
	struct bht_value reg[BHT_MACHINE_REGISTERS];
	struct {
		int64_t at; /* from the stack pointer at the entry */
		struct bht_value value;
	} slot[BHT_MACHINE_SLOTS];
	unsigned n_slots;
	bool called; /* a function: registers hold what the first one gave back, or something else */
};

/* One thing that an instruction does with memory; the address is `address`. */
struct bht_access {
	enum bht_code_op op;
	struct bht_value address;
	unsigned size;
	struct bht_value stored;
};

void bht_machine_entry(struct bht_machine *m);

/* Executes INSN. The accesses, at most BHT_ACCESSES_MAX, go to A; gives their number. */
unsigned bht_machine_step(struct bht_machine *m, csh capstone, const cs_insn *insn, struct bht_access *a);

/* The value of operand OP: of a register, a number, or the address of a memory operand. */
struct bht_value bht_machine_operand(const struct bht_machine *m, const cs_insn *insn, const cs_x86_op *op);

/* The memory operand of INSN is known to hold VALUE: the register that INSN loads has it. */
struct bht_value bht_machine_loaded(struct bht_machine *m, const cs_insn *insn, uint64_t value);

#endif
