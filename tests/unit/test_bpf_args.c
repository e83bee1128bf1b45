/* SPDX-License-Identifier: MIT */
/* Where arguments of USDT probes are: as compilers write it, and as nobody should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__aarch64__)
#include <asm/ptrace.h>
#endif

#include "bh.h"
#include "multi.h"

static struct bhb_usdt_spec spec;
static const char *bad;

static void is(unsigned machine, const char *text, enum bhb_usdt_type type, int reg, uint64_t value, int bytes)
{
	const struct bhb_usdt_arg *a = &spec.arg[0];

	assert_int_equal(bhb_usdt_args(machine, text, &spec, &bad), 1);
	assert_int_equal(spec.n, 1);
	assert_int_equal(a->type, type);
	assert_int_equal(a->reg, reg);
	assert_int_equal(a->value, value);
	assert_int_equal(a->shift, 64 - 8 * bytes);
	assert_int_equal(a->is_signed, *text == '-');
}

/* Refused at the argument that begins at AT. */
static void is_not(unsigned machine, const char *text, size_t at)
{
	if (bhb_usdt_args(machine, text, &spec, &bad) != -EINVAL || bad != text + at)
		fail_msg("\"%s\": refused at \"%s\"", text, bad);
}

static void registers(void **state)
{
	(void)state;
	is(EM_X86_64, "8@%rax", BHB_USDT_REG, 80, 0, 8);
	is(EM_X86_64, "-8@%rsp", BHB_USDT_REG, 152, 0, 8);
	is(EM_X86_64, "4@%r8d", BHB_USDT_REG, 72, 0, 4);
	is(EM_X86_64, "-4@%ebp", BHB_USDT_REG, 32, 0, 4);
	is(EM_X86_64, "2@%r15w", BHB_USDT_REG, 0, 0, 2);
	is(EM_X86_64, "-2@%cx", BHB_USDT_REG, 88, 0, 2);
	is(EM_X86_64, "1@%sil", BHB_USDT_REG, 104, 0, 1);
	is(EM_X86_64, "-1@%r12b", BHB_USDT_REG, 24, 0, 1);
	is(EM_X86_64, "1@%ebx", BHB_USDT_REG, 40, 0, 1);
	is(EM_AARCH64, "8@x0", BHB_USDT_REG, 0, 0, 8);
	is(EM_AARCH64, "-4@w30", BHB_USDT_REG, 240, 0, 4);
	is(EM_AARCH64, "1@w9", BHB_USDT_REG, 72, 0, 1);
	is(EM_AARCH64, "4@x10", BHB_USDT_REG, 80, 0, 4);
	is(EM_AARCH64, "8@sp", BHB_USDT_REG, 248, 0, 8);
}

