/* SPDX-License-Identifier: MIT */
#include "case.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

struct bht_finding *bht_finding_add(struct bht_case *c, enum bht_rule_id rule, enum bht_confidence confidence,
				    const struct bht_loop *loop, const struct bht_bh *bh)
{
	struct bht_diagnosis *d = c->d;
	struct bht_finding *findings = reallocarray(d->findings, d->n_findings + 1, sizeof(*findings));

	if (!findings) {
		c->error = -ENOMEM;
		return NULL;
	}
	d->findings = findings;
	struct bht_finding *f = &findings[d->n_findings++];
	*f = (struct bht_finding){ .rule = rule, .confidence = confidence, .loop = *loop };
	if (bh)
		f->bh = *bh;
	return f;
}

void bht_reason(struct bht_case *c, const char *format, ...)
{
	struct bht_diagnosis *d = c->d;
	char line[BHT_LINE];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	for (unsigned i = 0; i < d->n_reasons; i++)
		if (strcmp(d->reasons[i], line) == 0)
			return;
	if (d->n_reasons == BHT_REASONS_MAX)
		return;
	/* The last place says that there was more. */
	if (d->n_reasons == BHT_REASONS_MAX - 1)
		snprintf(line, sizeof(line), "more than %d other things", BHT_REASONS_MAX - 1);
	memcpy(d->reasons[d->n_reasons++], line, sizeof(line));
}

/* --- what several rules ask ------------------------------------------------------------ */

bool bht_found_on(const struct bht_case *c, const struct bht_loop *loop)
{
	for (unsigned i = 0; i < c->d->n_findings; i++)
		if (c->d->findings[i].loop.addr == loop->addr)
			return true;
	return false;
}

bool bht_is_due(const struct bht_loop *loop, const struct bht_bh *bh)
{
	if (!bh || bh->state != BHP_LIVE || !(bh->flags & BHP_FLAG_SCHEDULED))
		return false;
	return !(bh->flags & BHP_FLAG_IDLE && loop->wait_timeout_ns >= 0);
}

bool bht_execution_open(const struct bht_case *c, const struct bht_bh *bh)
{
	const struct bht_loop_machine *m = bht_machine_loop(c->m, bh->loop);

	for (unsigned i = 0; m && i < m->n_open && i < BHT_OPEN_MAX; i++)
		if (m->open[i].bh == bh->addr)
			return true;
	return false;
}

bool bht_held_outside(const struct bht_case *c, const struct bht_loop *loop, uint64_t schedule)
{
	const struct bht_loop_machine *m = bht_machine_loop(c->m, loop->addr);

	return loop->depth > 1 && m && m->n_open && schedule && schedule < m->open[0].begin + c->m->error;
}

bool bht_outside_unknown(const struct bht_case *c, const struct bht_loop *loop)
{
	const struct bht_loop_machine *m = bht_machine_loop(c->m, loop->addr);

	return c->ev->recorder != BHT_BY_FLIGHT && loop->depth > 1 && !(m && m->n_open);
}

bool bht_thread_gone(const struct bht_case *c, uint32_t tid)
{
	const struct bht_thread *now = bht_sample_thread(&c->ev->last, tid);

	if (bht_just_ends(c->ev))
		return now && now->state == 'X';
	return tid && !now;
}

bool bht_is_writing(const struct bht_thread *thread, const struct bht_loop *loop)
{
	return thread->syscall == SYS_write && thread->args[0] == (uint64_t)loop->notifier_fd;
}

const struct bht_thread *bht_held_thread(const struct bht_case *c)
{
	const struct bht_sample *s = &c->ev->last;

	for (size_t i = 0; i < s->n_threads; i++)
		if (bht_thread_stopped(&s->threads[i]))
			return &s->threads[i];
	return NULL;
}

const struct bht_thread *bht_on_its_way(const struct bht_case *c, const struct bht_loop *loop)
{
	enum { ENOUGH_NS = 1000000 }; /* of CPU time, for a few instructions */
	const struct bht_sample *s = &c->ev->last;

	for (size_t i = 0; i < s->n_threads; i++) {
		const struct bht_thread *t = &s->threads[i], *before = bht_sample_thread(&c->ev->first, t->tid);
		/* One that came since did not begin anything before. */
		if (t->tid == loop->owner || (c->ev->live && !before) || bht_thread_stopped(t) ||
		    (before && t->cpu_ns - before->cpu_ns >= ENOUGH_NS))
			continue;
		if (t->state == 'R' || t->syscall == BHT_SYSCALL_RUNNING || bht_is_writing(t, loop))
			return t;
	}
	return NULL;
}

