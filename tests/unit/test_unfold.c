/* SPDX-License-Identifier: MIT */
/*
 * Histories of threads that poll, nested and in each other's loops, are recorded
 * without some or all of their beginnings. Unfolded they are what they were.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unfold.h"

enum { EVENTS_MAX = 4096, THREADS = 5, LOOPERS = 3, DEPTH = 6, MANY = BHT_UNFOLD_MAX + 5000 };

static struct bht_event original[EVENTS_MAX], recorded[EVENTS_MAX];
static bool dropped[EVENTS_MAX];
static unsigned n_original, n_recorded;

/* --- a source ------------------------------------------------------------------------- */

struct list {
	struct bht_source base;
	const struct bht_event *event;
	unsigned n, at;
	int end;              /* what next() gives after the last */
	unsigned batch;       /* 0: of random size */
	const unsigned *gone; /* how many must have been delivered when event I is asked for */
	unsigned *delivered;
	bool ended;
	char text[BHP_TEXT_MAX + 1]; /* of the last event, until the next call */
};

static int list_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct list *s = (struct list *)source;
	unsigned n = 0, most = s->batch ? s->batch : 1 + (unsigned)rand() % 40;

	assert_false(s->ended);
	if (s->gone)
		assert_int_equal(*s->delivered, s->gone[s->at]);
	memset(s->text, 'x', sizeof(s->text) - 1);
	while (n < most && n < max && s->at < s->n) {
		e[n] = s->event[s->at++];
		if (!e[n++].text)
			continue;
		strcpy(s->text, e[n - 1].text);
		e[n - 1].text = s->text;
		break;
	}
	s->ended = n == 0;
	return n ? (int)n : s->end;
}

static void list_close(struct bht_source *source)
{
	((struct list *)source)->event = NULL;
}

static struct list list_of(const struct bht_event *event, unsigned n)
{
	return (struct list){ .base = { list_next, list_close }, .event = event, .n = n };
}

/* --- histories -------------------------------------------------------------------------- */

enum what { IN_POLL, IN_WAIT, IN_CALLBACK };

struct thread {
	uint64_t last; /* time of its last event */
	unsigned depth;
	struct {
		enum what what;
		unsigned loop; /* or bottom half */
		uint64_t begin;
	} in[DEPTH];
};

static struct thread thread[THREADS];
static uint64_t now;

static const void *address(unsigned kind, unsigned i)
{
	return (const void *)(uintptr_t)(kind * 0x10000 + (i + 1) * 0x100);
}

#define LOOP(i) address(1, i)
#define BH(i)   address(2, i)
#define CODE(i) address(3, i)

static void add(struct bht_event *e, unsigned *n, unsigned t, struct bhp_record r, const char *text)
{
	e[(*n)++] = (struct bht_event){ .r = r, .tid = 100 + t / 2, .process = t % 2, .text = text };
}

