/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "render.h"
#include "timeline_drawing.h"

/* Callbacks that poll in callbacks: what is nested deeper is not drawn as a span. */
enum { OPEN_MAX = 64 };

double bht_timeline_ns(const struct bht_timeline *t, uint64_t time)
{
	const struct bht_evidence clock = { .ticks_per_ns = t->ticks_per_ns };

	return time > t->overview->first ? bht_since_ns(&clock, t->overview->first, time) : 0;
}

/* --- spans --------------------------------------------------------------------- */

static int cut(struct bht_drawing *d, struct bht_lane *lane, uint64_t time)
{
	const struct bht_event e = { .r = { { time, BHT_ID_CUT, 0, 0 } }, .tid = lane->tid, .process = lane->process };

	lane->last = time;
	lane->drawn = true;
	return d->pen->event(d->pen, lane, NULL, &e, &lane->at);
}

/* Makes sure that the lane's latest place was drawn. */
static int last_place(struct bht_drawing *d, struct bht_lane *lane)
{
	return lane->drawn ? 0 : cut(d, lane, lane->last > d->t->begin ? lane->last : d->t->begin);
}

static int open_span(struct bht_drawing *d, struct bht_lane *lane, enum bht_span_kind kind,
		     const struct bht_object *object, const struct bht_event *e, bool early)
{
	unsigned depth = 0;

	if (lane->n_open == OPEN_MAX)
		return 0;
	if (!bht_room_for_one(&lane->open, lane->n_open, sizeof(*lane->open)))
		return -ENOMEM;
	for (unsigned i = 0; i < lane->n_open; i++)
		depth += lane->open[i].kind == BHT_SPAN_EXECUTE;
	struct bht_lane_span *s = &lane->open[lane->n_open++];
	*s = (struct bht_lane_span){ .kind = kind,
				     .lane = lane,
				     .object = object,
				     .event = *e,
				     .early = early,
				     .depth = depth,
				     .begin = lane->at };
	s->event.text = NULL;
	return d->inside ? d->pen->begin(d->pen, s) : 0;
}

/* Ends the innermost span, with E, or where the lane is now. */
static int close_span(struct bht_drawing *d, struct bht_lane *lane, enum bht_span_end how, const struct bht_event *e)
{
	struct bht_lane_span *s = &lane->open[--lane->n_open];

	s->how = how;
	s->end = lane->at;
	return d->inside ? d->pen->end(d->pen, s, e) : 0;
}

/* Those above the N outermost ended, but it was not seen. */
static int close_unseen(struct bht_drawing *d, struct bht_lane *lane, unsigned n)
{
	int rc = 0;

	if (lane->n_open > n && d->inside)
		rc = last_place(d, lane);
	while (lane->n_open > n && !rc)
		rc = close_span(d, lane, BHT_SPAN_UNSEEN, NULL);
	return rc;
}

/* One more than the index of the innermost such span; 0: there is none. */
static unsigned find_open(const struct bht_lane *lane, enum bht_span_kind kind, const struct bht_object *object)
{
	unsigned i = lane->n_open;

	while (i && (lane->open[i - 1].kind != kind || lane->open[i - 1].object != object))
		i--;
	return i;
}

/* How many of the lane's spans may still be open when LOOP does something that it
 * cannot do asleep, and not while it polls when OUTERMOST. */
static unsigned plausible(const struct bht_lane *lane, const struct bht_object *loop, bool outermost)
{
	unsigned n = 0;

	while (outermost && n < lane->n_open && lane->open[n].object != loop &&
	       !(lane->open[n].object && lane->open[n].object->loop == loop))
		n++;
	if (outermost)
		return n;
	n = lane->n_open;
	while (n && lane->open[n - 1].kind == BHT_SPAN_SLEEP && lane->open[n - 1].object == loop)
		n--;
	return n;
}

/* Which span E begins or ends. */
static bool is_edge(const struct bht_event *e, enum bht_span_kind *kind, bool *begins)
{
	const unsigned id = bht_event_id(e);

	*begins = id == BHP_ID_poll_begin || id == BHP_ID_wait_begin || id == BHP_ID_execute_begin;
	switch (id) {
	case BHP_ID_poll_begin:
	case BHP_ID_poll_end:
		*kind = BHT_SPAN_TURN;
		return true;
	case BHP_ID_wait_begin:
	case BHP_ID_wait_end:
		*kind = BHT_SPAN_SLEEP;
		return true;
	case BHP_ID_execute_begin:
	case BHP_ID_execute_end:
		*kind = BHT_SPAN_EXECUTE;
		return true;
	default:
		return false;
	}
}

