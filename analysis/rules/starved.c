/* SPDX-License-Identifier: MIT */
/*
 * starved: the loop turns and this bottom half is never reached; or the loop's
 * thread could run and gets no CPU. Judged by how often others were executed
 * meanwhile, not by time.
 */
#include "case.h"

static struct bht_finding *starved(struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh)
{
	const struct bht_bh_machine *m = bht_machine_bh(c->m, bh->addr);
	struct bht_finding *f = bht_finding_add(c, BHT_RULE_STARVED, BHT_CONSISTENT, loop, bh);

	if (!f)
		return NULL;
	f->origin = m ? bht_time(&m->effective) : c->ev->last.ticks;
	if (m)
		bht_witness_key(f, &m->effective, "set the flag");
	snprintf(f->refute, sizeof(f->refute), "An execution of this bottom half.");
	bht_witness_fill(c, f);
	return f;
}

/* Executions of others while it was due, in the part of the history that is
 * complete: it shows neither an execution of this one nor that it was withdrawn
 * or scheduled again. */
static uint64_t overtaken_in_history(const struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh)
{
	const struct bht_bh_machine *m = bht_machine_bh(c->m, bh->addr);
	const struct bht_loop_machine *lm = bht_machine_loop(c->m, loop->addr);
	uint64_t complete = bht_complete_since(c->m), effective = m ? bht_time(&m->effective) : 0;

	if (!lm || lm->n_losses != c->m->n_losses)
		return 0;
	if (effective >= complete && effective >= bh->last_run && m && m->pending)
		return lm->executions - m->others_before;
	/* Or was it due before that part began, and all through it? */
	if (effective >= complete || bh->last_run >= complete || (m && bht_time(&m->cancel) >= complete))
		return 0;
	return lm->executions - lm->executions_lossy;
}

static void overtaken(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *bh)
{
	const struct bht_loop *loop = s->loop;
	const struct bht_bh *by = NULL;
	bool still = bht_still_due(c->ev, bh);
	uint64_t seen = still && s->first ? bht_overtaken(c->ev, bh, &by) : 0;
	uint64_t recorded = still || !c->ev->live ? overtaken_in_history(c, loop, bh) : 0;

	if (seen < BHT_STARVED_RUNS && recorded < BHT_STARVED_RUNS) {
		if (still && s->activity == BHT_TURNING && loop->traits & BHT_TRAIT_FOREIGN)
			bht_reason(c,
				   "bottom half \"%s\" was scheduled at both looks while loop \"%s\" turns; whether it "
				   "ran in between is not counted (bhtrace record --via bpf would tell)",
				   bh->name, loop->name);
		else if (still && s->activity == BHT_TURNING)
			bht_reason(c,
				   "bottom half \"%s\" waits while loop \"%s\" turns; others were executed %llu times "
				   "meanwhile, too few to call it starved",
				   bh->name, loop->name, (unsigned long long)(seen > recorded ? seen : recorded));
		return;
	}
	struct bht_finding *f = starved(c, loop, bh);
	if (f && by)
		snprintf(f->detail, sizeof(f->detail),
			 "It was scheduled in both samples and not executed in between, while the loop made %llu turns "
			 "and executed \"%s\" %llu times.",
			 (unsigned long long)(loop->iteration - s->first->iteration), by->name,
			 (unsigned long long)seen);
	else if (f)
		snprintf(f->detail, sizeof(f->detail),
			 "Since it was scheduled the loop has executed other bottom halves %llu times, and never this "
			 "one.",
			 (unsigned long long)recorded);
}

static void no_cpu(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *bh)
{
	struct bht_finding *f;

	if (bht_thread_stopped(s->thread) || s->watched_ms < BHT_NO_CPU_MS || !bht_still_due(c->ev, bh))
		return;
	f = starved(c, s->loop, bh);
	if (f)
		snprintf(f->detail, sizeof(f->detail),
			 "The loop's thread, %s (tid %u), could run (state %c) and got no CPU time in %.0f ms.",
			 s->thread->name, s->thread->tid, s->thread->state, s->watched_ms);
}

void bht_rule_starved(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *bh)
{
	if (!bht_is_due(s->loop, bh))
		return;
	switch (s->activity) {
	case BHT_NO_CPU:
		no_cpu(c, s, bh);
		break;
	case BHT_TURNING:
	case BHT_ON_CPU:
	case BHT_BLOCKED:
	case BHT_UNSTABLE:
		overtaken(c, s, bh);
		break;
	default:
		break;
	}
}
