/* SPDX-License-Identifier: MIT */
/* Timers: when they fire, in which order, and a thousand against a sorted array. */
#include "fixture.h"

enum { MANY = 1000 };

/* What a timer's callback gets. */
struct alarm {
	struct bh_timer *timer, *other;
	int fired;
	uint64_t at;
};

static void fire(void *opaque)
{
	struct alarm *a = opaque;

	a->fired++;
	a->at = bh_now_ns();
}

static struct bh_timer *armed(struct alarm *a, bh_cb *cb, uint64_t deadline)
{
	a->timer = bh_timer_new(loop, cb, a);
	bh_timer_set(a->timer, deadline);
	return a->timer;
}

static void it_fires_once_and_not_early(void **state)
{
	(void)state;
	struct alarm a = { .fired = 0 };
	uint64_t deadline = bh_now_ns() + 20 * MS;

	armed(&a, fire, deadline);
	assert_int_equal(turn(), 0);
	while (!a.fired)
		assert_true(bh_loop_poll(loop, true) >= 0);
	assert_true(a.at >= deadline);
	assert_true(a.at < deadline + 500 * MS);
	assert_int_equal(turn(), 0);
	assert_int_equal(a.fired, 1);
}

static void the_past_is_as_soon_as_possible(void **state)
{
	(void)state;
	struct alarm zero = { .fired = 0 }, never = { .fired = 0 }, far = { .fired = 0 };

	armed(&zero, fire, 0);
	armed(&never, fire, UINT64_MAX);
	armed(&far, fire, UINT64_MAX - 1);
	assert_int_equal(bh_loop_poll(loop, true), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(zero.fired, 1);
	assert_int_equal(never.fired + far.fired, 0);
}

static void *wake_when_asleep(void *arg)
{
	until_asleep(loop);
	bh_loop_wake(loop);
	return arg;
}

static void the_farthest_future_is_a_valid_sleep(void **state)
{
	(void)state;
	struct alarm far = { .fired = 0 };
	pthread_t t = in_thread(wake_when_asleep, NULL);

	armed(&far, fire, UINT64_MAX - 1);
	assert_int_equal(bh_loop_poll(loop, true), 0);
	pthread_join(t, NULL);
	assert_int_equal(far.fired, 0);
}

static void setting_replaces_and_cancel_disarms(void **state)
{
	(void)state;
	struct alarm a = { .fired = 0 };

	armed(&a, fire, 0);
	bh_timer_set(a.timer, bh_now_ns() + 1000 * MS);
	assert_int_equal(turn(), 0);
	bh_timer_set(a.timer, 0);
	bh_timer_cancel(a.timer);
	bh_timer_cancel(a.timer);
	assert_int_equal(turn(), 0);
	bh_timer_set(a.timer, 1);
	assert_int_equal(turn(), 1);
	assert_int_equal(a.fired, 1);
	bh_timer_delete(NULL);
}

static void cancel_other(void *opaque)
{
	struct alarm *a = opaque;

	fire(a);
	bh_timer_cancel(a->other);
}

static void delete_other(void *opaque)
{
	struct alarm *a = opaque;

	fire(a);
	bh_timer_delete(a->other);
	a->other = NULL;
}

static void postpone_other(void *opaque)
{
	struct alarm *a = opaque;

	fire(a);
	bh_timer_set(a->other, 3);
}

static void first_acts_on_second(bh_cb *act, int second_fires)
{
	struct alarm first = { .fired = 0 }, second = { .fired = 0 };

	armed(&first, act, 1);
	first.other = armed(&second, fire, 2);
	assert_int_equal(turn(), 1);
	assert_int_equal(second.fired, 0);
	assert_int_equal(turn(), second_fires);
	assert_int_equal(first.fired, 1);
	assert_int_equal(second.fired, second_fires);
}

static void a_due_one_can_be_withdrawn(void **state)
{
	(void)state;
	first_acts_on_second(cancel_other, 0);
	first_acts_on_second(delete_other, 0);
	first_acts_on_second(postpone_other, 1);
}

static void delete_itself(void *opaque)
{
	struct alarm *a = opaque;

	fire(a);
	bh_timer_set(a->timer, 0);
	bh_timer_delete(a->timer);
}

static void a_callback_deletes_its_own(void **state)
{
	(void)state;
	struct alarm a = { .fired = 0 };

	armed(&a, delete_itself, 0);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(a.fired, 1);
}

static void set_again(void *opaque)
{
	struct alarm *a = opaque;

	fire(a);
	bh_timer_set(a->timer, 0);
}

static void one_that_sets_itself_for_the_past_does_not_hold_the_turn(void **state)
{
	(void)state;
	struct alarm a = { .fired = 0 };

	armed(&a, set_again, 0);
	for (int i = 1; i <= 5; i++) {
		assert_int_equal(bh_loop_poll(loop, true), 1);
		assert_int_equal(a.fired, i);
	}
}

static void poll_inside(void *opaque)
{
	fire(opaque);
	assert_true(turn() >= 0);
}

static void a_nested_poll_fires_the_rest(void **state)
{
	(void)state;
	struct alarm a[3] = { { .fired = 0 } };

	for (int i = 0; i < 3; i++)
		armed(&a[i], poll_inside, (uint64_t)i);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(a[i].fired, 1);
}

static void delete_all_and_poll(void *opaque)
{
	struct alarm *a = opaque;

	fire(a);
	bh_timer_delete(a->other);
	bh_timer_delete(a->timer);
	assert_int_equal(turn(), 0);
}

static void a_callback_deletes_and_polls(void **state)
{
	(void)state;
	struct alarm first = { .fired = 0 }, second = { .fired = 0 };

	armed(&first, delete_all_and_poll, 1);
	first.other = armed(&second, fire, 2);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(first.fired + second.fired, 1);
}

static void *set_for_now(void *timer)
{
	until_asleep(loop);
	bh_timer_set(timer, bh_now_ns());
	return NULL;
}

static void *delete_from_thread(void *timer)
{
	bh_timer_delete(timer);
	return NULL;
}

/* It sleeps for a later timer when another thread makes one earlier. */
static void another_thread_sets_and_deletes(void **state)
{
	(void)state;
	struct alarm late = { .fired = 0 }, early = { .fired = 0 };

	armed(&late, fire, bh_now_ns() + 60000 * MS);
	early.timer = bh_timer_new(loop, fire, &early);
	pthread_t t = in_thread(set_for_now, early.timer);
	while (!early.fired)
		assert_true(bh_loop_poll(loop, true) >= 0);
	pthread_join(t, NULL);
	assert_int_equal(late.fired, 0);
	bh_timer_set(late.timer, 0);
	elsewhere(delete_from_thread, late.timer);
	assert_int_equal(turn(), 0);
	assert_int_equal(late.fired, 0);
}

/* --- a thousand against a sorted array ------------------------------------------------ */

static uint64_t fired_at[MANY];
static int n_fired;

struct entry {
	struct bh_timer *timer;
	uint64_t deadline; /* 0: not armed */
};

static void record_deadline(void *opaque)
{
	struct entry *e = opaque;

	fired_at[n_fired++] = e->deadline;
}

static int by_deadline(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Few different deadlines, so that there are ties. */
static void mutate(struct entry *e, unsigned *seed)
{
	switch (rand_r(seed) % 4) {
	case 0:
		bh_timer_cancel(e->timer);
		e->deadline = 0;
		break;
	case 1:
		bh_timer_delete(e->timer);
		e->timer = bh_timer_new(loop, record_deadline, e);
		e->deadline = 0;
		break;
	default:
		e->deadline = 1 + (uint64_t)rand_r(seed) % (2 * MANY);
		bh_timer_set(e->timer, e->deadline);
	}
}

static void random_timers(unsigned seed)
{
	static struct entry entry[MANY];
	uint64_t expected[MANY];
	int n = 0;

	n_fired = 0;
	for (int i = 0; i < MANY; i++)
		entry[i] = (struct entry){ .timer = bh_timer_new(loop, record_deadline, &entry[i]) };
	for (int i = 0; i < 4 * MANY; i++)
		mutate(&entry[rand_r(&seed) % MANY], &seed);
	for (int i = 0; i < MANY; i++)
		if (entry[i].deadline)
			expected[n++] = entry[i].deadline;
	qsort(expected, (size_t)n, sizeof(expected[0]), by_deadline);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(n_fired, n);
	assert_memory_equal(fired_at, expected, (size_t)n * sizeof(expected[0]));
	for (int i = 0; i < MANY; i++)
		bh_timer_delete(entry[i].timer);
}

static void random_timers_fire_in_order(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 20; seed++)
		random_timers(seed);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(it_fires_once_and_not_early),
		test(the_past_is_as_soon_as_possible),
		test(the_farthest_future_is_a_valid_sleep),
		test(setting_replaces_and_cancel_disarms),
		test(a_due_one_can_be_withdrawn),
		test(a_callback_deletes_its_own),
		test(one_that_sets_itself_for_the_past_does_not_hold_the_turn),
		test(a_nested_poll_fires_the_rest),
		test(a_callback_deletes_and_polls),
		test(another_thread_sets_and_deletes),
		test(random_timers_fire_in_order),
	};

	return cmocka_run_group_tests_name("timer", tests, NULL, NULL);
}
