/* SPDX-License-Identifier: MIT */
/*
 * Machine code is followed from the entry of a function, both ways at each branch, in the order of the distance from
 * the entry in instructions: each is looked at once, as it is on its shortest path (what falls through
 * before what jumps). So the n-th match does not depend on where a compiler put a block. A jump that
 * leaves the function is followed into others of the same module, arguments and all; a call is not.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "derive_inside.h"
#include "image_inside.h"
#include "map.h"

enum { STEPS_MAX = 2000, JUMPS_OUT_MAX = 3, WINDOW = 4096, INSN_MAX = 15 };

#if defined(__x86_64__)
enum { X86_64 = 1 };
#else
enum { X86_64 = 0 };
#endif

/* A place that is still to be looked at. */
struct place {
	struct bht_machine machine;
	uint64_t addr, start, end; /* in the function [start, end) */
	unsigned jumps_out;
};

struct search {
	struct bht_image *image;
	const struct bht_code_pattern *pattern;
	csh capstone;
	cs_insn *insn;
	struct place *queue; /* STEPS_MAX, each at most once */
	unsigned n, at;
	struct bht_map seen;
	uint8_t code[WINDOW];
	uint64_t code_at;
	size_t code_len;
	unsigned matches;
	uint64_t offset;
	const char *ended; /* why a path ended before its return, or NULL */
	uint64_t ended_at;
};

/* --- code ------------------------------------------------------------------------------ */

/* Bytes of code at ADDR, at most INSN_MAX; 0 when there are none. */
static size_t window(struct search *s, uint64_t addr, const uint8_t **code)
{
	if (addr < s->code_at || addr - s->code_at + INSN_MAX > s->code_len) {
		s->code_at = addr;
		s->code_len = WINDOW;
		/* Less where the segment ends. */
		while (s->code_len && bht_image_code(s->image, addr, s->code, s->code_len))
			s->code_len = s->code_len > 2 * INSN_MAX ? s->code_len / 2 : s->code_len - 1;
	}
	*code = s->code + (addr - s->code_at);
	return addr - s->code_at < s->code_len ? s->code_len - (addr - s->code_at) : 0;
}

/* The function that holds ADDR, by its symbol; else what follows up to the next one. */
static void find_bounds(struct search *s, struct place *p)
{
	const uint64_t size = bht_image_function_rest(s->image, p->addr);

	p->start = p->addr;
	p->end = p->addr + (size ? size : WINDOW);
}

static int visit(struct search *s, const struct place *from, const struct bht_machine *machine, uint64_t addr)
{
	if (s->n == STEPS_MAX || bht_map_get(&s->seen, addr))
		return 0;
	struct place *p = &s->queue[s->n];
	*p = *from;
	p->machine = *machine;
	p->addr = addr;
	if (addr < from->start || addr >= from->end) {
		if (++p->jumps_out > JUMPS_OUT_MAX)
			return 0;
		find_bounds(s, p);
	}
	s->n++;
	return bht_map_put(&s->seen, addr, s);
}

/* --- what is looked for --------------------------------------------------------------------- */

static bool fits_base(const struct search *s, const struct bht_value *v)
{
	const enum bht_code_base base = s->pattern->base;

	if (v->len != 8)
		return false;
	if (base == BHT_BASE_GLOBAL)
		return v->kind == BHT_NUMBER && (uint64_t)v->n >= s->image->low && (uint64_t)v->n < s->image->high;
	if (base == BHT_BASE_RET)
		return v->kind == BHT_RETURNED;
	return v->kind == BHT_ARGUMENT && v->arg == base - BHT_BASE_ARG1 + 1;
}

static bool fits_value(const struct bht_code_pattern *p, const struct bht_access *a)
{
	const uint64_t mask = a->size >= 8 ? UINT64_MAX : (UINT64_C(1) << 8 * a->size) - 1;

	if (!p->has_value && !p->value_arg)
		return true;
	if (!p->value_arg)
		return a->stored.kind == BHT_NUMBER && (((uint64_t)a->stored.n ^ p->value) & mask) == 0;
	return a->stored.kind == BHT_ARGUMENT && a->stored.arg == p->value_arg && !a->stored.n &&
	       a->stored.len >= a->size;
}

static bool matches(struct search *s, const struct bht_access *a)
{
	const struct bht_code_pattern *p = s->pattern;

	return a->op == p->op && (!p->size || p->op == BHT_CODE_LEA || a->size == p->size) &&
	       fits_base(s, &a->address) && fits_value(p, a) && ++s->matches == p->nth;
}

/* --- following -------------------------------------------------------------------------------- */

/* A load of an address that the loader has put there is neither of a variable nor of a pointer to a loop: *TARGET is
 * used as if the instruction had it, 0 when it is not known. */
static bool through_got(const struct search *s, const struct bht_access *a, uint64_t *target)
{
	return a->op == BHT_CODE_LOAD && a->size == 8 && a->address.kind == BHT_NUMBER &&
	       bht_image_got(s->image, (uint64_t)a->address.n, target);
}

