/* SPDX-License-Identifier: MIT */
/* callback-spinning: inside a callback, on the CPU, and the loop does not turn. */
#include "case.h"

static void describe(struct bht_case *c, struct bht_finding *f, const struct bht_loop_status *s)
{
	const struct bht_loop *loop = s->loop;
	const unsigned long long callback = loop->current_callback;
	char what[128] = "A callback runs", turn[64] = "the loop has not turned";

	if (loop->where < BHP_IN_BH)
		snprintf(what, sizeof(what), "A callback, or code that has left the loop since its last turn, runs");
	else if (loop->current_since)
		snprintf(what, sizeof(what), "The callback at 0x%llx has run for %.1f ms", callback,
			 bht_ns(c->ev, loop->current_since, c->ev->last.ticks) / 1e6);
	else if (callback)
		snprintf(what, sizeof(what), "The callback at 0x%llx runs", callback);
	if (!(loop->traits & BHT_TRAIT_FOREIGN))
		snprintf(turn, sizeof(turn), "iteration %llu of the loop has not ended",
			 (unsigned long long)loop->iteration);
	snprintf(f->detail, sizeof(f->detail),
		 "%s, its thread, %s (tid %u), used %.0f ms of CPU time between the two samples, and %s.", what,
		 s->thread->name, s->thread->tid, (double)s->cpu_ns / 1e6, turn);
	snprintf(f->refute, sizeof(f->refute),
		 "The callback returns: then it was slow, not spinning (a later look shows another iteration).");
	f->origin = loop->current_since ? loop->current_since : c->ev->last.ticks;
}

/* Where the thread of a foreign loop is while it runs can be a guess: what of its stack is in use is not known. */
static bool inside_surely(const struct bht_case *c, const struct bht_loop *loop)
{
	return loop->where >= BHP_IN_BH || (loop->where == BHP_DISPATCH && bht_someone_due(c->ev, loop));
}

/* Why it is not called stuck; NULL: it is. */
static const char *why_not(const struct bht_case *c, const struct bht_loop_status *s)
{
	const struct bht_loop *loop = s->loop;
	const bool foreign = loop->traits & BHT_TRAIT_FOREIGN;

	/* One look, as at a core, cannot tell a callback from an endless one. */
	if ((loop->where < BHP_IN_BH && !foreign) || !c->ev->live || s->cpu_ns < BHT_SPINNING_MS * UINT64_C(1000000))
		return loop->where < BHP_IN_BH ? "outside callbacks, and was not watched long enough to call it stuck"
					       : "inside a callback, and was not watched long enough to call it stuck";
	if (loop->traits & BHT_TRAIT_CANNOT_TURN)
		return "all the time, and the loop does not count its turns: one callback that does not end, or many "
		       "that do (bhtrace record --via bpf would tell)";
	if (loop->where == BHP_OUTSIDE && !bht_someone_due(c->ev, loop))
		return "outside of the loop's turns; nothing is scheduled, and whether the loop is still needed cannot "
		       "be told";
	return NULL;
}

void bht_rule_spinning(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *none)
{
	const struct bht_loop *loop = s->loop;
	const char *reason;

	if (none || s->activity != BHT_ON_CPU || bht_found_on(c, loop))
		return;
	reason = why_not(c, s);
	if (reason) {
		bht_reason(c, "the thread of loop \"%s\" runs %s", loop->name, reason);
		return;
	}
	struct bht_finding *f =
		bht_finding_add(c, BHT_RULE_CALLBACK_SPINNING, inside_surely(c, loop) ? BHT_CONSISTENT : BHT_SUSPECTED,
				loop, bht_sample_bh(&c->ev->last, loop->current, 0));
	if (!f)
		return;
	describe(c, f, s);
	const struct bht_bh_machine *m = bht_machine_bh(c->m, f->bh.addr);
	if (m && bht_time(&m->begin) == loop->current_since)
		bht_witness_key(f, &m->begin, "the callback began, and did not end");
	bht_witness_fill(c, f);
}
