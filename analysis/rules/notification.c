/* SPDX-License-Identifier: MIT */
/*
 * The flag is set, the loop sleeps and its notifier is not readable: what became
 * of the notification. The notify event of the schedule that set the flag says
 * it; when there is none, the thread that should have written it does.
 */
#include "case.h"

/* Longer than a thread that lost the CPU has to wait for it. */
enum { SLICE_NS = 10 * 1000 * 1000 };

/* The schedule that set the flag, and the notification that followed it. */
struct clue {
	const struct bht_loop *loop;
	const struct bht_bh *bh;
	const struct bht_bh_machine *m;
	const struct bht_loop_machine *lm;
	const struct bht_event *schedule;
	const struct bht_event *notify; /* NULL: none was recorded */
};

static struct bht_finding *found(struct bht_case *c, const struct clue *k, enum bht_rule_id rule,
				 enum bht_confidence confidence)
{
	struct bht_finding *f = bht_finding_add(c, rule, confidence, k->loop, k->bh);

	if (!f)
		return NULL;
	f->origin = bht_time(k->schedule);
	bht_witness_key(f, k->schedule, "set the flag");
	if (k->notify)
		bht_witness_key(f, k->notify, "its notification");
	return f;
}

static const char *for_how_long(const struct bht_loop *loop)
{
	return loop->wait_timeout_ns < 0 ? "for ever" : "until its timer";
}

static double ms_ago(const struct bht_case *c, const struct bht_event *e)
{
	return bht_ns(c->ev, bht_time(e), c->ev->last.ticks) / 1e6;
}

/* All that could have cancelled, or set the flag in its place, is recorded. */
static enum bht_confidence confidence(const struct bht_case *c, const struct clue *k)
{
	return c->ev->live && bht_complete_since(c->m) <= bht_time(k->schedule) ? BHT_PROVED : BHT_CONSISTENT;
}

/* --- notify-skipped ---------------------------------------------------------------- */

static void skipped(struct bht_case *c, const struct clue *k)
{
	struct bht_finding *f = found(c, k, BHT_RULE_NOTIFY_SKIPPED, confidence(c, k));
	char who[80];

	if (!f)
		return;
	snprintf(f->detail, sizeof(f->detail),
		 "%s set the flag %.3f ms ago, found the loop awake (notify_me = awake) and wrote nothing; the loop "
		 "went to sleep %s without looking at the flag again.",
		 bht_thread_label(c, k->schedule->tid, who, sizeof(who)), ms_ago(c, k->schedule),
		 for_how_long(k->loop));
	snprintf(f->refute, sizeof(f->refute),
		 "An execution of the bottom half after the schedule, or a later notify "
		 "that wrote the eventfd.");
	bht_witness_key(f, &k->lm->wait_begin, "went to sleep");
	bht_witness_fill(c, f);
}

/* --- notify-stolen ------------------------------------------------------------------- */

static void stolen(struct bht_case *c, const struct clue *k, const struct bht_event *write,
		   const struct bht_event *thief)
{
	bool own = thief && thief->tid == k->loop->owner;
	struct bht_finding *f = found(c, k, BHT_RULE_NOTIFY_STOLEN, thief && !own ? confidence(c, k) : BHT_CONSISTENT);
	char who[80], writer[80];

	if (!f)
		return;
	bht_thread_label(c, write->tid, writer, sizeof(writer));
	if (!thief)
		snprintf(f->detail, sizeof(f->detail),
			 "%s wrote the eventfd, its count is 0 again, and no accept of it was recorded: somebody who "
			 "does not use this library read file descriptor %d.",
			 writer, k->loop->notifier_fd);
	else if (own)
		snprintf(f->detail, sizeof(f->detail),
			 "%s wrote the eventfd; the loop cleared it itself (%+.3f us), after its last look at its "
			 "bottom halves, and sleeps %s.",
			 writer, bht_ns(c->ev, bht_time(write), bht_time(thief)) / 1e3, for_how_long(k->loop));
	else
		snprintf(f->detail, sizeof(f->detail),
			 "%s wrote the eventfd; %s cleared it (%+.3f us); the loop, which should have woken, sleeps "
			 "%s.",
			 writer, bht_thread_label(c, thief->tid, who, sizeof(who)),
			 bht_ns(c->ev, bht_time(write), bht_time(thief)) / 1e3, for_how_long(k->loop));
	snprintf(f->refute, sizeof(f->refute), "A wait_end of the loop, woken by the notifier, after that write.");
	bht_witness_key(f, write, "wrote the eventfd");
	if (thief)
		bht_witness_key(f, thief, own ? "cleared it too late" : "took it");
	bht_witness_fill(c, f);
}

