/* SPDX-License-Identifier: MIT */
/* The set of open tickets, against a plain array; its bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tickets.h"

enum { NUMBERS = 64, ROUNDS = 20000 };

static struct bht_event schedule_at(uint64_t time)
{
	return (struct bht_event){ .r = bhp_encode_schedule(time, &(struct bhp_schedule){ .loop = (void *)0x1000,
											  .bh = (void *)0x2000 }) };
}

static void announce(struct bht_tickets *t, uint64_t number, uint64_t time)
{
	struct bht_event e = schedule_at(time);

	assert_int_equal(bht_ticket_announce(t, number, &e, time - 1), 0);
}

static void announced_and_consumed(void **state)
{
	struct bht_tickets t = { 0 };

	(void)state;
	announce(&t, 7, 100);
	announce(&t, 8, 200);
	assert_int_equal(t.n, 2);
	assert_int_equal(bht_ticket_number(&t, 0), 7);
	assert_int_equal(bhp_record_time(&bht_ticket(&t, 1)->schedule.r), 200);
	assert_int_equal(bht_ticket(&t, 1)->previous, 199);
	assert_int_equal(bht_ticket_consume(&t, 7), 0);
	assert_int_equal(t.n, 1);
	assert_int_equal(bht_ticket_number(&t, 0), 8);
	bht_tickets_free(&t);
	assert_int_equal(t.n, 0);
}

/* The stamps of two threads may say that it was consumed first. */
static void consumed_before_announced(void **state)
{
	struct bht_tickets t = { 0 };

	(void)state;
	assert_int_equal(bht_ticket_consume(&t, 7), 0);
	announce(&t, 7, 100);
	assert_int_equal(t.n, 0);
	/* Once: the same number announced again is open. */
	announce(&t, 7, 200);
	assert_int_equal(t.n, 1);
	bht_tickets_free(&t);
}

/* Two producers count for themselves: what the loop consumes early may have a
 * lower number than what the other one announced and was let go. */
static void consumed_early_below_what_was_let_go(void **state)
{
	struct bht_tickets t = { 0 };

	(void)state;
	announce(&t, 1000, 100);
	announce(&t, 1001, 200);
	bht_tickets_forget(&t, 300);
	assert_int_equal(bht_ticket_consume(&t, 5), 0);
	announce(&t, 5, 400);
	assert_int_equal(t.n, 0);
	bht_tickets_free(&t);
}

static void forgotten_before_a_time(void **state)
{
	struct bht_tickets t = { 0 };

	(void)state;
	for (uint64_t i = 1; i <= 10; i++)
		announce(&t, i, i * 100);
	bht_tickets_forget(&t, 500);
	assert_int_equal(t.n, 6);
	assert_int_equal(bht_ticket_number(&t, 0), 5);
	bht_tickets_forget(&t, UINT64_MAX);
	assert_int_equal(t.n, 0);
	bht_tickets_free(&t);
}

/* The oldest give way, the newest are kept. */
static void bounded(void **state)
{
	struct bht_tickets t = { 0 };

	(void)state;
	for (uint64_t i = 1; i <= 10 * BHT_TICKETS_MAX; i++) {
		announce(&t, i, i);
		assert_true(t.n <= BHT_TICKETS_MAX);
	}
	assert_int_equal(bht_ticket_number(&t, t.n - 1), 10 * BHT_TICKETS_MAX);
	for (uint64_t i = 1; i <= 10 * BHT_EARLY_MAX; i++)
		assert_int_equal(bht_ticket_consume(&t, UINT64_C(1) << 32 | i), 0);
	announce(&t, UINT64_C(1) << 32 | (10 * BHT_EARLY_MAX), 1);
	assert_int_equal(bht_ticket_number(&t, t.n - 1), 10 * BHT_TICKETS_MAX);
	bht_tickets_free(&t);
}

/* What gave way is consumed later, and is not taken for early. */
static void consumed_after_it_gave_way(void **state)
{
	struct bht_tickets t = { 0 };
	uint64_t n = 0;

	(void)state;
	while (n <= BHT_TICKETS_MAX)
		n++, announce(&t, n, n);
	for (uint64_t i = 1; i <= BHT_TICKETS_MAX / 2; i++)
		assert_int_equal(bht_ticket_consume(&t, i), 0);
	assert_null(t.early);
	/* Number 5 of another producer, and its announcement after it. */
	assert_int_equal(bht_ticket_consume(&t, 5), 0);
	size_t open = t.n;
	announce(&t, 5, ++n);
	assert_int_equal(t.n, open);
	bht_tickets_free(&t);
}

/* A number that was missing among them was announced by nobody so far. */
static void consumed_early_in_a_gap_of_what_gave_way(void **state)
{
	struct bht_tickets t = { 0 };

	(void)state;
	for (uint64_t n = 1; n <= BHT_TICKETS_MAX + 2; n++)
		if (n != 100)
			announce(&t, n, n);
	assert_int_equal(bht_ticket_consume(&t, 100), 0);
	size_t open = t.n;
	announce(&t, 100, 5000);
	assert_int_equal(t.n, open);
	bht_tickets_free(&t);
}

static bool is_open(const struct bht_tickets *t, uint64_t number)
{
	for (size_t i = 0; i < t->n; i++)
		if (bht_ticket_number(t, i) == number)
			return true;
	return false;
}

/* Any order of announcing and consuming, as a plain array has it. */
static void same_as_an_array(void **state)
{
	struct bht_tickets t = { 0 };
	bool open[NUMBERS + 1] = { false };
	uint32_t seed = 1;

	(void)state;
	for (uint64_t now = 1; now <= ROUNDS; now++) {
		seed = seed * 1664525 + 1013904223;
		uint64_t number = 1 + (seed >> 16) % NUMBERS;
		if (open[number])
			assert_int_equal(bht_ticket_consume(&t, number), 0);
		else
			announce(&t, number, now);
		open[number] = !open[number];
		for (uint64_t i = 1; i <= NUMBERS; i++)
			assert_int_equal(is_open(&t, i), open[i]);
	}
	/* In the order of their announcement. */
	for (size_t i = 1; i < t.n; i++)
		assert_true(bhp_record_time(&bht_ticket(&t, i - 1)->schedule.r) <
			    bhp_record_time(&bht_ticket(&t, i)->schedule.r));
	bht_tickets_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(announced_and_consumed),
		cmocka_unit_test(consumed_before_announced),
		cmocka_unit_test(forgotten_before_a_time),
		cmocka_unit_test(bounded),
		cmocka_unit_test(same_as_an_array),
		cmocka_unit_test(consumed_early_below_what_was_let_go),
		cmocka_unit_test(consumed_after_it_gave_way),
		cmocka_unit_test(consumed_early_in_a_gap_of_what_gave_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
