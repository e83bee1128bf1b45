/* SPDX-License-Identifier: MIT */
/*
 * Never wrong under loss: random histories of the whole protocol, with a fault
 * or without, by clocks that disagree within the stated error, merged by their
 * stamps, with events missing at random and rings that wrapped, shown as a live
 * process, a core or ring files would show them.
 *
 * The verdict is the right one or undecidable: never healthy when something is
 * lost, never another rule, never a finding when nothing is wrong. What was only
 * late is known from its events alone: it may be overlooked when some of them
 * are missing.
 *
 * What the kernel tells, true or not, changes no verdict and no finding.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "diagnosis.h"
#include "simulator_run.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { HISTORIES = 3000 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { HISTORIES = 3000 };
#else
enum { HISTORIES = 10000 };
#endif
#else
enum { HISTORIES = 10000 };
#endif

enum { PPM = 1000000 };

#ifndef FIRST_SEED
#define FIRST_SEED 1
#endif
static const unsigned rates[] = { 0, 100, 1000, 10000, 100000, 500000 }; /* of a million events */
enum { RATES = sizeof(rates) / sizeof(rates[0]) };

/* --- evidence ------------------------------------------------------------------------------ */

struct look {
	struct bht_evidence ev;
	struct bht_loop loop;
	struct bht_bh bh[SIM_BHS];
	struct bht_thread thread[SIM_THREADS];
};

static void look_at_objects(struct look *l, const struct sim *s, bool kernel)
{
	bool race = s->fault == SIM_RACE_PRODUCER || s->fault == SIM_RACE_CONSUMER;

	l->loop = (struct bht_loop){ .addr = (uintptr_t)sim_loop(),
				     .serial = 1,
				     .name = "main",
				     .protocol = race ? 0 : BHP_PROTOCOL_FULL_BARRIER,
				     .owner = SIM_TID,
				     .where = BHP_WAIT,
				     .depth = s->depth,
				     .iteration = s->iteration,
				     .notify_me = s->notify_me,
				     .notifier_fd = 5,
				     .current_since = s->wait_from,
				     .wait_timeout_ns = s->timeout,
				     .notifier_count = kernel ? (int64_t)s->count : -1,
				     .notifier_watched = kernel ? s->watched : -1,
				     .embedder_watches = -1 };
	for (unsigned i = 0; i < SIM_BHS; i++)
		l->bh[i] = (struct bht_bh){ .addr = (uintptr_t)sim_bh(i),
					    .serial = 1 + i,
					    .name = "bh",
					    .loop = (uintptr_t)sim_loop(),
					    .state = BHP_LIVE,
					    .flags = s->bh[i].flags,
					    .runs = s->bh[i].runs,
					    .last_run = s->bh[i].last_run };
}

static void look_at(struct look *l, const struct sim *s, enum bht_origin origin)
{
	bool kernel = origin == BHT_FROM_PROCESS;

	*l = (struct look){ .ev = { .origin = origin,
				    .pid = SIM_TID,
				    .live = kernel,
				    .ticks_per_ns = 1,
				    .clock_error_ns = SIM_ERROR_NS } };
	look_at_objects(l, s, kernel);
	for (unsigned t = 0; t < SIM_THREADS; t++)
		l->thread[t] = (struct bht_thread){ .tid = SIM_TID + t,
						    .name = "t",
						    .state = origin == BHT_FROM_RINGS      ? '?'
							     : s->frozen && t == s->frozen ? 'R'
											   : 'S',
						    .syscall = BHT_SYSCALL_UNKNOWN };
	l->ev.last = (struct bht_sample){ .ticks = s->now + 20000000,
					  .loops = &l->loop,
					  .n_loops = 1,
					  .bhs = l->bh,
					  .n_bhs = SIM_BHS,
					  .threads = l->thread,
					  .n_threads = SIM_THREADS };
	if (!kernel)
		return;
	l->ev.first = l->ev.last;
	l->ev.first.ticks = s->now + 1000;
}

