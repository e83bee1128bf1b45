/* SPDX-License-Identifier: MIT */
/* Time stamps of several machines as ns since the Epoch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "epoch.h"

static const uint64_t NOW = UINT64_C(1800000000000000000);

/* A clock of 2.5 ticks a ns that showed 5,000,000 at NOW. */
static struct bht_evidence machine(const char *name)
{
	struct bht_evidence ev = { .ticks_per_ns = 2.5, .clock = { 5000000, 77 }, .realtime_ns = NOW };

	strcpy(ev.hostname, name);
	return ev;
}

static void one_clock(void **state)
{
	struct bht_evidence a = machine("a"), b = machine("a"), c = machine("c");

	(void)state;
	assert_true(bht_epoch_same(&a, &b));
	assert_false(bht_epoch_same(&a, &c));
	/* Recorded ten minutes later: of the same clock. Restarted: not. */
	b.clock.ticks += UINT64_C(600) * 2500000000;
	b.realtime_ns += UINT64_C(600) * 1000000000;
	assert_true(bht_epoch_same(&a, &b));
	b.clock.ticks = 1000;
	assert_false(bht_epoch_same(&a, &b));
	/* Nothing is known of its clock: taken for the same. */
	b.realtime_ns = 0;
	assert_true(bht_epoch_same(&a, &b));
}

static void events(void **state)
{
	const struct bht_evidence ev = machine("a");
	const struct bht_epoch epoch = bht_epoch_of(&ev);
	struct bht_event e = { .r = bhp_encode_execute_end(5002500, &(struct bhp_execute_end){ .begin = 4997500 }) };

	(void)state;
	bht_epoch_event(&epoch, &e);
	assert_true(bht_time(&e) == NOW + 1000);
	assert_true(bhp_decode_execute_end(&e.r).begin == NOW - 1000);
	/* Other numbers stay what they are. */
	e.r = bhp_encode_consume(5000000, &(struct bhp_consume){ .ticket = 5000000 });
	bht_epoch_event(&epoch, &e);
	assert_true(bht_time(&e) == NOW);
	assert_true(bhp_decode_consume(&e.r).ticket == 5000000);
	e = bht_loss(5000250, 7, BHT_LOSS_DROPPED, 42);
	bht_epoch_event(&epoch, &e);
	assert_true(bht_time(&e) == NOW + 100);
	assert_true(bht_loss_count(&e) == 42 && bht_loss_reason(&e) == BHT_LOSS_DROPPED);
}

static void evidence(void **state)
{
	struct bht_evidence ev = machine("a");
	struct bht_loop loop = { .current_since = 5000025 };
	struct bht_bh bhs[] = { { .last_run = 4000000 }, { .last_run = 0 } };

	(void)state;
	ev.history_until = 7500000;
	ev.last = (struct bht_sample){ .ticks = 7500000, .loops = &loop, .n_loops = 1, .bhs = bhs, .n_bhs = 2 };
	bht_epoch_evidence(&ev);
	assert_true(ev.ticks_per_ns == 1);
	assert_true(ev.history_until == NOW + 1000000 && ev.last.ticks == NOW + 1000000);
	assert_true(ev.first.ticks == 0);
	assert_true(loop.current_since == NOW + 10);
	assert_true(bhs[0].last_run == NOW - 400000);
	/* It never ran, and does not begin to have run. */
	assert_true(bhs[1].last_run == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_clock),
		cmocka_unit_test(events),
		cmocka_unit_test(evidence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
