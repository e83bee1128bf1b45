/* SPDX-License-Identifier: MIT */
/* watch_look.h - a closer look at a process, by a child of bhtrace watch */
#ifndef BHTRACE_WATCH_LOOK_H
#define BHTRACE_WATCH_LOOK_H

#include "record.h"
#include "watch.h"

struct watch_named {
	uint64_t addr;
	char name[BHP_NAME_SIZE];
};

/* What a look gives, in front of the names. */
struct watch_seen {
	int error; /* errno */
	enum bht_verdict verdict;
	bool stable;
	struct record_hang hang; /* of the first finding, when it is one */
	char bh[BHP_NAME_SIZE], loop[BHP_NAME_SIZE];
	char sentence[1024], snapshot[512];
};

/* Nothing of the terminal, no signal that the parent takes. For a child. */
void watch_become_silent(void);

/*
 * Looks at process PID; once more when it hangs. Writes a struct watch_seen to TO and
 * the names of all objects. Keeps a snapshot in DIR, unless that is NULL, when both looks
 * agree on a hang that is not KEPT.
 */
_Noreturn void watch_look(uint32_t pid, const struct record_hang *kept, const char *dir, int to);

#endif
