/* SPDX-License-Identifier: MIT */
/* schema.h - the field table: what a reader needs to decode a record */
#ifndef BHP_SCHEMA_H
#define BHP_SCHEMA_H

#include "record.h"

enum bhp_field_kind {
	BHP_FIELD_ptr,
	BHP_FIELD_str,
	BHP_FIELD_u8,
	BHP_FIELD_u16,
	BHP_FIELD_u32,
	BHP_FIELD_i32,
	BHP_FIELD_u64,
	BHP_FIELD_i64,
	BHP_FIELD_time
};

/* One field of one event, as every recording carries it. On disk: append only. */
struct bhp_field_info {
	uint8_t event; /* number of the event */
	uint8_t slot;  /* enum bhp_slot */
	uint8_t kind;  /* enum bhp_field_kind */
	char event_name[15];
	char name[14];
};

enum { BHP_FIELD_INFO_MAX = 112 }; /* fits the header page of a ring */

/* Fills TABLE with all fields of all events in the order of events.def.h and
 * gives their number. The table is filled at run time because memory that was
 * written is in every core, read-only data is not. */
uint32_t bhp_schema(struct bhp_field_info table[BHP_FIELD_INFO_MAX]);

#endif
