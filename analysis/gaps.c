/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "diagnosis.h"
#include "gaps_inside.h"
#include "order.h"

#define SEVERAL UINT32_MAX /* no thread id */
enum { LONG_NS = 1000 * 1000 * 1000 };

/* --- losses ------------------------------------------------------------------------ */

static int add_span(struct bht_losses *l, uint64_t from, uint64_t to)
{
	for (; l->n && l->span[l->n - 1].to >= from; l->n--) {
		const struct bht_span_of_time *last = &l->span[l->n - 1];
		from = last->from < from ? last->from : from;
		to = last->to > to ? last->to : to;
	}
	if (!bht_room_for_one(&l->span, l->n, sizeof(*l->span)))
		return -ENOMEM;
	l->span[l->n++] = (struct bht_span_of_time){ from, to };
	return 0;
}

bool bht_gaps_lossless(const struct bht_losses *l, uint64_t from, uint64_t to)
{
	size_t low = 0, high = l->n;

	while (low < high) {
		size_t middle = (low + high) / 2;
		if (l->span[middle].to < from)
			low = middle + 1;
		else
			high = middle;
	}
	return low == l->n || l->span[low].from > to;
}

/* What was measured might have had events in it that are missing. */
static void forget(struct bht_gaps *g)
{
	for (size_t i = 0; i < g->n_rows; i++) {
		struct bht_row *row = g->row[i];
		row->unmeasured[BHT_LOST_EVENTS] += row->gap.n;
		bht_histogram_free(&row->gap);
		memset(row->part, 0, sizeof(row->part));
		row->rescued = 0;
	}
	for (unsigned i = 0; i < g->n_held; i++)
		g->held[i].gap.row->unmeasured[BHT_LOST_EVENTS]++;
	g->n_held = g->n_worst = 0;
	g->measured_until = 0;
	g->again = true;
}

static void turn_to(const struct bht_gaps *g, struct bht_loop_row *loop, enum bht_doing doing, uint64_t time);

/* Nobody knows what happened to the flags, nor what that thread did. */
static void lose_track(struct bht_gaps *g, uint32_t tid, uint64_t time)
{
	for (size_t i = 0; i < g->n_loops; i++) {
		struct bht_loop_row *loop = g->loop[i];
		loop->slept = false;
		if (tid && loop->poller != tid)
			continue;
		loop->doing = BHT_DOING_UNKNOWN;
		turn_to(g, loop, BHT_DOING_UNKNOWN, time);
	}
	BHT_MAP_EACH(&g->objects, e)
	{
		struct bht_gaps_object *o = e->value;
		o->synced = o->certain = false;
		o->cleared_by = o->setter = o->running = 0;
		o->overtaken = false;
		o->sleeps = o->row->loop->sleeps;
	}
}

static int feed_loss(struct bht_gaps *g, const struct bht_event *e)
{
	const struct bht_thread_machine *thread = e->tid ? bht_machine_thread(&g->m, e->tid) : NULL;
	uint64_t from = thread ? thread->last : 0, to = bht_time(e);
	int rc = bht_machines_feed(&g->m, e);

	if (!rc)
		rc = add_span(&g->losses, from, to);
	if (!g->informed && g->measured_until && from <= g->measured_until)
		forget(g);
	lose_track(g, e->tid, to);
	return rc;
}

/* --- the loop ---------------------------------------------------------------------- */

static bool in_window(const struct bht_gaps *g, uint64_t time)
{
	return time >= g->how->from && time <= g->how->until;
}

static void turn_to(const struct bht_gaps *g, struct bht_loop_row *loop, enum bht_doing doing, uint64_t time)
{
	uint64_t from = loop->since > g->how->from ? loop->since : g->how->from;
	uint64_t to = time < g->how->until ? time : g->how->until;
	const struct bht_mark mark = bht_mark_at(loop, time);

	if (to > from)
		loop->spent[loop->doing] += to - from;
	loop->busy = mark.busy;
	loop->queued = mark.queued;
	loop->thread_queued = bht_queued_at(loop->kernel, time);
	if (time > loop->since)
		loop->since = time;
	loop->doing = doing;
}

static void polled_by(const struct bht_gaps *g, struct bht_loop_row *loop, uint32_t tid, uint64_t time)
{
	if (loop->poller == tid)
		return;
	turn_to(g, loop, loop->doing, time);
	loop->poller = tid;
	loop->kernel = bht_machine_kernel(&g->m, tid);
	loop->thread_queued = bht_queued_at(loop->kernel, time);
}

