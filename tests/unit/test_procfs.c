/* SPDX-License-Identifier: MIT */
/* What /proc says of this process, and what it might say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sources/process.h"

static struct bht_procfs proc;
static struct bht_evidence ev;
static struct bht_sample sample;

static int setup(void **state)
{
	(void)state;
	assert_int_equal(bht_procfs_open(&proc, (uint32_t)getpid()), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bht_procfs_close(&proc);
	bht_sample_free(&sample);
	bht_evidence_free(&ev);
	return 0;
}

static void test_parse_stat(void **state)
{
	(void)state;
	struct bht_thread thread = { 0 };
	uint32_t flags;

	assert_int_equal(
		bht_parse_stat("7 (a) R (b\n) S 1 2 3 4 -1 4194304 6 7 8 9 100 50 0 0 20 0 1", &thread, &flags), 0);
	assert_string_equal(thread.name, "a) R (b\n");
	assert_int_equal(thread.state, 'S');
	assert_int_equal(flags, 4194304);
	assert_int_equal(thread.cpu_ns, 150 * (1000000000 / sysconf(_SC_CLK_TCK)));
	const char *const bad[] = { "", "7", "7 (a", "7 a) S", ")(", "7 (a) S 1 2 3", "7 (a)" };
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(bht_parse_stat(bad[i], &thread, NULL), -EBADMSG);
	assert_int_equal(bht_parse_stat("1 (longer than fifteen bytes) S 1 2 3 4 5 6 7 8 9 10 11 12", &thread, NULL),
			 0);
	assert_string_equal(thread.name, "longer than fif");
}

static void test_parse_syscall(void **state)
{
	(void)state;
	struct bht_thread thread = { 0 };

	bht_parse_syscall("232 0x5 0x7ffc0 0x40 0xffffffffffffffff 0x0 0x8 0x7ffd 0x7f12\n", &thread);
	assert_int_equal(thread.syscall, 232);
	assert_int_equal(thread.args[0], 5);
	assert_true(thread.args[3] == UINT64_MAX);
	assert_int_equal(thread.args[5], 8);
	bht_parse_syscall("running\n", &thread);
	assert_int_equal(thread.syscall, BHT_SYSCALL_RUNNING);
	bht_parse_syscall("-1 0x7ffd 0x7f12\n", &thread);
	assert_int_equal(thread.syscall, BHT_SYSCALL_RUNNING);
	bht_parse_syscall("", &thread);
	assert_int_equal(thread.syscall, BHT_SYSCALL_UNKNOWN);
	bht_parse_syscall("1", &thread);
	assert_int_equal(thread.syscall, 1);
}

/* A thread that sleeps in read() on a pipe, under a name that looks like more. */
static int sleeper_pipe[2];
static uint32_t sleeper_tid;

static void *sleeper(void *arg)
{
	char byte;

	prctl(PR_SET_NAME, ") R 0 (x");
	sleeper_tid = (uint32_t)syscall(SYS_gettid);
	if (write(*(int *)arg, "", 1) != 1 || read(sleeper_pipe[0], &byte, 1) != 1)
		return arg;
	return NULL;
}

/* Nothing but /proc says that the thread sleeps already. */
static const struct bht_thread *wait_until_asleep(uint32_t tid)
{
	const struct timespec pause = { 0, 1000000 };

	for (int i = 0; i < 5000; i++) {
		bht_sample_free(&sample);
		assert_int_equal(bht_procfs_threads(&proc, &ev, &sample), 0);
		const struct bht_thread *thread = bht_sample_thread(&sample, tid);
		assert_non_null(thread);
		if (thread->state == 'S' && thread->syscall == SYS_read)
			return thread;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	int ready[2];
	char byte;
	pthread_t thread;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(sleeper_pipe), 0);
	assert_int_equal(pthread_create(&thread, NULL, sleeper, &ready[1]), 0);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	const struct bht_thread *asleep = wait_until_asleep(sleeper_tid);
	assert_non_null(asleep);
	assert_string_equal(asleep->name, ") R 0 (x");
	assert_int_equal(asleep->args[0], sleeper_pipe[0]);
	assert_int_equal(asleep->ns_tid, sleeper_tid);
	const uint64_t switches = asleep->switches;
	assert_true(switches > 0);
	const struct bht_thread *self = bht_sample_thread(&sample, (uint32_t)getpid());
	assert_non_null(self);
	assert_int_equal(self->state, 'R');
	asleep = wait_until_asleep(sleeper_tid);
	assert_int_equal(asleep->switches, switches);
	assert_int_equal(write(sleeper_pipe[1], "", 1), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(sleeper_pipe[i]);
	}
	assert_int_equal(ev.n_unseen, 0);
}

static void test_tids(void **state)
{
	(void)state;
	struct bht_tid_pair pair[] = { { 1, 4711 }, { 2, 4712 } };
	struct bht_tids tids = { .pair = pair, .n = 2 };

	assert_int_equal(bht_tids_map(&tids, 2), 4712);
	assert_int_equal(bht_tids_map(&tids, 3), 0);
	tids.same = true;
	assert_int_equal(bht_tids_map(&tids, 3), 3);
}

/* --- opening a process ---------------------------------------------------------- */

static void refused(uint32_t pid, int error, const char *why)
{
	struct bht_refusal refusal = { 0 };
	struct bht_process p;

	assert_int_equal(bht_process_open(&p, pid, &refusal), error);
	if (!strstr(refusal.why, why))
		fail_msg("\"%s\" instead of \"%s\"", refusal.why, why);
	bht_process_close(&p);
}

static void test_no_process(void **state)
{
	(void)state;
	refused(0, -ESRCH, "no process id");
	refused(UINT32_MAX, -ESRCH, "no process id");
	refused(0x7fffffff, -ESRCH, "does not exist");
}

static void test_zombie(void **state)
{
	(void)state;
	siginfo_t info;
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	assert_true(child > 0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	refused((uint32_t)child, -ESRCH, "zombie");
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void test_memory(void **state)
{
	(void)state;
	enum { SPANS = 3000 };
	static unsigned char from[SPANS], to[SPANS];
	static struct bht_span spans[SPANS];
	struct bht_refusal refusal;
	struct bht_process p;

	assert_int_equal(bht_process_open(&p, (uint32_t)getpid(), &refusal), 0);
	for (unsigned i = 0; i < SPANS; i++) {
		from[i] = (unsigned char)(i * 7);
		spans[i] = (struct bht_span){ (uintptr_t)&from[i], &to[i], 1 };
	}
	assert_int_equal(p.mem.read(&p.mem, spans, SPANS), 0);
	assert_memory_equal(from, to, SPANS);
	assert_int_equal(p.mem.bytes_read, SPANS);
	spans[SPANS - 1].addr = 16;
	assert_int_equal(p.mem.read(&p.mem, spans, SPANS), -EFAULT);
	assert_int_equal(bht_read(&p.mem, UINT64_MAX - 4, to, 8), -EFAULT);
	assert_true(p.mem.mapped(&p.mem, (uintptr_t)from, SPANS));
	assert_false(p.mem.mapped(&p.mem, 16, 1));
	assert_false(p.mem.mapped(&p.mem, (uintptr_t)from, UINT64_MAX));
	assert_false(p.mem.mapped(&p.mem, (uintptr_t)from, UINT64_C(1) << 46));
	bht_process_close(&p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_parse_stat), TEST(test_parse_syscall), TEST(test_threads), TEST(test_tids),
		TEST(test_no_process), TEST(test_zombie),        TEST(test_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
