/* SPDX-License-Identifier: MIT */
/*
 * How fast a recorded stream is analyzed, and in how much memory. The stream is
 * a real one: producers and loops of libbh with the recorder in files. The peer
 * reads the same files and adds up their words, which nobody can do faster.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"
#include "bh.h"
#include "diagnosis.h"
#include "flight.h"
#include "ringdir.h"

enum { PAIRS = 2, BHS = 100, CHUNK = 1 << 17 };

static struct {
	const char *name;
	double events;
	unsigned recordings; /* how the threads took turns differs, and with it the speed */
	unsigned runs;       /* of each */
} const sizes[] = { { "10^6", 1e6, 3, 2 }, { "10^7", 1e7, 3, 2 }, { "5x10^7", 5e7, 5, 2 }, { "10^8", 1e8, 1, 1 } };

enum { N_SIZES = sizeof(sizes) / sizeof(*sizes), THE_SIZE = 2 };

/* --- recording --------------------------------------------------------------------- */

struct source {
	struct bh *bh;
	_Atomic uint64_t announced;
	uint64_t seen;
};

struct pair {
	struct bh_loop *loop;
	struct source source[BHS];
	pthread_t producer, consumer;
};

static struct pair pairs[PAIRS];
static _Atomic bool enough;

static void collect(void *opaque)
{
	struct source *s = opaque;
	uint64_t announced = atomic_load_explicit(&s->announced, memory_order_acquire);

	while (s->seen < announced)
		bh_consume(s->bh, ++s->seen);
}

/* A bottom half of its own, so that it comes after all the others. */
static void stop(void *opaque)
{
	bh_loop_stop(opaque);
}

static void *consume(void *arg)
{
	bh_loop_run(((struct pair *)arg)->loop);
	return NULL;
}

static void *produce(void *arg)
{
	struct pair *p = arg;

	for (uint64_t n = 0; !atomic_load_explicit(&enough, memory_order_relaxed); n++) {
		struct source *s = &p->source[n * 2654435761u % BHS];
		uint64_t ticket = atomic_load_explicit(&s->announced, memory_order_relaxed) + 1;
		atomic_store_explicit(&s->announced, ticket, memory_order_release);
		bh_schedule_ticket(s->bh, ticket);
	}
	return NULL;
}

static double recorded(void)
{
	double n = 0;

	for (struct bhp_ring *r = bhp_flight_root.rings; r; r = r->next)
		n += (double)atomic_load_explicit(&r->head, memory_order_relaxed);
	return n;
}

static int record(double events)
{
	for (unsigned p = 0; p < PAIRS; p++) {
		pairs[p].loop = bh_loop_new("bench");
		for (unsigned i = 0; i < BHS; i++)
			pairs[p].source[i].bh = bh_new(pairs[p].loop, collect, &pairs[p].source[i], "bench");
		pthread_create(&pairs[p].consumer, NULL, consume, &pairs[p]);
		pthread_create(&pairs[p].producer, NULL, produce, &pairs[p]);
	}
	while (recorded() < events)
		usleep(1000);
	enough = true;
	for (unsigned p = 0; p < PAIRS; p++) {
		pthread_join(pairs[p].producer, NULL);
		bh_schedule_oneshot(pairs[p].loop, stop, pairs[p].loop, "stop");
		pthread_join(pairs[p].consumer, NULL);
	}
	return 0;
}

/* --- reading it back ------------------------------------------------------------------ */

static int analyze(const char *dir)
{
	struct bht_evidence ev = { 0 };
	struct bht_diagnosis d = { 0 };
	struct bht_source *history = NULL;
	struct bht_refusal why = { 0 };
	struct rusage usage;
	uint64_t began = bench_now_ns();

	if (bht_ringdir_open(dir, 0, &ev, &history, &why) != 0 || !history ||
	    bht_diagnose(&ev, history, BHT_LATE_NS, &d) != 0)
		bench_die("%s: %s", dir, why.why);
	double seconds = (double)(bench_now_ns() - began) / 1e9;
	getrusage(RUSAGE_SELF, &usage);
	printf("rate %f\nevents %llu\nlost %llu\nverdict %d\nmemory %f\n", (double)d.n_events / seconds / 1e6,
	       (unsigned long long)d.n_events, (unsigned long long)d.lost_events, (int)d.verdict,
	       (double)usage.ru_maxrss / 1024);
	history->close(history);
	bht_diagnosis_free(&d);
	bht_evidence_free(&ev);
	return 0;
}

