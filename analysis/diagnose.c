/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "case.h"

static bht_rule_fn *const rules[] = { bht_rule_flag_race, bht_rule_notification, bht_rule_callback };

enum { N_RULES = sizeof(rules) / sizeof(rules[0]) };

static int feed_all(struct bht_machines *m, struct bht_source *history)
{
	struct bht_event e[BHT_BATCH];
	int n, r;

	while ((n = history->next(history, e, BHT_BATCH)) > 0) {
		for (int i = 0; i < n; i++) {
			r = bht_machines_feed(m, &e[i]);
			if (r != 0)
				return r;
		}
	}
	return n;
}

/* A loop in a state that no rule of this version names is not called healthy. */
static void loop_reasons(struct bht_case *c, const struct bht_loop_status *s)
{
	const struct bht_loop *loop = s->loop;
	const char *name = loop->name;

	switch (s->activity) {
	case BHT_TURNING:
		c->d->n_running++;
		return;
	case BHT_ASLEEP:
		c->d->n_asleep++;
		return;
	case BHT_NOT_POLLED:
		return;
	case BHT_OWNER_UNKNOWN:
		bht_reason(c, "loop \"%s\" was being polled by thread %u, which is gone", name, loop->owner);
		return;
	case BHT_UNSTABLE:
		bht_reason(c, "loop \"%s\" changed between the samples without making a turn", name);
		return;
	case BHT_NO_CPU:
		if (s->thread->state == 'T' || s->thread->state == 't')
			bht_reason(
				c,
				"the thread of loop \"%s\" (tid %u) is stopped (state %c), by a signal or a debugger",
				name, loop->owner, s->thread->state);
		else
			bht_reason(c, "the thread of loop \"%s\" (tid %u, state %c) could run but got no CPU", name,
				   loop->owner, s->thread->state);
		return;
	case BHT_BLOCKED:
	case BHT_ON_CPU:
		if (loop->where != BHP_IN_BH)
			bht_reason(c,
				   "the thread of loop \"%s\" (tid %u) %s outside bottom halves and did not come back",
				   name, loop->owner, s->activity == BHT_BLOCKED ? "sleeps" : "runs");
	}
}

static void bh_reasons(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *bh)
{
	if (s->activity == BHT_NOT_POLLED && bh->state == BHP_LIVE && bh->flags & BHP_FLAG_SCHEDULED)
		bht_reason(c, "bottom half \"%s\" is scheduled, but nobody polls loop \"%s\"", bh->name, s->loop->name);
}

static void look_at_loop(struct bht_case *c, const struct bht_loop *loop)
{
	const struct bht_sample *sample = &c->ev->last;
	struct bht_loop_status status = bht_loop_status(c->ev, loop);

	loop_reasons(c, &status);
	for (unsigned r = 0; r < N_RULES; r++)
		rules[r](c, &status, NULL);
	for (size_t i = 0; i < sample->n_bhs; i++) {
		const struct bht_bh *bh = &sample->bhs[i];

		if (bh->loop != loop->addr)
			continue;
		bh_reasons(c, &status, bh);
		for (unsigned r = 0; r < N_RULES; r++)
			rules[r](c, &status, bh);
	}
}

static void describe_loss(struct bht_case *c)
{
	struct bht_diagnosis *d = c->d;
	const struct bht_machines *m = c->m;
	static const char *const why[] = { [BHT_LOSS_OVERWRITTEN] = "overwritten by newer ones",
					   [BHT_LOSS_UNSTABLE] = "overwritten while they were read",
					   [BHT_LOSS_DROPPED] = "dropped by the recorder",
					   [BHT_LOSS_DAMAGED] = "damaged" };
	int n = 0;

	d->lost_events = m->lost;
	for (unsigned i = BHT_LOSS_OVERWRITTEN; i <= BHT_LOSS_DAMAGED; i++)
		if (m->losses[i])
			n += snprintf(d->loss_why + n, sizeof(d->loss_why) - (size_t)n, "%s%s", n ? ", " : "", why[i]);
	if (n)
		snprintf(d->loss_why + n, sizeof(d->loss_why) - (size_t)n,
			 "; the history of all threads is complete for the last %.3f ms",
			 bht_ns(c->ev, bht_complete_since(m), c->ev->last.ticks) / 1e6);
}

static int worst_first(const void *a, const void *b)
{
	const struct bht_finding *x = a, *y = b;
	int by_verdict = (int)bht_rules[y->rule].verdict - (int)bht_rules[x->rule].verdict;

	return by_verdict ? by_verdict : (int)y->confidence - (int)x->confidence;
}

static void conclude(struct bht_diagnosis *d)
{
	if (d->n_findings) {
		qsort(d->findings, d->n_findings, sizeof(*d->findings), worst_first);
		d->verdict = bht_rules[d->findings[0].rule].verdict;
	} else {
		d->verdict = d->n_reasons ? BHT_UNDECIDABLE : BHT_HEALTHY;
	}
}

int bht_diagnose(const struct bht_evidence *ev, struct bht_source *history, struct bht_diagnosis *d)
{
	struct bht_machines m = { 0 };
	struct bht_case c = { .ev = ev, .m = &m, .history = history != NULL, .d = d };
	int r;

	*d = (struct bht_diagnosis){ .n_loops = (unsigned)ev->last.n_loops, .n_bhs = (unsigned)ev->last.n_bhs };
	r = history ? feed_all(&m, history) : 0;
	if (r == 0) {
		d->n_events = m.n_events;
		if (ev->last.unstable)
			bht_reason(&c, "loops or bottom halves came and went while they were listed");
		for (size_t i = 0; i < ev->last.n_loops; i++)
			look_at_loop(&c, &ev->last.loops[i]);
		bht_flag_race_rank(&c);
		describe_loss(&c);
		conclude(d);
		r = c.error;
	}
	bht_machines_free(&m);
	return r;
}

void bht_diagnosis_free(struct bht_diagnosis *d)
{
	free(d->findings);
	*d = (struct bht_diagnosis){ 0 };
}
