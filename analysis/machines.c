/* SPDX-License-Identifier: MIT */
#include "machines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- objects --------------------------------------------------------------------- */

static void *find_or_make(struct bht_map *map, uint64_t key, size_t size, bool *made)
{
	void *object = bht_map_get(map, key);

	*made = false;
	if (object)
		return object;
	object = calloc(1, size);
	if (object && bht_map_put(map, key, object) != 0) {
		free(object);
		object = NULL;
	}
	*made = object != NULL;
	return object;
}

static struct bht_bh_machine *the_bh(struct bht_machines *m, const void *addr)
{
	bool made;
	struct bht_bh_machine *bh = find_or_make(&m->bhs, (uintptr_t)addr, sizeof(*bh), &made);

	if (made)
		bh->addr = (uintptr_t)addr;
	return bh;
}

static struct bht_loop_machine *the_loop(struct bht_machines *m, const void *addr)
{
	bool made;
	struct bht_loop_machine *loop = find_or_make(&m->loops, (uintptr_t)addr, sizeof(*loop), &made);

	if (made)
		loop->addr = (uintptr_t)addr;
	return loop;
}

static struct bht_thread_machine *the_thread(struct bht_machines *m, uint32_t tid)
{
	bool made;
	struct bht_thread_machine *thread = find_or_make(&m->threads, tid, sizeof(*thread), &made);

	if (made)
		thread->tid = tid;
	return thread;
}

struct bht_bh_machine *bht_machine_bh(const struct bht_machines *m, uint64_t addr)
{
	return bht_map_get(&m->bhs, addr);
}

struct bht_loop_machine *bht_machine_loop(const struct bht_machines *m, uint64_t addr)
{
	return bht_map_get(&m->loops, addr);
}

struct bht_thread_machine *bht_machine_thread(const struct bht_machines *m, uint32_t tid)
{
	return bht_map_get(&m->threads, tid);
}

static void remember(struct bht_recent *recent, const struct bht_event *e)
{
	struct bht_event *slot = &recent->event[recent->n++ % BHT_RECENT];

	*slot = *e;
	slot->text = NULL;
}

static void copy_name(char *name, const char *text)
{
	strncpy(name, text ? text : "", BHP_TEXT_MAX);
}

/* --- tickets ----------------------------------------------------------------------- */

static void free_tickets(struct bht_tickets *t)
{
	free(t->open);
	free(t->early);
}

static bool was_consumed_early(struct bht_tickets *t, uint64_t number)
{
	for (size_t i = t->n_early; i-- > 0;) {
		if (t->early[i] == number) {
			t->early[i] = t->early[--t->n_early];
			return true;
		}
	}
	return false;
}

/* When there are too many, the announcement of an old one was lost: it gives
 * way. */
static int consumed_early(struct bht_tickets *t, uint64_t number)
{
	if (!t->early) {
		t->early = calloc(BHT_EARLY_MAX, sizeof(*t->early));
		if (!t->early)
			return -ENOMEM;
	}
	if (t->n_early == BHT_EARLY_MAX)
		memmove(t->early, t->early + 1, --t->n_early * sizeof(*t->early));
	t->early[t->n_early++] = number;
	return 0;
}

static int announce(struct bht_tickets *t, uint64_t number, const struct bht_event *e, uint64_t previous)
{
	if (was_consumed_early(t, number))
		return 0;
	if (t->n == t->size) {
		size_t size = t->size ? t->size * 2 : 16;
		struct bht_ticket *open = reallocarray(t->open, size, sizeof(*open));
		if (!open)
			return -ENOMEM;
		t->open = open;
		t->size = size;
	}
	t->open[t->n++] = (struct bht_ticket){ number, *e, previous };
	return 0;
}

static int consume(struct bht_tickets *t, uint64_t number)
{
	/* Newest first: most tickets are consumed soon. */
	for (size_t i = t->n; i-- > 0;) {
		if (t->open[i].number == number) {
			t->open[i] = t->open[--t->n];
			return 0;
		}
	}
	return consumed_early(t, number);
}

/* --- the flag machine ---------------------------------------------------------------- */

/* The slot of a freed bottom half is used again: another object. */
static void bh_reset(struct bht_bh_machine *bh)
{
	free_tickets(&bh->tickets);
	*bh = (struct bht_bh_machine){ .addr = bh->addr };
}

static int bh_scheduled(struct bht_bh_machine *bh, const struct bht_event *e, uint64_t previous)
{
	struct bhp_schedule f = bhp_decode_schedule(&e->r);

	if (f.seen == 0) {
		bh->effective = *e;
	} else {
		bh->coalesced = *e;
		bh->coalesced_previous = previous;
		if (f.ticket == 0) {
			bh->unannounced = *e;
			bh->unannounced_previous = previous;
		}
	}
	return f.ticket ? announce(&bh->tickets, f.ticket, e, previous) : 0;
}

