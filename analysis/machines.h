/* SPDX-License-Identifier: MIT */
/*
 * machines.h - what a history says about each bottom half, loop and thread
 *
 * Events are fed in merged order. A machine keeps the latest operations that
 * the rules ask for, the worst delay so far, and the most recent events as
 * witnesses; so memory grows with the objects and with what is open (tickets,
 * executions), not with the history.
 *
 * Stamps of different threads are not trusted to the nanosecond: a callback may
 * be stamped as having consumed a ticket before the schedule that announced it.
 */
#ifndef BHT_MACHINES_H
#define BHT_MACHINES_H

#include <stdbool.h>

#include "event.h"
#include "map.h"
#include "objects.h"
#include "tickets.h"

enum {
	BHT_RECENT = 64,
	BHT_OPEN_MAX = 16,
	BHT_LONG_MAX = 16,
	BHT_UNNOTIFIED_MAX = 4,
	BHT_LOSSES_MAX = 64,
	BHT_LAST_THREADS = 16
};

/* The last events of a loop and its bottom halves, oldest overwritten first. */
struct bht_recent {
	struct bht_event event[BHT_RECENT];
	uint64_t n; /* ever added */
};

/* What took from BEGIN to END: the execution of a bottom half, or a thread's wait for
 * processor CPU, which thread BEHIND had meanwhile (0: nobody that is known). */
struct bht_stretch {
	union {
		uint64_t bh;
		struct {
			uint32_t behind, cpu;
		};
	};
	uint64_t begin, end;
};

/* Each is longer than all that ended later. */
struct bht_longest {
	struct bht_stretch x[BHT_LONG_MAX];
	unsigned n;
};

/* The longest of those that reach beyond FROM; NULL: none. */
static inline const struct bht_stretch *bht_longest_since(const struct bht_longest *l, uint64_t from)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->x[i].end > from)
			return &l->x[i];
	return NULL;
}

/* How an execution came about whose schedule had waited; judged by rules/late.c. */
enum bht_rescue {
	BHT_NOT_RESCUED,
	BHT_RESCUED_MISSING, /* no notify event */
	BHT_RESCUED_SKIPPED, /* the notify saw a loop that was awake */
	BHT_RESCUED_STOLEN   /* another thread took the notification */
};

struct bht_delay {
	enum bht_rescue rescue;
	struct bht_event schedule, notify, wait_end, begin; /* time 0: there is none */
	uint64_t busy;                                      /* of it, ticks that the loop spent in other callbacks */
	uint64_t blamed, blamed_begin, blamed_end;          /* the longest of those executions: bottom half, from, to */
	uint64_t woken;           /* when the loop's thread was, before that wait_end; 0: not seen */
	struct bht_stretch queue; /* its longest wait for a processor; end 0: none was seen */
};

/* Ticks from the schedule to the execution. */
static inline uint64_t bht_delay_length(const struct bht_delay *d)
{
	return bht_time(&d->begin) - bht_time(&d->schedule);
}

/* The flag machine. An event whose time is 0 was not seen. */
struct bht_bh_machine {
	/* What most events touch comes first and together: cache lines. */
	uint64_t addr;
	uint64_t loop;
	uint64_t consumed; /* tickets, ever */
	struct bht_tickets tickets;
	bool seen_new; /* its bh_new is in the history */
	bool pending;  /* neither run nor withdrawn since the effective schedule */
	/* A thread may lose the CPU between its exchange and its record. So a
	 * clear without a schedule before it is a debt: the schedule is recorded
	 * later (then it was served already when it was), or not yet, or lost. Of
	 * two effective schedules in a row one was served, too. */
	bool served, muddled;
	bool anchored; /* the effective schedule's exchange lies after the last clear: program order says so */
	enum bht_debt { BHT_NO_DEBT, BHT_PERHAPS_A_DEBT, BHT_A_DEBT } debt;
	uint64_t cleared;             /* when the flag was cleared last, at the latest */
	uint64_t others_before;       /* executions of the loop before the effective schedule */
	uint64_t busy_before;         /* its time in callbacks before that */
	uint64_t coalesced_previous;  /* as in struct bht_ticket */
	struct bht_event coalesced;   /* last schedule that saw 1 */
	struct bht_event effective;   /* last schedule that saw 0 */
	struct bht_event answer;      /* that followed it in its thread */
	struct bht_event notify;      /* last notification for it */
	struct bht_event begin, end;  /* last execution */
	struct bht_event cancel;      /* last cancel or delete */
	struct bht_event unannounced; /* last schedule that saw 1 and carried no ticket */
	uint64_t unannounced_previous;
	uint64_t slowest_gap;      /* ticks of the one below */
	struct bht_delay slowest;  /* longest from schedule to execution */
	struct bht_delay rescued;  /* longest of those that only luck woke */
	struct bht_delay doubtful; /* woken by luck, if the producer does not notify after all */
	unsigned n_rescued;
	char name[BHP_NAME_SIZE];
};

