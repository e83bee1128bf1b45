/* SPDX-License-Identifier: MIT */
#include "tickets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- consumed early ----------------------------------------------------------------- */

static uint8_t *count_of(struct bht_early *early, uint64_t number)
{
	return &early->count[number * UINT64_C(0x9e3779b97f4a7c15) >> 56];
}

static bool was_consumed_early(struct bht_early *early, uint64_t number)
{
	if (*count_of(early, number) == 0)
		return false;
	for (unsigned i = 0; i < BHT_EARLY_MAX; i++) {
		if (early->number[i] == number) {
			early->number[i] = 0;
			--*count_of(early, number);
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
	uint64_t *place = &early->number[early->n++ % BHT_EARLY_MAX];
	if (*place)
		--*count_of(early, *place);
	*place = number;
	++*count_of(early, number);
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

/* Those let go will be consumed, too, and that is not early. They are remembered
 * as long as their numbers have no gap: what is missing may be announced yet. */
static void let_go(struct bht_tickets *t, size_t n)
{
	uint64_t first = bht_ticket_number(t, 0);

	if (!t->unsorted && bht_ticket_number(t, n - 1) - first == n - 1) {
		if (first != t->gone + t->n_gone) {
			t->gone = first;
			t->n_gone = 0;
		}
		t->n_gone += n;
	}
	drop_first(t, n);
}

/* Each once: another producer may use the same numbers. */
static bool was_let_go(struct bht_tickets *t, uint64_t number)
{
	uint64_t passed = number - t->gone;

	if (passed >= t->n_gone)
		return false;
	t->gone = number + 1;
	t->n_gone -= passed + 1;
	return true;
}

/* Room for one more behind the last. */
static int make_room(struct bht_tickets *t)
{
	if (t->n == BHT_TICKETS_MAX)
		let_go(t, BHT_TICKETS_MAX / 2);
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

	if (!t->n || (!t->unsorted && number < bht_ticket_number(t, 0)))
		return t->n;
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

	if (number == 0)
		return 0;
	size_t i = first ? 0 : find(t, number);
	if (i == t->n)
		return was_let_go(t, number) ? 0 : consumed_early(t, number);
	if (i) {
		memmove(t->ring + t->first + 1, t->ring + t->first, i * sizeof(*t->ring));
		memmove(t->number + t->first + 1, t->number + t->first, i * sizeof(*t->number));
	}
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
