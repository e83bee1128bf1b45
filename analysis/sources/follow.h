/* SPDX-License-Identifier: MIT */
/* follow.h - following a linked list in memory that is not trusted */
#ifndef BHT_FOLLOW_H
#define BHT_FOLLOW_H

#include <errno.h>
#include <stdint.h>

/*
 * Brent's cycle detection: one address is remembered and compared with all that
 * follow; which one moves on after 1, 2, 4, ... steps. A list that closes on
 * itself is noticed before it was gone round three times.
 */
struct bht_follow {
	uint64_t mark;
	uint64_t steps;
	uint64_t power;
};

/* To be called with each element, not 0. 0, -ELOOP when the list is a circle,
 * -E2BIG after MAX elements. */
static inline int bht_follow(struct bht_follow *f, uint64_t addr, uint64_t max)
{
	if (addr == f->mark)
		return -ELOOP;
	if (++f->steps > max)
		return -E2BIG;
	if (f->steps > f->power) {
		f->mark = addr;
		f->power = f->steps * 2;
	}
	return 0;
}

#endif
