/* SPDX-License-Identifier: MIT */
/*
 * story.h - evidence and histories written by hand, for the analyzer's tests
 *
 * A story is told as of a live process. The same one can be shown as a core or
 * as the ring files of a killed process would show it, and with events missing.
 */
#ifndef STORY_H
#define STORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "diagnosis.h"
#include "status.h"

/* Addresses and threads of the story; one tick is one nanosecond. */
#define LOOP  ((const void *)0x1000)
#define AUX   ((const void *)0x1800) /* the second loop */
#define BH    ((const void *)0x2000)
#define OUTER ((const void *)0x3000) /* the second bottom half */
enum { LOOP_TID = 10, PRODUCER = 11, OTHER = 12, FOURTH = 13, STORY_EVENTS = 4096 };
enum { STORY_LOOPS = 2, STORY_BHS = 2, STORY_THREADS = 4 };

struct story_sample {
	struct bht_loop loop[STORY_LOOPS];
	struct bht_bh bh[STORY_BHS];
	struct bht_thread thread[STORY_THREADS];
};

struct story {
	struct bht_evidence ev;
	struct story_sample first, last;
	struct bht_event event[STORY_EVENTS];
	unsigned n;
};

/* Sets WHAT in both samples: both(s, loop[0].where, BHP_DISPATCH). */
#define both(s, what, value) ((s)->first.what = (s)->last.what = (value))

