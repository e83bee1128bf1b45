/* SPDX-License-Identifier: MIT */
/*
 * babeltrace compare RINGS TRACE   whether LTTng and the flight recorder saw the same
 * babeltrace TRACE|URL...           what is in traces
 *
 * Prints one line "KEY VALUE" for each thing that the test asks for. Ends at SIGINT.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "babeltrace.h"
#include "ringdir.h"
#include "unfold.h"

enum { EVENTS_MAX = 1 << 21 };

struct history {
	struct bht_event *event;
	unsigned n;
	uint64_t losses, lost, unordered;
};

static volatile bool stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = true;
}

static void die(const char *what, const char *why)
{
	printf("refused %s: %s\n", what, why);
	exit(1);
}

/* Reads all events but the marks of the recorder itself. */
static struct history read_all(struct bht_source *source)
{
	struct history h = { .event = calloc(EVENTS_MAX, sizeof(*h.event)) };
	struct bht_event e[BHT_BATCH];
	uint64_t last = 0;
	int n;

	while (h.event && (n = source->next(source, e, BHT_BATCH)) > 0) {
		for (int i = 0; i < n; i++) {
			h.unordered += bht_time(&e[i]) < last;
			last = bht_time(&e[i]);
			if (bht_event_id(&e[i]) == BHT_ID_LOSS) {
				h.losses++;
				h.lost += bht_loss_count(&e[i]);
			} else if (bht_event_id(&e[i]) != BHP_ID_thread && h.n < EVENTS_MAX) {
				h.event[h.n] = e[i];
				h.event[h.n++].text = e[i].text ? strdup(e[i].text) : NULL;
			}
		}
	}
	return h;
}

/* By thread, each thread's in the order in which they came: that is kept in the
 * field process meanwhile. */
static int by_thread(const void *a, const void *b)
{
	const struct bht_event *x = a, *y = b;

	if (x->tid != y->tid)
		return x->tid < y->tid ? -1 : 1;
	return x->process < y->process ? -1 : 1;
}

static void sort(struct history *h)
{
	for (unsigned i = 0; i < h->n; i++)
		h->event[i].process = i;
	qsort(h->event, h->n, sizeof(*h->event), by_thread);
}

static bool same_event(const struct bht_event *x, const struct bht_event *y)
{
	return x->tid == y->tid && !memcmp(&x->r, &y->r, sizeof(x->r)) &&
	       !strcmp(x->text ? x->text : "", y->text ? y->text : "");
}

/* Whether event I is its thread's last. */
static bool is_last(const struct history *h, unsigned i)
{
	return i + 1 == h->n || h->event[i + 1].tid != h->event[i].tid;
}

/* The ring is written first: when the process exits a thread's last event may be
 * in it alone. */
static int compare(struct history *rings, struct history *trace)
{
	unsigned k = 0;

	sort(rings);
	sort(trace);
	for (unsigned i = 0; i < rings->n; i++) {
		const struct bht_event *x = &rings->event[i], *y = k < trace->n ? &trace->event[k] : NULL;
		if (y && same_event(x, y)) {
			k++;
		} else if (!is_last(rings, i) || (y && y->tid == x->tid)) {
			printf("differ event %u of thread %u: %u at %llu\n", i, x->tid, bht_event_id(x),
			       (unsigned long long)bht_time(x));
			return 1;
		}
	}
	return k != trace->n;
}

static void history_free(struct history *h)
{
	for (unsigned i = 0; i < h->n; i++)
		free((char *)h->event[i].text);
	free(h->event);
}

static struct history read_rings(const char *dir)
{
	struct bht_evidence ev = { 0 };
	struct bht_refusal why = { 0 };
	struct bht_source *source = NULL;

	if (bht_ringdir_open(dir, 0, &ev, &source, &why) != 0 || !source)
		die(dir, why.why);
	struct history h = read_all(source);
	source->close(source);
	bht_evidence_free(&ev);
	return h;
}

static void print_info(const struct bht_trace_info *info, const char *damage, const struct history *h)
{
	printf("events %u\nlosses %llu\nlost %llu\nunordered %llu\ndamage %s\nticks_per_ns %f\nprocesses %u\n", h->n,
	       (unsigned long long)h->losses, (unsigned long long)h->lost, (unsigned long long)h->unordered, damage,
	       info->ticks_per_ns, info->n_processes);
	for (unsigned i = 0; i < info->n_processes; i++)
		printf("process %u %s %s\n", info->process[i].pid, info->process[i].command, info->process[i].hostname);
}

static struct history read_traces(const char *const *traces, unsigned n, bool unfolded)
{
	struct bht_refusal why = { 0 };
	struct bht_source *source;

	if (bht_babeltrace_open(traces, n, &stopped, &source, &why) != 0)
		die(traces[0], why.why);
	struct bht_source *all = unfolded ? bht_unfold(source) : source;
	struct history h = read_all(all);
	struct bht_trace_info info = bht_babeltrace_info(source);
	print_info(&info, bht_babeltrace_damage(source), &h);
	all->close(all);
	return h;
}

int main(int argc, char **argv)
{
	signal(SIGINT, stop);
	if (argc == 4 && !strcmp(argv[1], "compare")) {
		struct history rings = read_rings(argv[2]);
		struct history trace = read_traces((const char *const *)&argv[3], 1, true);
		printf("recorded %u\nlost_by_rings %llu\n", rings.n, (unsigned long long)rings.losses);
		printf("same %d\n", compare(&rings, &trace) == 0);
		history_free(&rings);
		history_free(&trace);
		return 0;
	}
	if (argc < 2)
		return 2;
	struct history h = read_traces((const char *const *)argv + 1, (unsigned)argc - 1, false);
	history_free(&h);
	return 0;
}
