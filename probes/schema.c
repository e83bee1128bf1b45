/* SPDX-License-Identifier: MIT */
#include "schema.h"

/* No event may use a bit of its record twice: for each, the sum of the slots'
 * masks equals their union. ARG is LO and HI together; what is in word 2 instead
 * takes the place of BH and HALF. */
enum {
	MASK_LOOP = 1,
	MASK_T0 = 2,
	MASK_T1 = 4,
	MASK_BH = 8,
	MASK_HALF = 16,
	MASK_LO = 32,
	MASK_HI = 64,
	MASK_ARG = 96,
	MASK_TEXT = 128,
	MASK_LO2 = MASK_BH | 256,
	MASK_HI2 = MASK_HALF | 512,
	MASK_ARG2 = MASK_LO2 | MASK_HI2
};

#define BHP_F(slot, kind, name, doc)         +MASK_##slot
#define BHP_EVENT(number, name, fields, doc) SUM_##name = 0 fields,
#define BHP_MARK                             BHP_EVENT
enum {
#include "events.def.h"
};
#undef BHP_F

#define BHP_F(slot, kind, name, doc)         | MASK_##slot
#define BHP_EVENT(number, name, fields, doc) UNION_##name = 0 fields,
#define BHP_MARK                             BHP_EVENT
enum {
#include "events.def.h"
};
#undef BHP_F

/* What comes later in the record needs what comes before it. */
#define FOLLOWS(mask, later, before) (!((int)(mask)&MASK_##later) || (int)(mask)&MASK_##before)
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	_Static_assert((int)SUM_##name == (int)UNION_##name, #name ": two fields share a slot");                       \
	_Static_assert(FOLLOWS(UNION_##name, T1, T0) && FOLLOWS(UNION_##name, HALF, BH) &&                             \
			       FOLLOWS(UNION_##name, LO, BH) && FOLLOWS(UNION_##name, HI, LO),                         \
		       #name ": a gap between its fields");
#define BHP_MARK BHP_EVENT
#include "events.def.h"

#define BHP_F(slot, kind, name, doc)         +1
#define BHP_EVENT(number, name, fields, doc) _Static_assert(0 fields <= BHP_FIELDS_MAX, #name ": too many fields");
#define BHP_MARK                             BHP_EVENT
#include "events.def.h"
#undef BHP_F

/* Two events of one number would be one: here a duplicate case. */
#define BHP_EVENT(number, name, fields, doc) case (number):
#define BHP_MARK                             BHP_EVENT
static inline __attribute__((unused)) void numbers_are_unique(unsigned n)
{
	switch (n) {
#include "events.def.h"
	default:
		break;
	}
}

/* A kind that its slot cannot hold would be cut without a word. T0 and T1 have
 * four bits for small values, which the type system does not know. */
#define FITS_ptr(slot)           (SLOT_BITS_##slot >= 48)
#define FITS_str(slot)           (SLOT_BITS_##slot == 0)
#define FITS_u8(slot)            (SLOT_BITS_##slot >= 4)
#define FITS_u16(slot)           (SLOT_BITS_##slot >= 16)
#define FITS_u32(slot)           (SLOT_BITS_##slot >= 32)
#define FITS_i32(slot)           (SLOT_BITS_##slot >= 32)
#define FITS_u64(slot)           (SLOT_BITS_##slot == 64)
#define FITS_i64(slot)           (SLOT_BITS_##slot == 64)
#define FITS_time(slot)          (SLOT_BITS_##slot == 64)
#define S(slot, w, shift, width) SLOT_BITS_##slot = (width),
enum { BHP_SLOT_LIST(S) SLOT_BITS_TEXT = 0 };
#undef S
#define BHP_F(slot, kind, name, doc)         &&FITS_##kind(slot)
#define BHP_EVENT(number, name, fields, doc) _Static_assert(1 fields, #name ": a kind does not fit its slot");
#define BHP_MARK                             BHP_EVENT
#include "events.def.h"
#undef BHP_F

uint32_t bhp_schema(struct bhp_field_info table[BHP_FIELD_INFO_MAX])
{
	uint32_t n = 0;

#define BHP_F(slot_, kind_, name_, doc_)                                                                               \
	table[n++] = (struct bhp_field_info){                                                                          \
		.event = event, .slot = BHP_SLOT_##slot_, .kind = BHP_FIELD_##kind_, .name = #name_                    \
	};
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	{                                                                                                              \
		const uint8_t event = (number);                                                                        \
		const uint32_t first = n;                                                                              \
		fields;                                                                                                \
		for (uint32_t i = first; i < n; i++)                                                                   \
			memcpy(table[i].event_name, #name, sizeof(#name));                                             \
	}
#define BHP_MARK BHP_EVENT
#include "events.def.h"
#undef BHP_F
	return n;
}

#define BHP_F(slot, kind, name, doc)         +1
#define BHP_EVENT(number, name, fields, doc) fields
#define BHP_MARK                             BHP_EVENT
_Static_assert(0
#include "events.def.h"
		       <= BHP_FIELD_INFO_MAX,
	       "the field table is full");
#undef BHP_F
