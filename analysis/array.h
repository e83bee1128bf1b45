/* SPDX-License-Identifier: MIT */
/* array.h - arrays that grow by one element at a time */
#ifndef BHT_ARRAY_H
#define BHT_ARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/*
 * Makes room for one more element of SIZE bytes behind the N of the array that
 * ARRAY, the address of a pointer, points to. It is doubled whenever N is a power
 * of two, so it must have grown by this function only. False: no memory, and the
 * array is as it was.
 */
static inline bool bht_room_for_one(void *array, size_t n, size_t size)
{
	void *at;

	if (n & (n - 1))
		return true;
	memcpy(&at, array, sizeof(at));
	at = reallocarray(at, n ? 2 * n : 1, size);
	if (at)
		memcpy(array, &at, sizeof(at));
	return at != NULL;
}

#endif
