/* SPDX-License-Identifier: MIT */
/*
 * Random histories against an oracle. A small machine with store buffers (TSO)
 * runs two producers and a loop, one instruction at a time; the oracle is its
 * memory at the end: work that was published and never collected is lost. Then
 * the beginning of some rings is cut off, as a ring does when it wraps. The
 * verdict must be the right one or undecidable.
 */
#include "story.h"

enum { PRODUCERS = 2, THREADS = PRODUCERS + 1, HISTORIES = 4000, DRAIN_NS = 4000, MAX_STORES = 8 };
enum cell { FLAG, PAYLOAD, CELLS = PAYLOAD + PRODUCERS };

struct store {
	enum cell cell;
	uint64_t value, since;
};

struct machine {
	struct story *story;
	bool weak_producer, weak_loop, tickets;
	uint64_t memory[CELLS], now;
	struct store buffer[THREADS][MAX_STORES];
	unsigned n_stores[THREADS];
	unsigned step[THREADS];
	unsigned left[PRODUCERS];
	uint64_t collected[PRODUCERS], looked[PRODUCERS], began;
	uint64_t busy_until[PRODUCERS];
};

static uint64_t seed;

static uint32_t rnd(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 33) % n;
}

/* --- memory with store buffers --------------------------------------------------- */

static void drain_one(struct machine *m, unsigned t)
{
	m->memory[m->buffer[t][0].cell] = m->buffer[t][0].value;
	memmove(m->buffer[t], m->buffer[t] + 1, --m->n_stores[t] * sizeof(struct store));
}

static void drain(struct machine *m, unsigned t)
{
	while (m->n_stores[t])
		drain_one(m, t);
}

static void store(struct machine *m, unsigned t, enum cell cell, uint64_t value)
{
	if (m->n_stores[t] == MAX_STORES)
		drain_one(m, t);
	m->buffer[t][m->n_stores[t]++] = (struct store){ cell, value, m->now };
}

static uint64_t load(struct machine *m, unsigned t, enum cell cell)
{
	for (unsigned i = m->n_stores[t]; i-- > 0;)
		if (m->buffer[t][i].cell == cell)
			return m->buffer[t][i].value;
	return m->memory[cell];
}

static uint64_t exchange(struct machine *m, unsigned t, enum cell cell, uint64_t value)
{
	drain(m, t);
	uint64_t old = m->memory[cell];
	m->memory[cell] = value;
	return old;
}

/* --- the protocol --------------------------------------------------------------------- */

static uint64_t ticket_of(const struct machine *m, unsigned p, uint64_t n)
{
	return m->tickets ? (uint64_t)(p + 1) << 32 | n : 0;
}

static void producer_step(struct machine *m, unsigned t)
{
	unsigned p = t - 1;
	uint64_t seen;

	if (m->now < m->busy_until[p] || !m->left[p])
		return;
	if (m->step[t] == 0) {
		store(m, t, PAYLOAD + p, load(m, t, PAYLOAD + p) + 1);
		m->step[t] = 1;
		return;
	}
	seen = m->weak_producer ? load(m, t, FLAG) : 0;
	if (!seen)
		seen = exchange(m, t, FLAG, 1);
	tell(m->story, LOOP_TID + t, m->now + rnd(20), schedule, .loop = LOOP, .bh = BH, .seen = (uint8_t)seen,
	     .ticket = ticket_of(m, p, load(m, t, PAYLOAD + p)));
	m->step[t] = 0;
	m->left[p]--;
	m->busy_until[p] = m->now + (rnd(4) ? rnd(300) : rnd(40000));
}

static void loop_collects(struct machine *m)
{
	for (unsigned p = 0; p < PRODUCERS; p++)
		while (m->collected[p] < m->looked[p]) {
			m->collected[p]++;
			if (m->tickets)
				tell(m->story, LOOP_TID, m->now, consume, .loop = LOOP, .bh = BH,
				     .ticket = ticket_of(m, p, m->collected[p]));
		}
	tell(m->story, LOOP_TID, m->now + 1, execute_end, .loop = LOOP, .bh = BH, .begin = m->began);
}

static void loop_step(struct machine *m)
{
	unsigned step = m->step[0];

	if (step == 0) {
		if (!load(m, 0, FLAG))
			return;
		m->began = m->now;
		tell(m->story, LOOP_TID, m->now, execute_begin, .loop = LOOP, .bh = BH);
		m->story->last.bh[0].runs++;
		m->story->last.bh[0].last_run = m->now;
	} else if (step == 1) {
		if (m->weak_loop)
			store(m, 0, FLAG, 0);
		else
			exchange(m, 0, FLAG, 0);
	} else if (step < 2 + PRODUCERS) {
		m->looked[step - 2] = load(m, 0, PAYLOAD + (step - 2));
	} else {
		loop_collects(m);
		m->step[0] = 0;
		return;
	}
	m->step[0]++;
}

static bool finished(struct machine *m)
{
	for (unsigned p = 0; p < PRODUCERS; p++)
		if (m->left[p])
			return false;
	for (unsigned t = 0; t < THREADS; t++)
		if (m->n_stores[t])
			return false;
	return m->step[0] == 0 && !m->memory[FLAG];
}

