/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "adapter.h"
#include "array.h"
#include "case.h"

static bht_rule_fn *const rules[] = { bht_rule_flag_race, bht_rule_notification, bht_rule_unheard, bht_rule_stranded,
				      bht_rule_blocked,   bht_rule_spinning,     bht_rule_starved, bht_rule_nested };

enum { N_RULES = sizeof(rules) / sizeof(rules[0]) };

static int feed_all(struct bht_machines *m, struct bht_source *history, uint64_t until)
{
	struct bht_event e[BHT_BATCH];
	int n, r;

	while ((n = history->next(history, e, BHT_BATCH)) > 0) {
		for (int i = 0; i < n; i++) {
			if (bht_time(&e[i]) > until && bht_event_id(&e[i]) != BHT_ID_LOSS)
				continue;
			r = bht_machines_feed(m, &e[i]);
			if (r != 0)
				return r;
		}
	}
	return n;
}

static void no_cpu_reason(struct bht_case *c, const struct bht_loop_status *s)
{
	const struct bht_loop *loop = s->loop;

	if (bht_thread_stopped(s->thread))
		bht_reason(c, "the thread of loop \"%s\" (tid %u) is stopped (state %c), by a signal or a debugger",
			   loop->name, loop->owner, s->thread->state);
	else
		bht_reason(c, "the thread of loop \"%s\" (tid %u, state %c) could run but got no CPU", loop->name,
			   loop->owner, s->thread->state);
}

/* A loop in a state that no rule explained is not called healthy. */
static void loop_reasons(struct bht_case *c, const struct bht_loop_status *s)
{
	const struct bht_loop *loop = s->loop;

	c->d->n_running += s->activity == BHT_TURNING;
	c->d->n_asleep += bht_waits(s);
	if (bht_found_on(c, loop))
		return;
	if (s->activity == BHT_OWNER_UNKNOWN)
		bht_reason(c, "loop \"%s\" was being polled by thread %u, which is gone", loop->name, loop->owner);
	else if (s->activity == BHT_NO_CPU)
		no_cpu_reason(c, s);
	else if (s->activity == BHT_UNSTABLE && c->ev->live)
		bht_reason(c, "loop \"%s\" changed between the samples without making a turn", loop->name);
	else if (s->activity == BHT_UNSTABLE)
		bht_reason(c, "loop \"%s\" was in the middle of a turn; one look cannot tell whether it went on",
			   loop->name);
}

/* Why nothing is wrong with a bottom half that no rule named. */
static enum bht_standing standing_of(const struct bht_case *c, const struct bht_bh *bh)
{
	const struct bht_bh_machine *m = bht_machine_bh(c->m, bh->addr);

	if (bh->state != BHP_LIVE || bh->flags & BHP_FLAG_DELETED)
		return BHT_IS_DELETED;
	if (bh->flags & BHP_FLAG_SCHEDULED)
		return bh->flags & BHP_FLAG_IDLE ? BHT_IS_THROTTLED : BHT_IS_DUE;
	if (m && bht_time(&m->cancel) > bht_time(&m->effective) && bht_time(&m->cancel) > bh->last_run)
		return BHT_IS_CANCELLED;
	return BHT_IS_IDLE;
}

static void look_at_bh(struct bht_case *c, const struct bht_loop_status *status, const struct bht_bh *bh)
{
	if (bh->flags_unsure) {
		bht_reason(c, "whether bottom half \"%s\" is scheduled cannot be told from the history alone",
			   bh->name);
		return;
	}
	if (bht_outside_unknown(c, status->loop))
		return; /* rules/nested.c says it of the loop */
	for (unsigned r = 0; r < N_RULES; r++)
		rules[r](c, status, bh);
}

static void look_at_loop(struct bht_case *c, const struct bht_loop *loop)
{
	const struct bht_sample *sample = &c->ev->last;
	struct bht_loop_status status = bht_loop_status(c->ev, loop);

	for (size_t i = 0; i < sample->n_bhs; i++)
		if (sample->bhs[i].loop == loop->addr)
			look_at_bh(c, &status, &sample->bhs[i]);
	for (unsigned r = 0; r < N_RULES; r++)
		rules[r](c, &status, NULL);
	loop_reasons(c, &status);
}

/* What its adapter says in addition of this rule. */
static void add_remarks(struct bht_finding *f)
{
	unsigned n;
	const struct bht_adapter *const *adapters = bht_adapters(&n);

	for (unsigned i = 0; i < n; i++) {
		const struct bht_adapter *a = adapters[i];
		if (strncmp(a->name, f->loop.adapter, sizeof(f->loop.adapter) - 1) != 0)
			continue;
		for (unsigned k = 0; k < a->n_remarks; k++) {
			const size_t used = strlen(f->detail);
			if (!strcmp(a->remark[k].rule, "*") || !strcmp(a->remark[k].rule, bht_rules[f->rule].id))
				snprintf(f->detail + used, sizeof(f->detail) - used, " %s", a->remark[k].text);
		}
		return; /* those that were added come first, and replace */
	}
}

