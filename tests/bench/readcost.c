/* SPDX-License-Identifier: MIT */
/* What reading a process costs: the time that bhtrace needs for its evidence,
 * and for how long it stops the process. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { RUNS = 7 };

static struct {
	const char *threads, *bhs, *target;
} const sizes[] = {
	{ "3", "10", "value <= 1" },
	{ "64", "10000", "value <= 50" },
};

struct target {
	pid_t pid;
	int in; /* it ends when this is closed */
};

static struct target start_target(const char *program, const char *threads, const char *bhs)
{
	int in[2], out[2];
	char ready[8] = "";

	if (pipe(in) != 0 || pipe(out) != 0)
		bench_die("no pipe");
	pid_t pid = fork();
	if (pid == 0) {
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		close(in[1]);
		execl(program, program, threads, bhs, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	if (pid < 0 || read(out[0], ready, sizeof(ready) - 1) <= 0)
		bench_die("%s did not start", program);
	close(out[0]);
	return (struct target){ pid, in[1] };
}

static void stop_target(struct target t)
{
	close(t.in);
	waitpid(t.pid, NULL, 0);
}

/* The cost that one diagnosis states. Its exit code is its verdict. */
static json_t *cost_of(const char *bhtrace, pid_t pid)
{
	char command[512];
	json_error_t error;

	snprintf(command, sizeof(command), "%s diagnose -p %d --json", bhtrace, (int)pid);
	FILE *out = popen(command, "r");
	json_t *report = out ? json_loadf(out, 0, &error) : NULL;
	if (out)
		pclose(out);
	json_t *cost = json_incref(json_object_get(report, "cost"));
	json_decref(report);
	if (!json_is_number(json_object_get(cost, "read_us")) || !json_is_number(json_object_get(cost, "stopped_us")))
		bench_die("\"%s\" states no cost", command);
	return cost;
}

static void measure(const char *bhtrace, const char *program, struct bench_set *set, unsigned i)
{
	struct target t = start_target(program, sizes[i].threads, sizes[i].bhs);
	json_t *cost = cost_of(bhtrace, t.pid);

	bench_add(set, i ? "read 1" : "read 0", json_number_value(json_object_get(cost, "read_us")) / 1e3);
	bench_add(set, i ? "stop 1" : "stop 0", json_number_value(json_object_get(cost, "stopped_us")));
	json_decref(cost);
	stop_target(t);
}

static void print_rows(const struct bench_set *set, unsigned i)
{
	char name[96];

	snprintf(name, sizeof(name), "evidence of %s threads, %s bottom halves", sizes[i].threads, sizes[i].bhs);
	bench_print(&(struct bench_row){ .table = "Reading a live process",
					 .name = name,
					 .value = bench_median(set, i ? "read 1" : "read 0"),
					 .unit = "ms",
					 .target = sizes[i].target });
	snprintf(name, sizeof(name), "the same, target stopped");
	bench_print(&(struct bench_row){ .table = "Reading a live process",
					 .name = name,
					 .value = bench_median(set, i ? "stop 1" : "stop 0"),
					 .unit = "us",
					 .target = "value <= 0" });
}

int main(int argc, char **argv)
{
	static struct bench_set set;

	if (argc != 3)
		bench_die("usage: readcost BHTRACE TARGET");
	for (unsigned run = 0; run < RUNS; run++)
		for (unsigned i = 0; i < 2; i++)
			measure(argv[1], argv[2], &set, i);
	for (unsigned i = 0; i < 2; i++)
		print_rows(&set, i);
	return 0;
}
