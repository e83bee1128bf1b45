/* SPDX-License-Identifier: MIT */
/*
 * stacks.h - the call stack of every thread
 *
 * For after the evidence is safe. Of a process it takes ptrace: each thread in
 * turn is stopped while its stack is walked, and a stop makes a blocked
 * epoll_wait() return, which heals a hung loop. Of a core it disturbs nobody.
 *
 * Symbols come from files on this machine; nothing is downloaded.
 */
#ifndef BHT_STACKS_H
#define BHT_STACKS_H

#include "registry.h"

enum { BHT_FRAMES_MAX = 64, BHT_STACKS_MAX = 4096 };

/* Strings are NULL when not known, and otherwise as the files have them: escape
 * before printing. */
struct bht_frame {
	uint64_t address; /* of the next instruction, in the outer frames of the return */
	char *symbol;
	uint64_t offset; /* of the address in the symbol */
	char *module;
	char *file;
	int line;
};

struct bht_stack {
	uint32_t tid;
	uint64_t stopped_us;      /* how long the thread was stopped for this, at most */
	struct bht_frame *frames; /* innermost first */
	unsigned n_frames;
	char why[100]; /* why there are no more frames, "" at the outermost */
};

struct bht_stacks {
	struct bht_stack *threads;
	size_t n;
	bool more; /* there are more than BHT_STACKS_MAX threads */
};

/*
 * The stacks of process PID, or of the core at path CORE with the program EXE
 * (NULL: the one that the core names). 0, or -errno with REFUSAL: ESRCH, EPERM,
 * EBADMSG when no thread could be walked. Free with bht_stacks_free() in any
 * case. Not thread-safe: sets DEBUGINFOD_URLS to nothing.
 */
int bht_stacks_collect(uint32_t pid, struct bht_stacks *out, struct bht_refusal *refusal);
int bht_stacks_core(const char *core, const char *exe, struct bht_stacks *out, struct bht_refusal *refusal);
void bht_stacks_free(struct bht_stacks *stacks);

#endif
