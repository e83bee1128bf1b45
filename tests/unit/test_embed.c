/* SPDX-License-Identifier: MIT */
/* A loop inside another one, here a bare poll(2): its descriptor is readable
 * while there is something to do, and not readable when there is not. */
#include "support.h"

static struct bh_loop *loop;
static int fd;

static int setup(void **state)
{
	(void)state;
	loop = bh_loop_new("embedded");
	fd = loop ? bh_loop_pollable_fd(loop) : -1;
	return fd >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return bh_loop_free(loop);
}

/* Polls until RUNS turns have run something; how many turns it took. */
static int serve(int runs)
{
	int turns = 0;

	while (runs > 0) {
		assert_true(readable(fd, 10000));
		runs -= bh_loop_poll(loop, false);
		turns++;
	}
	return turns;
}

/* A turn that ended may leave one more, empty one, but not an endless row. */
static void assert_quiet(void)
{
	for (int i = 0; i < 2 && readable(fd, 0); i++)
		assert_int_equal(bh_loop_poll(loop, false), 0);
	assert_false(readable(fd, 0));
}

static void a_schedule_makes_it_readable(void **state)
{
	(void)state;
	int runs = 0;
	struct bh *bh = bh_new(loop, count, &runs, "here");

	assert_int_equal(bh_loop_pollable_fd(loop), fd);
	assert_false(readable(fd, 0));
	for (int i = 1; i <= 5; i++) {
		bh_schedule(bh);
		assert_int_equal(serve(1), 1);
		assert_int_equal(runs, i);
		assert_quiet();
	}
}

static void work_from_before_the_first_call_counts(void **state)
{
	(void)state;
	int runs = 0;
	struct bh_loop *late = bh_loop_new("late");

	bh_schedule(bh_new(late, count, &runs, "before"));
	assert_true(readable(bh_loop_pollable_fd(late), 0));
	assert_int_equal(bh_loop_poll(late, false), 1);
	assert_int_equal(bh_loop_free(late), 0);
}

static void embed_inside(void *opaque)
{
	struct actor *a = opaque;

	a->result = bh_loop_pollable_fd(a->loop);
	bh_schedule(a->other);
}

static void the_first_call_may_come_from_a_callback(void **state)
{
	(void)state;
	struct actor a = { .loop = bh_loop_new("late") };

	a.other = bh_new(a.loop, count, &a.runs, "pending");
	bh_schedule(bh_new(a.loop, embed_inside, &a, "embeds"));
	assert_int_equal(bh_loop_poll(a.loop, false), 1);
	assert_true(readable(a.result, 0));
	assert_int_equal(bh_loop_poll(a.loop, false), 1);
	assert_int_equal(a.runs, 1);
	assert_false(readable(a.result, 0));
	assert_int_equal(bh_loop_free(a.loop), 0);
}

static void again(void *opaque)
{
	struct actor *a = opaque;

	if (++a->runs < 5)
		bh_schedule(a->bh);
}

static void it_stays_readable_while_something_is_pending(void **state)
{
	(void)state;
	struct actor a = { .runs = 0 };

	a.bh = bh_new(loop, again, &a, "again");
	bh_schedule(a.bh);
	for (int i = 1; i <= 5; i++) {
		assert_true(readable(fd, 0));
		assert_int_equal(bh_loop_poll(loop, false), 1);
	}
	assert_int_equal(a.runs, 5);
	assert_quiet();
}

static void *schedule_often(void *arg)
{
	for (int i = 0; i < 200; i++) {
		bh_schedule(arg);
		usleep(100);
	}
	return NULL;
}

static void count_atomically(void *opaque)
{
	atomic_fetch_add((_Atomic int *)opaque, 1);
}

static void another_thread_makes_it_readable(void **state)
{
	(void)state;
	_Atomic int runs = 0, last = 0;
	struct bh *bh = bh_new(loop, count_atomically, &runs, "there"),
		  *end = bh_new(loop, count_atomically, &last, "end");
	pthread_t t = in_thread(schedule_often, bh);

	while (runs < 50 && readable(fd, 10000))
		bh_loop_poll(loop, false);
	assert_true(runs >= 50);
	pthread_join(t, NULL);
	bh_schedule(end);
	while (!last)
		serve(1);
	assert_quiet();
}

static void timers_make_it_readable(void **state)
{
	(void)state;
	int runs = 0;
	struct bh_timer *timer = bh_timer_new(loop, count, &runs);
	uint64_t deadline = bh_now_ns() + 20 * MS;

	bh_timer_set(timer, deadline);
	serve(1);
	assert_true(bh_now_ns() >= deadline);
	assert_int_equal(runs, 1);
	assert_quiet();
	bh_timer_set(timer, bh_now_ns() + 60000 * MS);
	assert_quiet();
	bh_timer_set(timer, 0);
	serve(1);
	assert_quiet();
}

