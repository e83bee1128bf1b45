/* SPDX-License-Identifier: MIT */
/*
 * simulator.h - random histories of the whole protocol, with a fault or without
 *
 * Producers, a loop and a thief run the steps of lib/bh.c, lib/notify.c and
 * lib/loop.c in the order of simulated time, one memory access a step, and
 * record what libbh records, at its place. A thread may lose the CPU between
 * any two steps, so also before a record. What a weak protocol leaves in a
 * store buffer is a store that comes due later.
 *
 * What was lost, and how, is known from the simulated memory: each set flag
 * remembers what became of its notification. That is all of the oracle.
 */
#ifndef SIMULATOR_H
#define SIMULATOR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "event.h"
#include "objects.h"

enum { SIM_PRODUCERS = 4, SIM_LOOP = 0, SIM_THIEF = SIM_PRODUCERS + 1, SIM_THREADS, SIM_BHS = 2 };
enum { SIM_EVENTS = 1500, SIM_TID = 10, SIM_DEPTH = 3, SIM_STEPS = 20000, SIM_RESCUES = 16 };
enum { SIM_ERROR_NS = 250, SIM_DRAIN_NS = 4000, SIM_IDLE_NS = 10000000, SIM_FOREVER_NS = -1 };
#define SIM_NEVER UINT64_MAX

enum sim_fault {
	SIM_HEALTHY,
	SIM_RACE_PRODUCER, /* "if (scheduled) return" without a barrier */
	SIM_RACE_CONSUMER, /* "scheduled = 0" without a barrier */
	SIM_SKIPPED_STALE, /* a producer believes that the loop is awake */
	SIM_SKIPPED_LOOK,  /* the loop's last look misses what was just pushed */
	SIM_STOLEN,        /* another thread takes the notification */
	SIM_CLEARED_LATE,  /* the loop takes it itself, after its last look */
	SIM_MISSING,       /* a path that forgets to notify */
	SIM_UNWATCHED,     /* the notifier is taken out of the set */
	SIM_ON_ITS_WAY,    /* none, but a producer has not finished */
	SIM_FAULTS
};

/* What became of the notification of the schedule that set a flag. */
enum sim_fate { FATE_NONE, FATE_SET, FATE_MISSING, FATE_SKIPPED, FATE_TOLD };

enum sim_step {
	P_BEGIN,
	P_EXCHANGE,
	P_PUSH,
	P_LOAD,
	P_RECORD,
	P_WRITE,
	P_RECORD_NOTIFY,
	P_RECORD_COALESCED,
	P_RECORD_CANCEL,
	L_TURN,
	L_SLEEP,
	L_LOOK,
	L_WAIT,
	L_TAKE,
	L_RUN,
	L_CLEAR,
	L_CALLBACK,
	L_END,
	L_ACCEPT,
	L_TURN_END,
	T_LURK,
	T_RECORD
};

struct sim_thread {
	enum sim_step step;
	uint64_t at; /* time of its next step */
	uint64_t offset;
	struct bht_event event[SIM_EVENTS];
	unsigned n;
	/* producers */
	unsigned left, bh;
	enum bhp_schedule_kind kind;
	bool cancel, forget;
	uint32_t old;
	uint8_t me, written;
	uint64_t ticket;
};

struct sim_bh {
	uint32_t flags, own_flags; /* as others see it, as the loop does while its clear is buffered */
	bool buffered;
	uint64_t drains;
	uint64_t payload[SIM_PRODUCERS], published[SIM_PRODUCERS], appears[SIM_PRODUCERS], collected[SIM_PRODUCERS];
	uint64_t looked[SIM_PRODUCERS];
	uint64_t runs, last_run, pushed;
	enum sim_fate fate;
	bool set_idle;                /* the schedule that set the flag was an idle one */
	uint64_t schedule, notify;    /* stamps of the records of the one that set it, 0: not yet */
};

struct sim_frame {
	unsigned bh;
	uint64_t begin;
	bool announced, blocking;
};

/* An execution that only luck brought about. */
struct sim_rescue {
	unsigned bh;
	bool sure; /* the stamps leave no doubt */
	uint64_t from, to;
};

