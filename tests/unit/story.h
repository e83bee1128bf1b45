/* SPDX-License-Identifier: MIT */
/* story.h - evidence and histories written by hand, for the analyzer's tests */
#ifndef STORY_H
#define STORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "diagnosis.h"
#include "status.h"

/* Addresses and threads of the story; one tick is one nanosecond. */
#define LOOP ((const void *)0x1000)
#define BH   ((const void *)0x2000)
enum { LOOP_TID = 10, PRODUCER = 11, OTHER = 12, STORY_EVENTS = 4096 };

struct story {
	struct bht_evidence ev;
	struct bht_loop loop[2]; /* first and last sample */
	struct bht_bh bh[2];
	struct bht_thread thread[2][3];
	struct bht_event event[STORY_EVENTS];
	unsigned n;
	uint64_t now;
};

struct story_source {
	struct bht_source base;
	const struct story *story;
	unsigned next;
};

static inline int story_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct story_source *s = (struct story_source *)source;

	(void)max;
	if (s->next == s->story->n)
		return 0;
	*e = s->story->event[s->next++];
	return 1;
}

static inline void story_close(struct bht_source *source)
{
	(void)source;
}

/* Adds an event of thread TID at TIME: tell(s, tid, time, schedule, .seen = 1). */
#define tell(s, tid_, time_, name, ...)                                                                                \
	((s)->event[(s)->n++] = (struct bht_event){                                                                    \
		 .r = bhp_encode_##name(time_, &(struct bhp_##name){ __VA_ARGS__ }), .tid = (tid_) })

/* A loop that sleeps for ever, idle in both samples, with an idle bottom half. */
static inline void story_begin(struct story *s)
{
	memset(s, 0, sizeof(*s));
	for (int i = 0; i < 2; i++) {
		s->loop[i] = (struct bht_loop){ .addr = (uintptr_t)LOOP,
						.serial = 1,
						.name = "main",
						.protocol = BHP_PROTOCOL_FULL_BARRIER,
						.owner = LOOP_TID,
						.where = BHP_WAIT,
						.depth = 1,
						.iteration = 7,
						.notify_me = BHP_LOOP_SLEEPING,
						.wait_timeout_ns = -1,
						.notifier_watched = 1 };
		s->bh[i] = (struct bht_bh){
			.addr = (uintptr_t)BH, .serial = 1, .name = "done", .loop = (uintptr_t)LOOP, .state = BHP_LIVE
		};
		for (int t = 0; t < 3; t++)
			s->thread[i][t] = (struct bht_thread){
				.tid = LOOP_TID + (uint32_t)t, .name = "t", .state = 'S', .syscall = 232, .switches = 5
			};
	}
	s->ev = (struct bht_evidence){ .pid = 10, .live = true, .ticks_per_ns = 1, .clock_error_ns = 250 };
	s->ev.first = (struct bht_sample){ .ticks = 10000000,
					   .loops = &s->loop[0],
					   .n_loops = 1,
					   .bhs = &s->bh[0],
					   .n_bhs = 1,
					   .threads = s->thread[0],
					   .n_threads = 3 };
	s->ev.last = (struct bht_sample){ .ticks = 30000000,
					  .loops = &s->loop[1],
					  .n_loops = 1,
					  .bhs = &s->bh[1],
					  .n_bhs = 1,
					  .threads = s->thread[1],
					  .n_threads = 3 };
}

/* Diagnoses; the caller frees *D. */
static inline void story_diagnose(const struct story *s, struct bht_diagnosis *d)
{
	struct story_source source = { { story_next, story_close }, s, 0 };

	assert_int_equal(bht_diagnose(&s->ev, &source.base, d), 0);
}

#endif
