/* SPDX-License-Identifier: MIT */
/*
 * Measured gaps against slow and obvious oracles.
 *
 * In the simulator's histories (simulator.h: threads that lose the CPU anywhere,
 * clocks that disagree, faults) the simulated memory knows which schedule each
 * execution served. No measured gap may be another one, with events missing or not.
 * In histories made here every gap is known by construction, and what it consists of
 * is added up from all executions there are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gaps.h"
#include "simulator_run.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { HISTORIES = 1000 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { HISTORIES = 1000 };
#else
enum { HISTORIES = 6000 };
#endif
#else
enum { HISTORIES = 6000 };
#endif

enum { PPM = 1000000, GAPS_MAX = 8192 };

static const struct bht_evidence nothing_else = { .ticks_per_ns = 1, .clock_error_ns = SIM_ERROR_NS };
static const struct bht_gaps_options all = { .until = UINT64_MAX, .worst = GAPS_MAX };

/* --- what holds of all reports ------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

/* The histogram of a row is that of its gaps, all of which are among the worst. */
static void check_histogram(const struct bht_gaps *g, const struct bht_row *row)
{
	static const unsigned per_mille[] = { 1, 500, 900, 990, 999, 1000 };
	uint64_t *length = calloc(g->n_worst + 1, sizeof(*length)), n = 0, sum = 0;

	assert_non_null(length);
	for (unsigned i = 0; i < g->n_worst; i++)
		if (g->worst[i].row == row)
			sum += length[n++] = bht_gap_length(&g->worst[i]);
	qsort(length, n, sizeof(*length), by_value);
	assert_true(row->gap.n == n && row->gap.sum == sum);
	for (unsigned i = 0; n && i < sizeof(per_mille) / sizeof(per_mille[0]); i++) {
		uint64_t right = length[(n * per_mille[i] + 999) / 1000 - 1];
		uint64_t got = bht_histogram_quantile(&row->gap, per_mille[i]);
		assert_true((got > right ? got - right : right - got) <= right / 32);
	}
	assert_true(!n || row->gap.max == length[n - 1]);
	free(length);
}

static uint64_t sum_of(const uint64_t part[], unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += part[i];
	return sum;
}

static void check_row(const struct bht_gaps *g, const struct bht_row *row)
{
	uint64_t rescued = 0;

	for (unsigned i = 0; i < g->n_worst; i++)
		rescued += g->worst[i].row == row && g->worst[i].rescue != BHT_NOT_RESCUED;
	assert_true(row->rescued == rescued);
	assert_true(row->count[BHT_EXECUTIONS] == row->gap.n + sum_of(row->unmeasured, BHT_WHY_NOTS));
	assert_true(sum_of(row->part, BHT_SEGMENTS) == row->gap.sum);
	check_histogram(g, row);
}

static void check_all(const struct bht_gaps *g)
{
	for (size_t i = 0; i < g->n_rows; i++)
		check_row(g, g->row[i]);
	for (unsigned i = 0; i < g->n_worst; i++) {
		const struct bht_gap *gap = &g->worst[i];
		assert_true(sum_of(gap->part, BHT_SEGMENTS) == bht_gap_length(gap));
		/* Rescued ones first, longest first. */
		assert_true(!i || !gap->rescue || gap[-1].rescue);
		assert_true(!i || !gap->rescue != !gap[-1].rescue || bht_gap_length(gap) <= bht_gap_length(gap - 1));
	}
}

static uint64_t total(const struct bht_gaps *g, enum bht_count which)
{
	uint64_t n = 0;

	for (size_t i = 0; i < g->n_rows; i++)
		n += g->row[i]->count[which];
	return n;
}

/* --- the simulator's memory -------------------------------------------------------------- */

/* Something that a thread did to a flag: from then on until it was recorded, by the
 * clocks of loop and thread, or the other way round, the history shows it wrongly. */
struct change {
	unsigned bh, thread, index; /* event INDEX of THREAD is its record */
	uint64_t from, to, record;
};

/*
 * What an execution was really for: the change SETTER. Its stamp BEGIN is that of the
 * loop's event before, it really was AT.
 */