/* The eventfd was written for this sleep. */
static void written(struct bht_case *c, const struct clue *k, const struct bht_event *write)
{
	const struct bht_loop_machine *lm = k->lm;
	/* It is recorded after it was written: a thief may be quicker. */
	uint64_t since = bht_time(write == k->notify ? k->schedule : write) + c->m->error;

	if (bht_time(&lm->stolen) > since)
		stolen(c, k, write, &lm->stolen);
	else if (bht_time(&lm->accept) > since)
		stolen(c, k, write, &lm->accept);
	else if (k->loop->notifier_count < 0)
		bht_reason(c,
			   "bottom half \"%s\" is scheduled, the eventfd of loop \"%s\" was written and no accept is "
			   "recorded: fd-unwatched, kernel-lost-wake, or a wakeup that is on its way; the count of the "
			   "eventfd and the epoll set, which would decide, are kernel state that this evidence lacks",
			   k->bh->name, k->loop->name);
	else if (bht_related_complete_since(c->m, k->loop->addr, k->loop->owner) > bht_time(write))
		bht_reason(
			c,
			"the eventfd of loop \"%s\" was written and is 0 again, but who cleared it may be missing from "
			"the history",
			k->loop->name);
	else
		stolen(c, k, write, NULL);
}

/* --- notify-missing and producer-stopped ---------------------------------------------- */

static void stopped(struct bht_case *c, const struct clue *k, uint32_t tid, const char *how, enum bht_confidence sure)
{
	const struct bht_event *last = k->schedule ? k->schedule : &k->m->coalesced;
	struct bht_finding *f = bht_finding_add(c, BHT_RULE_PRODUCER_STOPPED, sure, k->loop, k->bh);
	char who[80];

	if (!f)
		return;
	snprintf(f->detail, sizeof(f->detail),
		 "%s %s between setting the flag and waking the loop%s; whoever schedules now finds the flag set and "
		 "does nothing.",
		 bht_thread_label(c, tid, who, sizeof(who)), how,
		 k->schedule ? "" : ": the flag is set, and no recorded schedule set it");
	snprintf(f->refute, sizeof(f->refute), "%s",
		 k->schedule ? "A notify event of that thread after the schedule."
			     : "An effective schedule after the last execution.");
	f->origin = bht_time(last);
	bht_witness_key(f, last, k->schedule ? "set the flag; no notify follows" : "found the flag set already");
	bht_witness_key(f, &k->m->begin, "the last execution");
	bht_witness_fill(c, f);
}

static void missing(struct bht_case *c, const struct clue *k)
{
	struct bht_finding *f = found(c, k, BHT_RULE_NOTIFY_MISSING, confidence(c, k));
	char who[80];

	if (!f)
		return;
	snprintf(f->detail, sizeof(f->detail),
		 "%s set the flag %.3f ms ago and went on without notifying the loop, which sleeps %s.",
		 bht_thread_label(c, k->schedule->tid, who, sizeof(who)), ms_ago(c, k->schedule),
		 for_how_long(k->loop));
	snprintf(f->refute, sizeof(f->refute), "A notify event of that thread for this loop after the schedule.");
	bht_witness_fill(c, f);
}

