/* SPDX-License-Identifier: MIT */
/*
 * record.h - an event as 32 bytes, made from events.def.h
 *
 * A record is four words. Where a field lies is its slot:
 *
 *   word 0  time, ticks of bhp_clock()
 *   word 1  event number (8) | T0 (4) | T1 (4) | LOOP (48)
 *   word 2  BH (48) | HALF (16)
 *   word 3  ARG (64), or LO (32) | HI (32)
 *
 * An event without a bottom half has its argument in word 2: ARG2, or LO2 | HI2.
 * So the fields of each event, taken by their place, leave no word empty between
 * them, and a trace format can describe them by alignment alone (analysis/ctf/).
 *
 * User-space pointers fit 48 bits on x86_64 and on aarch64 without the
 * opt-in 52/57-bit address hints. TEXT does not fit: it follows in up to two
 * continuation records (BHP_ID_TEXT) of 24 bytes each.
 *
 * This is the form an event has everywhere: in a ring, in a recording and in
 * the analyzer. Only this file knows the bit positions.
 */
#ifndef BHP_RECORD_H
#define BHP_RECORD_H

#include <stdint.h>
#include <string.h>

struct bhp_record {
	uint64_t word[4];
};

enum {
	BHP_ID_TEXT = 0xff, /* continuation of the record before */
	BHP_TEXT_PER_RECORD = 24,
	BHP_TEXT_MAX = 48, /* longer names are cut */
	BHP_GROUP_MAX = 3, /* records of one event, continuations included */
	BHP_FIELDS_MAX = 9
};

/* Values of the fields. Append-only, like the events. */
enum bhp_flag { BHP_FLAG_SCHEDULED = 1, BHP_FLAG_LINKED = 2, BHP_FLAG_IDLE = 4, BHP_FLAG_DELETED = 8 };
enum bhp_schedule_kind { BHP_KIND_NORMAL, BHP_KIND_IDLE, BHP_KIND_ONESHOT };
enum bhp_notify_me { BHP_LOOP_AWAKE, BHP_LOOP_SLEEPING, BHP_LOOP_NOTIFIED };
enum bhp_accept_by { BHP_BY_POLL, BHP_BY_EMBEDDER, BHP_BY_OTHER };
enum bhp_switched { BHP_PREEMPTED, BHP_ASLEEP, BHP_UNINTERRUPTIBLE, BHP_HALTED, BHP_GONE };
enum bhp_call { BHP_CALL_READ = 1, BHP_CALL_WRITE, BHP_CALL_POLL, BHP_CALL_FUTEX_WAIT, BHP_CALL_FUTEX_WAKE };
enum bhp_woke { BHP_WOKE_NOTIFIER = 1, BHP_WOKE_FD = 2, BHP_WOKE_TIMEOUT = 4, BHP_WOKE_SIGNAL = 8 };

/* Event numbers: BHP_ID_schedule and so on. */
enum bhp_id {
#define BHP_EVENT(number, name, fields, doc) BHP_ID_##name = (number),
#define BHP_MARK                             BHP_EVENT
#include "events.def.h"
};

/* Slots: word, shift, width. The slots of one word never overlap, with the exception
 * of ARG with LO and HI, and of what is in word 2; schema.c asserts that no
 * event uses a bit twice. Append-only: they are on disk and in cores. */
enum bhp_slot {
	BHP_SLOT_LOOP,
	BHP_SLOT_T0,
	BHP_SLOT_T1,
	BHP_SLOT_BH,
	BHP_SLOT_HALF,
	BHP_SLOT_ARG,
	BHP_SLOT_LO,
	BHP_SLOT_HI,
	BHP_SLOT_TEXT,
	BHP_SLOT_ARG2,
	BHP_SLOT_LO2,
	BHP_SLOT_HI2
};

/* clang-format off */
#define BHP_SLOT_LIST(S) \
	S(LOOP, 1, 16, 48) S(T0, 1, 8, 4) S(T1, 1, 12, 4) \
	S(BH, 2, 0, 48) S(HALF, 2, 48, 16) S(ARG2, 2, 0, 64) S(LO2, 2, 0, 32) S(HI2, 2, 32, 32) \
	S(ARG, 3, 0, 64) S(LO, 3, 0, 32) S(HI, 3, 32, 32)
/* clang-format on */

#define BHP_BITS(width) ((width) == 64 ? ~UINT64_C(0) : (UINT64_C(1) << ((width)&63)) - 1)

