/* SPDX-License-Identifier: MIT */
/*
 * fields.h - records of an older or newer recorder in today's form
 *
 * A recording carries the field table it was written with. Events and fields
 * are found again by name; where they lay, and under which number, may differ.
 */
#ifndef BHT_FIELDS_H
#define BHT_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"
#include "schema.h"

enum { BHT_FIELDS_MAX = 256 * BHP_FIELDS_MAX };

/* How the records of one event number are read. */
struct bht_fields_event {
	bool described; /* in the table of the recording */
	uint8_t id;     /* enum bhp_id, 0 when we do not know the event */
	uint8_t n_moves;
	struct {
		uint8_t from, to; /* enum bhp_slot */
	} move[BHP_FIELDS_MAX];
};

struct bht_fields {
	bool same; /* the table is ours: records are taken as they are */
	struct bht_fields_event event[256];
};

enum bht_fields_verdict { BHT_RECORD_NONSENSE, BHT_RECORD_UNKNOWN, BHT_RECORD_OK };

/* Prepares the reading of records described by TABLE, which is not kept. */
void bht_fields_init(struct bht_fields *fields, const struct bhp_field_info *table, uint32_t n);

/* Rewrites *R. UNKNOWN: described, but this reader has no such event.
 * NONSENSE: no record of this recorder, text without its event included. */
enum bht_fields_verdict bht_fields_apply(const struct bht_fields *fields, struct bhp_record *r);

#endif
