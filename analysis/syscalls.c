/* SPDX-License-Identifier: MIT */
#include "syscalls.h"

#include <stdio.h>
#include <sys/syscall.h>

/* How the first argument of a blocking call is best described. */
enum argument { ARG_NONE, ARG_FD, ARG_LOCK };

static const struct {
	long number;
	const char *name;
	enum argument argument;
} blocking_calls[] = {
	{ SYS_futex, "futex", ARG_LOCK },
	{ SYS_read, "read", ARG_FD },
	{ SYS_write, "write", ARG_FD },
	{ SYS_pread64, "pread64", ARG_FD },
	{ SYS_pwrite64, "pwrite64", ARG_FD },
	{ SYS_readv, "readv", ARG_FD },
	{ SYS_writev, "writev", ARG_FD },
	{ SYS_recvfrom, "recvfrom", ARG_FD },
	{ SYS_recvmsg, "recvmsg", ARG_FD },
	{ SYS_sendto, "sendto", ARG_FD },
	{ SYS_sendmsg, "sendmsg", ARG_FD },
	{ SYS_accept, "accept", ARG_FD },
	{ SYS_accept4, "accept4", ARG_FD },
	{ SYS_connect, "connect", ARG_FD },
	{ SYS_fsync, "fsync", ARG_FD },
	{ SYS_fdatasync, "fdatasync", ARG_FD },
	{ SYS_flock, "flock", ARG_FD },
	{ SYS_fcntl, "fcntl", ARG_FD },
	{ SYS_ioctl, "ioctl", ARG_FD },
	{ SYS_epoll_pwait, "epoll_pwait", ARG_FD },
	{ SYS_epoll_pwait2, "epoll_pwait2", ARG_FD },
	{ SYS_ppoll, "ppoll", ARG_NONE },
	{ SYS_pselect6, "pselect6", ARG_NONE },
	{ SYS_nanosleep, "nanosleep", ARG_NONE },
	{ SYS_clock_nanosleep, "clock_nanosleep", ARG_NONE },
	{ SYS_wait4, "wait4", ARG_NONE },
	{ SYS_waitid, "waitid", ARG_NONE },
	{ SYS_rt_sigtimedwait, "rt_sigtimedwait", ARG_NONE },
	{ SYS_rt_sigsuspend, "rt_sigsuspend", ARG_NONE },
	{ SYS_msgrcv, "msgrcv", ARG_NONE },
	{ SYS_semtimedop, "semtimedop", ARG_NONE },
#ifdef __x86_64__
	{ SYS_poll, "poll", ARG_NONE },
	{ SYS_select, "select", ARG_NONE },
	{ SYS_pause, "pause", ARG_NONE },
	{ SYS_epoll_wait, "epoll_wait", ARG_FD },
#endif
};

static void known_call(const struct bht_thread *thread, size_t i, char *buf, size_t size)
{
	const char *name = blocking_calls[i].name;
	char held[32] = "";

	switch (blocking_calls[i].argument) {
	case ARG_FD:
		snprintf(buf, size, "%s (fd %lld)", name, (long long)thread->args[0]);
		return;
	case ARG_LOCK:
		if (thread->lock_word)
			snprintf(held, sizeof(held), ", which holds 0x%x", thread->lock_word);
		snprintf(buf, size, "%s (the lock or condition at 0x%llx%s)", name, (unsigned long long)thread->args[0],
			 held);
		return;
	case ARG_NONE:
		snprintf(buf, size, "%s", name);
	}
}

const char *bht_syscall_text(const struct bht_thread *thread, char *buf, size_t size)
{
	if (thread->syscall == BHT_SYSCALL_UNKNOWN) {
		snprintf(buf, size, "a system call that could not be read (%s)",
			 thread->wchan[0] ? thread->wchan : "no wait channel");
		return buf;
	}
	for (size_t i = 0; i < sizeof(blocking_calls) / sizeof(blocking_calls[0]); i++) {
		if (blocking_calls[i].number == thread->syscall) {
			known_call(thread, i, buf, size);
			return buf;
		}
	}
	if (thread->syscall >= 0)
		snprintf(buf, size, "system call %lld", (long long)thread->syscall);
	else
		snprintf(buf, size, "the kernel, outside a system call");
	return buf;
}
