/* SPDX-License-Identifier: MIT */
/*
 * report.h - the wakeup gaps of a recording, for people and for programs
 *
 * A recording is read to its end, one struct bht_gaps a process. Losses are part of
 * what is reported: what they hide is counted, never measured.
 */
#ifndef BHT_REPORT_H
#define BHT_REPORT_H

#include <stdio.h>

#include "gaps.h"
#include "recording.h"

struct bht_report {
	struct bht_gaps_options how;     /* from and until are set when the reading begins, */
	double since_ns, until_ns;       /* from these, since the first event; until 0: to the end */
	const struct bht_recording *rec; /* borrowed, and read to its end */
	struct bht_gaps *gaps;           /* one for each of rec->process; owned */
	unsigned n;
	uint64_t n_events, first, last; /* of all but the kernel's; times of the first and the last */
	struct bht_event lost;          /* private: the last loss of all processes */
	bool informed;                  /* private: it is the second reading */
};

/*
 * Reads the history of REC. R has its options and is otherwise zero, or was given to
 * bht_report_again(). 0, -ENOMEM, or what the history said; bht_report_free() in any case.
 */
int bht_report_read(struct bht_report *r, struct bht_recording *rec);

/* Whether a second reading would measure more: losses came to light that reach back. */
bool bht_report_wants_again(const struct bht_report *r);

/* Prepares R for it: keeps what is known of losses, frees the rest. */
void bht_report_again(struct bht_report *r);

void bht_report_free(struct bht_report *r);

/* Text with colors and width of HOW; JSON, schema bhtrace.report/1 (docs/json.md); folded
 * stacks for a flame graph, in us. 0, -ENOMEM or -EIO. */
int bht_report_text(FILE *out, const struct bht_report *r, bool color, unsigned width);
int bht_report_json(FILE *out, const struct bht_report *r);
int bht_report_folded(FILE *out, const struct bht_report *r);

/* --- what the renderers share ------------------------------------------------------ */

/* Everything in one row; bht_row_clear() it. 0 or -ENOMEM. */
int bht_report_total(const struct bht_report *r, struct bht_row *total);
int bht_loop_total(const struct bht_loop_row *loop, struct bht_row *total);

static inline uint64_t bht_row_unmeasured(const struct bht_row *row)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < BHT_WHY_NOTS; i++)
		n += row->unmeasured[i];
	return n;
}

/* Whether the kernel told of any process. */
bool bht_report_kernel(const struct bht_report *r);

/* Whether there is something to measure, and losses hide all of it. */
bool bht_report_blind(const struct bht_row *total);

/* The N-th worst gap of all processes, from 0; *PROCESS is its. NULL: no more. */
const struct bht_gap *bht_report_worst(const struct bht_report *r, unsigned n, unsigned *process);

/* The gaps of H with logarithmic bars; nothing when there are none. */
void bht_report_bars(FILE *out, const struct bht_report *r, const struct bht_histogram *h, bool color, unsigned width);

/* Ticks in nanoseconds. */
double bht_report_ns(const struct bht_report *r, uint64_t ticks);

/* "12.3 us": three digits and a unit. */
enum { BHT_BRIEF = 16 };
char *bht_brief_ns(char dst[BHT_BRIEF], double ns);

/* What was found, and why a gap was so long, in one sentence each. */
void bht_report_sentence(char dst[BHT_LINE], const struct bht_report *r, const struct bht_row *total);
void bht_gap_cause(char dst[BHT_LINE], const struct bht_report *r, unsigned process, const struct bht_gap *gap);

/* The events that the gap consists of, in order, with their roles; gives their number. */
enum { BHT_GAP_EVENTS = 7 };
struct bht_gap_event {
	const struct bht_event *event;
	const char *role;
};
unsigned bht_gap_events(const struct bht_gap *gap, struct bht_gap_event events[BHT_GAP_EVENTS]);

/* "worker (tid 17)". */
enum { BHT_THREAD_LABEL = 256 };
char *bht_gap_thread(char dst[BHT_THREAD_LABEL], const struct bht_report *r, unsigned process, uint32_t tid);

#endif
