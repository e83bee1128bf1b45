/* SPDX-License-Identifier: MIT */
/*
 * libbh beside other event loops: scheduling from one thread what another
 * thread's loop runs. One process measures all of them, one after the other,
 * several times; a second one, with BH_FLIGHT=off, only libbh.
 *
 * The loop has the first CPU, producers share the second. What is measured:
 *
 *   coalesced   a post of what is posted already, the loop not running
 *   latency     from before the post to the start of the callback, the loop
 *               asleep for some time (idle), or made busy by a handle that
 *               posts itself (busy)
 *   throughput  callbacks a second. Each producer has HANDLES handles and posts
 *               whichever is not in flight, so that each post is one callback
 *               and nothing coalesces; it yields when all are in flight
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "peer.h"

enum {
	RUNS = 9,
	COALESCED = 50000,
	CHUNKS = 21,
	LATENCIES = 3000,
	QUIET_NS = 25000, /* after this the loop is asleep */
	HANDLES = 64,
	PRODUCERS_MAX = 2,
	THROUGHPUT_NS = 150000000
};

static const struct peer *const peers[] = {
	&peer_bh,
#ifdef HAVE_UV
	&peer_uv,
#endif
#ifdef HAVE_GLIB
	&peer_glib,
#endif
#ifdef HAVE_EVENT
	&peer_event,
#endif
};
static const char *const missing[] = {
#ifndef HAVE_UV
	"libuv",
#endif
#ifndef HAVE_GLIB
	"GLib",
#endif
#ifndef HAVE_EVENT
	"libevent",
#endif
	NULL
};
enum { N_PEERS = sizeof(peers) / sizeof(peers[0]) };

static void print_sample(const struct peer *peer, const char *what, double value)
{
	printf("%s.%s %.4f\n", peer->key, what, value);
}

/* --- a loop and its thread ---------------------------------------------------- */

struct running {
	const struct peer *peer;
	void *loop;
	pthread_t thread;
};

static void *loop_thread(void *arg)
{
	struct running *r = arg;

	bench_pin(0);
	r->peer->run(r->loop);
	return NULL;
}

static void open_loop(struct running *r, const struct peer *peer)
{
	r->peer = peer;
	r->loop = peer->open();
	if (!r->loop)
		bench_die("%s: no loop", peer->name);
}

static void *new_handle(struct running *r, peer_cb *cb, void *arg)
{
	void *handle = r->peer->handle(r->loop, cb, arg);

	if (!handle)
		bench_die("%s: no handle", r->peer->name);
	return handle;
}

static void start(struct running *r)
{
	if (pthread_create(&r->thread, NULL, loop_thread, r) != 0)
		bench_die("no thread");
}

static void stop(struct running *r)
{
	r->peer->stop(r->loop);
	pthread_join(r->thread, NULL);
	r->peer->close(r->loop);
}

/* --- coalesced ------------------------------------------------------------------ */

static void do_nothing(void *arg)
{
	(void)arg;
}

static void measure_coalesced(const struct peer *peer)
{
	double chunk[CHUNKS];
	struct running r;

	if (!peer->coalesces)
		return;
	open_loop(&r, peer);
	void *handle = new_handle(&r, do_nothing, NULL);
	peer->post(handle);
	for (unsigned k = 0; k < CHUNKS; k++) {
		uint64_t begin = bench_now_ns();
		for (unsigned i = 0; i < COALESCED; i++)
			peer->post(handle);
		chunk[k] = (double)(bench_now_ns() - begin) / COALESCED;
	}
	print_sample(peer, "coalesced", bench_percentile(chunk, CHUNKS, 0.5));
	peer->close(r.loop);
}

/* --- latency --------------------------------------------------------------------- */

struct ping {
	_Alignas(64) _Atomic uint64_t called_ns;
};

static void note_time(void *arg)
{
	atomic_store_explicit(&((struct ping *)arg)->called_ns, bench_now_ns(), memory_order_release);
}

struct busy {
	const struct peer *peer;
	void *handle;
	_Atomic bool over;
};

static void post_again(void *arg)
{
	struct busy *busy = arg;

	if (!atomic_load_explicit(&busy->over, memory_order_relaxed))
		busy->peer->post(busy->handle);
}

