/* SPDX-License-Identifier: MIT */
/* simulator_run.h - the loop and the thief of simulator.h, and running it all */
#ifndef SIMULATOR_RUN_H
#define SIMULATOR_RUN_H

#include "simulator.h"

/* --- the loop ---------------------------------------------------------------------------- */

static inline struct sim_frame *sim_frame(struct sim *s)
{
	return &s->frame[s->depth - 1];
}

static inline void sim_announce(struct sim *s)
{
	struct sim_frame *f = sim_frame(s);

	if (!f->announced)
		sim_emit_at(s, SIM_LOOP, sim_stamp(s), poll_begin, .blocking = f->blocking, .depth = (uint8_t)s->depth,
			    .iteration = s->iteration);
	f->announced = true;
}

/* As sleep_ns(). MISSES: what was pushed a moment ago is not seen. */
static inline int64_t sim_sleep_ns(const struct sim *s, bool misses)
{
	int64_t timeout = s->timer ? 300000 : SIM_FOREVER_NS;

	if (s->n_ready)
		return 0;
	for (unsigned i = 0; i < s->n_incoming; i++) {
		const struct sim_bh *bh = &s->bh[s->incoming[i]];
		uint32_t flags = sim_flags(bh);
		if (!sim_runnable(flags) || (misses && bh->pushed + 2000 > s->now))
			continue;
		if (!(flags & BHP_FLAG_IDLE))
			return 0;
		if (timeout < 0)
			timeout = SIM_IDLE_NS;
	}
	return timeout;
}

static inline void loop_turns(struct sim *s, bool blocking)
{
	struct sim_thread *me = &s->thread[SIM_LOOP];

	*sim_frame(s) = (struct sim_frame){ .blocking = blocking };
	s->iteration++;
	me->step = blocking && sim_sleep_ns(s, false) != 0 ? L_SLEEP : L_TAKE;
}

static inline void loop_accepts(struct sim *s)
{
	if (!s->accept_due)
		return;
	sim_emit(s, SIM_LOOP, accept, .by = BHP_BY_POLL, .value = s->count);
	s->count = 0;
	s->accept_due = false;
}

static inline void loop_looks(struct sim *s)
{
	struct sim_thread *me = &s->thread[SIM_LOOP];
	int64_t timeout = sim_sleep_ns(s, s->fault == SIM_SKIPPED_LOOK && sim_rnd(s, 3));

	if (timeout == 0) {
		s->notify_me = BHP_LOOP_AWAKE;
		me->step = L_TAKE;
		return;
	}
	sim_announce(s);
	if (s->fault == SIM_CLEARED_LATE && s->count) {
		s->accept_due = true;
		loop_accepts(s);
	}
	sim_emit(s, SIM_LOOP, wait_begin, .timeout_ns = timeout);
	s->timeout = timeout;
	s->wait_from = sim_clock(s, SIM_LOOP);
	s->deadline = timeout < 0 ? SIM_NEVER : s->now + (uint64_t)timeout;
	s->waiting = true;
	me->step = L_WAIT;
	me->at = s->count && s->watched ? s->now + 500 : s->deadline;
}

static inline void loop_wakes(struct sim *s)
{
	struct sim_thread *me = &s->thread[SIM_LOOP];
	bool notified = s->count && s->watched;

	if (!notified && s->now < s->deadline) {
		me->at = s->deadline;
		return;
	}
	s->woke = notified ? BHP_WOKE_NOTIFIER : BHP_WOKE_TIMEOUT;
	s->accept_due = notified;
	s->waiting = false;
	sim_emit_at(s, SIM_LOOP, sim_stamp(s), wait_end, .woke = (uint8_t)s->woke, .fd = -1);
	s->woke_at = s->stamp;
	s->woke_true = s->now;
	s->notify_me = BHP_LOOP_AWAKE;
	me->step = L_TAKE;
}

/* Whether what begins to run was set while the loop slept, and only a time-out
 * woke it. Sure: the stamps leave no doubt, and it was no idle one at first. */