struct sim {
	enum sim_fault fault;
	bool tickets, timer, tricks; /* tricks: cancel, idle, nested polls */
	uint64_t now, seed, serial;
	unsigned n_producers, frozen; /* thread that will not finish, 0 for none */
	struct sim_thread thread[SIM_THREADS];
	struct sim_bh bh[SIM_BHS];
	unsigned incoming[SIM_BHS * 4], n_incoming, ready[SIM_BHS * 4], n_ready;
	uint32_t notify_me;
	uint64_t count;
	bool watched, waiting, accept_due;
	uint64_t deadline, wait_from, stamp, iteration, woke_at, stolen;
	int64_t timeout;
	unsigned woke, depth;
	struct sim_frame frame[SIM_DEPTH];
	struct sim_rescue rescue[SIM_RESCUES];
	unsigned n_rescues;
};

static inline uint32_t sim_rnd(struct sim *s, uint32_t n)
{
	s->seed ^= s->seed << 13;
	s->seed ^= s->seed >> 7;
	s->seed ^= s->seed << 17;
	return (uint32_t)(s->seed >> 33) % n;
}

static inline const void *sim_loop(void)
{
	return (const void *)0x1000;
}

static inline const void *sim_bh(unsigned i)
{
	return (const void *)(uintptr_t)(0x2000 + 0x1000 * i);
}

/* --- recording ------------------------------------------------------------------------ */

static inline uint64_t sim_clock(const struct sim *s, unsigned t)
{
	return s->now + s->thread[t].offset;
}

static inline void sim_record(struct sim *s, unsigned t, struct bhp_record r)
{
	struct sim_thread *thread = &s->thread[t];

	if (thread->n < SIM_EVENTS)
		thread->event[thread->n++] = (struct bht_event){ .r = r, .tid = SIM_TID + t };
}

