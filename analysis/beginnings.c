/* SPDX-License-Identifier: MIT */
#include "beginnings.h"

#include <errno.h>
#include <stdlib.h>

#include "unfold.h"

/*
 * A recorder that says where an execution began when it ends, says nothing of one that
 * has not ended. The evidence has those that go on.
 */
struct beginnings {
	struct bht_source base;
	size_t at, n;
	struct bht_event event[]; /* by time */
};

static int beginnings_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct beginnings *s = (struct beginnings *)source;
	unsigned n = 0;

	while (n < max && s->at < s->n)
		e[n++] = s->event[s->at++];
	return (int)n;
}

static void beginnings_close(struct bht_source *source)
{
	free(source);
}

static int by_time(const void *a, const void *b)
{
	const uint64_t x = bht_time(a), y = bht_time(b);

	return (x > y) - (x < y);
}

static struct bht_event beginning(const struct bht_begun *b, uint32_t process)
{
	const struct bhp_execute_begin f = { .loop = (const void *)(uintptr_t)b->loop,
					     .bh = (const void *)(uintptr_t)b->bh };

	return (struct bht_event){ .r = bhp_encode_execute_begin(b->begin, &f), .tid = b->tid, .process = process };
}

static struct bht_source *open_beginnings(const struct bht_recorded *process, unsigned n)
{
	struct beginnings *s;
	size_t all = 0;

	for (unsigned i = 0; i < n; i++)
		all += process[i].ev.n_begun;
	s = calloc(1, sizeof(*s) + all * sizeof(s->event[0]));
	if (!s)
		return NULL;
	s->base = (struct bht_source){ beginnings_next, beginnings_close };
	for (unsigned i = 0; i < n; i++)
		for (size_t k = 0; k < process[i].ev.n_begun; k++)
			s->event[s->n++] = beginning(&process[i].ev.begun[k], i);
	qsort(s->event, s->n, sizeof(s->event[0]), by_time);
	return &s->base;
}

struct bht_source *bht_whole_history(struct bht_source *of, const struct bht_recorded *process, unsigned n)
{
	/* OF comes first: a beginning has the stamp of its thread's event before it. */
	struct bht_source *sources[] = { of, open_beginnings(process, n) };

	if (!sources[1]) {
		of->close(of);
		errno = ENOMEM;
		return NULL;
	}
	of = bht_merge(sources, 2);
	return of ? bht_unfold(of) : NULL;
}