static double one_latency(const struct peer *peer, void *handle, struct ping *ping)
{
	uint64_t called, begin, quiet = bench_now_ns() + QUIET_NS;

	while (bench_now_ns() < quiet)
		;
	atomic_store_explicit(&ping->called_ns, 0, memory_order_relaxed);
	begin = bench_now_ns();
	peer->post(handle);
	while (!(called = atomic_load_explicit(&ping->called_ns, memory_order_acquire)))
		;
	return (double)(called - begin);
}

static void print_latency(const struct peer *peer, const char *what, double *sample)
{
	char key[16];

	for (unsigned percent = 50; percent <= 99; percent += 49) {
		snprintf(key, sizeof(key), "%s%u", what, percent);
		print_sample(peer, key, bench_percentile(sample, LATENCIES, percent / 100.0));
	}
}

/* All loops are there and sleep, and one at a time is woken: what waking costs
 * at the moment is the same for all. */
static void measure_idle(unsigned n_peers)
{
	static double sample[N_PEERS][LATENCIES];
	struct ping ping = { 0 };
	struct running r[N_PEERS];
	void *handle[N_PEERS];
	unsigned taken[N_PEERS] = { 0 }, random = 1;

	for (unsigned k = 0; k < n_peers; k++) {
		open_loop(&r[k], peers[k]);
		handle[k] = new_handle(&r[k], note_time, &ping);
		start(&r[k]);
	}
	/* In random order: nobody always comes after the same one. */
	for (unsigned left = LATENCIES * n_peers; left > 0;) {
		unsigned k = rand_r(&random) % n_peers;
		if (taken[k] == LATENCIES)
			continue;
		sample[k][taken[k]++] = one_latency(peers[k], handle[k], &ping);
		left--;
	}
	for (unsigned k = 0; k < n_peers; k++) {
		stop(&r[k]);
		print_latency(peers[k], "idle", sample[k]);
	}
}

static void measure_busy(const struct peer *peer)
{
	static double sample[LATENCIES];
	struct ping ping = { 0 };
	struct busy busy = { .peer = peer };
	struct running r;

	open_loop(&r, peer);
	void *handle = new_handle(&r, note_time, &ping);
	busy.handle = new_handle(&r, post_again, &busy);
	start(&r);
	peer->post(busy.handle);
	for (unsigned i = 0; i < LATENCIES; i++)
		sample[i] = one_latency(peer, handle, &ping);
	atomic_store(&busy.over, true);
	stop(&r);
	print_latency(peer, "busy", sample);
}

/* --- throughput -------------------------------------------------------------------- */

struct item {
	_Alignas(64) _Atomic bool in_flight;
	void *handle;
};

struct producer {
	const struct peer *peer;
	struct item item[HANDLES];
	pthread_t thread;
};

static _Atomic bool producing;
/* Only the loop's thread counts. */
static _Alignas(64) _Atomic uint64_t delivered;

static void deliver(void *arg)
{
	uint64_t n = atomic_load_explicit(&delivered, memory_order_relaxed);

	atomic_store_explicit(&delivered, n + 1, memory_order_relaxed);
	atomic_store_explicit(&((struct item *)arg)->in_flight, false, memory_order_release);
}

static void *produce(void *arg)
{
	struct producer *p = arg;

	bench_pin(1);
	while (atomic_load_explicit(&producing, memory_order_relaxed)) {
		unsigned posted = 0;
		for (unsigned i = 0; i < HANDLES; i++) {
			struct item *item = &p->item[i];
			if (atomic_load_explicit(&item->in_flight, memory_order_acquire))
				continue;
			atomic_store_explicit(&item->in_flight, true, memory_order_relaxed);
			p->peer->post(item->handle);
			posted++;
		}
		if (!posted)
			sched_yield();
	}
	return NULL;
}

static void wait_ns(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };

	nanosleep(&t, NULL);
}

