/* SPDX-License-Identifier: MIT */
/*
 * flag-race: a schedule coalesced with an execution that had already looked.
 *
 * Memory shows nothing: flag 0, loop asleep. What decides is the last coalesced
 * schedule and what became of the work it announced:
 *
 *   with a ticket   it was never consumed, no later execution could have seen
 *                   it, and the loop sleeps: proved, whatever the protocol
 *   without         it lies in the race window of the last execution and
 *                   nothing came after: consistent - unless the protocol's
 *                   exchanges are full barriers, which excludes it
 */
#include "case.h"

/* The schedule that may have been lost, and the execution it raced with. */
struct suspect {
	const struct bht_event *schedule;
	uint64_t previous; /* its thread's event before it: the flag was read since */
	uint64_t ticket;
	enum bht_flag_order order;
	uint64_t begin, end; /* of the last execution, 0 when not seen */
};

static const char *half_name(enum bht_flag_order order, uint32_t protocol)
{
	if (order != BHT_BEFORE && protocol & BHP_PROTOCOL_CLEAR_BARRIER)
		return "The loop's clear is a full barrier, so it is the producer half: the payload was still in the "
		       "producer's store buffer when the callback looked.";
	switch (order) {
	case BHT_BEFORE:
		return "The flag was read before it was cleared, so it is the producer half: the payload was still in "
		       "the producer's store buffer when the callback looked.";
	case BHT_AFTER:
		return "The flag was read as 1 after the callback had ended, so it is the consumer half: the clear was "
		       "still in the loop's store buffer.";
	default:
		return "The two are closer than the clock can order, so it is either half.";
	}
}

static uint64_t last_begin(const struct bht_bh *bh, const struct bht_bh_machine *m)
{
	uint64_t seen = m ? bht_time(&m->begin) : 0;

	return bh->last_run > seen ? bh->last_run : seen;
}

static uint64_t end_of(const struct bht_bh_machine *m, uint64_t begin)
{
	return bhp_decode_execute_end(&m->end.r).begin == begin ? bht_time(&m->end) : 0;
}

static struct suspect suspect_of(const struct bht_case *c, const struct bht_bh *bh, const struct bht_bh_machine *m,
				 const struct bht_event *schedule, uint64_t previous, uint64_t ticket)
{
	uint64_t begin = last_begin(bh, m);
	uint64_t end = end_of(m, begin);

	return (struct suspect){ .schedule = schedule,
				 .previous = previous,
				 .ticket = ticket,
				 .begin = begin,
				 .end = end,
				 .order = bht_flag_order(c->ev, bht_time(schedule), previous, begin, end) };
}

static void describe(struct bht_case *c, struct bht_finding *f, const struct bht_bh_machine *m, const struct suspect *s)
{
	uint64_t at = bht_time(s->schedule);
	double delta = bht_ns(c->ev, s->begin, at);
	char who[80], ticket[48] = "";

	if (s->ticket)
		snprintf(ticket, sizeof(ticket), " of ticket %llu", (unsigned long long)s->ticket);
	snprintf(f->detail, sizeof(f->detail),
		 "The schedule%s by %s saw the flag still set %.0f ns %s an execution began, did nothing, and nobody "
		 "ran the callback again. %s",
		 ticket, bht_thread_label(c, s->schedule->tid, who, sizeof(who)), delta < 0 ? -delta : delta,
		 delta < 0 ? "before" : "after", half_name(s->order, f->loop.protocol));
	snprintf(f->refute, sizeof(f->refute), "%s",
		 s->ticket ? "A consume of this ticket, or an execution that began more than 10 us after the schedule."
			   : "The callback did see that work, and the program is merely idle: with tickets on its "
			     "schedules this could be told apart.");
	f->origin = s->begin;
	bht_witness_key(f, &m->begin, "about to clear the flag and look");
	bht_witness_key(f, s->schedule, "saw the flag set: nothing done");
	if (bht_time(&m->cancel) > s->begin)
		bht_witness_key(f, &m->cancel, "cleared the flag, and looked again");
	bht_witness_key(f, &m->end, "the callback is over");
	bht_witness_fill(c, f);
}

/* Whether a cancel may have withdrawn that work: any but the loop's own, which
 * looks at the work again, unless the flag was read after it. */
static bool withdrawn(const struct bht_case *c, const struct bht_loop *loop, const struct bht_bh_machine *m,
		      const struct suspect *s)
{
	uint64_t at = bht_time(&m->cancel);

	if (!at || at + c->m->error < s->previous)
		return false;
	return m->cancel.tid != loop->owner || at > bht_time(s->schedule) + c->m->race_window;
}

/* The open ticket that only this race explains. */
static bool find_ticket(const struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh,
			const struct bht_bh_machine *m, struct suspect *found)
{
	bool any = false;

	for (size_t i = 0; i < m->tickets.n; i++) {
		const struct bht_ticket *t = bht_ticket(&m->tickets, i);
		struct suspect s = suspect_of(c, bh, m, &t->schedule, t->previous, bht_ticket_number(&m->tickets, i));

		if (bhp_decode_schedule(&t->schedule.r).seen == 0 || s.order == BHT_LONG_BEFORE ||
		    withdrawn(c, loop, m, &s))
			continue;
		if (!any || bht_time(&t->schedule) > bht_time(found->schedule))
			*found = s;
		any = true;
	}
	return any;
}

/*
 * Whether a consume of the ticket, or a cancel, could be missing. A consume may
 * be stamped before the schedule: the producer can lose the CPU between its
 * exchange and its record. So nothing may be missing since the producer's event
 * before.
 */