/* The kernel's own layout, of the machine this runs on. */
static void places_in_pt_regs(void **state)
{
	(void)state;
#if defined(__x86_64__)
	static const struct {
		const char *text;
		size_t place;
	} all[] = {
		{ "8@%rax", offsetof(struct pt_regs, rax) }, { "8@%rbx", offsetof(struct pt_regs, rbx) },
		{ "8@%rcx", offsetof(struct pt_regs, rcx) }, { "8@%rdx", offsetof(struct pt_regs, rdx) },
		{ "8@%rsi", offsetof(struct pt_regs, rsi) }, { "8@%rdi", offsetof(struct pt_regs, rdi) },
		{ "8@%rbp", offsetof(struct pt_regs, rbp) }, { "8@%rsp", offsetof(struct pt_regs, rsp) },
		{ "8@%r8", offsetof(struct pt_regs, r8) },   { "8@%r9", offsetof(struct pt_regs, r9) },
		{ "8@%r10", offsetof(struct pt_regs, r10) }, { "8@%r11", offsetof(struct pt_regs, r11) },
		{ "8@%r12", offsetof(struct pt_regs, r12) }, { "8@%r13", offsetof(struct pt_regs, r13) },
		{ "8@%r14", offsetof(struct pt_regs, r14) }, { "8@%r15", offsetof(struct pt_regs, r15) },
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		is(EM_X86_64, all[i].text, BHB_USDT_REG, (int)all[i].place, 0, 8);
#elif defined(__aarch64__)
	is(EM_AARCH64, "8@x17", BHB_USDT_REG, offsetof(struct user_pt_regs, regs[17]), 0, 8);
	is(EM_AARCH64, "8@sp", BHB_USDT_REG, offsetof(struct user_pt_regs, sp), 0, 8);
#endif
}

static void constants(void **state)
{
	(void)state;
	is(EM_X86_64, "-4@$-9", BHB_USDT_CONST, 0, (uint64_t)-9, 4);
	is(EM_X86_64, "8@$0", BHB_USDT_CONST, 0, 0, 8);
	is(EM_X86_64, "8@$0xff", BHB_USDT_CONST, 0, 255, 8);
	is(EM_X86_64, "8@$18446744073709551615", BHB_USDT_CONST, 0, UINT64_MAX, 8);
	is(EM_X86_64, "-8@$-9223372036854775808", BHB_USDT_CONST, 0, UINT64_C(1) << 63, 8);
	is(EM_AARCH64, "-4@-9", BHB_USDT_CONST, 0, (uint64_t)-9, 4);
	is(EM_AARCH64, "1@#3", BHB_USDT_CONST, 0, 3, 1);
	is_not(EM_X86_64, "8@$18446744073709551616", 0);
	is_not(EM_X86_64, "8@$-9223372036854775809", 0);
	is_not(EM_X86_64, "8@$010", 0);
	is_not(EM_X86_64, "8@$0x", 0);
	is_not(EM_X86_64, "8@$0x-1", 0);
	is_not(EM_X86_64, "8@$0x 1", 0);
	is_not(EM_X86_64, "8@$--1", 0);
	is_not(EM_X86_64, "8@$+1", 0);
	is_not(EM_X86_64, "8@$- 1", 0);
	is_not(EM_X86_64, "8@5", 0);
	is_not(EM_AARCH64, "8@$5", 0);
}

static void memory(void **state)
{
	(void)state;
	is(EM_X86_64, "-4@8(%rsp)", BHB_USDT_DEREF, 152, 8, 4);
	is(EM_X86_64, "8@-1204(%rbp)", BHB_USDT_DEREF, 32, (uint64_t)-1204, 8);
	is(EM_X86_64, "8@(%rdx)", BHB_USDT_DEREF, 96, 0, 8);
	is(EM_AARCH64, "8@[sp, 16]", BHB_USDT_DEREF, 248, 16, 8);
	is(EM_AARCH64, "-4@[x29,-20]", BHB_USDT_DEREF, 232, (uint64_t)-20, 4);
	is(EM_AARCH64, "8@[sp, #16]", BHB_USDT_DEREF, 248, 16, 8);
	is(EM_AARCH64, "1@[x3]", BHB_USDT_DEREF, 24, 0, 1);
	is_not(EM_X86_64, "8@8(%edx)", 0);
	is_not(EM_X86_64, "8@(%rdx,%rax,8)", 0);
	is_not(EM_X86_64, "8@(,%rax,8)", 0);
	is_not(EM_X86_64, "8@symbol(%rip)", 0);
	is_not(EM_X86_64, "8@symbol+4(%rip)", 0);
	is_not(EM_X86_64, "8@16(%rip)", 0);
	is_not(EM_X86_64, "8@%fs:16", 0);
	is_not(EM_X86_64, "8@8(%rsp", 0);
	is_not(EM_X86_64, "8@8()", 0);
	is_not(EM_X86_64, "8@8(rsp)", 0);
	is_not(EM_AARCH64, "8@[w3]", 0);
	is_not(EM_AARCH64, "8@[sp, x1]", 0);
	is_not(EM_AARCH64, "8@[x0, w1, sxtw 3]", 0);
	is_not(EM_AARCH64, "8@[sp, 16]!", 0);
	is_not(EM_AARCH64, "8@[sp, 16", 0);
	is_not(EM_AARCH64, "8@[sp,]", 0);
	is_not(EM_AARCH64, "8@[sp", 0);
	is_not(EM_AARCH64, "8@[", 0);
}

static void no_registers(void **state)
{
	(void)state;
	is_not(EM_X86_64, "8@%", 0);
	is_not(EM_X86_64, "8@rax", 0);
	is_not(EM_X86_64, "8@%raxx", 0);
	is_not(EM_X86_64, "8@%ra", 0);
	is_not(EM_X86_64, "8@%r16", 0);
	is_not(EM_X86_64, "1@%ah", 0); /* not at the lower end */
	is_not(EM_X86_64, "8f@%xmm0", 0);
	is_not(EM_X86_64, "8@%xmm0", 0);
	is_not(EM_X86_64, "8@x0", 0);
	/* the rest of it would be made up */
	is_not(EM_X86_64, "8@%eax", 0);
	is_not(EM_X86_64, "4@%ax", 0);
	is_not(EM_X86_64, "2@%al", 0);
	is_not(EM_AARCH64, "8@w0", 0);
	is_not(EM_AARCH64, "8@x31", 0);
	is_not(EM_AARCH64, "8@x-1", 0);
	is_not(EM_AARCH64, "8@x0x1", 0);
	is_not(EM_AARCH64, "8@x01", 0);
	is_not(EM_AARCH64, "8@x", 0);
	is_not(EM_AARCH64, "8@x18446744073709551617", 0);
	is_not(EM_AARCH64, "8@xzr", 0);
	is_not(EM_AARCH64, "8@spx", 0);
	is_not(EM_AARCH64, "8@v0", 0);
	is_not(EM_AARCH64, "8@%rax", 0);
}

static void sizes(void **state)
{
	(void)state;
	is_not(EM_X86_64, "@%rax", 0);
	is_not(EM_X86_64, "%rax", 0);
	is_not(EM_X86_64, "-@%rax", 0);
	is_not(EM_X86_64, "3@%rax", 0);
	is_not(EM_X86_64, "16@%rax", 0);
	is_not(EM_X86_64, "0@%rax", 0);
	is_not(EM_X86_64, "--8@%rax", 0);
	is_not(EM_X86_64, "8", 0);
	is_not(EM_X86_64, "8@", 0);
	is_not(EM_X86_64, "8 @%rax", 0);
	is_not(EM_X86_64, "8@ %rax", 0);
	is_not(EM_X86_64, "-", 0);
}

static void several(void **state)
{
	(void)state;
	assert_int_equal(bhb_usdt_args(EM_X86_64, "", &spec, &bad), 0);
	assert_int_equal(bhb_usdt_args(EM_X86_64, "  ", &spec, &bad), 0);
	assert_int_equal(bhb_usdt_args(EM_X86_64, "8@%rax -4@$7  1@-4(%rbp) ", &spec, &bad), 3);
	assert_int_equal(spec.arg[1].value, 7);
	assert_int_equal(spec.arg[2].type, BHB_USDT_DEREF);
	assert_int_equal(bhb_usdt_args(EM_AARCH64, "8@[sp, 16] 8@x1 4@[x2]", &spec, &bad), 3);
	assert_int_equal(spec.arg[1].reg, 8);
	is_not(EM_X86_64, "8@%rax -4@%xmm0 8@%rdx", 7);
	is_not(EM_X86_64, "8@%rax,8@%rdx", 0);
	is_not(EM_X86_64, "8@%rax8@%rdx", 0);
	is_not(EM_X86_64, "8@%rax\t8@%rdx", 0);
	is_not(EM_X86_64, "8@%rax 8@", 7);
	is_not(EM_386, "8@$1", 0);
}

static void too_many(void **state)
{
	const char *const thirteen = "1@$1 1@$1 1@$1 1@$1 1@$1 1@$1 1@$1 1@$1 1@$1 1@$1 1@$1 1@$1 1@$1";

	(void)state;
	assert_int_equal(bhb_usdt_args(EM_X86_64, thirteen + 5, &spec, &bad), BHB_USDT_ARGS);
	is_not(EM_X86_64, thirteen, 60);
}

/* Specs are compared byte by byte, so there is nothing left of what was there. */
static void no_stray_bytes(void **state)
{
	static struct bhb_usdt_spec other;

	(void)state;
	memset(&spec, 0xaa, sizeof(spec));
	memset(&other, 0x55, sizeof(other));
	assert_int_equal(bhb_usdt_args(EM_X86_64, "8@%rax 4@8(%rsp)", &spec, &bad), 2);
	assert_int_equal(bhb_usdt_args(EM_X86_64, "8@%rax 4@8(%rsp)", &other, &bad), 2);
	assert_memory_equal(&spec, &other, sizeof(spec));
	assert_int_equal(sizeof(spec), 12 * 16 + 16);
}

/* Nothing but an answer is expected of these; the sanitizers look on. */
static void any_two_bytes(void **state)
{
	static const char *const texts[] = { "-4@8(%rsp) 8@$0x1f", "8@[sp, 16] -2@w3" };
	static const unsigned machines[] = { EM_X86_64, EM_AARCH64 };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		const size_t length = strlen(texts[i]);
		char text[32];
		for (size_t at = 0; at + 1 < length; at++)
			for (unsigned c = 0; c < 65536; c += 7) {
				memcpy(text, texts[i], length + 1);
				text[at] = (char)(c >> 8), text[at + 1] = (char)c;
				bad = text;
				const int n = bhb_usdt_args(machines[i], text, &spec, &bad);
				assert_true((n >= 0 && n == spec.n) || n == -EINVAL);
				assert_in_range(bad - text, 0, length);
			}
	}
}

