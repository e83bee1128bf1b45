/* SPDX-License-Identifier: MIT */
/*
 * k-way merge: a binary heap of the sources' next events, the earliest on top.
 *
 * The source that delivered last is asked for its next event only when the
 * merge is called again, because the text of an event lives until then.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "event.h"

struct head {
	uint64_t time;
	unsigned index;
};

struct merge {
	struct bht_source base;
	struct bht_source **sources;
	struct bht_event *events; /* the next event of each source */
	struct head *heap;
	unsigned n_sources;
	unsigned n_heap;
	bool started;
};

static bool earlier(const struct head *a, const struct head *b)
{
	return a->time != b->time ? a->time < b->time : a->index < b->index;
}

static void sift_down(struct merge *m, unsigned at)
{
	const struct head moving = m->heap[at];

	for (unsigned child; (child = 2 * at + 1) < m->n_heap; at = child) {
		if (child + 1 < m->n_heap && earlier(&m->heap[child + 1], &m->heap[child]))
			child++;
		if (!earlier(&m->heap[child], &moving))
			break;
		m->heap[at] = m->heap[child];
	}
	m->heap[at] = moving;
}

/* Fetches the next event of the source in HEAP[AT]: 1, 0 at its end, -errno. */
static int fetch(struct merge *m, unsigned at)
{
	struct head *head = &m->heap[at];
	struct bht_source *source = m->sources[head->index];
	int rc = source->next(source, &m->events[head->index]);

	if (rc > 0)
		head->time = bhp_record_time(&m->events[head->index].r);
	return rc;
}

static int start(struct merge *m)
{
	for (unsigned i = 0; i < m->n_sources; i++) {
		m->heap[m->n_heap].index = i;
		int rc = fetch(m, m->n_heap);
		if (rc < 0)
			return rc;
		m->n_heap += rc > 0;
	}
	for (unsigned i = m->n_heap / 2; i-- > 0;)
		sift_down(m, i);
	m->started = true;
	return 0;
}

static int advance(struct merge *m)
{
	int rc = fetch(m, 0);

	if (rc < 0)
		return rc;
	if (rc == 0)
		m->heap[0] = m->heap[--m->n_heap];
	if (m->n_heap)
		sift_down(m, 0);
	return 0;
}

static int merge_next(struct bht_source *source, struct bht_event *e)
{
	struct merge *m = (struct merge *)source;
	int rc = m->started ? advance(m) : start(m);

	if (rc < 0)
		return rc;
	if (!m->n_heap)
		return 0;
	*e = m->events[m->heap[0].index];
	return 1;
}

static void close_all(struct bht_source **sources, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		sources[i]->close(sources[i]);
}

static void merge_close(struct bht_source *source)
{
	struct merge *m = (struct merge *)source;

	close_all(m->sources, m->n_sources);
	free(m->sources);
	free(m->events);
	free(m->heap);
	free(m);
}

struct bht_source *bht_merge(struct bht_source **sources, unsigned n)
{
	if (n == 1)
		return sources[0];

	struct merge *m = calloc(1, sizeof(*m));
	struct bht_source **copy = calloc(n + !n, sizeof(*copy));
	struct bht_event *events = calloc(n + !n, sizeof(*events));
	struct head *heap = calloc(n + !n, sizeof(*heap));

	if (!m || !copy || !events || !heap) {
		close_all(sources, n);
		free(m);
		free(copy);
		free(events);
		free(heap);
		errno = ENOMEM;
		return NULL;
	}
	for (unsigned i = 0; i < n; i++)
		copy[i] = sources[i];
	*m = (struct merge){
		.base = { merge_next, merge_close }, .sources = copy, .events = events, .heap = heap, .n_sources = n
	};
	return &m->base;
}