static void run(struct machine *m)
{
	while (!finished(m)) {
		unsigned t = rnd(THREADS);

		m->now += 1 + rnd(40);
		if (t == 0)
			loop_step(m);
		else
			producer_step(m, t);
		for (t = 0; t < THREADS; t++)
			if (m->n_stores[t] && (!rnd(12) || m->buffer[t][0].since + DRAIN_NS < m->now))
				drain_one(m, t);
	}
}

static bool anything_lost(const struct machine *m)
{
	for (unsigned p = 0; p < PRODUCERS; p++)
		if (m->collected[p] < m->memory[PAYLOAD + p])
			return true;
	return false;
}

/* --- the recorder --------------------------------------------------------------------- */

static int by_time(const void *a, const void *b)
{
	const struct bht_event *x = a, *y = b;

	return (x->r.word[0] > y->r.word[0]) - (x->r.word[0] < y->r.word[0]);
}

/* Cuts a random beginning off the history of thread TID. Whether anything. */
static bool wrap_ring(struct story *s, uint32_t tid)
{
	unsigned of_thread = 0, kept = 0, cut, n = 0;

	for (unsigned i = 0; i < s->n; i++)
		of_thread += s->event[i].tid == tid;
	cut = rnd(of_thread + 1);
	if (!cut)
		return false;
	for (unsigned i = 0; i < s->n; i++) {
		bool mine = s->event[i].tid == tid;
		if (!mine || n++ >= cut)
			s->event[kept++] = s->event[i];
		else if (n == cut)
			s->event[kept++] =
				bht_loss(bhp_record_time(&s->event[i].r) + 1, tid, BHT_LOSS_OVERWRITTEN, cut);
	}
	s->n = kept;
	return true;
}

struct tally {
	unsigned lost, right, undecidable, false_alarm;
};

static void check(struct machine *m, bool lossy, struct tally *tally)
{
	struct story *s = m->story;
	bool lost = anything_lost(m), weak = m->weak_loop || m->weak_producer;
	struct bht_diagnosis d;

	both(s, loop[0].protocol, weak ? 0 : BHP_PROTOCOL_FULL_BARRIER);
	s->first.bh[0] = s->last.bh[0];
	s->ev.first.ticks = m->now + 100000;
	s->ev.last.ticks = m->now + 20000000;
	story_diagnose(s, &d);
	bool found = d.verdict == BHT_LOST;
	bool proved = found && d.findings[0].confidence == BHT_PROVED;
	assert_true(!found || d.findings[0].rule == BHT_RULE_FLAG_RACE);
	tally->lost += lost;
	tally->right += found == lost && d.verdict != BHT_UNDECIDABLE;
	tally->undecidable += d.verdict == BHT_UNDECIDABLE;
	tally->false_alarm += found && !lost;
	/* Never a false "healthy"; proved is proved; a full barrier or tickets
	 * leave no room for a false alarm; without loss tickets decide. */
	assert_false(lost && d.verdict == BHT_HEALTHY);
	assert_false(proved && !lost);
	assert_false(found && !lost && (m->tickets || !weak));
	if (!lossy && m->tickets)
		assert_true(lost ? proved : d.verdict == BHT_HEALTHY);
	bht_diagnosis_free(&d);
}

static void histories(bool weak_producer, bool weak_loop, bool tickets, bool lossy, struct tally *tally)
{
	struct story *story = calloc(1, sizeof(*story));

	assert_non_null(story);
	seed = 88172645463325252u;
	for (unsigned i = 0; i < HISTORIES; i++) {
		struct machine m = { .story = story,
				     .weak_producer = weak_producer,
				     .weak_loop = weak_loop,
				     .tickets = tickets,
				     .now = 1000000 };
		bool cut = false;

		story_begin(story);
		for (unsigned p = 0; p < PRODUCERS; p++)
			m.left[p] = 1 + rnd(20);
		run(&m);
		qsort(story->event, story->n, sizeof(story->event[0]), by_time);
		for (uint32_t t = 0; lossy && t < THREADS; t++)
			cut |= rnd(2) && wrap_ring(story, LOOP_TID + t);
		check(&m, cut, tally);
	}
	free(story);
	print_message(
		"  %-8s %-8s tickets %d cut %d: %4u of %d lost; %4u right, %4u undecidable, %4u idle but suspect\n",
		weak_producer ? "weak" : "strong", weak_loop ? "weak" : "strong", tickets, lossy, tally->lost,
		HISTORIES, tally->right, tally->undecidable, tally->false_alarm);
}

static void each_protocol(bool tickets, bool lossy)
{
	for (unsigned weak = 0; weak < 4; weak++) {
		struct tally tally = { 0 };

		histories(weak & 1, weak & 2, tickets, lossy, &tally);
		/* The test can fail only if the weak ones do lose wakeups. */
		assert_true(weak ? tally.lost > HISTORIES / 50 : tally.lost == 0);
		assert_true(weak || lossy ? true : tally.right == HISTORIES);
	}
}

static void with_tickets(void **state)
{
	(void)state;
	each_protocol(true, false);
}

static void with_tickets_and_loss(void **state)
{
	(void)state;
	each_protocol(true, true);
}

static void without_tickets(void **state)
{
	(void)state;
	each_protocol(false, false);
}

static void without_tickets_and_loss(void **state)
{
	(void)state;
	each_protocol(false, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_tickets),
		cmocka_unit_test(with_tickets_and_loss),
		cmocka_unit_test(without_tickets),
		cmocka_unit_test(without_tickets_and_loss),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
