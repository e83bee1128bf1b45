/* SPDX-License-Identifier: MIT */
/*
 * The bottom halves of a loop. A list changes while it is read: what does not agree is
 * looked at again, and in the end nothing is said of it.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "array.h"
#include "foreign_parts.h"

enum { TRIES = 8, PROBE_MAX = 64 };

struct walk {
	struct bht_foreign *f;
	const struct bht_scheme *s;
	const struct bht_loop *loop;
	uint64_t head; /* of a list of its bottom halves that is elsewhere, 0: its own */
	bool probe;
	size_t n, good;                             /* good: with what a number found by chance would not have */
	unsigned char object[BHT_FOREIGN_SIZE_MAX]; /* the bottom half that is looked at */
};

static bool enough(const struct walk *w)
{
	return w->probe && w->n >= PROBE_MAX;
}

/* --- one bottom half ------------------------------------------------------------------ */

static void tell_name(struct walk *w, struct bht_bh *bh, uint64_t name)
{
	const struct bht_memory *mem = w->f->target.mem;
	const char *symbol;
	uint64_t off = 0;

	/* It may end right before a page that is not mapped. */
	for (size_t i = 0; name && i < sizeof(bh->name) - 1; i += 8 - (name + i) % 8) {
		const size_t left = sizeof(bh->name) - 1 - i, part = 8 - (name + i) % 8;
		if (bht_read((struct bht_memory *)mem, name + i, bh->name + i, left < part ? left : part) ||
		    memchr(bh->name + i, 0, left < part ? left : part))
			break;
	}
	if (bh->name[0] || !bh->callback)
		return;
	symbol = bht_images_name(w->f->target.images, bh->callback, &off);
	if (symbol[0] && !off)
		snprintf(bh->name, sizeof(bh->name), "%.*s", (int)sizeof(bh->name) - 1, symbol);
	else
		snprintf(bh->name, sizeof(bh->name), "0x%llx", (unsigned long long)bh->callback);
}

static uint32_t flags_of(const struct bht_adapter *a, uint64_t bits)
{
	uint32_t flags = 0;

	for (unsigned i = 0; i < a->n_flags; i++)
		if (!(bits & a->flag[i].mask) == a->flag[i].inverted)
			flags |= a->flag[i].flag;
	return flags;
}

/* 0 when there is none, or a pointer on the way to it is 0. */
static int read_member(struct walk *w, enum bht_member member, uint64_t addr, uint64_t *value)
{
	int rc = bht_has(w->s, member) ? bht_member_value(w->f, w->s, member, addr, w->object, value) : 0;

	return rc == -ENOENT && (member == BHT_BH_callback || member == BHT_BH_name) ? 0 : rc;
}

/* The bottom half at ADDR, a copy of which is in w->object. */
static int look(struct walk *w, uint64_t addr)
{
	const struct bht_adapter *a = w->s->layout.adapter;
	struct bht_foreign *f = w->f;
	struct bht_bh bh = { .addr = addr, .serial = addr, .loop = w->loop->addr, .state = BHP_LIVE };
	uint64_t value[BHT_MEMBERS] = { 0 };
	int rc = 0;

	for (unsigned m = BHT_BH_loop; m < BHT_MEMBERS && !rc; m++)
		rc = m == BHT_BH_link ? 0 : read_member(w, m, addr, &value[m]);
	if (rc)
		return rc;
	bh.callback = value[BHT_BH_callback];
	/* What waits in such queues may be something else that has no loop. */
	if (bht_has(w->s, BHT_BH_loop) && value[BHT_BH_loop] != w->loop->addr)
		return a->list == BHT_LIST_QUEUES ? 0 : -EAGAIN;
	if ((bh.callback && !f->target.executable(f->target.arg, bh.callback)) ||
	    (a->flag_known && value[BHT_BH_flag] & ~a->flag_known))
		return -EAGAIN;
	if (w->n++ >= BHT_FOREIGN_BHS_MAX)
		return -E2BIG;
	w->good += bht_has(w->s, BHT_BH_loop) || bh.callback;
	if (w->probe)
		return 0;
	bh.flags = bht_has(w->s, BHT_BH_flag) ? flags_of(a, value[BHT_BH_flag])
		   : a->lists_pending_only    ? BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED
					      : 0;
	if (bh.flags & BHP_FLAG_DELETED)
		bh.state = BHP_DYING;
	tell_name(w, &bh, value[BHT_BH_name]);
	if (!bht_room_for_one(&f->sample->bhs, f->sample->n_bhs, sizeof(bh)))
		return -ENOMEM;
	f->sample->bhs[f->sample->n_bhs++] = bh;
	return 0;
}