static void *set_timer(void *timer)
{
	bh_timer_set(timer, bh_now_ns() + 5 * MS);
	return NULL;
}

static void another_thread_sets_a_timer(void **state)
{
	(void)state;
	int runs = 0;
	pthread_t t = in_thread(set_timer, bh_timer_new(loop, count, &runs));

	serve(1);
	pthread_join(t, NULL);
	assert_int_equal(runs, 1);
	assert_quiet();
}

static void idle_work_waits(void **state)
{
	(void)state;
	struct actor a = { .runs = 0 };
	uint64_t begin = bh_now_ns();

	a.bh = bh_new(loop, again, &a, "idle");
	bh_schedule_idle(a.bh);
	assert_true(readable(fd, 10000));
	bh_loop_poll(loop, false);
	assert_true(a.runs == 1 || readable(fd, 10000));
	assert_true(bh_now_ns() - begin < 5000 * MS);
}

static void take_byte(int pipe_end, unsigned events, void *opaque)
{
	char c;

	(void)events;
	*(int *)opaque += (int)read(pipe_end, &c, 1);
}

static void its_descriptors_make_it_readable(void **state)
{
	(void)state;
	int bytes = 0, ends[2];

	assert_int_equal(pipe(ends), 0);
	struct bh_fd *handler = bh_fd_new(loop, ends[0], POLLIN, take_byte, &bytes);
	assert_quiet();
	assert_int_equal(write(ends[1], "x", 1), 1);
	assert_int_equal(serve(1), 1);
	assert_int_equal(bytes, 1);
	assert_quiet();
	bh_fd_delete(handler);
	close(ends[0]);
	close(ends[1]);
}

static void a_wake_does_not_last(void **state)
{
	(void)state;
	bh_loop_wake(loop);
	assert_true(readable(fd, 0));
	assert_quiet();
	bh_loop_stop(loop);
	assert_true(readable(fd, 0));
	assert_quiet();
}

static void poll_until_second(void *opaque)
{
	struct actor *a = opaque;

	if (a->runs++ > 0)
		return;
	while (!a->other && a->result < 1000) {
		bh_loop_poll(a->loop, true);
		a->result++;
	}
}

static void set_flag(void *opaque)
{
	struct actor *a = opaque;

	a->other = a->bh;
}

/* The timer's callback waits for another timer: that is one sleep, not many. */
static void a_nested_poll_in_a_timer_sleeps(void **state)
{
	(void)state;
	struct actor a = { .loop = loop };
	struct bh_timer *outer = bh_timer_new(loop, poll_until_second, &a), *inner = bh_timer_new(loop, set_flag, &a);

	a.bh = bh_new(loop, count, &a.runs, "any");
	bh_timer_set(outer, bh_now_ns() + 5 * MS);
	assert_true(readable(fd, 10000));
	bh_timer_set(inner, bh_now_ns() + 40 * MS);
	while (!a.other)
		assert_true(readable(fd, 10000) && bh_loop_poll(loop, false) >= 0);
	assert_in_range(a.result, 1, 10);
	assert_quiet();
}

static void poll_embedded(int pollable, unsigned events, void *opaque)
{
	(void)pollable, (void)events;
	bh_loop_poll(opaque, false);
}

static void one_loop_embeds_another(void **state)
{
	(void)state;
	int runs = 0;
	struct bh_loop *outer = bh_loop_new("outer");
	pthread_t t = in_thread(set_timer, bh_timer_new(loop, count, &runs));

	assert_non_null(bh_fd_new(outer, fd, POLLIN, poll_embedded, loop));
	while (!runs)
		assert_true(bh_loop_poll(outer, true) >= 0);
	pthread_join(t, NULL);
	assert_int_equal(bh_loop_free(outer), 0);
}

static void it_may_still_block(void **state)
{
	(void)state;
	int runs = 0;
	pthread_t t = in_thread(set_timer, bh_timer_new(loop, count, &runs));

	while (!runs)
		assert_true(bh_loop_poll(loop, true) >= 0);
	pthread_join(t, NULL);
	assert_quiet();
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_schedule_makes_it_readable),
		test(work_from_before_the_first_call_counts),
		test(the_first_call_may_come_from_a_callback),
		test(it_stays_readable_while_something_is_pending),
		test(another_thread_makes_it_readable),
		test(timers_make_it_readable),
		test(another_thread_sets_a_timer),
		test(idle_work_waits),
		test(its_descriptors_make_it_readable),
		test(a_wake_does_not_last),
		test(a_nested_poll_in_a_timer_sleeps),
		test(one_loop_embeds_another),
		test(it_may_still_block),
	};

	return cmocka_run_group_tests_name("embed", tests, NULL, NULL);
}
