/* SPDX-License-Identifier: MIT */
/*
 * Events wait in a list, in the order in which they came. A thread has for each of
 * its nested polls a mark: its last event after which a callback of that poll may
 * have begun. What came after the earliest mark of all threads waits, as far as
 * there is room; a thread that sleeps in its outermost poll, or has left it, has none.
 *
 * Where a beginning belongs is found by time alone: after the last event of its
 * thread that is not later. The marks only see to it that this place is still here.
 */
#include "unfold.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "map.h"

/* Deeper polls than LEVELS count as one; of more beginnings than SHOWN that have no
 * end yet, the oldest are forgotten. */
enum { LEVELS = 16, SHOWN = 16, PER_BLOCK = 512 };

static const uint64_t NONE = UINT64_MAX;

/* An event of a thread. It is here as long as it is later than what was delivered. */
struct earlier {
	struct held *held;
	uint64_t seq, time;
};

struct held {
	struct held *next;
	struct earlier before; /* of the same thread */
	uint64_t seq;          /* even, in the order of arrival; an added one has the odd number behind */
	struct bht_event e;    /* its text is owned */
};

struct block {
	struct block *next;
	struct held held[PER_BLOCK];
};

struct thread {
	TAILQ_ENTRY(thread) link;
	uint64_t key;
	uint64_t hold; /* what came after it waits for this thread; NONE: it is not in the list */
	struct earlier last;
	unsigned n; /* polls it is in, outermost first */
	uint64_t loop[LEVELS], mark[LEVELS];
	unsigned n_shown;
	struct {
		uint64_t bh, begin;
	} shown[SHOWN]; /* beginnings that are there and have no end yet */
};

struct unfold {
	struct bht_source base;
	struct bht_source *of;
	struct held *first, **end, *spare;
	struct block *blocks;
	size_t n_held;
	uint64_t seq;                        /* of the last one that came */
	uint64_t delivered;                  /* of the last one that went, */
	uint64_t gone;                       /* and the latest time of all that went */
	TAILQ_HEAD(holders, thread) holders; /* by hold, the earliest first */
	struct bht_map threads;
	struct thread *last_thread;
	struct bht_map callbacks; /* of bottom halves */
	char *told;               /* text of the event that was delivered last */
	bool ended;
	int error; /* to be told at the end */
};

/* --- the list ------------------------------------------------------------------- */

static struct held *held_new(struct unfold *u)
{
	struct held *h = u->spare;

	if (!h) {
		struct block *block = malloc(sizeof(*block));
		if (!block)
			return NULL;
		block->next = u->blocks;
		u->blocks = block;
		for (unsigned i = 0; i < PER_BLOCK; i++) {
			block->held[i].next = h;
			h = &block->held[i];
		}
	}
	u->spare = h->next;
	return h;
}

/* Puts a copy of E where *PLACE points to. */
static int insert(struct unfold *u, struct held **place, uint64_t seq, const struct bht_event *e)
{
	struct held *h = held_new(u);

	if (!h)
		return -ENOMEM;
	*h = (struct held){ .next = *place, .seq = seq, .e = *e };
	if (e->text && !(h->e.text = strdup(e->text))) {
		h->next = u->spare;
		u->spare = h;
		return -ENOMEM;
	}
	if (place == u->end)
		u->end = &h->next;
	*place = h;
	u->n_held++;
	return 0;
}

static int append(struct unfold *u, struct thread *t, const struct bht_event *e)
{
	struct held **place = u->end;
	int rc = insert(u, place, u->seq + 2, e);

	if (rc == 0) {
		u->seq += 2;
		if (t) {
			(*place)->before = t->last;
			t->last = (struct earlier){ *place, u->seq, bht_time(e) };
		}
	}
	return rc;
}

/* --- threads -------------------------------------------------------------------- */

static bool concerns_polls(unsigned id)
{
	return id >= BHP_ID_execute_begin && id <= BHP_ID_wait_end;
}

/* *T is NULL for a thread that never polled. 0 or -ENOMEM. */
static int find_thread(struct unfold *u, const struct bht_event *e, struct thread **t)
{
	const uint64_t key = (uint64_t)e->process << 32 | e->tid;

	if (u->last_thread && u->last_thread->key == key) {
		*t = u->last_thread;
		return 0;
	}
	*t = bht_map_get(&u->threads, key);
	if (!*t && concerns_polls(bht_event_id(e))) {
		*t = calloc(1, sizeof(**t));
		if (!*t || bht_map_put(&u->threads, key, *t) != 0) {
			free(*t);
			return -ENOMEM;
		}
		(*t)->key = key;
		(*t)->hold = NONE;
	}
	if (*t)
		u->last_thread = *t;
	return 0;
}