static int feed_bh(struct bht_machines *m, const struct bht_event *e, const void *addr, uint64_t previous)
{
	struct bht_bh_machine *bh = the_bh(m, addr);
	int r = 0;

	if (!bh)
		return -ENOMEM;
	switch (bht_event_id(e)) {
	case BHP_ID_bh_new:
		bh_reset(bh);
		break;
	case BHP_ID_schedule:
		r = bh_scheduled(bh, e, previous);
		break;
	case BHP_ID_notify:
		bh->notify = *e;
		break;
	case BHP_ID_execute_begin:
		bh->begin = *e;
		break;
	case BHP_ID_execute_end:
		bh->end = *e;
		break;
	case BHP_ID_consume:
		bh->consumed++;
		/* Not remembered: one callback may consume many, and they would
		 * crowd out the events that decide. */
		return consume(&bh->tickets, bhp_decode_consume(&e->r).ticket);
	}
	remember(&bh->recent, e);
	return r;
}

/* --- the notify and loop machine -------------------------------------------------------- */

static int feed_loop(struct bht_machines *m, const struct bht_event *e)
{
	/* Every event that has a loop keeps it in the same slot. */
	const void *addr = bhp_decode_poll_begin(&e->r).loop;
	struct bht_loop_machine *loop = the_loop(m, addr);

	if (!loop)
		return -ENOMEM;
	if (bht_event_id(e) == BHP_ID_loop_new)
		*loop = (struct bht_loop_machine){ .addr = (uintptr_t)addr };
	remember(&loop->recent, e);
	return 0;
}

/* --- threads and loss ---------------------------------------------------------------------- */

static int feed_loss(struct bht_machines *m, const struct bht_event *e)
{
	uint64_t until = bhp_record_time(&e->r);

	m->lost += bht_loss_count(e);
	m->losses[bht_loss_reason(e) & 7]++;
	if (e->tid == 0) {
		if (until > m->all_complete_since)
			m->all_complete_since = until;
		return 0;
	}
	struct bht_thread_machine *thread = the_thread(m, e->tid);
	if (!thread)
		return -ENOMEM;
	if (until > thread->complete_since)
		thread->complete_since = until;
	return 0;
}

static int note_poller(struct bht_thread_machine *thread, const struct bht_event *e)
{
	uint64_t loop = (uintptr_t)bhp_decode_poll_begin(&e->r).loop;

	if (bht_map_get(&thread->polls, loop))
		return 0;
	return bht_map_put(&thread->polls, loop, thread);
}

/* Gives the time of the thread's event before this one. */
static int feed_thread(struct bht_machines *m, const struct bht_event *e, uint64_t *previous)
{
	struct bht_thread_machine *thread = the_thread(m, e->tid);
	int r = 0;

	if (!thread)
		return -ENOMEM;
	*previous = thread->last;
	thread->last = bhp_record_time(&e->r);
	switch (bht_event_id(e)) {
	case BHP_ID_thread:
		copy_name(thread->name, e->text);
		break;
	case BHP_ID_poll_begin:
	case BHP_ID_poll_end:
	case BHP_ID_execute_begin:
	case BHP_ID_wait_begin:
		r = note_poller(thread, e);
		break;
	}
	return r;
}

int bht_machines_feed(struct bht_machines *m, const struct bht_event *e)
{
	unsigned id = bht_event_id(e);
	uint64_t previous;
	int r;

	if (id == BHT_ID_LOSS)
		return feed_loss(m, e);
	m->n_events++;
	r = feed_thread(m, e, &previous);
	if (r != 0)
		return r;
	switch (id) {
	case BHP_ID_bh_new:
	case BHP_ID_bh_delete:
	case BHP_ID_bh_cancel:
	case BHP_ID_schedule:
	case BHP_ID_execute_begin:
	case BHP_ID_execute_end:
	case BHP_ID_consume:
		return feed_bh(m, e, bhp_decode_schedule(&e->r).bh, previous);
	case BHP_ID_notify:
		r = feed_loop(m, e);
		if (r == 0 && bhp_decode_notify(&e->r).bh)
			r = feed_bh(m, e, bhp_decode_notify(&e->r).bh, previous);
		return r;
	case BHP_ID_loop_new:
	case BHP_ID_accept:
	case BHP_ID_poll_begin:
	case BHP_ID_poll_end:
	case BHP_ID_wait_begin:
	case BHP_ID_wait_end:
		return feed_loop(m, e);
	}
	return 0;
}

uint64_t bht_complete_since(const struct bht_machines *m)
{
	uint64_t since = m->all_complete_since;

	BHT_MAP_EACH(&m->threads, e)
	{
		const struct bht_thread_machine *thread = e->value;
		if (thread->complete_since > since)
			since = thread->complete_since;
	}
	return since;
}

uint64_t bht_pollers_complete_since(const struct bht_machines *m, uint64_t loop, uint32_t owner)
{
	uint64_t since = m->all_complete_since;

	BHT_MAP_EACH(&m->threads, e)
	{
		const struct bht_thread_machine *thread = e->value;
		if ((thread->tid == owner || bht_map_get(&thread->polls, loop)) && thread->complete_since > since)
			since = thread->complete_since;
	}
	return since;
}

void bht_machines_free(struct bht_machines *m)
{
	BHT_MAP_EACH(&m->bhs, e)
	{
		free_tickets(&((struct bht_bh_machine *)e->value)->tickets);
		free(e->value);
	}
	BHT_MAP_EACH(&m->loops, e)
	free(e->value);
	BHT_MAP_EACH(&m->threads, e)
	{
		bht_map_free(&((struct bht_thread_machine *)e->value)->polls);
		free(e->value);
	}
	bht_map_free(&m->bhs);
	bht_map_free(&m->loops);
	bht_map_free(&m->threads);
}
