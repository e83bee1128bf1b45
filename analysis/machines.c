/* SPDX-License-Identifier: MIT */
#include "machines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PATIENCE = 8 };

/* --- objects --------------------------------------------------------------------- */

/* A new one, zeroed. NULL: no memory. */
static void *make(struct bht_map *map, uint64_t key, size_t size)
{
	void *object = calloc(1, size);

	if (object && bht_map_put(map, key, object) != 0) {
		free(object);
		object = NULL;
	}
	return object;
}

static struct bht_loop_machine *make_loop(struct bht_machines *m, uint64_t addr)
{
	struct bht_loop_machine *loop = make(&m->loops, addr, sizeof(*loop));

	if (loop)
		loop->addr = addr;
	return loop;
}

static struct bht_thread_machine *make_thread(struct bht_machines *m, uint32_t tid)
{
	struct bht_thread_machine *thread = make(&m->threads, tid, sizeof(*thread));

	if (thread)
		thread->tid = tid;
	return thread;
}

static struct bht_bh_machine *make_bh(struct bht_machines *m, uint64_t addr)
{
	struct bht_bh_machine *bh = make(&m->bhs, addr, sizeof(*bh));

	if (bh)
		bh->addr = addr;
	return bh;
}

/* Finding one is the common case, for each event. */
struct bht_loop_machine *bht_find_loop(struct bht_machines *m, uint64_t addr)
{
	struct bht_loop_machine *loop = bht_map_get(&m->loops, addr);

	return m->last_loop = loop ? loop : make_loop(m, addr);
}

static inline struct bht_thread_machine *the_thread(struct bht_machines *m, uint32_t tid)
{
	struct bht_thread_machine **last = &m->last_thread[tid % BHT_LAST_THREADS];

	if (*last && (*last)->tid == tid)
		return *last;
	struct bht_thread_machine *thread = bht_map_get(&m->threads, tid);

	return *last = thread ? thread : make_thread(m, tid);
}

