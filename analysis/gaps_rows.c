/* SPDX-License-Identifier: MIT */
/* gaps_rows.c - what is counted belongs to a loop, and to bottom halves of one name */
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "gaps_inside.h"

const struct bht_term bht_segments[BHT_SEGMENTS] = {
	[BHT_TO_NOTIFY] = { "notify", "from the schedule to its notification" },
	[BHT_TO_WAKING] = { "waking", "from there until the kernel made the loop's thread runnable" },
	[BHT_RUN_QUEUE] = { "run-queue", "meanwhile runnable but without a processor, outside of callbacks" },
	[BHT_TO_WAKE] = { "wake", "from there until the loop's wait ended; nothing when it was awake" },
	[BHT_TO_RUN] = { "run", "from there to the execution: getting the CPU, handlers of descriptors and timers" },
	[BHT_IN_CALLBACKS] = { "callbacks", "meanwhile in callbacks of bottom halves: head-of-line time" },
};

const struct bht_term bht_counts[BHT_COUNTS] = {
	[BHT_SCHEDULES] = { "schedules", "schedules" },
	[BHT_COALESCED] = { "coalesced", "of these, those that found it scheduled already" },
	[BHT_EXECUTIONS] = { "executions", "executions begun" },
	[BHT_CANCELS] = { "cancels", "schedules withdrawn by a cancel or a delete" },
	[BHT_NOTIFIES] = { "notifies", "looks whether the loop must be woken" },
	[BHT_WRITES] = { "writes", "of these, those that wrote the eventfd" },
	[BHT_AVOIDED] = { "avoided", "writes avoided: the loop was awake or notified already" },
	[BHT_FAILED] = { "failed", "writes that failed" },
};

const struct bht_term bht_why_nots[BHT_WHY_NOTS] = {
	[BHT_LOST_EVENTS] = { "lost-events", "events are missing" },
	[BHT_BEFORE_HISTORY] = { "before-history", "the schedule may lie before the history" },
	[BHT_LATE_RECORD] = { "late-record", "the schedule is recorded after the execution" },
	[BHT_AMBIGUOUS] = { "ambiguous", "several schedules may be the one that was served" },
	[BHT_IDLE_SCHEDULE] = { "idle", "an idle schedule waits on purpose" },
};

const struct bht_term bht_doings[BHT_DOINGS] = {
	[BHT_DOING_UNKNOWN] = { "unknown", "events are missing" },
	[BHT_DOING_SLEEP] = { "asleep", "in its wait" },
	[BHT_DOING_CALLBACKS] = { "callbacks", "in callbacks of bottom halves" },
	[BHT_DOING_OTHER] = { "other", "in other parts of its turns, or not polled" },
};

/* --- loops ----------------------------------------------------------------------- */

struct bht_loop_row *bht_gaps_new_loop(struct bht_gaps *g, uint64_t addr, uint64_t time, const char *name)
{
	struct bht_loop_row *loop = bht_map_get(&g->loops, addr);

	/* Many that come and go under one name are one row. */
	if (loop && name && *name && !strncmp(loop->name, name, sizeof(loop->name) - 1))
		return loop;
	loop = calloc(1, sizeof(*loop));
	if (!loop || !bht_room_for_one(&g->loop, g->n_loops, sizeof(struct bht_loop_row *)))
		goto no_memory;
	*loop = (struct bht_loop_row){ .addr = addr, .index = (unsigned)g->n_loops, .since = time };
	strncpy(loop->name, name ? name : "", sizeof(loop->name) - 1);
	if (bht_map_put(&g->loops, addr, loop))
		goto no_memory;
	return g->loop[g->n_loops++] = loop;
no_memory:
	free(loop);
	return NULL;
}

struct bht_loop_row *bht_gaps_loop(struct bht_gaps *g, uint64_t addr, uint64_t time)
{
	struct bht_loop_row *loop = bht_map_get(&g->loops, addr);

	return loop ? loop : bht_gaps_new_loop(g, addr, time, NULL);
}

/* --- rows ------------------------------------------------------------------------ */

