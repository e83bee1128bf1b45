/* SPDX-License-Identifier: MIT */
/*
 * The history of a live process, diagnosed with events dropped at random: what
 * is missing must never make a finding.
 *
 *	lossy PID DIRECTORY [PERCENT]...     (0 0.01 0.1 1 10 50)
 *
 * Looks at the process until it exits, each time as bhtrace diagnose does, and
 * diagnoses each look a few times for each share of events that is dropped.
 * Reports of findings go to DIRECTORY; exit code 1 when there are any.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "diagnosis.h"
#include "live.h"
#include "map.h"
#include "status.h"

enum { RATES_MAX = 16, TRIALS = 4, GAP_MS = 20, SETTLE_MS = 2000 };

struct rate {
	const char *percent;
	uint32_t threshold; /* of 2^32 */
	unsigned diagnoses, healthy, undecidable, findings;
};

/* All events of one look. */
struct recording {
	struct bht_event *event; /* texts are owned */
	size_t n, size;
};

/* A source that drops some of them, and tells so before the next one of their
 * thread that it delivers. */
struct dropping {
	struct bht_source base;
	const struct recording *all;
	size_t at;
	uint64_t end; /* of the history */
	uint32_t threshold;
	struct bht_map missing; /* by thread: how many, plus 1, as a pointer */
	size_t told;            /* entries of it at the end */
};

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "lossy: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint32_t chance(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 32);
}

/* --- dropping -------------------------------------------------------------------- */

static void miss(struct dropping *d, uint32_t tid, uintptr_t count)
{
	need(bht_map_put(&d->missing, tid, (void *)(count + 1)) == 0, "memory");
}

static uintptr_t missed(const struct dropping *d, uint32_t tid)
{
	const uintptr_t entry = (uintptr_t)bht_map_get(&d->missing, tid);

	return entry ? entry - 1 : 0;
}

static bool next_event(struct dropping *d, struct bht_event *to)
{
	while (d->at < d->all->n) {
		const struct bht_event *e = &d->all->event[d->at];
		const uintptr_t count = missed(d, e->tid);
		if (bht_event_id(e) != BHT_ID_LOSS && chance() < d->threshold) {
			miss(d, e->tid, count + 1);
			d->at++;
		} else if (count) {
			*to = bht_loss(bhp_record_time(&e->r), e->tid, BHT_LOSS_DROPPED, count);
			miss(d, e->tid, 0);
			return true;
		} else {
			*to = *e;
			d->at++;
			return true;
		}
	}
	/* Threads of which nothing came any more. */
	while (d->told < d->missing.size) {
		const struct bht_map_entry *m = &d->missing.entry[d->told++];
		if (!m->value || (uintptr_t)m->value == 1)
			continue;
		*to = bht_loss(d->end, (uint32_t)m->key, BHT_LOSS_DROPPED, (uintptr_t)m->value - 1);
		return true;
	}
	return false;
}

static int dropping_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	unsigned n = 0;

	while (n < max && next_event((struct dropping *)source, &e[n]))
		n++;
	return (int)n;
}

static void dropping_close(struct bht_source *source)
{
	bht_map_free(&((struct dropping *)source)->missing);
}

/* --- looking ----------------------------------------------------------------------- */

static void forget(struct recording *all)
{
	while (all->n)
		free((char *)all->event[--all->n].text);
}

static void record(struct recording *all, struct bht_source *history)
{
	struct bht_event e[BHT_BATCH];
	int n;

	forget(all);
	while ((n = history->next(history, e, BHT_BATCH)) > 0) {
		if (all->n + (size_t)n > all->size) {
			all->size = 2 * all->size + BHT_BATCH;
			all->event = realloc(all->event, all->size * sizeof(*all->event));
			need(all->event != NULL, "memory");
		}
		for (int i = 0; i < n; i++) {
			all->event[all->n] = e[i];
			all->event[all->n++].text = e[i].text ? strdup(e[i].text) : NULL;
		}
	}
	need(n == 0, "the history");
}

