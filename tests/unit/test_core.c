/* SPDX-License-Identifier: MIT */
/* Cores made here that say what is true; real ones are in tests/e2e/core.sh. */
#include "core_file.h"

static void test_evidence(void **state)
{
	(void)state;
	opens();
	assert_int_equal(ev.origin, BHT_FROM_CORE);
	assert_false(ev.live);
	assert_string_equal(ev.source, path);
	assert_int_equal(ev.pid, CORE_PID);
	assert_string_equal(ev.command, "the target");
	assert_true(ev.ticks_per_ns > 1.99 && ev.ticks_per_ns < 2.01);
	assert_true(ev.clock_error_ns == 250);
	assert_int_equal(ev.last.n_loops, 1);
	assert_string_equal(ev.last.loops[0].name, "disk");
	assert_int_equal(ev.last.loops[0].addr, CORE_AT(loop));
	assert_int_equal(ev.last.loops[0].owner, CORE_PID);
	assert_int_equal(ev.last.loops[0].notifier_count, -1);
	assert_int_equal(ev.last.n_bhs, 1);
	assert_string_equal(ev.last.bhs[0].name, "completion");
	assert_int_equal(ev.last.bhs[0].loop, CORE_AT(loop));
	assert_false(ev.last.unstable);
	assert_true(unseen("notifier counts"));
	assert_int_equal(ev.n_unseen, 1);
}

static void test_threads(void **state)
{
	(void)state;
	opens();
	const struct bht_thread *threads = ev.last.threads;
	assert_int_equal(ev.last.n_threads, CORE_THREADS);
	assert_int_equal(threads[0].tid, CORE_PID);
	assert_string_equal(threads[0].name, "the target");
	assert_string_equal(threads[1].name, "worker");
	assert_string_equal(threads[2].name, "");
	assert_int_equal(threads[0].state, 'S');
	assert_int_equal(threads[0].syscall, SYS_epoll_pwait);
	assert_int_equal(threads[0].args[0], 4);
	assert_int_equal(threads[1].syscall, SYS_futex);
	assert_int_equal(threads[1].lock_word, 2);
	assert_int_equal(threads[1].lock_owner, CORE_PID);
	assert_int_equal(threads[2].state, 'R');
	assert_int_equal(threads[2].syscall, BHT_SYSCALL_RUNNING);
}

static uint32_t owner_with(uint64_t operation, uint64_t addr)
{
	const uint64_t args[6] = { addr, operation };

	core_registers(&core.notes, 1, SYS_futex, args);
	opens();
	return ev.last.threads[1].lock_owner;
}

static void test_locks(void **state)
{
	(void)state;
	core.target.pi = FUTEX_WAITERS | (CORE_PID + 2);
	assert_int_equal(owner_with(FUTEX_LOCK_PI_PRIVATE, CORE_AT(pi)), CORE_PID + 2);
	assert_int_equal(ev.last.threads[1].lock_word, core.target.pi);
	assert_int_equal(owner_with(FUTEX_WAIT_BITSET_PRIVATE, CORE_AT(mutex)), CORE_PID);
	core.target.mutex[0] = FUTEX_WAITERS | CORE_PID; /* robust */
	assert_int_equal(owner_with(FUTEX_WAIT, CORE_AT(mutex)), CORE_PID);
	/* None of these says who owns it. */
	core.target.mutex[0] = 7;
	assert_int_equal(owner_with(FUTEX_WAIT, CORE_AT(mutex)), 0);
	core.target.mutex[0] = 2;
	core.target.mutex[3] = 0;
	assert_int_equal(owner_with(FUTEX_WAIT, CORE_AT(mutex)), 0);
	core.target.mutex[3] = 1;
	core.target.mutex[2] = CORE_PID + 99; /* no such thread */
	assert_int_equal(owner_with(FUTEX_WAIT, CORE_AT(mutex)), 0);
	assert_int_equal(ev.last.threads[1].lock_word, 2);
	assert_int_equal(owner_with(FUTEX_WAKE, CORE_AT(mutex)), 0);
	assert_int_equal(owner_with(FUTEX_LOCK_PI, 8), 0);
	assert_int_equal(ev.last.threads[1].lock_word, 0);
}