/* No notify was recorded: because the thread left it out, or could not go on? */
static void not_notified(struct bht_case *c, const struct clue *k)
{
	uint32_t tid = k->schedule->tid;
	const struct bht_thread_machine *t = bht_machine_thread(c->m, tid);
	const struct bht_thread *now = bht_sample_thread(&c->ev->last, tid);

	if (bht_thread_stopped(now))
		stopped(c, k, tid, "was stopped", BHT_PROVED);
	else if (t && t->last > bht_time(k->schedule))
		missing(c, k);
	else if (bht_thread_gone(c, tid))
		stopped(c, k, tid, "exited", BHT_SUSPECTED);
	else if (now && now->state != '?' && bht_thread_still(c->ev, now) && !bht_is_writing(now, k->loop))
		missing(c, k);
	else
		bht_reason(c, "bottom half \"%s\" is scheduled and not yet notified: thread %u %s", k->bh->name, tid,
			   bht_just_ends(c->ev) ? "may have been killed on its way" : "is still on its way");
}

/* The thread whose last sign of life fits best: stopped, or gone most lately. */
static uint32_t who_stopped(const struct bht_case *c, const char **how)
{
	const struct bht_thread *held = bht_held_thread(c);
	uint64_t latest = 0;
	uint32_t tid = 0;

	*how = held ? "was stopped" : "exited";
	if (held)
		return held->tid;
	BHT_MAP_EACH(&c->m->threads, e)
	{
		const struct bht_thread_machine *t = e->value;
		if (t->last >= latest && bht_thread_gone(c, t->tid)) {
			latest = t->last;
			tid = t->tid;
		}
	}
	return tid;
}

/* The flag is set, and the history shows that nobody who recorded it set it. */
static void set_by_nobody(struct bht_case *c, const struct clue *k)
{
	const char *how;
	uint32_t tid = who_stopped(c, &how);

	if (tid)
		stopped(c, k, tid, how, BHT_CONSISTENT);
	else
		bht_reason(
			c,
			"bottom half \"%s\" is scheduled and loop \"%s\" sleeps, but no recorded schedule set the flag",
			k->bh->name, k->loop->name);
}

/* Somebody else had undertaken to write the eventfd. */
static void undertaken(struct bht_case *c, const struct clue *k)
{
	const struct bht_thread *held = bht_held_thread(c);

	/* For this sleep, if the begin of that is not missing. */
	if (bht_time(&k->lm->written) && bht_time(&k->lm->written) + c->m->error > bht_time(&k->lm->wait_begin) &&
	    bht_pollers_complete_since(c->m, k->loop->addr, k->loop->owner) <= bht_time(&k->lm->written)) {
		written(c, k, &k->lm->written);
		return;
	}
	if (held)
		stopped(c, k, held->tid, "was stopped", BHT_CONSISTENT);
	else
		bht_reason(c,
			   "bottom half \"%s\" is scheduled; its notification was left to another thread, whose write "
			   "is not in the history",
			   k->bh->name);
}

/* --- memory alone ------------------------------------------------------------------------- */

/* Which rule fits best, and why it is no more than that. */
static enum bht_rule_id guess(const struct bht_case *c, const struct bht_loop *loop, char *why, size_t size)
{
	const bool taken = loop->traits & BHT_TRAIT_NOTIFIES && loop->notifier_fd >= 0;
	const struct bht_thread *held = bht_held_thread(c);
	char who[80];

	if (held) {
		snprintf(why, size, "%s is stopped: it may be the one that has set the flag and not notified yet.",
			 bht_thread_label(c, held->tid, who, sizeof(who)));
		return BHT_RULE_PRODUCER_STOPPED;
	}
	if (loop->traits & BHT_TRAIT_ASKS && loop->notify_me == BHP_LOOP_AWAKE) {
		snprintf(why, size,
			 "It counts as awake (notify_me = 0) although it sleeps, so that whoever schedules does not "
			 "notify it.");
		return BHT_RULE_NOTIFY_SKIPPED;
	}
	if (loop->traits & BHT_TRAIT_ASKS)
		snprintf(why, size,
			 "Nobody notified it, or somebody saw notify_me before that was set (notify-skipped), or "
			 "another thread took the notification (notify-stolen): memory is the same.");
	else if (loop->notifier_fd < 0)
		snprintf(why, size, "It has no notifier that could have been written.");
	else if (taken)
		snprintf(why, size,
			 "Whoever schedules here writes the notifier, so somebody else than the loop has read it; or "
			 "the flag was set in another way (notify-missing): memory is the same.");
	else
		snprintf(why, size,
			 "Nobody notified it, or another thread took the notification (notify-stolen): memory is the "
			 "same.");
	return taken ? BHT_RULE_NOTIFY_STOLEN : BHT_RULE_NOTIFY_MISSING;
}

