/* SPDX-License-Identifier: MIT */
/* capture_times.h - times of the kernel, in ticks of bhp_clock() */
#ifndef BHB_CAPTURE_TIMES_H
#define BHB_CAPTURE_TIMES_H

#include "flight.h"
#include "record.h"

enum { BHB_TIDS_PER_PAGE = 1024, BHB_TID_PAGES = 4096 /* PID_MAX_LIMIT */, BHB_BEGUN = 4096 };

struct bhb_times {
	double ticks_per_ns;
	struct bhp_clock_pair before, now; /* pairs of this round and of the one before */
	struct bhb_begun {
		uint64_t ns, ticks;
		uint32_t tid;
	} begun[BHB_BEGUN];            /* beginnings of executions by recipes */
	uint64_t *last[BHB_TID_PAGES]; /* of each thread: time of its latest event of the kernel, or by a recipe */
};

void bhb_times_begin(struct bhb_times *t, double ticks_per_ns);
void bhb_times_end(struct bhb_times *t);

/* Compares the clocks again. */
void bhb_times_compare(struct bhb_times *t);

/* CLOCK_MONOTONIC, in ns, as ticks; and no earlier than the event of the thread before. */
uint64_t bhb_times_ticks(const struct bhb_times *t, uint64_t ns);
uint64_t bhb_times_of_thread(struct bhb_times *t, uint32_t tid, uint64_t ns);

/* An event by a recipe (BHB_IN_NS), with its times in ticks. */
struct bhp_record bhb_times_of_recipe(struct bhb_times *t, uint32_t tid, const struct bhp_record *in);

#endif
