/* SPDX-License-Identifier: MIT */
/* Draining a process that really runs, and what says how far that came. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bh.h"
#include "drain.h"
#include "until.h"

enum { SCHEDULES = 300000, PLACES = 16 };

static struct place {
	uint64_t ticket, missing, told;
	bool lost; /* and no schedule was seen since */
} places[PLACES];
static unsigned n_places;
static struct bh *busy_bh;
static struct bht_refusal refusal;

static void nothing(void *opaque)
{
	(void)opaque;
}

static void *produce(void *arg)
{
	const int *done = arg;

	if (write(*done, "", 1) != 1)
		_exit(1);
	for (uint64_t i = 1; i <= SCHEDULES; i++)
		bh_schedule_ticket(busy_bh, i);
	if (write(*done, "", 1) != 1)
		_exit(1);
	pause();
	return NULL;
}

static void run_busy(int done)
{
	struct bh_loop *loop = bh_loop_new("busy");
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	busy_bh = loop ? bh_new(loop, nothing, NULL, "busy") : NULL;
	if (!busy_bh || pthread_create(&thread, NULL, produce, &done))
		_exit(1);
	bh_loop_run(loop);
	_exit(0);
}

/* Tickets come in order, each once; where some are missing a loss was told. */
static void follow(void *arg, const struct bht_event *e)
{
	struct place *p = arg;
	const bool loss = bht_event_id(e) == BHT_ID_LOSS;

	if (loss)
		p->told += bht_loss_count(e);
	if (bht_event_id(e) == BHP_ID_schedule) {
		const uint64_t ticket = bhp_decode_schedule(&e->r).ticket;
		if (p->lost ? ticket <= p->ticket : ticket != p->ticket + 1)
			fail_msg("ticket %llu after %llu", (unsigned long long)ticket, (unsigned long long)p->ticket);
		p->missing += ticket - p->ticket - 1;
		p->ticket = ticket;
		p->lost = false;
	}
	p->lost |= loss;
}

static void *make_place(void *arg)
{
	assert_ptr_equal(arg, places);
	assert_true(n_places < PLACES);
	return &places[n_places++];
}

static void one_round(struct bht_drain *drain)
{
	if (bht_drain_round(drain, &refusal))
		fail_msg("%s", refusal.why);
}

static void test_busy_process(void **state)
{
	const struct bht_drain_sink sink = { make_place, follow, places };
	int pipes[2], status;
	struct bht_drain *drain;
	uint64_t last = 0;

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	pid_t child = fork();
	if (child == 0)
		run_busy(pipes[1]);
	struct pollfd pfd = { pipes[0], POLLIN, 0 };
	char begun;
	assert_int_equal(read(pipes[0], &begun, 1), 1);
	drain = bht_drain_open((uint32_t)child, &sink, &refusal);
	if (!drain)
		fail_msg("%s", refusal.why);
	do
		one_round(drain);
	while (poll(&pfd, 1, 0) == 0);
	one_round(drain); /* what was there when it said so */
	for (unsigned i = 0; i < n_places; i++) {
		assert_true(places[i].missing <= places[i].told);
		if (places[i].ticket > last)
			last = places[i].ticket;
	}
	assert_int_equal(last, SCHEDULES);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(bht_drain_round(drain, &refusal), -ESRCH);
	bht_drain_close(drain);
	close(pipes[0]);
	close(pipes[1]);
}

/* --- until ------------------------------------------------------------------------------------- */

static void test_until(void **state)
{
	FILE *file = tmpfile();
	uint64_t ticks = 7;

	(void)state;
	assert_non_null(file);
	const int fd = fileno(file);
	assert_int_equal(bht_until_read(fd, &ticks), -EBADMSG);
	const uint64_t values[] = { 0, 1, UINT64_MAX, 1234567890123 };
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(bht_until_write(fd, values[i]), 0);
		assert_int_equal(bht_until_read(fd, &ticks), 0);
		assert_int_equal(ticks, values[i]);
	}
	assert_int_equal(ftruncate(fd, BHT_UNTIL_SIZE - 1), 0);
	assert_int_equal(bht_until_read(fd, &ticks), -EBADMSG);
	assert_int_equal(bht_until_write(fd, 5), 0);
	assert_int_equal(pwrite(fd, "x", 1, BHT_UNTIL_SIZE), 1);
	assert_int_equal(bht_until_read(fd, &ticks), -EBADMSG);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, "99999999999999999999\n", BHT_UNTIL_SIZE, 0), BHT_UNTIL_SIZE);
	assert_int_equal(bht_until_read(fd, &ticks), -EBADMSG);
	fclose(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_busy_process), cmocka_unit_test(test_until) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