/* All that its thread waited for a processor since it was woken, it waited in this sleep. */
static void wait_ended(const struct bht_gaps *g, struct bht_loop_row *loop, uint64_t time)
{
	loop->woke = loop->waking = bht_mark_at(loop, time);
	loop->waking.time = loop->kernel ? bht_time(&bht_machine_loop(&g->m, loop->addr)->waking) : 0;
	if (!loop->waking.time)
		return;
	const uint64_t since = bht_queued_at(loop->kernel, time) - loop->kernel->woken_queued;
	loop->waking.queued -= since < loop->waking.queued ? since : loop->waking.queued;
}

static void feed_turn(struct bht_gaps *g, struct bht_loop_row *loop, const struct bht_event *e)
{
	uint64_t time = bht_time(e);

	polled_by(g, loop, e->tid, time);
	switch (bht_event_id(e)) {
	case BHP_ID_poll_begin:
		loop->turns += in_window(g, time);
		turn_to(g, loop, BHT_DOING_OTHER, time);
		break;
	case BHP_ID_poll_end:
		/* A nested one goes back into the callback that polled. */
		turn_to(g, loop, bhp_decode_poll_end(&e->r).depth > 1 ? BHT_DOING_CALLBACKS : BHT_DOING_OTHER, time);
		break;
	case BHP_ID_wait_begin: {
		const struct bht_loop_machine *m = bht_machine_loop(&g->m, loop->addr);
		/* Before an outermost sleep it looked at all that was scheduled. */
		if (bhp_decode_poll_begin(&m->poll.r).depth <= 1) {
			loop->sleeps++;
			loop->slept = true;
		}
		turn_to(g, loop, BHT_DOING_SLEEP, time);
		break;
	}
	case BHP_ID_wait_end:
		loop->wakes += in_window(g, time);
		turn_to(g, loop, BHT_DOING_OTHER, time);
		wait_ended(g, loop, time);
		break;
	}
}

/* --- the flag ---------------------------------------------------------------------- */

/* When the loop slept, nothing was scheduled, whatever is recorded. No record is so late
 * that the balance stays the same from sleep to sleep for long: then it is wrong. */
static void catch_up(struct bht_gaps_object *o, const struct bht_loop_row *loop, uint64_t now, uint64_t long_time)
{
	if (loop->sleeps == o->sleeps)
		return;
	o->sleeps = loop->sleeps;
	if (o->synced && o->balance != o->at_sleep) {
		o->at_sleep = o->balance;
		o->at_sleep_since = now;
	}
	if (o->synced && (!o->balance || o->certain || now - o->at_sleep_since < long_time))
		return;
	o->synced = true;
	o->certain = false;
	o->balance = o->at_sleep = 0;
	o->setter = SEVERAL; /* a late record may come yet */
}

/* The flag was set, now or earlier. */
static void set(const struct bht_gaps *g, struct bht_gaps_object *o, const struct bht_bh_machine *m,
		const struct bht_event *e, uint64_t previous)
{
	uint64_t complete = g->losses.n ? g->losses.span[g->losses.n - 1].to : 0;
	bool anchored = (m->anchored && previous >= complete) || (e->tid && o->cleared_by == e->tid);
	anchored &= !o->overtaken;
	bool alone = !o->setter || (e->tid && o->setter == e->tid);

	if (anchored && !o->synced && !o->setter) {
		o->synced = true;
		o->balance = 0;
	}
	/*
	 * Threads record in the order in which they act. So of several schedules of one
	 * thread the last one is the one that waits, when none is missing. Of two that
	 * should both wait one belongs behind a clear that is not recorded yet.
	 */
	o->certain = o->synced && (o->balance == 0 ? anchored || alone : o->balance < 0 && anchored);
	o->setter = alone && e->tid ? e->tid : SEVERAL;
	o->balance++;
	o->scheduled = bht_mark_at(o->row->loop, bht_time(e));
	o->notified.time = o->writes.time = 0;
}

static void clear(struct bht_gaps_object *o, uint32_t tid)
{
	o->certain = false;
	o->setter = 0;
	o->cleared_by = tid;
	o->balance--;
	if (o->balance == 0)
		o->at_sleep = 0;
}

/* --- bottom halves --------------------------------------------------------------------- */

