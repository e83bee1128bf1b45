/* SPDX-License-Identifier: MIT */
#include "babeltrace_order.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool is_loss(const struct bht_event *e)
{
	return bht_event_id(e) == BHT_ID_LOSS;
}

static bool may_pass(const struct bht_event *e, const struct bht_event *before)
{
	return bht_time(before) > bht_time(e) &&
	       (before->tid != e->tid || before->process != e->process || is_loss(before) || is_loss(e));
}

/* What waits moves to the beginning, in twice the room if it needs that: the less of
 * it, the more stays in the cache. */
static int make_room(struct bht_order *o)
{
	if (o->at < o->size / 4 || !o->size) {
		struct bht_event *more = reallocarray(o->held, o->size ? 2 * o->size : 256, sizeof(*more));
		if (!more)
			return -ENOMEM;
		o->held = more;
		o->size = o->size ? 2 * o->size : 256;
	}
	memmove(o->held, o->held + o->at, o->n * sizeof(*o->held));
	o->at = 0;
	return 0;
}

int bht_order_put(struct bht_order *o, const struct bht_event *e)
{
	if (o->at + o->n == o->size && make_room(o) != 0)
		return -ENOMEM;
	const struct bht_event *first = o->held + o->at;
	struct bht_event *to = o->held + o->at + o->n++;
	while (to > first && may_pass(e, to - 1)) {
		*to = to[-1];
		to--;
	}
	*to = *e;
	if (!is_loss(e) && bht_time(e) > o->latest)
		o->latest = bht_time(e);
	return 0;
}

unsigned bht_order_take(struct bht_order *o, struct bht_event *e, unsigned max, size_t keep, uint64_t until)
{
	unsigned n = 0;

	free(o->told);
	o->told = NULL;
	while (n < max && o->n > keep && bht_time(&o->held[o->at]) <= until && !o->told) {
		e[n] = o->held[o->at++];
		o->n--;
		o->told = (char *)e[n++].text;
	}
	return n;
}

void bht_order_free(struct bht_order *o)
{
	for (size_t i = 0; i < o->n; i++)
		free((char *)o->held[o->at + i].text);
	free(o->held);
	free(o->told);
	*o = (struct bht_order){ 0 };
}
