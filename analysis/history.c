/* SPDX-License-Identifier: MIT */
#include "history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool bht_history_begins_late(const struct bht_machines *m)
{
	BHT_MAP_EACH(&m->loops, e)
	if (!((const struct bht_loop_machine *)e->value)->seen_new)
		return true;
	BHT_MAP_EACH(&m->bhs, e)
	if (!((const struct bht_bh_machine *)e->value)->seen_new)
		return true;
	return false;
}

/* Depth of the turn that goes on, 0 for none. */
static uint32_t depth_of(const struct bht_loop_machine *m)
{
	if (!bht_time(&m->poll))
		return 0;
	if (bht_event_id(&m->poll) == BHP_ID_poll_begin)
		return bhp_decode_poll_begin(&m->poll.r).depth;
	return bhp_decode_poll_end(&m->poll.r).depth - 1u;
}

static uint32_t where_of(const struct bht_loop_machine *m, uint32_t depth)
{
	if (depth == 0)
		return BHP_OUTSIDE;
	if (bht_time(&m->wait_begin) > bht_time(&m->wait_end) && bht_time(&m->wait_begin) > bht_time(&m->poll))
		return BHP_WAIT;
	return m->n_open ? BHP_IN_BH : BHP_DISPATCH;
}

static struct bht_loop loop_of(const struct bht_loop_machine *m)
{
	struct bht_loop loop = { .addr = m->addr,
				 .protocol = m->protocol,
				 .owner = m->poll.tid,
				 .depth = depth_of(m),
				 .iteration = bhp_decode_poll_begin(&m->poll.r).iteration,
				 .notifier_fd = m->seen_new ? m->notifier_fd : -1,
				 .poll_fd = -1,
				 .wait_timeout_ns = bhp_decode_wait_begin(&m->wait_begin.r).timeout_ns,
				 .notifier_count = -1,
				 .notifier_watched = -1,
				 .embedder_watches = -1 };

	loop.where = where_of(m, loop.depth);
	loop.notify_me = loop.where == BHP_WAIT ? BHP_LOOP_SLEEPING : BHP_LOOP_AWAKE;
	if (loop.where == BHP_IN_BH && m->n_open <= BHT_OPEN_MAX) {
		loop.current = m->open[m->n_open - 1].bh;
		loop.current_since = m->open[m->n_open - 1].begin;
	}
	memcpy(loop.name, m->name, sizeof(loop.name));
	return loop;
}

static struct bht_bh bh_of(const struct bht_bh_machine *m)
{
	bool deleted = bht_event_id(&m->cancel) == BHP_ID_bh_delete;
	struct bht_bh bh = { .addr = m->addr,
			     .loop = m->loop,
			     .callback = (uintptr_t)bhp_decode_execute_begin(&m->begin.r).callback,
			     .state = deleted ? BHP_DYING : BHP_LIVE,
			     .flags = deleted ? BHP_FLAG_DELETED : 0,
			     .runs = bht_time(&m->begin) != 0,
			     .last_run = bht_time(&m->begin) };

	if (m->pending && !deleted)
		bh.flags |= BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED;
	if (m->pending && bhp_decode_schedule(&m->effective.r).kind == BHP_KIND_IDLE)
		bh.flags |= BHP_FLAG_IDLE;
	/* The schedule that is known last was perhaps served already, or another
	 * one, which is not recorded yet, followed it. */
	bh.flags_unsure = !deleted && (m->served || m->muddled || m->debt != BHT_NO_DEBT);
	memcpy(bh.name, m->name, sizeof(bh.name));
	return bh;
}

static struct bht_thread thread_of(const struct bht_thread_machine *m)
{
	struct bht_thread thread = { .tid = m->tid, .ns_tid = m->tid, .state = '?', .syscall = BHT_SYSCALL_UNKNOWN };

	snprintf(thread.name, sizeof(thread.name), "%.15s", m->name);
	return thread;
}

static void fill(const struct bht_machines *m, struct bht_sample *s)
{
	BHT_MAP_EACH(&m->loops, e)
	if (!((const struct bht_loop_machine *)e->value)->freed)
		s->loops[s->n_loops++] = loop_of(e->value);
	BHT_MAP_EACH(&m->bhs, e)
	s->bhs[s->n_bhs++] = bh_of(e->value);
	BHT_MAP_EACH(&m->threads, e)
	{
		const struct bht_thread_machine *t = e->value;
		s->threads[s->n_threads++] = thread_of(t);
		if (t->last > s->ticks)
			s->ticks = t->last;
	}
}

int bht_history_evidence(const struct bht_machines *m, struct bht_evidence *ev)
{
	struct bht_sample *s = &ev->last;

	s->loops = calloc(m->loops.used + 1, sizeof(*s->loops));
	s->bhs = calloc(m->bhs.used + 1, sizeof(*s->bhs));
	s->threads = calloc(m->threads.used + 1, sizeof(*s->threads));
	if (!s->loops || !s->bhs || !s->threads)
		return -ENOMEM;
	fill(m, s);
	ev->origin = BHT_FROM_HISTORY;
	bht_unseen(ev, "the process itself: what its threads were doing, the eventfd counts and the epoll sets are "
		       "not in the history");
	if (bht_history_begins_late(m))
		bht_unseen(ev, "what happened before the recording began, and what was made then and not used since");
	return 0;
}