/* Before E is drawn: what must have ended unseen, ends where its lane was last. */
static int make_way(struct bht_drawing *d, struct bht_lane *lane, const struct bht_object *object,
		    const struct bht_event *e)
{
	enum bht_span_kind kind;
	bool begins;

	if (!is_edge(e, &kind, &begins))
		return 0;
	if (begins) {
		const struct bht_object *loop = object && object->loop ? object->loop : object;
		bool outermost = kind == BHT_SPAN_TURN && bhp_decode_poll_begin(&e->r).depth == 1;
		return close_unseen(d, lane, plausible(lane, loop, outermost));
	}
	const unsigned found = find_open(lane, kind, object);
	return found ? close_unseen(d, lane, found) : 0;
}

/* --- arrows -------------------------------------------------------------------- */

static void note_point(struct bht_object *bh, struct bht_lane *lane, const struct bht_event *e, bool drawn)
{
	const struct bht_point here = { drawn ? lane : NULL, lane->at, bht_time(e) };

	if (bht_event_id(e) == BHP_ID_schedule && bhp_decode_schedule(&e->r).seen == 0) {
		bh->schedule = here;
		bh->notify = (struct bht_point){ 0 };
	} else if (bht_event_id(e) == BHP_ID_notify && lane == bh->schedule.lane && !bh->notify.lane) {
		bh->notify = here;
	}
}

/* E, which begins the lane's innermost span, has not been fed. The schedule is the one
 * that the flag machine waits for, and nothing else may have come in between. */
static int draw_arrow(struct bht_drawing *d, const struct bht_lane *lane, const struct bht_object *bh,
		      const struct bht_event *e)
{
	const struct bht_machines *m = &d->process[lane->process].m;
	const struct bht_bh_machine *flag = bht_machine_bh(m, bh->addr);
	const uint64_t since = bh->schedule.time;

	if (!flag || !bh->schedule.lane || !flag->pending || flag->served || flag->muddled ||
	    bht_time(&flag->effective) != since || bht_time(e) <= since || !bht_lossless(m, since, bht_time(e)))
		return 0;
	d->t->n_arrows++;
	return d->pen->arrow(d->pen, &bh->schedule, bh->notify.lane ? &bh->notify : NULL,
			     &lane->open[lane->n_open - 1]);
}

/* --- events -------------------------------------------------------------------- */

/* Draws E, and remembers where the lane is. The time of one thread goes on, also when
 * a signal handler came between a stamp and its record. */
static int place(struct bht_drawing *d, struct bht_lane *lane, const struct bht_object *object,
		 const struct bht_event *e)
{
	struct bht_event at = *e;

	if (bht_time(e) < lane->last)
		at.r.word[0] = lane->last;
	lane->last = bht_time(&at);
	lane->drawn = d->inside;
	if (lane->last > d->now)
		d->now = lane->last;
	return d->inside ? d->pen->event(d->pen, lane, object, &at, &lane->at) : 0;
}

/* An end without a beginning: of a callback it has the time, of anything else nothing
 * is drawn. */
static int begin_late(struct bht_drawing *d, struct bht_lane *lane, const struct bht_object *object,
		      const struct bht_event *e)
{
	struct bht_event begin = *e;
	const struct bhp_execute_end end = bhp_decode_execute_end(&e->r);
	const uint64_t time = end.begin > d->t->begin ? end.begin : d->t->begin;

	if (time > bht_time(e))
		return 0;
	begin.r = bhp_encode_execute_begin(time, &(struct bhp_execute_begin){ .loop = end.loop, .bh = end.bh });
	int rc = place(d, lane, object, &begin);
	return rc ? rc : open_span(d, lane, BHT_SPAN_EXECUTE, object, &begin, end.begin < lane->last);
}