static bool sure(struct bht_case *c, const struct bht_loop *loop, const struct suspect *s,
		 enum bht_confidence *confidence)
{
	*confidence = bht_complete_since(c->m) <= s->previous ? BHT_PROVED : BHT_CONSISTENT;
	return bht_related_complete_since(c->m, loop->addr, loop->owner) <= s->previous;
}

/* Whether the tickets decide. */
static bool with_ticket(struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh,
			const struct bht_bh_machine *m)
{
	enum bht_confidence confidence;
	struct suspect s = { 0 };

	/* A program that never consumes says nothing by not consuming. */
	if (!m || !m->consumed || !find_ticket(c, loop, bh, m, &s))
		return false;
	if (!sure(c, loop, &s, &confidence)) {
		bht_reason(c,
			   "ticket %llu of bottom half \"%s\" was not seen to be consumed, but the history is "
			   "incomplete since then",
			   (unsigned long long)s.ticket, bh->name);
		return true;
	}
	struct bht_finding *f = bht_finding_add(c, BHT_RULE_FLAG_RACE, confidence, loop, bh);
	if (f)
		describe(c, f, m, &s);
	return true;
}

/* Whether the history shows all schedules that may have met the last execution. */
static bool reaches(const struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh,
		    const struct bht_bh_machine *m)
{
	return c->history && last_begin(bh, m) >= bht_ticks(c->ev, BHT_RACE_WINDOW_NS) +
							  bht_related_complete_since(c->m, loop->addr, loop->owner);
}

bool bht_flag_race_open(const struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh)
{
	const struct bht_bh_machine *m = bht_machine_bh(c->m, bh->addr);

	/* Never executed, of all that is known from its beginning on: as above, nobody raced. */
	if (m && m->seen_new && !bht_time(&m->begin) && bht_related_complete_since(c->m, loop->addr, loop->owner) == 0)
		return false;
	return bht_may_race(loop) && bh->state == BHP_LIVE && !(bh->flags & BHP_FLAG_SCHEDULED) &&
	       (bh->runs || loop->traits & BHT_TRAIT_FOREIGN) && !reaches(c, loop, bh, m);
}

static void without_ticket(struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh,
			   const struct bht_bh_machine *m)
{
	if (!reaches(c, loop, bh, m)) {
		/* Of foreign loops rules/undone.c says it once. */
		if (loop->traits & BHT_TRAIT_FOREIGN || bht_undone(c->ev) == BHT_ALL_DONE)
			return;
		bht_reason(c, "bottom half \"%s\" looks idle, but its loop does not state a full barrier and %s",
			   bh->name,
			   c->m->n_events ? "schedules since its last execution may be missing from the history"
					  : "there is no history: the flight recorder is off");
		return;
	}
	if (!m)
		return;
	/* Tickets speak for themselves, but only in a program that consumes. */
	struct suspect s = m->consumed ? suspect_of(c, bh, m, &m->unannounced, m->unannounced_previous, 0)
				       : suspect_of(c, bh, m, &m->coalesced, m->coalesced_previous, 0);
	if (bht_time(s.schedule) == 0 || s.order == BHT_LONG_BEFORE)
		return;
	const struct bht_loop_machine *of = bht_machine_loop(c->m, loop->addr);
	if (c->ev->origin == BHT_FROM_HISTORY && !(of && of->seen_new)) {
		bht_reason(c,
			   "bottom half \"%s\" looks idle after a close race, and whether its loop has full "
			   "barriers is not in the history: it was made before the recording began",
			   bh->name);
		return;
	}
	struct bht_finding *f = bht_finding_add(c, BHT_RULE_FLAG_RACE, BHT_CONSISTENT, loop, bh);
	if (f)
		describe(c, f, m, &s);
}

void bht_rule_flag_race(struct bht_case *c, const struct bht_loop_status *status, const struct bht_bh *bh)
{
	const struct bht_loop *loop = status->loop;

	if (!bh || status->activity != BHT_ASLEEP || bh->state != BHP_LIVE || bh->flags & BHP_FLAG_SCHEDULED)
		return;
	/* Never executed: the flag was never cleared, so nobody raced with that. A foreign loop does not count. */
	if (bh->runs == 0 && !(loop->traits & BHT_TRAIT_FOREIGN))
		return;
	const struct bht_bh_machine *m = bht_machine_bh(c->m, bh->addr);
	/* Asleep in its outermost turn the loop executes nothing: that end was lost. */
	if (loop->depth > 1 && bht_execution_open(c, bh))
		return; /* it may still look: nested-poll */
	if (with_ticket(c, loop, bh, m))
		return;
	if (bht_may_race(loop))
		without_ticket(c, loop, bh, m);
}

static double distance(const struct bht_case *c, const struct bht_finding *f)
{
	double ns = 0;

	for (unsigned i = 0; i < f->n_witness; i++)
		if (f->witness[i].key && bht_event_id(&f->witness[i].event) == BHP_ID_schedule)
			ns = bht_ns(c->ev, f->origin, bht_time(&f->witness[i].event));
	return ns < 0 ? -ns : ns;
}

void bht_flag_race_rank(struct bht_case *c)
{
	struct bht_diagnosis *d = c->d;

	for (unsigned i = 0; i < d->n_findings; i++) {
		struct bht_finding *a = &d->findings[i];
		for (unsigned j = 0; j < d->n_findings; j++) {
			struct bht_finding *b = &d->findings[j];
			if (i != j && a->rule == BHT_RULE_FLAG_RACE && b->rule == BHT_RULE_FLAG_RACE &&
			    a->loop.addr == b->loop.addr && a->confidence <= BHT_CONSISTENT &&
			    (b->confidence > a->confidence || distance(c, b) < distance(c, a)))
				a->confidence = BHT_SUSPECTED;
		}
	}
}
