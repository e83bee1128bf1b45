/* SPDX-License-Identifier: MIT */
/* Who watches a notifier, as far as the kernel shows it of this process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fake_memory.h"
#include "sources/watch.h"

static struct bht_procfs proc;
static struct bht_evidence ev;
static struct fake_memory fake;
static struct bht_loop loop;
static struct bht_thread owner;
static struct bht_sample sample = { .loops = &loop, .n_loops = 1, .threads = &owner, .n_threads = 1 };

static int setup(void **state)
{
	(void)state;
	assert_int_equal(bht_procfs_open(&proc, (uint32_t)getpid()), 0);
	fake_init(&fake);
	owner = (struct bht_thread){ .tid = (uint32_t)getpid(), .state = 'R', .syscall = BHT_SYSCALL_RUNNING };
	loop = (struct bht_loop){ .owner = owner.tid,
				  .notifier_fd = eventfd(0, 0),
				  .poll_fd = epoll_create1(0),
				  .notifier_count = -1,
				  .notifier_watched = -1,
				  .embedder_watches = -1 };
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(loop.notifier_fd);
	close(loop.poll_fd);
	bht_procfs_close(&proc);
	bht_evidence_free(&ev);
	return 0;
}

static void look(int watched, uint32_t mask, int embedder)
{
	loop.notifier_watched = loop.embedder_watches = -1;
	loop.notifier_mask = 0;
	bht_watch_read(&proc, &fake.mem, &ev, &sample);
	assert_int_equal(loop.notifier_watched, watched);
	assert_int_equal(loop.notifier_mask, mask);
	assert_int_equal(loop.embedder_watches, embedder);
}

static void watch(int set, int op, int fd, uint32_t events)
{
	assert_int_equal(epoll_ctl(set, op, fd, &(struct epoll_event){ .events = events }), 0);
}

static void sleeps_in(int64_t call, uint64_t arg0, uint64_t arg1)
{
	owner.state = 'S';
	owner.syscall = call;
	owner.args[0] = arg0;
	owner.args[1] = arg1;
	loop.where = BHP_WAIT;
}

enum { ALWAYS = EPOLLERR | EPOLLHUP }; /* the kernel adds these */

static void test_count(void **state)
{
	(void)state;
	const uint64_t count = 26;

	assert_int_equal(write(loop.notifier_fd, &count, sizeof(count)), sizeof(count));
	look(0, 0, -1);
	assert_int_equal(loop.notifier_count, 26);
	assert_int_equal(ev.n_unseen, 0);
}