static inline struct bht_bh_machine *the_bh(struct bht_machines *m, uint64_t addr)
{
	if (m->last_bh && m->last_bh->addr == addr)
		return m->last_bh;
	struct bht_bh_machine *bh = bht_map_get(&m->bhs, addr);

	return m->last_bh = bh ? bh : make_bh(m, addr);
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

/* --- loss --------------------------------------------------------------------------- */

/* When there are too many, the oldest become one. */
static void add_span(struct bht_machines *m, uint64_t from, uint64_t to)
{
	if (m->n_spans == BHT_LOSSES_MAX) {
		struct bht_span_of_time *s = m->span;
		s[1].from = s[0].from < s[1].from ? s[0].from : s[1].from;
		s[1].to = s[0].to > s[1].to ? s[0].to : s[1].to;
		memmove(s, s + 1, --m->n_spans * sizeof(*s));
	}
	m->span[m->n_spans++] = (struct bht_span_of_time){ from, to };
}

bool bht_lossless(const struct bht_machines *m, uint64_t from, uint64_t to)
{
	for (unsigned i = 0; i < m->n_spans; i++)
		if (m->span[i].from <= to && m->span[i].to >= from)
			return false;
	return true;
}

static int feed_loss(struct bht_machines *m, const struct bht_event *e)
{
	uint64_t until = bht_time(e);

	m->lost += bht_loss_count(e);
	m->n_losses++;
	m->losses[bht_loss_reason(e) & 7]++;
	BHT_MAP_EACH(&m->kernel, k)
	if (!e->tid || e->tid == k->key)
		bht_kernel_lost(k->value);
	if (e->tid == 0) {
		add_span(m, 0, until);
		if (until > m->all_complete_since)
			m->all_complete_since = until;
		return 0;
	}
	struct bht_thread_machine *thread = the_thread(m, e->tid);
	if (!thread)
		return -ENOMEM;
	add_span(m, thread->last, until);
	thread->n_unnotified = 0;
	memset(thread->unnotified, 0, sizeof(thread->unnotified));
	if (until > thread->complete_since)
		thread->complete_since = until;
	return 0;
}

static bool has_part(const struct bht_thread_machine *t, uint64_t loop, uint32_t owner, enum bht_relation least)
{
	if (t->tid == owner || (least == BHT_USES && bht_is_related(t, loop)))
		return true;
	return (uintptr_t)bht_map_get(&t->loops, loop) >= least;
}

static uint64_t complete_since(const struct bht_machines *m, uint64_t loop, uint32_t owner, enum bht_relation least)
{
	uint64_t since = m->all_complete_since;

	BHT_MAP_EACH(&m->threads, e)
	{
		const struct bht_thread_machine *t = e->value;
		if (has_part(t, loop, owner, least) && t->complete_since > since)
			since = t->complete_since;
	}
	return since;
}

uint64_t bht_complete_since(const struct bht_machines *m)
{
	return complete_since(m, 0, 0, BHT_STRANGER);
}

uint64_t bht_related_complete_since(const struct bht_machines *m, uint64_t loop, uint32_t owner)
{
	return complete_since(m, loop, owner, BHT_USES);
}

uint64_t bht_pollers_complete_since(const struct bht_machines *m, uint64_t loop, uint32_t owner)
{
	return complete_since(m, loop, owner, BHT_POLLS);
}

/* --- threads -------------------------------------------------------------------------- */

/* Every event that has a loop keeps it in the same slot. */
static int relate(struct bht_thread_machine *thread, const struct bht_event *e, enum bht_relation relation)
{
	uint64_t loop = bhp_get_LOOP(&e->r);

	if (thread->known == loop && thread->known_as >= relation)
		return 0;
	uintptr_t known = (uintptr_t)bht_map_get(&thread->loops, loop);
	thread->known = loop;
	thread->known_as = known >= relation ? (enum bht_relation)known : relation;
	return known >= relation ? 0 : bht_map_put(&thread->loops, loop, (void *)(uintptr_t)relation);
}

/* What the thread's schedules that wait for their notification make of E. One
 * that schedules again has left the earlier one alone. */
static void check_unnotified(struct bht_thread_machine *thread, const struct bht_event *e)
{
	unsigned id = bht_event_id(e), left = thread->n_unnotified;

	for (unsigned i = 0; left > 0; i++) {
		struct bht_bh_machine *bh = thread->unnotified[i].bh;
		if (!bh)
			continue;
		left--;
		bool mine = bhp_get_BH(&e->r) == bh->addr;
		if (mine && id == BHP_ID_notify)
			bht_delay_notified(bh, thread->unnotified[i].time);
		else if (--thread->unnotified[i].patience == 0 || (mine && id == BHP_ID_schedule))
			bht_delay_missed(bh, thread->unnotified[i].time);
		else
			continue;
		thread->unnotified[i].bh = NULL;
		thread->n_unnotified--;
	}
}

static void expect_notify(struct bht_thread_machine *thread, struct bht_bh_machine *bh, uint64_t time)
{
	for (unsigned i = 0; i < BHT_UNNOTIFIED_MAX; i++) {
		if (thread->unnotified[i].bh)
			continue;
		thread->unnotified[i].bh = bh;
		thread->unnotified[i].time = time;
		thread->unnotified[i].patience = PATIENCE;
		thread->n_unnotified++;
		return;
	}
}

/* Gives the time of the thread's event before this one. */
static int feed_thread(struct bht_thread_machine *thread, const struct bht_event *e, uint64_t *previous)
{
	*previous = thread->last;
	thread->last = bht_time(e);
	if (thread->n_unnotified)
		check_unnotified(thread, e);
	switch (bht_event_id(e)) {
	case BHP_ID_thread:
		strncpy(thread->name, e->text ? e->text : "", BHP_TEXT_MAX);
		return 0;
	case BHP_ID_poll_begin:
	case BHP_ID_wait_begin:
		return relate(thread, e, BHT_POLLS);
	}
	return relate(thread, e, BHT_USES);
}

/* --- all of it ------------------------------------------------------------------------ */

static int feed_bh(struct bht_machines *m, struct bht_thread_machine *thread, const struct bht_event *e,
		   uint64_t previous)
{
	struct bht_bh_machine *bh = the_bh(m, bhp_get_BH(&e->r));

	if (!bh)
		return -ENOMEM;
	if (bht_event_id(e) == BHP_ID_schedule) {
		struct bhp_schedule f = bhp_decode_schedule(&e->r);
		if (f.seen == 0 && f.kind != BHP_KIND_IDLE)
			expect_notify(thread, bh, bht_time(e));
	}
	return bht_feed_bh(m, bh, e, previous);
}

static int feed_objects(struct bht_machines *m, struct bht_thread_machine *thread, const struct bht_event *e,
			uint64_t previous)
{
	int r;

	switch (bht_event_id(e)) {
	case BHP_ID_bh_new:
	case BHP_ID_bh_delete:
	case BHP_ID_bh_cancel:
	case BHP_ID_schedule:
	case BHP_ID_execute_begin:
	case BHP_ID_execute_end:
	case BHP_ID_consume:
		return feed_bh(m, thread, e, previous);
	case BHP_ID_notify:
		r = bht_feed_loop(m, e);
		if (r == 0 && bhp_get_BH(&e->r))
			r = feed_bh(m, thread, e, previous);
		return r;
	case BHP_ID_loop_new:
	case BHP_ID_loop_free:
	case BHP_ID_accept:
	case BHP_ID_poll_begin:
	case BHP_ID_poll_end:
	case BHP_ID_wait_begin:
	case BHP_ID_wait_end:
		return bht_feed_loop(m, e);
	}
	return 0;
}

static __attribute__((noinline)) int feed_kernel(struct bht_machines *m, const struct bht_event *e)
{
	struct bht_kernel *k = bht_map_get(&m->kernel, e->tid);

	if (!k)
		k = make(&m->kernel, e->tid, sizeof(*k));
	if (!k)
		return -ENOMEM;
	m->n_kernel++;
	bht_feed_kernel(k, e);
	return 0;
}

int bht_machines_feed(struct bht_machines *m, const struct bht_event *e)
{
	uint64_t previous;

	if (bht_event_id(e) == BHT_ID_LOSS)
		return feed_loss(m, e);
	if (__builtin_expect(bht_is_kernel(bht_event_id(e)), 0))
		return feed_kernel(m, e);
	if (m->n_events++ == 0)
		m->first = bht_time(e);
	struct bht_thread_machine *thread = the_thread(m, e->tid);
	int r = thread ? feed_thread(thread, e, &previous) : -ENOMEM;
	if (r != 0)
		return r;
	/* Threads alternate in the merge, each with a loop of its own. */
	if (thread->loop && thread->loop->addr == bhp_get_LOOP(&e->r))
		m->last_loop = thread->loop;
	r = feed_objects(m, thread, e, previous);
	thread->loop = m->last_loop;
	return r;
}

void bht_machines_free(struct bht_machines *m)
{
	BHT_MAP_EACH(&m->bhs, e)
	{
		bht_tickets_free(&((struct bht_bh_machine *)e->value)->tickets);
		free(e->value);
	}
	BHT_MAP_EACH(&m->loops, e)
	free(e->value);
	BHT_MAP_EACH(&m->kernel, e)
	free(e->value);
	BHT_MAP_EACH(&m->threads, e)
	{
		bht_map_free(&((struct bht_thread_machine *)e->value)->loops);
		free(e->value);
	}
	bht_map_free(&m->bhs);
	bht_map_free(&m->loops);
	bht_map_free(&m->kernel);
	bht_map_free(&m->threads);
}
