/* SPDX-License-Identifier: MIT */
/* support.h - what the tests of libbh and of the flight recorder share */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol.h"

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

#define MS UINT64_C(1000000)

/* The usual callback: counts in *OPAQUE. */
static inline void count(void *opaque)
{
	++*(int *)opaque;
}

/* What a callback gets that does something to the loop. */
struct actor {
	struct bh_loop *loop;
	struct bh *bh, *other;
	int runs;
	int result;
};

static inline pthread_t in_thread(void *(*f)(void *), void *arg)
{
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, f, arg), 0);
	return t;
}

/* Runs F in a thread to its end. */
static inline void elsewhere(void *(*f)(void *), void *arg)
{
	assert_int_equal(pthread_join(in_thread(f, arg), NULL), 0);
}

/* Waits until the loop sleeps in its wait, as an observer sees it. */
static inline void until_asleep(struct bh_loop *loop)
{
	while (atomic_load(&loop->o.where) != BHP_WAIT)
		usleep(200);
}

static inline bool readable(int fd, int timeout_ms)
{
	return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, timeout_ms) == 1;
}

/* Runs F in a child that has SECONDS to live; its wait status. */
static inline int in_child(void (*f)(void), unsigned seconds)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(seconds);
		f();
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* Inside in_child(): cmocka's assertions would return to the parent's frames. */
#define child_check(condition)                                                                                         \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

#endif
