/* SPDX-License-Identifier: MIT */
#include "recording_lttng.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "babeltrace.h"
#include "ctf.h"
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

/* LTTng records no beginning of a callback, and of one that has not ended no end
 * either. The rings, which were kept beside the evidence, have the last ones. */
struct beginnings {
	struct bht_source base;
	struct bht_source *rings;
	uint32_t process;
};

static int beginnings_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct beginnings *s = (struct beginnings *)source;
	int n, kept = 0;

	do {
		n = s->rings->next(s->rings, e, max);
		for (int i = 0; i < n; i++)
			if (bht_event_id(&e[i]) == BHP_ID_execute_begin) {
				e[kept] = e[i];
				e[kept++].process = s->process;
			}
	} while (n > 0 && kept == 0);
	return n < 0 ? n : kept;
}

static void beginnings_close(struct bht_source *source)
{
	struct beginnings *s = (struct beginnings *)source;

	s->rings->close(s->rings);
	free(s);
}

/* Of process I, into *SOURCE; NULL when none were kept. 0 or -errno. */
static int open_beginnings(const struct bht_recording *rec, unsigned i, struct bht_source **source,
			   struct bht_refusal *refusal)
{
	const struct bht_recorded *p = &rec->process[i];
	struct bht_source *rings = NULL;
	struct bht_ctf_about about;

	*source = NULL;
	if (!p->kept)
		return 0;
	int dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return bht_refuse(refusal, -errno, 0, "%s: %s", p->path, strerror(errno));
	int rc = bht_ctf_open(dir, "rings", p->path, &about, &rings, refusal);
	close(dir);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	struct beginnings *s = calloc(1, sizeof(*s));
	if (!s) {
		rings->close(rings);
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", p->path);
	}
	*s = (struct beginnings){ { beginnings_next, beginnings_close }, rings, i };
	*source = &s->base;
	return 0;
}

/*
 * OF, which it owns, with the beginnings that the rings have. NULL: an error, told.
 * OF comes first: a beginning has the stamp of its thread's event before it.
 */
static struct bht_source *with_beginnings(struct bht_recording *rec, struct bht_source *of, struct bht_refusal *refusal)
{
	struct bht_source **sources = calloc(rec->n + 1, sizeof(struct bht_source *)), *all = NULL;
	unsigned n = 1;
	int rc = 0;

	if (!sources) {
		of->close(of);
		bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", rec->name);
		return NULL;
	}
	sources[0] = of;
	/* Several machines' events have another clock than rings. */
	for (unsigned i = 0; i < rec->n && !rc && rec->ticks_per_ns != 1; i++) {
		rc = open_beginnings(rec, i, &sources[n], refusal);
		n += !rc && sources[n];
	}
	if (!rc)
		all = bht_merge(sources, n);
	while (rc && n)
		n--, sources[n]->close(sources[n]);
	free(sources);
	return all;
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
	struct bht_source *events = with_beginnings(rec, rec->trace, refusal);
	if (events)
		events = bht_unfold(events);
	if (!events) {
		rec->trace = NULL;
		free(s);
		return -EBADMSG;
	}
	*s = (struct meeting){ { meeting_next, meeting_close }, events, rec };
	rec->history = &s->base;
	return 0;
}