static int look(struct bht_live *live, struct bht_evidence *ev, struct recording *all, struct bht_refusal *refusal)
{
	bht_sample_free(&ev->last);
	struct bht_source *history = bht_live_history(live, ev, refusal);
	if (!history)
		return -errno;
	record(all, history);
	history->close(history);
	return bht_live_sample(live, ev, &ev->last, refusal);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void start_over(struct bht_evidence *ev)
{
	bht_sample_free(&ev->first);
	ev->first = ev->last;
	ev->last = (struct bht_sample){ 0 };
}

/* Two samples that settled, or those of two seconds later. */
static int examine(struct bht_live *live, struct bht_evidence *ev, struct recording *all, struct bht_refusal *refusal)
{
	const struct timespec gap = { 0, GAP_MS * 1000000 };
	const uint64_t deadline = now_ms() + SETTLE_MS;

	bht_sample_free(&ev->first);
	int rc = bht_live_sample(live, ev, &ev->first, refusal);
	while (rc == 0) {
		nanosleep(&gap, NULL);
		rc = look(live, ev, all, refusal);
		const enum bht_settled settled = rc ? BHT_SETTLED : bht_settled(ev);
		if (settled == BHT_SETTLED || now_ms() >= deadline)
			break;
		if (settled == BHT_START_OVER)
			start_over(ev);
	}
	return rc;
}

/* --- judging ------------------------------------------------------------------------- */

static void keep(const char *directory, const struct rate *rate, const struct bht_evidence *ev,
		 const struct bht_diagnosis *d)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/lossy-%s-%u.json", directory, rate->percent, rate->diagnoses);
	FILE *out = fopen(path, "w");
	need(out != NULL, path);
	need(bht_render_json(out, ev, d) == 0 && fclose(out) == 0, path);
	fprintf(stderr, "lossy: with %s %% dropped: %s: %s\n", rate->percent, bht_rules[d->findings[0].rule].id, path);
}

static void judge(struct rate *rate, const char *directory, const struct bht_evidence *ev, const struct recording *all)
{
	struct dropping source = { .base = { dropping_next, dropping_close },
				   .all = all,
				   .end = ev->last.ticks,
				   .threshold = rate->threshold };
	struct bht_diagnosis d;

	need(bht_diagnose(ev, &source.base, BHT_LATE_NS, &d) == 0, "a diagnosis");
	rate->diagnoses++;
	rate->healthy += d.verdict == BHT_HEALTHY;
	rate->undecidable += d.verdict == BHT_UNDECIDABLE;
	if (d.n_findings) {
		rate->findings++;
		keep(directory, rate, ev, &d);
	}
	bht_diagnosis_free(&d);
	source.base.close(&source.base);
}

static unsigned open_rates(struct rate rate[RATES_MAX], char **percent)
{
	static char *defaults[] = { "0", "0.01", "0.1", "1", "10", "50", NULL };
	unsigned n = 0;

	for (char **p = *percent ? percent : defaults; *p && n < RATES_MAX; p++)
		rate[n++] =
			(struct rate){ .percent = *p, .threshold = (uint32_t)(strtod(*p, NULL) / 100 * UINT32_MAX) };
	return n;
}

int main(int argc, char **argv)
{
	struct bht_evidence ev = { .live = true };
	struct bht_refusal refusal = { 0 };
	struct recording all = { 0 };
	struct rate rate[RATES_MAX];
	unsigned findings = 0;

	if (argc < 3) {
		fprintf(stderr, "usage: lossy PID DIRECTORY [PERCENT]...\n");
		return 2;
	}
	const unsigned n = open_rates(rate, argv + 3);
	struct bht_live *live = bht_live_open((uint32_t)strtoul(argv[1], NULL, 10), &refusal);
	need(live != NULL, refusal.why);
	int rc;
	while ((rc = examine(live, &ev, &all, &refusal)) == 0)
		for (unsigned i = 0; i < n * TRIALS; i++)
			judge(&rate[i % n], argv[2], &ev, &all);
	forget(&all);
	free(all.event);
	need(rc == -ESRCH, refusal.why);
	for (unsigned i = 0; i < n; i++) {
		printf("%6s %% dropped: %u diagnoses, %u healthy, %u undecidable, %u findings\n", rate[i].percent,
		       rate[i].diagnoses, rate[i].healthy, rate[i].undecidable, rate[i].findings);
		findings += rate[i].findings;
	}
	bht_live_close(live);
	bht_evidence_free(&ev);
	return findings ? 1 : 0;
}
