/* SPDX-License-Identifier: MIT */
/* foreign_set.h - a set of addresses, none of them 0 */
#ifndef BHTRACE_FOREIGN_SET_H
#define BHTRACE_FOREIGN_SET_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* Addresses, as a table of open addressing. */
struct set {
	uint64_t *at;
	size_t size, used;
};

static inline bool set_has(const struct set *s, uint64_t key)
{
	for (size_t i = key * UINT64_C(0x9e3779b97f4a7c15) >> 20; s->size; i++) {
		const uint64_t at = s->at[i & (s->size - 1)];
		if (at == key || !at)
			return at == key;
	}
	return false;
}

static inline void set_insert(struct set *s, uint64_t key)
{
	size_t i = key * UINT64_C(0x9e3779b97f4a7c15) >> 20;

	while (s->at[i & (s->size - 1)])
		i++;
	s->at[i & (s->size - 1)] = key;
	s->used++;
}

/* Whether KEY, which is not 0, is new; without memory, nothing ever is. */
static inline bool set_add(struct set *s, uint64_t key)
{
	if (!key || set_has(s, key))
		return false;
	if (s->used * 2 >= s->size) {
		const struct set old = *s;
		struct set more = { .size = old.size ? old.size * 2 : 64 };
		more.at = calloc(more.size, sizeof(*more.at));
		if (!more.at)
			return false;
		for (size_t i = 0; i < old.size; i++)
			if (old.at[i])
				set_insert(&more, old.at[i]);
		free(old.at);
		*s = more;
	}
	set_insert(s, key);
	return true;
}

/* It will be new again. */
static inline void set_drop(struct set *s, uint64_t key)
{
	struct set more = { .size = s->size };

	if (!set_has(s, key))
		return;
	more.at = calloc(more.size, sizeof(*more.at));
	for (size_t i = 0; more.at && i < s->size; i++)
		if (s->at[i] && s->at[i] != key)
			set_insert(&more, s->at[i]);
	free(s->at);
	*s = more.at ? more : (struct set){ .size = 0 };
}

#endif