/* The notify and loop machine. */
struct bht_loop_machine {
	uint64_t addr;
	struct bht_event wait_begin, wait_end, accept;
	struct bht_event written;              /* last notify that wrote the eventfd */
	struct bht_event stolen;               /* last accept by a thread that does not poll */
	struct bht_event poll;                 /* last poll_begin or poll_end */
	uint64_t executions;                   /* begun, ever */
	uint64_t executions_lossy;             /* those before the last loss of any thread */
	unsigned n_losses;                     /* of all threads, when an execution began last */
	uint64_t busy;                         /* ticks in outermost callbacks */
	struct bht_stretch open[BHT_OPEN_MAX]; /* begun and not ended, outermost first */
	unsigned n_open;                       /* may be more than fit */
	struct bht_longest longest;            /* executions */
	struct bht_recent recent;
	/* When its thread was made runnable in the last wait that ended, and when it got a
	 * processor; time 0: the kernel did not tell. */
	struct bht_event waking, running;
	char name[BHP_NAME_SIZE];
	/* From its loop_new; FREED by its loop_free. */
	bool seen_new, freed;
	uint32_t protocol;
	int32_t notifier_fd;
};

/* What the kernel told of a thread. Times of events are 0 when there was none. */
struct bht_kernel {
	struct bht_event in, out; /* last switches */
	struct bht_event waking;  /* last one, */
	struct bht_event woken;   /* and last one that ended a sleep */
	uint64_t woken_queued;    /* QUEUED at that time */
	uint64_t since;           /* it waits for a processor since then; 0: it does not */
	uint64_t queued;          /* ticks that it waited before that */
	struct bht_longest waits;
};

/* What a thread has to do with a loop. */
enum bht_relation { BHT_STRANGER, BHT_USES, BHT_POLLS };

struct bht_thread_machine {
	uint32_t tid;
	char name[BHP_TEXT_MAX + 1];
	uint64_t last;                 /* time of its last event */
	uint64_t complete_since;       /* nothing is missing from here on; 0: from its beginning */
	uint64_t known;                /* the loop of its last event, */
	enum bht_relation known_as;    /* and what it has to do with it */
	struct bht_loop_machine *loop; /* the same, or another one */
	struct bht_map loops;          /* that its events are about: key = address, value = enum bht_relation */
	/* Effective schedules that it has not notified. A signal handler may
	 * come in between, so some of its next events prove nothing. */
	struct {
		struct bht_bh_machine *bh; /* NULL: free */
		uint64_t time;
		unsigned patience;
	} unnotified[BHT_UNNOTIFIED_MAX];
	unsigned n_unnotified;
};

/* A stretch in which events may be missing. */
struct bht_span_of_time {
	uint64_t from, to;
};

struct bht_machines {
	struct bht_map bhs, loops, threads;
	struct bht_map kernel;          /* by tid; threads that have no other event are here alone */
	struct bht_bh_machine *last_bh; /* found last */
	struct bht_loop_machine *last_loop;
	struct bht_thread_machine *last_thread[BHT_LAST_THREADS]; /* by tid: the merge alternates between a few */
	uint64_t error;       /* ticks: no two events of different threads closer than this are ordered */
	uint64_t race_window; /* ticks: what was scheduled longer before an execution was seen by it */
	uint64_t first;       /* time of the first event */
	uint64_t n_events;    /* but those of the kernel */
	uint64_t n_kernel;
	uint64_t lost;               /* events known to be missing, all threads */
	uint64_t all_complete_since; /* for every thread, from losses of no thread in particular */
	unsigned n_losses;           /* loss events */
	unsigned losses[8];          /* the same by enum bht_loss_why */
	struct bht_span_of_time span[BHT_LOSSES_MAX];
	unsigned n_spans; /* the first covers all older ones when they did not fit */
};

