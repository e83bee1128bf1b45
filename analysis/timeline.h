/* SPDX-License-Identifier: MIT */
/*
 * timeline.h - a history as a picture: lanes, spans, points and arrows
 *
 * A lane is a thread. What takes time there is a span, and spans nest: turns of a
 * loop, sleeps, callbacks, stretches whose events were lost. All other events are
 * points. An arrow leads from a schedule over its notification to the execution
 * that it caused; there is none across a loss, or when two schedules could be meant.
 *
 * The history is drawn while it is read, so memory grows with the objects and with
 * what is open. A pen makes a file of it: it knows formats, and the drawing knows
 * none. All times are ticks of the recording's clock.
 */
#ifndef BHT_TIMELINE_H
#define BHT_TIMELINE_H

#include "diagnosis.h"
#include "machines.h"
#include "recording.h"

/* --- what a first reading tells ------------------------------------------------ */

/* Zero-initialised. */
struct bht_overview {
	uint64_t n_events, first, last;
	uint64_t *mark; /* times of the first event, and of each so many after it */
	size_t n_marks;
	struct bht_map made; /* objects whose creation is in the history */
};

static inline uint64_t bht_object_key(uint32_t process, uint64_t addr)
{
	return addr ^ (uint64_t)process << 48;
}

/* A source that passes on what OF delivers and notes it in O, which must outlive it.
 * Takes ownership of OF, also when it fails: NULL with errno ENOMEM. */
struct bht_source *bht_overview_tap(struct bht_source *of, struct bht_overview *o);

/* Narrows [*SINCE, *UNTIL] to about MAX events: those around [FROM, TO], and as much
 * of it as they can cover. Left alone when they are not more. */
void bht_overview_narrow(const struct bht_overview *o, uint64_t max, uint64_t from, uint64_t to, uint64_t *since,
			 uint64_t *until);

void bht_overview_free(struct bht_overview *o);

/* From the first to the last witness of F. */
void bht_finding_times(const struct bht_finding *f, uint64_t *from, uint64_t *to);

/* --- the picture --------------------------------------------------------------- */

enum { BHT_ID_CUT = 0xfd }; /* no event: a place where a span is cut */

enum bht_span_kind { BHT_SPAN_TURN, BHT_SPAN_SLEEP, BHT_SPAN_EXECUTE, BHT_SPAN_LOSS };

enum bht_span_end {
	BHT_SPAN_ENDED,
	BHT_SPAN_UNSEEN, /* its end is not in the history: it ends where something is known last */
	BHT_SPAN_GOES_ON /* when the picture ends */
};

struct bht_lane;

/* A loop or a bottom half. One that takes the place of another is another. */
struct bht_object {
	uint32_t index, process;
	uint64_t addr;
	const struct bht_object *loop; /* of a bottom half; NULL for a loop */
	char name[BHP_NAME_SIZE];      /* "" when not known; as the target wrote it */
	/* Private: the effective schedule that waits, and its notification. */
	struct bht_point {
		struct bht_lane *lane; /* NULL: none, or it was not drawn */
		uint64_t at, time;
	} schedule, notify;
};

struct bht_lane_span {
	enum bht_span_kind kind;
	enum bht_span_end how;
	struct bht_lane *lane;
	const struct bht_object *object; /* loop, or bottom half; NULL for a loss */
	struct bht_event event;          /* that began it; without text */
	bool early;                      /* it began before the picture does, or unseen */
	unsigned depth;                  /* callbacks around it */
	uint64_t begin, end;             /* as the pen called them */
};

struct bht_lane {
	uint32_t index, process;
	uint32_t tid;                /* 0: what is about all threads of the process */
	char name[BHP_TEXT_MAX + 1]; /* as the target wrote it */
	uint64_t cursor;             /* the pen's */
	bool drawn;                  /* anything of it */
	/* Private. */
	uint64_t last;              /* time of its latest event */
	uint64_t at;                /* as the pen called that, if it was drawn */
	bool passed;                /* has events after the picture */
	struct bht_lane_span *open; /* outermost first */
	unsigned n_open;
};

struct bht_pen {
	/* An event, the end of a loss, or a cut, later than all before of this lane. OBJECT
	 * is its bottom half, or its loop, or NULL. *AT is how the pen calls this place. */
	int (*event)(struct bht_pen *pen, struct bht_lane *lane, const struct bht_object *object,
		     const struct bht_event *e, uint64_t *at);
	/* E, whose event() was just called, begins or ends the span; NULL when it ends unseen. */
	int (*begin)(struct bht_pen *pen, const struct bht_lane_span *span);
	int (*end)(struct bht_pen *pen, const struct bht_lane_span *span, const struct bht_event *e);
	/* EXECUTE has just begun; NOTIFY may be NULL. */
	int (*arrow)(struct bht_pen *pen, const struct bht_point *schedule, const struct bht_point *notify,
		     const struct bht_lane_span *execute);
};

struct bht_timeline {
	/* What is to be drawn; borrowed. */
	const char *name; /* of the recording */
	const struct bht_recorded *process;
	const struct bht_diagnosis *d; /* one for each process */
	unsigned n_processes;
	const struct bht_overview *overview;
	uint32_t only;         /* this process, or BHT_ALL_PROCESSES */
	uint32_t finding;      /* from 1: what the picture is about, 0: no finding in particular */
	uint64_t since, until; /* ticks; 0 and UINT64_MAX: all */
	uint64_t max_events;   /* the picture ends after so many */
	double ticks_per_ns;
	/* What was drawn, owned: bht_timeline_free(). */
	uint64_t begin, end;
	uint64_t n_before, n_events, n_after; /* events: left out, drawn, left out */
	uint64_t n_arrows;
	bool full; /* max_events ended it */
	struct bht_lane **lane;
	size_t n_lanes;
	struct bht_object **object;
	size_t n_objects;
};

/* Reads HISTORY to its end and draws. 0 or -errno, also of the pen. */
int bht_timeline_draw(struct bht_timeline *t, struct bht_source *history, struct bht_pen *pen);
void bht_timeline_free(struct bht_timeline *t);

/* Nanoseconds from the first event of the recording to TIME; 0 for what is earlier. */
double bht_timeline_ns(const struct bht_timeline *t, uint64_t time);

/* As the trace-event format of ui.perfetto.dev and chrome://tracing, and as one HTML
 * page. 0 or -errno: of the history, -ENOMEM, or -EIO with errno when OUT fails. */
int bht_timeline_json(struct bht_timeline *t, struct bht_source *history, FILE *out);
int bht_timeline_html(struct bht_timeline *t, struct bht_source *history, FILE *out);

enum { BHT_PAGE_EVENTS = 2000000 }; /* a good max_events for a page */

#endif
