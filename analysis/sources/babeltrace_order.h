/* SPDX-License-Identifier: MIT */
/*
 * babeltrace_order.h - events in the order of their own time
 *
 * They come in the order in which LTTng stamped them, each shortly after its time. A
 * thread that loses the CPU in between is stamped late, and many events of others
 * come before. So the last BHT_ORDER_HOLD events wait, and each is put where its time
 * says, but never before one of its own thread. One that was even later is delivered
 * when it comes.
 */
#ifndef BHT_BABELTRACE_ORDER_H
#define BHT_BABELTRACE_ORDER_H

#include "event.h"

enum { BHT_ORDER_HOLD = 8192 };

struct bht_order {
	struct bht_event *held; /* texts are owned */
	size_t at, n, size;     /* those that wait, and the room */
	uint64_t latest;        /* time of an event; a loss may end later */
	char *told;             /* text of the event that was given last */
};

/* Takes a copy; its text, if any, is owned from here on. 0 or -ENOMEM. */
int bht_order_put(struct bht_order *o, const struct bht_event *e);

/* Gives up to MAX events that are not later than UNTIL and leaves KEEP, as a source's
 * next() does. */
unsigned bht_order_take(struct bht_order *o, struct bht_event *e, unsigned max, size_t keep, uint64_t until);

void bht_order_free(struct bht_order *o);

#endif