static inline void loop_was_lucky(struct sim *s, unsigned b, const struct sim_bh *bh)
{
	uint64_t before = s->woke_at - 2 * SIM_ERROR_NS;
	bool in_time = bh->schedule && bh->schedule < before && !bh->set_idle;
	bool noted = bh->notify && bh->notify < before;
	bool stolen = bh->fate == FATE_TOLD && s->stolen > bh->notify + 2 * SIM_ERROR_NS && s->stolen < before;

	if (s->woke != BHP_WOKE_TIMEOUT || bh->fate <= FATE_SET || bh->set_at >= s->woke_true)
		return;
	if (s->fault == SIM_HEALTHY || s->n_rescues == SIM_RESCUES)
		return;
	s->rescue[s->n_rescues++] = (struct sim_rescue){
		.bh = b,
		.setter = bh->setter,
		.sure = in_time && (bh->fate == FATE_MISSING || (noted && (bh->fate == FATE_SKIPPED || stolen))),
		.from = bh->schedule,
		.to = s->woke_at,
	};
}

static inline void loop_runs(struct sim *s)
{
	struct sim_thread *me = &s->thread[SIM_LOOP];

	if (!s->n_ready) {
		me->step = L_ACCEPT;
		return;
	}
	unsigned b = s->ready[0];
	struct sim_bh *bh = &s->bh[b];
	memmove(s->ready, s->ready + 1, --s->n_ready * sizeof(s->ready[0]));
	if (!sim_runnable(sim_flags(bh))) {
		bh->flags = 0;
		return;
	}
	sim_frame(s)->bh = b;
	sim_frame(s)->begin = s->stamp;
	bh->runs++;
	bh->last_run = s->stamp;
	sim_emit_at(s, SIM_LOOP, s->stamp, execute_begin, .bh = sim_bh(b));
	loop_was_lucky(s, b, bh);
	me->step = L_CLEAR;
}

static inline void loop_clears(struct sim *s)
{
	struct sim_bh *bh = &s->bh[sim_frame(s)->bh];

	bh->fate = FATE_NONE;
	bh->setter = 0;
	bh->own_flags = 0;
	bh->buffered = true;
	bh->drains = s->now + sim_rnd(s, SIM_DRAIN_NS);
	if (s->fault != SIM_RACE_CONSUMER)
		sim_drain(bh);
	s->thread[SIM_LOOP].step = L_CALLBACK;
}

static inline void loop_calls_back(struct sim *s)
{
	unsigned b = sim_frame(s)->bh;
	struct sim_bh *bh = &s->bh[b];

	for (unsigned p = 0; p < s->n_producers; p++)
		for (bh->looked[p] = bh->published[p]; bh->collected[p] < bh->looked[p];) {
			bh->collected[p]++;
			if (s->tickets)
				sim_emit(s, SIM_LOOP, consume, .bh = sim_bh(b),
					 .ticket =
						 (uint64_t)(b + 1) << 40 | (uint64_t)(p + 1) << 32 | bh->collected[p]);
		}
	s->thread[SIM_LOOP].step = L_END;
	if (!s->tricks || s->depth == SIM_DEPTH || sim_rnd(s, 6))
		return;
	s->depth++;
	loop_accepts(s);
	loop_turns(s, s->timer && sim_rnd(s, 2));
}

static inline void loop_ends_turn(struct sim *s)
{
	struct sim_thread *me = &s->thread[SIM_LOOP];

	if (sim_frame(s)->announced)
		sim_emit(s, SIM_LOOP, poll_end, .depth = (uint8_t)s->depth, .iteration = s->iteration);
	if (s->depth > 1) {
		s->depth--;
		me->step = L_END;
	} else {
		me->step = L_TURN;
	}
}

static inline void loop_step(struct sim *s)
{
	struct sim_thread *me = &s->thread[SIM_LOOP];

	switch (me->step) {
	case L_TURN:
		loop_turns(s, true);
		break;
	case L_SLEEP:
		for (unsigned b = 0; b < SIM_BHS; b++)
			sim_drain(&s->bh[b]); /* a full barrier */
		s->notify_me = BHP_LOOP_SLEEPING;
		me->step = L_LOOK;
		break;
	case L_LOOK:
		loop_looks(s);
		break;
	case L_WAIT:
		loop_wakes(s);
		break;
	case L_TAKE:
		memcpy(s->ready + s->n_ready, s->incoming, s->n_incoming * sizeof(s->ready[0]));
		s->n_ready += s->n_incoming;
		s->n_incoming = 0;
		if (s->n_ready)
			sim_announce(s);
		me->step = L_RUN;
		break;
	case L_RUN:
		loop_runs(s);
		break;
	case L_CLEAR:
		loop_clears(s);
		break;
	case L_CALLBACK:
		loop_calls_back(s);
		break;
	case L_END:
		sim_emit_at(s, SIM_LOOP, sim_stamp(s), execute_end, .bh = sim_bh(sim_frame(s)->bh),
			    .begin = sim_frame(s)->begin);
		me->step = L_RUN;
		break;
	case L_ACCEPT:
		loop_accepts(s);
		s->woke = 0;
		me->step = L_TURN_END;
		break;
	default:
		loop_ends_turn(s);
	}
}

