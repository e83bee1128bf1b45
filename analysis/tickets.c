/* SPDX-License-Identifier: MIT */
#include "tickets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool was_consumed_early(struct bht_tickets *t, uint64_t number)
{
	for (size_t i = t->n_early; i-- > 0;) {
		if (t->early[i] == number) {
			t->early[i] = t->early[--t->n_early];
			return true;
		}
	}
	return false;
}

/* When there are too many, the announcement of an old one was lost. */
static int consumed_early(struct bht_tickets *t, uint64_t number)
{
	if (!t->early) {
		t->early = calloc(BHT_EARLY_MAX, sizeof(*t->early));
		if (!t->early)
			return -ENOMEM;
	}
	if (t->n_early == BHT_EARLY_MAX)
		memmove(t->early, t->early + 1, --t->n_early * sizeof(*t->early));
	t->early[t->n_early++] = number;
	return 0;
}

static void drop_first(struct bht_tickets *t, size_t n)
{
	t->n -= n;
	t->first = t->n ? t->first + n : 0;
}

/* Not consumed, and not asked for any more. */
static void let_go(struct bht_tickets *t, size_t n)
{
	t->let_go = bht_ticket_number(t, n - 1);
	drop_first(t, n);
}

static void move_down(struct bht_tickets *t)
{
	memmove(t->ring, t->ring + t->first, t->n * sizeof(*t->ring));
	memmove(t->number, t->number + t->first, t->n * sizeof(*t->number));
	t->first = 0;
}

static int grow(struct bht_tickets *t)
{
	size_t size = t->size ? t->size * 2 : 16;
	struct bht_ticket *ring = reallocarray(t->ring, size, sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	t->ring = ring;
	uint64_t *number = reallocarray(t->number, size, sizeof(*number));
	if (!number)
		return -ENOMEM;
	t->number = number;
	t->size = size;
	return 0;
}

/* Room for one more behind the last. */
static int make_room(struct bht_tickets *t)
{
	if (t->n == BHT_TICKETS_MAX)
		let_go(t, BHT_TICKETS_MAX / 2);
	if (t->first + t->n < t->size)
		return 0;
	if (t->size < 2 * BHT_TICKETS_MAX && t->first <= t->size / 2)
		return grow(t);
	move_down(t);
	return 0;
}

int bht_ticket_announce(struct bht_tickets *t, uint64_t number, const struct bht_event *schedule, uint64_t previous)
{
	if (t->n_early && was_consumed_early(t, number))
		return 0;
	if (make_room(t) != 0)
		return -ENOMEM;
	if (number <= (t->n ? bht_ticket_number(t, t->n - 1) : t->let_go))
		t->unsorted = true;
	size_t i = t->first + t->n++;
	t->number[i] = number;
	t->ring[i] = (struct bht_ticket){ *schedule, previous };
	return 0;
}

/* Where NUMBER is, or N. */
static size_t find(const struct bht_tickets *t, uint64_t number)
{
	size_t from = 0, to = t->n;

	if (t->unsorted) {
		while (from < to && bht_ticket_number(t, from) != number)
			from++;
		return from;
	}
	while (from < to) {
		size_t middle = (from + to) / 2;
		if (bht_ticket_number(t, middle) < number)
			from = middle + 1;
		else
			to = middle;
	}
	return from < t->n && bht_ticket_number(t, from) == number ? from : t->n;
}

int bht_ticket_consume(struct bht_tickets *t, uint64_t number)
{
	bool first = t->n && bht_ticket_number(t, 0) == number;

	/* Below what was let go there may be another producer's, not announced yet. */
	size_t i = first ? 0 : find(t, number);
	if (i == t->n)
		return consumed_early(t, number);
	memmove(t->ring + t->first + 1, t->ring + t->first, i * sizeof(*t->ring));
	memmove(t->number + t->first + 1, t->number + t->first, i * sizeof(*t->number));
	drop_first(t, 1);
	return 0;
}

void bht_tickets_forget(struct bht_tickets *t, uint64_t time)
{
	size_t n = 0;

	while (n < t->n && bhp_record_time(&bht_ticket(t, n)->schedule.r) < time)
		n++;
	if (n)
		let_go(t, n);
}

void bht_tickets_free(struct bht_tickets *t)
{
	free(t->ring);
	free(t->number);
	free(t->early);
	*t = (struct bht_tickets){ 0 };
}
