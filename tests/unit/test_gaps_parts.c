/* SPDX-License-Identifier: MIT */
/*
 * Histories made here: every gap is known by construction, and what it consists of is
 * added up from all executions there are, and from all times that the loop's thread had no
 * processor. In every other history the kernel tells of that.
 */
#include "gaps.h"
#include "story.h"

enum { HISTORIES = 300, TURNS = 60, BHS = 3, GAPS_MAX = 8192 };

static const struct bht_gaps_options all = { .until = UINT64_MAX, .worst = GAPS_MAX };

struct known_gap {
	unsigned bh;
	uint64_t schedule, notify, waking, woke, begin;
};

struct made {
	struct bht_event event[128 * TURNS];
	unsigned n;
	struct known_gap gap[16 * TURNS];
	unsigned n_gaps, n_idle, n_executions;
	struct bht_span_of_time callback[16 * TURNS];
	unsigned n_callbacks;
	bool kernel;
	struct bht_span_of_time queued[64 * TURNS]; /* outside of callbacks */
	unsigned n_queued;
	uint64_t now, waking, woke, seed;
	struct {
		bool pending, idle;
		uint64_t schedule, notify;
	} bh[BHS];
};

static unsigned rnd(struct made *m, unsigned n)
{
	m->seed ^= m->seed << 13;
	m->seed ^= m->seed >> 7;
	m->seed ^= m->seed << 17;
	return (unsigned)(m->seed >> 33) % n;
}

static uint64_t later(struct made *m)
{
	return m->now += 1 + (rnd(m, 20) ? rnd(m, 3000) : rnd(m, 5000000));
}

static const void *bh_at(unsigned i)
{
	return (const void *)(uintptr_t)(0x2000 + 0x100 * i);
}

#define emit(m, tid_, name_, ...)                                                                                      \
	((m)->event[(m)->n++] = (struct bht_event){                                                                    \
		 .r = bhp_encode_##name_((m)->now, &(struct bhp_##name_){ .loop = LOOP, __VA_ARGS__ }),                \
		 .tid = (tid_) })

/* An event of the kernel, if it tells of any. */
#define emit_kernel(m, tid_, name_, ...)                                                                               \
	do {                                                                                                           \
		if ((m)->kernel)                                                                                       \
			(m)->event[(m)->n++] = (struct bht_event){                                                     \
				.r = bhp_encode_##name_((m)->now, &(struct bhp_##name_){ __VA_ARGS__ }), .tid = (tid_) \
			};                                                                                             \
	} while (0)

/* Somebody schedules a bottom half, or withdraws what is scheduled. */
static void act(struct made *m, uint32_t tid, bool asleep)
{
	unsigned i = rnd(m, BHS);
	bool idle = !rnd(m, 12), was = m->bh[i].pending;

	later(m);
	if (was && !rnd(m, 10)) {
		emit(m, tid, bh_cancel, .bh = bh_at(i), .flags = BHP_FLAG_SCHEDULED);
		m->bh[i].pending = false;
		return;
	}
	emit(m, tid, schedule, .bh = bh_at(i), .seen = was, .kind = idle ? BHP_KIND_IDLE : BHP_KIND_NORMAL);
	if (was)
		return;
	m->bh[i].pending = true;
	m->bh[i].idle = idle;
	m->bh[i].schedule = m->now;
	m->bh[i].notify = 0;
	if (!rnd(m, 8))
		return; /* and forgets to notify */
	if (m->kernel && asleep && rnd(m, 3)) {
		later(m);
		emit_kernel(m, tid, call_begin, .call = BHP_CALL_WRITE, .fd = 9);
		later(m);
		emit_kernel(m, tid, call_begin, .call = BHP_CALL_WRITE, .fd = 5, .arg = 1);
		m->bh[i].notify = m->now;
	}
	later(m);
	if (!m->bh[i].notify)
		m->bh[i].notify = m->now;
	emit(m, tid, notify, .bh = bh_at(i), .notify_me = asleep, .written = asleep);
}