/* That the wakeup was lost is certain; by which mechanism only a history could tell. */
static void lost_somehow(struct bht_case *c, const struct clue *k)
{
	char why[BHT_LINE / 2];
	const enum bht_rule_id rule = guess(c, k->loop, why, sizeof(why));
	struct bht_finding *f = bht_finding_add(c, rule, BHT_SUSPECTED, k->loop, k->bh);

	if (!f)
		return;
	snprintf(f->detail, sizeof(f->detail),
		 "The flag is set in both looks, the notifier (file descriptor %d) is empty, nobody is on the way to "
		 "write it, and the loop sleeps %s without having run in between: the wakeup is lost. %s A history "
		 "would tell: bhtrace record --via bpf, or bhtrace run, while it happens.",
		 k->loop->notifier_fd, for_how_long(k->loop), why);
	snprintf(f->refute, sizeof(f->refute),
		 "An execution of the bottom half, or a wakeup of the loop's thread, without help from outside.");
	f->origin = c->ev->last.ticks;
	bht_witness_fill(c, f);
}

/* Nothing recorded tells who set the flag. */
static void unrecorded(struct bht_case *c, const struct clue *k)
{
	const struct bht_thread *late = bht_on_its_way(c, k->loop);

	if (!c->ev->live || !bht_still_due(c->ev, k->bh))
		bht_reason(c,
			   "bottom half \"%s\" is scheduled and loop \"%s\" sleeps; one look cannot tell whether it is "
			   "about to be woken",
			   k->bh->name, k->loop->name);
	else if (k->loop->notifier_fd >= 0 && k->loop->notifier_count < 0)
		bht_reason(
			c,
			"bottom half \"%s\" is scheduled and loop \"%s\" sleeps: a wakeup was lost; what its notifier "
			"holds could not be read",
			k->bh->name, k->loop->name);
	else if (late)
		bht_reason(
			c,
			"bottom half \"%s\" is scheduled and loop \"%s\" sleeps, but thread %u (state %c) may still be "
			"on its way to wake it",
			k->bh->name, k->loop->name, late->tid, late->state);
	else
		lost_somehow(c, k);
}

/* --- the rule --------------------------------------------------------------------------- */

/* The schedule that made it urgent. An idle one may have set the flag before: of
 * those that found it set only the one that made it urgent notifies. */
static const struct bht_event *setter(const struct bht_bh *bh, const struct bht_bh_machine *m)
{
	const struct bht_event *urgent = &m->coalesced;

	if (bhp_decode_schedule(&m->effective.r).kind != BHP_KIND_IDLE || bh->flags & BHP_FLAG_IDLE)
		return &m->effective;
	bool notified = m->notify.tid == urgent->tid && bht_time(&m->notify) >= bht_time(urgent);
	return notified && bht_time(urgent) > bht_time(&m->effective) ? urgent : NULL;
}

/* Whether the thread may have done something to the flag that it has not
 * recorded yet. What stood in the first sample was done before that, so not by
 * one that has recorded anything since. */
static bool on_its_way(const struct bht_case *c, const struct clue *k, const struct bht_thread *thread)
{
	const struct bht_thread_machine *t = bht_machine_thread(c->m, thread->tid);

	if (!t || !bht_is_related(t, k->loop->addr) || bht_thread_still(c->ev, thread))
		return false;
	return !bht_still_due(c->ev, k->bh) || t->last <= c->ev->first.ticks;
}

/* How many threads are on their way. Of a process that was killed only that it
 * may be one: of two nobody would know. */
static unsigned on_their_way(const struct bht_case *c, const struct clue *k)
{
	const struct bht_sample *s = &c->ev->last;
	unsigned n = 0;

	if (bht_just_ends(c->ev))
		return 1;
	for (size_t i = 0; i < s->n_threads; i++)
		n += on_its_way(c, k, &s->threads[i]);
	return n;
}

/* Whether the work that the pending schedule announced was not consumed: then no
 * execution has served it. */