static uint64_t hold_of(const struct thread *t)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->mark[i] != NONE)
			return t->mark[i];
	return NONE;
}

/* Puts the thread where it belongs among the holders: mostly to the end. */
static void rehold(struct unfold *u, struct thread *t)
{
	const uint64_t hold = hold_of(t);
	struct thread *before;

	if (hold == t->hold)
		return;
	if (t->hold != NONE)
		TAILQ_REMOVE(&u->holders, t, link);
	t->hold = hold;
	if (hold == NONE)
		return;
	before = TAILQ_LAST(&u->holders, holders);
	while (before && before->hold > hold)
		before = TAILQ_PREV(before, holders, link);
	if (before)
		TAILQ_INSERT_AFTER(&u->holders, before, t, link);
	else
		TAILQ_INSERT_HEAD(&u->holders, t, link);
}

/* The thread is in fewer than DEPTH polls of LOOP now. */
static void leave(struct thread *t, uint64_t loop, unsigned depth)
{
	for (unsigned i = 0, found = 0; i < t->n; i++) {
		if (t->loop[i] == loop && ++found == depth) {
			t->n = i;
			return;
		}
	}
}

static void enter(struct thread *t, uint64_t loop, uint64_t seq)
{
	if (t->n == LEVELS)
		return;
	t->loop[t->n] = loop;
	t->mark[t->n++] = seq;
}

/* What the thread's event, which is SEQ, says of its polls. The beginnings of some
 * are before the trace, or were lost. */
static void follow(struct thread *t, const struct bht_event *e, uint64_t seq)
{
	const uint64_t loop = bhp_get_LOOP(&e->r);

	switch (bht_event_id(e)) {
	case BHP_ID_poll_begin:
		leave(t, loop, bhp_decode_poll_begin(&e->r).depth);
		enter(t, loop, seq);
		break;
	case BHP_ID_poll_end:
		leave(t, loop, bhp_decode_poll_end(&e->r).depth);
		break;
	case BHP_ID_wait_begin:
	case BHP_ID_execute_begin:
		if (t->n)
			t->mark[t->n - 1] = NONE;
		break;
	case BHP_ID_wait_end:
	case BHP_ID_execute_end:
		if (t->n)
			t->mark[t->n - 1] = seq;
		else
			enter(t, loop, seq);
		break;
	}
}

/* --- beginnings ----------------------------------------------------------------- */

/* Zero for processes that are too many: then callbacks are not known. */
static uint64_t bh_key(const struct bht_event *e)
{
	return e->process >> 16 ? 0 : (uint64_t)e->process << 48 | bhp_get_BH(&e->r);
}

static int note_callback(struct unfold *u, const struct bht_event *e)
{
	void *callback = (void *)(uintptr_t)bhp_get_ARG(&e->r);

	return callback && bh_key(e) ? bht_map_put(&u->callbacks, bh_key(e), callback) : 0;
}

static void note_shown(struct thread *t, const struct bht_event *e)
{
	if (t->n_shown == SHOWN)
		memmove(t->shown, t->shown + 1, --t->n_shown * sizeof(t->shown[0]));
	t->shown[t->n_shown].bh = bhp_get_BH(&e->r);
	t->shown[t->n_shown++].begin = bht_time(e);
}

/* One more than its index; 0: it is not there. */
static unsigned find_shown(const struct thread *t, const struct bht_event *e, uint64_t begin)
{
	unsigned n = t->n_shown;

	while (n && (t->shown[n - 1].bh != bhp_get_BH(&e->r) || t->shown[n - 1].begin != begin))
		n--;
	return n;
}

/* Whether the beginning of what ends here was there; what began after it has lost
 * its end. */
static bool was_shown(struct thread *t, const struct bht_event *e)
{
	const unsigned n = find_shown(t, e, bhp_decode_execute_end(&e->r).begin);

	if (n)
		t->n_shown = n - 1;
	return n != 0;
}

static struct bht_event begin_of(const struct unfold *u, const struct bht_event *end)
{
	const struct bhp_execute_end f = bhp_decode_execute_end(&end->r);
	const struct bhp_execute_begin b = { f.loop, f.bh, bht_map_get(&u->callbacks, bh_key(end)) };

	return (struct bht_event){ bhp_encode_execute_begin(f.begin, &b), end->tid, end->process, NULL };
}