/* The loop's thread has no processor for a while, nor had it since FROM. */
static void waits_for_processor(struct made *m, uint64_t from, bool in_callback, bool quiet)
{
	if (!quiet && rnd(m, 2))
		act(m, PRODUCER, false);
	later(m);
	emit_kernel(m, LOOP_TID, switch_in, .before = OTHER, .cpu = 1);
	if (!in_callback)
		m->queued[m->n_queued++] = (struct bht_span_of_time){ from, m->now };
}

static void perhaps_preempted(struct made *m, bool in_callback)
{
	if (!m->kernel || rnd(m, 4))
		return;
	later(m);
	emit_kernel(m, LOOP_TID, switch_out, .why = BHP_PREEMPTED, .after = OTHER);
	waits_for_processor(m, m->now, in_callback, false);
}

/* It sleeps while others act. One that is woken as it falls asleep is woken before; that
 * it does not sleep then, is known when it comes back. */
static void sleeps(struct made *m)
{
	const bool early = m->kernel && !rnd(m, 5);
	uint64_t from;

	emit(m, LOOP_TID, wait_begin, .timeout_ns = -1);
	if (!early)
		emit_kernel(m, LOOP_TID, switch_out, .why = BHP_ASLEEP);
	for (unsigned n = 1 + rnd(m, 3); n > 0; n--)
		act(m, rnd(m, 2) ? PRODUCER : OTHER, true);
	from = later(m);
	emit_kernel(m, LOOP_TID, waking, .waker = PRODUCER);
	m->waking = m->kernel ? from : 0;
	if (early) {
		from = later(m);
		emit_kernel(m, LOOP_TID, switch_out, .why = BHP_ASLEEP);
	}
	if (m->kernel)
		waits_for_processor(m, from, false, early);
	perhaps_preempted(m, false);
	m->woke = later(m);
	emit(m, LOOP_TID, wait_end, .woke = BHP_WOKE_NOTIFIER, .fd = -1);
}

static void executes(struct made *m, unsigned i)
{
	perhaps_preempted(m, false);
	uint64_t begin = later(m);

	if (!m->bh[i].pending)
		return; /* cancelled */
	emit(m, LOOP_TID, execute_begin, .bh = bh_at(i));
	m->n_executions++;
	m->n_idle += m->bh[i].idle;
	if (!m->bh[i].idle)
		m->gap[m->n_gaps++] =
			(struct known_gap){ i, m->bh[i].schedule, m->bh[i].notify, m->waking, m->woke, begin };
	m->bh[i].pending = false;
	for (unsigned n = rnd(m, 4); n > 0; n--)
		act(m, rnd(m, 3) ? PRODUCER : LOOP_TID, false);
	perhaps_preempted(m, true);
	later(m);
	emit(m, LOOP_TID, execute_end, .bh = bh_at(i), .begin = begin);
	m->callback[m->n_callbacks++] = (struct bht_span_of_time){ begin, m->now };
}

static bool any_pending(const struct made *m)
{
	bool any = false;

	for (unsigned i = 0; i < BHS; i++)
		any |= m->bh[i].pending;
	return any;
}

static void turns(struct made *m)
{
	later(m);
	emit(m, LOOP_TID, poll_begin, .depth = 1, .blocking = 1);
	if (!any_pending(m))
		sleeps(m);
	for (unsigned i = 0; i < BHS; i++)
		if (m->bh[i].pending)
			executes(m, i);
	later(m);
	emit(m, LOOP_TID, poll_end, .depth = 1);
}

static void make(struct made *m, unsigned number)
{
	memset(m, 0, sizeof(*m));
	m->seed = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (unsigned i = 0; i < 8; i++)
		rnd(m, 2);
	m->now = 1000;
	m->kernel = number % 2;
	emit(m, LOOP_TID, loop_new, .notifier_fd = 5);
	for (unsigned i = 0; i < BHS; i++) {
		later(m);
		emit(m, LOOP_TID, bh_new, .bh = bh_at(i));
	}
	for (unsigned i = 0; i < TURNS; i++)
		turns(m);
}