#define sim_emit_at(s, t, time, name, ...)                                                                             \
	sim_record(s, t, bhp_encode_##name(time, &(struct bhp_##name){ .loop = sim_loop(), __VA_ARGS__ }))
#define sim_emit(s, t, name, ...) sim_emit_at(s, t, sim_clock(s, t), name, __VA_ARGS__)

static inline uint64_t sim_stamp(struct sim *s)
{
	return s->stamp = sim_clock(s, SIM_LOOP);
}

/* --- memory --------------------------------------------------------------------------- */

static inline void sim_drain(struct sim_bh *bh)
{
	if (bh->buffered)
		bh->flags = bh->own_flags;
	bh->buffered = false;
}

/* What has waited long enough in a store buffer becomes visible. */
static inline void sim_drain_due(struct sim *s)
{
	for (unsigned b = 0; b < SIM_BHS; b++) {
		struct sim_bh *bh = &s->bh[b];
		if (bh->drains <= s->now)
			sim_drain(bh);
		for (unsigned p = 0; p < SIM_PRODUCERS; p++)
			if (bh->appears[p] <= s->now)
				bh->published[p] = bh->payload[p];
	}
}

static inline bool sim_runnable(uint32_t flags)
{
	return flags & BHP_FLAG_SCHEDULED;
}

/* The loop's own view. */
static inline uint32_t sim_flags(const struct sim_bh *bh)
{
	return bh->buffered ? bh->own_flags : bh->flags;
}

static inline void sim_push(struct sim *s, unsigned b)
{
	s->incoming[s->n_incoming++] = b;
	s->bh[b].pushed = s->now;
}

/* --- producers ------------------------------------------------------------------------- */

static inline unsigned sim_left(const struct sim *s)
{
	unsigned left = 0;

	for (unsigned t = 1; t <= s->n_producers; t++)
		left += s->thread[t].left;
	return left;
}

/* Faults strike now and then, and mostly the last time. */
static inline bool sim_strikes(struct sim *s)
{
	return sim_left(s) <= 1 ? sim_rnd(s, 5) : !sim_rnd(s, 12);
}

static inline void producer_begins(struct sim *s, unsigned t)
{
	struct sim_thread *me = &s->thread[t];
	struct sim_bh *bh;

	me->bh = sim_rnd(s, SIM_BHS);
	me->cancel = s->tricks && !sim_rnd(s, 8);
	me->kind = s->tricks && !sim_rnd(s, 6) ? BHP_KIND_IDLE : sim_rnd(s, 8) ? BHP_KIND_NORMAL : BHP_KIND_ONESHOT;
	me->forget = s->fault == SIM_MISSING && sim_strikes(s);
	me->ticket = 0;
	me->step = P_EXCHANGE;
	if (me->cancel)
		return;
	bh = &s->bh[me->bh];
	bh->payload[t - 1]++;
	bh->appears[t - 1] = s->now + (s->fault == SIM_RACE_PRODUCER ? sim_rnd(s, SIM_DRAIN_NS) : 0);
	if (s->tickets && me->kind != BHP_KIND_IDLE)
		me->ticket = (uint64_t)(me->bh + 1) << 40 | (uint64_t)t << 32 | bh->payload[t - 1];
}

static inline void producer_sets(struct sim *s, unsigned t, struct sim_bh *bh)
{
	struct sim_thread *me = &s->thread[t];

	me->old = bh->flags;
	if (!(me->old & BHP_FLAG_SCHEDULED))
		bh->set_idle = me->kind == BHP_KIND_IDLE;
	if (me->kind == BHP_KIND_IDLE && !(me->old & BHP_FLAG_SCHEDULED))
		bh->flags |= BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED | BHP_FLAG_IDLE;
	else if (me->kind != BHP_KIND_IDLE)
		bh->flags = (bh->flags | BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED) & ~(uint32_t)BHP_FLAG_IDLE;
	bh->fate = FATE_SET;
	bh->schedule = bh->notify = 0;
	me->step = me->old & BHP_FLAG_LINKED ? P_LOAD : P_PUSH;
}

static inline void producer_exchanges(struct sim *s, unsigned t)
{
	struct sim_thread *me = &s->thread[t];
	struct sim_bh *bh = &s->bh[me->bh];
	bool early = s->fault == SIM_RACE_PRODUCER && bh->flags & BHP_FLAG_SCHEDULED && !(bh->flags & BHP_FLAG_IDLE);

	if (!early)
		bh->published[t - 1] = bh->payload[t - 1]; /* a full barrier */
	if (me->cancel) {
		me->old = bh->flags;
		bh->flags &= ~(uint32_t)(BHP_FLAG_SCHEDULED | BHP_FLAG_IDLE);
		me->step = P_RECORD_CANCEL;
	} else if (bh->flags & BHP_FLAG_SCHEDULED && (me->kind == BHP_KIND_IDLE || !(bh->flags & BHP_FLAG_IDLE))) {
		me->step = P_RECORD_COALESCED;
	} else {
		producer_sets(s, t, bh);
	}
}

static inline void producer_loads(struct sim *s, unsigned t)
{
	struct sim_thread *me = &s->thread[t];
	struct sim_bh *bh = &s->bh[me->bh];

	me->me = (uint8_t)s->notify_me;
	if (s->fault == SIM_SKIPPED_STALE && sim_strikes(s))
		me->me = BHP_LOOP_AWAKE;
	/* Unless it was run, and perhaps set again, already. */
	if (bh->fate == FATE_SET)
		bh->fate = me->forget ? FATE_MISSING : me->me == BHP_LOOP_AWAKE ? FATE_SKIPPED : FATE_TOLD;
	me->step = P_RECORD;
}

static inline void producer_done(struct sim *s, unsigned t)
{
	struct sim_thread *me = &s->thread[t];

	me->step = P_BEGIN;
	me->left--;
	me->at = me->left ? s->now + (sim_rnd(s, 3) ? sim_rnd(s, 400) : sim_rnd(s, 60000)) : SIM_NEVER;
}

static inline void producer_records(struct sim *s, unsigned t)
{
	struct sim_thread *me = &s->thread[t];
	struct sim_bh *bh = &s->bh[me->bh];

	sim_emit(s, t, schedule, .bh = sim_bh(me->bh), .seen = !!(me->old & BHP_FLAG_SCHEDULED),
		 .kind = (uint8_t)me->kind, .ticket = me->ticket);
	if (!bh->schedule)
		bh->schedule = sim_clock(s, t);
	me->step = P_WRITE;
	if (me->forget)
		producer_done(s, t);
}

static inline void producer_writes(struct sim *s, unsigned t)
{
	struct sim_thread *me = &s->thread[t], *loop = &s->thread[SIM_LOOP], *thief = &s->thread[SIM_THIEF];

	me->written = 0;
	me->step = P_RECORD_NOTIFY;
	if (me->me != BHP_LOOP_SLEEPING || s->notify_me != BHP_LOOP_SLEEPING)
		return;
	s->notify_me = BHP_LOOP_NOTIFIED;
	s->count++;
	me->written = 1;
	if (s->waiting && s->watched && loop->at > s->now + 5000)
		loop->at = s->now + 1000 + sim_rnd(s, 4000);
	if (s->fault == SIM_STOLEN && sim_strikes(s))
		thief->at = s->now + sim_rnd(s, 900);
}

static inline void producer_step(struct sim *s, unsigned t)
{
	struct sim_thread *me = &s->thread[t];

	switch (me->step) {
	case P_BEGIN:
		producer_begins(s, t);
		break;
	case P_EXCHANGE:
		producer_exchanges(s, t);
		break;
	case P_PUSH:
		sim_push(s, me->bh);
		me->step = P_LOAD;
		break;
	case P_LOAD:
		producer_loads(s, t);
		break;
	case P_RECORD:
		producer_records(s, t);
		break;
	case P_WRITE:
		producer_writes(s, t);
		break;
	case P_RECORD_NOTIFY:
		sim_emit(s, t, notify, .bh = sim_bh(me->bh), .notify_me = me->me, .written = me->written);
		if (!s->bh[me->bh].notify)
			s->bh[me->bh].notify = sim_clock(s, t);
		producer_done(s, t);
		break;
	case P_RECORD_COALESCED:
		sim_emit(s, t, schedule, .bh = sim_bh(me->bh), .seen = 1, .kind = (uint8_t)me->kind,
			 .ticket = me->ticket);
		producer_done(s, t);
		break;
	default:
		sim_emit(s, t, bh_cancel, .bh = sim_bh(me->bh), .flags = (uint8_t)me->old);
		producer_done(s, t);
	}
	/* The one that will not finish stays where its flag is set already. */
	if (t == s->frozen && me->left == 1 && me->step >= P_PUSH && me->step <= P_RECORD_NOTIFY && !sim_rnd(s, 3))
		me->at = SIM_NEVER;
}

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
	s->notify_me = BHP_LOOP_AWAKE;
	me->step = L_TAKE;
}