/* --- the recorder ------------------------------------------------------------------------------ */

struct ring {
	struct bht_source base;
	struct bht_event event[2 * SIM_EVENTS];
	unsigned n, next;
};

static int ring_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct ring *r = (struct ring *)source;
	unsigned n = r->n - r->next < max ? r->n - r->next : max;

	memcpy(e, r->event + r->next, n * sizeof(*e));
	r->next += n;
	return (int)n;
}

static void ring_close(struct bht_source *source)
{
	free(source);
}

/* A stretch in which the history of some thread is not complete. */
struct hole {
	uint64_t from, to;
};

struct holes {
	struct hole hole[SIM_THREADS * SIM_EVENTS];
	unsigned n;
};

/* What is left of a thread's events. The first CUT are overwritten. */
static struct bht_source *record(struct sim *s, unsigned t, unsigned rate, unsigned cut, struct holes *holes)
{
	const struct sim_thread *thread = &s->thread[t];
	struct ring *r = calloc(1, sizeof(*r));
	uint64_t last = 0, end = s->now + 20000000;
	unsigned missing = 0;

	assert_non_null(r);
	r->base = (struct bht_source){ ring_next, ring_close };
	for (unsigned i = 0; i <= thread->n; i++) {
		uint64_t at = i < thread->n ? bhp_record_time(&thread->event[i].r) : end;
		if (i < thread->n && (i < cut || sim_rnd(s, PPM) < rate)) {
			missing++;
			continue;
		}
		if (missing) {
			r->event[r->n++] = bht_loss(at, SIM_TID + t, BHT_LOSS_OVERWRITTEN, missing);
			holes->hole[holes->n++] = (struct hole){ last, at };
		}
		missing = 0;
		last = at;
		if (i < thread->n)
			r->event[r->n++] = thread->event[i];
	}
	return &r->base;
}

static struct bht_source *record_all(struct sim *s, unsigned rate, struct holes *holes)
{
	struct bht_source *sources[SIM_THREADS];

	holes->n = 0;
	for (unsigned t = 0; t < SIM_THREADS; t++) {
		bool wraps = rate && !sim_rnd(s, 4);
		sources[t] = record(s, t, rate, wraps ? sim_rnd(s, s->thread[t].n + 1) : 0, holes);
	}
	return bht_merge(sources, SIM_THREADS);
}

/* --- the kernel ------------------------------------------------------------------------------ */

/* OF with events of the kernel in between, of these threads and of others. */
struct sprinkled {
	struct bht_source base;
	struct bht_source *of;
	struct sim *s; /* for chance */
	uint64_t now;
};

static struct bht_event kernel_event(struct sprinkled *k)
{
	struct bht_event e = { .tid = SIM_TID + sim_rnd(k->s, SIM_THREADS + 2) };
	const uint32_t some = sim_rnd(k->s, 12), cpu = sim_rnd(k->s, 2);

	switch (sim_rnd(k->s, 5)) {
	case 0:
		e.r = bhp_encode_waking(k->now, &(struct bhp_waking){ some, cpu });
		break;
	case 1:
		e.r = bhp_encode_switch_in(k->now, &(struct bhp_switch_in){ some, cpu });
		break;
	case 2:
		e.r = bhp_encode_switch_out(k->now, &(struct bhp_switch_out){ (uint8_t)(some % 6), some, cpu });
		break;
	case 3:
		e.r = bhp_encode_call_begin(k->now, &(struct bhp_call_begin){ (uint8_t)(some % 7), 5, cpu, -1 });
		break;
	default:
		e.r = bhp_encode_call_end(k->now, &(struct bhp_call_end){ (uint8_t)(some % 7), 5, cpu, 1 });
	}
	/* One that lies about its loop and its bottom half. */
	if (!sim_rnd(k->s, 8))
		bhp_put_LOOP(&e.r, (uintptr_t)sim_loop());
	return e;
}

