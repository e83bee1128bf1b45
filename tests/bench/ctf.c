/* SPDX-License-Identifier: MIT */
/*
 * How fast a recording is read, and in how much memory. It is written here, as two
 * producers and their loops would have filled it. The peer is babeltrace2 reading the
 * same directory into its dummy sink: neither does anything with the events.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "bench.h"
#include "ctf.h"
#include "recording.h"

enum { RUNS = 5, PAIRS = 2, APART = 250 /* ticks */ };

static const uint64_t EVENTS = 10000000, BIG = UINT64_C(2) << 30, ROOM = UINT64_C(5) << 30;
static const char table[] = "Reading a recording, one core", name[] = "history";

static char root[] = "/var/tmp/bhtrace-bench-XXXXXX";
static int dir = -1;

/* --- the recording ----------------------------------------------------------------------- */

/* One thread. */
struct writer {
	struct bht_ctf_stream *stream;
	uint64_t loop, bh;
	uint32_t tid;
};

static void put(const struct writer *w, struct bhp_record r, const char *text)
{
	const struct bht_event e = { .r = r, .tid = w->tid, .text = text };

	if (bht_ctf_put(w->stream, &e) != 0)
		bench_die("%s: an event could not be written", root);
}

#define PUT(w, time, event, ...) put(w, bhp_encode_##event(time, &(struct bhp_##event){ __VA_ARGS__ }), NULL)

/* What happens to a piece of work, by step. */
static void put_step(const struct writer *producer, unsigned step, uint64_t time, uint64_t ticket)
{
	const struct writer *w = producer, *loop = producer + 1;
	void *l = (void *)w->loop, *bh = (void *)w->bh;

	switch (step) {
	case 0:
		PUT(w, time, schedule, .loop = l, .bh = bh, .kind = BHP_KIND_NORMAL, .took = 40, .ticket = ticket);
		break;
	case 1:
		PUT(w, time, notify, .loop = l, .bh = bh);
		break;
	case 2:
		PUT(loop, time, execute_begin, .loop = l, .bh = bh);
		break;
	case 3:
		PUT(loop, time, consume, .loop = l, .bh = bh, .ticket = ticket);
		break;
	default:
		PUT(loop, time, execute_end, .loop = l, .bh = bh, .begin = time - 2 * PAIRS * APART);
	}
}

static void put_beginning(const struct writer *w, uint64_t time)
{
	put(w, bhp_encode_loop_new(time, &(struct bhp_loop_new){ .loop = (void *)w->loop }), "bench");
	put(w, bhp_encode_bh_new(time, &(struct bhp_bh_new){ .loop = (void *)w->loop, .bh = (void *)w->bh }), "bench");
}

/* Streams take turns with each event, which is the most work for who merges them. */
static void put_all(struct bht_ctf_writer *ctf, struct writer *w, uint64_t time, uint64_t events, uint64_t bytes)
{
	for (unsigned i = 0; i < PAIRS; i++)
		put_beginning(&w[2 * i + 1], time);
	for (uint64_t n = 1;; n++) {
		for (unsigned at = 0; at < 5 * PAIRS; at++)
			put_step(&w[at % PAIRS * 2], at / PAIRS, time += APART, n);
		const struct bht_ctf_count count = bht_ctf_count(ctf);
		if (bytes ? count.bytes >= bytes : n * 5 * PAIRS >= events)
			return;
	}
}

/* Of at least that many events or, if not 0, bytes. */
static struct bht_ctf_count record(uint64_t events, uint64_t bytes)
{
	const struct bht_ctf_about about = { .pid = 4711,
					     .command = "bench",
					     .hostname = "bench",
					     .ticks_per_ns = 2.5,
					     .clock = { 2500000000, 1000000000 },
					     .realtime_ns = UINT64_C(1700000000000000000) };
	struct bht_refusal why = { 0 };
	struct writer w[2 * PAIRS];
	struct bht_ctf_writer *ctf = bht_ctf_create(dir, name, root, &about, &why);

