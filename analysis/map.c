/* SPDX-License-Identifier: MIT */
#include "map.h"

#include <errno.h>
#include <stdlib.h>

static size_t slot_of(const struct bht_map *map, uint64_t key)
{
	/* Fibonacci hashing: addresses share their low bits. */
	size_t i = (size_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (map->size - 1);

	while (map->entry[i].value && map->entry[i].key != key)
		i = (i + 1) & (map->size - 1);
	return i;
}

void *bht_map_get(const struct bht_map *map, uint64_t key)
{
	return map->size ? map->entry[slot_of(map, key)].value : NULL;
}

static int grow(struct bht_map *map)
{
	struct bht_map bigger = { .size = map->size ? map->size * 2 : 64, .used = map->used };

	bigger.entry = calloc(bigger.size, sizeof(*bigger.entry));
	if (!bigger.entry)
		return -ENOMEM;
	BHT_MAP_EACH(map, e)
	bigger.entry[slot_of(&bigger, e->key)] = *e;
	free(map->entry);
	*map = bigger;
	return 0;
}

int bht_map_put(struct bht_map *map, uint64_t key, void *value)
{
	if (map->used * 4 >= map->size * 3 && grow(map) != 0)
		return -ENOMEM;
	struct bht_map_entry *e = &map->entry[slot_of(map, key)];
	if (!e->value)
		map->used++;
	*e = (struct bht_map_entry){ key, value };
	return 0;
}

void bht_map_free(struct bht_map *map)
{
	free(map->entry);
	*map = (struct bht_map){ 0 };
}