struct truth {
	unsigned bh, setter;
	uint64_t begin, at;
};

struct truths {
	struct change change[SIM_EVENTS];
	unsigned n_changes;
	struct truth truth[SIM_EVENTS];
	unsigned n;
	unsigned setter[SIM_BHS]; /* of the flag that is set */
};

static void look_at_flag(const struct sim *s, unsigned t, struct truths *truths)
{
	const struct sim_thread *me = &s->thread[t];

	if (t == SIM_LOOP || t == SIM_THIEF || me->step != P_EXCHANGE)
		return;
	bool scheduled = s->bh[me->bh].flags & BHP_FLAG_SCHEDULED;
	if (scheduled != me->cancel)
		return;
	if (!me->cancel)
		truths->setter[me->bh] = truths->n_changes;
	truths->change[truths->n_changes++] = (struct change){
		.bh = me->bh, .thread = t, .index = me->n, .from = sim_clock(s, SIM_LOOP), .to = UINT64_MAX
	};
}

static void step(struct sim *s, unsigned t, struct truths *truths)
{
	const struct sim_thread *me = &s->thread[t];
	uint64_t now = sim_clock(s, SIM_LOOP);
	unsigned before = me->n;

	look_at_flag(s, t, truths);
	if (t == SIM_LOOP)
		loop_step(s);
	else if (t == SIM_THIEF)
		thief_step(s);
	else
		producer_step(s, t);
	if (t != SIM_LOOP || me->n == before || bht_event_id(&me->event[me->n - 1]) != BHP_ID_execute_begin)
		return;
	unsigned bh = sim_frame(s)->bh;
	truths->truth[truths->n++] = (struct truth){ bh, truths->setter[bh], sim_frame(s)->begin, now };
}

static void note_records(const struct sim *s, struct truths *truths)
{
	for (unsigned i = 0; i < truths->n_changes; i++) {
		struct change *c = &truths->change[i];
		const struct sim_thread *thread = &s->thread[c->thread];
		if (c->index == thread->n)
			continue;
		c->record = bht_time(&thread->event[c->index]);
		c->to = c->record > c->from ? c->record : c->from;
		c->from = c->record < c->from ? c->record : c->from;
	}
}

/* As sim_run(). */
static bool run(struct sim *s, struct truths *truths)
{
	memset(truths, 0, sizeof(*truths));
	for (unsigned n = 0; n < SIM_STEPS; n++) {
		unsigned next = 0;
		for (unsigned t = 1; t < SIM_THREADS; t++)
			if (s->thread[t].at < s->thread[next].at)
				next = t;
		if (sim_over(s, next))
			return sim_settle(s);
		struct sim_thread *me = &s->thread[next];
		s->now = me->at;
		me->at = s->now + 5 + (sim_rnd(s, 50) ? sim_rnd(s, 60) : sim_rnd(s, 60000));
		sim_drain_due(s);
		if (s->fault == SIM_UNWATCHED && sim_left(s) <= 2)
			s->watched = false;
		step(s, next, truths);
	}
	return false;
}

/* --- the recorder --------------------------------------------------------------------------- */

struct lane {
	struct bht_event event[2 * SIM_EVENTS + 1];
	unsigned n, next;
};

struct recording {
	struct lane lane[SIM_THREADS];
	unsigned count[BHT_COUNTS];
	bool lossy;
};

static void record(struct sim *s, unsigned t, unsigned rate, unsigned wrapped, struct lane *lane)
{
	const struct sim_thread *thread = &s->thread[t];
	unsigned missing = 0;

	lane->n = lane->next = 0;
	for (unsigned i = 0; i <= thread->n; i++) {
		uint64_t at = i < thread->n ? bht_time(&thread->event[i]) : s->now;
		if (i < thread->n && (i < wrapped || sim_rnd(s, PPM) < rate)) {
			missing++;
			continue;
		}
		if (missing)
			lane->event[lane->n++] = bht_loss(at, SIM_TID + t, BHT_LOSS_DROPPED, missing);
		missing = 0;
		if (i < thread->n)
			lane->event[lane->n++] = thread->event[i];
	}
}

static struct bht_event *earliest(struct recording *r)
{
	struct lane *first = NULL;