static int sprinkled_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct sprinkled *k = (struct sprinkled *)source;
	unsigned n = 0;

	while (n < max - 1 && sim_rnd(k->s, 3))
		e[n++] = kernel_event(k);
	int rc = k->of->next(k->of, &e[n], 1);
	if (rc > 0)
		k->now = bht_time(&e[n]);
	return rc < 0 ? rc : (int)n + rc;
}

static void sprinkled_close(struct bht_source *source)
{
	struct sprinkled *k = (struct sprinkled *)source;

	k->of->close(k->of);
	free(k);
}

static struct bht_source *sprinkle(struct sim *s, struct bht_source *of)
{
	struct sprinkled *k = malloc(sizeof(*k));

	assert_non_null(k);
	*k = (struct sprinkled){ { sprinkled_next, sprinkled_close }, of, s, 1 };
	return &k->base;
}

/* The words of what was late may name a cause more. */
static bool same_finding(const struct bht_finding *a, const struct bht_finding *b)
{
	return a->rule == b->rule && a->confidence == b->confidence && a->origin == b->origin &&
	       a->bh.addr == b->bh.addr && a->loop.addr == b->loop.addr && a->n_witness == b->n_witness &&
	       !memcmp(a->witness, b->witness, a->n_witness * sizeof(a->witness[0])) &&
	       (bht_rules[a->rule].verdict == BHT_LATE || !strcmp(a->detail, b->detail));
}

static bool same_diagnosis(const struct bht_diagnosis *a, const struct bht_diagnosis *b, const struct look *l)
{
	bool same = a->verdict == b->verdict && a->n_findings == b->n_findings && a->n_reasons == b->n_reasons &&
		    a->n_events == b->n_events && a->lost_events == b->lost_events && a->n_begun == b->n_begun &&
		    !strcmp(a->loss_why, b->loss_why) &&
		    !memcmp(a->standing, b->standing, l->ev.last.n_bhs * sizeof(*a->standing));

	for (unsigned i = 0; same && i < a->n_findings; i++)
		same = same_finding(&a->findings[i], &b->findings[i]);
	for (unsigned i = 0; same && i < a->n_reasons; i++)
		same = !strcmp(a->reasons[i], b->reasons[i]);
	return same;
}

/* --- the oracle ------------------------------------------------------------------------------------ */

static bool race_lost(const struct sim *s, unsigned i)
{
	if (s->fault != SIM_RACE_PRODUCER && s->fault != SIM_RACE_CONSUMER)
		return false;
	for (unsigned p = 0; p < SIM_PRODUCERS; p++)
		if (s->bh[i].collected[p] < s->bh[i].payload[p])
			return !(s->bh[i].flags & BHP_FLAG_SCHEDULED);
	return false;
}

/* What happened to bottom half I; BHT_RULES: nothing is lost. */
static enum bht_rule_id lost_by(const struct sim *s, unsigned i)
{
	if (race_lost(s, i))
		return BHT_RULE_FLAG_RACE;
	if (!sim_due(s, i) || s->bh[i].fate == FATE_SET || (s->count && s->watched))
		return BHT_RULES;
	/* On its way, if the one who undertook to write it has not. */
	if (s->frozen)
		return BHT_RULES;
	if (s->count)
		return BHT_RULE_FD_UNWATCHED;
	return s->bh[i].fate == FATE_MISSING   ? BHT_RULE_NOTIFY_MISSING
	       : s->bh[i].fate == FATE_SKIPPED ? BHT_RULE_NOTIFY_SKIPPED
					       : BHT_RULE_NOTIFY_STOLEN;
}

/* A rescue whose stamps leave no doubt. */
static bool surely_rescued(const struct sim *s)
{
	for (unsigned r = 0; r < s->n_rescues; r++)
		if (s->rescue[r].sure)
			return true;
	return false;
}

static bool was_rescued(const struct sim *s, unsigned i)
{
	for (unsigned r = 0; r < s->n_rescues; r++)
		if (s->rescue[r].bh == i)
			return true;
	return false;
}