static void end_path(struct search *s, const char *why)
{
	if (!s->ended) {
		s->ended = why;
		s->ended_at = s->insn->address - s->image->bias;
	}
}

/* A jump: to the target of its only operand. */
static int jump(struct search *s, const struct place *from, const struct bht_machine *machine, uint64_t got)
{
	const cs_x86_op *op = &s->insn->detail->x86.operands[0];
	const uint64_t target = op->type == X86_OP_IMM ? (uint64_t)op->imm : got;

	if (!target) {
		end_path(s, "an indirect jump");
		return 0;
	}
	if (target >= s->image->low && target < s->image->high)
		return visit(s, from, machine, target);
	end_path(s, "a jump into another module");
	return 0;
}

/* One instruction: 1 it is what was looked for, 0 it is not, or -errno. */
static int look_at(struct search *s, const struct place *from)
{
	struct bht_access access[BHT_ACCESSES_MAX + 1];
	struct bht_machine machine = from->machine;
	const uint8_t *code;
	size_t len = window(s, from->addr, &code);
	uint64_t addr = from->addr, got = 0;
	int rc = 0;

	if (!len || !cs_disasm_iter(s->capstone, &code, &len, &addr, s->insn)) {
		s->insn->address = from->addr;
		end_path(s, len ? "bytes that are no known instruction" : "code that cannot be read");
		return 0;
	}
	const unsigned n = bht_machine_step(&machine, s->capstone, s->insn, access);
	for (unsigned i = 0; i < n; i++) {
		if (through_got(s, &access[i], &got)) {
			access[i] = (struct bht_access){ .op = BHT_CODE_LEA };
			if (got)
				access[i].address = bht_machine_loaded(&machine, s->insn, got);
		}
		if (matches(s, &access[i])) {
			s->offset = (uint64_t)access[i].address.n;
			return 1;
		}
	}
	if (cs_insn_group(s->capstone, s->insn, CS_GRP_RET) || s->insn->id == X86_INS_UD2 ||
	    s->insn->id == X86_INS_HLT || s->insn->id == X86_INS_INT3)
		return 0;
	const bool jumps = cs_insn_group(s->capstone, s->insn, CS_GRP_JUMP);
	/* A function does not run on into the next one. */
	if ((!jumps || s->insn->id != X86_INS_JMP) && addr < from->end)
		rc = visit(s, from, &machine, addr);
	return rc || !jumps ? rc : jump(s, from, &machine, got);
}

static int follow(struct search *s, uint64_t entry)
{
	struct place first = { .addr = entry };
	int rc;

	bht_machine_entry(&first.machine);
	find_bounds(s, &first);
	rc = visit(s, &first, &first.machine, entry);
	while (!rc && s->at < s->n)
		rc = look_at(s, &s->queue[s->at++]);
	return rc;
}

__attribute__((format(printf, 2, 3))) static int refuse(char why[160], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, 160, format, args);
	va_end(args);
	return -ENOENT;
}

static int tell(const struct search *s, char why[160])
{
	const char *function = s->pattern->function;

	if (s->n == STEPS_MAX)
		return refuse(why, "%s: not within %d instructions", function, STEPS_MAX);
	if (s->matches)
		return refuse(why, "%s: has %u such accesses, not %u", function, s->matches, s->pattern->nth);
	if (s->ended)
		return refuse(why, "%s: no such access in %u instructions (a path ends at 0x%llx: %s)", function, s->n,
			      (unsigned long long)s->ended_at, s->ended);
	return refuse(why, "%s: no such access in %u instructions", function, s->n);
}

int bht_derive(struct bht_image *image, const struct bht_code_pattern *pattern, uint64_t *offset, char why[160])
{
	struct search s = { .image = image, .pattern = pattern };
	const uint64_t entry = bht_image_symbol(image, pattern->function, NULL);
	int rc;

	if (!entry)
		return refuse(why, "%s: not defined", pattern->function);
	if (pattern->base == BHT_BASE_GLOBAL && pattern->op == BHT_CODE_LOAD && !image->elf)
		return refuse(why, "%s: which variable, without the file, is not known", pattern->function);
	if (!X86_64 || bht_image_other_machine(image) || cs_open(CS_ARCH_X86, CS_MODE_64, &s.capstone) != CS_ERR_OK)
		return refuse(why, "%s: only x86_64 code is read", pattern->function);
	cs_option(s.capstone, CS_OPT_DETAIL, CS_OPT_ON);
	s.insn = cs_malloc(s.capstone);
	struct place *queue = s.queue = calloc(STEPS_MAX, sizeof(*queue));
	rc = s.insn && queue ? follow(&s, entry) : -ENOMEM;
	if (rc > 0)
		*offset = s.offset;
	else
		rc = rc ? refuse(why, "%s: no memory", pattern->function) : tell(&s, why);
	bht_map_free(&s.seen);
	free(queue);
	if (s.insn)
		cs_free(s.insn, 1);
	cs_close(&s.capstone);
	return rc > 0 ? 0 : rc;
}
