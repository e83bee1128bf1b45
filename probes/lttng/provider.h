/* SPDX-License-Identifier: MIT */
/*
 * provider.h - the tracepoints of provider bh, made from events.def.h
 *
 * lttng-ust reads this file once for everything that it makes of a tracepoint, each
 * time with other macros. The arguments are the decoded event and its text, not the
 * fields one by one, so the list of fields is expanded in one place only. Each
 * event begins with its time, in ticks of bhp_clock().
 */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER bh

#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "lttng/provider.h"

#if !defined(BHP_LTTNG_PROVIDER_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define BHP_LTTNG_PROVIDER_H

#include <lttng/tracepoint.h>

#include "record.h"

#define BHP_FIELD_OF_ptr(field)  lttng_ust_field_integer_hex(uintptr_t, field, (uintptr_t)e->field)
#define BHP_FIELD_OF_str(field)  lttng_ust_field_string(field, text)
#define BHP_FIELD_OF_u8(field)   lttng_ust_field_integer(uint8_t, field, e->field)
#define BHP_FIELD_OF_u16(field)  lttng_ust_field_integer(uint16_t, field, e->field)
#define BHP_FIELD_OF_u32(field)  lttng_ust_field_integer(uint32_t, field, e->field)
#define BHP_FIELD_OF_i32(field)  lttng_ust_field_integer(int32_t, field, e->field)
#define BHP_FIELD_OF_u64(field)  lttng_ust_field_integer(uint64_t, field, e->field)
#define BHP_FIELD_OF_i64(field)  lttng_ust_field_integer(int64_t, field, e->field)
#define BHP_FIELD_OF_time(field) lttng_ust_field_integer(uint64_t, field, e->field)

/* clang-format off */
#define BHP_F(slot, kind, name, doc) BHP_FIELD_OF_##kind(name)
#define BHP_EVENT(number, name, fields, doc) \
	LTTNG_UST_TRACEPOINT_EVENT(bh, name, \
		LTTNG_UST_TP_ARGS(uint64_t, time, const struct bhp_##name *, e, const char *, text), \
		LTTNG_UST_TP_FIELDS( \
			lttng_ust_field_integer(uint64_t, time, time) \
			fields \
			lttng_ust_field_unused(text) \
		) \
	)
/* clang-format on */
#include "events.def.h"
#undef BHP_F

#endif

#include <lttng/tracepoint-event.h>