/* Adds an event of thread TID at TIME: tell(s, tid, time, schedule, .seen = 1). */
#define tell(s, tid_, time_, name, ...)                                                                                \
	((s)->event[(s)->n++] = (struct bht_event){                                                                    \
		 .r = bhp_encode_##name(time_, &(struct bhp_##name){ __VA_ARGS__ }), .tid = (tid_) })

static inline void story_lose(struct story *s, uint32_t tid, uint64_t time)
{
	s->event[s->n++] = bht_loss(time, tid, BHT_LOSS_OVERWRITTEN, 1);
}

static inline struct bht_sample story_sample_of(struct story_sample *s, uint64_t ticks)
{
	return (struct bht_sample){ .ticks = ticks,
				    .loops = s->loop,
				    .n_loops = 1,
				    .bhs = s->bh,
				    .n_bhs = 1,
				    .threads = s->thread,
				    .n_threads = STORY_THREADS };
}

/* A loop that sleeps for ever, idle in both samples, with an idle bottom half.
 * A second loop and a second bottom half appear with story_more(). */
static inline void story_begin(struct story *s)
{
	static const char *const loop_names[] = { "main", "aux" }, *const bh_names[] = { "done", "outer" };

	memset(s, 0, offsetof(struct story, event));
	s->n = 0;
	for (unsigned i = 0; i < STORY_LOOPS; i++) {
		struct bht_loop loop = { .addr = (uintptr_t)LOOP + i * 0x800,
					 .serial = 1 + i,
					 .protocol = BHP_PROTOCOL_FULL_BARRIER,
					 .owner = LOOP_TID,
					 .where = BHP_WAIT,
					 .depth = 1,
					 .iteration = 7,
					 .notify_me = BHP_LOOP_SLEEPING,
					 .notifier_fd = 5 + (int)i,
					 .wait_timeout_ns = -1,
					 .notifier_watched = 1,
					 .embedder_watches = -1 };
		strcpy(loop.name, loop_names[i]);
		both(s, loop[i], loop);
	}
	for (unsigned i = 0; i < STORY_BHS; i++) {
		struct bht_bh bh = {
			.addr = (uintptr_t)BH + i * 0x1000, .serial = 1 + i, .loop = (uintptr_t)LOOP, .state = BHP_LIVE
		};
		strcpy(bh.name, bh_names[i]);
		both(s, bh[i], bh);
	}
	for (uint32_t t = 0; t < STORY_THREADS; t++)
		both(s, thread[t],
		     ((struct bht_thread){
			     .tid = LOOP_TID + t, .name = "t", .state = 'S', .syscall = SYS_ppoll, .switches = 5 }));
	s->ev = (struct bht_evidence){ .pid = 10, .live = true, .ticks_per_ns = 1, .clock_error_ns = 250 };
	s->ev.first = story_sample_of(&s->first, 10000000);
	s->ev.last = story_sample_of(&s->last, 30000000);
}

static inline void story_more(struct story *s, size_t n_loops, size_t n_bhs)
{
	s->ev.first.n_loops = s->ev.last.n_loops = n_loops;
	s->ev.first.n_bhs = s->ev.last.n_bhs = n_bhs;
}

/* The flag of bottom half I is set in both samples. */
static inline void story_due(struct story *s, unsigned i)
{
	both(s, bh[i].flags, BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED);
}

/* An execution in [BEGIN, END]; END 0: it did not end. */
static inline void story_executed(struct story *s, const void *bh, uint64_t begin, uint64_t end)
{
	unsigned i = bh == OUTER;

	tell(s, LOOP_TID, begin, execute_begin, .loop = LOOP, .bh = bh);
	if (end)
		tell(s, LOOP_TID, end, execute_end, .loop = LOOP, .bh = bh, .begin = begin);
	both(s, bh[i].runs, s->first.bh[i].runs + 1);
	both(s, bh[i].last_run, begin);
}

static inline void story_sleeps(struct story *s, uint64_t at)
{
	tell(s, LOOP_TID, at, wait_begin, .loop = LOOP, .timeout_ns = -1);
}

/* --- the same, seen otherwise ------------------------------------------------------ */

/* A thread of state X has exited: nobody but its ring file knows it. */
static inline void story_bury(struct story *s)
{
	size_t n = 0;

	for (size_t t = 0; t < STORY_THREADS; t++)
		if (s->last.thread[t].state != 'X')
			s->last.thread[n++] = s->last.thread[t];
	s->ev.last.n_threads = n;
}

static inline void story_look(struct story *s, enum bht_origin origin)
{
	s->ev.origin = origin;
	if (origin != BHT_FROM_RINGS)
		story_bury(s);
	if (origin == BHT_FROM_PROCESS || origin == BHT_FROM_SNAPSHOT)
		return;
	s->ev.live = false;
	s->ev.first = (struct bht_sample){ 0 };
	for (unsigned i = 0; i < STORY_LOOPS; i++) {
		struct bht_loop *loop = &s->last.loop[i];
		loop->notifier_count = loop->notifier_watched = loop->embedder_watches = -1;
		loop->notifier_mask = 0;
	}
	for (unsigned t = 0; t < STORY_THREADS; t++) {
		struct bht_thread *thread = &s->last.thread[t];
		thread->switches = thread->cpu_ns = 0;
		/* A core shows who was in a system call, not who was stopped. */
		if (origin == BHT_FROM_CORE)
			thread->state = thread->state == 'S' ? 'S' : 'R';
		else if (thread->state != 'X')
			thread->state = '?';
		if (origin == BHT_FROM_RINGS)
			thread->syscall = BHT_SYSCALL_UNKNOWN;
	}
}

/* Loses event I as a recorder would: what is missing is told before the next
 * event of its thread, or at the end. */
static inline void story_delete(struct story *s, unsigned i)
{
	uint32_t tid = s->event[i].tid;
	unsigned next = i;

	memmove(&s->event[i], &s->event[i + 1], (--s->n - i) * sizeof(s->event[0]));
	while (next < s->n && s->event[next].tid != tid)
		next++;
	uint64_t until = next < s->n ? bhp_record_time(&s->event[next].r) : s->ev.last.ticks;
	memmove(&s->event[next + 1], &s->event[next], (s->n++ - next) * sizeof(s->event[0]));
	s->event[next] = bht_loss(until, tid, BHT_LOSS_DROPPED, 1);
}

/* --- diagnosing ---------------------------------------------------------------------- */

struct story_source {
	struct bht_source base;
	const struct story *story;
	unsigned next;
};

static inline int story_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct story_source *s = (struct story_source *)source;
	unsigned n = 0;

	while (n < max && s->next < s->story->n)
		e[n++] = s->story->event[s->next++];
	return (int)n;
}

static inline void story_close(struct bht_source *source)
{
	(void)source;
}

/* Diagnoses; the caller frees *D. */
static inline void story_diagnose(const struct story *s, struct bht_diagnosis *d)
{
	struct story_source source = { { story_next, story_close }, s, 0 };

	assert_int_equal(bht_diagnose(&s->ev, &source.base, BHT_LATE_NS, d), 0);
}

/* One story for a group of tests. */
static inline int story_setup(void **state)
{
	*state = calloc(1, sizeof(struct story));
	return *state ? 0 : -1;
}

static inline int story_teardown(void **state)
{
	free(*state);
	return 0;
}

#endif