static int look_at_all(struct bht_case *c)
{
	const struct bht_sample *sample = &c->ev->last;

	c->d->standing = calloc(sample->n_bhs + 1, sizeof(*c->d->standing));
	if (!c->d->standing)
		return -ENOMEM;
	if (sample->unstable)
		bht_reason(c, "loops or bottom halves came and went while they were listed");
	for (size_t i = 0; i < sample->n_loops; i++)
		look_at_loop(c, &sample->loops[i]);
	bht_flag_race_rank(c);
	bht_rule_undone(c);
	bht_rule_late(c);
	for (unsigned i = 0; i < c->d->n_findings; i++)
		if (*c->d->findings[i].loop.adapter)
			add_remarks(&c->d->findings[i]);
	for (size_t i = 0; i < sample->n_bhs; i++)
		c->d->standing[i] = standing_of(c, &sample->bhs[i]);
	return c->error;
}

/* Of loops that are in a turn; outermost first. */
static int list_begun(struct bht_case *c)
{
	const struct bht_sample *s = &c->ev->last;
	struct bht_diagnosis *d = c->d;

	for (size_t i = 0; i < s->n_loops; i++) {
		const struct bht_loop_machine *m = s->loops[i].depth ? bht_machine_loop(c->m, s->loops[i].addr) : NULL;
		for (unsigned k = 0; m && k < m->n_open && k < BHT_OPEN_MAX; k++) {
			if (!bht_room_for_one(&d->begun, d->n_begun, sizeof(*d->begun)))
				return -ENOMEM;
			d->begun[d->n_begun++] =
				(struct bht_begun){ m->addr, m->open[k].bh, m->open[k].begin, s->loops[i].owner };
		}
	}
	return 0;
}

static void describe_loss(struct bht_case *c)
{
	struct bht_diagnosis *d = c->d;
	const struct bht_machines *m = c->m;
	static const char *const why[] = { [BHT_LOSS_OVERWRITTEN] = "overwritten by newer ones",
					   [BHT_LOSS_UNSTABLE] = "overwritten while they were read",
					   [BHT_LOSS_DROPPED] = "dropped by the recorder",
					   [BHT_LOSS_DAMAGED] = "damaged",
					   [BHT_LOSS_EARLIER] = "made before the recording began" };
	int n = 0;

	d->lost_events = m->lost;
	for (unsigned i = BHT_LOSS_OVERWRITTEN; i <= BHT_LOSS_EARLIER; i++)
		if (m->losses[i])
			n += snprintf(d->loss_why + n, sizeof(d->loss_why) - (size_t)n, "%s%s", n ? ", " : "", why[i]);
	const double complete_ms = bht_ns(c->ev, bht_complete_since(m), c->ev->last.ticks) / 1e6;
	if (n && complete_ms > 0)
		snprintf(d->loss_why + n, sizeof(d->loss_why) - (size_t)n,
			 "; the history of all threads is complete for the last %.3f ms", complete_ms);
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
		/* That something ran late says nothing of what may be lost. */
		if (d->verdict == BHT_LATE && d->n_reasons)
			d->verdict = BHT_UNDECIDABLE;
	} else {
		d->verdict = d->n_reasons ? BHT_UNDECIDABLE : BHT_HEALTHY;
	}
}

void bht_machines_begin(struct bht_machines *m, const struct bht_evidence *ev)
{
	*m = (struct bht_machines){ .error = bht_ticks(ev, ev->clock_error_ns),
				    .race_window = bht_ticks(ev, BHT_RACE_WINDOW_NS) };
}

int bht_judge(const struct bht_evidence *ev, const struct bht_machines *m, bool history, uint64_t late_ns,
	      struct bht_diagnosis *d)
{
	struct bht_case c = { .ev = ev, .m = m, .history = history, .late_ns = late_ns, .d = d };

	*d = (struct bht_diagnosis){ .n_loops = (unsigned)ev->last.n_loops,
				     .n_bhs = (unsigned)ev->last.n_bhs,
				     .n_events = m->n_events };
	int r = look_at_all(&c);
	if (r == 0)
		r = list_begun(&c);
	if (r == 0) {
		describe_loss(&c);
		conclude(d);
	}
	return r;
}

int bht_diagnose(const struct bht_evidence *ev, struct bht_source *history, uint64_t late_ns, struct bht_diagnosis *d)
{
	struct bht_machines m;

	*d = (struct bht_diagnosis){ 0 };
	bht_machines_begin(&m, ev);
	int r = history ? feed_all(&m, history, ev->history_until ? ev->history_until : UINT64_MAX) : 0;
	if (r == 0)
		r = bht_judge(ev, &m, history != NULL, late_ns, d);
	bht_machines_free(&m);
	return r;
}

void bht_diagnosis_free(struct bht_diagnosis *d)
{
	free(d->findings);
	free(d->standing);
	free(d->begun);
	*d = (struct bht_diagnosis){ 0 };
}