/* The time is that of the thread's last event from then on. */
#define tell_at(t, time_, name_, ...)                                                                                  \
	do {                                                                                                           \
		thread[t].last = (time_);                                                                              \
		add(original, &n_original, t,                                                                          \
		    bhp_encode_##name_(thread[t].last, &(struct bhp_##name_){ __VA_ARGS__ }), NULL);                   \
	} while (0)
#define tell(t, name_, ...) tell_at(t, now += 1 + (uint64_t)rand() % 3, name_, __VA_ARGS__)

/* How often the thread polls LOOP. */
static uint8_t polls_of(const struct thread *t, unsigned loop)
{
	uint8_t n = 0;

	for (unsigned i = 0; i < t->depth; i++)
		n += t->in[i].what == IN_POLL && t->in[i].loop == loop;
	return n;
}

static void enter(struct thread *t, enum what what, unsigned loop)
{
	t->in[t->depth].what = what;
	t->in[t->depth].loop = loop;
	t->in[t->depth++].begin = t->last;
}

static void begin_poll(unsigned t)
{
	/* Its own loop, or a second one. */
	unsigned loop = t * 2 + (unsigned)rand() % 2;

	enter(&thread[t], IN_POLL, loop);
	tell(t, poll_begin, .loop = LOOP(loop), .depth = polls_of(&thread[t], loop));
}

/* Stamped like the event before, as libbh does, or with a time of its own. */
static void begin_callback(unsigned t)
{
	unsigned bh = t * 4 + (unsigned)rand() % 4;
	uint64_t time = rand() % 3 ? thread[t].last : (now += 2);

	tell_at(t, time, execute_begin, .loop = LOOP(bh), .bh = BH(bh), .callback = CODE(bh));
	enter(&thread[t], IN_CALLBACK, bh);
}

static void leave(unsigned t)
{
	struct thread *s = &thread[t];
	unsigned loop = s->in[s->depth - 1].loop;

	switch (s->in[s->depth - 1].what) {
	case IN_POLL:
		tell(t, poll_end, .loop = LOOP(loop), .depth = polls_of(s, loop));
		break;
	case IN_WAIT:
		tell(t, wait_end, .loop = LOOP(loop));
		break;
	case IN_CALLBACK:
		tell(t, execute_end, .loop = LOOP(loop), .bh = BH(loop), .begin = s->in[s->depth - 1].begin);
		break;
	}
	s->depth--;
}

static void step(unsigned t)
{
	struct thread *s = &thread[t];
	const unsigned dice = (unsigned)rand() % 8;
	const enum what in = s->depth ? s->in[s->depth - 1].what : IN_CALLBACK;

	if (t >= LOOPERS || (in == IN_CALLBACK && dice < 3))
		tell(t, schedule, .loop = LOOP(0), .bh = BH(dice));
	else if (s->depth && (in == IN_WAIT || dice == 7 || s->depth == DEPTH))
		leave(t);
	else if (in == IN_CALLBACK && (dice < 5 || !s->depth))
		begin_poll(t);
	else if (in == IN_CALLBACK)
		leave(t);
	else if (dice < 5)
		begin_callback(t);
	else {
		tell(t, wait_begin, .loop = LOOP(s->in[s->depth - 1].loop));
		enter(s, IN_WAIT, s->in[s->depth - 1].loop);
	}
}

static int by_time(const void *a, const void *b)
{
	const struct bht_event *x = a, *y = b;

	if (bht_time(x) != bht_time(y))
		return bht_time(x) < bht_time(y) ? -1 : 1;
	/* Only a beginning has the time of another event, of the one before it. */
	return (bht_event_id(x) == BHP_ID_execute_begin) - (bht_event_id(y) == BHP_ID_execute_begin);
}

static void make_history(unsigned steps)
{
	memset(thread, 0, sizeof(thread));
	n_original = 0;
	now = 1000;
	for (unsigned bh = 0; bh < LOOPERS * 4; bh++) {
		struct bhp_bh_new f = { .bh = BH(bh), .callback = CODE(bh) };
		add(original, &n_original, bh / 4, bhp_encode_bh_new(now++, &f), "some name");
	}
	for (unsigned i = 0; i < steps; i++)
		step((unsigned)rand() % THREADS);
	for (unsigned t = 0; t < THREADS; t++)
		while (thread[t].depth)
			leave(t);
	qsort(original, n_original, sizeof(original[0]), by_time);
}

static void record(unsigned percent_dropped)
{
	n_recorded = 0;
	for (unsigned i = 0; i < n_original; i++) {
		dropped[i] =
			bht_event_id(&original[i]) == BHP_ID_execute_begin && (unsigned)rand() % 100 < percent_dropped;
		if (!dropped[i])
			recorded[n_recorded++] = original[i];
	}
}

/* --- checks ----------------------------------------------------------------------------- */

static void assert_same(const struct bht_event *a, const struct bht_event *b)
{
	assert_memory_equal(&a->r, &b->r, sizeof(a->r));
	assert_int_equal(a->tid, b->tid);
	assert_int_equal(a->process, b->process);
	assert_int_equal(!a->text, !b->text);
	if (a->text)
		assert_string_equal(a->text, b->text);
}

/* Reads all that comes, which must be WANTED, and then END. */
static void expect(struct list *list, const struct bht_event *wanted, unsigned n_wanted, int end)
{
	struct bht_source *u = bht_unfold(&list->base);
	struct bht_event e[BHT_BATCH];
	unsigned at = 0;
	int n;

	assert_non_null(u);
	list->delivered = &at;
	while ((n = u->next(u, e, 1 + (unsigned)rand() % BHT_BATCH)) > 0) {
		for (int i = 0; i < n; i++) {
			assert_true(at < n_wanted);
			assert_true(!e[i].text || i == n - 1);
			assert_same(&e[i], &wanted[at++]);
		}
	}
	assert_int_equal(n, end);
	assert_int_equal(at, n_wanted);
	u->close(u);
	assert_null(list->event);
	list->delivered = NULL;
}

static void test_whole(void **state)
{
	(void)state;
	static const unsigned percent[] = { 0, 100, 50, 5 };

	srand(1);
	for (unsigned run = 0; run < 400; run++) {
		make_history(50 + (unsigned)rand() % 1500);
		record(percent[run % 4]);
		struct list list = list_of(recorded, n_recorded);
		expect(&list, original, n_original, 0);
	}
}

/* A beginning whose end is not there cannot be known; an error comes after all that
 * was read before it. */
static void test_cut_off(void **state)
{
	(void)state;
	srand(2);
	for (unsigned run = 0; run < 200; run++) {
		make_history(300);
		record(100);
		n_recorded = 1 + (unsigned)rand() % (n_recorded | 1);
		const uint64_t last = bht_time(&recorded[n_recorded - 1]);
		static struct bht_event wanted[EVENTS_MAX];
		unsigned n = 0;
		for (unsigned i = 0; i < n_original; i++) {
			bool known = !dropped[i];
			for (unsigned k = i + 1; dropped[i] && k < n_original; k++)
				known |= bht_event_id(&original[k]) == BHP_ID_execute_end &&
					 original[k].tid == original[i].tid &&
					 original[k].process == original[i].process && bht_time(&original[k]) <= last &&
					 bhp_decode_execute_end(&original[k].r).begin == bht_time(&original[i]);
			if (known && bht_time(&original[i]) <= last)
				wanted[n++] = original[i];
		}
		struct list list = list_of(recorded, n_recorded);
		list.end = run % 2 ? -EIO : 0;
		expect(&list, wanted, n, list.end);
	}
}

#define EVENT(tid_, time_, name_, ...)                                                                                 \
	{                                                                                                              \
		.r = bhp_encode_##name_(time_, &(struct bhp_##name_){ .loop = LOOP(0), __VA_ARGS__ }), .tid = (tid_)   \
	}

/* How many may have gone when the next one is asked for: as many as possible. */
static void test_held_no_longer_than_needed(void **state)
{
	(void)state;
	const struct bht_event in[] = {
		EVENT(2, 1, schedule),
		EVENT(1, 2, poll_begin, .depth = 1),
		EVENT(2, 3, schedule),
		EVENT(1, 4, wait_begin), /* asleep: nothing runs */
		EVENT(2, 5, schedule),
		EVENT(1, 6, wait_end),
		EVENT(2, 7, schedule),
		EVENT(1, 8, poll_begin, .depth = 2), /* within a callback that began at 6 */
		EVENT(1, 9, wait_begin),
		EVENT(2, 10, schedule),
		EVENT(1, 11, wait_end),
		EVENT(1, 12, poll_end, .depth = 2),
		EVENT(1, 13, execute_end, .bh = BH(0), .begin = 6),
		EVENT(2, 14, schedule),
		EVENT(1, 15, poll_end, .depth = 1), /* left: nothing runs */
		EVENT(2, 16, schedule),
	};
	const struct bht_event begin = EVENT(1, 6, execute_begin, .bh = BH(0));
	static const unsigned gone[] = { 0, 1, 2, 2, 4, 5, 6, 6, 6, 6, 6, 6, 6, 14, 14, 16, 17 };
	enum { N = sizeof(in) / sizeof(in[0]) };
	struct bht_event out[N + 1];

	memcpy(out, in, 6 * sizeof(in[0]));
	out[6] = begin;
	memcpy(out + 7, in + 6, (N - 6) * sizeof(in[0]));
	struct list list = list_of(in, N);
	list.batch = 1;
	list.gone = gone;
	expect(&list, out, N + 1, 0);
}

/* Recording began in the middle of a callback of a nested poll; a poll_end was lost. */
static void test_odd_ends(void **state)
{
	(void)state;
	const struct bht_event in[] = {
		EVENT(1, 20, execute_end, .bh = BH(1), .begin = 15),
		EVENT(1, 21, poll_end, .depth = 2),
		EVENT(1, 22, execute_end, .bh = BH(0), .begin = 10), /* before what is gone */
		EVENT(1, 23, poll_begin, .depth = 1),                /* the one at 22 was left, too */
		EVENT(1, 24, wait_begin),
		EVENT(1, 25, wait_end),
		EVENT(1, 30, execute_end, .bh = BH(0), .begin = 31), /* nonsense */
	};
	const struct bht_event out[] = {
		EVENT(1, 15, execute_begin, .bh = BH(1)),
		in[0],
		in[1],
		bht_loss(22, 1, BHT_LOSS_DROPPED, 1),
		in[2],
		in[3],
		in[4],
		in[5],
		bht_loss(30, 1, BHT_LOSS_DROPPED, 1),
		in[6],
	};
	struct list list = list_of(in, sizeof(in) / sizeof(in[0]));

	list.batch = 1;
	expect(&list, out, sizeof(out) / sizeof(out[0]), 0);
}

/* Losses keep their place and do not confuse. */
static void test_losses_pass(void **state)
{
	(void)state;
	const struct bht_event in[] = {
		EVENT(1, 2, poll_begin, .depth = 1),
		bht_loss(3, 1, BHT_LOSS_DROPPED, 7),
		bht_loss(4, 0, BHT_LOSS_DAMAGED, 0),
		EVENT(1, 5, execute_end, .bh = BH(0), .begin = 2),
	};
	const struct bht_event out[] = { in[0], EVENT(1, 2, execute_begin, .bh = BH(0)), in[1], in[2], in[3] };
	struct list list = list_of(in, sizeof(in) / sizeof(in[0]));

	expect(&list, out, sizeof(out) / sizeof(out[0]), 0);
}

#define KERNEL(tid_, time_, name_, ...)                                                                                \
	{                                                                                                              \
		.r = bhp_encode_##name_(time_, &(struct bhp_##name_){ __VA_ARGS__ }), .tid = (tid_)                    \
	}

/* What the kernel tells of a thread is no event of its polls; a beginning that two have
 * recorded is one. */
static void test_kernel_between(void **state)
{
	(void)state;
	const struct bht_event in[] = {
		KERNEL(1, 1, switch_in, .cpu = 1),
		EVENT(1, 2, poll_begin, .depth = 1),
		KERNEL(1, 2, call_begin, .call = BHP_CALL_POLL, .fd = 4),
		KERNEL(1, 3, switch_out, .why = BHP_PREEMPTED),
		KERNEL(2, 3, waking, .waker = 1),
		KERNEL(1, 5, switch_in, .cpu = 1),
		EVENT(1, 6, execute_end, .bh = BH(0), .begin = 2),
		EVENT(1, 6, execute_begin, .bh = BH(1)),
		EVENT(1, 6, execute_begin, .bh = BH(1)),
		KERNEL(1, 7, switch_out, .why = BHP_ASLEEP),
		EVENT(1, 9, execute_end, .bh = BH(1), .begin = 6),
		EVENT(1, 9, execute_begin, .bh = BH(1)),
	};
	const struct bht_event out[] = { in[0], in[1],  EVENT(1, 2, execute_begin, .bh = BH(0)),
					 in[2], in[3],  in[4],
					 in[5], in[6],  in[7],
					 in[9], in[10], in[11] };
	struct list list = list_of(in, sizeof(in) / sizeof(in[0]));

	expect(&list, out, sizeof(out) / sizeof(out[0]), 0);
}

/* A callback that outlasts what is held: a loss, and no beginning in a wrong place. */
static void test_too_long(void **state)
{
	(void)state;
	static struct bht_event in[MANY + 8], out[MANY + 64];
	unsigned n = 0, n_out = 0;

	in[n++] = (struct bht_event)EVENT(1, 1, poll_begin, .depth = 1);
	in[n++] = (struct bht_event)EVENT(3, 2, poll_begin, .depth = 1);
	for (unsigned i = 0; i < MANY; i++)
		in[n++] = (struct bht_event)EVENT(2, 10 + i, schedule);
	in[n++] = (struct bht_event)EVENT(1, MANY + 20, execute_end, .bh = BH(0), .begin = 1);
	in[n++] = (struct bht_event)EVENT(3, MANY + 21, execute_end, .bh = BH(1), .begin = MANY);
	in[n++] = (struct bht_event)EVENT(1, MANY + 22, execute_end, .bh = BH(0), .begin = MANY + 20);
	for (unsigned i = 0; i < n; i++) {
		if (bht_time(&in[i]) == MANY)
			out[n_out++] = (struct bht_event)EVENT(3, MANY, execute_begin, .bh = BH(1));
		if (bht_time(&in[i]) == MANY + 20)
			out[n_out++] = bht_loss(MANY + 20, 1, BHT_LOSS_DROPPED, 1);
		out[n_out++] = in[i];
		if (bht_time(&in[i]) == MANY + 20)
			out[n_out++] = (struct bht_event)EVENT(1, MANY + 20, execute_begin, .bh = BH(0));
	}
	struct list list = list_of(in, n);
	expect(&list, out, n_out, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_held_no_longer_than_needed),
		cmocka_unit_test(test_odd_ends),
		cmocka_unit_test(test_losses_pass),
		cmocka_unit_test(test_kernel_between),
		cmocka_unit_test(test_too_long),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
