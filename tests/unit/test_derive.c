/* SPDX-License-Identifier: MIT */
/* Offsets from machine code: what this compiler makes of two layouts, and single instructions by hand. */
#include "foreign_image.h"
#include "layout.h"

#if defined(__x86_64__)

static struct own_images own;

/* --- functions of this compiler, for two versions of a structure ------------------------------- */

struct message {
	int kind;
	void (*callback)(void *);
	void *opaque;
	struct message *next;
};

#define VERSION(v, padding)                                                                                            \
	struct loop_##v {                                                                                              \
		char name[padding];                                                                                    \
		unsigned wanted;                                                                                       \
		char asked;                                                                                            \
		struct message *first;                                                                                 \
		int fds[2];                                                                                            \
	};                                                                                                             \
	int fd_of_##v(struct loop_##v *loop);                                                                          \
	void tell_##v(struct loop_##v *loop);                                                                          \
	struct message *take_all_##v(struct loop_##v *loop);                                                           \
	void wake_##v(struct loop_##v *loop);                                                                          \
	void set_first_##v(struct message *m, struct loop_##v *loop);                                                  \
	AS_WRITTEN int fd_of_##v(struct loop_##v *loop)                                                                \
	{                                                                                                              \
		return loop->fds[1];                                                                                   \
	}                                                                                                              \
	AS_WRITTEN void wake_##v(struct loop_##v *loop)                                                                \
	{                                                                                                              \
		write_to(&loop->fds[0]);                                                                               \
	}                                                                                                              \
	AS_WRITTEN void tell_##v(struct loop_##v *loop)                                                                \
	{                                                                                                              \
		__atomic_store_n(&loop->asked, 1, __ATOMIC_RELAXED);                                                   \
		__atomic_thread_fence(__ATOMIC_SEQ_CST);                                                               \
		if (__atomic_load_n(&loop->wanted, __ATOMIC_RELAXED))                                                  \
			wake_##v(loop);                                                                                \
	}                                                                                                              \
	AS_WRITTEN struct message *take_all_##v(struct loop_##v *loop)                                                 \
	{                                                                                                              \
		return __atomic_exchange_n(&loop->first, NULL, __ATOMIC_SEQ_CST);                                      \
	}                                                                                                              \
	AS_WRITTEN void set_first_##v(struct message *m, struct loop_##v *loop)                                        \
	{                                                                                                              \
		loop->first = m;                                                                                       \
	}

void write_to(int *fds);
AS_WRITTEN void write_to(int *fds)
{
	fds[0] = 1;
}

VERSION(old, 40)
VERSION(new, 1000)

struct message *message_new(int kind, void (*callback)(void *), void *opaque);
AS_WRITTEN struct message *message_new(int kind, void (*callback)(void *), void *opaque)
{
	struct message *m = malloc(sizeof(*m));

	if (!m)
		return NULL;
	/* One at a time: two that are stored at once by a vector register are not seen. */
	*(volatile int *)&m->kind = kind;
	*(void (*volatile *)(void *)) & m->callback = callback;
	*(void *volatile *)&m->opaque = opaque;
	m->next = m;
	return m;
}

struct loop_old *loop_pointer, loop_itself = { .wanted = 1 };
struct loop_old *get_pointer(void);
AS_WRITTEN struct loop_old *get_pointer(void)
{
	return loop_pointer;
}

struct loop_old *get_itself(void);
AS_WRITTEN struct loop_old *get_itself(void)
{
	return &loop_itself;
}

/* --- by hand -------------------------------------------------------------------------------------- */

