/* SPDX-License-Identifier: MIT */
/*
 * Where the stack of a thread is, without stopping the thread. The kernel tells the stack pointer of one
 * that sleeps. One that runs is asked by a clock event, which interrupts it for some
 * microseconds as any timer does and wakes nothing; where that is not permitted, only the mapping is known.
 */
#include <asm/perf_regs.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process.h"

enum {
	SAMPLE_NS = 200 * 1000, /* CPU time from the event to the sample */
	WAIT_MS = 10,
	GUESS = 128 * 1024, /* bytes of a stack of which the live part is not known */
	DESCRIPTOR = 8192   /* bytes from the robust list of a thread to the end of what the C library keeps there */
};

/* --- a thread that runs ----------------------------------------------------------------- */

/* Registers are sampled in the order of the kernel's numbers for them. */
static const struct {
	unsigned perf, dwarf;
} sampled[] = {
#if defined(__x86_64__)
	{ PERF_REG_X86_BX, 3 },
	{ PERF_REG_X86_BP, 6 },
	{ PERF_REG_X86_SP, BHT_REGISTER_SP },
	{ PERF_REG_X86_IP, BHT_REGISTER_PC },
	{ PERF_REG_X86_R12, 12 },
	{ PERF_REG_X86_R13, 13 },
	{ PERF_REG_X86_R14, 14 },
	{ PERF_REG_X86_R15, 15 },
#elif defined(__aarch64__)
	{ PERF_REG_ARM64_SP, BHT_REGISTER_SP },
	{ PERF_REG_ARM64_PC, BHT_REGISTER_PC },
#endif
};

enum { N_SAMPLED = sizeof(sampled) / sizeof(sampled[0]) };

struct sample {
	struct perf_event_header header;
	uint64_t abi;
	uint64_t value[N_SAMPLED];
};

static int open_clock(uint32_t tid)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < N_SAMPLED; i++)
		mask |= UINT64_C(1) << sampled[i].perf;
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_TASK_CLOCK,
		.sample_period = SAMPLE_NS,
		.sample_type = PERF_SAMPLE_REGS_USER,
		.sample_regs_user = mask,
		.exclude_kernel = 1,
		.exclude_hv = 1,
		.wakeup_events = 1,
	};

	return (int)syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static bool sample_registers(uint32_t tid, struct bht_registers *r)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct pollfd pfd = { .fd = open_clock(tid), .events = POLLIN };
	struct sample s = { .abi = 0 };

	if (pfd.fd < 0)
		return false;
	struct perf_event_mmap_page *ring = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED, pfd.fd, 0);
	if (ring != MAP_FAILED && poll(&pfd, 1, WAIT_MS) == 1 &&
	    /* Pairs with the kernel's barrier before it moves the head: the record below it is whole. */
	    __atomic_load_n(&ring->data_head, __ATOMIC_ACQUIRE) >= sizeof(s))
		memcpy(&s, (char *)ring + page, sizeof(s));
	if (ring != MAP_FAILED)
		munmap(ring, 2 * page);
	close(pfd.fd);
	if (s.header.type != PERF_RECORD_SAMPLE || s.abi != PERF_SAMPLE_REGS_ABI_64)
		return false;
	for (unsigned i = 0; i < N_SAMPLED; i++) {
		r->value[sampled[i].dwarf] = s.value[i];
		r->known |= UINT64_C(1) << sampled[i].dwarf;
	}
	return true;
}

/* --- where its stack is ------------------------------------------------------------------- */

/* Field 28 of the stat line: where the stack of the main thread began. */
static uint64_t start_of_stack(struct bht_process *p)
{
	const char *at = bht_text_read(&p->proc.text, p->proc.files, "stat") ? NULL : strrchr(p->proc.text.data, ')');
	unsigned long long start = 0;

	if (at)
		sscanf(at + 1,
		       " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %*u %*u %*d %*u "
		       "%*u %*u %llu",
		       &start);
	return start;
}

/* The list of its robust mutexes begins in what the C library keeps of a thread, at the top of its stack;
 * 0 when it has none. */
static uint64_t thread_descriptor(uint32_t tid)
{
	void *head = NULL;
	size_t len;

	return syscall(SYS_get_robust_list, tid, &head, &len) ? 0 : (uintptr_t)head;
}

bool bht_process_running(struct bht_process *p, const struct bht_thread *thread, struct bht_registers *registers)
{
	if (!p->running_max)
		return false;
	p->running_max--;
	return sample_registers(thread->tid, registers);
}

enum bht_stack_known bht_process_stack(struct bht_process *p, const struct bht_thread *thread,
				       struct bht_registers *registers, uint64_t *end)
{
	const bool leader = thread->tid == p->pid;
	const uint64_t mark = leader ? start_of_stack(p) : thread_descriptor(thread->tid);
	uint64_t *sp = &registers->value[BHT_REGISTER_SP], *pc = &registers->value[BHT_REGISTER_PC];
	int rc = bht_procfs_registers(&p->proc, thread->tid, sp, pc);

	if (rc && rc != -EBUSY)
		return BHT_STACK_UNKNOWN;
	const struct bht_map *map = bht_process_map(p, rc ? mark : *sp);
	if (!map || !map->writable)
		return BHT_STACK_UNKNOWN;
	*end = map->end;
	/* The mapping above may be joined to that of the stack. */
	if (!leader && mark >= map->start && mark < map->end && map->end - mark > DESCRIPTOR && (rc || mark > *sp))
		*end = mark + DESCRIPTOR;
	registers->known = rc ? 0 : UINT64_C(1) << BHT_REGISTER_SP | UINT64_C(1) << BHT_REGISTER_PC;
	if (!rc)
		return BHT_STACK_EXACT;
	*sp = *end - map->start > GUESS ? *end - GUESS : map->start;
	return BHT_STACK_SOMEWHERE;
}