/* Whether another schedule that set the same flag is recorded meanwhile: late,
 * since it had been run before. Then nobody can say which one this was. */
static bool is_muddled(const struct sim *s, const struct sim_rescue *x)
{
	for (unsigned t = 1; t <= s->n_producers; t++)
		for (unsigned i = 0; t != x->setter && i < s->thread[t].n; i++) {
			const struct bhp_record *r = &s->thread[t].event[i].r;
			if (bhp_record_id(r) == BHP_ID_schedule && bhp_decode_schedule(r).seen == 0 &&
			    bhp_get_BH(r) == (uintptr_t)sim_bh(x->bh) && bhp_record_time(r) + SIM_ERROR_NS > x->from &&
			    bhp_record_time(r) < x->to + SIM_ERROR_NS)
				return true;
		}
	return false;
}

/* Whether a rescue is in the history for sure, so that it must be seen. */
static bool rescue_shows(const struct sim *s, const struct holes *holes, enum bht_origin origin)
{
	for (unsigned r = 0; r < s->n_rescues; r++) {
		const struct sim_rescue *x = &s->rescue[r];
		const struct sim_thread *setter = &s->thread[x->setter];
		bool shows = x->sure && !is_muddled(s, x);
		for (unsigned h = 0; h < holes->n; h++)
			if (holes->hole[h].from <= x->to + 100000 && holes->hole[h].to + 100000 >= x->from)
				shows = false;
		/* Nobody knows whether a thread that was killed would have notified. */
		if (origin == BHT_FROM_RINGS && bhp_record_time(&setter->event[setter->n - 1].r) <= x->from)
			shows = false;
		if (shows)
			return true;
	}
	return false;
}

/* The last one: rescued perhaps, or in a way that no rule names. Not counted. */
enum truth { TRUTH_HEALTHY, TRUTH_LOST, TRUTH_LATE, TRUTHS, TRUTH_OPEN = TRUTHS };

struct tally {
	unsigned right, undecidable, overlooked;
};

static struct tally tally[RATES][TRUTHS + 1];

static bool true_finding(const struct sim *s, const struct bht_finding *f)
{
	for (unsigned i = 0; i < SIM_BHS; i++)
		if (f->bh.addr == (uintptr_t)sim_bh(i))
			return f->rule == BHT_RULE_RESCUED ? was_rescued(s, i) : f->rule == lost_by(s, i);
	return false;
}

static void blame(const struct sim *s, unsigned number, const struct look *l, const struct bht_diagnosis *d,
		  const char *what)
{
	print_message("history %u, fault %d, origin %d: %s: got %s", number, s->fault, l->ev.origin, what,
		      bht_verdict_name(d->verdict));
	for (unsigned i = 0; i < d->n_findings; i++)
		print_message(" [%s %llx %s %s]", bht_rules[d->findings[i].rule].id,
			      (unsigned long long)d->findings[i].bh.addr,
			      bht_confidence_name(d->findings[i].confidence), d->findings[i].detail);
	for (unsigned i = 0; i < SIM_BHS; i++)
		print_message(" bh %u: %s", i, lost_by(s, i) < BHT_RULES ? bht_rules[lost_by(s, i)].id : "fine");
	print_message(" %s\n", d->n_reasons ? d->reasons[0] : "");
}

