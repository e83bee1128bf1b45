/* SPDX-License-Identifier: MIT */
/*
 * tickets.h - the work that was announced to one bottom half and not consumed
 *
 * Bounded: an execution that began long enough after an announcement has seen
 * that work, so older tickets are let go when it ends; beyond BHT_TICKETS_MAX
 * the oldest give way.
 */
#ifndef BHT_TICKETS_H
#define BHT_TICKETS_H

#include <stdbool.h>
#include <stddef.h>

#include "event.h"

enum { BHT_TICKETS_MAX = 256, BHT_EARLY_MAX = 128 };

struct bht_ticket {
	struct bht_event schedule;
	uint64_t previous; /* time of the scheduling thread's event before it, 0 when there is none */
};

/*
 * Consumed, as far as the stamps go, before they were announced: a producer may
 * lose the CPU between its exchange and its record. Oldest overwritten first;
 * also those whose announcement was lost or let go are here for a while.
 */
struct bht_early {
	uint64_t number[BHT_EARLY_MAX]; /* 0: announced since */
	uint8_t count[256];             /* of those here, by hash */
	uint64_t n;                     /* ever added */
};

/* Zero-initialised is empty. */
struct bht_tickets {
	/* Room for SIZE, in use are N from FIRST on. Apart, because most is
	 * looked for and not looked at. */
	uint64_t *number;
	struct bht_ticket *ring;
	size_t first, n, size;
	bool unsorted;           /* numbers were not announced in their order */
	uint64_t last;           /* number announced last */
	uint64_t gone, n_gone;   /* first of that many numbers that were announced and gave way */
	struct bht_early *early; /* NULL: none so far */
};

/* The I-th of N open tickets, oldest first. */
static inline const struct bht_ticket *bht_ticket(const struct bht_tickets *t, size_t i)
{
	return &t->ring[t->first + i];
}

static inline uint64_t bht_ticket_number(const struct bht_tickets *t, size_t i)
{
	return t->number[t->first + i];
}

/* 0 or -ENOMEM. */
int bht_ticket_announce(struct bht_tickets *t, uint64_t number, const struct bht_event *schedule, uint64_t previous);
int bht_ticket_consume(struct bht_tickets *t, uint64_t number);

/* Forgets what was announced before TIME. */
void bht_tickets_forget(struct bht_tickets *t, uint64_t time);

void bht_tickets_free(struct bht_tickets *t);

#endif
