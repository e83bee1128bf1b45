/* SPDX-License-Identifier: MIT */
/*
 * uv-race: a wakeup lost between a program and stock libuv.
 *
 * uv_async_send() returns when it finds `pending` set already, after a relaxed load.
 * To order what it announces before that load is up to the caller (libuv #349, #4584,
 * #5149). This producer does not: it writes a result, counts it in `produced` and
 * sends. While the count is still in the store buffer, the loop clears `pending` and
 * its callback reads the old one. In the variant "fixed" a full fence stands before
 * the call.
 *
 * A round is two pieces of work, a random time apart, and ends when both were seen; so
 * a piece that nobody was told of is never made good by a later one. The results go to
 * memory that is in no cache, which keeps the store buffer full, as real work does. Nothing here delays anybody: the loop has a processor of its own and
 * other things to do and, as with adaptive polling, looks for work for a while before it
 * sleeps.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "uv/bh-uv.h"

enum { POOL_LINES = 1 << 19, LINES = 4, PIECES = 2, GAP_STEPS = 16384, LOOP_STEPS = 8192 };
enum { SPINS = 20000, POLLS = 100, CONTROL_ROUNDS = 200000, SAFETY_SECONDS = 600 };
enum { LOOKS_A_SECOND = 20, LOOKS_UNTIL_HUNG = 10, PATIENCE_NS = 1000000 };
enum { LINE = 128, HUGE_PAGE = 2 * 1024 * 1024 };

/* The payload, and how much of it the callback has seen: for observers, too. */
_Alignas(LINE) volatile uint64_t produced;
_Alignas(LINE) volatile uint64_t consumed;

/* Results go to lines of a pool larger than the caches, in an order that no prefetcher knows. */
struct line {
	_Alignas(LINE) volatile uint64_t value;
};
static struct line *pool;
static struct line *volatile current[PIECES]; /* the last result of the ticket, modulo PIECES */

static _Alignas(LINE) _Atomic uint64_t rounds;
static _Atomic uint64_t lost;
static _Atomic bool waiting;
static sem_t progress;
static uv_loop_t loop;
static uv_async_t completion;
static uv_idle_t idle;        /* active: the loop polls without sleeping */
static unsigned polls;        /* since the last piece */
static volatile uint64_t sum; /* of the results */
static uint64_t max_rounds, end_ns;
static bool fixed, tickets = true, count, idle_after;
static pid_t loop_tid;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void say(const char *what)
{
	printf("%s pid=%d\nafter rounds=%llu\n", what, getpid(), (unsigned long long)atomic_load(&rounds));
	fflush(stdout);
}

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "uv-race: %s\n", what);
	exit(1);
}

/* 0 is the first processor this process may use, 1 the second. */
static void pin(unsigned n)
{
	cpu_set_t allowed, mine;
	int cpu = -1;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) < 2)
		return;
	do
		while (!CPU_ISSET(++cpu, &allowed))
			;
	while (n-- > 0);
	CPU_ZERO(&mine);
	CPU_SET(cpu, &mine);
	sched_setaffinity(0, sizeof(mine), &mine);
}

/* --- who sleeps ------------------------------------------------------------------ */

static bool asleep(const char *tid)
{
	char path[64], stat[256] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/stat", tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true; /* has exited */
	if (read(fd, stat, sizeof(stat) - 1) <= 0)
		stat[0] = '\0';
	close(fd);
	const char *end = strrchr(stat, ')'); /* of the thread's name; the state follows */
	return end && end[1] == ' ' && end[2] == 'S';
}

static bool all_asleep(void)
{
	const struct dirent *entry;
	bool all = true;
	DIR *tasks = opendir("/proc/self/task");

	need(tasks, "no /proc");
	while (all && (entry = readdir(tasks)))
		all = entry->d_name[0] == '.' || atoi(entry->d_name) == gettid() || asleep(entry->d_name);
	closedir(tasks);
	return all;
}

static int pending(void)
{
	return *(volatile int *)&completion.pending;
}

static bool stuck(void)
{
	return consumed != produced && pending() == 0 && all_asleep();
}

/* Says it when the program hangs. It only looks. */
static void *watch(void *arg)
{
	const struct timespec nap = { .tv_nsec = 1000000000 / LOOKS_A_SECOND };
	uint64_t last = UINT64_MAX;

	pthread_setname_np(pthread_self(), "monitor");
	for (unsigned same = 0; same < LOOKS_UNTIL_HUNG;) {
		nanosleep(&nap, NULL);
		uint64_t now = consumed;
		same = now == last && stuck() ? same + 1 : 0;
		last = now;
	}
	say("hung");
	for (;;)
		pause();
	return arg;
}

/* --- the loop ---------------------------------------------------------------------- */

static uint32_t next_random(void)
{
	static __thread uint32_t r = 2463534242;

	r ^= r << 13, r ^= r >> 17, r ^= r << 5;
	return r;
}

static void compute(uint32_t steps)
{
	while (steps-- > 0)
		__asm__ volatile("");
}

/* What else the loop has to do; until it has looked in vain for a while. */
static void look_again(uv_idle_t *handle)
{
	compute(next_random() % LOOP_STEPS);
	if (++polls > POLLS)
		uv_idle_stop(handle);
}

