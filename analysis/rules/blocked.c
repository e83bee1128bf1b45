/* SPDX-License-Identifier: MIT */
/*
 * The loop's thread sleeps, but not in its wait: inside a bottom half's callback
 * (callback-blocked), or in a handler, a timer or the loop itself (loop-blocked).
 * The finding says what it sleeps in and who holds that.
 */
#include "case.h"

static const char *place(const struct bht_loop *loop)
{
	if (loop->traits & BHT_TRAIT_FOREIGN)
		return loop->where == BHP_IN_BH  ? "The callback"
		       : loop->where > BHP_IN_BH ? "A callback"
						 : "The loop's thread, between callbacks or outside of any turn,";
	return loop->where == BHP_IN_BH      ? "The callback"
	       : loop->where == BHP_IN_FD    ? "The handler of a file descriptor"
	       : loop->where == BHP_IN_TIMER ? "The callback of a timer"
					     : "The loop, between callbacks,";
}

static void describe(struct bht_case *c, struct bht_finding *f, const struct bht_loop_status *s, const char *wait)
{
	const struct bht_loop *loop = s->loop;
	const bool foreign = loop->traits & BHT_TRAIT_FOREIGN;
	char age[48] = "", where[48] = "";

	if (loop->where != BHP_DISPATCH && (loop->current_callback || !foreign))
		snprintf(where, sizeof(where), " at 0x%llx", (unsigned long long)loop->current_callback);
	if (loop->where != BHP_DISPATCH && (loop->current_since || !foreign) && c->ev->live)
		snprintf(age, sizeof(age), " has run for %.1f ms and",
			 bht_ns(c->ev, loop->current_since, c->ev->last.ticks) / 1e6);
	snprintf(f->detail, sizeof(f->detail), "%s%s%s sleeps, thread %s (tid %u), in %s.", place(loop), where, age,
		 s->thread->name, s->thread->tid, wait);
	snprintf(f->refute, sizeof(f->refute),
		 "It goes on: then it was slow, not blocked (a later look shows another "
		 "iteration).");
	f->origin = loop->where == BHP_DISPATCH || !loop->current_since ? c->ev->last.ticks : loop->current_since;
}

/* Of a foreign loop it is known what is inside its handlers, and nothing is known of where it is otherwise. */
static bool maybe_outside(const struct bht_loop *loop)
{
	return loop->traits & BHT_TRAIT_FOREIGN && loop->where < BHP_IN_BH;
}

void bht_rule_blocked(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *none)
{
	const struct bht_loop *loop = s->loop;
	/* Which of its callbacks it is that a foreign loop runs, nobody says. */
	bool in_bh = loop->where == BHP_IN_BH || (loop->traits & BHT_TRAIT_FOREIGN && loop->where > BHP_IN_BH);
	enum bht_confidence confidence;
	char wait[BHT_LINE - 200];

	if (none || s->activity != BHT_BLOCKED)
		return;
	enum bht_wait how = bht_describe_wait(c, loop, s->thread, wait, sizeof(wait));
	/* One look, as at a core, cannot tell a sleep from a long one: only that
	 * it can never end. */
	if (!c->ev->live && how == BHT_WAIT_OPEN) {
		bht_reason(c, "the thread of loop \"%s\" sleeps in %s; one look cannot tell whether for long",
			   loop->name, wait);
		return;
	}
	if (maybe_outside(loop) && how != BHT_WAIT_DEADLOCK && !bht_someone_due(c->ev, loop)) {
		bht_reason(c,
			   "the thread of loop \"%s\" sleeps in %s, perhaps outside of the loop; nothing is scheduled, "
			   "and whether the loop is still needed cannot be told",
			   loop->name, wait);
		return;
	}
	confidence = how == BHT_WAIT_DEADLOCK && c->ev->live ? BHT_PROVED
		     : maybe_outside(loop)                   ? BHT_SUSPECTED
							     : BHT_CONSISTENT;
	struct bht_finding *f =
		bht_finding_add(c, in_bh ? BHT_RULE_CALLBACK_BLOCKED : BHT_RULE_LOOP_BLOCKED, confidence, loop,
				in_bh ? bht_sample_bh(&c->ev->last, loop->current, 0) : NULL);
	if (!f)
		return;
	describe(c, f, s, wait);
	const struct bht_bh_machine *m = bht_machine_bh(c->m, f->bh.addr);
	if (m && bht_time(&m->begin) == loop->current_since)
		bht_witness_key(f, &m->begin, "the callback began, and did not end");
	bht_witness_fill(c, f);
}