/* Number of things that are wrong. */
static unsigned judge(const struct sim *s, unsigned number, const struct look *l, const struct bht_diagnosis *d,
		      const struct holes *holes, struct tally *t)
{
	bool shows = rescue_shows(s, holes, l->ev.origin), hung = false;
	enum truth truth = TRUTH_HEALTHY;
	unsigned wrong = 0;

	for (unsigned i = 0; i < SIM_BHS; i++)
		hung |= lost_by(s, i) != BHT_RULES;
	truth = hung ? TRUTH_LOST : surely_rescued(s) ? TRUTH_LATE : s->n_rescues ? TRUTH_OPEN : TRUTH_HEALTHY;
	for (unsigned i = 0; i < d->n_findings; i++)
		if (!true_finding(s, &d->findings[i])) {
			blame(s, number, l, d, "a finding that is not true");
			wrong++;
		}
	if (hung && d->verdict != BHT_LOST && d->verdict != BHT_UNDECIDABLE) {
		blame(s, number, l, d, "hung");
		wrong++;
	}
	if (!hung && shows && d->verdict == BHT_HEALTHY) {
		blame(s, number, l, d, "a rescue was overlooked");
		wrong++;
	}
	t[truth].undecidable += d->verdict == BHT_UNDECIDABLE;
	t[truth].overlooked += truth == TRUTH_LATE && d->verdict == BHT_HEALTHY;
	t[truth].right += d->verdict == (hung ? BHT_LOST : surely_rescued(s) ? BHT_LATE : BHT_HEALTHY);
	return wrong;
}

/* --- the tests ----------------------------------------------------------------------------------------- */

static void diagnose(const struct look *l, struct bht_source *source, struct bht_diagnosis *d)
{
	assert_non_null(source);
	assert_int_equal(bht_diagnose(&l->ev, source, BHT_LATE_NS, d), 0);
	source->close(source);
}

static unsigned one_history(struct sim *s, struct holes *holes, enum sim_fault fault, unsigned number)
{
	static const enum bht_origin origins[] = { BHT_FROM_PROCESS, BHT_FROM_CORE, BHT_FROM_RINGS };
	unsigned rate = number % RATES;
	struct bht_diagnosis d, told;
	struct look look;

	sim_begin(s, fault, FIRST_SEED + number);
	assert_true(sim_run(s));
	look_at(&look, s, origins[sim_rnd(s, 4) % 3]);
	const uint64_t seed = s->seed;
	diagnose(&look, record_all(s, rates[rate], holes), &d);
	unsigned wrong = judge(s, number, &look, &d, holes, tally[rate]);
	s->seed = seed;
	diagnose(&look, sprinkle(s, record_all(s, rates[rate], holes)), &told);
	if (!same_diagnosis(&d, &told, &look)) {
		blame(s, number, &look, &told, "another one when the kernel tells");
		wrong++;
	}
	bht_diagnosis_free(&d);
	bht_diagnosis_free(&told);
	return wrong;
}

static void print_table(void)
{
	static const char *const names[] = { "healthy", "lost", "late" };

	print_message("  events lost    truth    histories   right  undecidable  overlooked\n");
	for (unsigned r = 0; r < RATES; r++)
		for (unsigned i = 0; i < TRUTHS; i++) {
			const struct tally *t = &tally[r][i];
			unsigned n = t->right + t->undecidable + t->overlooked;
			print_message("  %10.2f %%  %-8s %9u %6.1f %% %10.1f %% %9.1f %%\n", rates[r] / 1e4, names[i],
				      n, 100.0 * t->right / n, 100.0 * t->undecidable / n, 100.0 * t->overlooked / n);
		}
}

static void right_or_undecidable(void **state)
{
	struct sim *s = calloc(1, sizeof(*s));
	struct holes *holes = calloc(1, sizeof(*holes));
	unsigned wrong = 0;

	(void)state;
	assert_non_null(s);
	assert_non_null(holes);
	for (unsigned i = 0; i < HISTORIES; i++) {
		wrong += one_history(s, holes, (enum sim_fault)(i / RATES % SIM_FAULTS), i);
	}
	print_table();
	free(holes);
	free(s);
	assert_int_equal(wrong, 0);
	/* It can only fail if there is something to find, and to tell apart. */
	for (unsigned i = 0; i < TRUTHS; i++) {
		const struct tally *none = &tally[0][i], *half = &tally[RATES - 1][i];
		assert_true(none->right > HISTORIES / 400);
		assert_true(half->undecidable + half->overlooked > 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_or_undecidable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
