/* SPDX-License-Identifier: MIT */
/*
 * What recording costs a program that works: two producers submit requests, and the
 * callbacks of their loop need about a microsecond for each. It is run by itself and
 * under bhtrace record, and counts the requests it finishes. The flight recorder is
 * on under LTTng, too, as it is for who does not turn it off.
 */
#include <jansson.h>
#include <libgen.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bh.h"
#include "flight.h"

enum { RUNS = 7, PRODUCERS = 2, SLOTS = 128, BATCH = 32, SIZE = 1024, WARM_US = 300000, WORK_US = 1000000 };

/* --- the workload ------------------------------------------------------------------------ */

struct request {
	uint32_t sum;
	unsigned char data[SIZE];
};

struct producer {
	struct bh *bh;
	sem_t room; /* in batches: who waits for one is not woken for each request */
	_Atomic uint64_t submitted, finished;
	struct request slot[SLOTS];
	pthread_t thread;
};

static struct producer producers[PRODUCERS];
static _Atomic bool enough;

/* FNV-1a. */
static uint32_t checksum(const unsigned char *data)
{
	uint32_t sum = 2166136261u;

	for (unsigned i = 0; i < SIZE; i++)
		sum = (sum ^ data[i]) * 16777619u;
	return sum;
}

static void serve(void *opaque)
{
	struct producer *p = opaque;
	const uint64_t submitted = atomic_load_explicit(&p->submitted, memory_order_acquire);
	const uint64_t before = atomic_load_explicit(&p->finished, memory_order_relaxed);

	for (uint64_t n = before; n < submitted; n++) {
		p->slot[n % SLOTS].sum = checksum(p->slot[n % SLOTS].data);
		bh_consume(p->bh, n + 1);
		if ((n + 1) % BATCH == 0)
			sem_post(&p->room);
	}
	atomic_store_explicit(&p->finished, submitted, memory_order_relaxed);
}

static void *produce(void *arg)
{
	struct producer *p = arg;

	for (uint64_t n = 0; !atomic_load_explicit(&enough, memory_order_relaxed); n++) {
		while (n % BATCH == 0 && sem_wait(&p->room) != 0)
			;
		memset(p->slot[n % SLOTS].data, (int)n, SIZE);
		atomic_store_explicit(&p->submitted, n + 1, memory_order_release);
		bh_schedule_ticket(p->bh, n + 1);
	}
	return NULL;
}

static void *run(void *loop)
{
	bh_loop_run(loop);
	return NULL;
}

static void stop(void *opaque)
{
	bh_loop_stop(opaque);
}

struct progress {
	double ns, requests, events;
};

static struct progress look(void)
{
	struct progress now = { .ns = (double)bench_now_ns() };

	for (unsigned i = 0; i < PRODUCERS; i++)
		now.requests += (double)atomic_load_explicit(&producers[i].finished, memory_order_relaxed);
	for (struct bhp_ring *r = bhp_flight_root.rings; r; r = r->next)
		now.events += (double)atomic_load_explicit(&r->head, memory_order_relaxed);
	return now;
}

/* The recorder owns stdout, so the result goes to a file. */
static int work(const char *path)
{
	struct bh_loop *loop = bh_loop_new("bench");
	pthread_t consumer;

	for (unsigned i = 0; i < PRODUCERS; i++) {
		sem_init(&producers[i].room, 0, SLOTS / BATCH);
		producers[i].bh = loop ? bh_new(loop, serve, &producers[i], "serve") : NULL;
		if (!producers[i].bh || pthread_create(&producers[i].thread, NULL, produce, &producers[i]) != 0)
			bench_die("no producer");
	}
	if (pthread_create(&consumer, NULL, run, loop) != 0)
		bench_die("no consumer");
	usleep(WARM_US);
	const struct progress begin = look();
	usleep(WORK_US);
	const struct progress end = look();
	enough = true;
	for (unsigned i = 0; i < PRODUCERS; i++)
		pthread_join(producers[i].thread, NULL);
	bh_schedule_oneshot(loop, stop, loop, "stop");
	pthread_join(consumer, NULL);
	FILE *out = fopen(path, "w");
	const double us = (end.ns - begin.ns) / 1e3;
	if (!out ||
	    fprintf(out, "rate %f\nevents %f\nall %f\n", (end.requests - begin.requests) / us * 1e3,
		    (end.events - begin.events) / us, look().events) < 0 ||
	    fclose(out) != 0)
		bench_die("%s: cannot be written", path);
	return 0;
}

/* --- subjects ---------------------------------------------------------------------------- */

static char root[] = "/var/tmp/bhtrace-bench-XXXXXX", self[PATH_MAX];
static const char *bhtrace;

static struct subject {
	const char *key, *name, *flight, *via; /* via: NULL when nobody records */
	char why_not[256];                     /* it cannot be measured, or "" */
} subjects[] = { { "off", "BH_FLIGHT=off", "off", NULL, "" },
		 { "flight", "flight recorder", NULL, NULL, "" },
		 { "drained", "bhtrace record --via flight", NULL, "flight", "" },
		 { "lttng", "bhtrace record --via lttng", NULL, "lttng", "" } };

enum { SUBJECTS = sizeof(subjects) / sizeof(*subjects), LTTNG = SUBJECTS - 1 };

