/* SPDX-License-Identifier: MIT */
/*
 * How fast traces of LTTng are read, beginnings of executions included, beside what
 * babeltrace2 needs to count the events of the same trace. The trace is written as
 * LTTng writes it: two CPUs, packets of a MiB, the contexts that bhtrace records.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../unit/lttng_file.h"
#include "babeltrace.h"
#include "bench.h"
#include "unfold.h"

enum { RUNS = 5, CPUS = 2, EVENTS = 6000000, PACKET = 1 << 20, APART_NS = 400 };

/* --- the trace ------------------------------------------------------------------------- */

static const struct kind trace = { .name = "trace", .hostname = "bench" };

/* A loop on one CPU; on the other a thread that schedules its bottom half. */
static void add(struct writer *w, bool loop, uint64_t i)
{
	const uint64_t ns = 1000 + i * APART_NS;

	if (w->n > PACKET)
		end_packet(w);
	if (!loop) {
		schedule(w, ns, ticks(ns - 150), 70, 71, i);
		return;
	}
	event(w, 2, ns, 70, 70);
	PUT(w, uint64_t, ticks(ns - 150 - APART_NS / 2));
	PUT(w, uint64_t, 0x2000);
	PUT(w, uint64_t, 0x1000);
	PUT(w, uint64_t, ticks(ns - 150));
}

static void write_trace(void)
{
	struct writer *cpu[CPUS];

	write_metadata(&trace);
	for (unsigned i = 0; i < CPUS; i++)
		cpu[i] = begin_stream(&trace, i ? "events_1" : "events_0");
	for (uint64_t i = 0; i < EVENTS; i++)
		add(cpu[i % CPUS], i % CPUS, i);
	for (unsigned i = 0; i < CPUS; i++)
		end(cpu[i]);
}

/* --- subjects -------------------------------------------------------------------------- */

/* By CPU time: all of them have one thread and wait for nothing. */
static void print_rate(int who)
{
	struct rusage u;

	getrusage(who, &u);
	printf("rate %f\n", EVENTS / ((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
				      (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec)));
	if (who == RUSAGE_SELF)
		printf("memory %f\n", (double)u.ru_maxrss / 1024);
}

static int read_all(const char *dir, bool unfold)
{
	struct bht_refusal why;
	struct bht_source *source;
	struct bht_event e[BHT_BATCH];
	uint64_t events = 0, begins = 0;
	int n;

	if (bht_babeltrace_open(&dir, 1, NULL, &source, &why) != 0)
		bench_die("%s: %s", dir, why.why);
	if (unfold && !(source = bht_unfold(source)))
		bench_die("no memory");
	while ((n = source->next(source, e, BHT_BATCH)) > 0)
		for (int i = 0; i < n; i++)
			bht_event_id(&e[i]) == BHP_ID_execute_begin ? begins++ : events++;
	if (n < 0 || events != EVENTS || begins != (unfold ? EVENTS / CPUS : 0))
		bench_die("%llu events and %llu beginnings were read", (unsigned long long)events,
			  (unsigned long long)begins);
	source->close(source);
	print_rate(RUSAGE_SELF);
	return 0;
}

static int count_all(const char *dir)
{
	char command[256], line[256];
	uint64_t events = 0;

	snprintf(command, sizeof(command), "babeltrace2 '%s' -c sink.utils.counter -p step=+0 2>/dev/null", dir);
	FILE *out = popen(command, "r");
	while (out && fgets(line, sizeof(line), out))
		if (strstr(line, "Event message"))
			events = strtoull(line, NULL, 10);
	if (!out || pclose(out) != 0 || events != EVENTS)
		bench_die("babeltrace2 counted %llu events", (unsigned long long)events);
	print_rate(RUSAGE_CHILDREN);
	return 0;
}

/* --- measuring -------------------------------------------------------------------------- */

static void measure(struct bench_set *set)
{
	static const char *const subjects[] = { "read", "unfold", "count" };
	char arg[128];

	strcpy(root, "/var/tmp/bhtrace-bench-XXXXXX");
	if (!mkdtemp(root))
		bench_die("no temporary directory");
	write_trace();
	for (unsigned run = 0; run < RUNS; run++) {
		for (unsigned i = 0; i < sizeof(subjects) / sizeof(subjects[0]); i++) {
			snprintf(arg, sizeof(arg), "%s:%s", subjects[i], root);
			if (bench_child(arg, NULL, subjects[i], set) != 0)
				bench_die("%s failed", arg);
		}
	}
	snprintf(arg, sizeof(arg), "rm -rf '%s'", root);
	if (system(arg) != 0)
		bench_die("%s is left", root);
}

static void print_row(const struct bench_set *set, const char *name, const char *key, const char *target)
{
	bench_print(&(struct bench_row){ .table = "Reading a trace of LTTng, one core",
					 .name = name,
					 .value = bench_median(set, key),
					 .unit = "M events/s",
					 .peer = "babeltrace2, counting them",
					 .peer_value = bench_median(set, "count.rate"),
					 .ratio = bench_paired(set, key, "count.rate"),
					 .target = target });
}

int main(int argc, char **argv)
{
	static struct bench_set set;

	if (argc > 1 && !strncmp(argv[1], "read:", 5))
		return read_all(argv[1] + 5, false);
	if (argc > 1 && !strncmp(argv[1], "unfold:", 7))
		return read_all(argv[1] + 7, true);
	if (argc > 1 && !strncmp(argv[1], "count:", 6))
		return count_all(argv[1] + 6);
	measure(&set);
	print_row(&set, "babeltrace 6x10^6 events", "read.rate", "ratio >= 1");
	print_row(&set, "the same, and each execution's beginning", "unfold.rate", NULL);
	bench_print(&(struct bench_row){ .table = "Reading a trace of LTTng, one core",
					 .name = "peak memory for 6x10^6",
					 .value = bench_median(&set, "unfold.memory"),
					 .unit = "MiB",
					 .target = "value <= 200" });
	return 0;
}
