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

/* Where KEY is, or the free place where it would be; SIZE is not 0. */
static inline size_t bht_map_slot(const struct bht_map *map, uint64_t key)
{
	/* Fibonacci hashing: addresses share their low bits. */
	size_t i = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (map->size - 1);

	while (map->entry[i].value && map->entry[i].key != key)
		i = (i + 1) & (map->size - 1);
	return i;
}

static inline void *bht_map_get(const struct bht_map *map, uint64_t key)
{
	return map->size ? map->entry[bht_map_slot(map, key)].value : NULL;
}

/* Replaces an existing value. 0 or -ENOMEM. */
int bht_map_put(struct bht_map *map, uint64_t key, void *value);

/* Frees the table, not the values. */
void bht_map_free(struct bht_map *map);

#define BHT_MAP_EACH(map, e)                                                                                           \
	for (struct bht_map_entry *e = (map)->entry; e && e < (map)->entry + (map)->size; e++)                         \
		if (e->value)

#endif