static int executes(struct bht_gaps *g, struct bht_gaps_object *o, const struct bht_bh_machine *m,
		    const struct bht_event *e, const struct bht_before *before)
{
	enum bht_why_not why = bht_gaps_why_not(g, o, m, bht_time(e));
	int rc = 0;

	if (in_window(g, bht_time(e))) {
		o->row->count[BHT_EXECUTIONS]++;
		if (why == BHT_WHY_NOTS)
			rc = bht_gaps_measure(g, o, m, e, before);
		else
			o->row->unmeasured[why]++;
	}
	clear(o, e->tid);
	o->running++;
	turn_to(g, o->row->loop, BHT_DOING_CALLBACKS, bht_time(e));
	polled_by(g, o->row->loop, e->tid, bht_time(e));
	return rc;
}

static int executed(struct bht_gaps *g, struct bht_gaps_object *o, const struct bht_event *e)
{
	uint64_t begin = bhp_decode_execute_end(&e->r).begin, end = bht_time(e);

	turn_to(g, o->row->loop, BHT_DOING_OTHER, end);
	o->running -= o->running > 0;
	o->overtaken = false;
	return in_window(g, end) && begin && begin <= end ? bht_histogram_add(&o->row->callback, end - begin) : 0;
}

static void withdrawn(const struct bht_gaps *g, struct bht_gaps_object *o, const struct bht_event *e)
{
	if (bhp_decode_bh_cancel(&e->r).flags & BHP_FLAG_SCHEDULED) {
		o->row->count[BHT_CANCELS] += in_window(g, bht_time(e));
		clear(o, e->tid);
		o->overtaken |= o->running > 0;
	} else {
		o->certain = false; /* before the schedule, or is that one over? */
	}
}

static void notified(const struct bht_gaps *g, uint64_t count[BHT_COUNTS], const struct bht_event *e)
{
	static const enum bht_count what[] = { BHT_AVOIDED, BHT_WRITES, BHT_FAILED };
	unsigned written = bhp_decode_notify(&e->r).written;

	if (!in_window(g, bht_time(e)))
		return;
	count[BHT_NOTIFIES]++;
	if (written < sizeof(what) / sizeof(what[0]))
		count[what[written]]++;
}

static struct bht_gaps_object *the_object(struct bht_gaps *g, const struct bht_evidence *ev, struct bht_loop_row *loop,
					  const struct bht_event *e)
{
	uint64_t addr = bhp_get_BH(&e->r);
	bool is_new = bht_event_id(e) == BHP_ID_bh_new;
	struct bht_gaps_object *o = bht_map_get(&g->objects, addr);

	if (o && !is_new)
		return o;
	struct bht_row *row = bht_gaps_row(g, ev, loop, is_new && e->text ? e->text : "", addr);
	struct bht_gaps_object *made = o || !row ? o : calloc(1, sizeof(*made));
	if (!row || !made)
		return NULL;
	*made = (struct bht_gaps_object){ .row = row, .synced = is_new || loop->slept, .sleeps = loop->sleeps };
	row->objects++;
	if (!o && bht_map_put(&g->objects, addr, made)) {
		free(made);
		return NULL;
	}
	return made;
}

static int feed_bh(struct bht_gaps *g, const struct bht_evidence *ev, struct bht_loop_row *loop,
		   const struct bht_event *e, const struct bht_before *before)
{
	struct bht_gaps_object *o = the_object(g, ev, loop, e);
	const struct bht_bh_machine *m = bht_machine_bh(&g->m, bhp_get_BH(&e->r));

	if (!o || !m)
		return -ENOMEM;
	catch_up(o, o->row->loop, bht_time(e), bht_ticks(ev, LONG_NS));
	switch (bht_event_id(e)) {
	case BHP_ID_bh_cancel:
	case BHP_ID_bh_delete:
		withdrawn(g, o, e);
		break;
	case BHP_ID_schedule:
		if (in_window(g, bht_time(e))) {
			o->row->count[BHT_SCHEDULES]++;
			o->row->count[BHT_COALESCED] += bhp_decode_schedule(&e->r).seen != 0;
		}
		if (bhp_decode_schedule(&e->r).seen == 0)
			set(g, o, m, e, before->previous);
		break;
	case BHP_ID_notify:
		notified(g, o->row->count, e);
		if (bht_time(&m->answer) == bht_time(e) && m->answer.tid == e->tid)
			o->notified = bht_mark_at(o->row->loop, bht_time(e));
		break;
	case BHP_ID_execute_begin:
		return executes(g, o, m, e, before);
	case BHP_ID_execute_end:
		return executed(g, o, e);
	}
	return 0;
}

