/* SPDX-License-Identifier: MIT */
/*
 * k-way merge: a binary heap of the inputs by the time of their next event, the
 * earliest on top. Inputs are read in batches, and delivered in runs: as long as
 * the top one is earlier than the second best, nothing has to be sifted.
 *
 * An input whose batch is used up is asked for more only when the merge needs
 * its next event, and not in the same call when the last one had a text, which
 * lives until then.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "event.h"

struct head {
	uint64_t time;
	unsigned index;
};

enum { INPUT_BATCH = 32 };

struct input {
	struct bht_source *source;
	unsigned at, n; /* of the batch */
	struct bht_event batch[INPUT_BATCH];
};

struct merge {
	struct bht_source base;
	struct input *input;
	struct head *heap;
	unsigned n_inputs;
	unsigned n_heap;
	bool started;
	bool stale; /* the top one's batch is used up */
	int error;  /* to be told in the next call */
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

/* The next batch of an input: 1, 0 at its end, -errno. */
static int refill(struct merge *m, struct head *head)
{
	struct input *in = &m->input[head->index];
	int n = in->source->next(in->source, in->batch, INPUT_BATCH);

	in->at = 0;
	in->n = n > 0 ? (unsigned)n : 0;
	if (n > 0)
		head->time = bht_time(&in->batch[0]);
	return n;
}

static int start(struct merge *m)
{
	for (unsigned i = 0; i < m->n_inputs; i++) {
		m->heap[m->n_heap].index = i;
		int rc = refill(m, &m->heap[m->n_heap]);
		if (rc < 0)
			return rc;
		m->n_heap += rc > 0;
	}
	for (unsigned i = m->n_heap / 2; i-- > 0;)
		sift_down(m, i);
	m->started = true;
	return 0;
}

static int refill_top(struct merge *m)
{
	int rc = refill(m, &m->heap[0]);

	if (rc < 0)
		return rc;
	m->stale = false;
	if (rc == 0)
		m->heap[0] = m->heap[--m->n_heap];
	if (m->n_heap)
		sift_down(m, 0);
	return 0;
}

/* Whoever is next after the top. */
static struct head second(const struct merge *m)
{
	if (m->n_heap < 2)
		return (struct head){ UINT64_MAX, UINT32_MAX };
	return m->n_heap > 2 && earlier(&m->heap[2], &m->heap[1]) ? m->heap[2] : m->heap[1];
}

/* Delivers from the top input as long as it stays the earliest; gives how many. */
static unsigned run(struct merge *m, struct bht_event *e, unsigned max)
{
	struct head *top = &m->heap[0];
	const struct head limit = second(m);
	struct input *in = &m->input[top->index];
	unsigned n = 0;

	do {
		e[n++] = in->batch[in->at++];
		if (in->at == in->n) {
			m->stale = true;
			return n;
		}
		top->time = bht_time(&in->batch[in->at]);
	} while (n < max && earlier(top, &limit));
	sift_down(m, 0);
	return n;
}

static int merge_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct merge *m = (struct merge *)source;
	unsigned n = 0;

	if (!m->started)
		m->error = start(m);
	while (!m->error && n < max && (n == 0 || !e[n - 1].text)) {
		if (m->stale)
			m->error = refill_top(m);
		if (m->error || !m->n_heap)
			break;
		n += run(m, e + n, max - n);
	}
	return n ? (int)n : m->error;
}

static void close_all(struct bht_source **sources, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		sources[i]->close(sources[i]);
}

static void merge_close(struct bht_source *source)
{
	struct merge *m = (struct merge *)source;

	for (unsigned i = 0; i < m->n_inputs; i++)
		m->input[i].source->close(m->input[i].source);
	free(m->input);
	free(m->heap);
	free(m);
}

struct bht_source *bht_merge(struct bht_source **sources, unsigned n)
{
	if (n == 1)
		return sources[0];

	struct merge *m = calloc(1, sizeof(*m));
	struct input *input = calloc(n + !n, sizeof(*input));
	struct head *heap = calloc(n + !n, sizeof(*heap));

	if (!m || !input || !heap) {
		close_all(sources, n);
		free(m);
		free(input);
		free(heap);
		errno = ENOMEM;
		return NULL;
	}
	for (unsigned i = 0; i < n; i++)
		input[i].source = sources[i];
	*m = (struct merge){ .base = { merge_next, merge_close }, .input = input, .heap = heap, .n_inputs = n };
	return &m->base;
}
