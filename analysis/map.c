/* SPDX-License-Identifier: MIT */
#include "map.h"

#include <errno.h>
#include <stdlib.h>

static int grow(struct bht_map *map)
{
	struct bht_map bigger = { .size = map->size ? map->size * 2 : 64, .used = map->used };

	bigger.entry = calloc(bigger.size, sizeof(*bigger.entry));
	if (!bigger.entry)
		return -ENOMEM;
	BHT_MAP_EACH(map, e)
	bigger.entry[bht_map_slot(&bigger, e->key)] = *e;
	free(map->entry);
	*map = bigger;
	return 0;
}

int bht_map_put(struct bht_map *map, uint64_t key, void *value)
{
	if (map->used * 4 >= map->size * 3 && grow(map) != 0)
		return -ENOMEM;
	struct bht_map_entry *e = &map->entry[bht_map_slot(map, key)];
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
