/* SPDX-License-Identifier: MIT */
/*
 * The flag is set and the loop sleeps: its notification was lost, and the
 * notify event of the effective schedule says how. This version names
 * notify-missing; the others are told apart but not yet named.
 */
#include "case.h"

/* Whether the thread that scheduled has gone on to other things. If not, it may
 * be about to notify: preempted between the flag and the notifier. */
static bool moved_on(const struct bht_case *c, const struct bht_event *schedule)
{
	const struct bht_thread_machine *t = bht_machine_thread(c->m, schedule->tid);
	const struct bht_thread *now = bht_sample_thread(&c->ev->last, schedule->tid);

	if (t && t->last > bhp_record_time(&schedule->r))
		return true;
	return !now || bht_thread_still(c->ev, now);
}

static void notify_missing(struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh,
			   const struct bht_bh_machine *m)
{
	struct bht_finding *f = bht_finding_add(c, BHT_RULE_NOTIFY_MISSING, BHT_PROVED, loop, bh);
	char who[80];

	if (!f)
		return;
	snprintf(f->detail, sizeof(f->detail),
		 "%s set the flag %.3f ms ago and went on without notifying the loop, which sleeps %s.",
		 bht_thread_label(c, m->effective.tid, who, sizeof(who)),
		 bht_ns(c->ev, bhp_record_time(&m->effective.r), c->ev->last.ticks) / 1e6,
		 loop->wait_timeout_ns < 0 ? "for ever" : "until its timer");
	snprintf(f->refute, sizeof(f->refute), "A notify event of that thread for this loop after the schedule.");
	f->origin = bhp_record_time(&m->effective.r);
	bht_witness_key(f, &m->effective, "set the flag; no notify follows");
	bht_witness_fill(c, f);
}

static void lost_somehow(struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh,
			 const struct bht_bh_machine *m)
{
	struct bhp_notify n = bhp_decode_notify(&m->notify.r);

	bht_reason(c,
		   "bottom half \"%s\" is scheduled and loop \"%s\" sleeps: its notification was lost (notify_me "
		   "seen %u, eventfd written %u, eventfd count now %lld, watched %d), by a mechanism that this version "
		   "does not name",
		   bh->name, loop->name, n.notify_me, n.written, (long long)loop->notifier_count,
		   loop->notifier_watched);
}

void bht_rule_notification(struct bht_case *c, const struct bht_loop_status *status, const struct bht_bh *bh)
{
	const struct bht_loop *loop = status->loop;

	if (!bh || status->activity != BHT_ASLEEP || bh->state != BHP_LIVE || !(bh->flags & BHP_FLAG_SCHEDULED))
		return;
	if (bh->flags & BHP_FLAG_IDLE && loop->wait_timeout_ns >= 0)
		return; /* waits for its turn, on purpose */
	const struct bht_bh_machine *m = bht_machine_bh(c->m, bh->addr);
	uint64_t at = m ? bhp_record_time(&m->effective.r) : 0;
	const struct bht_thread_machine *t = at ? bht_machine_thread(c->m, m->effective.tid) : NULL;

	/* Not older than the last execution: that one's schedule is gone. */
	if (!t || at < bh->last_run || t->complete_since > at)
		bht_reason(c,
			   "bottom half \"%s\" is scheduled and loop \"%s\" sleeps: a wakeup was lost, but the "
			   "schedule is not in the history",
			   bh->name, loop->name);
	else if (bhp_record_time(&m->notify.r) >= at)
		lost_somehow(c, loop, bh, m);
	else if (!moved_on(c, &m->effective))
		bht_reason(c, "bottom half \"%s\" is scheduled and not yet notified: thread %u is still on its way",
			   bh->name, m->effective.tid);
	else if (loop->notifier_count > 0)
		lost_somehow(c, loop, bh, m);
	else
		notify_missing(c, loop, bh, m);
}
