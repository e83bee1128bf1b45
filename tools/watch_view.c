/* SPDX-License-Identifier: MIT */
/* What the kernel's maps say now, with rates, names and what is overdue. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "flight.h"
#include "watch.h"

/* Keys begin both structs. */
static int by_key(const void *a, const void *b)
{
	const struct bhb_key *x = a, *y = b;

	if (x->tgid != y->tgid)
		return x->tgid < y->tgid ? -1 : 1;
	return (x->addr > y->addr) - (x->addr < y->addr);
}

struct taking {
	struct watch_view *view;
	size_t rows_size, loops_size;
	double ticks_per_ns;
	bool failed;
};

static uint64_t since_ns(const struct taking *t, uint64_t ticks)
{
	const uint64_t now = bhp_clock();

	return now > ticks ? (uint64_t)((double)(now - ticks) / t->ticks_per_ns) + 1 : 1;
}

/* Room for one more of SIZE bytes behind N; NULL: there is none, and it is noted. */
static void *more(struct taking *t, void **all, size_t *size, size_t n, size_t bytes)
{
	if (n == *size) {
		const size_t wanted = n ? 2 * n : 64;
		void *grown = reallocarray(*all, wanted, bytes);
		t->failed |= !grown;
		if (!grown)
			return NULL;
		*all = grown;
		*size = wanted;
	}
	return memset((char *)*all + n * bytes, 0, bytes);
}

static bool take_loop(void *arg, const struct bhb_key *key, const struct bhb_loop *loop)
{
	struct taking *t = arg;
	struct watch_view *v = t->view;
	struct watch_loop *l = more(t, (void **)&v->loops, &t->loops_size, v->n_loops, sizeof(*l));

	if (!l)
		return false;
	v->n_loops++;
	*l = (struct watch_loop){ .key = *key,
				  .turns = loop->turns,
				  .sleeps = loop->sleeps,
				  .rescued = loop->rescued,
				  .sum_ns = loop->sum_ns,
				  .asleep_ns = loop->slept && !loop->waked ? since_ns(t, loop->slept) : 0,
				  .p50_ns = watch_quantile_ns(loop->bucket, 500),
				  .p99_ns = watch_quantile_ns(loop->bucket, 990) };
	memcpy(l->bucket, loop->bucket, sizeof(l->bucket));
	/* For now as the target wrote it. */
	memcpy(l->name, loop->name, sizeof(loop->name) - 1);
	return true;
}

static bool take_bh(void *arg, const struct bhb_key *key, const struct bhb_bh *b)
{
	struct taking *t = arg;
	struct watch_view *v = t->view;
	struct watch_row *r = more(t, (void **)&v->rows, &t->rows_size, v->n_rows, sizeof(*r));
	const uint64_t waits = bhb_waits(b), time = waits ? waits : bhb_stale(b);

	if (!r)
		return false;
	v->n_rows++;
	*r = (struct watch_row){ .key = *key,
				 .loop = b->loop,
				 .schedules = b->schedules,
				 .coalesced = b->coalesced,
				 .executions = b->executions,
				 .rescued = b->rescued,
				 .objects = 1,
				 .worst_ns = b->worst_ns,
				 .pending_ns = waits ? since_ns(t, waits) : 0,
				 .overdue = time && time == b->watched && b->told_ns,
				 .verdict = "" };
	memcpy(r->bucket, b->bucket, sizeof(r->bucket));
	memcpy(r->name, b->name, sizeof(b->name) - 1);
	return true;
}

/* --- names and rates ---------------------------------------------------------------------- */

static struct watch_loop *loop_of(const struct watch_view *v, const struct watch_row *r)
{
	const struct bhb_key key = { .tgid = r->key.tgid, .addr = r->loop };

	return v->n_loops ? bsearch(&key, v->loops, v->n_loops, sizeof(*v->loops), by_key) : NULL;
}

/* An object at an address where another one was begins with less. */
static double rate(uint64_t now, uint64_t before, double seconds)
{
	return seconds > 0 ? (double)(now >= before ? now - before : now) / seconds : 0;
}

static void finish_loops(struct watch_view *v, const struct watch_view *before, struct watch_hangs *h, double seconds)
{
	char own[WATCH_NAME];

	for (struct watch_loop *l = v->loops; l < v->loops + v->n_loops; l++) {
		const struct watch_loop *old =
			before->n_loops ? bsearch(l, before->loops, before->n_loops, sizeof(*l), by_key) : NULL;
		memcpy(own, l->name, sizeof(own));
		watch_name(h, l->key.tgid, l->key.addr, own, l->name);
		watch_process(h, l->key.tgid, l->process);
		l->rate = rate(l->turns, old ? old->turns : 0, seconds);
		v->totals.rescued += l->rescued;
	}
}

