/* SPDX-License-Identifier: MIT */
/* What a first reading of a history tells those who draw it in a second one. */
#include <errno.h>
#include <stdlib.h>

#include "array.h"
#include "timeline.h"

enum { STEP = 1024 }; /* events from mark to mark */

struct tap {
	struct bht_source base;
	struct bht_source *of;
	struct bht_overview *o;
};

static int note(struct bht_overview *o, const struct bht_event *e)
{
	const unsigned id = bht_event_id(e);

	if (id == BHT_ID_LOSS || bht_is_kernel(id))
		return 0; /* not drawn */
	if (bht_time(e) > o->last)
		o->last = bht_time(e);
	if (o->n_events++ % STEP == 0) {
		if (!bht_room_for_one(&o->mark, o->n_marks, sizeof(*o->mark)))
			return -ENOMEM;
		o->mark[o->n_marks++] = bht_time(e);
		o->first = o->mark[0];
	}
	if (id != BHP_ID_bh_new && id != BHP_ID_loop_new)
		return 0;
	return bht_map_put(
		&o->made, bht_object_key(e->process, id == BHP_ID_bh_new ? bhp_get_BH(&e->r) : bhp_get_LOOP(&e->r)), o);
}

static int tap_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct tap *tap = (struct tap *)source;
	const int n = tap->of->next(tap->of, e, max);
	int rc = 0;

	for (int i = 0; i < n && !rc; i++)
		rc = note(tap->o, &e[i]);
	return rc ? rc : n;
}

static void tap_close(struct bht_source *source)
{
	struct tap *tap = (struct tap *)source;

	tap->of->close(tap->of);
	free(tap);
}

struct bht_source *bht_overview_tap(struct bht_source *of, struct bht_overview *o)
{
	struct tap *tap = calloc(1, sizeof(*tap));

	if (!tap) {
		of->close(of);
		errno = ENOMEM;
		return NULL;
	}
	*tap = (struct tap){ { tap_next, tap_close }, of, o };
	return &tap->base;
}

/* The last mark that is not later than TIME, or the first. */
static size_t mark_before(const struct bht_overview *o, uint64_t time)
{
	size_t low = 0, high = o->n_marks;

	while (high - low > 1) {
		const size_t middle = (low + high) / 2;
		if (o->mark[middle] <= time)
			low = middle;
		else
			high = middle;
	}
	return low;
}

void bht_overview_narrow(const struct bht_overview *o, uint64_t max, uint64_t from, uint64_t to, uint64_t *since,
			 uint64_t *until)
{
	const size_t room = max / STEP > 2 ? max / STEP - 2 : 1; /* the marks lie within the window */

	if (o->n_marks < 2)
		return;
	const size_t lowest = mark_before(o, *since), highest = mark_before(o, *until);
	if (highest - lowest <= room)
		return;
	size_t a = mark_before(o, from), b = mark_before(o, to);
	/* When both do not fit, the end matters more: that is where it hangs. */
	size_t low = b - a < room ? (a + b) / 2 : b;
	low = low > room / 2 ? low - room / 2 : 0;
	low = low < lowest ? lowest : low > highest - room ? highest - room : low;
	if (o->mark[low] > *since)
		*since = o->mark[low];
	if (low + room < highest)
		*until = o->mark[low + room];
}

void bht_overview_free(struct bht_overview *o)
{
	free(o->mark);
	bht_map_free(&o->made);
	*o = (struct bht_overview){ 0 };
}

void bht_finding_times(const struct bht_finding *f, uint64_t *from, uint64_t *to)
{
	*from = *to = f->origin;
	for (unsigned i = 0; i < f->n_witness; i++) {
		const uint64_t time = bht_time(&f->witness[i].event);
		if (i == 0 || time < *from)
			*from = time;
		if (i == 0 || time > *to)
			*to = time;
	}
}
