/* SPDX-License-Identifier: MIT */
/* What the benchmark programs share: clock, CPUs, medians, rows. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

uint64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_die(const char *format, ...)
{
	va_list args;

	fputs("bench: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* --- CPUs ------------------------------------------------------------------- */

/* Asked for once, before any thread is pinned. */
static cpu_set_t allowed;

__attribute__((constructor)) static void read_allowed(void)
{
	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		CPU_SET(0, &allowed);
}

unsigned bench_cpus(void)
{
	return (unsigned)CPU_COUNT(&allowed);
}

void bench_pin(unsigned index)
{
	unsigned left = index % bench_cpus();
	cpu_set_t one;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || left-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

/* --- samples ---------------------------------------------------------------- */

static struct bench_series *find(const struct bench_set *set, const char *key)
{
	for (unsigned i = 0; i < set->n; i++)
		if (strcmp(set->series[i].key, key) == 0)
			return (struct bench_series *)&set->series[i];
	return NULL;
}

void bench_add(struct bench_set *set, const char *key, double value)
{
	struct bench_series *s = find(set, key);

	if (!s) {
		if (set->n == BENCH_SERIES_MAX)
			bench_die("more than %d quantities", BENCH_SERIES_MAX);
		s = &set->series[set->n++];
		snprintf(s->key, sizeof(s->key), "%s", key);
	}
	if (s->n == BENCH_RUNS_MAX)
		bench_die("more than %d runs of %s", BENCH_RUNS_MAX, key);
	s->sample[s->n++] = value;
}

bool bench_has(const struct bench_set *set, const char *key)
{
	return find(set, key) != NULL;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_percentile(double *values, size_t n, double p)
{
	if (n == 0)
		return NAN;
	qsort(values, n, sizeof(*values), by_value);
	double at = p * (double)(n - 1);
	size_t below = (size_t)at;
	size_t above = below + 1 < n ? below + 1 : below;
	return values[below] + (values[above] - values[below]) * (at - (double)below);
}

double bench_median(const struct bench_set *set, const char *key)
{
	const struct bench_series *s = find(set, key);
	double copy[BENCH_RUNS_MAX];

	if (!s)
		return NAN;
	memcpy(copy, s->sample, s->n * sizeof(copy[0]));
	return bench_percentile(copy, s->n, 0.5);
}

double bench_paired(const struct bench_set *set, const char *key, const char *base)
{
	const struct bench_series *s = find(set, key), *b = find(set, base);
	double ratio[BENCH_RUNS_MAX];
	unsigned n = 0;

	if (!s || !b)
		return NAN;
	for (unsigned i = 0; i < s->n && i < b->n; i++)
		if (b->sample[i] > 0)
			ratio[n++] = s->sample[i] / b->sample[i];
	return bench_percentile(ratio, n, 0.5);
}

/* --- the program once more ---------------------------------------------------- */

static void exec_self(const char *arg, const char *flight, int out)
{
	char *argv[] = { (char *)"bench", (char *)arg, NULL };

	if (flight)
		setenv("BH_FLIGHT", flight, 1);
	else
		unsetenv("BH_FLIGHT");
	dup2(out, STDOUT_FILENO);
	execv("/proc/self/exe", argv);
	_exit(127);
}

int bench_child(const char *arg, const char *flight, const char *prefix, struct bench_set *set)
{
	char key[32], full[64];
	double value;
	int pipe_fd[2], status;

	if (pipe(pipe_fd) != 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0)
		exec_self(arg, flight, pipe_fd[1]);
	close(pipe_fd[1]);
	FILE *lines = fdopen(pipe_fd[0], "r");
	if (pid < 0 || !lines)
		return -1;
	while (fscanf(lines, "%31s %lf", key, &value) == 2) {
		snprintf(full, sizeof(full), "%s.%s", prefix, key);
		bench_add(set, full, value);
	}
	fclose(lines);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return -1;
	return 0;
}

/* --- rows --------------------------------------------------------------------- */

/* Without a target there is nothing to miss. */
static bool target_met(const struct bench_row *row)
{
	char field[8], op[3];
	double limit;

	if (!row->target)
		return true;
	if (sscanf(row->target, "%7s %2s %lf", field, op, &limit) != 3)
		bench_die("target not understood: %s", row->target);
	double v = strcmp(field, "ratio") == 0 ? row->ratio : row->value;
	return op[0] == '<' ? v <= limit : v >= limit;
}

static json_t *number(double v)
{
	return isfinite(v) ? json_real(v) : json_null();
}

static json_t *string(const char *s)
{
	return s ? json_string(s) : json_null();
}

void bench_print(const struct bench_row *row)
{
	json_t *o =
		json_pack("{s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:b, s:o}", "table", row->table, "name", row->name,
			  "value", number(row->value), "unit", row->unit, "peer", string(row->peer), "peer_value",
			  number(row->peer ? row->peer_value : NAN), "ratio", number(row->peer ? row->ratio : NAN),
			  "target", string(row->target), "ok", target_met(row), "note", string(row->note));

	if (!o)
		bench_die("row %s: out of memory", row->name);
	if (row->line) {
		json_object_set_new(o, "line", json_string(row->line));
		json_object_set_new(o, "column", json_string(row->column));
	}
	json_dumpf(o, stdout, JSON_REAL_PRECISION(6));
	putchar('\n');
	fflush(stdout);
	json_decref(o);
}
