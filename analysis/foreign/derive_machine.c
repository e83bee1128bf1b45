/* SPDX-License-Identifier: MIT */
/*
 * A machine that knows of registers and stack only what came from arguments, numbers, and the first
 * call. Everything else is unknown, and stays so. Stores through unknown pointers are taken not to
 * hit what the function itself spilled.
 */
#include <string.h>

#include "derive_inside.h"

enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8, R9, R10, R11, R12, R13, R14, R15 };

/* Register -> number and bytes of it. */
#define GPR(i, q, d, w, b)                                                                                             \
	[X86_REG_##q] = { i, 8 }, [X86_REG_##d] = { i, 4 }, [X86_REG_##w] = { i, 2 }, [X86_REG_##b] = { i, 1 }
static const struct {
	uint8_t number, len; /* 0: no register of this kind */
} gpr[X86_REG_ENDING] = {
	GPR(RAX, RAX, EAX, AX, AL),      GPR(RBX, RBX, EBX, BX, BL),      GPR(RCX, RCX, ECX, CX, CL),
	GPR(RDX, RDX, EDX, DX, DL),      GPR(RSI, RSI, ESI, SI, SIL),     GPR(RDI, RDI, EDI, DI, DIL),
	GPR(RBP, RBP, EBP, BP, BPL),     GPR(RSP, RSP, ESP, SP, SPL),     GPR(R8, R8, R8D, R8W, R8B),
	GPR(R9, R9, R9D, R9W, R9B),      GPR(R10, R10, R10D, R10W, R10B), GPR(R11, R11, R11D, R11W, R11B),
	GPR(R12, R12, R12D, R12W, R12B), GPR(R13, R13, R13D, R13W, R13B), GPR(R14, R14, R14D, R14W, R14B),
	GPR(R15, R15, R15D, R15W, R15B), [X86_REG_AH] = { RAX, 1 },       [X86_REG_BH] = { RBX, 1 },
	[X86_REG_CH] = { RCX, 1 },       [X86_REG_DH] = { RDX, 1 },
};

static const struct bht_value unknown = { .kind = BHT_UNKNOWN };

static struct bht_value number(int64_t n)
{
	return (struct bht_value){ .kind = BHT_NUMBER, .len = 8, .n = n };
}

void bht_machine_entry(struct bht_machine *m)
{
	static const uint8_t args[] = { RDI, RSI, RDX, RCX, R8, R9 };

	memset(m, 0, sizeof(*m));
	for (unsigned i = 0; i < sizeof(args); i++)
		m->reg[args[i]] = (struct bht_value){ .kind = BHT_ARGUMENT, .arg = i + 1, .len = 8 };
	m->reg[RSP] = (struct bht_value){ .kind = BHT_STACK, .len = 8 };
}

/* --- values --------------------------------------------------------------------------- */

static struct bht_value add(struct bht_value a, struct bht_value b)
{
	if (a.len != 8 || b.len != 8 || (a.kind != BHT_NUMBER && b.kind != BHT_NUMBER))
		return unknown;
	struct bht_value *of = a.kind == BHT_NUMBER ? &b : &a;
	of->n = (int64_t)((uint64_t)a.n + (uint64_t)b.n);
	return *of;
}

static struct bht_value get(const struct bht_machine *m, x86_reg reg)
{
	if (reg == X86_REG_INVALID)
		return number(0);
	if (reg >= X86_REG_ENDING || !gpr[reg].len)
		return unknown;
	struct bht_value v = m->reg[gpr[reg].number];
	if (gpr[reg].len == 8 || v.kind == BHT_UNKNOWN)
		return v;
	if (v.kind == BHT_NUMBER)
		v.n = gpr[reg].len == 4 ? (uint32_t)v.n : gpr[reg].len == 2 ? (uint16_t)v.n : (uint8_t)v.n;
	else if (v.n || v.len < gpr[reg].len)
		return unknown;
	else
		v.len = gpr[reg].len;
	return v;
}

/* What does not fill the register leaves something unknown in it. */
static void set(struct bht_machine *m, x86_reg reg, struct bht_value v)
{
	if (reg < X86_REG_ENDING && gpr[reg].len)
		m->reg[gpr[reg].number] = gpr[reg].len >= 4 ? v : unknown;
}

static struct bht_value address(const struct bht_machine *m, const cs_insn *insn, const x86_op_mem *mem)
{
	struct bht_value scaled = get(m, mem->index);

	if (mem->segment == X86_REG_FS || mem->segment == X86_REG_GS)
		return unknown;
	if (scaled.kind == BHT_NUMBER)
		scaled.n *= mem->scale;
	else if (mem->scale != 1)
		scaled = unknown;
	const struct bht_value base =
		mem->base == X86_REG_RIP ? number((int64_t)(insn->address + insn->size)) : get(m, mem->base);
	return add(add(base, scaled), number(mem->disp));
}

struct bht_value bht_machine_operand(const struct bht_machine *m, const cs_insn *insn, const cs_x86_op *op)
{
	switch (op->type) {
	case X86_OP_REG:
		return get(m, op->reg);
	case X86_OP_IMM:
		return number(op->imm);
	case X86_OP_MEM:
		return address(m, insn, &op->mem);
	default:
		return unknown;
	}
}

/* --- stack ------------------------------------------------------------------------------ */

/* Forgets what was at [AT, AT + LEN), then keeps V there if there is room. */
static void spill(struct bht_machine *m, int64_t at, unsigned len, struct bht_value v)
{
	for (unsigned i = 0; i < m->n_slots;) {
		if (m->slot[i].at < at + (int64_t)len && at < m->slot[i].at + (int64_t)m->slot[i].value.len)
			m->slot[i] = m->slot[--m->n_slots];
		else
			i++;
	}
	if (v.kind == BHT_UNKNOWN || m->n_slots == BHT_MACHINE_SLOTS || (len != 4 && len != 8) || v.len < len)
		return;
	v.len = len;
	m->slot[m->n_slots].at = at;
	m->slot[m->n_slots++].value = v;
}

static struct bht_value reload(const struct bht_machine *m, struct bht_value at, unsigned len)
{
	for (unsigned i = 0; i < m->n_slots && at.kind == BHT_STACK; i++)
		if (m->slot[i].at == at.n && m->slot[i].value.len == len)
			return m->slot[i].value;
	return unknown;
}

static void push(struct bht_machine *m, struct bht_value v)
{
	m->reg[RSP] = add(m->reg[RSP], number(-8));
	if (m->reg[RSP].kind == BHT_STACK)
		spill(m, m->reg[RSP].n, 8, v);
}

static struct bht_value pop(struct bht_machine *m)
{
	const struct bht_value v = reload(m, m->reg[RSP], 8);

	m->reg[RSP] = add(m->reg[RSP], number(8));
	return v;
}

/* --- accesses ------------------------------------------------------------------------------- */

static bool is_swap(const cs_insn *insn)
{
	return insn->id == X86_INS_XCHG || insn->detail->x86.prefix[0] == X86_PREFIX_LOCK;
}

/* What an instruction that has a memory operand does with it: 1 reads, 2 writes, 0 neither. */
static unsigned uses(const cs_insn *insn, const cs_x86_op *op, bool first)
{
	switch (insn->id) {
	case X86_INS_LEA:
	case X86_INS_NOP:
	case X86_INS_PREFETCH:
	case X86_INS_PREFETCHNTA:
	case X86_INS_PREFETCHT0:
	case X86_INS_PREFETCHT1:
	case X86_INS_PREFETCHT2:
	case X86_INS_PREFETCHW:
		return 0;
	case X86_INS_CMP:
	case X86_INS_TEST:
	case X86_INS_PUSH:
	case X86_INS_CALL:
	case X86_INS_JMP:
	case X86_INS_BT:
		return 1;
	case X86_INS_MOV:
		return first ? 2 : 1;
	default:
		return op->access & (CS_AC_READ | CS_AC_WRITE);
	}
}

static unsigned find_accesses(const struct bht_machine *m, const cs_insn *insn, struct bht_access *a)
{
	const cs_x86 *x = &insn->detail->x86;
	unsigned n = 0;

	for (unsigned i = 0; i < x->op_count && i < 2; i++) {
		const cs_x86_op *op = &x->operands[i];
		const unsigned use = op->type == X86_OP_MEM ? uses(insn, op, i == 0) : 0;
		if (!use)
			continue;
		struct bht_access access = { BHT_CODE_LOAD, address(m, insn, &op->mem), op->size, unknown };
		if (use & 1 && !is_swap(insn))
			a[n++] = access;
		if (!(use & 2) && !is_swap(insn))
			continue;
		access.op = is_swap(insn) ? BHT_CODE_SWAP : BHT_CODE_STORE;
		/* What is left in memory is the other operand; not when something is worked out from it. */
		if (x->op_count == 2 &&
		    (insn->id == X86_INS_MOV || insn->id == X86_INS_XCHG || insn->id == X86_INS_CMPXCHG))
			access.stored = bht_machine_operand(m, insn, &x->operands[!i]);
		a[n++] = access;
	}
	return n;
}

/* --- execution -------------------------------------------------------------------------------- */

static void call(struct bht_machine *m)
{
	static const uint8_t lost[] = { RCX, RDX, RSI, RDI, R8, R9, R10, R11 };

	for (unsigned i = 0; i < sizeof(lost); i++)
		m->reg[lost[i]] = unknown;
	m->reg[RAX] = m->called ? unknown : (struct bht_value){ .kind = BHT_RETURNED, .len = 8 };
	m->called = true;
}

/* Registers that INSN writes are unknown until more is known. */
static void forget(struct bht_machine *m, csh capstone, const cs_insn *insn)
{
	const cs_x86 *x = &insn->detail->x86;
	const bool reads_only = insn->id == X86_INS_CMP || insn->id == X86_INS_TEST || insn->id == X86_INS_NOP ||
				insn->id == X86_INS_PUSH || insn->id == X86_INS_BT || insn->id == X86_INS_JMP;
	uint8_t n_read, n_written;
	cs_regs read, written;

	if (cs_regs_access(capstone, insn, read, &n_read, written, &n_written) == CS_ERR_OK)
		for (unsigned i = 0; i < n_written; i++)
			set(m, written[i], unknown);
	if (!reads_only && x->op_count && x->operands[0].type == X86_OP_REG)
		set(m, x->operands[0].reg, unknown);
	if ((insn->id == X86_INS_XCHG || insn->id == X86_INS_XADD) && x->operands[1].type == X86_OP_REG)
		set(m, x->operands[1].reg, unknown);
}

/* The value that INSN leaves in its first operand, a register. */
static struct bht_value result(const struct bht_machine *m, const cs_insn *insn)
{
	const cs_x86_op *to = &insn->detail->x86.operands[0], *from = &insn->detail->x86.operands[1];
	const struct bht_value b = bht_machine_operand(m, insn, from);

	switch (insn->id) {
	case X86_INS_MOV:
	case X86_INS_MOVABS:
		return from->type == X86_OP_MEM ? reload(m, b, from->size) : b;
	case X86_INS_LEA:
		return to->size == 8 ? b : unknown;
	case X86_INS_XOR:
		return from->type == X86_OP_REG && from->reg == to->reg ? number(0) : unknown;
	case X86_INS_ADD:
		return to->size == 8 && from->type != X86_OP_MEM ? add(get(m, to->reg), b) : unknown;
	case X86_INS_SUB:
		return to->size == 8 && b.kind == BHT_NUMBER && from->type != X86_OP_MEM
			       ? add(get(m, to->reg), number(-b.n))
			       : unknown;
	default:
		return unknown;
	}
}

static void execute(struct bht_machine *m, csh capstone, const cs_insn *insn)
{
	const cs_x86 *x = &insn->detail->x86;
	const struct bht_value rsp = m->reg[RSP], rbp = m->reg[RBP];

	if (insn->id == X86_INS_PUSH) {
		push(m, x->operands[0].type == X86_OP_MEM ? unknown : bht_machine_operand(m, insn, &x->operands[0]));
	} else if (insn->id == X86_INS_POP) {
		const struct bht_value v = pop(m);
		if (x->operands[0].type == X86_OP_REG)
			set(m, x->operands[0].reg, v);
	} else if (insn->id == X86_INS_LEAVE) {
		m->reg[RSP] = rbp;
		m->reg[RBP] = pop(m);
	} else if (cs_insn_group(capstone, insn, CS_GRP_CALL)) {
		call(m);
	} else {
		const bool binary = x->op_count == 2 && x->operands[0].type == X86_OP_REG;
		const struct bht_value v = binary ? result(m, insn) : unknown;
		forget(m, capstone, insn);
		if (binary && v.kind != BHT_UNKNOWN)
			set(m, x->operands[0].reg, v);
		/* Aligned: a frame of its own, below all that is known. */
		if (insn->id == X86_INS_AND && x->operands[0].type == X86_OP_REG && x->operands[0].reg == X86_REG_RSP) {
			m->reg[RSP] = rsp;
			m->reg[RSP].n -= 1 << 20;
		}
	}
}

unsigned bht_machine_step(struct bht_machine *m, csh capstone, const cs_insn *insn, struct bht_access *a)
{
	const cs_x86 *x = &insn->detail->x86;
	unsigned n = find_accesses(m, insn, a);

	execute(m, capstone, insn);
	for (unsigned i = 0; i < n; i++)
		if (a[i].op != BHT_CODE_LOAD && a[i].address.kind == BHT_STACK)
			spill(m, a[i].address.n, a[i].size, a[i].op == BHT_CODE_STORE ? a[i].stored : unknown);
	/* Not position-independent, an address is a number that is moved. */
	if (x->op_count == 2 && x->operands[0].type == X86_OP_REG &&
	    (insn->id == X86_INS_LEA || insn->id == X86_INS_ADD || insn->id == X86_INS_SUB ||
	     (insn->id == X86_INS_MOV && x->operands[1].type == X86_OP_IMM)))
		a[n++] = (struct bht_access){ BHT_CODE_LEA, m->reg[gpr[x->operands[0].reg].number], 8, unknown };
	return n;
}

struct bht_value bht_machine_loaded(struct bht_machine *m, const cs_insn *insn, uint64_t value)
{
	const cs_x86_op *to = &insn->detail->x86.operands[0];

	if (insn->id == X86_INS_MOV && to->type == X86_OP_REG && to->size == 8)
		set(m, to->reg, number((int64_t)value));
	return number((int64_t)value);
}
