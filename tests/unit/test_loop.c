/* SPDX-License-Identifier: MIT */
/* Loops: life, one turn, sleeping and being woken, run and stop. */
#include <sys/resource.h>
#include <sys/time.h>

#include "fixture.h"

/* --- life ----------------------------------------------------------------------- */

static void a_new_loop_shows_itself(void **state)
{
	(void)state;
	struct bh_loop *long_name = bh_loop_new("a name of more than thirty-one bytes"), *no_name = bh_loop_new(NULL);

	assert_string_equal(long_name->o.name, "a name of more than thirty-one ");
	assert_string_equal(no_name->o.name, "");
	assert_int_equal(loop->o.protocol, BHP_PROTOCOL_FULL_BARRIER);
	assert_int_equal(atomic_load(&loop->o.state), BHP_LIVE);
	assert_true(no_name->o.serial > long_name->o.serial && long_name->o.serial > loop->o.serial);
	assert_int_equal(bh_loop_free(no_name), 0);
	assert_int_equal(bh_loop_free(long_name), 0);
}

static void without_descriptors(void)
{
	struct rlimit limit = { 64, 64 };
	int fd, last = -1;

	setrlimit(RLIMIT_NOFILE, &limit);
	while ((fd = dup(2)) >= 0)
		last = fd;
	errno = 0;
	child_check(!bh_loop_new("none left") && errno == EMFILE);
	close(last); /* for the eventfd, not for the epoll set */
	errno = 0;
	child_check(!bh_loop_new("one left") && errno == EMFILE);
	close(last - 1);
	struct bh_loop *l = bh_loop_new("two left");
	child_check(l && bh_loop_free(l) == 0);
}

static void no_descriptor_is_emfile_and_nothing_leaks(void **state)
{
	(void)state;
	assert_int_equal(in_child(without_descriptors, 10), 0);
}

static void fd_nothing(int fd, unsigned events, void *opaque)
{
	(void)fd, (void)events, (void)opaque;
}

/* What the sanitizer's leak check, or a later use, would find. */
static void free_takes_everything_along(void **state)
{
	(void)state;
	int runs = 0, pair[2];
	struct bh_loop *l = bh_loop_new("full");
	struct bh *pending = bh_new(l, count, &runs, "pending"), *deleted = bh_new(l, count, &runs, "deleted");
	struct bh_timer *armed = bh_timer_new(l, count, &runs), *dead = bh_timer_new(l, count, &runs);

	assert_int_equal(pipe(pair), 0);
	bh_new(l, count, &runs, "unused");
	bh_schedule(pending);
	bh_schedule(deleted);
	bh_delete(deleted);
	bh_schedule_oneshot(l, count, &runs, "oneshot");
	bh_timer_set(armed, 0);
	bh_timer_set(dead, 0);
	bh_timer_delete(dead);
	bh_timer_new(l, count, &runs);
	assert_non_null(bh_fd_new(l, pair[0], POLLIN, fd_nothing, NULL));
	bh_fd_delete(bh_fd_new(l, pair[1], POLLOUT, fd_nothing, NULL));
	assert_true(bh_loop_pollable_fd(l) >= 0);
	assert_int_equal(bh_loop_free(l), 0);
	assert_int_equal(runs, 0);
	close(pair[0]);
	close(pair[1]);
}

static void try_to_free(void *opaque)
{
	struct actor *a = opaque;

	a->runs++;
	a->result = bh_loop_free(a->loop);
}

static void free_inside_a_poll_is_ebusy(void **state)
{
	(void)state;
	struct actor a = { .loop = loop };
	struct bh_timer *timer = bh_timer_new(loop, try_to_free, &a);

	bh_schedule(bh_new(loop, try_to_free, &a, "free"));
	assert_int_equal(bh_loop_poll(loop, true), 1);
	assert_int_equal(a.result, -EBUSY);
	a.result = 0;
	bh_timer_set(timer, 0);
	assert_int_equal(bh_loop_poll(loop, true), 1);
	assert_int_equal(a.result, -EBUSY);
	assert_int_equal(a.runs, 2);
}

