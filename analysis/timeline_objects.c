/* SPDX-License-Identifier: MIT */
/* The lanes, loops and bottom halves of a picture, with their names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "timeline_drawing.h"

static struct bht_lane *new_lane(struct bht_drawing *d, uint32_t process, uint32_t tid)
{
	struct bht_timeline *t = d->t;
	const struct bht_thread *known = bht_sample_thread(&t->process[process].ev.last, tid);
	struct bht_lane *lane = calloc(1, sizeof(*lane));

	if (!lane || !bht_room_for_one(&t->lane, t->n_lanes, sizeof(struct bht_lane *))) {
		free(lane);
		return NULL;
	}
	*lane = (struct bht_lane){ .index = (uint32_t)t->n_lanes, .process = process, .tid = tid };
	if (known && tid)
		memcpy(lane->name, known->name, sizeof(known->name));
	t->lane[t->n_lanes++] = lane;
	return bht_map_put(&d->process[process].lanes, tid, lane) ? NULL : lane;
}

struct bht_lane *bht_drawn_lane(struct bht_drawing *d, uint32_t process, uint32_t tid)
{
	struct bht_lane *lane = bht_map_get(&d->process[process].lanes, tid);

	return lane ? lane : new_lane(d, process, tid);
}

static struct bht_object *new_object(struct bht_drawing *d, uint32_t process, uint64_t addr,
				     const struct bht_object *loop)
{
	struct bht_timeline *t = d->t;
	struct bht_object *object = calloc(1, sizeof(*object));

	if (!object || !bht_room_for_one(&t->object, t->n_objects, sizeof(struct bht_object *))) {
		free(object);
		return NULL;
	}
	*object =
		(struct bht_object){ .index = (uint32_t)t->n_objects, .process = process, .addr = addr, .loop = loop };
	t->object[t->n_objects++] = object;
	return bht_map_put(&d->process[process].objects, addr, object) ? NULL : object;
}

/* The evidence knows the names of those that were there at the end: of this one,
 * when no other was made in its place. */
static struct bht_object *old_object(struct bht_drawing *d, uint32_t process, uint64_t addr,
				     const struct bht_object *loop)
{
	struct bht_object *object = new_object(d, process, addr, loop);
	const char *name = bht_map_get(&d->process[process].names, addr);

	if (object && name && !bht_map_get(&d->t->overview->made, bht_object_key(process, addr)))
		memcpy(object->name, name, sizeof(object->name) - 1);
	return object;
}

static struct bht_object *the_object(struct bht_drawing *d, uint32_t process, uint64_t addr,
				     const struct bht_object *loop)
{
	struct bht_object *object = bht_map_get(&d->process[process].objects, addr);

	return object && object->loop == loop ? object : old_object(d, process, addr, loop);
}

static bool has_bh(const struct bht_event *e)
{
	switch (bht_event_id(e)) {
	case BHP_ID_bh_new:
	case BHP_ID_bh_delete:
	case BHP_ID_bh_cancel:
	case BHP_ID_schedule:
	case BHP_ID_execute_begin:
	case BHP_ID_execute_end:
	case BHP_ID_consume:
		return true;
	case BHP_ID_notify:
		return bhp_get_BH(&e->r) != 0;
	default:
		return false;
	}
}

int bht_drawn_object(struct bht_drawing *d, const struct bht_event *e, struct bht_object **object)
{
	const bool is_new = bht_event_id(e) == BHP_ID_loop_new || bht_event_id(e) == BHP_ID_bh_new;

	*object = NULL;
	if (!bhp_get_LOOP(&e->r))
		return 0;
	if (bht_event_id(e) == BHP_ID_loop_new)
		*object = new_object(d, e->process, bhp_get_LOOP(&e->r), NULL);
	else
		*object = the_object(d, e->process, bhp_get_LOOP(&e->r), NULL);
	if (*object && bht_event_id(e) == BHP_ID_bh_new)
		*object = new_object(d, e->process, bhp_get_BH(&e->r), *object);
	else if (*object && has_bh(e))
		*object = the_object(d, e->process, bhp_get_BH(&e->r), *object);
	if (*object && is_new)
		strncpy((*object)->name, e->text ? e->text : "", sizeof((*object)->name) - 1);
	return *object ? 0 : -ENOMEM;
}
