/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the benchmark programs share
 *
 * A program measures every subject once in each of several runs, the subjects
 * one after the other inside a run, so that whatever else the machine does
 * meets all of them. It prints its results as rows, one JSON object a line on
 * stdout; tests/bench/collect makes tables and .output/bench.json of them.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_RUNS_MAX = 32, BENCH_SERIES_MAX = 160 };

/* The samples of one quantity, one a run. */
struct bench_series {
	char key[64];
	double sample[BENCH_RUNS_MAX];
	unsigned n;
};

struct bench_set {
	struct bench_series series[BENCH_SERIES_MAX];
	unsigned n;
};

/* One line of a table. RATIO is written so that more is better. */
struct bench_row {
	const char *table;
	const char *name;
	double value;
	const char *unit;
	const char *peer; /* NULL: nothing to compare with */
	double peer_value;
	double ratio;
	const char *target; /* "value <= 12" or "ratio >= 0.9", NULL for none */
	const char *note;   /* NULL for none */
	/* Rows with these two are printed as a matrix of ratios. */
	const char *line, *column;
};

uint64_t bench_now_ns(void);

/* Puts the calling thread on the INDEXth CPU that this process may use, modulo
 * their number. */
void bench_pin(unsigned index);
unsigned bench_cpus(void);

void bench_add(struct bench_set *set, const char *key, double value);
bool bench_has(const struct bench_set *set, const char *key);
/* The median of a quantity; NAN when it was not measured. */
double bench_median(const struct bench_set *set, const char *key);
/* The median over the runs of KEY / BASE, both of the same run. */
double bench_paired(const struct bench_set *set, const char *key, const char *base);
/* The value below which P (0 to 1) of the N values lie; sorts them. */
double bench_percentile(double *values, size_t n, double p);

/*
 * Runs this program once more as "PROGRAM ARG" with BH_FLIGHT set to FLIGHT,
 * NULL for the default: how the recorder works is decided when a process
 * starts. The lines "KEY VALUE" that it prints go to SET as PREFIX.KEY.
 * 0 or -1.
 */
int bench_child(const char *arg, const char *flight, const char *prefix, struct bench_set *set);

/* Prints a row. One that has a target and a NAN is not ok: nothing was shown. */
void bench_print(const struct bench_row *row);

/* Ends the program: it could not measure. */
void bench_die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