static void *create_and_destroy(void *arg)
{
	int *runs = arg;

	for (int i = 0; i < 200; i++) {
		struct bh_loop *l = bh_loop_new("short-lived");
		bh_schedule(bh_new(l, count, runs, "bh"));
		bh_schedule_oneshot(l, count, runs, "oneshot");
		if (i % 2)
			bh_loop_poll(l, true);
		bh_loop_free(l);
	}
	return NULL;
}

static void many_threads_create_and_destroy(void **state)
{
	(void)state;
	enum { THREADS = 4 };
	pthread_t thread[THREADS];
	int runs[THREADS] = { 0 };

	for (int i = 0; i < THREADS; i++)
		thread[i] = in_thread(create_and_destroy, &runs[i]);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(runs[i], 200);
	}
}

/* --- sleeping and waking ------------------------------------------------------------ */

static void *schedule_when_asleep(void *arg)
{
	struct actor *a = arg;

	until_asleep(a->loop);
	bh_schedule(a->bh);
	return NULL;
}

static void a_schedule_wakes_a_sleeping_loop(void **state)
{
	(void)state;
	struct actor a = { .loop = loop };

	a.bh = bh_new(loop, count, &a.runs, "wakes");
	for (int i = 1; i <= 20; i++) {
		pthread_t t = in_thread(schedule_when_asleep, &a);
		while (a.runs < i)
			assert_true(bh_loop_poll(loop, true) >= 0);
		pthread_join(t, NULL);
	}
	assert_int_equal(a.runs, 20);
}

static void *wake_when_asleep(void *arg)
{
	until_asleep(arg);
	bh_loop_wake(arg);
	return NULL;
}

static void wake_ends_one_blocking_turn(void **state)
{
	(void)state;
	pthread_t t = in_thread(wake_when_asleep, loop);

	assert_int_equal(bh_loop_poll(loop, true), 0);
	pthread_join(t, NULL);
	bh_loop_wake(loop);
	bh_loop_wake(loop);
	assert_int_equal(bh_loop_poll(loop, false), 0);
	/* It was for a blocking turn: the one that polls now. */
	assert_int_equal(bh_loop_poll(loop, true), 0);
	assert_false(atomic_load(&loop->wake));
}

static void the_notifier_is_written_only_for_a_sleeper(void **state)
{
	(void)state;
	int runs = 0;
	struct bh *bh = bh_new(loop, count, &runs, "awake");

	bh_schedule(bh);
	assert_false(readable(loop->o.notifier_fd, 0));
	assert_int_equal(bh_loop_poll(loop, true), 1);
	assert_int_equal(atomic_load(&loop->o.notify_me), BHP_LOOP_AWAKE);
}

/* A notification that was late costs an empty turn and is cleared by it. */
static void a_stray_notification_is_cleared(void **state)
{
	(void)state;
	uint64_t one = 1;

	assert_int_equal(write(loop->o.notifier_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(bh_loop_poll(loop, true), 0);
	assert_false(readable(loop->o.notifier_fd, 0));
}

static void an_observer_sees_the_sleep(void **state)
{
	(void)state;
	uint64_t iteration = atomic_load(&loop->o.iteration);
	struct bh_timer *timer = bh_timer_new(loop, count, &(int){ 0 });

	bh_timer_set(timer, bh_now_ns() + 5 * MS);
	assert_true(bh_loop_poll(loop, true) >= 0);
	assert_in_range(atomic_load(&loop->o.wait_timeout_ns), 1, 5 * MS);
	assert_int_equal(atomic_load(&loop->o.iteration), iteration + 1);
	assert_int_equal(atomic_load(&loop->o.where), BHP_OUTSIDE);
	assert_int_equal(atomic_load(&loop->o.depth), 0);
	assert_int_equal(atomic_load(&loop->o.owner_tid), (uint32_t)gettid());
}

static void on_signal(int signal_number)
{
	(void)signal_number;
	bh_loop_stop(loop);
}

static void on_plain_signal(int signal_number)
{
	(void)signal_number;
}

static void signal_in_5_ms(void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler };
	struct itimerval t = { .it_value = { 0, 5000 } };

	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &t, NULL), 0);
}