static int __attribute__((format(printf, 1, 2))) shell(const char *format, ...)
{
	char command[3 * PATH_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	return system(command);
}

static void add(struct bench_set *set, const struct subject *s, const char *key, double value)
{
	char full[64];

	snprintf(full, sizeof(full), "%s.%s", s->key, key);
	bench_add(set, full, value);
}

static double median(const struct bench_set *set, const struct subject *s, const char *key)
{
	char full[64];

	snprintf(full, sizeof(full), "%s.%s", s->key, key);
	return bench_median(set, full);
}

/* What the workload said of itself; gives the number of its events. */
static double add_result(struct bench_set *set, const struct subject *s)
{
	char path[64], key[32];
	double value, events = NAN;

	snprintf(path, sizeof(path), "%s/result", root);
	FILE *in = fopen(path, "r");
	while (in && fscanf(in, "%31s %lf", key, &value) == 2) {
		add(set, s, key, value);
		events = value;
	}
	if (in)
		fclose(in);
	return events;
}

/* A recorder that kept nothing would be cheap. */
static void add_recording(struct bench_set *set, struct subject *s, double events)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/json", root);
	json_t *json = json_load_file(path, 0, NULL);
	const double discarded = json_number_value(json_object_get(json, "discarded"));
	const double bytes = json_number_value(json_object_get(json, "bytes"));
	json_decref(json);
	if (!(bytes >= (events - discarded) * sizeof(struct bhp_record) / 2))
		snprintf(s->why_not, sizeof(s->why_not), "of %.0f events, %.0f discarded, only %.0f bytes are kept",
			 events, discarded, bytes);
	add(set, s, "discarded", 100 * discarded / events);
}

/* The last thing that a recorder said. */
static void read_complaint(struct subject *s)
{
	char path[64], line[sizeof(s->why_not)];

	snprintf(path, sizeof(path), "%s/log", root);
	FILE *in = fopen(path, "r");
	snprintf(s->why_not, sizeof(s->why_not), "it failed");
	while (in && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\n")] = '\0';
		memcpy(s->why_not, line, sizeof(line));
	}
	if (in)
		fclose(in);
}

static void measure(struct bench_set *set, struct subject *s)
{
	char record[PATH_MAX + 128] = "";

	if (s->via)
		snprintf(record, sizeof(record), "'%s' record --via %s --json -o %s/recording --", bhtrace, s->via,
			 root);
	if (s->flight)
		setenv("BH_FLIGHT", s->flight, 1);
	else
		unsetenv("BH_FLIGHT");
	if (shell("%s '%s' work:%s/result >%s/json 2>%s/log", record, self, root, root, root) != 0) {
		read_complaint(s);
		return;
	}
	const double events = add_result(set, s);
	if (s->via)
		add_recording(set, s, events);
	shell("rm -rf %s/recording %s/result", root, root);
}

static void clean_up(void)
{
	shell("rm -rf %s", root);
}

/* --- rows ---------------------------------------------------------------------------------- */

static void print_row(const struct bench_set *set, const struct subject *s)
{
	const bool beside = s != &subjects[0];
	char rate[64], note[128] = "";

	snprintf(rate, sizeof(rate), "%s.rate", s->key);
	if (s->via)
		snprintf(note, sizeof(note), "%.2f M events/s, %.2f %% of them discarded", median(set, s, "events"),
			 median(set, s, "discarded"));
	else if (beside)
		snprintf(note, sizeof(note), "%.2f M events/s", median(set, s, "events"));
	bench_print(&(struct bench_row){ .table = "Throughput of a workload that is recorded",
					 .name = s->name,
					 .value = *s->why_not ? NAN : median(set, s, "rate"),
					 .unit = "k requests/s",
					 .peer = beside ? subjects[0].name : NULL,
					 .peer_value = median(set, &subjects[0], "rate"),
					 .ratio = *s->why_not ? NAN : bench_paired(set, rate, "off.rate"),
					 .note = *s->why_not ? s->why_not
						 : *note     ? note
							     : NULL });
}

/* NULL, or what LTTng lacks. */
static const char *no_lttng(void)
{
	char provider[PATH_MAX], path[PATH_MAX + 32];

	if (system("command -v lttng-sessiond >/dev/null") != 0)
		return "no LTTng session daemon";
	snprintf(provider, sizeof(provider), "%s", bhtrace);
	snprintf(path, sizeof(path), "%s/libbh-lttng.so.0", dirname(provider));
	return access(path, R_OK) == 0 ? NULL : "no libbh-lttng.so.0 beside bhtrace";
}

int main(int argc, char **argv)
{
	static struct bench_set set;

	if (argc == 2 && !strncmp(argv[1], "work:", 5))
		return work(argv[1] + 5);
	if (argc != 2)
		bench_die("usage: overhead BHTRACE");
	bhtrace = argv[1];
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 || !mkdtemp(root) || setenv("LTTNG_HOME", root, 1))
		bench_die("no temporary directory");
	atexit(clean_up);
	const char *lacks = no_lttng();
	snprintf(subjects[LTTNG].why_not, sizeof(subjects[LTTNG].why_not), "%s", lacks ? lacks : "");
	for (unsigned n = 0; n < RUNS; n++)
		for (unsigned i = 0; i < SUBJECTS; i++)
			if (!*subjects[i].why_not)
				measure(&set, &subjects[i]);
	/* LTTng may be missing, the others not. */
	for (unsigned i = 0; i < LTTNG; i++)
		if (*subjects[i].why_not)
			bench_die("%s: %s", subjects[i].name, subjects[i].why_not);
	for (unsigned i = 0; i < SUBJECTS; i++)
		print_row(&set, &subjects[i]);
	return 0;
}
