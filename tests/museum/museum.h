/* SPDX-License-Identifier: MIT */
/* museum.h - what the pieces share: options, threads, saying that it hung */
#ifndef MUSEUM_H
#define MUSEUM_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bh.h"

struct museum_piece {
	const char *name;
	const char *summary;         /* one line */
	const char *const *variants; /* NULL-terminated; the default first, the fixed control last */
	uint64_t control_rounds;     /* how long the fixed control runs unless told otherwise */
	bool has_workers;            /* takes --workers and --count */
};

/* One run of a piece. */
struct museum {
	const struct museum_piece *piece;
	unsigned variant; /* index into piece->variants */
	bool fixed, idle_after, tickets, count;
	bool over; /* the loop's thread only */
	unsigned workers;
	void (*before_sleep)(void); /* called by museum_run() before a poll that may sleep; or NULL */
	uint64_t max_rounds;        /* 0 for no limit */
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

/* Watches the run: when no round was done for half a second and STUCK agreed all
 * the time, says "hung pid=N". It only looks, so it neither hurries nor cures
 * anything. */
void museum_watch(struct museum *m, bool (*stuck)(void));

/* Whether every other thread sleeps: none is on its way, however slow the
 * machine is. For STUCK. */
bool museum_all_asleep(void);

/* Whether LOOP sleeps and wants to be told. */
bool museum_loop_asleep(const struct bh_loop *loop);

/* Says "late pid=N" when LOOP sleeps without a time limit, and does not return:
 * an observer may be looking at the threads already. Not from the loop's thread. */
_Noreturn void museum_late(struct museum *m, const struct bh_loop *loop);

/* N more rounds are done. Whether to go on; when not, the run is over, or with
 * --idle-after the loop is left idle. Loop thread. */
bool museum_advance(struct museum *m, unsigned n);

/* Runs the loop until the run is over, says how far it came. The loop sleeps
 * only after POLLS polls found nothing. */
void museum_run(struct museum *m, struct bh_loop *loop, unsigned polls);

/* What to schedule with for a piece of work: its ticket, or 0 with --no-tickets. */
static inline uint64_t museum_ticket(const struct museum *m, uint64_t ticket)
{
	return m->tickets ? ticket : 0;
}

/* bh_consume(), unless tickets are off. */
static inline void museum_consume(const struct museum *m, struct bh *bh, uint64_t ticket)
{
	if (m->tickets)
		bh_consume(bh, ticket);
}

/* --- requests: a client asks a bottom half and waits for its answer, a round each --- */

struct museum_service {
	struct museum *m;
	struct bh *bh;
	_Atomic uint64_t asked; /* ticket of the latest request */
	sem_t answered;
};

/* Makes the bottom half "request" in LOOP. */
void museum_service_open(struct museum_service *s, struct museum *m, struct bh_loop *loop);

/* Asks by scheduling. Any thread, one at a time. */
void museum_ask(struct museum_service *s, uint64_t ticket);

/* The same, but for the last step of its schedule: nobody tells the loop. */
void museum_ask_silently(struct museum_service *s, uint64_t ticket);

/* Waits for the answer; looks SPINS times before it sleeps. */
void museum_await(struct museum_service *s, unsigned spins);

/* Whether the request is scheduled and everybody sleeps, the loop in its wait;
 * for museum_watch(). */
bool museum_unanswered(struct museum_service *s);

/* --- a second thread that polls the loop ------------------------------------------- */

/*
 * As QEMU's vCPU threads do: a lock belongs to the loop's thread, which lets go
 * of it only while it waits, and meanwhile POLL may be called by a thread of
 * its own. From the loop's thread, before it polls.
 */
void museum_second_poller(struct bh_loop *loop, void (*poll)(struct bh_loop *loop));

/* Lets it poll once, soon. Any thread. */
void museum_second_poll(void);

/* --- patience and chance ------------------------------------------------------------ */

/* sem_wait() that looks SPINS times before it sleeps. */
void museum_down(sem_t *sem, unsigned spins);

/* Below N, which is not 0; each thread has a sequence of its own. */
unsigned museum_random(unsigned n);

/* Inside a loop that waits without sleeping. */
static inline void museum_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline void museum_spin(unsigned n)
{
	while (n-- > 0)
		museum_relax();
}

#endif
