/* SPDX-License-Identifier: MIT */
/*
 * gaps.h - how long bottom halves waited: from the schedule to the execution
 *
 * One struct bht_gaps a process is fed with its events in merged order. It follows
 * them through the machines, which know what was rescued, and keeps sums, not events:
 * memory grows with the objects and with what is asked for.
 *
 * A gap is measured when nothing can be missing in it, and the schedule that an
 * execution served is known. All others are counted, each with its reason:
 *
 *   executions = measured gaps + all that were not measured
 *
 * A record may come late (docs/accuracy.md): then an execution stands before the
 * schedule that it served. So effective schedules and clears are counted, and a
 * schedule is taken for the one that waits when it is recorded at balance. The
 * balance is known from the object's making on, at the first sleep of the loop after
 * the history began or had a loss, and from a schedule that program order puts
 * behind the last clear. As in the rules, one thread at a time may be on its way, or its
 * stamp within the clock's error of another's; of two at once nothing is promised.
 *
 * A loss tells only at its end from when on events are missing. When gaps were
 * measured there already, all are forgotten, and `again` says that a second reading,
 * which knows the losses, would measure more.
 *
 * All times are ticks.
 */
#ifndef BHT_GAPS_H
#define BHT_GAPS_H

#include "evidence.h"
#include "histogram.h"
#include "machines.h"

/*
 * What a gap is cut into. Most end where something happened that is recorded; what was
 * not seen to happen is part of the next one. The time that the loop spent in callbacks,
 * and outside of them without a processor, is taken out of each and is two of its own. So
 * they add up to the gap. Without events of the kernel BHT_TO_WAKING and BHT_RUN_QUEUE are 0.
 */
enum bht_segment {
	BHT_TO_NOTIFY,
	BHT_TO_WAKING,
	BHT_RUN_QUEUE,
	BHT_TO_WAKE,
	BHT_TO_RUN,
	BHT_IN_CALLBACKS,
	BHT_SEGMENTS
};

static inline bool bht_segment_of_kernel(enum bht_segment segment)
{
	return segment == BHT_TO_WAKING || segment == BHT_RUN_QUEUE;
}

enum bht_count {
	BHT_SCHEDULES,
	BHT_COALESCED,
	BHT_EXECUTIONS,
	BHT_CANCELS,
	BHT_NOTIFIES,
	BHT_WRITES,
	BHT_AVOIDED,
	BHT_FAILED,
	BHT_COUNTS
};

/* Why an execution has no measured gap. */
enum bht_why_not {
	BHT_LOST_EVENTS,
	BHT_BEFORE_HISTORY,
	BHT_LATE_RECORD,
	BHT_AMBIGUOUS,
	BHT_IDLE_SCHEDULE,
	BHT_WHY_NOTS
};

/* What a loop's thread does from one of its events to the next. */
enum bht_doing { BHT_DOING_UNKNOWN, BHT_DOING_SLEEP, BHT_DOING_CALLBACKS, BHT_DOING_OTHER, BHT_DOINGS };

/* Stable id, and what it means. */
struct bht_term {
	const char *id, *meaning;
};

extern const struct bht_term bht_segments[BHT_SEGMENTS], bht_counts[BHT_COUNTS], bht_why_nots[BHT_WHY_NOTS],
	bht_doings[BHT_DOINGS];

struct bht_row;

/* A time, and what the loop had spent before it. */
struct bht_mark {
	uint64_t time, busy; /* in callbacks, */
	uint64_t queued;     /* and outside of them without a processor */
};

struct bht_loop_row {
	uint64_t addr;
	unsigned index;             /* in the order of appearance */
	char name[BHP_NAME_SIZE];   /* "" when not known; as the target wrote it */
	uint32_t poller;            /* thread that polled it last, 0: none */
	uint64_t turns, wakes;      /* that are recorded */
	uint64_t count[BHT_COUNTS]; /* what was for no bottom half */
	uint64_t spent[BHT_DOINGS];
	struct bht_row **row; /* after bht_gaps_finish(): its bottom halves, worst first */
	size_t n_rows;
	/* Private: what it is doing, since when; ticks in callbacks before that. */
	enum bht_doing doing;
	uint64_t since, busy;
	const struct bht_kernel *kernel; /* of the poller; NULL: nothing so far */
	uint64_t queued, thread_queued;  /* without a processor then: outside of callbacks, and in all */
	struct bht_mark waking, woke;    /* in its last wait that ended: time 0: not seen */
	unsigned sleeps;                 /* outermost, so far */
	bool slept;                      /* since the last loss */
};

