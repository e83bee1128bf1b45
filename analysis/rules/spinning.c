/* SPDX-License-Identifier: MIT */
/* callback-spinning: inside a callback, on the CPU, and the loop does not turn. */
#include "case.h"

static void describe(struct bht_case *c, struct bht_finding *f, const struct bht_loop_status *s)
{
	const struct bht_loop *loop = s->loop;

	snprintf(
		f->detail, sizeof(f->detail),
		"The callback at 0x%llx has run for %.1f ms, its thread, %s (tid %u), used %.0f ms of CPU time between "
		"the two samples, and iteration %llu of the loop has not ended.",
		(unsigned long long)loop->current_callback, bht_ns(c->ev, loop->current_since, c->ev->last.ticks) / 1e6,
		s->thread->name, s->thread->tid, (double)s->cpu_ns / 1e6, (unsigned long long)loop->iteration);
	snprintf(f->refute, sizeof(f->refute),
		 "The callback returns: then it was slow, not spinning (a later look shows another iteration).");
	f->origin = loop->current_since;
}

void bht_rule_spinning(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *none)
{
	const struct bht_loop *loop = s->loop;

	if (none || s->activity != BHT_ON_CPU || bht_found_on(c, loop))
		return;
	/* One look, as at a core, cannot tell a callback from an endless one. */
	if (loop->where < BHP_IN_BH || !c->ev->live || s->cpu_ns < BHT_SPINNING_MS * UINT64_C(1000000)) {
		bht_reason(c, "the thread of loop \"%s\" runs %s, and was not watched long enough to call it stuck",
			   loop->name, loop->where < BHP_IN_BH ? "outside callbacks" : "inside a callback");
		return;
	}
	struct bht_finding *f = bht_finding_add(c, BHT_RULE_CALLBACK_SPINNING, BHT_CONSISTENT, loop,
						bht_sample_bh(&c->ev->last, loop->current, 0));
	if (!f)
		return;
	describe(c, f, s);
	const struct bht_bh_machine *m = bht_machine_bh(c->m, f->bh.addr);
	if (m && bht_time(&m->begin) == loop->current_since)
		bht_witness_key(f, &m->begin, "the callback began, and did not end");
	bht_witness_fill(c, f);
}