/* Gives the end its beginning, or its thread a loss. */
static int add_begin(struct unfold *u, struct thread *t, const struct bht_event *end)
{
	const struct bht_event begin = begin_of(u, end);
	const uint64_t time = bht_time(&begin);
	struct earlier at = t->last;

	while (at.seq > u->delivered && at.time > time)
		at = at.held->before;
	if (at.time > time || time > bht_time(end) || (at.seq < u->delivered && time < u->gone)) {
		struct bht_event loss = bht_loss(bht_time(end), end->tid, BHT_LOSS_DROPPED, 1);
		loss.process = end->process;
		return append(u, NULL, &loss);
	}
	struct held **place = at.seq > u->delivered ? &at.held->next : &u->first;
	uint64_t seq = at.seq > u->delivered ? at.seq : u->delivered;
	for (; *place && bht_time(&(*place)->e) < time; place = &(*place)->next)
		seq = (*place)->seq;
	return insert(u, place, seq | 1, &begin);
}

static int take(struct unfold *u, const struct bht_event *e)
{
	const unsigned id = bht_event_id(e);
	struct thread *t = NULL;
	int rc = 0;

	if (id == BHT_ID_LOSS || bht_is_kernel(id))
		return append(u, NULL, e);
	rc = find_thread(u, e, &t);
	/* A tracer of beginnings has what the evidence has, too. */
	if (rc == 0 && id == BHP_ID_execute_begin && find_shown(t, e, bht_time(e)))
		return 0;
	if (rc == 0 && id == BHP_ID_bh_new)
		rc = note_callback(u, e);
	if (rc == 0 && id == BHP_ID_execute_end && !was_shown(t, e))
		rc = add_begin(u, t, e);
	if (rc == 0)
		rc = append(u, t, e);
	if (rc != 0 || !t)
		return rc;
	if (id == BHP_ID_execute_begin)
		note_shown(t, e);
	follow(t, e, u->seq);
	rehold(u, t);
	return 0;
}

/* --- the source ----------------------------------------------------------------- */

static bool may_go(const struct unfold *u)
{
	const struct thread *holder = TAILQ_FIRST(&u->holders);

	return u->ended || !holder || u->first->seq <= holder->hold || u->n_held > BHT_UNFOLD_MAX;
}

static struct bht_event deliver_one(struct unfold *u)
{
	struct held *h = u->first;
	const struct bht_event e = h->e;

	u->first = h->next;
	if (!u->first)
		u->end = &u->first;
	h->next = u->spare;
	u->spare = h;
	u->n_held--;
	u->delivered = h->seq;
	if (bht_event_id(&e) != BHT_ID_LOSS && bht_time(&e) > u->gone)
		u->gone = bht_time(&e);
	return e;
}

static unsigned deliver(struct unfold *u, struct bht_event *e, unsigned max)
{
	unsigned n = 0;

	while (n < max && u->first && may_go(u)) {
		e[n++] = deliver_one(u);
		if (e[n - 1].text) {
			u->told = (char *)e[n - 1].text;
			break;
		}
	}
	return n;
}

static void refill(struct unfold *u)
{
	struct bht_event batch[BHT_BATCH];
	int n = u->of->next(u->of, batch, BHT_BATCH), rc = 0;

	for (int i = 0; i < n && rc == 0; i++)
		rc = take(u, &batch[i]);
	u->ended = n <= 0 || rc != 0;
	u->error = n < 0 ? n : rc;
}

static int unfold_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct unfold *u = (struct unfold *)source;
	unsigned n;

	free(u->told);
	u->told = NULL;
	while ((n = deliver(u, e, max)) == 0 && !u->ended)
		refill(u);
	return n ? (int)n : u->error;
}

static void unfold_close(struct bht_source *source)
{
	struct unfold *u = (struct unfold *)source;

	u->of->close(u->of);
	for (struct held *h = u->first; h; h = h->next)
		free((char *)h->e.text);
	free(u->told);
	BHT_MAP_EACH(&u->threads, t)
	free(t->value);
	bht_map_free(&u->threads);
	bht_map_free(&u->callbacks);
	for (struct block *next, *block = u->blocks; block; block = next) {
		next = block->next;
		free(block);
	}
	free(u);
}

struct bht_source *bht_unfold(struct bht_source *source)
{
	struct unfold *u = calloc(1, sizeof(*u));

	if (!u) {
		source->close(source);
		errno = ENOMEM;
		return NULL;
	}
	u->base = (struct bht_source){ unfold_next, unfold_close };
	u->of = source;
	u->end = &u->first;
	TAILQ_INIT(&u->holders);
	return &u->base;
}
