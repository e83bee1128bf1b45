/* SPDX-License-Identifier: MIT */
/*
 * The recorder of bhtrace run and the rate at which a program loses wakeups with stock
 * libuv: tests/foreign/uv-race, started plainly and by bhtrace run in turn.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

enum { RUNS = 30, ROUNDS = 2000 };

static const char TARGET[] = "ratio >= 0.9";

/* Wakeups lost in a million rounds. */
static double lost(const char *bhtrace, const char *program, const char *option)
{
	unsigned long long rounds, n;
	char command[1024], line[128];
	bool counted = false;

	snprintf(command, sizeof(command), "%s%s %s --count --rounds %d %s", bhtrace ? bhtrace : "",
		 bhtrace ? " run --" : "", program, ROUNDS, option);
	FILE *out = popen(command, "r");
	while (out && fgets(line, sizeof(line), out))
		counted |= sscanf(line, "done rounds=%llu lost=%llu", &rounds, &n) == 2;
	if (!out || pclose(out) != 0 || !counted || rounds == 0)
		bench_die("\"%s\" failed", command);
	return (double)n * 1e6 / (double)rounds;
}

static void print_row(const struct bench_set *set, const char *name)
{
	bench_print(&(struct bench_row){ .table = "bhtrace run and the rate of lost wakeups",
					 .name = name,
					 .value = bench_median(set, "on"),
					 .unit = "lost/1e6 rounds",
					 .peer = "started plainly",
					 .peer_value = bench_median(set, "off"),
					 .ratio = bench_paired(set, "on", "off"),
					 .target = TARGET });
}

static void measure(struct bench_set *set, char **argv, const char *option, const char *name)
{
	for (unsigned i = 0; i < RUNS * 2 && bench_cpus() >= 2; i++) {
		/* They take turns in going first. */
		const bool on = (i ^ i >> 1) & 1;
		bench_add(set, on ? "on" : "off", lost(on ? argv[1] : NULL, argv[2], option));
	}
	print_row(set, name);
}

int main(int argc, char **argv)
{
	static struct bench_set plain, tickets;

	if (argc != 3)
		bench_die("usage: uvrun BHTRACE UV-RACE");
	measure(&plain, argv, "--no-tickets", "stock libuv, no tickets");
	measure(&tickets, argv, "", "stock libuv, with tickets");
	return 0;
}