	for (unsigned i = 0; ctf && i < 2 * PAIRS; i++) {
		w[i] = (struct writer){ bht_ctf_add(ctf, &why), 0x1000 + i / 2 * 0x1000, 0x9000 + i / 2 * 0x1000,
					4711 + i };
		if (!w[i].stream)
			bench_die("%s", why.why);
	}
	if (!ctf)
		bench_die("%s", why.why);
	put_all(ctf, w, about.clock.ticks, events, bytes);
	for (unsigned i = 0; i < 2 * PAIRS; i++)
		if (bht_ctf_flush(w[i].stream) != 0)
			bench_die("%s: a packet could not be written", root);
	const struct bht_ctf_count count = bht_ctf_count(ctf);
	if (bht_ctf_close(ctf, &why) != 0)
		bench_die("%s", why.why);
	return count;
}

static void clean_up(void)
{
	bht_ctf_remove(dir, name);
	rmdir(root);
}

/* --- subjects ------------------------------------------------------------------------------ */

/* CPU time of the whole process: all have one thread and wait for nothing. */
static int print_cost(int who)
{
	struct rusage u;

	getrusage(who, &u);
	printf("seconds %f\nmemory %f\n",
	       (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
		       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6,
	       (double)u.ru_maxrss / 1024);
	return 0;
}

static int read_all(const char *path)
{
	struct bht_event e[BHT_BATCH];
	struct bht_source *history;
	struct bht_ctf_about about;
	struct bht_refusal why;
	uint64_t events = 0;
	int n;

	if (bht_ctf_open(AT_FDCWD, path, ".", &about, &history, &why) != 0)
		bench_die("%s", why.why);
	while ((n = history->next(history, e, BHT_BATCH)) > 0)
		for (int i = 0; i < n; i++)
			events += bht_event_id(&e[i]) != BHT_ID_LOSS;
	if (n < 0)
		bench_die("%s: %s", path, strerror(-n));
	history->close(history);
	printf("events %llu\n", (unsigned long long)events);
	return print_cost(RUSAGE_SELF);
}

static int diagnose(const char *path)
{
	struct bht_recording rec = { 0 };
	struct bht_refusal why = { 0 };
	struct bht_diagnosis *d = NULL;

	if (bht_recording_open(&path, 1, &rec, &why) != 0)
		bench_die("%s", why.why);
	if (bht_recording_diagnose(&rec, BHT_LATE_NS, &d) != 0 || rec.n != 1 || d->lost_events)
		bench_die("%s: no diagnosis of all of it", path);
	printf("events %llu\n", (unsigned long long)d->n_events);
	bht_diagnosis_free(d);
	free(d);
	bht_recording_close(&rec);
	return print_cost(RUSAGE_SELF);
}

static int read_by_peer(const char *path)
{
	char command[256];

	snprintf(command, sizeof(command), "exec babeltrace2 --log-level=NONE '%s' -c sink.utils.dummy", path);
	if (system(command) != 0)
		bench_die("%s failed", command);
	return print_cost(RUSAGE_CHILDREN);
}

/* The dummy sink does not say what it got. */
static int count_by_peer(const char *path)
{
	char command[256], line[256];
	uint64_t events = 0;

	snprintf(command, sizeof(command), "babeltrace2 '%s' -c sink.utils.counter -p step=+0", path);
	FILE *out = popen(command, "r");
	while (out && fgets(line, sizeof(line), out))
		if (strstr(line, "Event message"))
			events = strtoull(line, NULL, 10);
	if (!out || pclose(out) != 0)
		bench_die("%s failed", command);
	printf("events %llu\n", (unsigned long long)events);
	return 0;
}

/* --- measuring ------------------------------------------------------------------------------ */

static void child(const char *what, const char *part, struct bench_set *set, const char *key)
{
	char arg[128];

	snprintf(arg, sizeof(arg), "%s:%s/%s", what, root, part);
	if (bench_child(arg, NULL, key, set) != 0)
		bench_die("%s failed", arg);
}

static void check(const struct bench_set *set, const char *key, struct bht_ctf_count count)
{
	const double events = bench_median(set, key);

	if (events != (double)count.events)
		bench_die("%s: %.0f of %llu", key, events, (unsigned long long)count.events);
}

static void measure_speed(struct bench_set *set, bool peer)
{
	const struct bht_ctf_count count = record(EVENTS, 0);

	bench_add(set, "bytes", (double)count.bytes / (double)count.events);
	bench_add(set, "events", (double)count.events);
	if (peer) {
		child("count", name, set, "count");
		check(set, "count.events", count);
	}
	for (unsigned run = 0; run < RUNS; run++) {
		child("read", name, set, "read");
		if (peer)
			child("dummy", name, set, "dummy");
	}
	check(set, "read.events", count);
	bht_ctf_remove(dir, name);
}

/* False: there is no room for it. */
static bool measure_memory(struct bench_set *set)
{
	struct statvfs disk;

	if (fstatvfs(dir, &disk) != 0 || (uint64_t)disk.f_bavail * disk.f_frsize < ROOM)
		return false;
	const struct bht_ctf_count count = record(0, BIG);
	child("read", name, set, "big");
	check(set, "big.events", count);
	child("diagnose", "", set, "diagnose");
	check(set, "diagnose.events", count);
	bht_ctf_remove(dir, name);
	return true;
}

static void print_rows(const struct bench_set *set, const char *no_peer, const char *no_room)
{
	const double events = bench_median(set, "events") / 1e6, bytes = bench_median(set, "bytes");

	bench_print(&(struct bench_row){ .table = table,
					 .name = "10^7 events in 4 streams",
					 .value = events / bench_median(set, "read.seconds"),
					 .unit = "M events/s",
					 .peer = "babeltrace2, dummy sink",
					 .peer_value = events / bench_median(set, "dummy.seconds"),
					 .ratio = bench_paired(set, "dummy.seconds", "read.seconds"),
					 .target = "ratio >= 10",
					 .note = no_peer });
	bench_print(&(struct bench_row){ .table = table,
					 .name = "size of an event",
					 .value = bytes,
					 .unit = "bytes",
					 .peer = "record of the flight recorder",
					 .peer_value = sizeof(struct bhp_record),
					 .ratio = sizeof(struct bhp_record) / bytes });
	bench_print(&(struct bench_row){ .table = table,
					 .name = "peak memory for 2 GiB",
					 .value = bench_median(set, "big.memory"),
					 .unit = "MiB",
					 .target = "value <= 200",
					 .note = no_room });
	bench_print(&(struct bench_row){ .table = table,
					 .name = "the same, diagnosed",
					 .value = bench_median(set, "diagnose.memory"),
					 .unit = "MiB",
					 .target = "value <= 200",
					 .note = no_room });
}

int main(int argc, char **argv)
{
	static struct bench_set set;

	if (argc > 1 && !strncmp(argv[1], "read:", 5))
		return read_all(argv[1] + 5);
	if (argc > 1 && !strncmp(argv[1], "diagnose:", 9))
		return diagnose(argv[1] + 9);
	if (argc > 1 && !strncmp(argv[1], "dummy:", 6))
		return read_by_peer(argv[1] + 6);
	if (argc > 1 && !strncmp(argv[1], "count:", 6))
		return count_by_peer(argv[1] + 6);
	dir = mkdtemp(root) ? open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (dir < 0)
		bench_die("no temporary directory");
	atexit(clean_up);
	const bool peer = system("command -v babeltrace2 >/dev/null") == 0;
	measure_speed(&set, peer);
	const bool room = measure_memory(&set);
	print_rows(&set, peer ? NULL : "no babeltrace2", room ? NULL : "less than 5 GiB free in /var/tmp");
	return 0;
}
