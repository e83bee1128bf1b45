/* SPDX-License-Identifier: MIT */
/*
 * An argument is SIZE@OPERAND; a negative SIZE is that of a signed one. The operand is what the
 * assembler was given: a register, a constant, or memory at a register and a displacement. All
 * else (an index register, a symbol, a vector register) is not understood.
 */
#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "usdt_args.h"

enum { NAME_MAX_LENGTH = 5, AARCH64_SP = 31 };

/* Of 8, 4, 2 and 1 bytes, and their place in struct pt_regs of <asm/ptrace.h>. */
static const struct {
	char name[4][NAME_MAX_LENGTH];
	int16_t place;
} x86[] = {
	{ { "r15", "r15d", "r15w", "r15b" }, 0 }, { { "r14", "r14d", "r14w", "r14b" }, 1 },
	{ { "r13", "r13d", "r13w", "r13b" }, 2 }, { { "r12", "r12d", "r12w", "r12b" }, 3 },
	{ { "rbp", "ebp", "bp", "bpl" }, 4 },     { { "rbx", "ebx", "bx", "bl" }, 5 },
	{ { "r11", "r11d", "r11w", "r11b" }, 6 }, { { "r10", "r10d", "r10w", "r10b" }, 7 },
	{ { "r9", "r9d", "r9w", "r9b" }, 8 },     { { "r8", "r8d", "r8w", "r8b" }, 9 },
	{ { "rax", "eax", "ax", "al" }, 10 },     { { "rcx", "ecx", "cx", "cl" }, 11 },
	{ { "rdx", "edx", "dx", "dl" }, 12 },     { { "rsi", "esi", "si", "sil" }, 13 },
	{ { "rdi", "edi", "di", "dil" }, 14 },    { { "rsp", "esp", "sp", "spl" }, 19 },
};

static bool skip(const char **at, char c)
{
	const bool there = **at == c;

	*at += there;
	return there;
}

static bool get_number(const char **at, uint64_t *value)
{
	const bool negative = skip(at, '-'), hex = (*at)[0] == '0' && (*at)[1] == 'x';
	char *end;

	if (hex)
		*at += 2;
	/* nor an octal one */
	if (hex ? !isxdigit((unsigned char)**at) : !isdigit((unsigned char)**at) || (**at == '0' && isdigit((*at)[1])))
		return false;
	errno = 0;
	*value = strtoull(*at, &end, hex ? 16 : 10);
	*at = end;
	if (errno || (negative && *value > UINT64_C(1) << 63))
		return false;
	*value = negative ? -*value : *value;
	return true;
}

/* A register of SIZE bytes or more: where it is. */
static bool get_x86_register(const char **at, unsigned size, int16_t *reg)
{
	size_t length = 0;

	if (!skip(at, '%'))
		return false;
	while (isalnum((unsigned char)(*at)[length]))
		length++;
	for (size_t i = 0; i < sizeof(x86) / sizeof(x86[0]); i++)
		for (unsigned j = 0; j < 4 && 8u >> j >= size; j++) {
			if (strlen(x86[i].name[j]) != length || strncmp(x86[i].name[j], *at, length) != 0)
				continue;
			*reg = (int16_t)(x86[i].place * 8);
			*at += length;
			return true;
		}
	return false;
}

static bool get_aarch64_register(const char **at, unsigned size, int16_t *reg)
{
	unsigned long n = AARCH64_SP;

	if (!strncmp(*at, "sp", 2)) {
		*at += 2;
	} else {
		if (!skip(at, 'x') && (size > 4 || !skip(at, 'w')))
			return false;
		const size_t digits = strspn(*at, "0123456789");
		if (!digits || digits > 2 || (digits == 2 && **at == '0'))
			return false;
		n = strtoul(*at, NULL, 10);
		if (n >= AARCH64_SP)
			return false;
		*at += digits;
	}
	*reg = (int16_t)(n * 8);
	return true;
}

static bool get_x86_operand(const char **at, unsigned size, struct bhb_usdt_arg *arg)
{
	if (skip(at, '$'))
		return get_number(at, &arg->value);
	arg->type = BHB_USDT_REG;
	if (**at == '%')
		return get_x86_register(at, size, &arg->reg);
	arg->type = BHB_USDT_DEREF;
	return (**at == '(' || get_number(at, &arg->value)) && skip(at, '(') && get_x86_register(at, 8, &arg->reg) &&
	       skip(at, ')');
}

static bool get_aarch64_operand(const char **at, unsigned size, struct bhb_usdt_arg *arg)
{
	if (skip(at, '[')) {
		arg->type = BHB_USDT_DEREF;
		if (!get_aarch64_register(at, 8, &arg->reg))
			return false;
		if (skip(at, ',')) {
			while (skip(at, ' '))
				;
			skip(at, '#');
			if (!get_number(at, &arg->value))
				return false;
		}
		return skip(at, ']');
	}
	if (skip(at, '#') || **at == '-' || isdigit((unsigned char)**at))
		return get_number(at, &arg->value);
	arg->type = BHB_USDT_REG;
	return get_aarch64_register(at, size, &arg->reg);
}

static bool get_argument(unsigned machine, const char **at, struct bhb_usdt_arg *arg)
{
	unsigned size;

	arg->is_signed = skip(at, '-');
	if (!**at || !strchr("1248", **at))
		return false;
	size = (unsigned)(*(*at)++ - '0');
	arg->shift = (int8_t)(64 - 8 * size);
	if (!skip(at, '@'))
		return false;
	if (machine == EM_X86_64 ? !get_x86_operand(at, size, arg) : !get_aarch64_operand(at, size, arg))
		return false;
	return !**at || **at == ' ';
}

int bhb_usdt_args(unsigned machine, const char *text, struct bhb_usdt_spec *spec, const char **bad)
{
	memset(spec, 0, sizeof(*spec));
	for (;;) {
		while (skip(&text, ' '))
			;
		if (!*text)
			return spec->n;
		*bad = text;
		if (spec->n == BHB_USDT_ARGS || (machine != EM_X86_64 && machine != EM_AARCH64) ||
		    !get_argument(machine, &text, &spec->arg[spec->n]))
			return -EINVAL;
		spec->n++;
	}
}
