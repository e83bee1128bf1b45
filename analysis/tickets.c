/* SPDX-License-Identifier: MIT */
#include "tickets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- consumed early ----------------------------------------------------------------- */

static unsigned bit_of(uint64_t number)
{
	return (unsigned)(number * UINT64_C(0x9e3779b97f4a7c15) >> 54) % BHT_EARLY_BITS;
}

static void set_bit(struct bht_early *early, uint64_t number)
{
	early->filter[bit_of(number) / 64] |= UINT64_C(1) << bit_of(number) % 64;
}

static bool was_consumed_early(struct bht_early *early, uint64_t number)
{
	if (!(early->filter[bit_of(number) / 64] >> bit_of(number) % 64 & 1))
		return false;
	for (unsigned i = 0; i < BHT_EARLY_MAX; i++) {
		if (early->number[i] == number) {
			early->number[i] = 0;
			return true;
		}
	}
	return false;
}

static int consumed_early(struct bht_tickets *t, uint64_t number)
{
	struct bht_early *early = t->early ? t->early : calloc(1, sizeof(*early));

	if (!early)
		return -ENOMEM;
	t->early = early;
	early->number[early->n++ % BHT_EARLY_MAX] = number;
	set_bit(early, number);
	/* Now and then without those that were overwritten. */
	if (early->n % BHT_EARLY_MAX == 0) {
		memset(early->filter, 0, sizeof(early->filter));
		for (unsigned i = 0; i < BHT_EARLY_MAX; i++)
			set_bit(early, early->number[i]);
	}
	return 0;
}

/* --- open ----------------------------------------------------------------------------- */

static void drop_first(struct bht_tickets *t, size_t n)
{
	t->n -= n;
	t->first = t->n ? t->first + n : 0;
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
		drop_first(t, BHT_TICKETS_MAX / 2);
	/* Early, so that few open ones stay in few cache lines. */
	if (t->first >= 16 && t->first >= t->n)
		move_down(t);
	if (t->first + t->n < t->size)
		return 0;
	if (t->size < 2 * BHT_TICKETS_MAX && t->first <= t->size / 2)
		return grow(t);
	move_down(t);
	return 0;
}

int bht_ticket_announce(struct bht_tickets *t, uint64_t number, const struct bht_event *schedule, uint64_t previous)
{
	if (t->early && was_consumed_early(t->early, number))
		return 0;
	if (make_room(t) != 0)
		return -ENOMEM;
	t->unsorted |= number <= t->last;
	t->last = number;
	size_t i = t->first + t->n++;
	t->number[i] = number;
	t->ring[i] = (struct bht_ticket){ *schedule, previous };
	return 0;
}

/* Where NUMBER is among the open ones, or N. */
static size_t find(const struct bht_tickets *t, uint64_t number)
{
	size_t from = 0, to = t->n;

	while (t->unsorted && from < t->n && bht_ticket_number(t, from) != number)
		from++;
	while (!t->unsorted && from < to) {
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

	size_t i = first || !t->n ? 0 : find(t, number);
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
		drop_first(t, n);
}

void bht_tickets_free(struct bht_tickets *t)
{
	free(t->ring);
	free(t->number);
	free(t->early);
	*t = (struct bht_tickets){ 0 };
}
