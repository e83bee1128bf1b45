/* SPDX-License-Identifier: MIT */
/*
 * foreign.h - what the programs on stock loops share
 *
 * Each has a client thread that asks a loop, again and again, and waits for every answer.
 * One request in FOREIGN_RARE goes wrong, unless the variant is "fixed". The payload is in
 * two variables that an observer may read: produced, and consumed.
 */
#ifndef FOREIGN_H
#define FOREIGN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { FOREIGN_RARE = 64 };

extern uint64_t produced, consumed; /* requests made, requests answered */

struct foreign {
	const char *name;
	void (*ask)(bool faulty); /* tells the loop that a request was produced */
	bool locks;               /* the answer needs a lock, which the faulty request is made with */
	bool (*stuck)(void);      /* or NULL: everybody sleeps, and a request has no answer */
	bool fixed;
};

/* Reads --variant faulty|fixed and --rounds N (after which the fixed one is left idle). Exits when they are wrong. */
void foreign_open(struct foreign *f, int argc, char **argv);

/*
 * Starts the client and a monitor, which only looks: it says "hung pid=N" when nothing was
 * answered for half a second and stuck() agreed all the time, "idle pid=N" when all rounds are done
 * and everybody sleeps. Says "ready pid=N" itself. Call it before the loop runs, from its thread.
 */
void foreign_serve(struct foreign *f);

/* The loop's side: answers the request. */
void foreign_answer(void);

/* Whether the next answer is the one that goes wrong. */
bool foreign_goes_wrong(void);

/* Ends the program when WHAT could not be had. */
void foreign_need(bool ok, const char *what);

/* Starts a detached thread. */
void foreign_thread(const char *name, void *(*run)(void *), void *arg);

/* Returns when thread TID sleeps. */
void foreign_wait_asleep(pid_t tid);

/* Whether every thread but the caller sleeps. */
bool foreign_all_asleep(void);

/* The only eventfd that the program has: its loop's. */
int foreign_eventfd(void);

#endif