static int take(struct walk *w, uint64_t addr)
{
	int rc = addr % 8 ? -EAGAIN : bht_read(w->f->target.mem, addr, w->object, w->s->bh_size);

	return rc ? rc : look(w, addr);
}

static uint64_t link_of(const struct walk *w, unsigned word)
{
	uint64_t value;

	memcpy(&value, w->object + w->s->layout.place[BHT_BH_link].offset[0] + 8 * word, sizeof(value));
	return value;
}

/* --- lists ------------------------------------------------------------------------------ */

/* Every link names its predecessor, so a list that changed or is no list shows at once, and no cycle but
 * the one through its head can be followed. */
static int walk_circle(struct walk *w, uint64_t head)
{
	struct bht_memory *mem = w->f->target.mem;
	const uint64_t link = w->s->layout.place[BHT_BH_link].offset[0];
	uint64_t ends[2], again[2], before = head;
	int rc = bht_read(mem, head, ends, sizeof(ends));

	for (uint64_t at = ends[0]; !rc && at != head && !enough(w);) {
		rc = at < link ? -EAGAIN : take(w, at - link);
		if (!rc && link_of(w, 1) != before)
			rc = -EAGAIN;
		before = at;
		at = rc ? head : link_of(w, 0);
	}
	if (!rc)
		rc = bht_read(mem, head, again, sizeof(again));
	if (!rc && (memcmp(ends, again, sizeof(ends)) != 0 || (!enough(w) && before != ends[1])))
		rc = -EAGAIN;
	return rc;
}

/* Brent's: MARK is moved on at each power of two, and met again only in a cycle. */
static int walk_chain(struct walk *w, uint64_t first)
{
	uint64_t mark = 0;
	size_t steps = 0;
	int rc = 0;

	for (uint64_t at = first; at && !rc && !enough(w);) {
		if (at == mark)
			return -EAGAIN;
		if (!(steps & (steps + 1)))
			mark = at;
		steps++;
		rc = take(w, at);
		at = rc ? 0 : link_of(w, 0);
	}
	return rc;
}

/* Nodes {data, next, previous}; data is what begins with the first of a chain, or with the node itself, which that
 * follows. */
static int walk_chains(struct walk *w, uint64_t first)
{
	struct bht_memory *mem = w->f->target.mem;
	uint64_t node[4], mark = 0, head;
	size_t steps = 0;
	int rc = 0;

	for (uint64_t at = first; at && !rc; at = node[1]) {
		if (at == mark || steps >= BHT_FOREIGN_BHS_MAX)
			return -EAGAIN;
		if (!(steps & (steps + 1)))
			mark = at;
		steps++;
		rc = bht_read(mem, at, node, 3 * sizeof(*node));
		if (!rc && node[0] == at)
			rc = bht_read(mem, at + 3 * sizeof(*node), &head, sizeof(head));
		else if (!rc)
			rc = bht_read(mem, node[0], &head, sizeof(head));
		if (!rc)
			rc = walk_chain(w, head);
	}
	return rc;
}

static int walk_queues(struct walk *w, uint64_t array, uint64_t n)
{
	int rc = 0;

	for (uint64_t i = 0; i < n && !rc; i++) {
		uint64_t ends[2];
		rc = bht_read(w->f->target.mem, array + i * sizeof(ends), ends, sizeof(ends));
		if (!rc)
			rc = walk_chain(w, ends[0]);
	}
	return rc;
}

