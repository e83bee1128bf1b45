/* SPDX-License-Identifier: MIT */
/* gaps_kernel.c - what the kernel tells of a gap: where its notification began, and whose
 * thread waits for a processor */
#include "gaps_inside.h"

static int32_t notifier_of(const struct bht_gaps *g, const struct bht_evidence *ev, uint64_t addr)
{
	const struct bht_loop_machine *m = bht_machine_loop(&g->m, addr);
	const struct bht_loop *known = bht_sample_loop(&ev->last, addr);

	return m && m->seen_new ? m->notifier_fd : known ? known->notifier_fd : -1;
}

/* What the thread has just scheduled and not notified; NULL: its last event was another. */
static const struct bht_bh_machine *to_be_notified(const struct bht_thread_machine *t)
{
	for (unsigned i = 0; t && t->n_unnotified && i < BHT_UNNOTIFIED_MAX; i++)
		if (t->unnotified[i].bh && t->unnotified[i].time == t->last &&
		    bht_time(&t->unnotified[i].bh->effective) == t->last)
			return t->unnotified[i].bh;
	return NULL;
}

/* When it then writes to the notifier, it begins to notify. */
static void writes(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_event *e)
{
	const struct bht_bh_machine *bh = to_be_notified(bht_machine_thread(&g->m, e->tid));
	struct bht_gaps_object *o = bh ? bht_map_get(&g->objects, bh->addr) : NULL;
	const int32_t fd = bhp_decode_call_begin(&e->r).fd;

	if (!o || o->writes.time || fd < 0 || fd != notifier_of(g, ev, bh->loop))
		return;
	o->write = *e;
	o->write.text = NULL;
	o->writes = bht_mark_at(o->row->loop, bht_time(e));
}

int bht_gaps_feed_kernel(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_event *e)
{
	const size_t known = g->m.kernel.used;
	int rc = bht_machines_feed(&g->m, e);

	/* It has not told of this thread before. */
	for (size_t i = 0; g->m.kernel.used != known && i < g->n_loops; i++)
		if (g->loop[i]->poller == e->tid)
			g->loop[i]->kernel = bht_machine_kernel(&g->m, e->tid);
	if (!rc && bht_event_id(e) == BHP_ID_call_begin && bhp_decode_call_begin(&e->r).call == BHP_CALL_WRITE)
		writes(g, ev, e);
	return rc;
}
