/* SPDX-License-Identifier: MIT */
#include "recording_lttng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "babeltrace.h"
#include "beginnings.h"
#include "refuse.h"

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
	struct bht_source *events = bht_whole_history(rec->trace, rec->process, rec->ticks_per_ns == 1 ? 0 : rec->n);
	if (!events) {
		rec->trace = NULL;
		free(s);
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", rec->name);
	}
	*s = (struct meeting){ { meeting_next, meeting_close }, events, rec };
	rec->history = &s->base;
	return 0;
}
