/* SPDX-License-Identifier: MIT */
/* syscalls.h - what a thread is blocked in, in words */
#ifndef BHT_SYSCALLS_H
#define BHT_SYSCALLS_H

#include "evidence.h"

/* "futex (waits for the lock at 0x7f..)", "read (fd 3)", "system call 17",
 * "a page fault or the scheduler", in a buffer of the caller. x86_64 and
 * aarch64 numbers, those of the machine this runs on. */
const char *bht_syscall_text(const struct bht_thread *thread, char *buf, size_t size);

#endif