static void test_own_set(void **state)
{
	(void)state;
	struct epoll_event event;
	const uint64_t one = 1;

	look(0, 0, -1);
	watch(loop.poll_fd, EPOLL_CTL_ADD, loop.notifier_fd, EPOLLIN | EPOLLONESHOT);
	look(1, EPOLLIN | EPOLLONESHOT | ALWAYS, -1);
	/* A one-shot watch that fired is there, but watches nothing. */
	assert_int_equal(write(loop.notifier_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(epoll_wait(loop.poll_fd, &event, 1, 0), 1);
	look(0, EPOLLONESHOT, -1);
	watch(loop.poll_fd, EPOLL_CTL_MOD, loop.notifier_fd, EPOLLOUT);
	look(0, EPOLLOUT | ALWAYS, -1);
	assert_int_equal(ev.n_unseen, 0);
}

/* What counts is where the owner sleeps, not the set that the loop names. */
static void test_sleepers_set(void **state)
{
	(void)state;
	const int other = epoll_create1(0);

	watch(loop.poll_fd, EPOLL_CTL_ADD, loop.notifier_fd, EPOLLIN);
	sleeps_in(SYS_epoll_pwait, (uint64_t)other, 0);
	look(0, 0, -1);
	watch(other, EPOLL_CTL_ADD, loop.poll_fd, EPOLLOUT);
	look(0, 0, -1);
	watch(other, EPOLL_CTL_MOD, loop.poll_fd, EPOLLIN);
	look(1, EPOLLIN | ALWAYS, -1);
	watch(loop.poll_fd, EPOLL_CTL_DEL, loop.notifier_fd, 0);
	look(0, 0, -1);
	sleeps_in(SYS_futex, 0, 0);
	look(-1, 0, -1);
	sleeps_in(BHT_SYSCALL_UNKNOWN, 0, 0);
	look(0, 0, -1);
	assert_int_equal(ev.n_unseen, 0);
	close(other);
	sleeps_in(SYS_epoll_pwait, (uint64_t)other, 0);
	look(-1, 0, -1);
	assert_int_equal(ev.n_unseen, 1);
}

/* The same eventfd under another number wakes the sleeper too. */
static void test_duplicate(void **state)
{
	(void)state;
	const int same = dup(loop.notifier_fd), stranger = eventfd(0, 0);

	watch(loop.poll_fd, EPOLL_CTL_ADD, stranger, EPOLLIN);
	look(0, 0, -1);
	watch(loop.poll_fd, EPOLL_CTL_ADD, same, EPOLLIN);
	look(1, EPOLLIN | ALWAYS, -1);
	close(same);
	close(stranger);
}

static void test_poll_array(void **state)
{
	(void)state;
	static struct pollfd array[5000];

	for (unsigned i = 0; i < 5000; i++)
		array[i].fd = -1;
	fake_show(&fake, array, sizeof(array));
	loop.where = BHP_WAIT;
	sleeps_in(SYS_ppoll, (uintptr_t)array, 4096);
	look(0, 0, -1);
	array[4095] = (struct pollfd){ .fd = loop.notifier_fd, .events = POLLIN };
	look(1, EPOLLIN, -1);
	sleeps_in(SYS_ppoll, (uintptr_t)array, 4095);
	look(0, 0, -1);
	array[7] = (struct pollfd){ .fd = loop.notifier_fd, .events = POLLOUT };
	look(0, EPOLLOUT, -1);
	assert_int_equal(ev.n_unseen, 0);
	sleeps_in(SYS_ppoll, (uintptr_t)array, 5000);
	look(-1, 0, -1);
	sleeps_in(SYS_ppoll, 16, 1);
	look(-1, 0, -1);
	sleeps_in(SYS_ppoll, (uintptr_t)array, UINT64_MAX);
	look(-1, 0, -1);
	assert_true(ev.n_unseen > 0);
}

static void test_embedder(void **state)
{
	(void)state;
	const int outer = epoll_create1(0), same = dup(loop.poll_fd);
	struct pollfd array[] = { { .fd = loop.poll_fd, .events = POLLIN } };

	watch(loop.poll_fd, EPOLL_CTL_ADD, loop.notifier_fd, EPOLLIN);
	sleeps_in(SYS_epoll_pwait, (uint64_t)outer, 0);
	loop.where = BHP_OUTSIDE;
	look(1, EPOLLIN | ALWAYS, -1); /* it is awake */
	loop.notify_me = BHP_LOOP_SLEEPING;
	look(1, EPOLLIN | ALWAYS, 0);
	watch(outer, EPOLL_CTL_ADD, loop.poll_fd, EPOLLIN);
	look(1, EPOLLIN | ALWAYS, 1);
	watch(outer, EPOLL_CTL_DEL, loop.poll_fd, 0);
	watch(outer, EPOLL_CTL_ADD, same, EPOLLIN);
	look(1, EPOLLIN | ALWAYS, 1);
	sleeps_in(SYS_ppoll, (uintptr_t)array, 1);
	loop.where = BHP_OUTSIDE;
	fake_show(&fake, array, sizeof(array));
	look(1, EPOLLIN | ALWAYS, 1);
	array[0].events = 0;
	look(1, EPOLLIN | ALWAYS, 0);
	owner.syscall = SYS_futex;
	look(1, EPOLLIN | ALWAYS, -1);
	assert_int_equal(ev.n_unseen, 0);
	close(outer);
	close(same);
}

static void test_wrong_descriptors(void **state)
{
	(void)state;
	const struct bht_loop good = loop;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	const int wrong[][2] = { { fds[0], fds[1] }, { 1000000, 1000000 }, { -1, -1 }, { -1, good.poll_fd } };
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		loop.notifier_fd = wrong[i][0];
		loop.poll_fd = wrong[i][1];
		look(-1, 0, -1);
		assert_int_equal(loop.notifier_count, -1);
	}
	assert_true(ev.n_unseen > 0);
	loop = good;
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_count),      TEST(test_own_set),  TEST(test_sleepers_set),      TEST(test_duplicate),
		TEST(test_poll_array), TEST(test_embedder), TEST(test_wrong_descriptors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