static int walk_list(struct walk *w)
{
	const uint64_t addr = w->loop->addr;
	uint64_t first, again, queues = 0;
	int rc;

	if (w->head)
		return walk_circle(w, w->head);
	if (w->s->layout.adapter->list == BHT_LIST_NONE)
		return 0;
	if (w->s->layout.adapter->list == BHT_LIST_CIRCULAR) {
		rc = bht_member_addr(w->f, w->s, BHT_LOOP_bhs, addr, NULL, &first);
		return rc ? rc : walk_circle(w, first);
	}
	rc = bht_member_value(w->f, w->s, BHT_LOOP_bhs, addr, NULL, &first);
	if (!rc && bht_has(w->s, BHT_LOOP_n_queues))
		rc = bht_member_value(w->f, w->s, BHT_LOOP_n_queues, addr, NULL, &queues);
	if (rc)
		return rc;
	rc = w->s->layout.adapter->list == BHT_LIST_CHAIN    ? walk_chain(w, first)
	     : w->s->layout.adapter->list == BHT_LIST_CHAINS ? walk_chains(w, first)
							     : walk_queues(w, first, queues);
	if (!rc)
		rc = bht_member_value(w->f, w->s, BHT_LOOP_bhs, addr, NULL, &again);
	return !rc && again != first ? -EAGAIN : rc;
}

static int walk(struct walk *w, size_t *n)
{
	struct bht_sample *sample = w->f->sample;
	const size_t before = sample->n_bhs;
	int rc = -EAGAIN;

	for (unsigned i = 0; i < TRIES && rc == -EAGAIN; i++) {
		sample->n_bhs = before;
		w->n = w->good = 0;
		rc = walk_list(w);
		if (rc == -EFAULT || rc == -ENOENT)
			rc = -EAGAIN; /* what was freed meanwhile */
	}
	if (rc)
		sample->n_bhs = before;
	*n = rc ? 0 : w->good;
	return rc;
}

int bht_foreign_walk(struct bht_foreign *f, const struct bht_scheme *s, const struct bht_loop *loop, bool probe,
		     size_t *n)
{
	struct walk w = { .f = f, .s = s, .loop = loop, .probe = probe };

	return walk(&w, n);
}

/* Whether the two words at HEAD, NEXT and PREVIOUS, begin and end a circular list of bottom halves of the loop. */
static bool is_head(struct walk *w, uint64_t head, uint64_t next, uint64_t previous)
{
	const uint64_t link = w->s->layout.place[BHT_BH_link].offset[0];
	uint64_t there;

	return !bht_read(w->f->target.mem, next + 8, &there, sizeof(there)) && there == head &&
	       !bht_read(w->f->target.mem, previous, &there, sizeof(there)) && there == head &&
	       !bht_member_value(w->f, w->s, BHT_BH_loop, next - link, NULL, &there) && there == w->loop->addr;
}

int bht_foreign_walk_stack(struct bht_foreign *f, const struct bht_scheme *s, const struct bht_loop *loop,
			   const struct bht_words *words)
{
	struct walk w = { .f = f, .s = s, .loop = loop };
	uint64_t own;
	size_t n;

	if (s->layout.adapter->list != BHT_LIST_CIRCULAR || !bht_has(s, BHT_BH_loop))
		return 0;
	int rc = bht_member_addr(f, s, BHT_LOOP_bhs, loop->addr, NULL, &own);
	for (size_t i = 0; i + 1 < words->n && !rc; i++) {
		w.head = words->addr + 8 * i;
		if (w.head == own || words->word[i] == w.head || !f->target.writable(f->target.arg, words->word[i]) ||
		    !f->target.writable(f->target.arg, words->word[i + 1]) ||
		    !is_head(&w, w.head, words->word[i], words->word[i + 1]))
			continue;
		rc = walk(&w, &n);
		/* It was one, or what is left of one. */
		rc = rc == -EAGAIN || rc == -E2BIG ? 0 : rc;
	}
	return rc;
}