/* The notification of what begins to run: was it luck? */
static inline void loop_was_lucky(struct sim *s, unsigned b, const struct sim_bh *bh)
{
	bool told = bh->fate == FATE_TOLD, stolen = told && s->stolen > bh->schedule && s->stolen < s->woke_at;
	bool noted = bh->fate == FATE_MISSING || (bh->notify && bh->notify + 2 * SIM_ERROR_NS < s->woke_at);
	uint64_t latest = stolen ? s->stolen : 0;

	if (s->woke != BHP_WOKE_TIMEOUT || bh->fate == FATE_NONE || s->n_rescues == SIM_RESCUES)
		return;
	s->rescue[s->n_rescues++] = (struct sim_rescue){
		.bh = b,
		.sure = bh->schedule && bh->schedule + 2 * SIM_ERROR_NS < s->woke_at && noted && !bh->set_idle &&
			(!told || (stolen && latest > bh->notify + 2 * SIM_ERROR_NS)) && s->timeout != SIM_IDLE_NS,
		.from = bh->schedule,
		.to = s->now + 2 * SIM_ERROR_NS,
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
					 .ticket = (uint64_t)(b + 1) << 40 | (uint64_t)(p + 1) << 32 | bh->collected[p]);
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
	s->timer = !race && !sim_rnd(s, 3);
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
	if (next != SIM_LOOP || s->thread[SIM_LOOP].step != L_WAIT || !s->timer || s->count)
		return false;
	for (unsigned i = 0; i < SIM_BHS; i++)
		if (sim_runnable(s->bh[i].flags) && !s->frozen)
			return false;
	return s->thread[SIM_LOOP].at == s->deadline && (s->frozen || s->n_incoming == 0 || !sim_left(s));
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
			return s->waiting;
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
