/* SPDX-License-Identifier: MIT */
/* timeline_drawing.h - what timeline.c and timeline_objects.c share */
#ifndef BHT_TIMELINE_DRAWING_H
#define BHT_TIMELINE_DRAWING_H

#include "timeline.h"

struct bht_drawn_process {
	struct bht_machines m;
	struct bht_map lanes, objects;
	struct bht_map names; /* in the evidence: address -> text */
};

struct bht_drawing {
	struct bht_timeline *t;
	struct bht_pen *pen;
	struct bht_drawn_process *process;
	bool inside, past; /* of the picture */
	uint64_t now;      /* latest time drawn */
};

/* The lane of a thread, made when it is new. NULL: no memory. */
struct bht_lane *bht_drawn_lane(struct bht_drawing *d, uint32_t process, uint32_t tid);

/* What E is about: its bottom half, or its loop, or NULL for a thread. 0 or -ENOMEM. */
int bht_drawn_object(struct bht_drawing *d, const struct bht_event *e, struct bht_object **object);

#endif
