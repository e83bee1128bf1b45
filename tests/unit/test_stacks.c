/* SPDX-License-Identifier: MIT */
/* The stacks of a child, and what has none. Those of cores: tests/e2e/core.sh. */
#include <sys/mman.h>
#include <sys/prctl.h>

#include "sources/stacks.h"
#include "support.h"

static struct bht_stacks stacks;
static struct bht_refusal refusal;

static int teardown(void **state)
{
	(void)state;
	bht_stacks_free(&stacks);
	return 0;
}

/* Not static and not inlined: it must have a name of its own. */
__attribute__((noinline)) void sleep_for_ever(int ready);
void sleep_for_ever(int ready)
{
	for (;;) {
		if (write(ready, "", 1) != 1)
			_exit(1);
		pause();
	}
}

static bool mentions(const struct bht_stack *stack, const char *symbol)
{
	for (unsigned i = 0; i < stack->n_frames; i++)
		if (stack->frames[i].symbol && !strcmp(stack->frames[i].symbol, symbol))
			return stack->frames[i].module && stack->frames[i].address;
	return false;
}

static void test_child(void **state)
{
	(void)state;
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	const pid_t child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sleep_for_ever(ready[1]);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	int rc = bht_stacks_collect((uint32_t)child, &stacks, &refusal);
	const bool alive = kill(child, 0) == 0 && waitpid(child, NULL, WNOHANG) == 0;
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	if (rc == -EPERM)
		skip();
	if (rc)
		fail_msg("%s", refusal.why);
	assert_true(alive);
	/* A sanitizer may have a thread of its own. */
	const struct bht_stack *stack = stacks.threads;
	while (stack < stacks.threads + stacks.n - 1 && stack->tid != (uint32_t)child)
		stack++;
	assert_int_equal(stack->tid, child);
	assert_true(stack->stopped_us > 0);
	assert_true(mentions(stack, "sleep_for_ever"));
	assert_true(mentions(stack, "main"));
	assert_false(stacks.more);
}

static void test_no_process(void **state)
{
	(void)state;
	assert_int_equal(bht_stacks_collect(99999999, &stacks, &refusal), -ESRCH);
	assert_string_equal(refusal.why, "process 99999999: does not exist");
	assert_int_equal(stacks.n, 0);
}

static void test_no_core(void **state)
{
	(void)state;
	char path[64];
	int fd = memfd_create("core", MFD_CLOEXEC);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(write(fd, "\177ELF", 4), 4);
	assert_int_equal(bht_stacks_core(path, NULL, &stacks, &refusal), -EBADMSG);
	assert_non_null(strstr(refusal.why, path));
	close(fd);
	assert_int_equal(bht_stacks_core("/nonexistent", NULL, &stacks, &refusal), -ENOENT);
	assert_non_null(strstr(refusal.why, "/nonexistent: No such file"));
	assert_int_equal(stacks.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_child, teardown),
		cmocka_unit_test_teardown(test_no_process, teardown),
		cmocka_unit_test_teardown(test_no_core, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
