/* SPDX-License-Identifier: MIT */
/*
 * nested-poll: the loop sleeps in a poll that a callback made, and what would
 * wake it is held by an execution further out:
 *
 *   flag 1   the outer turn took the bottom half up before that callback began,
 *            and the nested turn does not see it
 *   flag 0   the outer execution took the flag, and the work that was announced
 *            before it began is not consumed; only tickets show that
 */
#include "case.h"

static void report(struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh,
		   const struct bht_event *schedule, uint64_t ticket)
{
	const struct bht_loop_machine *lm = bht_machine_loop(c->m, loop->addr);
	const struct bht_bh *outer = bht_sample_bh(&c->ev->last, lm->open[0].bh, 0);
	const struct bht_bh_machine *om = bht_machine_bh(c->m, lm->open[0].bh);
	struct bht_finding *f = bht_finding_add(c, BHT_RULE_NESTED_POLL, BHT_CONSISTENT, loop, bh);
	char what[48] = "";

	if (!f)
		return;
	if (ticket)
		snprintf(what, sizeof(what), ", ticket %llu,", (unsigned long long)ticket);
	snprintf(f->detail, sizeof(f->detail),
		 "The callback of \"%s\" polls the loop again (depth %u) and the nested turn sleeps %s. The work%s was "
		 "scheduled before that callback began; %s, so only the outer turn can run it.",
		 outer ? outer->name : "a bottom half", loop->depth,
		 loop->wait_timeout_ns < 0 ? "for ever" : "until its timer", what,
		 ticket ? "its execution has begun and not handled it" : "the outer turn has taken the bottom half up");
	snprintf(f->refute, sizeof(f->refute), "The nested poll waits for something else: it returns when that comes.");
	f->origin = lm->open[0].begin;
	bht_witness_key(f, schedule, ticket ? "announced the work" : "set the flag");
	if (om)
		bht_witness_key(f, &om->begin, "the outer callback began");
	bht_witness_key(f, &lm->wait_begin, "the nested turn went to sleep");
	bht_witness_fill(c, f);
}

/* The oldest ticket that an execution in progress should handle. */
static const struct bht_ticket *held_ticket(const struct bht_case *c, const struct bht_loop *loop,
					    const struct bht_bh *bh, const struct bht_bh_machine *m)
{
	const struct bht_ticket *t = m && m->tickets.n ? bht_ticket(&m->tickets, 0) : NULL;

	if (!t || !m->consumed || !bht_execution_open(c, bh))
		return NULL;
	/* Nothing may be missing that could have consumed it. */
	return bht_pollers_complete_since(c->m, loop->addr, loop->owner) <= t->previous ||
			       bht_pollers_complete_since(c->m, loop->addr, loop->owner) == 0
		       ? t
		       : NULL;
}

static void look_at_bh(struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh)
{
	const struct bht_bh_machine *m = bht_machine_bh(c->m, bh->addr);
	const struct bht_ticket *t = held_ticket(c, loop, bh, m);

	if (m && m->pending && bht_is_due(loop, bh) && loop->notifier_count <= 0 &&
	    bht_held_outside(c, loop, bht_time(&m->effective)))
		report(c, loop, bh, &m->effective, 0);
	else if (t)
		report(c, loop, bh, &t->schedule, bht_ticket_number(&m->tickets, 0));
}

void bht_rule_nested(struct bht_case *c, const struct bht_loop_status *status, const struct bht_bh *bh)
{
	const struct bht_loop *loop = status->loop;

	if (loop->depth < 2 || status->activity != BHT_ASLEEP)
		return;
	if (bh)
		look_at_bh(c, loop, bh);
	else if (!bht_found_on(c, loop))
		bht_reason(c,
			   "loop \"%s\" sleeps in a poll that one of its callbacks made (depth %u); what that callback "
			   "waits for cannot be seen",
			   loop->name, loop->depth);
}
