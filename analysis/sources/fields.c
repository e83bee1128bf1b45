/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "event.h"
#include "fields.h"

static uint64_t slot_get(uint8_t slot, const struct bhp_record *r)
{
	switch (slot) {
#define SLOT(name, w, shift, width)                                                                                    \
	case BHP_SLOT_##name:                                                                                          \
		return bhp_get_##name(r);
		BHP_SLOT_LIST(SLOT)
#undef SLOT
	default:
		return 0;
	}
}

static void slot_put(uint8_t slot, struct bhp_record *r, uint64_t value)
{
	switch (slot) {
#define SLOT(name, w, shift, width)                                                                                    \
	case BHP_SLOT_##name:                                                                                          \
		bhp_put_##name(r, value);                                                                              \
		break;
		BHP_SLOT_LIST(SLOT)
#undef SLOT
	}
}

static bool same_event(const struct bhp_field_info *a, const struct bhp_field_info *b)
{
	return !strncmp(a->event_name, b->event_name, sizeof(a->event_name));
}

/* A field that changed its kind is another field. */
static bool same_field(const struct bhp_field_info *a, const struct bhp_field_info *b)
{
	return same_event(a, b) && !strncmp(a->name, b->name, sizeof(a->name)) && a->kind == b->kind;
}

static void add(struct bht_fields *fields, const struct bhp_field_info *theirs, const struct bhp_field_info *ours,
		uint32_t n)
{
	struct bht_fields_event *event = &fields->event[theirs->event];

	event->described = true;
	for (uint32_t i = 0; i < n; i++) {
		if (!event->id && same_event(theirs, &ours[i]))
			event->id = ours[i].event;
		if (event->id == ours[i].event && event->n_moves < BHP_FIELDS_MAX && same_field(theirs, &ours[i])) {
			event->move[event->n_moves].from = theirs->slot;
			event->move[event->n_moves++].to = ours[i].slot;
		}
	}
}

void bht_fields_init(struct bht_fields *fields, const struct bhp_field_info *table, uint32_t n)
{
	struct bhp_field_info ours[BHP_FIELD_INFO_MAX];

	memset(ours, 0, sizeof(ours));
	uint32_t n_ours = bhp_schema(ours);

	memset(fields, 0, sizeof(*fields));
	fields->same = n == n_ours && !memcmp(table, ours, n * sizeof(*table));
	for (uint32_t i = 0; i < n; i++)
		if (table[i].event != 0 && table[i].event != BHP_ID_TEXT && table[i].event != BHT_ID_LOSS)
			add(fields, &table[i], ours, n_ours);
}

enum bht_fields_verdict bht_fields_apply(const struct bht_fields *fields, struct bhp_record *r)
{
	const struct bht_fields_event *event = &fields->event[bhp_record_id(r)];

	if (!event->described)
		return BHT_RECORD_NONSENSE;
	if (fields->same)
		return BHT_RECORD_OK;
	if (!event->id)
		return BHT_RECORD_UNKNOWN;
	struct bhp_record ours = { { r->word[0], event->id, 0, 0 } };
	for (unsigned i = 0; i < event->n_moves; i++)
		slot_put(event->move[i].to, &ours, slot_get(event->move[i].from, r));
	*r = ours;
	return BHT_RECORD_OK;
}
