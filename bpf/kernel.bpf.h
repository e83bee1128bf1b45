/* SPDX-License-Identifier: MIT */
/*
 * kernel.bpf.h - what of the kernel's own types is looked at
 *
 * Only the members that are used. Where they lie is filled in from the BTF of the
 * running kernel when a program is loaded.
 */
#ifndef BHB_KERNEL_BPF_H
#define BHB_KERNEL_BPF_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct mm_struct;

struct signal_struct {
	atomic_t live; /* threads that have not begun to exit */
	unsigned int flags;
};

struct task_struct {
	int pid;
	int tgid;
	struct mm_struct *mm;
	struct signal_struct *signal;
	unsigned int __state;
};

/* before Linux 5.14 */
struct task_struct___state {
	long state;
};

/* Registers at a system call; by the kernel's names, not those of <linux/ptrace.h>. */
struct pt_regs___call {
#if defined(__TARGET_ARCH_x86)
	unsigned long di, si, dx, r10, r8;
#else
	__u64 regs[31];
#endif
};

#pragma clang attribute pop

#if defined(__TARGET_ARCH_x86)
#define BHB_ARG1(regs) ((regs)->di)
#define BHB_ARG2(regs) ((regs)->si)
#define BHB_ARG3(regs) ((regs)->dx)
#define BHB_ARG4(regs) ((regs)->r10)
#else
#define BHB_ARG1(regs) ((regs)->regs[0])
#define BHB_ARG2(regs) ((regs)->regs[1])
#define BHB_ARG3(regs) ((regs)->regs[2])
#define BHB_ARG4(regs) ((regs)->regs[3])
#endif

/* SIGNAL_GROUP_EXIT, <linux/sched/signal.h> of the kernel: all threads are about to exit. */
enum { BHB_GROUP_EXIT = 4 };

/* Bits of a task's state; <linux/sched.h> of the kernel. Where these are wrong, a switch says
 * another reason than it had. */
enum { BHB_INTERRUPTIBLE = 1, BHB_SLEEPING = 2, BHB_STOPPED = 4 | 8, BHB_DEAD = 0x10 | 0x20 | 0x80 };

#endif