/* Of this program, which has the library and so its probes: a probe is a nop, and nobody counts. */
static void sites_of_this_program(void **state)
{
#if defined(__x86_64__)
	static const unsigned char nop[] = { 0x90 };
#else
	static const unsigned char nop[] = { 0x1f, 0x20, 0x03, 0xd5 };
#endif
	const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct bh_loop *loop = bh_loop_new("sites");
	unsigned char code[sizeof(nop)];
	struct bhb_site *sites;
	uint32_t events, listed = 0;
	char why[BHB_WHY];
	uint16_t count;

	(void)state;
	const int n = bhb_sites_list(fd, "self", &sites, why);
	assert_string_equal(why, "");
	assert_true(n > 0);
	assert_int_equal(bhb_sites_of(fd, "self", &events, why), n);
	for (int i = 0; i < n; i++) {
		listed |= UINT32_C(1) << sites[i].event;
		assert_int_equal(pread(fd, code, sizeof(code), (off_t)sites[i].offset), sizeof(code));
		assert_memory_equal(code, nop, sizeof(nop));
		assert_true(sites[i].counter);
		assert_int_equal(pread(fd, &count, sizeof(count), (off_t)sites[i].counter), sizeof(count));
		assert_int_equal(count, 0);
		for (int j = 0; j < i; j++)
			assert_int_equal(sites[i].counter == sites[j].counter, sites[i].event == sites[j].event);
	}
	assert_int_equal(listed, events);
	free(sites);
	bh_loop_free(loop);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers),
		cmocka_unit_test(places_in_pt_regs),
		cmocka_unit_test(constants),
		cmocka_unit_test(memory),
		cmocka_unit_test(no_registers),
		cmocka_unit_test(sizes),
		cmocka_unit_test(several),
		cmocka_unit_test(too_many),
		cmocka_unit_test(no_stray_bytes),
		cmocka_unit_test(any_two_bytes),
		cmocka_unit_test(sites_of_this_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