static void finish_rows(struct watch_view *v, struct watch_hangs *h)
{
	char own[WATCH_NAME];

	for (struct watch_row *r = v->rows; r < v->rows + v->n_rows; r++) {
		struct watch_loop *l = loop_of(v, r);
		memcpy(own, r->name, sizeof(own));
		watch_name(h, r->key.tgid, r->key.addr, own, r->name);
		watch_process(h, r->key.tgid, r->process);
		if (l)
			memcpy(r->loop_name, l->name, sizeof(r->loop_name));
		else
			watch_name(h, r->key.tgid, r->loop, "", r->loop_name);
		if (!r->overdue)
			continue;
		r->verdict = watch_verdict(h, r->key.tgid);
		v->totals.overdue++;
		if (l)
			l->overdue++;
	}
}

static int by_name(const void *a, const void *b)
{
	const struct watch_row *x = a, *y = b;

	if (x->key.tgid != y->key.tgid)
		return x->key.tgid < y->key.tgid ? -1 : 1;
	if (x->loop != y->loop)
		return x->loop < y->loop ? -1 : 1;
	return strcmp(x->name, y->name);
}

static void add_up(struct watch_row *to, const struct watch_row *r)
{
	to->objects += r->objects;
	to->schedules += r->schedules;
	to->coalesced += r->coalesced;
	to->executions += r->executions;
	to->rescued += r->rescued;
	to->worst_ns = to->worst_ns > r->worst_ns ? to->worst_ns : r->worst_ns;
	to->pending_ns = to->pending_ns > r->pending_ns ? to->pending_ns : r->pending_ns;
	if (r->overdue && !to->overdue)
		to->verdict = r->verdict;
	to->overdue |= r->overdue;
	for (unsigned i = 0; i < BHB_BUCKETS; i++)
		to->bucket[i] += r->bucket[i];
}

/* Those of one name into one row, which has the address of one of them. */
static void merge_rows(struct watch_view *v)
{
	size_t n = 0;

	if (v->n_rows)
		qsort(v->rows, v->n_rows, sizeof(*v->rows), by_name);
	for (size_t i = 0; i < v->n_rows; i++)
		if (n && !by_name(&v->rows[n - 1], &v->rows[i]))
			add_up(&v->rows[n - 1], &v->rows[i]);
		else
			v->rows[n++] = v->rows[i];
	v->n_rows = n;
}

static uint64_t at_most(uint64_t value, uint64_t limit)
{
	return value < limit ? value : limit;
}

static void finish_merged(struct watch_view *v, const struct watch_view *before, double seconds)
{
	for (struct watch_row *r = v->rows; r < v->rows + v->n_rows; r++) {
		const struct watch_row *old =
			before->n_rows ? bsearch(r, before->rows, before->n_rows, sizeof(*r), by_name) : NULL;
		/* With an object that is gone, its counters went. */
		const bool same = old && old->schedules <= r->schedules && old->coalesced <= r->coalesced;
		const uint64_t schedules = r->schedules - (same ? old->schedules : 0),
			       coalesced = r->coalesced - (same ? old->coalesced : 0);
		r->rate = rate(schedules, 0, seconds);
		r->share = schedules ? (double)coalesced / (double)schedules : 0;
		r->p50_ns = at_most(watch_quantile_ns(r->bucket, 500), r->worst_ns);
		r->p99_ns = at_most(watch_quantile_ns(r->bucket, 990), r->worst_ns);
	}
}

static void finish_totals(struct watch_view *v, const struct watch_view *before, struct bhb_monitor *m,
			  struct watch_hangs *h, double seconds)
{
	const struct bhb_monitor_stats s = bhb_monitor_stats(m);
	struct watch_totals *t = &v->totals;

	t->processes = s.processes;
	t->bystanders = s.attach.bystanders;
	t->hits = s.hits;
	t->strange = s.strange;
	t->told = s.told;
	t->evicted = s.evicted;
	t->hits_rate = rate(s.hits, before->totals.hits, seconds);
	t->cost = (t->hits_rate + rate(s.strange, before->totals.strange, seconds)) *
		  (v->trap_ns + (s.bpf_runs ? (double)s.bpf_ns / (double)s.bpf_runs : 0)) / 1e9;
	watch_hangs_count(h, t);
}

int watch_view_take(struct bhb_monitor *m, struct watch_hangs *h, const struct watch_view *before,
		    struct watch_view *view)
{
	struct taking t = { .view = view, .ticks_per_ns = bhb_monitor_ticks_per_ns(m) };
	const double seconds = before->ns ? (double)(bht_mono_ns() - before->ns) / 1e9 : 0;

	*view = (struct watch_view){ .ns = bht_mono_ns(), .trap_ns = before->trap_ns };
	int rc = bhb_monitor_loops(m, take_loop, &t);
	if (!rc)
		rc = bhb_monitor_bhs(m, take_bh, &t);
	if (t.failed)
		rc = -ENOMEM;
	if (rc)
		return rc;
	if (view->n_loops)
		qsort(view->loops, view->n_loops, sizeof(*view->loops), by_key);
	finish_loops(view, before, h, seconds);
	finish_rows(view, h);
	merge_rows(view);
	finish_merged(view, before, seconds);
	finish_totals(view, before, m, h, seconds);
	return 0;
}

void watch_view_free(struct watch_view *view)
{
	free(view->rows);
	free(view->loops);
	*view = (struct watch_view){ .ns = 0 };
}