#if defined(__x86_64__)
static const struct bht_thread *thread_with(uint64_t orig_rax, int64_t rax)
{
	struct user_regs_struct regs;

	memcpy(&regs, core.notes.thread[0].status.pr_reg, sizeof(regs));
	regs.orig_rax = orig_rax;
	regs.rax = (uint64_t)rax;
	memcpy(core.notes.thread[0].status.pr_reg, &regs, sizeof(regs));
	opens();
	return &ev.last.threads[0];
}

/* Only a call that was broken off was slept in. */
static void test_registers(void **state)
{
	(void)state;
	static const int64_t asleep[] = { -EINTR, -512, -513, -514, -516 }, returned[] = { 0, 5, -EAGAIN, -ENOSYS };

	for (unsigned i = 0; i < sizeof(asleep) / sizeof(asleep[0]); i++)
		assert_int_equal(thread_with(SYS_poll, asleep[i])->syscall, SYS_poll);
	for (unsigned i = 0; i < sizeof(returned) / sizeof(returned[0]); i++) {
		assert_int_equal(thread_with(SYS_poll, returned[i])->syscall, BHT_SYSCALL_RUNNING);
		assert_int_equal(ev.last.threads[0].state, 'R');
	}
	core.target.code[0] = 0xcd; /* int 0x80: numbers of 32-bit programs */
	core.target.code[1] = 0x80;
	assert_int_equal(thread_with(SYS_poll, -EINTR)->syscall, BHT_SYSCALL_UNKNOWN);
	assert_int_equal(ev.last.threads[0].state, 'S');
}
#else
static const struct bht_thread *thread_with(uint64_t x0, uint64_t pc)
{
	struct user_regs_struct regs;

	memcpy(&regs, core.notes.thread[0].status.pr_reg, sizeof(regs));
	regs.regs[0] = x0;
	regs.pc = pc;
	memcpy(core.notes.thread[0].status.pr_reg, &regs, sizeof(regs));
	opens();
	return &ev.last.threads[0];
}

/* At the instruction, to be restarted; or behind it with EINTR. */
static void test_registers(void **state)
{
	(void)state;
	const uint64_t nowhere = 0x1000;

	assert_int_equal(thread_with(4, CORE_AT(code))->syscall, SYS_epoll_pwait);
	assert_int_equal(ev.last.threads[0].args[0], 4);
	assert_int_equal(thread_with((uint64_t)-EINTR, CORE_AT(code) + 4)->syscall, SYS_epoll_pwait);
	assert_int_equal(thread_with((uint64_t)-EINTR, nowhere)->syscall, SYS_epoll_pwait);
	assert_int_equal(ev.last.threads[0].args[0], UINT64_MAX);
	assert_int_equal(thread_with(0, CORE_AT(code) + 4)->state, 'R');
	assert_int_equal(thread_with((uint64_t)-EINTR, CORE_AT(code) + 8)->state, 'R');
	assert_int_equal(thread_with(0, nowhere)->state, '?');
}
#endif

static void test_history(void **state)
{
	(void)state;
	struct bht_event e;

	opens();
	assert_non_null(history);
	assert_int_equal(ev.last.ticks, 9001); /* just after the last event */
	assert_int_equal(history->next(history, &e, 1), 1);
	assert_int_equal(bht_event_id(&e), BHP_ID_thread);
	assert_int_equal(e.tid, CORE_PID);
	assert_int_equal(history->next(history, &e, 1), 1);
	assert_int_equal(e.tid, CORE_PID + 1);
	assert_string_equal(e.text, "worker");
	assert_int_equal(history->next(history, &e, 1), 1);
	assert_int_equal(bhp_decode_consume(&e.r).ticket, 77);
	assert_int_equal(history->next(history, &e, 1), 0);
}