#define CODE(name, ...)                                                                                                \
	__asm__(".text\n.globl " #name "\n.type " #name ", @function\n" #name ":\n" __VA_ARGS__ "\n.size " #name       \
		", . - " #name "\n");                                                                                  \
	extern char name[]

/* Through the stack and registers that calls keep. */
CODE(by_spill, "push %rbp\n mov %rsp, %rbp\n sub $32, %rsp\n mov %rdi, -8(%rbp)\n mov %esi, -12(%rbp)\n"
	       "call write_to\n mov -8(%rbp), %rax\n movl $7, 0x44(%rax)\n mov -12(%rbp), %ecx\n mov %ecx, 0x48(%rax)\n"
	       "leave\n ret");
CODE(by_push,
     "push %rdi\n push %rsi\n call write_to\n pop %rcx\n pop %rdx\n mov (%rdx), %eax\n movb $0, 0x11(%rcx)\n ret");
/* A call loses the arguments; the second one's result is not the first one's. */
CODE(after_call, "mov %rdi, %rbx\n call write_to\n mov 0x10(%rdi), %eax\n mov %rax, 0x20(%rbx)\n call write_to\n"
		 "mov 0x30(%rax), %ecx\n ret");
/* A slot that was written to in part, and a register. */
CODE(spoiled,
     "push %rdi\n movb $1, 3(%rsp)\n pop %rax\n mov 0x10(%rax), %ecx\n mov $0, %dil\n mov 0x18(%rdi), %ecx\n ret");
CODE(swaps, "lock orl $0, (%rsp)\n mov $1, %eax\n xchg %rsi, 0x8(%rdi)\n lock cmpxchg %ecx, 0x20(%rdi)\n"
	    "lock incl 0x30(%rdi)\n ret");
CODE(not_accesses,
     "endbr64\n nopw 0x99(%rdi)\n prefetcht0 0x98(%rdi)\n mov %fs:0x28, %rax\n mov 0x50(%rdi,%rsi), %eax\n"
     "cmpl $3, 0x5c(%rdi)\n ret");
/* Near on one way, far on the other: the order is that of the distance, not of addresses. */
CODE(both_ways,
     "test %esi, %esi\n je 1f\n nop\n nop\n nop\n mov 0x10(%rdi), %eax\n ret\n1: mov 0x20(%rdi), %eax\n ret");
CODE(around, "1: mov 0x10(%rdi), %eax\n add $8, %rdi\n test %eax, %eax\n jne 1b\n mov 0x20(%rdi), %eax\n ret");
CODE(wrapper, "mov %rsi, %rdi\n jmp inner");
CODE(inner, "test %rdi, %rdi\n jne inner_most\n ret");
CODE(inner_most, "sub $-0x80, %rdi\n mov -0x78(%rdi), %eax\n ret");
CODE(endless, ".rept 3000\n nop\n .endr\n mov 0x10(%rdi), %eax\n ret");
CODE(by_table, "mov 0x10(%rdi), %eax\n jmp *%rax");
CODE(no_code, ".byte 0x06\n mov 0x10(%rdi), %eax\n ret");
/* What follows a call that does not return belongs to somebody else. */
CODE(runs_out, "call abort@PLT");
CODE(behind_it, "mov 0x10(%rdi), %eax\n ret");
/* Through the table of addresses that the loader fills in. */
CODE(by_got, "mov loop_itself@GOTPCREL(%rip), %rax\n mov 40(%rax), %eax\n ret");

__asm__(".section .got.by_hand, \"aw\"\nslot: .quad inner\n.text\n");
CODE(by_slot, "mov %rdx, %rdi\n jmp *slot(%rip)");

/* --- asking ------------------------------------------------------------------------------------------- */

static char why[160];

static int derive(const char *function, enum bht_code_op op, enum bht_code_base base, unsigned size, unsigned nth,
		  uint64_t *offset)
{
	struct bht_code_pattern p = { .op = op, .base = base, .size = size, .nth = nth };

	snprintf(p.function, sizeof(p.function), "%s", function);
	return bht_derive(own_image(&own, get_pointer), &p, offset, why);
}

static void expect(uint64_t wanted, const char *function, enum bht_code_op op, enum bht_code_base base, unsigned size,
		   unsigned nth)
{
	uint64_t offset = 0;

	if (derive(function, op, base, size, nth, &offset))
		fail_msg("%s", why);
	assert_int_equal(offset, wanted);
}

static void expect_none(const char *reason, const char *function, enum bht_code_op op, enum bht_code_base base,
			unsigned size, unsigned nth)
{
	uint64_t offset = 0xbad;

	assert_int_equal(derive(function, op, base, size, nth, &offset), -ENOENT);
	assert_int_equal(offset, 0xbad);
	if (!strstr(why, reason))
		fail_msg("%s: not %s", why, reason);
}

static int setup(void **state)
{
	(void)state;
	own_open(&own);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	own_close(&own);
	return 0;
}

/* --- tests ---------------------------------------------------------------------------------------------- */

#define EXPECT_VERSION(v)                                                                                              \
	expect(offsetof(struct loop_##v, fds[1]), "fd_of_" #v, BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 1);                    \
	expect(offsetof(struct loop_##v, asked), "tell_" #v, BHT_CODE_STORE, BHT_BASE_ARG1, 1, 1);                     \
	expect(offsetof(struct loop_##v, wanted), "tell_" #v, BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 1);                     \
	expect(offsetof(struct loop_##v, first), "take_all_" #v, BHT_CODE_SWAP, BHT_BASE_ARG1, 8, 1);                  \
	expect(offsetof(struct loop_##v, fds), "wake_" #v, BHT_CODE_LEA, BHT_BASE_ARG1, 0, 1);                         \
	expect(offsetof(struct loop_##v, first), "set_first_" #v, BHT_CODE_STORE, BHT_BASE_ARG2, 8, 1)

static void test_two_versions(void **state)
{
	(void)state;
	EXPECT_VERSION(old);
	EXPECT_VERSION(new);
	assert_int_not_equal(offsetof(struct loop_old, first), offsetof(struct loop_new, first));
}

static void test_what_is_stored(void **state)
{
	struct bht_code_pattern p = {
		.function = "message_new", .op = BHT_CODE_STORE, .base = BHT_BASE_RET, .nth = 1, .has_value = true
	};
	uint64_t offset;

	(void)state;
	p.value_arg = 2;
	assert_int_equal(bht_derive(own_image(&own, get_pointer), &p, &offset, why), 0);
	assert_int_equal(offset, offsetof(struct message, callback));
	p.value_arg = 3;
	assert_int_equal(bht_derive(own_image(&own, get_pointer), &p, &offset, why), 0);
	assert_int_equal(offset, offsetof(struct message, opaque));
	/* Of an int the lower half is what was saved. */
	p.value_arg = 1;
	p.size = 4;
	assert_int_equal(bht_derive(own_image(&own, get_pointer), &p, &offset, why), 0);
	assert_int_equal(offset, offsetof(struct message, kind));
	p.value_arg = 4;
	p.size = 0;
	assert_int_equal(bht_derive(own_image(&own, get_pointer), &p, &offset, why), -ENOENT);
	p = (struct bht_code_pattern){ .function = "by_spill",
				       .op = BHT_CODE_STORE,
				       .base = BHT_BASE_ARG1,
				       .nth = 1,
				       .has_value = true,
				       .value = 7 };
	assert_int_equal(bht_derive(own_image(&own, get_pointer), &p, &offset, why), 0);
	assert_int_equal(offset, 0x44);
	p.value = 8;
	assert_int_equal(bht_derive(own_image(&own, get_pointer), &p, &offset, why), -ENOENT);
	p.value_arg = 2;
	assert_int_equal(bht_derive(own_image(&own, get_pointer), &p, &offset, why), 0);
	assert_int_equal(offset, 0x48);
}

static void test_globals(void **state)
{
	(void)state;
	expect((uintptr_t)&loop_pointer, "get_pointer", BHT_CODE_LOAD, BHT_BASE_GLOBAL, 8, 1);
	expect((uintptr_t)&loop_itself, "get_itself", BHT_CODE_LEA, BHT_BASE_GLOBAL, 0, 1);
	/* Neither is the table: whatever the linker made of it. */
	expect((uintptr_t)&loop_itself, "by_got", BHT_CODE_LEA, BHT_BASE_GLOBAL, 0, 1);
	expect((uintptr_t)&loop_itself.wanted, "by_got", BHT_CODE_LOAD, BHT_BASE_GLOBAL, 4, 1);
	expect_none("no such access", "by_got", BHT_CODE_LOAD, BHT_BASE_GLOBAL, 8, 1);
}

static void test_registers_and_stack(void **state)
{
	(void)state;
	expect(0x44, "by_spill", BHT_CODE_STORE, BHT_BASE_ARG1, 4, 1);
	expect(0x48, "by_spill", BHT_CODE_STORE, BHT_BASE_ARG1, 4, 2);
	expect(0, "by_push", BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 1);
	expect(0x11, "by_push", BHT_CODE_STORE, BHT_BASE_ARG2, 1, 1);
	expect_none("no such access", "after_call", BHT_CODE_LOAD, BHT_BASE_ARG1, 0, 1);
	expect(0x20, "after_call", BHT_CODE_STORE, BHT_BASE_ARG1, 8, 1);
	expect_none("no such access", "after_call", BHT_CODE_LOAD, BHT_BASE_RET, 0, 1);
	expect_none("no such access", "spoiled", BHT_CODE_LOAD, BHT_BASE_ARG1, 0, 1);
}

static void test_kinds_of_access(void **state)
{
	(void)state;
	expect(0x8, "swaps", BHT_CODE_SWAP, BHT_BASE_ARG1, 8, 1);
	expect(0x20, "swaps", BHT_CODE_SWAP, BHT_BASE_ARG1, 4, 1);
	expect(0x30, "swaps", BHT_CODE_SWAP, BHT_BASE_ARG1, 0, 3);
	expect_none("has 3 such accesses, not 4", "swaps", BHT_CODE_SWAP, BHT_BASE_ARG1, 0, 4);
	expect_none("no such access", "swaps", BHT_CODE_LOAD, BHT_BASE_ARG1, 0, 1);
	expect(0x5c, "not_accesses", BHT_CODE_LOAD, BHT_BASE_ARG1, 0, 1);
	expect_none("has 1 such", "not_accesses", BHT_CODE_LOAD, BHT_BASE_ARG1, 0, 2);
}

static void test_paths(void **state)
{
	(void)state;
	expect(0x20, "both_ways", BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 1);
	expect(0x10, "both_ways", BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 2);
	/* Each instruction as it is when it is come to first. */
	expect(0x10, "around", BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 1);
	expect(0x28, "around", BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 2);
	expect_none("has 2 such", "around", BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 3);
	expect(0x80, "wrapper", BHT_CODE_LEA, BHT_BASE_ARG2, 0, 1);
	expect(0x8, "wrapper", BHT_CODE_LOAD, BHT_BASE_ARG2, 4, 1);
	expect(0x8, "by_slot", BHT_CODE_LOAD, BHT_BASE_ARG3, 4, 1);
}

static void test_ends(void **state)
{
	(void)state;
	expect_none("not within 2000", "endless", BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 1);
	expect_none("an indirect jump", "by_table", BHT_CODE_LOAD, BHT_BASE_ARG1, 1, 1);
	expect_none("no known instruction", "no_code", BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 1);
	expect_none("no such access", "runs_out", BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 1);
	expect_none("not defined", "no_such_function", BHT_CODE_LOAD, BHT_BASE_ARG1, 4, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_versions),
		cmocka_unit_test(test_what_is_stored),
		cmocka_unit_test(test_globals),
		cmocka_unit_test(test_registers_and_stack),
		cmocka_unit_test(test_kinds_of_access),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_ends),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}

#else

/* Code of other processors is not read, and that is said. */
static void test_refused(void **state)
{
	struct own_images own;
	struct bht_code_pattern p = { .function = "main", .nth = 1 };
	uint64_t offset;
	char why[160];

	(void)state;
	own_open(&own);
	assert_int_equal(bht_derive(own_image(&own, test_refused), &p, &offset, why), -ENOENT);
	own_close(&own);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_refused) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