/* All bottom halves of one name on one loop; one without a name stands for itself. */
struct bht_row {
	struct bht_loop_row *loop;
	char name[BHP_NAME_SIZE]; /* "" when not known; as the target wrote it */
	uint64_t addr;            /* of the first */
	uint64_t objects;
	bool wanted; /* the report is about it */
	uint64_t count[BHT_COUNTS];
	uint64_t unmeasured[BHT_WHY_NOTS];
	struct bht_histogram gap, callback;
	uint64_t part[BHT_SEGMENTS]; /* of all gaps */
	uint64_t rescued;            /* gaps that only luck ended */
	struct bht_row *merged;      /* private: is part of that one */
};

struct bht_gap {
	struct bht_row *row;
	uint64_t bh;
	struct bht_event schedule, notify, wait_end, begin; /* time 0: there is none */
	struct bht_event write, waking, running;            /* the same as the kernel saw it */
	bool kernel;                                        /* it told of the loop's thread */
	struct bht_stretch queue; /* its longest wait for a processor; end 0: there was none */
	uint64_t part[BHT_SEGMENTS];
	enum bht_rescue rescue;
	/* The longest callback that reached into it; NULL: none that has ended. */
	const struct bht_row *blamed;
	uint64_t blamed_begin, blamed_end;
};

static inline uint64_t bht_gap_length(const struct bht_gap *gap)
{
	return bht_time(&gap->begin) - bht_time(&gap->schedule);
}

/* Rescued ones are worse than others, long ones worse than short ones. */
bool bht_gap_worse(const struct bht_gap *a, const struct bht_gap *b);

/* Stretches in which events are missing, in order and disjoint. */
struct bht_losses {
	struct bht_span_of_time *span;
	size_t n;
};

struct bht_gaps_options {
	uint64_t from, until; /* what happened in between is counted; 0 and UINT64_MAX: all */
	const char *glob;     /* bottom halves by name; NULL: all */
	unsigned worst;       /* so many of the worst gaps are kept */
};

struct bht_gaps {
	/* Results, owned. */
	struct bht_loop_row **loop;
	size_t n_loops;
	struct bht_row **row;
	size_t n_rows;
	struct bht_gap *worst; /* rescued ones first, longest first */
	unsigned n_worst;
	struct bht_machines m;    /* names of threads, what was lost */
	struct bht_losses losses; /* so far */
	uint64_t first, last;     /* times of events */
	bool again;               /* a second reading would measure more */
	/* Private. */
	const struct bht_gaps_options *how;
	struct bht_losses known; /* from an earlier reading */
	bool informed;           /* it knew all losses */
	struct bht_map objects, loops, names;
	struct bht_held *held; /* gaps that are perhaps rescued */
	unsigned n_held;
	uint64_t measured_until;
};

/* HOW is borrowed. 0 or -ENOMEM; bht_gaps_free() in any case. */
int bht_gaps_begin(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_gaps_options *how);

/* The same after a first reading whose losses are known then. */
int bht_gaps_begin_again(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_gaps_options *how,
			 struct bht_gaps *first);

/* EV may know names that the history lacks. 0 or -ENOMEM. */
int bht_gaps_feed(struct bht_gaps *g, const struct bht_evidence *ev, const struct bht_event *e);

/* At the end of the history. 0 or -ENOMEM. */
int bht_gaps_finish(struct bht_gaps *g, const struct bht_evidence *ev);

void bht_gaps_free(struct bht_gaps *g);

/* Adds what is in FROM to ROW. 0 or -ENOMEM. */
int bht_row_add(struct bht_row *row, const struct bht_row *from);

/* Frees what a row owns, not the row. */
void bht_row_clear(struct bht_row *row);

#endif
