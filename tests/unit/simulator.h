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
	unsigned setter;           /* thread that set the flag, or made it urgent */
	bool set_idle;             /* an idle schedule had set it */
	uint64_t set_at;           /* when */
	uint64_t schedule, notify; /* stamps of its records, 0: not yet */
};

struct sim_frame {
	unsigned bh;
	uint64_t begin;
	bool announced, blocking;
};

/* An execution that only luck brought about. */
struct sim_rescue {
	unsigned bh, setter;
	bool sure; /* the stamps leave no doubt */
	uint64_t from, to;
};

struct sim {
	enum sim_fault fault;
	bool tickets, timer, tricks; /* tricks: cancel, idle, nested polls */
	uint64_t now, seed;
	unsigned n_producers, frozen; /* thread that will not finish, 0 for none */
	struct sim_thread thread[SIM_THREADS];
	struct sim_bh bh[SIM_BHS];
	unsigned incoming[SIM_BHS * 4], n_incoming, ready[SIM_BHS * 4], n_ready;
	uint32_t notify_me;
	uint64_t count;
	bool watched, waiting, accept_due;
	uint64_t deadline, wait_from, stamp, iteration, woke_at, woke_true, stolen;
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
	if (s->n_incoming < sizeof(s->incoming) / sizeof(s->incoming[0]) / 2)
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
	bh->setter = t;
	bh->set_at = s->now;
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
	if (bh->fate == FATE_SET && bh->setter == t)
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
	if (bh->setter == t && !bh->schedule)
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
		if (s->bh[me->bh].setter == t && !s->bh[me->bh].notify)
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

#endif
