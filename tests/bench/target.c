/* SPDX-License-Identifier: MIT */
/* A process to be diagnosed: N threads, each with a loop that sleeps, and M
 * bottom halves among them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"
#include "bh.h"

static void do_nothing(void *opaque)
{
	(void)opaque;
}

static void *run(void *loop)
{
	bh_loop_run(loop);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned n_threads = argc == 3 ? (unsigned)atoi(argv[1]) : 0;
	unsigned n_bhs = argc == 3 ? (unsigned)atoi(argv[2]) : 0;

	if (n_threads < 2 || n_bhs == 0)
		bench_die("usage: target THREADS BOTTOM-HALVES");
	/* The main thread counts, too; it waits for its stdin to end. */
	struct bh_loop **loops = calloc(n_threads - 1, sizeof(*loops));
	for (unsigned i = 0; loops && i < n_threads - 1; i++)
		loops[i] = bh_loop_new("bench");
	for (unsigned i = 0; loops && i < n_bhs; i++) {
		struct bh *bh = bh_new(loops[i % (n_threads - 1)], do_nothing, NULL, "bench");
		if (!bh)
			bench_die("no bottom half");
		bh_schedule(bh);
	}
	for (unsigned i = 0; loops && i < n_threads - 1; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, run, loops[i]) != 0)
			bench_die("no thread");
	}
	usleep(200000);
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
