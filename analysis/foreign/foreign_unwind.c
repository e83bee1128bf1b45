/* SPDX-License-Identifier: MIT */
/*
 * The calls that a thread is in. Words that look like return addresses are left behind on any stack, so
 * it is unwound by the tables that each module has for exceptions (.eh_frame). Of a sleeping
 * thread only the stack pointer and the program counter are known, which is where the tables begin; a
 * function that was made at run time has none, and most such keep a frame pointer.
 */
#include <capstone/capstone.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "foreign_parts.h"

#if defined(__x86_64__)

/* As the psABI numbers them for DWARF. */
enum { RBX = 3, RBP = 6, RSP = BHT_REGISTER_SP, R12 = 12, R15 = 15, RA = BHT_REGISTER_PC };

enum {
	CALL_MAX = 7 /* bytes of an instruction that calls */,
	PROLOGUE_MAX = 128,
	FRAME_SIZE_MAX = 1 << 20,
	INDEX_AT = 12
};

static bool knows(const struct bht_registers *r, unsigned n)
{
	return r->known >> n & 1;
}

static void set(struct bht_registers *r, unsigned n, uint64_t value)
{
	r->value[n] = value;
	r->known |= UINT64_C(1) << n;
}

/* --- tables --------------------------------------------------------------------------------- */

/* .eh_frame_hdr as all linkers write it: version 1, four bytes for where .eh_frame is, a count of four bytes, then
 * distances of four bytes from itself (LSB, "Exception Frames"). */
static void read_index(struct bht_tables *t)
{
	static const unsigned char form[] = { 1, DW_EH_PE_pcrel | DW_EH_PE_sdata4, DW_EH_PE_udata4,
					      DW_EH_PE_datarel | DW_EH_PE_sdata4 };
	uint32_t count;
	GElf_Phdr p;
	size_t n = 0;

	if (elf_getphdrnum(t->elf, &n))
		return;
	for (size_t i = 0; i < n && gelf_getphdr(t->elf, (int)i, &p); i++) {
		if (p.p_type != PT_GNU_EH_FRAME)
			continue;
		Elf_Data *data = elf_getdata_rawchunk(t->elf, (int64_t)p.p_offset, p.p_filesz, ELF_T_BYTE);
		if (!data || data->d_size < INDEX_AT || memcmp(data->d_buf, form, sizeof(form)) != 0)
			return;
		memcpy(&count, (unsigned char *)data->d_buf + INDEX_AT - sizeof(count), sizeof(count));
		if (count > (data->d_size - INDEX_AT) / 8)
			return;
		t->index = (unsigned char *)data->d_buf + INDEX_AT;
		t->n_index = count;
		t->base = p.p_vaddr;
	}
}

/* What cannot be read has no tables; NULL: no memory. */
static struct bht_tables *tables_of(struct bht_foreign *f, struct bht_image *image)
{
	for (size_t i = 0; i < f->n_tables; i++)
		if (f->tables[i].image == image)
			return &f->tables[i];
	if (!bht_room_for_one(&f->tables, f->n_tables, sizeof(*f->tables)))
		return NULL;
	struct bht_tables *t = &f->tables[f->n_tables++];
	const int fd = bht_image_fd(image);
	*t = (struct bht_tables){ .image = image };
	elf_version(EV_CURRENT);
	t->elf = fd < 0 ? NULL : elf_begin(fd, ELF_C_READ_MMAP, NULL);
	t->cfi = t->elf ? dwarf_getcfi_elf(t->elf) : NULL;
	if (t->cfi)
		read_index(t);
	return t;
}

/* The frame of the function that ADDR is in; NULL when no table has it. Free it. */
static Dwarf_Frame *frame_at(struct bht_foreign *f, uint64_t addr, struct bht_tables **t)
{
	struct bht_image *image = bht_images_at(f->target.images, addr);
	Dwarf_Frame *frame = NULL;

	*t = image ? tables_of(f, image) : NULL;
	if (!*t || !(*t)->cfi || dwarf_cfi_addrframe((*t)->cfi, addr - bht_image_bias(image), &frame))
		return NULL;
	return frame;
}