static int draw_edge(struct bht_drawing *d, struct bht_lane *lane, const struct bht_object *object,
		     const struct bht_event *e)
{
	enum bht_span_kind kind;
	bool begins;
	int rc = 0;

	if (!is_edge(e, &kind, &begins))
		return place(d, lane, object, e);
	if (!begins && kind == BHT_SPAN_EXECUTE && !find_open(lane, kind, object))
		rc = begin_late(d, lane, object, e);
	if (!rc)
		rc = place(d, lane, object, e);
	if (rc)
		return rc;
	if (!begins)
		return find_open(lane, kind, object) ? close_span(d, lane, BHT_SPAN_ENDED, e) : 0;
	const unsigned n = lane->n_open;
	rc = open_span(d, lane, kind, object, e, false);
	return rc || !d->inside || kind != BHT_SPAN_EXECUTE || lane->n_open == n ? rc : draw_arrow(d, lane, object, e);
}

static int draw_event(struct bht_drawing *d, const struct bht_event *e)
{
	struct bht_lane *lane = bht_drawn_lane(d, e->process, e->tid);
	struct bht_object *object;
	int rc = lane ? bht_drawn_object(d, e, &object) : -ENOMEM;

	if (rc)
		return rc;
	if (bht_event_id(e) == BHP_ID_thread)
		strncpy(lane->name, e->text ? e->text : "", sizeof(lane->name) - 1);
	rc = make_way(d, lane, object, e);
	if (!rc)
		rc = draw_edge(d, lane, object, e);
	if (!rc && object && object->loop)
		note_point(object, lane, e, d->inside);
	return rc ? rc : bht_machines_feed(&d->process[e->process].m, e);
}

/* What was open may have ended in it. */
static int draw_lost(struct bht_drawing *d, struct bht_lane *lane, const struct bht_event *e, uint64_t until)
{
	int rc = close_unseen(d, lane, 0);

	if (rc || !d->inside) {
		lane->last = until > lane->last ? until : lane->last;
		lane->drawn = false;
		return rc;
	}
	rc = last_place(d, lane);
	if (!rc)
		rc = open_span(d, lane, BHT_SPAN_LOSS, NULL, e, false);
	struct bht_event end = *e;
	end.r.word[0] = until;
	if (!rc)
		rc = place(d, lane, NULL, &end);
	return rc ? rc : close_span(d, lane, BHT_SPAN_ENDED, &end);
}

/* After the picture, only a loss that reaches into it matters. */
static int draw_loss(struct bht_drawing *d, uint32_t process, const struct bht_event *e)
{
	struct bht_lane *lane = bht_drawn_lane(d, process, e->tid);
	const uint64_t until = d->past ? d->t->end : bht_time(e);

	if (!lane)
		return -ENOMEM;
	if (!d->past) {
		const int rc = bht_machines_feed(&d->process[process].m, e);
		if (rc)
			return rc;
	}
	if (lane->passed || lane->last > until || (d->past && lane->last == until))
		return 0;
	return draw_lost(d, lane, e, until);
}

static int draw_losses(struct bht_drawing *d, const struct bht_event *e)
{
	const bool all = e->process == BHT_ALL_PROCESSES;
	int rc = 0;

	for (uint32_t p = all ? 0 : e->process; p < d->t->n_processes && !rc; p++) {
		if (d->t->only == BHT_ALL_PROCESSES || d->t->only == p)
			rc = draw_loss(d, p, e);
		if (!all)
			break;
	}
	return rc;
}

/* --- the picture's edges ------------------------------------------------------- */

/* What is open has begun earlier. */
static int enter(struct bht_drawing *d)
{
	struct bht_timeline *t = d->t;
	int rc = 0;

	d->inside = true;
	t->begin = t->since > t->overview->first ? t->since : t->overview->first;
	for (size_t i = 0; i < t->n_lanes && !rc; i++) {
		struct bht_lane *lane = t->lane[i];
		for (unsigned n = 0; n < lane->n_open && !rc; n++) {
			struct bht_lane_span *s = &lane->open[n];
			struct bht_event e = s->event;
			e.r.word[0] = t->begin;
			rc = place(d, lane, s->object, &e);
			s->begin = lane->at;
			s->early = true;
			if (!rc)
				rc = d->pen->begin(d->pen, s);
		}
	}
	return rc;
}

static void leave(struct bht_drawing *d, uint64_t time)
{
	d->past = true;
	d->t->end = time;
}