static bool ticket_open(const struct bht_case *c, const struct clue *k)
{
	const struct bht_tickets *t = &k->m->tickets;
	uint64_t at = bht_time(&k->m->effective);

	if (!k->m->consumed || bht_pollers_complete_since(c->m, k->loop->addr, k->loop->owner) > at)
		return false;
	for (size_t i = t->n; i-- > 0;)
		if (bht_time(&bht_ticket(t, i)->schedule) == at)
			return true;
	return false;
}

/* Whether the pending schedule may have been run before it was recorded: its
 * thread had lost the CPU in between. Then it is the setter only if no other one
 * can be missing. */
static bool maybe_run(const struct bht_case *c, const struct clue *k)
{
	uint64_t since = bht_related_complete_since(c->m, k->loop->addr, k->loop->owner);
	bool soon = bht_time(&k->m->effective) < k->bh->last_run + bht_ticks(c->ev, SLICE_NS);
	bool seen = bht_time(&k->m->begin) == k->bh->last_run;
	unsigned on_the_way = on_their_way(c, k);

	/* Another one is not recorded yet; or one may have withdrawn it, and
	 * another have set the flag again. */
	if (k->m->debt == BHT_A_DEBT || on_the_way > 1)
		return true;
	/* Where nobody is seen on the way, program order is enough. */
	if (bht_just_ends(c->ev) && k->m->anchored && since <= bht_time(&k->m->effective))
		return false;
	if ((!k->m->served && seen && (!soon || since == 0)) || ticket_open(c, k))
		return false;
	return on_the_way || since > k->bh->last_run;
}

/* Whether the history shows who set the flag; if not, says what is known. */
static bool find_setter(struct bht_case *c, struct clue *k)
{
	const struct bht_event *e = k->m ? setter(k->bh, k->m) : NULL;
	const struct bht_thread_machine *t = e && bht_time(e) ? bht_machine_thread(c->m, e->tid) : NULL;

	/* Not older than the last execution: that one's schedule is gone. */
	if (t && k->lm && k->m->pending && !k->m->muddled && !maybe_run(c, k) && bht_time(e) >= k->bh->last_run &&
	    t->complete_since <= bht_time(e)) {
		k->schedule = e;
		return true;
	}
	if (k->loop->traits & BHT_TRAIT_FOREIGN)
		unrecorded(c, k);
	else if (t && k->m->pending && bht_time(e) >= k->bh->last_run)
		bht_reason(c,
			   "bottom half \"%s\" is scheduled, but the schedule recorded last may be one that was run "
			   "before",
			   k->bh->name);
	else if (k->m && k->lm && c->history && !k->m->pending && bht_complete_since(c->m) <= k->bh->last_run)
		set_by_nobody(c, k);
	else
		bht_reason(
			c,
			"bottom half \"%s\" is scheduled and loop \"%s\" sleeps: a wakeup was lost, but the schedule "
			"is not in the history",
			k->bh->name, k->loop->name);
	return false;
}

void bht_rule_notification(struct bht_case *c, const struct bht_loop_status *status, const struct bht_bh *bh)
{
	const struct bht_loop *loop = status->loop;
	struct clue k = { .loop = loop, .bh = bh };

	if (!bht_is_due(loop, bh) || !bht_waits(status) || loop->notifier_count > 0)
		return;
	k.m = bht_machine_bh(c->m, bh->addr);
	k.lm = bht_machine_loop(c->m, loop->addr);
	if (!find_setter(c, &k) || bht_held_outside(c, loop, bht_time(k.schedule)))
		return;
	if (k.schedule != &k.m->effective)
		k.notify = &k.m->notify;
	else if (bht_time(&k.m->answer))
		k.notify = &k.m->answer;
	struct bhp_notify n = k.notify ? bhp_decode_notify(&k.notify->r) : (struct bhp_notify){ 0 };

	if (!k.notify)
		not_notified(c, &k);
	else if (n.written == 2)
		bht_reason(c, "the notification of bottom half \"%s\" could not be written to file descriptor %d",
			   bh->name, loop->notifier_fd);
	else if (n.written)
		written(c, &k, k.notify);
	else if (n.notify_me == BHP_LOOP_AWAKE)
		skipped(c, &k);
	else
		undertaken(c, &k);
}
