/* SPDX-License-Identifier: MIT */
/* map.h - a set of objects found by a 64-bit key, never shrunk */
#ifndef BHT_MAP_H
#define BHT_MAP_H

#include <stddef.h>
#include <stdint.h>

/* Zero-initialised is empty. Values are never NULL. */
struct bht_map {
	struct bht_map_entry {
		uint64_t key;
		void *value; /* NULL: never used */
	} * entry;
	size_t size; /* a power of two, or 0 */
	size_t used;
};

void *bht_map_get(const struct bht_map *map, uint64_t key);

/* Replaces an existing value. 0 or -ENOMEM. */
int bht_map_put(struct bht_map *map, uint64_t key, void *value);

/* Frees the table, not the values. */
void bht_map_free(struct bht_map *map);

#define BHT_MAP_EACH(map, e)                                                                                           \
	for (struct bht_map_entry *e = (map)->entry; e < (map)->entry + (map)->size; e++)                              \
		if (e->value)

#endif
