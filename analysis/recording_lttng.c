/* SPDX-License-Identifier: MIT */
#include "recording_lttng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "babeltrace.h"
#include "refuse.h"
#include "unfold.h"

/* The evidence that was kept of the process, or none. */
static struct bht_recorded take_kept(struct bht_recording *rec, uint32_t pid)
{
	for (unsigned i = 0; i < rec->n_kept; i++) {
		struct bht_recorded kept = rec->kept[i];
		if (kept.ev.pid != pid)
			continue;
		rec->kept[i] = rec->kept[--rec->n_kept];
		return kept;
	}
	return (struct bht_recorded){ .kept = false };
}

/* Takes over the processes that have appeared in the trace. 0 or -ENOMEM. */
static int meet(struct bht_recording *rec)
{
	struct bht_trace_info info = bht_babeltrace_info(rec->trace);

	while (rec->n < info.n_processes) {
		const struct bht_trace_process *from = &info.process[rec->n];
		/* One that open_own() made room for is not in use with a trace. */
		struct bht_recorded *more = reallocarray(rec->process, rec->n + 1, sizeof(*more));
		if (!more)
			return -ENOMEM;
		rec->process = more;
		struct bht_recorded p = take_kept(rec, from->pid);
		if (!p.kept) {
			p.ev.pid = from->pid;
			memcpy(p.ev.command, from->command, sizeof(p.ev.command));
			p.ev.source = rec->name;
			p.ev.clock_error_ns = info.clock_error_ns;
		}
		memcpy(p.ev.hostname, from->hostname, sizeof(p.ev.hostname));
		p.ev.recorder = BHT_BY_LTTNG;
		p.ev.ticks_per_ns = info.ticks_per_ns;
		more[rec->n++] = p;
	}
	rec->ticks_per_ns = info.ticks_per_ns;
	return 0;
}

struct meeting {
	struct bht_source base;
	struct bht_source *of;
	struct bht_recording *rec;
};

static int meeting_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct meeting *s = (struct meeting *)source;
	const int n = s->of->next(s->of, e, max), rc = n > 0 ? meet(s->rec) : 0;

	return rc ? rc : n;
}

static void meeting_close(struct bht_source *source)
{
	struct meeting *s = (struct meeting *)source;

	s->of->close(s->of);
	free(s);
}

/*
 * LTTng records no beginning of a callback, and of one that has not ended no end
 * either. The evidence has those that go on.
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

static struct bht_source *open_beginnings(const struct bht_recording *rec)
{
	struct beginnings *s;
	size_t n = 0;

	for (unsigned i = 0; i < rec->n; i++)
		n += rec->process[i].ev.n_begun;
	s = calloc(1, sizeof(*s) + n * sizeof(s->event[0]));
	if (!s)
		return NULL;
	s->base = (struct bht_source){ beginnings_next, beginnings_close };
	for (unsigned i = 0; i < rec->n; i++)
		for (size_t k = 0; k < rec->process[i].ev.n_begun; k++)
			s->event[s->n++] = beginning(&rec->process[i].ev.begun[k], i);
	qsort(s->event, s->n, sizeof(s->event[0]), by_time);
	return &s->base;
}

/* OF comes first: a beginning has the stamp of its thread's event before it. Both
 * are closed when memory runs out: NULL. */
static struct bht_source *with_beginnings(const struct bht_recording *rec, struct bht_source *of)
{
	struct bht_source *sources[] = { of, open_beginnings(rec) };

	if (sources[1])
		return bht_merge(sources, 2);
	of->close(of);
	return NULL;
}

int bht_recording_lttng(struct bht_recording *rec, const char *const *traces, unsigned n, struct bht_refusal *refusal)
{
	int rc = bht_babeltrace_open(traces, n, rec->stop, &rec->trace, refusal);

	if (rc)
		return rc;
	struct meeting *s = calloc(1, sizeof(*s));
	if (!s || meet(rec) != 0) {
		rec->trace->close(rec->trace);
		rec->trace = NULL;
		free(s);
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", rec->name);
	}
	/* Several machines' events have another clock than the evidence. */
	struct bht_source *events = rec->ticks_per_ns == 1 ? rec->trace : with_beginnings(rec, rec->trace);
	if (events)
		events = bht_unfold(events);
	if (!events) {
		rec->trace = NULL;
		free(s);
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", rec->name);
	}
	*s = (struct meeting){ { meeting_next, meeting_close }, events, rec };
	rec->history = &s->base;
	return 0;
}