/* Feeds one event. 0 or -ENOMEM. */
int bht_machines_feed(struct bht_machines *m, const struct bht_event *e);

/* NULL when the history does not mention it. */
struct bht_bh_machine *bht_machine_bh(const struct bht_machines *m, uint64_t addr);
struct bht_loop_machine *bht_machine_loop(const struct bht_machines *m, uint64_t addr);
struct bht_thread_machine *bht_machine_thread(const struct bht_machines *m, uint32_t tid);

/* What the kernel told of the thread; NULL when nothing. */
static inline const struct bht_kernel *bht_machine_kernel(const struct bht_machines *m, uint32_t tid)
{
	return m->n_kernel ? bht_map_get(&m->kernel, tid) : NULL;
}

/* Ticks up to TIME that the thread could run and had no processor, as far as that was told.
 * K may be NULL. */
static inline uint64_t bht_queued_at(const struct bht_kernel *k, uint64_t time)
{
	return k ? k->queued + (k->since && time > k->since ? time - k->since : 0) : 0;
}

/* "on CPU 1 behind thread 17 (worker)", of a wait for a processor. Names are as the target
 * wrote them. */
struct bht_evidence;
void bht_queue_words(char *dst, size_t size, const struct bht_machines *m, const struct bht_evidence *ev,
		     const struct bht_stretch *queue);

/* From which time on the history of all threads is complete. */
uint64_t bht_complete_since(const struct bht_machines *m);

/* The same for those that have to do with LOOP: OWNER and those with an event
 * about it. A thread whose recorded events are all about other loops is taken
 * for a stranger: busy strangers overwrite their history all the time. */
uint64_t bht_related_complete_since(const struct bht_machines *m, uint64_t loop, uint32_t owner);

/* The same for those that poll it. */
uint64_t bht_pollers_complete_since(const struct bht_machines *m, uint64_t loop, uint32_t owner);

/* Whether THREAD has an event about LOOP, or may have: nothing is known of one
 * without any event. */
static inline bool bht_is_related(const struct bht_thread_machine *thread, uint64_t loop)
{
	return !thread->loops.used || bht_map_get(&thread->loops, loop);
}

/* Whether no event of any thread can be missing between the two times. */
bool bht_lossless(const struct bht_machines *m, uint64_t from, uint64_t to);

void bht_machines_free(struct bht_machines *m);

/* --- for the files that make up the machines ----------------------------------- */

/* The loop that an event is about; made when it is new. NULL: no memory. */
struct bht_loop_machine *bht_find_loop(struct bht_machines *m, uint64_t addr);

static inline struct bht_loop_machine *bht_the_loop(struct bht_machines *m, uint64_t addr)
{
	return m->last_loop && m->last_loop->addr == addr ? m->last_loop : bht_find_loop(m, addr);
}

static inline void bht_remember(struct bht_loop_machine *loop, const struct bht_event *e)
{
	struct bht_event *slot = &loop->recent.event[loop->recent.n++ % BHT_RECENT];

	*slot = *e;
	slot->text = NULL;
}

/* flag.c: an event about a bottom half. PREVIOUS is its thread's event before. */
int bht_feed_bh(struct bht_machines *m, struct bht_bh_machine *bh, const struct bht_event *e, uint64_t previous);

/* turn.c: an event about a loop. */
int bht_feed_loop(struct bht_machines *m, const struct bht_event *e);
void bht_execution_begins(const struct bht_machines *m, struct bht_loop_machine *loop, uint64_t bh, uint64_t time);
void bht_execution_ends(struct bht_loop_machine *loop, uint64_t bh, uint64_t time);

void bht_longest_add(struct bht_longest *l, const struct bht_stretch *x);

/* kernel.c: an event of the kernel; some are missing. */
void bht_feed_kernel(struct bht_kernel *k, const struct bht_event *e);
void bht_kernel_lost(struct bht_kernel *k);

/* delay.c: BH begins to be executed although its schedule waited. */
void bht_delay_measure(struct bht_machines *m, struct bht_bh_machine *bh, const struct bht_loop_machine *loop,
		       const struct bht_event *begin);
/* The producer of the doubtful rescue did, or did not, notify. */
void bht_delay_notified(struct bht_bh_machine *bh, uint64_t schedule);
void bht_delay_missed(struct bht_bh_machine *bh, uint64_t schedule);

#endif