/* FNV-1a over the loop and the name. */
static uint64_t key_of(const struct bht_loop_row *loop, const char *name, uint64_t addr)
{
	uint64_t key = (UINT64_C(0xcbf29ce484222325) ^ loop->index) * UINT64_C(0x100000001b3);

	for (; *name; name++)
		key = (key ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
	return key ^ addr << 1;
}

static bool is_row(const struct bht_row *row, const struct bht_loop_row *loop, const char *name, uint64_t addr)
{
	return row->loop == loop && !strncmp(row->name, name, sizeof(row->name) - 1) && (*name || row->addr == addr);
}

/* The row of that name, or NULL and where it would be. */
static struct bht_row *find(const struct bht_gaps *g, const struct bht_loop_row *loop, const char *name, uint64_t addr,
			    uint64_t *key)
{
	struct bht_row *row;

	*key = key_of(loop, name, *name ? 0 : addr);
	while ((row = bht_map_get(&g->names, *key)) && !is_row(row, loop, name, addr))
		++*key;
	return row;
}

static bool is_wanted(const char *glob, const char *name, uint64_t addr)
{
	char hex[24];

	if (!glob)
		return true;
	snprintf(hex, sizeof(hex), "0x%" PRIx64, addr);
	return fnmatch(glob, *name ? name : hex, 0) == 0;
}

static const char *sample_name(const struct bht_evidence *ev, uint64_t addr)
{
	const struct bht_bh *bh = bht_sample_bh(&ev->last, addr, 0);

	return bh ? bh->name : "";
}

struct bht_row *bht_gaps_row(struct bht_gaps *g, const struct bht_evidence *ev, struct bht_loop_row *loop,
			     const char *name, uint64_t addr)
{
	uint64_t key;
	struct bht_row *row = find(g, loop, name, addr, &key);

	if (row)
		return row;
	row = calloc(1, sizeof(*row));
	if (!row || !bht_room_for_one(&g->row, g->n_rows, sizeof(struct bht_row *)) ||
	    bht_map_put(&g->names, key, row)) {
		free(row);
		return NULL;
	}
	*row = (struct bht_row){ .loop = loop, .addr = addr };
	strncpy(row->name, name, sizeof(row->name) - 1);
	/* A name that only the sample knows may be of a later one; it is decided
	 * again at the end. */
	row->wanted = is_wanted(g->how->glob, *name ? name : sample_name(ev, addr), addr);
	return g->row[g->n_rows++] = row;
}

int bht_row_add(struct bht_row *row, const struct bht_row *from)
{
	row->objects += from->objects;
	row->rescued += from->rescued;
	for (unsigned i = 0; i < BHT_COUNTS; i++)
		row->count[i] += from->count[i];
	for (unsigned i = 0; i < BHT_WHY_NOTS; i++)
		row->unmeasured[i] += from->unmeasured[i];
	for (unsigned i = 0; i < BHT_SEGMENTS; i++)
		row->part[i] += from->part[i];
	int rc = bht_histogram_merge(&row->gap, &from->gap);
	return rc ? rc : bht_histogram_merge(&row->callback, &from->callback);
}

void bht_row_clear(struct bht_row *row)
{
	bht_histogram_free(&row->gap);
	bht_histogram_free(&row->callback);
}

/* --- the end --------------------------------------------------------------------- */

/* Its objects are bottom halves of the row that has NAME already. */
static int merge_into(struct bht_row *to, struct bht_row *row)
{
	row->merged = to;
	return bht_row_add(to, row);
}

static int name_row(struct bht_gaps *g, struct bht_row *row, const char *name)
{
	uint64_t key;
	struct bht_row *same = *name && !*row->name ? find(g, row->loop, name, row->addr, &key) : NULL;

	if (!*name || *row->name)
		return 0;
	if (same)
		return merge_into(same, row);
	memcpy(row->name, name, sizeof(row->name) - 1);
	return bht_map_put(&g->names, key, row);
}

/* What is at an address at the end of the history is what the last sample saw there. */
static int name_all(struct bht_gaps *g, const struct bht_evidence *ev)
{
	int rc = 0;

	BHT_MAP_EACH(&g->loops, e)
	{
		const struct bht_loop *loop = bht_sample_loop(&ev->last, e->key);
		struct bht_loop_row *row = e->value;
		if (loop && !*row->name)
			memcpy(row->name, loop->name, sizeof(row->name) - 1);
	}
	BHT_MAP_EACH(&g->objects, e)
	{
		const struct bht_gaps_object *o = e->value;
		if (!rc)
			rc = name_row(g, o->row, sample_name(ev, e->key));
	}
	return rc;
}

static struct bht_row *at(const void *p)
{
	struct bht_row *row;

	memcpy(&row, p, sizeof(row));
	return row;
}

static bool is_shown(const struct bht_row *row)
{
	return row->wanted && !row->merged;
}

/* By loop; there what is not shown last, the others worst first. */
static int by_rank(const void *a, const void *b)
{
	const struct bht_row *x = at(a), *y = at(b);

	if (x->loop != y->loop)
		return x->loop->index > y->loop->index ? 1 : -1;
	if (is_shown(x) != is_shown(y))
		return is_shown(x) ? -1 : 1;
	if (!x->rescued != !y->rescued)
		return x->rescued ? -1 : 1;
	if (x->gap.max != y->gap.max)
		return x->gap.max < y->gap.max ? 1 : -1;
	return (x->addr > y->addr) - (x->addr < y->addr);
}

static void share_out(struct bht_gaps *g)
{
	for (size_t i = 0; i < g->n_rows; i++) {
		struct bht_row *row = g->row[i];
		if (is_shown(row) && !row->loop->n_rows++)
			row->loop->row = &g->row[i];
	}
}

/* Those of bottom halves that are not wanted give way. */
static void clean_worst(struct bht_gaps *g)
{
	unsigned n = 0;

	for (unsigned i = 0; i < g->n_worst; i++) {
		struct bht_gap *gap = &g->worst[i];
		if (gap->row->merged)
			gap->row = gap->row->merged;
		if (gap->blamed && gap->blamed->merged)
			gap->blamed = gap->blamed->merged;
		if (gap->row->wanted)
			g->worst[n++] = *gap;
	}
	g->n_worst = n;
}

int bht_gaps_arrange(struct bht_gaps *g, const struct bht_evidence *ev)
{
	int rc = name_all(g, ev);

	for (size_t i = 0; i < g->n_rows; i++)
		g->row[i]->wanted = is_wanted(g->how->glob, g->row[i]->name, g->row[i]->addr);
	clean_worst(g);
	if (g->n_rows)
		qsort(g->row, g->n_rows, sizeof(struct bht_row *), by_rank);
	share_out(g);
	return rc;
}