#define BHP_SLOT_ACCESS(slot, w, shift, width)                                                                         \
	static inline void bhp_put_##slot(struct bhp_record *r, uint64_t v)                                            \
	{                                                                                                              \
		r->word[w] |= (v & BHP_BITS(width)) << (shift);                                                        \
	}                                                                                                              \
	static inline uint64_t bhp_get_##slot(const struct bhp_record *r)                                              \
	{                                                                                                              \
		return (r->word[w] >> (shift)) & BHP_BITS(width);                                                      \
	}
BHP_SLOT_LIST(BHP_SLOT_ACCESS)

static inline void bhp_put_TEXT(struct bhp_record *r, uint64_t v)
{
	(void)r, (void)v;
}

static inline uint64_t bhp_get_TEXT(const struct bhp_record *r)
{
	(void)r;
	return 0;
}

/* Kinds: the C type of a field, and the way there and back through 64 bits. */
#define BHP_C_ptr  const void *
#define BHP_C_str  const char *
#define BHP_C_u8   uint8_t
#define BHP_C_u16  uint16_t
#define BHP_C_u32  uint32_t
#define BHP_C_i32  int32_t
#define BHP_C_u64  uint64_t
#define BHP_C_i64  int64_t
#define BHP_C_time uint64_t

#define BHP_TO_ptr(v)  ((uint64_t)(uintptr_t)(v))
#define BHP_TO_str(v)  ((void)(v), UINT64_C(0))
#define BHP_TO_u8(v)   ((uint64_t)(v))
#define BHP_TO_u16(v)  ((uint64_t)(v))
#define BHP_TO_u32(v)  ((uint64_t)(v))
#define BHP_TO_i32(v)  ((uint64_t)(uint32_t)(v))
#define BHP_TO_u64(v)  (v)
#define BHP_TO_i64(v)  ((uint64_t)(v))
#define BHP_TO_time(v) (v)

#define BHP_FROM_ptr(v)  ((const void *)(uintptr_t)(v))
#define BHP_FROM_str(v)  ((void)(v), (const char *)NULL)
#define BHP_FROM_u8(v)   ((uint8_t)(v))
#define BHP_FROM_u16(v)  ((uint16_t)(v))
#define BHP_FROM_u32(v)  ((uint32_t)(v))
#define BHP_FROM_i32(v)  ((int32_t)(uint32_t)(v))
#define BHP_FROM_u64(v)  (v)
#define BHP_FROM_i64(v)  ((int64_t)(v))
#define BHP_FROM_time(v) (v)

/* struct bhp_schedule { const void *loop; ... }: the fields of each event. */
#define BHP_F(slot, kind, name, doc) BHP_C_##kind name;
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	struct bhp_##name {                                                                                            \
		fields                                                                                                 \
	};
#define BHP_MARK BHP_EVENT
#include "events.def.h"
#undef BHP_F

/* bhp_encode_schedule(): fields -> record. TEXT travels beside it. */
#define BHP_F(slot, kind, name, doc) bhp_put_##slot(&r, BHP_TO_##kind(e->name));
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static inline struct bhp_record bhp_encode_##name(uint64_t time, const struct bhp_##name *e)                   \
	{                                                                                                              \
		struct bhp_record r = { { time, (number), 0, 0 } };                                                    \
		fields return r;                                                                                       \
	}
#define BHP_MARK BHP_EVENT
#include "events.def.h"
#undef BHP_F

/* bhp_text_of_bh_new(): the TEXT field of an event, NULL when it has none. */
#define BHP_F(slot, kind, name, doc) text = _Generic((e->name), const char * : (e->name), default : text);
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static inline const char *bhp_text_of_##name(const struct bhp_##name *e)                                       \
	{                                                                                                              \
		const char *text = NULL;                                                                               \
		fields(void) e;                                                                                        \
		return text;                                                                                           \
	}
#define BHP_MARK BHP_EVENT
#include "events.def.h"
#undef BHP_F

/* bhp_decode_schedule(): record -> fields; a TEXT field comes back NULL. */
#define BHP_F(slot, kind, name, doc) e.name = BHP_FROM_##kind(bhp_get_##slot(r));
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static inline struct bhp_##name bhp_decode_##name(const struct bhp_record *r)                                  \
	{                                                                                                              \
		struct bhp_##name e;                                                                                   \
		fields return e;                                                                                       \
	}
#define BHP_MARK BHP_EVENT
#include "events.def.h"
#undef BHP_F

static inline enum bhp_id bhp_record_id(const struct bhp_record *r)
{
	return (enum bhp_id)(r->word[1] & 0xff);
}

static inline uint64_t bhp_record_time(const struct bhp_record *r)
{
	return r->word[0];
}

#endif
