/* SPDX-License-Identifier: MIT */
/* museum.h - what the pieces share: options, threads, saying that it hung */
#ifndef MUSEUM_H
#define MUSEUM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bh.h"

struct museum_piece {
	const char *name;
	const char *summary;         /* one line */
	const char *const *variants; /* NULL-terminated; the default first, the fixed control last */
	uint64_t control_rounds;     /* how long the fixed control runs unless told otherwise */
	bool has_workers;            /* takes --workers, --no-tickets and --count */
};

/* One run of a piece. */
struct museum {
	const struct museum_piece *piece;
	unsigned variant; /* index into piece->variants */
	bool fixed, idle_after, tickets, count;
	bool over; /* the loop's thread only */
	unsigned workers;
	uint64_t max_rounds; /* 0 for no limit */
	uint64_t begin_ns, end_ns;
	_Atomic uint64_t rounds; /* done so far; only the loop's thread writes it */
};

/* Reads the options; exits when they are wrong or ask for help. WORKERS is the
 * default for --workers. */
void museum_open(struct museum *m, const struct museum_piece *piece, unsigned workers, int argc, char **argv);

/* Ends the program when WHAT could not be had. */
void museum_need(bool ok, const char *what);

/* Starts a detached thread. */
void museum_thread(void *(*run)(void *), void *arg);

/* Keeps the calling thread on one of the processors it may use: 0 on the first,
 * all others on one of the rest. New threads inherit that. */
void museum_pin(unsigned n);

/* Watches the run: when no round was done for half a second and STUCK agrees,
 * says "hung pid=N". It only loads, so it neither hurries nor cures anything. */
void museum_watch(struct museum *m, bool (*stuck)(void));

/* N more rounds are done. Whether to go on; when not, the run is over, or with
 * --idle-after the loop is left idle. Loop thread. */
bool museum_advance(struct museum *m, unsigned n);

/* Runs the loop until the run is over, says how far it came. The loop sleeps
 * only after POLLS polls found nothing. */
void museum_run(struct museum *m, struct bh_loop *loop, unsigned polls);

/* Inside a loop that waits without sleeping. */
static inline void museum_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