static uint64_t sum_file(int dir, const char *name, uint64_t *words)
{
	static uint64_t chunk[CHUNK / 8];
	int fd = openat(dir, name, O_RDONLY);
	uint64_t sum = 0;
	struct bhp_ring h;

	if (pread(fd, &h, sizeof(h), 0) != sizeof(h))
		bench_die("%s: no header", name);
	for (uint64_t at = 0, end = h.head * sizeof(struct bhp_record); at < end; at += CHUNK) {
		if (pread(fd, chunk, CHUNK, (off_t)(BHP_RING_HEADER + at)) <= 0)
			bench_die("%s: short", name);
		for (unsigned i = 0; i < CHUNK / 8; i++)
			sum += chunk[i];
	}
	*words += h.head;
	close(fd);
	return sum;
}

static int add_up(const char *path)
{
	DIR *dir = opendir(path);
	uint64_t began = bench_now_ns(), sum = 0, records = 0;

	if (!dir)
		bench_die("%s: cannot be read", path);
	for (struct dirent *e; (e = readdir(dir));)
		if (strstr(e->d_name, ".flight"))
			sum += sum_file(dirfd(dir), e->d_name, &records);
	printf("rate %f\nsum %d\n", (double)records / ((double)(bench_now_ns() - began) / 1e9) / 1e6, sum != 0);
	closedir(dir);
	return 0;
}

/* --- measuring -------------------------------------------------------------------------- */

static void remove_all(const char *path)
{
	DIR *dir = opendir(path);

	if (!dir)
		bench_die("%s: cannot be read", path);
	for (struct dirent *e; (e = readdir(dir));)
		unlinkat(dirfd(dir), e->d_name, 0);
	closedir(dir);
	rmdir(path);
}

static void child(const char *what, const char *arg, const char *flight, const char *prefix, struct bench_set *set)
{
	char both[256];

	snprintf(both, sizeof(both), "%s:%s", what, arg);
	if (bench_child(both, flight, prefix, set) != 0)
		bench_die("%s failed", both);
}

static void measure(struct bench_set *set, unsigned size)
{
	char dir[] = "/var/tmp/bhtrace-bench-XXXXXX", flight[64], prefix[32], peer[32], events[32];

	if (!mkdtemp(dir))
		bench_die("no temporary directory");
	snprintf(flight, sizeof(flight), "file:%s,2G", dir);
	snprintf(events, sizeof(events), "%.0f", sizes[size].events);
	snprintf(prefix, sizeof(prefix), "analyze %s", sizes[size].name);
	snprintf(peer, sizeof(peer), "add %s", sizes[size].name);
	child("record", events, flight, "record", set);
	for (unsigned run = 0; run < sizes[size].runs; run++) {
		child("analyze", dir, NULL, prefix, set);
		child("add", dir, NULL, peer, set);
	}
	remove_all(dir);
}

static double median(const struct bench_set *set, unsigned size, const char *who, const char *key)
{
	char name[64];

	snprintf(name, sizeof(name), "%s %s.%s", who, sizes[size].name, key);
	return bench_median(set, name);
}

static void print_rows(const struct bench_set *set, unsigned size)
{
	char name[96], note[96];
	double rate = median(set, size, "analyze", "rate"), peer = median(set, size, "add", "rate");

	snprintf(name, sizeof(name), "analyze %s recorded events", sizes[size].name);
	snprintf(note, sizeof(note), "%.0f events, %.0f lost", median(set, size, "analyze", "events"),
		 median(set, size, "analyze", "lost"));
	bench_print(&(struct bench_row){ .table = "Analyzing a recorded stream, one core",
					 .name = name,
					 .value = rate,
					 .unit = "M events/s",
					 .peer = "read the files and add up their words",
					 .peer_value = peer,
					 .ratio = rate / peer,
					 .target = size == THE_SIZE ? "value >= 40" : NULL,
					 .note = note });
	snprintf(name, sizeof(name), "peak memory for %s", sizes[size].name);
	bench_print(&(struct bench_row){ .table = "Analyzing a recorded stream, one core",
					 .name = name,
					 .value = median(set, size, "analyze", "memory"),
					 .unit = "MiB" });
}

int main(int argc, char **argv)
{
	static struct bench_set set;

	if (argc > 1 && !strncmp(argv[1], "record:", 7))
		return record(atof(argv[1] + 7));
	if (argc > 1 && !strncmp(argv[1], "analyze:", 8))
		return analyze(argv[1] + 8);
	if (argc > 1 && !strncmp(argv[1], "add:", 4))
		return add_up(argv[1] + 4);
	for (unsigned i = 0; i < N_SIZES; i++)
		for (unsigned k = 0; k < sizes[i].recordings; k++)
			measure(&set, i);
	for (unsigned i = 0; i < N_SIZES; i++)
		print_rows(&set, i);
	return 0;
}
