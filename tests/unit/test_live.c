/* SPDX-License-Identifier: MIT */
/* A child process with a loop, read from outside; the rest is in tests/e2e. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bh.h"
#include "sources/live.h"

enum { TICKET = 77 };

static pid_t child;
static struct bht_evidence ev;
static struct bht_refusal refusal;

static void consume(void *opaque)
{
	struct bh *const *bh = opaque;

	bh_consume(*bh, TICKET);
}

/* Runs one bottom half, then sleeps for ever. */
static void run_target(void)
{
	static struct bh *done;
	struct bh_loop *loop = bh_loop_new("target loop");

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "the target");
	done = loop ? bh_new(loop, consume, &done, "done") : NULL;
	if (!done || !bh_new(loop, consume, &done, "never scheduled"))
		_exit(1);
	bh_schedule_ticket(done, TICKET);
	bh_loop_run(loop);
	_exit(0);
}

static int setup(void **state)
{
	(void)state;
	child = fork();
	if (child == 0)
		run_target();
	return child > 0 ? 0 : -1;
}

static void kill_target(void)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	child = 0;
}

static int teardown(void **state)
{
	(void)state;
	kill_target();
	bht_evidence_free(&ev);
	return 0;
}

static bool asleep(const struct bht_sample *sample)
{
	const struct bht_thread *thread = bht_sample_thread(sample, (uint32_t)child);

	return sample->n_loops == 1 && sample->loops[0].where == BHP_WAIT && thread && thread->state == 'S';
}

static struct bht_live *open_target(void)
{
	struct bht_live *live = bht_live_open((uint32_t)child, &refusal);

	if (!live)
		fail_msg("%s", refusal.why);
	return live;
}

static void sample_until_asleep(struct bht_live *live, struct bht_sample *sample)
{
	const struct timespec pause = { 0, 1000000 };

	for (int i = 0; i < 5000; i++) {
		bht_sample_free(sample);
		assert_int_equal(bht_live_sample(live, &ev, sample, &refusal), 0);
		if (asleep(sample))
			return;
		nanosleep(&pause, NULL);
	}
	fail_msg("the target does not fall asleep");
}

static void test_two_samples(void **state)
{
	(void)state;
	struct bht_live *live = open_target();

	/* What was not to be seen while it started is forgotten. */
	sample_until_asleep(live, &ev.last);
	bht_evidence_free(&ev);
	sample_until_asleep(live, &ev.first);
	sample_until_asleep(live, &ev.last);
	const struct bht_loop *loop = &ev.last.loops[0];
	assert_int_equal(ev.pid, child);
	assert_string_equal(ev.command, "the target");
	assert_string_equal(loop->name, "target loop");
	assert_int_equal(loop->owner, child);
	assert_int_equal(loop->iteration, ev.first.loops[0].iteration);
	assert_int_equal(loop->notifier_count, 0);
	assert_int_equal(loop->notifier_watched, 1);
	assert_int_equal(ev.last.n_bhs, 2);
	assert_int_equal(ev.last.bhs[0].loop, loop->addr);
	const struct bht_thread *before = bht_sample_thread(&ev.first, ev.pid),
				*after = bht_sample_thread(&ev.last, ev.pid);
	assert_string_equal(after->name, "the target");
	assert_int_equal(after->switches, before->switches);
	assert_true(ev.ticks_per_ns > 0.001 && ev.ticks_per_ns < 100);
	assert_true(ev.last.ticks > ev.first.ticks);
	assert_true(ev.read_us > 0 && ev.read_us == bht_live_read_us(live));
	assert_false(ev.last.unstable);
	assert_int_equal(ev.n_unseen, 0);
	bht_live_close(live);
}

/* The history outlives what it was read from. */
static void test_history(void **state)
{
	(void)state;
	struct bht_live *live = open_target();
	unsigned seen[256] = { 0 };
	struct bht_event e;

	sample_until_asleep(live, &ev.last);
	struct bht_source *history = bht_live_history(live, &ev, &refusal);
	const uint64_t now = bhp_clock();
	assert_non_null(history);
	bht_live_close(live);
	kill_target();
	while (history->next(history, &e, 1) > 0) {
		assert_int_equal(e.tid, ev.pid);
		assert_true(bhp_record_time(&e.r) < now);
		if (seen[bht_event_id(&e)]++ == 0 && bht_event_id(&e) == BHP_ID_bh_new)
			assert_string_equal(e.text, "done");
		if (bht_event_id(&e) == BHP_ID_consume)
			assert_int_equal(bhp_decode_consume(&e.r).ticket, TICKET);
	}
	history->close(history);
	assert_int_equal(seen[BHP_ID_thread], 1);
	assert_int_equal(seen[BHP_ID_loop_new], 1);
	assert_int_equal(seen[BHP_ID_bh_new], 2);
	assert_int_equal(seen[BHP_ID_schedule], 1);
	assert_int_equal(seen[BHP_ID_consume], 1);
	assert_int_equal(seen[BHT_ID_LOSS], 0);
}

static void test_target_dies(void **state)
{
	(void)state;
	struct bht_live *live = open_target();

	sample_until_asleep(live, &ev.first);
	assert_true(bht_live_alive(live));
	kill_target();
	assert_false(bht_live_alive(live));
	assert_int_equal(bht_live_sample(live, &ev, &ev.last, &refusal), -ESRCH);
	assert_non_null(strstr(refusal.why, "exited"));
	assert_null(bht_live_history(live, &ev, &refusal));
	assert_int_equal(errno, ESRCH);
	bht_live_close(live);
}

/* Killed at some moment of the read: either evidence or ESRCH, nothing else. */
static void test_target_dies_while_read(void **state)
{
	(void)state;
	for (long us = 0; us < 600; us += 20) {
		const struct timespec delay = { 0, us * 1000 };
		pid_t killer = fork();
		if (killer == 0) {
			nanosleep(&delay, NULL);
			kill(child, SIGKILL);
			_exit(0);
		}
		int rc = -ESRCH;
		struct bht_live *live = bht_live_open((uint32_t)child, &refusal);
		if (live) {
			rc = bht_live_sample(live, &ev, &ev.first, &refusal);
			bht_sample_free(&ev.first);
			bht_live_close(live);
		} else if (errno != ESRCH) {
			fail_msg("after %ld us: %s: %s", us, strerror(errno), refusal.why);
		}
		assert_true(rc == 0 || rc == -ESRCH);
		waitpid(killer, NULL, 0);
		kill_target();
		assert_int_equal(setup(state), 0);
	}
}

static void test_no_libbh(void **state)
{
	(void)state;
	kill_target();
	child = fork();
	if (child == 0) {
		execlp("sleep", "sleep", "1000", (char *)NULL);
		_exit(1);
	}
	/* Until it has executed, it is a copy of this program. */
	for (int i = 0; i < 5000; i++) {
		struct bht_live *live = bht_live_open((uint32_t)child, &refusal);
		if (!live && errno == ENOENT && strstr(refusal.why, "not linked with libbh"))
			return;
		bht_live_close(live);
		usleep(1000);
	}
	fail_msg("%s", refusal.why);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_two_samples), TEST(test_history), TEST(test_target_dies), TEST(test_target_dies_while_read),
		TEST(test_no_libbh),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