/* Where the function begins that a frame was found for; 0 when that is not known. */
static uint64_t start_of(const struct bht_tables *t, uint64_t addr)
{
	const uint64_t bias = bht_image_bias(t->image);
	size_t low = 0, high = t->n_index;
	int32_t distance;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		memcpy(&distance, t->index + 8 * middle, sizeof(distance));
		if (t->base + (uint64_t)(int64_t)distance + bias <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return 0;
	memcpy(&distance, t->index + 8 * (low - 1), sizeof(distance));
	return t->base + (uint64_t)(int64_t)distance + bias;
}

void bht_foreign_tables_free(struct bht_foreign *f)
{
	for (size_t i = 0; i < f->n_tables; i++) {
		dwarf_cfi_end(f->tables[i].cfi);
		elf_end(f->tables[i].elf);
	}
	free(f->tables);
}

uint64_t bht_foreign_function(struct bht_foreign *f, uint64_t addr)
{
	struct bht_tables *t;
	Dwarf_Frame *frame = frame_at(f, addr, &t);
	const uint64_t start = frame ? start_of(t, addr) : 0;
	uint64_t off = 0;

	free(frame);
	if (start)
		return start;
	return bht_images_name(f->target.images, addr, &off)[0] ? addr - off : 0;
}

/* --- one step ------------------------------------------------------------------------------- */

/* Register + offset, which is what compilers write; hand-written expressions are not followed. */
static bool find_cfa(Dwarf_Frame *frame, const struct bht_registers *r, uint64_t *cfa)
{
	Dwarf_Op *ops;
	size_t n;

	if (dwarf_frame_cfa(frame, &ops, &n) || n != 1)
		return false;
	const bool any = ops[0].atom == DW_OP_bregx;
	if (!any && (ops[0].atom < DW_OP_breg0 || ops[0].atom > DW_OP_breg31))
		return false;
	const uint64_t reg = any ? ops[0].number : (uint64_t)ops[0].atom - DW_OP_breg0;
	if (reg >= BHT_REGISTERS || !knows(r, (unsigned)reg))
		return false;
	*cfa = r->value[reg] + (any ? ops[0].number2 : ops[0].number);
	return true;
}

/* What register N was before the call. *UNDEFINED: the caller has none, so there is no caller. */
static void restore(struct bht_foreign *f, Dwarf_Frame *frame, uint64_t cfa, unsigned n, struct bht_registers *r,
		    bool *undefined)
{
	Dwarf_Op memory[3], *ops = NULL;
	size_t n_ops = 0;
	uint64_t value;

	*undefined = false;
	if (dwarf_frame_register(frame, (int)n, memory, &ops, &n_ops))
		n_ops = SIZE_MAX;
	if (!n_ops && !ops)
		return; /* the same value */
	*undefined = !n_ops;
	r->known &= ~(UINT64_C(1) << n);
	if (n_ops < 1 || n_ops > 2 || ops[0].atom != DW_OP_call_frame_cfa ||
	    (n_ops == 2 && ops[1].atom != DW_OP_plus_uconst))
		return;
	if (!bht_read(f->target.mem, cfa + (n_ops == 2 ? ops[1].number : 0), &value, sizeof(value)))
		set(r, n, value);
}

/* Whether the instruction before ADDR is a call: FF /2 has two, three, four, six or seven bytes, E8 five. */
static bool follows_call(struct bht_foreign *f, uint64_t addr)
{
	struct bht_image *image = bht_images_at(f->target.images, addr);
	unsigned char c[CALL_MAX];

	if (!image || bht_image_code(image, addr - CALL_MAX, c, sizeof(c)))
		return false;
	if (c[CALL_MAX - 5] == 0xe8)
		return true;
	for (int len = 2; len <= CALL_MAX; len++)
		if (c[CALL_MAX - len] == 0xff && (c[CALL_MAX - len + 1] & 0x38) == 0x10)
			return true;
	return false;
}

static bool is_register(const cs_insn *in, unsigned n, x86_reg reg)
{
	const cs_x86 *x = &in->detail->x86;

	return x->op_count > n && x->operands[n].type == X86_OP_REG && x->operands[n].reg == reg;
}

/* How far the N first instructions of a function move the stack pointer below the frame pointer; -1 when they
 * keep none, or it cannot be told. */
static int64_t frame_size(const cs_insn *in, size_t n)
{
	int64_t size = -1;

	for (size_t i = 0; i < n && in[i].id != X86_INS_CALL && in[i].id != X86_INS_RET; i++) {
		const bool on_sp = is_register(&in[i], 0, X86_REG_RSP);
		if (in[i].id == X86_INS_MOV && is_register(&in[i], 0, X86_REG_RBP) &&
		    is_register(&in[i], 1, X86_REG_RSP))
			size = 0;
		else if (in[i].id == X86_INS_PUSH && size >= 0)
			size += 8;
		else if (in[i].id == X86_INS_SUB && on_sp && size >= 0 &&
			 in[i].detail->x86.operands[1].type == X86_OP_IMM)
			size += in[i].detail->x86.operands[1].imm;
		else if (on_sp && size >= 0 && in[i].id != X86_INS_OR) /* a probe of the stack changes nothing */
			return -1;
		else if (in[i].id == X86_INS_JMP)
			break;
	}
	return size;
}

/* The frame pointer of a function that has set it, before any that saved it was met. */
static bool find_frame_pointer(struct bht_foreign *f, struct bht_tables *t, struct bht_registers *r)
{
	const uint64_t pc = r->value[RA], start = start_of(t, pc - 1);
	const size_t len = pc - start < PROLOGUE_MAX ? pc - start : PROLOGUE_MAX;
	unsigned char code[PROLOGUE_MAX];
	uint64_t back;
	cs_insn *in = NULL;
	csh handle;

	if (!start || bht_image_code(t->image, start, code, len) || cs_open(CS_ARCH_X86, CS_MODE_64, &handle))
		return false;
	cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
	const size_t n = cs_disasm(handle, code, len, start, 0, &in);
	const int64_t size = frame_size(in, n);
	if (n)
		cs_free(in, n);
	cs_close(&handle);
	if (size < 0 || size > FRAME_SIZE_MAX)
		return false;
	const uint64_t rbp = r->value[RSP] + (uint64_t)size;
	if (bht_read(f->target.mem, rbp + 8, &back, sizeof(back)) || !follows_call(f, back))
		return false;
	set(r, RBP, rbp);
	return true;
}

enum outcome { STEPPED, ENDED, BROKEN };

static enum outcome step_by_tables(struct bht_foreign *f, struct bht_tables *t, Dwarf_Frame *frame,
				   struct bht_registers *r)
{
	static const unsigned char saved[] = { RBX, RBP, R12, 13, 14, R15, RA };
	bool undefined = false;
	uint64_t cfa;

	if (!find_cfa(frame, r, &cfa) && (knows(r, RBP) || !find_frame_pointer(f, t, r) || !find_cfa(frame, r, &cfa)))
		return BROKEN;
	for (size_t i = 0; i < sizeof(saved); i++)
		restore(f, frame, cfa, saved[i], r, &undefined);
	set(r, RSP, cfa);
	return undefined ? ENDED : knows(r, RA) ? STEPPED : BROKEN;
}

static enum outcome step_by_frame_pointer(struct bht_foreign *f, struct bht_registers *r)
{
	uint64_t pair[2];

	if (!knows(r, RBP) || r->value[RBP] < r->value[RSP] || r->value[RBP] % 8 ||
	    bht_read(f->target.mem, r->value[RBP], pair, sizeof(pair)))
		return BROKEN;
	set(r, RSP, r->value[RBP] + sizeof(pair));
	set(r, RBP, pair[0]);
	set(r, RA, pair[1]);
	return STEPPED;
}

/* INNERMOST: the program counter is at an instruction, not behind a call. */
static enum outcome step(struct bht_foreign *f, bool innermost, struct bht_registers *r)
{
	const uint64_t sp = r->value[RSP], pc = r->value[RA] - !innermost;
	struct bht_tables *t;
	Dwarf_Frame *frame = frame_at(f, pc, &t);
	enum outcome outcome = frame ? step_by_tables(f, t, frame, r) : step_by_frame_pointer(f, r);

	free(frame);
	if (outcome == STEPPED && !r->value[RA])
		outcome = ENDED;
	return outcome == STEPPED && r->value[RSP] <= sp ? BROKEN : outcome;
}

size_t bht_foreign_unwind(struct bht_foreign *f, const struct bht_registers *registers, uint64_t pc[BHT_FRAMES_MAX],
			  bool *whole)
{
	struct bht_registers r = *registers;
	enum outcome outcome = STEPPED;
	size_t n = 0;

	*whole = false;
	if (!knows(&r, RA) || !knows(&r, RSP))
		return 0;
	while (outcome == STEPPED && n < BHT_FRAMES_MAX) {
		pc[n++] = r.value[RA];
		outcome = step(f, n == 1, &r);
	}
	*whole = outcome == ENDED;
	return n;
}

#else

size_t bht_foreign_unwind(struct bht_foreign *f, const struct bht_registers *registers, uint64_t pc[BHT_FRAMES_MAX],
			  bool *whole)
{
	(void)f;
	(void)registers;
	(void)pc;
	*whole = false;
	return 0;
}

uint64_t bht_foreign_function(struct bht_foreign *f, uint64_t addr)
{
	uint64_t off = 0;

	return bht_images_name(f->target.images, addr, &off)[0] ? addr - off : 0;
}

void bht_foreign_tables_free(struct bht_foreign *f)
{
	free(f->tables);
}

#endif