	for (unsigned t = 0; t < SIM_THREADS; t++) {
		struct lane *lane = &r->lane[t];
		if (lane->next < lane->n &&
		    (!first || bht_time(&lane->event[lane->next]) < bht_time(&first->event[first->next])))
			first = lane;
	}
	return first ? &first->event[first->next++] : NULL;
}

static void count_event(struct recording *r, const struct bht_event *e)
{
	switch (bht_event_id(e)) {
	case BHP_ID_schedule:
		r->count[BHT_SCHEDULES]++;
		r->count[BHT_COALESCED] += bhp_decode_schedule(&e->r).seen;
		break;
	case BHP_ID_execute_begin:
		r->count[BHT_EXECUTIONS]++;
		break;
	case BHP_ID_bh_cancel:
		r->count[BHT_CANCELS] += bhp_decode_bh_cancel(&e->r).flags & BHP_FLAG_SCHEDULED;
		break;
	case BHP_ID_notify:
		r->count[BHT_NOTIFIES]++;
		r->count[bhp_decode_notify(&e->r).written ? BHT_WRITES : BHT_AVOIDED]++;
		break;
	case BHT_ID_LOSS:
		r->lossy = true;
	}
}

/* FIRST is an earlier reading, or NULL. */
static void read_it(struct recording *r, struct bht_gaps *g, struct bht_gaps *first)
{
	struct bht_event *e;

	if (first)
		assert_int_equal(bht_gaps_begin_again(g, &nothing_else, &all, first), 0);
	else
		assert_int_equal(bht_gaps_begin(g, &nothing_else, &all), 0);
	memset(r->count, 0, sizeof(r->count));
	r->lossy = false;
	for (unsigned t = 0; t < SIM_THREADS; t++)
		r->lane[t].next = 0;
	while ((e = earliest(r))) {
		count_event(r, e);
		assert_int_equal(bht_gaps_feed(g, &nothing_else, e), 0);
	}
	assert_int_equal(bht_gaps_finish(g, &nothing_else), 0);
	assert_true(g->n_worst < GAPS_MAX);
	for (unsigned i = 0; i < BHT_COUNTS; i++)
		assert_true(total(g, (enum bht_count)i) == r->count[i]);
	check_all(g);
}

/* --- judging it ----------------------------------------------------------------------------- */

static struct tally {
	unsigned executions, measured, rescued, crowded, wrong, again;
} tally[2];

static bool is_true(const struct truths *truths, const struct truth *t, const struct bht_gap *gap)
{
	const struct change *c = &truths->change[t->setter];

	return SIM_TID + c->thread == gap->schedule.tid && c->record == bht_time(&gap->schedule);
}

/* Changes of the flag that the history shows wrongly when the execution begins. */
static unsigned misplaced(const struct truths *truths, const struct truth *t)
{
	unsigned n = 0;

	for (unsigned i = 0; i < truths->n_changes; i++) {
		const struct change *c = &truths->change[i];
		n += c->bh == t->bh && c->from <= t->at && c->to >= t->begin;
	}
	return n;
}

static bool overlap(const struct change *a, const struct change *b, uint64_t from, uint64_t to)
{
	from = a->from > from ? a->from : from;
	from = b->from > from ? b->from : from;
	to = a->to < to ? a->to : to;
	to = b->to < to ? b->to : to;
	return from <= to;
}

/* Whether two were misplaced at once since the last execution at which none was: gaps.h
 * promises nothing then. */
static bool is_crowded(const struct truths *truths, const struct truth *t)
{
	uint64_t calm = 0;

	if (misplaced(truths, t) > 1)
		return true;

	for (const struct truth *e = t; e-- > truths->truth && !calm;)
		if (e->bh == t->bh && !misplaced(truths, e))
			calm = e->begin;
	for (unsigned i = 0; i < truths->n_changes; i++)
		for (unsigned k = i + 1; k < truths->n_changes; k++) {
			const struct change *a = &truths->change[i], *b = &truths->change[k];
			if (a->bh == t->bh && b->bh == t->bh && overlap(a, b, calm, t->begin + SIM_ERROR_NS))
				return true;
		}
	return false;
}