/* Losses of unknown time do not move the end of the history. */
static void test_dropped(void **state)
{
	(void)state;
	struct bht_event e[8];
	int n, all = 0;

	core.target.root.dropped = 5;
	opens();
	assert_int_equal(ev.last.ticks, 9001);
	for (; (n = history->next(history, e, 8)) > 0; all += n)
		if (bht_event_id(&e[n - 1]) == BHT_ID_LOSS)
			assert_int_equal(bhp_record_time(&e[n - 1].r), 9001);
	assert_int_equal(all, 4);
}

static void test_clock(void **state)
{
	(void)state;
	core.target.root.clock[1] = (struct bhp_clock_pair){ 1000 + 300000, 1000 + 100000 };
	opens();
	assert_true(ev.ticks_per_ns > 2.99 && ev.ticks_per_ns < 3.01);
	core.target.root.clock[1] = core.target.root.clock[0];
	opens();
	assert_true(ev.ticks_per_ns == 1);
	assert_true(unseen("the speed of the clock"));
}

static void test_other_namespace(void **state)
{
	(void)state;
	core.target.root.pid = 7;
	core.target.loop.owner_tid = 7;
	opens();
	assert_true(unseen("numbers the process 4000, libbh 7"));
	assert_int_equal(ev.last.loops[0].owner, 0);
}

/* --- the program's file ----------------------------------------------------------------- */

/* Leaves the page with the note out of the core and gives it as a file. */
static int image_file(char name[64])
{
	int fd = core_write(&core.target.image, sizeof(core.target.image), name);

	core.p[1].p_filesz = 0;
	return fd;
}

static void test_exe(void **state)
{
	(void)state;
	char exe[64];
	int fd = image_file(exe);

	assert_int_equal(open_part(sizeof(core), NULL), -ENOENT);
	assert_non_null(strstr(refusal.why, "no bhtrace note"));
	/* By where the program was entered. */
	assert_int_equal(open_part(sizeof(core), exe), 0);
	assert_int_equal(ev.last.n_loops, 1);
	/* By where a file of that name was mapped. */
	core.notes.auxv[0] = AT_NULL;
	assert_int_equal(open_part(sizeof(core), exe), -ENOENT);
	snprintf(core.notes.file_name, sizeof(core.notes.file_name), "/old/%s", strrchr(exe, '/') + 1);
	assert_int_equal(open_part(sizeof(core), exe), 0);
	/* By the file that the core names. */
	snprintf(core.notes.file_name, sizeof(core.notes.file_name), "%s", exe);
	assert_int_equal(open_part(sizeof(core), NULL), 0);
	assert_int_equal(ev.last.n_loops, 1);
	/* A wrong file leads nowhere. */
	core.notes.file[2] += CORE_PAGE;
	assert_int_equal(open_part(sizeof(core), NULL), -ENOENT);
	assert_int_equal(open_part(sizeof(core), "/dev/null"), -ENOENT);
	close(fd);
}

static void test_other_build(void **state)
{
	(void)state;
	char exe[64];
	int fd = image_file(exe);

	core.p[1].p_filesz = CORE_PAGE;
	core.target.image.note.n.n_type = 99; /* the core has the page, but not the note */
	assert_int_equal(open_part(sizeof(core), exe), 0);
	core.target.image.build.id[0]++;
	snprintf(core.notes.file_name, sizeof(core.notes.file_name), "/old/%s", strrchr(exe, '/') + 1);
	assert_int_equal(open_part(sizeof(core), exe), -EBADMSG);
	assert_non_null(strstr(refusal.why, "another build"));
	close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_evidence), TEST(test_threads),     TEST(test_locks), TEST(test_registers),
		TEST(test_history),  TEST(test_dropped),     TEST(test_clock), TEST(test_other_namespace),
		TEST(test_exe),      TEST(test_other_build),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
