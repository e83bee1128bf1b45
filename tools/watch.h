/* SPDX-License-Identifier: MIT */
/*
 * watch.h - the parts of bhtrace watch: what is seen now (view), who is looked at more
 * closely (hangs), and how both are shown
 */
#ifndef BHTRACE_WATCH_H
#define BHTRACE_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "monitor.h"
#include "diagnosis.h"

struct watch_options {
	uint32_t pid;
	bool all;
	char **command;
	uint64_t for_ns, interval_ns, overdue_ns;
	bool plain, json, color;
	const char *metrics; /* file, or NULL */
	const char *on_hang; /* command, or NULL */
	const char *dir;     /* of snapshots, or NULL */
};

/* --- what is seen now (watch_view.c) ----------------------------------------------------- */

enum { WATCH_NAME = 4 * BHP_NAME_SIZE + 1 };

struct watch_row {
	struct bhb_key key;
	uint64_t loop;                                                     /* address */
	char process[WATCH_NAME], loop_name[WATCH_NAME], name[WATCH_NAME]; /* escaped */
	unsigned objects; /* those of one loop and one name are one row */
	uint64_t schedules, coalesced, executions, rescued;
	uint32_t bucket[BHB_BUCKETS];
	double rate;  /* schedules a second, */
	double share; /* and how many of them coalesced, 0 to 1; both since the last view */
	uint64_t p50_ns, p99_ns, worst_ns;
	uint64_t pending_ns; /* 0: nothing is */
	bool overdue;        /* and told */
	const char *verdict; /* of what is overdue: words, or a rule; "" */
};

struct watch_loop {
	struct bhb_key key;
	char process[WATCH_NAME], name[WATCH_NAME]; /* escaped */
	uint64_t turns, sleeps, rescued, sum_ns;
	double rate;        /* turns a second */
	uint64_t asleep_ns; /* 0: awake */
	unsigned overdue;   /* bottom halves of it */
	uint64_t p50_ns, p99_ns;
	uint32_t bucket[BHB_BUCKETS];
};

struct watch_totals {
	unsigned processes, bystanders;
	uint64_t hits, strange, told, evicted, rescued, overdue;
	uint64_t suspected, cleared, undecided, raised; /* times */
	double hits_rate, cost;                         /* of one CPU, as far as that can be estimated: 0.01 is 1 % */
	uint64_t elapsed_ns;
};

struct watch_view {
	struct watch_row *rows;
	size_t n_rows;
	struct watch_loop *loops; /* by key */
	size_t n_loops;
	struct watch_totals totals;
	uint64_t ns;    /* CLOCK_MONOTONIC */
	double trap_ns; /* what a hit costs besides its program, as in trap.h */
};

struct watch_hangs;

/* The next view after BEFORE, whose counters rates are made from, and whose trap_ns goes on. Both are the caller's.
 * Rows of one name are one. 0 or -errno. */
int watch_view_take(struct bhb_monitor *m, struct watch_hangs *h, const struct watch_view *before,
		    struct watch_view *view);
void watch_view_free(struct watch_view *view);

/* What is overdue first, then by what is asked for. */
enum watch_sort { WATCH_BY_NAME, WATCH_BY_RATE, WATCH_BY_P99, WATCH_BY_WORST, WATCH_BY_PENDING, WATCH_SORTS };
extern const char *const watch_sorts[WATCH_SORTS];
void watch_sort(const struct watch_row **rows, size_t n, enum watch_sort by);

/* --- tables (watch_table.c), all pure ------------------------------------------------------ */

/* The time that so many of a thousand did not exceed, from counts of powers of two; 0: there is none. */
uint64_t watch_quantile_ns(const uint32_t bucket[BHB_BUCKETS], unsigned per_mille);

enum { WATCH_CELL = 16, WATCH_LINE = 1024 };
char *watch_time(char dst[WATCH_CELL], uint64_t ns);
char *watch_count(char dst[WATCH_CELL], double n);

/* One line of at most WIDTH columns; the heading when ROW is NULL. */
void watch_row_line(char dst[WATCH_LINE], const struct watch_row *row, unsigned width);
void watch_loop_line(char dst[WATCH_LINE], const struct watch_loop *loop, unsigned width);
void watch_totals_line(char dst[WATCH_LINE], const struct watch_totals *t);

/* --- who is looked at more closely (watch_hang.c) --------------------------------------------- */

enum watch_kind {
	WATCH_BEGINS,
	WATCH_ENDS,
	WATCH_SUSPECTED,
	WATCH_CLEARED, /* the suspicion was not confirmed */
	WATCH_LATE,    /* it ran, but late */
	WATCH_UNDECIDED,
	WATCH_UNREADABLE,
	WATCH_RAISED,
	WATCH_SAID, /* about the watch itself */
	WATCH_KINDS
};
extern const char *const watch_kinds[WATCH_KINDS];

struct watch_event {
	enum watch_kind kind;
	uint32_t pid;
	char process[WATCH_NAME], loop[WATCH_NAME], bh[WATCH_NAME]; /* escaped; "" */
	const char *why;                                            /* of a suspicion, or "" */
	const char *rule;                                           /* of a finding, or "" */
	uint64_t waited_ns;
	char sentence[1024], snapshot[512];
};

/* ON_EVENT is called from the functions below. NULL with errno. */
struct watch_hangs *watch_hangs_new(const struct watch_options *o,
				    void (*on_event)(void *arg, const struct watch_event *e), void *arg);
void watch_hangs_free(struct watch_hangs *h); /* looks that go on are ended */

void watch_begins(struct watch_hangs *h, uint32_t pid);
void watch_ends(struct watch_hangs *h, uint32_t pid);
void watch_suspect(struct watch_hangs *h, const struct bhb_key *key, enum bhb_overdue why, uint64_t waited_ns,
		   const struct bhb_bh *bh);

/* Begins looks that are due, takes the results of others. Gives ms until the next call is due at the latest. */
int watch_hangs_round(struct watch_hangs *h);
struct pollfd;
unsigned watch_hangs_fds(const struct watch_hangs *h, struct pollfd *fds, unsigned max);

/* Escaped into DST: the name of an object, as far as it is known; one that is not is asked for. */
void watch_name(struct watch_hangs *h, uint32_t pid, uint64_t addr, const char *own, char dst[WATCH_NAME]);
void watch_process(const struct watch_hangs *h, uint32_t pid, char dst[WATCH_NAME]);
/* What the last look said of PID, in a word, or the rule. */
const char *watch_verdict(const struct watch_hangs *h, uint32_t pid);
void watch_hangs_count(const struct watch_hangs *h, struct watch_totals *t);
int watch_hangs_code(const struct watch_hangs *h); /* exit code */

/* --- how it is shown --------------------------------------------------------------------------- */

struct watch_output {
	int (*open)(const struct watch_options *o); /* exit code, said */
	void (*table)(const struct watch_view *view);
	void (*event)(const struct watch_event *e);
	/* What was typed, or the terminal's new size; whether to go on. */
	bool (*input)(void);
	void (*close)(void);
};
extern const struct watch_output watch_plain, watch_json, watch_screen;

/* OpenMetrics text. 0 or -errno. The second one writes PATH.tmp and renames it. */
int watch_metrics(FILE *out, const struct watch_view *view);
int watch_metrics_write(const char *path, const struct watch_view *view);

#endif