/* --- witnesses ----------------------------------------------------------------------- */

static bool same_event(const struct bht_event *a, const struct bht_event *b)
{
	return a->tid == b->tid && memcmp(&a->r, &b->r, sizeof(a->r)) == 0;
}

static bool has_witness(const struct bht_finding *f, const struct bht_event *e)
{
	for (unsigned i = 0; i < f->n_witness; i++)
		if (same_event(&f->witness[i].event, e))
			return true;
	return false;
}

void bht_witness_key(struct bht_finding *f, const struct bht_event *e, const char *role)
{
	if (bht_time(e) == 0 || f->n_witness == BHT_WITNESS_MAX || has_witness(f, e))
		return;
	struct bht_witness *w = &f->witness[f->n_witness++];
	*w = (struct bht_witness){ .event = *e, .key = true };
	w->event.text = NULL;
	snprintf(w->role, sizeof(w->role), "%s", role);
}

static int by_time(const void *a, const void *b)
{
	const struct bht_witness *x = a, *y = b;
	uint64_t s = bht_time(&x->event), t = bht_time(&y->event);

	if (s != t)
		return s > t ? 1 : -1;
	/* A begin carries the stamp of the event before it. */
	return (bht_event_id(&x->event) == BHP_ID_execute_begin) - (bht_event_id(&y->event) == BHP_ID_execute_begin);
}

/* The newest events that are not witnesses yet; CANDIDATE is sorted by time. */
static void take_newest(struct bht_finding *f, const struct bht_witness *candidate, size_t n)
{
	while (n-- > 0 && f->n_witness < BHT_WITNESS_MAX)
		if (!has_witness(f, &candidate[n].event))
			f->witness[f->n_witness++] = candidate[n];
}

/* What another bottom half of the loop did belongs elsewhere. */
static bool concerns(const struct bht_finding *f, const struct bht_event *e)
{
	switch (bht_event_id(e)) {
	case BHP_ID_schedule:
	case BHP_ID_execute_begin:
	case BHP_ID_execute_end:
	case BHP_ID_bh_new:
	case BHP_ID_bh_cancel:
	case BHP_ID_bh_delete:
		return bhp_get_BH(&e->r) == f->bh.addr;
	}
	return true;
}

/* What is late is over: what happened afterwards tells nothing about it. */
static uint64_t end_of_story(const struct bht_finding *f)
{
	uint64_t end = 0;

	if (bht_rules[f->rule].verdict != BHT_LATE)
		return UINT64_MAX;
	for (unsigned i = 0; i < f->n_witness; i++)
		if (bht_time(&f->witness[i].event) > end)
			end = bht_time(&f->witness[i].event);
	return end;
}

void bht_witness_fill(struct bht_case *c, struct bht_finding *f)
{
	const struct bht_loop_machine *loop = bht_machine_loop(c->m, f->loop.addr);
	const uint64_t end = end_of_story(f);
	struct bht_witness candidate[BHT_RECENT];
	size_t n = 0;

	for (uint64_t i = 0; loop && i < BHT_RECENT && i < loop->recent.n; i++)
		if (concerns(f, &loop->recent.event[i]) && bht_time(&loop->recent.event[i]) <= end)
			candidate[n++] = (struct bht_witness){ .event = loop->recent.event[i] };
	qsort(candidate, n, sizeof(*candidate), by_time);
	take_newest(f, candidate, n);
	qsort(f->witness, f->n_witness, sizeof(*f->witness), by_time);
}

const char *bht_thread_label(const struct bht_case *c, uint32_t tid, char *buf, size_t size)
{
	const struct bht_thread_machine *t = bht_machine_thread(c->m, tid);
	const struct bht_thread *now = bht_sample_thread(&c->ev->last, tid);
	/* A core has no names of threads, their history may. */
	const char *name = now && now->name[0] ? now->name : t && t->name[0] ? t->name : "thread";

	snprintf(buf, size, "%s (tid %u%s)", name, tid, now ? "" : ", exited");
	return buf;
}
