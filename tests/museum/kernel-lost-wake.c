/* SPDX-License-Identifier: MIT */
/*
 * kernel-lost-wake: a sleeper that the kernel does not wake.
 *
 * A client asks a loop and waits for the answer; nothing is wrong with either.
 * No kernel that loses a wakeup is at hand, so this one is asked to keep the
 * sleeper: a seccomp filter on the loop's thread reports each of its waits to a
 * supervisor before it begins, and the supervisor lets them go on, until once
 * it does not. The thread is then inside its system call, the eventfd is
 * readable and in the set, and the kernel does not return.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "museum.h"
#include "protocol.h"

enum { RARE = 1000, SKIPPED = 77 };

static struct museum museum;
static struct museum_service service;
static int listener;
static sem_t filtered;

static bool stuck(void)
{
	return museum_unanswered(&service);
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	for (uint64_t ticket = 1;; ticket++) {
		museum_ask(&service, ticket);
		museum_await(&service, 0);
	}
	return arg;
}

static void *supervise(void *arg)
{
	pthread_setname_np(pthread_self(), "supervisor");
	museum_down(&filtered, 0);
	for (unsigned waits = 1; waits % RARE != 0 || museum.fixed; waits++) {
		struct seccomp_notif wait = { 0 };

		/* Fails when the wait was broken off: nobody waits then. */
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &wait) != 0)
			continue;
		struct seccomp_notif_resp go_on = { .id = wait.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &go_on);
	}
	/* Not a return: the last reference to the listener must not go away. */
	for (;;)
		pause();
	return arg;
}

/* Has the waits of the calling thread, and of no other, reported. -1 with errno. */
static int filter_waits(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef SYS_epoll_wait
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_wait, 2, 0),
#endif
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };
	struct seccomp_notif_sizes sizes;

	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) != 0)
		return -1;
	errno = EOVERFLOW;
	if (sizes.seccomp_notif > sizeof(struct seccomp_notif) ||
	    sizes.seccomp_notif_resp > sizeof(struct seccomp_notif_resp) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "held", "fixed", NULL };
	static const struct museum_piece piece = { "kernel-lost-wake",
						   "a sleeper is not woken by the kernel (a stand-in)", variants,
						   100000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	sem_init(&filtered, 0, 0);
	struct bh_loop *loop = bh_loop_new("server");
	museum_need(loop, "no loop");
	museum_service_open(&service, &museum, loop);
	/* Threads made after the filter would have it, too. */
	museum_thread(supervise, NULL);
	museum_thread(client, NULL);
	museum_watch(&museum, stuck);
	listener = filter_waits();
	if (listener < 0) {
		fprintf(stderr, "%s: no seccomp user notification: %s\n", piece.name, strerror(errno));
		return SKIPPED;
	}
	sem_post(&filtered);
	museum_run(&museum, loop, 0);
	return 0;
}