/* --- the thief ------------------------------------------------------------------------------ */

static inline void thief_step(struct sim *s)
{
	struct sim_thread *me = &s->thread[SIM_THIEF];

	if (me->step == T_RECORD) {
		sim_emit(s, SIM_THIEF, accept, .by = BHP_BY_OTHER, .value = 1);
		s->stolen = sim_clock(s, SIM_THIEF);
	} else if (s->count && s->waiting) {
		s->count = 0;
		me->step = T_RECORD;
		return;
	}
	me->step = T_LURK;
	me->at = SIM_NEVER;
}

/* --- all of it --------------------------------------------------------------------------------- */

static inline void sim_begin(struct sim *s, enum sim_fault fault, uint64_t seed)
{
	memset(s, 0, sizeof(*s));
	s->seed = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (unsigned i = 0; i < 8; i++)
		sim_rnd(s, 2);
	bool race = fault == SIM_RACE_PRODUCER || fault == SIM_RACE_CONSUMER;
	s->fault = fault;
	s->now = 1000000;
	s->n_producers = 2 + sim_rnd(s, SIM_PRODUCERS - 1);
	s->tickets = race || sim_rnd(s, 2);
	s->timer = !race && sim_rnd(s, 2);
	s->tricks = !race && sim_rnd(s, 2);
	s->watched = true;
	s->depth = 1;
	s->frozen = fault == SIM_ON_ITS_WAY ? 1 + sim_rnd(s, s->n_producers) : 0;
	for (unsigned t = 0; t < SIM_THREADS; t++) {
		struct sim_thread *thread = &s->thread[t];
		thread->offset = sim_rnd(s, SIM_ERROR_NS);
		thread->step = t == SIM_LOOP ? L_TURN : t == SIM_THIEF ? T_LURK : P_BEGIN;
		thread->left = t >= 1 && t <= s->n_producers ? 1 + sim_rnd(s, 12) : 0;
		thread->at = t == SIM_LOOP ? s->now : thread->left ? s->now + 1000 + sim_rnd(s, 20000) : SIM_NEVER;
	}
}

/* Whether BH I is scheduled and an idle one does not only wait for its time. */
static inline bool sim_due(const struct sim *s, unsigned i)
{
	uint32_t flags = s->bh[i].flags;

	return sim_runnable(flags) && !(flags & BHP_FLAG_IDLE && s->timeout >= 0);
}

/* With a timer it goes on for ever; until nothing is left to do. */
static inline bool sim_over(const struct sim *s, unsigned next)
{
	if (s->thread[next].at == SIM_NEVER)
		return true;
	if (next != SIM_LOOP || s->thread[SIM_LOOP].step != L_WAIT || s->depth > 1 || !s->timer ||
	    (s->count && s->watched))
		return false;
	for (unsigned i = 0; i < SIM_BHS; i++)
		if (sim_runnable(s->bh[i].flags) && !s->frozen)
			return false;
	for (unsigned t = 1; t < SIM_THREADS; t++)
		if (s->thread[t].at != SIM_NEVER)
			return false;
	return true;
}

/* Everything becomes visible that was on its way to memory. */
static inline bool sim_settle(struct sim *s)
{
	s->now += 100000;
	sim_drain_due(s);
	return s->waiting;
}

/* Runs to the end. Whether it came to one that can be judged. */
static inline bool sim_run(struct sim *s)
{
	for (unsigned n = 0; n < SIM_STEPS; n++) {
		unsigned next = 0;
		for (unsigned t = 1; t < SIM_THREADS; t++)
			if (s->thread[t].at < s->thread[next].at)
				next = t;
		if (sim_over(s, next))
			return sim_settle(s);
		struct sim_thread *me = &s->thread[next];
		s->now = me->at;
		me->at = s->now + 5 + (sim_rnd(s, 50) ? sim_rnd(s, 60) : sim_rnd(s, 60000));
		sim_drain_due(s);
		if (s->fault == SIM_UNWATCHED && sim_left(s) <= 2)
			s->watched = false;
		if (next == SIM_LOOP)
			loop_step(s);
		else if (next == SIM_THIEF)
			thief_step(s);
		else
			producer_step(s, next);
	}
	return false;
}

#endif