/* Ends what goes on. */
static int finish(struct bht_drawing *d)
{
	struct bht_timeline *t = d->t;
	int rc = d->inside ? 0 : enter(d);

	/* What sleeps for ever is to be seen. */
	if (!d->past)
		leave(d, d->now > t->begin ? d->now + (d->now - t->begin) / 50 : t->begin);
	for (size_t i = 0; i < t->n_lanes && !rc; i++) {
		struct bht_lane *lane = t->lane[i];
		if (lane->n_open)
			rc = cut(d, lane, t->end);
		while (lane->n_open && !rc)
			rc = close_span(d, lane, BHT_SPAN_GOES_ON, NULL);
	}
	return rc;
}

/* A lane that goes on has no loss that reaches back into the picture. */
static int pass(struct bht_drawing *d, const struct bht_event *e)
{
	struct bht_lane *lane = bht_drawn_lane(d, e->process, e->tid);

	d->t->n_after++;
	if (lane)
		lane->passed = true;
	return lane ? 0 : -ENOMEM;
}

static int draw(struct bht_drawing *d, const struct bht_event *e)
{
	struct bht_timeline *t = d->t;
	const uint64_t time = bht_time(e);
	const bool loss = bht_event_id(e) == BHT_ID_LOSS;

	if (bht_is_kernel(bht_event_id(e)))
		return 0;
	/* What was recorded since the first reading was not diagnosed. */
	if (!loss && (e->process >= t->n_processes || time > t->overview->last ||
		      (t->only != BHT_ALL_PROCESSES && e->process != t->only)))
		return 0;
	const int rc = !d->inside && time >= t->since ? enter(d) : 0;
	if (rc)
		return rc;
	if (loss)
		return draw_losses(d, e);
	if (!d->past && (time > t->until || t->n_events == t->max_events)) {
		t->full = time <= t->until;
		leave(d, t->full ? d->now : t->until);
	}
	if (d->past)
		return pass(d, e);
	*(d->inside ? &t->n_events : &t->n_before) += 1;
	return draw_event(d, e);
}

/* --- all of it ----------------------------------------------------------------- */

static int begin_process(struct bht_drawn_process *p, const struct bht_evidence *ev)
{
	const struct bht_sample *s = &ev->last;
	int rc = 0;

	bht_machines_begin(&p->m, ev);
	for (size_t i = 0; i < s->n_loops && !rc; i++)
		rc = bht_map_put(&p->names, s->loops[i].addr, s->loops[i].name);
	for (size_t i = 0; i < s->n_bhs && !rc; i++)
		rc = bht_map_put(&p->names, s->bhs[i].addr, s->bhs[i].name);
	return rc;
}

static void end_process(struct bht_drawn_process *p)
{
	bht_machines_free(&p->m);
	bht_map_free(&p->lanes);
	bht_map_free(&p->objects);
	bht_map_free(&p->names);
}

static int read_all(struct bht_drawing *d, struct bht_source *history)
{
	struct bht_event e[BHT_BATCH];
	int n = 0, rc = 0;

	while (!rc && history && (n = history->next(history, e, BHT_BATCH)) > 0)
		for (int i = 0; i < n && !rc; i++)
			rc = draw(d, &e[i]);
	return rc ? rc : n;
}

int bht_timeline_draw(struct bht_timeline *t, struct bht_source *history, struct bht_pen *pen)
{
	struct bht_drawing d = { .t = t,
				 .pen = pen,
				 .process = calloc(t->n_processes + 1, sizeof(struct bht_drawn_process)) };
	int rc = d.process ? 0 : -ENOMEM;

	for (unsigned i = 0; i < t->n_processes && !rc; i++)
		rc = begin_process(&d.process[i], &t->process[i].ev);
	if (!rc)
		rc = read_all(&d, history);
	if (!rc)
		rc = finish(&d);
	for (unsigned i = 0; d.process && i < t->n_processes; i++)
		end_process(&d.process[i]);
	free(d.process);
	return rc;
}

void bht_timeline_free(struct bht_timeline *t)
{
	for (size_t i = 0; i < t->n_lanes; i++) {
		free(t->lane[i]->open);
		free(t->lane[i]);
	}
	for (size_t i = 0; i < t->n_objects; i++)
		free(t->object[i]);
	free(t->lane);
	free(t->object);
	t->lane = NULL;
	t->object = NULL;
	t->n_lanes = t->n_objects = 0;
}