/* What the memory knows of the execution that ended the gap. */
static const struct truth *truth_of(const struct truths *truths, const struct bht_gap *gap)
{
	for (unsigned i = 0; i < truths->n; i++) {
		const struct truth *t = &truths->truth[i];
		if (t->begin == bht_time(&gap->begin) && (uintptr_t)sim_bh(t->bh) == gap->bh)
			return t;
	}
	return NULL;
}

static bool was_rescued(const struct sim *s, const struct bht_gap *gap)
{
	for (unsigned r = 0; r < s->n_rescues; r++)
		if ((uintptr_t)sim_bh(s->rescue[r].bh) == gap->bh && s->rescue[r].to == bht_time(&gap->wait_end))
			return true;
	return s->n_rescues == SIM_RESCUES;
}

static unsigned judge(const struct sim *s, const struct truths *truths, const struct bht_gaps *g, unsigned number,
		      struct tally *t)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < g->n_worst; i++) {
		const struct bht_gap *gap = &g->worst[i];
		const struct truth *truth = truth_of(truths, gap);
		assert_non_null(truth);
		bool right = is_true(truths, truth, gap), luck = !gap->rescue || was_rescued(s, gap);
		t->rescued += gap->rescue != BHT_NOT_RESCUED;
		if (!right && is_crowded(truths, truth)) {
			t->crowded++;
			continue;
		}
		if (!right || !luck)
			print_message("history %u, fault %d: %s: bh %llx, %llu to %llu\n", number, s->fault,
				      right ? "not rescued" : "another schedule", (unsigned long long)gap->bh,
				      (unsigned long long)bht_time(&gap->schedule),
				      (unsigned long long)bht_time(&gap->begin));
		wrong += !right || !luck;
	}
	t->executions += total(g, BHT_EXECUTIONS);
	t->measured += g->n_worst;
	t->wrong += wrong;
	return wrong;
}

static void one_history(struct sim *s, struct truths *truths, struct recording *r, unsigned number)
{
	static const unsigned rates[] = { 0, 0, 100, 10000 };
	unsigned rate = rates[number % 4];
	struct bht_gaps g, again;

	sim_begin(s, (enum sim_fault)(number / 4 % SIM_FAULTS), 1000000 + number);
	if (!run(s, truths))
		return;
	note_records(s, truths);
	for (unsigned t = 0; t < SIM_THREADS; t++)
		record(s, t, rate, rate && !sim_rnd(s, 8) ? sim_rnd(s, s->thread[t].n + 1) : 0, &r->lane[t]);
	read_it(r, &g, NULL);
	assert_true(r->lossy || !g.again);
	judge(s, truths, &g, number, &tally[rate != 0]);
	if (g.again) {
		read_it(r, &again, &g);
		assert_false(again.again);
		assert_true(again.n_worst >= g.n_worst);
		judge(s, truths, &again, number, &tally[1]);
		tally[1].again++;
		bht_gaps_free(&again);
	}
	bht_gaps_free(&g);
}

static void as_the_memory_says(void **state)
{
	struct sim *s = calloc(1, sizeof(*s));
	struct truths *truths = calloc(1, sizeof(*truths));
	struct recording *r = calloc(1, sizeof(*r));

	(void)state;
	assert_true(s && truths && r);
	for (unsigned i = 0; i < HISTORIES; i++)
		one_history(s, truths, r, i);
	for (unsigned i = 0; i < 2; i++)
		print_message("  %s loss: %u executions, %u measured, %u rescued, %u + %u wrong; %u read again\n",
			      i ? "with" : "without", tally[i].executions, tally[i].measured, tally[i].rescued,
			      tally[i].crowded, tally[i].wrong, tally[i].again);
	free(r);
	free(truths);
	free(s);
	assert_int_equal(tally[0].wrong + tally[1].wrong, 0);
	/* It can only be wrong about what it measures. */
	assert_true(tally[0].measured > tally[0].executions / 2);
	assert_true(tally[1].measured > tally[1].executions / 4 && tally[1].again > HISTORIES / 50);
	assert_true(tally[0].rescued > 0 && tally[1].rescued > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_the_memory_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
