/* SPDX-License-Identifier: MIT */
/*
 * The root: where an observer starts. It is found through an ELF note, which is
 * loaded with the program and survives strip, or through its exported symbol.
 */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "lttng.h"
#include "recorder.h"

static struct bhp_field_info field_table[BHP_FIELD_INFO_MAX];

/* Exported, and found by the note. Written at start-up, so it is in a core. */
__attribute__((visibility("default"), used)) struct bhp_root bhp_flight_root = {
	.magic = BHP_ROOT_MAGIC,
	.abi = BHP_ABI,
	.size = sizeof(struct bhp_root),
	.record_size = sizeof(struct bhp_record),
	.ring_header = BHP_RING_HEADER,
	.fields = field_table,
};

/* A relative descriptor needs no relocation, so the note stays read-only and
 * is right in a PIE, in a shared library and in a static program alike. The
 * hidden alias keeps the linker from asking for a dynamic symbol. */
__asm__(".pushsection .note.bhtrace, \"a\", %note\n"
	"	.balign 4\n"
	"	.long 2f - 1f\n"
	"	.long 4f - 3f\n"
	"	.long 1\n" /* BHP_NOTE_ROOT */
	"1:	.asciz \"bhtrace\"\n"
	"2:	.balign 4\n"
#if defined(__x86_64__)
	"3:	.quad bhp_root_alias - 3b\n"
#else
	"3:	.xword bhp_root_alias - 3b\n"
#endif
	"4:	.balign 4\n"
	".popsection\n");
extern struct bhp_root bhp_root_alias __attribute__((alias("bhp_flight_root"), visibility("hidden")));

/* The tightest of a few tries: the first call of clock_gettime() is slow, and
 * one that was interrupted is no pair. */
struct bhp_clock_pair bhp_clock_pair(void)
{
	struct bhp_clock_pair best = { 0, 0 };
	uint64_t narrowest = UINT64_MAX;

	for (int i = 0; i < 3; i++) {
		struct timespec t;
		const uint64_t before = bhp_clock();
		clock_gettime(CLOCK_MONOTONIC, &t);
		const uint64_t width = bhp_clock() - before;
		if (width < narrowest) {
			narrowest = width;
			best.ticks = before + width / 2;
			best.mono_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
		}
	}
	return best;
}

static void before_fork(void)
{
	bhp_rings_before_fork();
	bhp_pool_before_fork();
}

static void in_parent(void)
{
	bhp_pool_after_fork(false);
	bhp_rings_after_fork(false);
}

static void in_child(void)
{
	/* Files of the child: its process id may be an earlier child's. */
	bhp_flight_root.clock[0] = bhp_flight_root.clock[1] = bhp_clock_pair();
	bhp_files_in_child();
	bhp_pool_after_fork(true);
	bhp_rings_after_fork(true);
	bhp_lttng_in_child();
	atomic_store_explicit(&bhp_flight_root.pid, (uint32_t)getpid(), memory_order_relaxed);
}

__attribute__((constructor)) static void start(void)
{
	bhp_flight_root.clock[0] = bhp_flight_root.clock[1] = bhp_clock_pair();
	bhp_flight_root.n_fields = bhp_schema(field_table);
	atomic_store_explicit(&bhp_flight_root.pid, (uint32_t)getpid(), memory_order_relaxed);
	atomic_store_explicit(&bhp_flight_root.mode, (uint32_t)bhp_config()->mode, memory_order_relaxed);
	pthread_atfork(before_fork, in_parent, in_child);
	bhp_lttng_find();
}