/* Ticks between FROM and TO that lie in any of N spans: all are looked at. */
static uint64_t within(const struct bht_span_of_time *span, unsigned n, uint64_t from, uint64_t to)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t begin = span[i].from > from ? span[i].from : from;
		uint64_t end = span[i].to < to ? span[i].to : to;
		sum += end > begin ? end - begin : 0;
	}
	return sum;
}

static uint64_t busy(const struct made *m, uint64_t from, uint64_t to)
{
	return within(m->callback, m->n_callbacks, from, to);
}

/* Neither in a callback nor without a processor. */
static uint64_t free_time(const struct made *m, uint64_t from, uint64_t to)
{
	return to - from - busy(m, from, to) - within(m->queued, m->n_queued, from, to);
}

static void check_parts(const struct made *m, const struct known_gap *k, const struct bht_gap *gap)
{
	uint64_t told = k->notify ? k->notify : k->schedule, waking = k->waking > told ? k->waking : told;
	uint64_t woke = k->woke > waking ? k->woke : waking;

	assert_true(gap->part[BHT_TO_NOTIFY] == free_time(m, k->schedule, told));
	assert_true(gap->part[BHT_TO_WAKING] == free_time(m, told, waking));
	assert_true(gap->part[BHT_TO_WAKE] == free_time(m, waking, woke));
	assert_true(gap->part[BHT_TO_RUN] == free_time(m, woke, k->begin));
	assert_true(gap->part[BHT_RUN_QUEUE] == within(m->queued, m->n_queued, k->schedule, k->begin));
	assert_true(gap->part[BHT_IN_CALLBACKS] == busy(m, k->schedule, k->begin));
	assert_true(m->kernel || (!gap->part[BHT_TO_WAKING] && !gap->part[BHT_RUN_QUEUE]));
	/* A longer one that interrupted a callback hides the longest: then none is named. */
	assert_true(!gap->queue.end || (gap->part[BHT_RUN_QUEUE] && gap->queue.cpu == 1 && gap->queue.behind == OTHER));
}

static void check_gap(const struct made *m, const struct known_gap *k, const struct bht_gaps *g)
{
	for (unsigned i = 0; i < g->n_worst; i++) {
		const struct bht_gap *gap = &g->worst[i];
		if (gap->bh != (uintptr_t)bh_at(k->bh) || bht_time(&gap->begin) != k->begin)
			continue;
		assert_true(bht_time(&gap->schedule) == k->schedule);
		check_parts(m, k, gap);
		return;
	}
	fail_msg("a gap that was not measured");
}

static void as_it_was_made(void **state)
{
	static const struct bht_evidence ev = { .ticks_per_ns = 1, .clock_error_ns = 1 };
	struct made *m = malloc(sizeof(*m));
	unsigned gaps = 0;

	(void)state;
	assert_non_null(m);
	for (unsigned number = 0; number < HISTORIES; number++) {
		struct bht_gaps g;
		uint64_t executions = 0, idle = 0;
		make(m, number);
		assert_int_equal(bht_gaps_begin(&g, &ev, &all), 0);
		for (unsigned i = 0; i < m->n; i++)
			assert_int_equal(bht_gaps_feed(&g, &ev, &m->event[i]), 0);
		assert_int_equal(bht_gaps_finish(&g, &ev), 0);
		for (size_t i = 0; i < g.n_rows; i++) {
			executions += g.row[i]->count[BHT_EXECUTIONS];
			idle += g.row[i]->unmeasured[BHT_IDLE_SCHEDULE];
		}
		assert_true(executions == m->n_executions && idle == m->n_idle && g.n_worst == m->n_gaps);
		for (unsigned i = 0; i < m->n_gaps; i++)
			check_gap(m, &m->gap[i], &g);
		assert_true(g.loop[0]->spent[BHT_DOING_CALLBACKS] == busy(m, 0, UINT64_MAX));
		gaps += g.n_worst;
		bht_gaps_free(&g);
	}
	print_message("  %u gaps\n", gaps);
	free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_it_was_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
