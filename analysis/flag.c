/* SPDX-License-Identifier: MIT */
/* The flag machine: schedule, clear and cancel of one bottom half. */
#include "machines.h"

#include <errno.h>
#include <string.h>

/* The slot of a freed bottom half is used again: another object. */
static void made_anew(struct bht_bh_machine *bh, const struct bht_event *e)
{
	bht_tickets_free(&bh->tickets);
	*bh = (struct bht_bh_machine){ .addr = bh->addr, .loop = bhp_get_LOOP(&e->r), .seen_new = true };
	strncpy(bh->name, e->text ? e->text : "", sizeof(bh->name) - 1);
}

static void effective(const struct bht_machines *m, struct bht_bh_machine *bh, const struct bht_loop_machine *loop,
		      const struct bht_event *e, uint64_t previous)
{
	/* Its exchange lies after its thread's event before. */
	bh->anchored = previous >= bh->cleared + (bh->cancel.tid == e->tid ? 0 : m->error);
	bh->muddled = bh->pending;
	bh->served = bh->debt != BHT_NO_DEBT && !bh->anchored;
	if (bh->served || bh->debt == BHT_PERHAPS_A_DEBT)
		bh->debt = BHT_NO_DEBT;
	bh->effective = *e;
	bh->answer.r.word[0] = 0; /* none so far */
	bh->pending = true;
	bh->others_before = loop->executions;
	bh->busy_before = loop->busy;
}

static int scheduled(const struct bht_machines *m, struct bht_bh_machine *bh, const struct bht_loop_machine *loop,
		     const struct bht_event *e, uint64_t previous)
{
	struct bhp_schedule f = bhp_decode_schedule(&e->r);

	if (f.seen == 0) {
		effective(m, bh, loop, e, previous);
	} else {
		bh->coalesced = *e;
		bh->coalesced_previous = previous;
		if (f.ticket == 0) {
			bh->unannounced = *e;
			bh->unannounced_previous = previous;
		}
	}
	return f.ticket ? bht_ticket_announce(&bh->tickets, f.ticket, e, previous) : 0;
}

/* The flag was cleared: by an execution, a cancel or a delete. */
static void cleared(const struct bht_machines *m, struct bht_bh_machine *bh, const struct bht_event *e)
{
	uint64_t now = bht_time(e);

	if (!bh->pending || bh->served) {
		bool certain = bht_lossless(m, bh->cleared, now) && (bh->cleared || !m->n_losses);
		bh->debt = certain || bh->debt == BHT_A_DEBT ? BHT_A_DEBT : BHT_PERHAPS_A_DEBT;
	}
	bh->pending = bh->muddled = bh->served = false;
	bh->cleared = now;
}

static void begins(struct bht_machines *m, struct bht_bh_machine *bh, struct bht_loop_machine *loop,
		   const struct bht_event *e)
{
	bh->begin = *e;
	if (bh->pending)
		bht_delay_measure(m, bh, loop, e);
	cleared(m, bh, e);
	bht_execution_begins(m, loop, bh->addr, bht_time(e));
}

static void ends(struct bht_machines *m, struct bht_bh_machine *bh, struct bht_loop_machine *loop,
		 const struct bht_event *e)
{
	uint64_t begin = bhp_decode_execute_end(&e->r).begin;

	bh->end = *e;
	bh->cleared = bht_time(e);
	bht_execution_ends(loop, bh->addr, bht_time(e));
	/* Whatever was announced long before it began, it has seen. */
	if (begin > m->race_window)
		bht_tickets_forget(&bh->tickets, begin - m->race_window);
}

int bht_feed_bh(struct bht_machines *m, struct bht_bh_machine *bh, const struct bht_event *e, uint64_t previous)
{
	struct bht_loop_machine *loop = bht_the_loop(m, bhp_get_LOOP(&e->r));
	int r = 0;

	if (!loop)
		return -ENOMEM;
	bh->loop = loop->addr;
	switch (bht_event_id(e)) {
	case BHP_ID_bh_new:
		made_anew(bh, e);
		break;
	case BHP_ID_bh_cancel:
	case BHP_ID_bh_delete:
		bh->cancel = *e;
		if (bhp_decode_bh_cancel(&e->r).flags & BHP_FLAG_SCHEDULED)
			cleared(m, bh, e);
		else
			bh->muddled |= bh->pending; /* before the schedule, or is that one over? */
		break;
	case BHP_ID_schedule:
		r = scheduled(m, bh, loop, e, previous);
		break;
	case BHP_ID_notify:
		bh->notify = *e;
		if (e->tid == bh->effective.tid && !bht_time(&bh->answer))
			bh->answer = *e;
		return 0; /* remembered as the loop's */
	case BHP_ID_execute_begin:
		begins(m, bh, loop, e);
		break;
	case BHP_ID_execute_end:
		ends(m, bh, loop, e);
		break;
	case BHP_ID_consume:
		bh->consumed++;
		/* Not remembered: one callback may consume many, and they would
		 * crowd out the events that decide. */
		return bht_ticket_consume(&bh->tickets, bhp_decode_consume(&e->r).ticket);
	}
	bht_remember(loop, e);
	return r;
}