/* --- all of it ----------------------------------------------------------------------- */

static struct bht_before look_before(const struct bht_gaps *g, const struct bht_event *e)
{
	struct bht_before b = { 0 };

	if (bht_event_id(e) == BHP_ID_schedule) {
		const struct bht_thread_machine *t = bht_machine_thread(&g->m, e->tid);
		b.previous = t ? t->last : 0;
	} else if (bht_event_id(e) == BHP_ID_execute_begin) {
		const struct bht_bh_machine *m = bht_machine_bh(&g->m, bhp_get_BH(&e->r));
		b.rescued = m ? m->n_rescued : 0;
		b.doubtful = m ? bht_time(&m->doubtful.begin) : 0;
	}
	return b;
}

static int feed_object(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_event *e,
		       const struct bht_before *before)
{
	uint64_t addr = bhp_get_LOOP(&e->r);
	struct bht_loop_row *loop = bht_event_id(e) == BHP_ID_loop_new
					    ? bht_gaps_new_loop(g, addr, bht_time(e), e->text)
					    : bht_gaps_loop(g, addr, bht_time(e));

	if (!loop)
		return -ENOMEM;
	switch (bht_event_id(e)) {
	case BHP_ID_poll_begin:
	case BHP_ID_poll_end:
	case BHP_ID_wait_begin:
	case BHP_ID_wait_end:
		feed_turn(g, loop, e);
		return 0;
	case BHP_ID_notify:
		if (!bhp_get_BH(&e->r)) {
			notified(g, loop->count, e);
			return 0;
		}
		return feed_bh(g, ev, loop, e, before);
	case BHP_ID_bh_new:
	case BHP_ID_bh_delete:
	case BHP_ID_bh_cancel:
	case BHP_ID_schedule:
	case BHP_ID_execute_begin:
	case BHP_ID_execute_end:
		return feed_bh(g, ev, loop, e, before);
	}
	return 0;
}

int bht_gaps_feed(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_event *e)
{
	unsigned id = bht_event_id(e);

	if (id == BHT_ID_LOSS)
		return feed_loss(g, e);
	if (bht_is_kernel(id))
		return bht_gaps_feed_kernel(g, ev, e);
	struct bht_before before = look_before(g, e);
	int rc = bht_machines_feed(&g->m, e);
	if (rc)
		return rc;
	if (!g->first)
		g->first = bht_time(e);
	g->last = bht_time(e);
	rc = g->n_held ? bht_gaps_settle(g) : 0;
	if (rc || id == BHP_ID_thread || id == BHP_ID_consume || id > BHP_ID_thread)
		return rc;
	return feed_object(g, ev, e, &before);
}

int bht_gaps_begin(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_gaps_options *how)
{
	*g = (struct bht_gaps){ .how = how };
	bht_machines_begin(&g->m, ev);
	g->worst = calloc(how->worst + 1, sizeof(*g->worst));
	g->held = calloc(BHT_HELD_MAX, sizeof(*g->held));
	return g->worst && g->held ? 0 : -ENOMEM;
}

int bht_gaps_begin_again(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_gaps_options *how,
			 struct bht_gaps *first)
{
	int rc = bht_gaps_begin(g, ev, how);

	g->informed = true;
	g->known = first->losses;
	first->losses = (struct bht_losses){ 0 };
	return rc;
}

int bht_gaps_finish(struct bht_gaps *g, const struct bht_evidence *ev)
{
	int rc = bht_gaps_settle_rest(g, ev);

	for (size_t i = 0; i < g->n_loops; i++)
		turn_to(g, g->loop[i], g->loop[i]->doing, g->last);
	return rc ? rc : bht_gaps_arrange(g, ev);
}

void bht_gaps_free(struct bht_gaps *g)
{
	bht_machines_free(&g->m);
	for (size_t i = 0; i < g->n_rows; i++) {
		bht_row_clear(g->row[i]);
		free(g->row[i]);
	}
	for (size_t i = 0; i < g->n_loops; i++)
		free(g->loop[i]);
	BHT_MAP_EACH(&g->objects, e)
	free(e->value);
	bht_map_free(&g->objects);
	bht_map_free(&g->loops);
	bht_map_free(&g->names);
	free(g->row);
	free(g->loop);
	free(g->worst);
	free(g->held);
	free(g->losses.span);
	free(g->known.span);
	*g = (struct bht_gaps){ 0 };
}