static void complete(uv_async_t *handle)
{
	uint64_t seen = produced, last = consumed;

	if (seen == last)
		return;
	polls = 0;
	uv_idle_start(&idle, look_again);
	for (uint64_t ticket = last + 1; ticket <= seen; ticket++)
		sum += current[ticket % PIECES]->value;
	if (tickets && bh_uv_consume)
		while (last++ < seen)
			bh_uv_consume(handle, last);
	consumed = seen;
	/* Against the store of `waiting` and the load of `consumed` in await(). */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_exchange(&waiting, false))
		sem_post(&progress);
}

/* --- the producer -------------------------------------------------------------------- */

static void produce(uint64_t ticket)
{
	struct line *result = NULL;

	if (tickets && bh_uv_ticket)
		bh_uv_ticket(&completion, ticket);
	for (unsigned i = 0; i < LINES; i++) {
		result = &pool[next_random() % POOL_LINES];
		result->value = ticket;
	}
	current[ticket % PIECES] = result;
	produced = ticket;
	if (fixed)
		atomic_thread_fence(memory_order_seq_cst);
	uv_async_send(&completion);
}

/* Whether the wakeup was lost: the loop sleeps and nobody tells it. */
static bool is_lost(uint64_t ticket)
{
	char tid[16];

	snprintf(tid, sizeof(tid), "%d", loop_tid);
	return consumed < ticket && pending() == 0 && asleep(tid) && consumed < ticket && pending() == 0;
}

/* With --count: looks whether the wakeup was lost, and makes up for it. */
static void await_or_rescue(uint64_t ticket)
{
	const uint64_t patience = now_ns() + PATIENCE_NS;

	while (consumed < ticket) {
		if (now_ns() < patience || !is_lost(ticket))
			continue;
		atomic_fetch_add(&lost, 1);
		uv_async_send(&completion);
		while (consumed < ticket)
			sched_yield();
	}
}

static void await(uint64_t ticket)
{
	for (unsigned i = 0; i < SPINS; i++)
		if (consumed == ticket)
			return;
	while (consumed != ticket && !count) {
		atomic_store(&waiting, true);
		if (consumed == ticket && atomic_exchange(&waiting, false))
			return;
		while (sem_wait(&progress) != 0)
			;
	}
	if (count)
		await_or_rescue(ticket);
}

static void *work(void *arg)
{
	uint64_t ticket = 0, done = 0;

	pthread_setname_np(pthread_self(), "producer");
	pin(1);
	while ((!max_rounds || done < max_rounds) && (!end_ns || done % 64 || now_ns() < end_ns)) {
		for (unsigned n = 0; n < PIECES; n++) {
			produce(++ticket);
			compute(next_random() % GAP_STEPS);
		}
		await(ticket);
		atomic_store_explicit(&rounds, ++done, memory_order_relaxed);
	}
	if (idle_after) {
		say("idle");
		for (;;)
			pause();
	}
	printf("done rounds=%llu lost=%llu\n", (unsigned long long)done, (unsigned long long)atomic_load(&lost));
	fflush(stdout);
	_exit(0);
	return arg;
}

/* --- options ---------------------------------------------------------------------------- */

static uint64_t number(const char *text)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (end == text || *end || *text == '-') {
		fprintf(stderr, "uv-race: %s: not a number\n", text);
		exit(2);
	}
	return n;
}

static void read_options(int argc, char **argv)
{
	static const struct option options[] = {
		{ "variant", required_argument, NULL, 'v' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "seconds", required_argument, NULL, 's' },
		{ "no-tickets", no_argument, NULL, 't' },
		{ "count", no_argument, NULL, 'c' },
		{ "idle-after", no_argument, NULL, 'i' },
		{ "max-seconds", required_argument, NULL, 'm' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t safety = SAFETY_SECONDS;
	int key;

	max_rounds = UINT64_MAX;
	while ((key = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (key == 'v' && (!strcmp(optarg, "fixed") || !strcmp(optarg, "racy")))
			fixed = *optarg == 'f';
		else if (key == 'r')
			max_rounds = number(optarg);
		else if (key == 's')
			end_ns = now_ns() + number(optarg) * 1000000000u;
		else if (key == 'm')
			safety = number(optarg);
		else if (key == 't')
			tickets = false;
		else if (key == 'c')
			count = true;
		else if (key == 'i')
			idle_after = true;
		else {
			fprintf(stderr, "usage: uv-race [--variant racy|fixed] [--rounds N] [--seconds N]\n"
					"               [--max-seconds N] [--no-tickets] [--count] [--idle-after]\n");
			exit(2);
		}
	}
	if (max_rounds == UINT64_MAX)
		max_rounds = fixed && !end_ns ? CONTROL_ROUNDS : 0;
	alarm((unsigned)safety);
}

static void start(void *(*run)(void *))
{
	pthread_t thread;

	need(pthread_create(&thread, NULL, run, NULL) == 0, "no thread");
	pthread_detach(thread);
}

int main(int argc, char **argv)
{
	read_options(argc, argv);
	loop_tid = gettid();
	sem_init(&progress, 0, 0);
	/* In pages of one size, wherever it lies: what a store to it takes depends on that. */
	pool = aligned_alloc(HUGE_PAGE, POOL_LINES * sizeof(*pool));
	need(pool, "no memory");
	madvise(pool, POOL_LINES * sizeof(*pool), MADV_NOHUGEPAGE);
	memset(pool, 1, POOL_LINES * sizeof(*pool));
	need(uv_loop_init(&loop) == 0 && uv_async_init(&loop, &completion, complete) == 0, "no loop");
	uv_idle_init(&loop, &idle);
	start(work);
	if (!count)
		start(watch);
	pin(0);
	uv_run(&loop, UV_RUN_DEFAULT);
	return 1;
}