static void a_signal_ends_a_turn_without_error(void **state)
{
	(void)state;
	signal_in_5_ms(on_plain_signal);
	assert_int_equal(bh_loop_poll(loop, true), 0);
}

/* --- run and stop ---------------------------------------------------------------------- */

static void stop_before_run_returns_at_once(void **state)
{
	(void)state;
	int runs = 0;

	bh_schedule(bh_new(loop, count, &runs, "not reached"));
	bh_loop_stop(loop);
	assert_int_equal(bh_loop_run(loop), 0);
	assert_int_equal(runs, 0);
	bh_loop_poll(loop, false);
	assert_int_equal(runs, 1);
}

static void stop_on_third(void *opaque)
{
	struct actor *a = opaque;

	if (++a->runs == 3)
		bh_loop_stop(a->loop);
	bh_schedule(a->bh);
}

static void a_callback_stops_after_its_turn(void **state)
{
	(void)state;
	struct actor a = { .loop = loop };
	int same_turn = 0;

	a.bh = bh_new(loop, stop_on_third, &a, "stops");
	bh_schedule(a.bh);
	bh_schedule(bh_new(loop, count, &same_turn, "same turn"));
	assert_int_equal(bh_loop_run(loop), 0);
	assert_int_equal(a.runs, 3);
	assert_int_equal(same_turn, 1);
}

static void *stop_when_asleep(void *arg)
{
	until_asleep(arg);
	bh_loop_stop(arg);
	return NULL;
}

static void a_thread_stops_a_sleeping_loop(void **state)
{
	(void)state;
	for (int i = 0; i < 20; i++) {
		pthread_t t = in_thread(stop_when_asleep, loop);
		assert_int_equal(bh_loop_run(loop), 0);
		pthread_join(t, NULL);
	}
}

static void a_signal_handler_stops(void **state)
{
	(void)state;
	signal_in_5_ms(on_signal);
	assert_int_equal(bh_loop_run(loop), 0);
}

static void run_inside(void *opaque)
{
	struct actor *a = opaque;

	bh_schedule(a->other);
	a->result = bh_loop_run(a->loop);
	a->runs++;
}

static void stop_it(void *opaque)
{
	struct actor *a = opaque;

	bh_loop_stop(a->loop);
}

static void stop_ends_the_innermost_run(void **state)
{
	(void)state;
	struct actor a = { .loop = loop, .result = -1 };

	a.other = bh_new(loop, stop_it, &a, "stop");
	bh_schedule(bh_new(loop, run_inside, &a, "inner run"));
	struct bh_timer *outer = bh_timer_new(loop, stop_it, &a);
	bh_timer_set(outer, bh_now_ns() + 20 * MS);
	assert_int_equal(bh_loop_run(loop), 0);
	assert_int_equal(a.runs, 1);
	assert_int_equal(a.result, 0);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_new_loop_shows_itself),
		test(no_descriptor_is_emfile_and_nothing_leaks),
		test(free_takes_everything_along),
		test(free_inside_a_poll_is_ebusy),
		test(many_threads_create_and_destroy),
		test(a_schedule_wakes_a_sleeping_loop),
		test(wake_ends_one_blocking_turn),
		test(the_notifier_is_written_only_for_a_sleeper),
		test(a_stray_notification_is_cleared),
		test(an_observer_sees_the_sleep),
		test(a_signal_ends_a_turn_without_error),
		test(stop_before_run_returns_at_once),
		test(a_callback_stops_after_its_turn),
		test(a_thread_stops_a_sleeping_loop),
		test(a_signal_handler_stops),
		test(stop_ends_the_innermost_run),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
