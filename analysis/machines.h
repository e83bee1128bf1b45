/* SPDX-License-Identifier: MIT */
/*
 * machines.h - what a history says about each bottom half, loop and thread
 *
 * Events are fed in merged order. A machine keeps the latest operations that
 * the rules ask for, and the most recent events as witnesses; so memory grows
 * with the objects and with tickets in flight, not with the history.
 *
 * Stamps of different threads are not trusted to the nanosecond: a callback may
 * be stamped as having consumed a ticket before the schedule that announced it.
 */
#ifndef BHT_MACHINES_H
#define BHT_MACHINES_H

#include <stdbool.h>

#include "event.h"
#include "map.h"

enum { BHT_RECENT = 32, BHT_EARLY_MAX = 4096 };

/* The last events of an object, oldest overwritten first. */
struct bht_recent {
	struct bht_event event[BHT_RECENT];
	uint64_t n; /* ever added */
};

/* A ticket that was announced and not consumed. */
struct bht_ticket {
	uint64_t number;
	struct bht_event schedule;
	uint64_t previous; /* time of the scheduling thread's event before it, 0 when there is none */
};

struct bht_tickets {
	struct bht_ticket *open;
	size_t n, size;
	uint64_t *early; /* consumed, as far as the stamps go, before they were announced */
	size_t n_early;
};

/* The flag machine. An event whose time is 0 was not seen. */
struct bht_bh_machine {
	uint64_t addr;
	struct bht_event effective;                        /* last schedule that saw 0 */
	struct bht_event coalesced;                        /* last schedule that saw 1 */
	struct bht_event unannounced;                      /* last one of these that carried no ticket */
	uint64_t coalesced_previous, unannounced_previous; /* as in struct bht_ticket */
	struct bht_event begin, end;                       /* last execution */
	struct bht_event notify;                           /* last notification for it */
	uint64_t consumed;                                 /* tickets, ever */
	struct bht_tickets tickets;
	struct bht_recent recent;
};

/* The notify and loop machine. */
struct bht_loop_machine {
	uint64_t addr;
	struct bht_recent recent; /* poll, wait, notify, accept */
};

struct bht_thread_machine {
	uint32_t tid;
	char name[BHP_TEXT_MAX + 1];
	uint64_t last;           /* time of its last event */
	uint64_t complete_since; /* nothing is missing from here on; 0: from its beginning */
	struct bht_map polls;    /* loops it was seen polling, key = value = address */
};

struct bht_machines {
	struct bht_map bhs, loops, threads;
	uint64_t n_events;
	uint64_t lost;               /* events known to be missing, all threads */
	uint64_t all_complete_since; /* for every thread, from losses of no thread in particular */
	unsigned losses[8];          /* loss events by enum bht_loss_why */
};

/* Feeds one event. 0 or -ENOMEM. */
int bht_machines_feed(struct bht_machines *m, const struct bht_event *e);

/* NULL when the history does not mention it. */
struct bht_bh_machine *bht_machine_bh(const struct bht_machines *m, uint64_t addr);
struct bht_loop_machine *bht_machine_loop(const struct bht_machines *m, uint64_t addr);
struct bht_thread_machine *bht_machine_thread(const struct bht_machines *m, uint32_t tid);

/* From which time on the history of all threads is complete. */
uint64_t bht_complete_since(const struct bht_machines *m);

/* The same for the threads that poll LOOP: OWNER and those seen polling it. */
uint64_t bht_pollers_complete_since(const struct bht_machines *m, uint64_t loop, uint32_t owner);

void bht_machines_free(struct bht_machines *m);

#endif
