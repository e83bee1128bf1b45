/* SPDX-License-Identifier: MIT */
/*
 * What each thread was doing, from its registers.
 *
 * A sleeping thread has to leave its system call before it can be dumped; the
 * kernel then puts into the result register why, and that is what tells it from
 * a thread that just returned. -ERESTART* of include/linux/errno.h are never
 * seen by a program; calls that must not be restarted give -EINTR (signal(7)).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/user.h>

#include "array.h"
#include "core_elf.h"

enum { ERESTARTSYS = 512, ERESTARTNOINTR = 513, ERESTARTNOHAND = 514, ERESTART_RESTARTBLOCK = 516 };

typedef struct elf_prstatus status_note;
typedef struct elf_prpsinfo info_note;

/* Layouts of the kernel's ABI, include/linux/elfcore.h. */
_Static_assert(offsetof(status_note, pr_pid) == 32 && offsetof(status_note, pr_reg) == 112, "NT_PRSTATUS");
_Static_assert(offsetof(info_note, pr_pid) == 24 && offsetof(info_note, pr_fname) == 40, "NT_PRPSINFO");
_Static_assert(sizeof(elf_gregset_t) == sizeof(struct user_regs_struct), "registers");

/* Whether the instruction at ADDR is CODE; 1, 0, or -1 when the core does not
 * have it: program text seldom is in one. */
static int is_at(struct bht_memory *mem, uint64_t addr, const void *code, size_t len)
{
	unsigned char there[4];

	return bht_read(mem, addr, there, len) ? -1 : !memcmp(there, code, len);
}

#if defined(__x86_64__)

static bool interrupted(int64_t result)
{
	return result == -EINTR || result == -ERESTARTSYS || result == -ERESTARTNOINTR || result == -ERESTARTNOHAND ||
	       result == -ERESTART_RESTARTBLOCK;
}

/* orig_rax is the number of the call, negative outside one. */
static void decode(struct bht_memory *mem, const struct user_regs_struct *regs, struct bht_thread *thread)
{
	const uint64_t args[6] = { regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9 };

	if ((int64_t)regs->orig_rax < 0 || !interrupted((int64_t)regs->rax))
		return;
	thread->state = 'S';
	/* int 0x80 has numbers of its own. */
	thread->syscall = BHT_SYSCALL_UNKNOWN;
	if (!is_at(mem, regs->rip - 2, "\x0f\x05", 2))
		return;
	thread->syscall = (int64_t)regs->orig_rax;
	memcpy(thread->args, args, sizeof(args));
}

static void keep(const struct user_regs_struct *regs, struct bht_registers *r)
{
	r->value[3] = regs->rbx;
	r->value[6] = regs->rbp;
	r->value[BHT_REGISTER_SP] = regs->rsp;
	r->value[12] = regs->r12;
	r->value[13] = regs->r13;
	r->value[14] = regs->r14;
	r->value[15] = regs->r15;
	r->value[BHT_REGISTER_PC] = regs->rip;
	r->known = UINT64_C(1) << 3 | UINT64_C(1) << 6 | UINT64_C(1) << BHT_REGISTER_SP | UINT64_C(0xf) << 12 |
		   UINT64_C(1) << BHT_REGISTER_PC;
}

#elif defined(__aarch64__)

static void keep(const struct user_regs_struct *regs, struct bht_registers *r)
{
	r->value[BHT_REGISTER_SP] = regs->sp;
	r->value[BHT_REGISTER_PC] = regs->pc;
	r->known = UINT64_C(1) << BHT_REGISTER_SP | UINT64_C(1) << BHT_REGISTER_PC;
}

/* The kernel winds a call that will be restarted back to its instruction before
 * it dumps (do_signal() in arch/arm64/kernel/signal.c), which nothing but that
 * instruction tells; after -EINTR the result is where the first argument was. */
static void decode(struct bht_memory *mem, const struct user_regs_struct *regs, struct bht_thread *thread)
{
	static const unsigned char svc[4] = { 0x01, 0x00, 0x00, 0xd4 };
	const int rewound = is_at(mem, regs->pc, svc, 4);
	const bool broken_off = (int64_t)regs->regs[0] == -EINTR && is_at(mem, regs->pc - 4, svc, 4) != 0;

	if (rewound <= 0 && !broken_off) {
		thread->state = rewound ? '?' : 'R';
		thread->syscall = rewound ? BHT_SYSCALL_UNKNOWN : BHT_SYSCALL_RUNNING;
		return;
	}
	thread->state = 'S';
	thread->syscall = (int64_t)regs->regs[8];
	memcpy(thread->args, regs->regs, sizeof(thread->args));
	if (rewound <= 0)
		thread->args[0] = UINT64_MAX;
}

#endif

static int add_thread(struct bht_memory *mem, struct bht_core_process *process, const unsigned char *desc)
{
	struct user_regs_struct regs;
	status_note status;

	memcpy(&status, desc, sizeof(status));
	memcpy(&regs, status.pr_reg, sizeof(regs));
	if (status.pr_pid <= 0 || process->n_threads == BHT_CORE_THREADS_MAX) {
		process->n_strange++;
		return 0;
	}
	if (!bht_room_for_one(&process->threads, process->n_threads, sizeof(*process->threads)) ||
	    !bht_room_for_one(&process->registers, process->n_threads, sizeof(*process->registers)))
		return -ENOMEM;
	struct bht_core_registers *kept = &process->registers[process->n_threads];
	*kept = (struct bht_core_registers){ .tid = (uint32_t)status.pr_pid };
	keep(&regs, &kept->registers);
	struct bht_thread *thread = &process->threads[process->n_threads++];
	*thread = (struct bht_thread){ .tid = (uint32_t)status.pr_pid,
				       .ns_tid = (uint32_t)status.pr_pid,
				       .state = 'R',
				       .syscall = BHT_SYSCALL_RUNNING };
	decode(mem, &regs, thread);
	return 0;
}

int bht_core_process_note(struct bht_memory *mem, struct bht_core_process *process, uint32_t type,
			  const unsigned char *desc, size_t size)
{
	info_note info;

	if (type == NT_PRSTATUS && size == sizeof(status_note))
		return add_thread(mem, process, desc);
	process->n_strange += type == NT_PRSTATUS;
	if (type != NT_PRPSINFO || size != sizeof(info) || process->pid)
		return 0;
	memcpy(&info, desc, sizeof(info));
	if (info.pr_pid > 0)
		process->pid = (uint32_t)info.pr_pid;
	memcpy(process->command, info.pr_fname, sizeof(process->command) - 1);
	return 0;
}