static void measure_throughput(const struct peer *peer, unsigned n, const char *what)
{
	static struct producer producers[PRODUCERS_MAX];
	struct running r;

	open_loop(&r, peer);
	memset(producers, 0, sizeof(producers));
	for (unsigned i = 0; i < n * HANDLES; i++) {
		struct item *item = &producers[i / HANDLES].item[i % HANDLES];
		item->handle = new_handle(&r, deliver, item);
	}
	start(&r);
	atomic_store(&producing, true);
	for (unsigned i = 0; i < n; i++) {
		producers[i].peer = peer;
		if (pthread_create(&producers[i].thread, NULL, produce, &producers[i]) != 0)
			bench_die("no thread");
	}
	wait_ns(THROUGHPUT_NS / 10);
	uint64_t begin = bench_now_ns(), before = atomic_load(&delivered);
	wait_ns(THROUGHPUT_NS);
	uint64_t count = atomic_load(&delivered) - before;
	double seconds = (double)(bench_now_ns() - begin) / 1e9;
	atomic_store(&producing, false);
	for (unsigned i = 0; i < n; i++)
		pthread_join(producers[i].thread, NULL);
	stop(&r);
	print_sample(peer, what, (double)count / seconds / 1e6);
}

static void measure(unsigned n_peers)
{
	bench_pin(1);
	measure_idle(n_peers);
	for (unsigned k = 0; k < n_peers; k++) {
		measure_coalesced(peers[k]);
		measure_busy(peers[k]);
		measure_throughput(peers[k], 1, "rate1");
		measure_throughput(peers[k], 2, "rate2");
	}
}

/* --- rows ---------------------------------------------------------------------------- */

struct quantity {
	const char *key, *name, *unit;
	bool more_is_better;
	const char *target;
};

static const struct quantity quantities[] = {
	{ "coalesced", "coalesced schedule", "ns", false, "value <= 15" },
	{ "idle50", "latency, loop asleep, median", "ns", false, "ratio >= 1" },
	{ "idle99", "latency, loop asleep, 99 %", "ns", false, "ratio >= 1" },
	{ "busy50", "latency, loop busy, median", "ns", false, NULL },
	{ "busy99", "latency, loop busy, 99 %", "ns", false, NULL },
	{ "rate1", "throughput, 1 producer", "1e6/s", true, "ratio >= 1" },
	{ "rate2", "throughput, 2 producers", "1e6/s", true, "ratio >= 1" },
};

static void print_beside(const struct bench_set *set, const struct quantity *q, const char *name, const char *key,
			 const char *peer, const char *peer_key, const char *target)
{
	char own[64], other[64], full[96];

	snprintf(own, sizeof(own), "%s.%s", key, q->key);
	snprintf(other, sizeof(other), "%s.%s", peer_key, q->key);
	snprintf(full, sizeof(full), "%s, %s", q->name, name);
	double ratio = bench_paired(set, own, other);
	bench_print(&(struct bench_row){ .table = "libbh beside other event loops",
					 .name = full,
					 .value = bench_median(set, own),
					 .unit = q->unit,
					 .peer = peer,
					 .peer_value = bench_median(set, other),
					 .ratio = q->more_is_better ? ratio : 1 / ratio,
					 .target = target });
}

static void print_quantity(const struct bench_set *set, const struct quantity *q)
{
	char key[32];

	for (unsigned i = 1; i < N_PEERS; i++) {
		snprintf(key, sizeof(key), "on.%s", peers[i]->key);
		if (strcmp(q->key, "coalesced") != 0 || peers[i]->coalesces)
			print_beside(set, q, "recorder on", "on.bh", peers[i]->name, key, q->target);
	}
	print_beside(set, q, "recorder off", "off.bh", "libbh, recorder on", "on.bh", NULL);
}

static void print_missing(const char *name)
{
	bench_print(&(struct bench_row){ .table = "libbh beside other event loops",
					 .name = name,
					 .note = "not installed when this was built",
					 .unit = "" });
}

static void print_rows(const struct bench_set *set)
{
	for (unsigned i = 0; i < sizeof(quantities) / sizeof(quantities[0]); i++)
		print_quantity(set, &quantities[i]);
	for (unsigned i = 0; missing[i]; i++)
		print_missing(missing[i]);
}

int main(int argc, char **argv)
{
	static struct bench_set set;

	if (argc > 1) {
		/* Once more, see bench_child(): everybody, or only libbh. */
		measure(strcmp(argv[1], "all") == 0 ? N_PEERS : 1);
		return 0;
	}
	for (unsigned run = 0; run < RUNS; run++)
		if (bench_child("all", NULL, "on", &set) != 0 || bench_child("libbh", "off", "off", &set) != 0)
			bench_die("a run failed");
	print_rows(&set);
	return 0;
}
