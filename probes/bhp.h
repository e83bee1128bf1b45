/* SPDX-License-Identifier: MIT */
/*
 * bhp.h - the instrumentation kit: what an instrumented loop includes
 *
 *	bhp_emit(schedule, .loop = loop, .bh = bh, .seen = 1, .ticket = 7);
 *
 * writes the event to the calling thread's flight ring, fires the USDT probe
 * bh:schedule when a tracer is attached to it, and the LTTng-UST tracepoint of that
 * name when there is a provider and a session wants it. Event and field names and
 * types are checked by the compiler against events.def.h.
 *
 * Where a call may stand is part of correctness. Nothing may stand between a
 * producer's payload store and its load of the flag, nor between the loop's
 * clearing of the flag and the callback's first load: a tracer there hides the
 * race. See docs/placement.md.
 *
 * Arguments of a USDT probe are loaded into registers first: a compiler may turn
 * them into memory operands, which the tracer would read later than the code
 * did, and which libbpf refuses when they are relative to the program counter. The
 * last one is the time of the record: so a tracer orders events as the recorder does,
 * whenever it is called.
 */
#ifndef BHP_H
#define BHP_H

#include "flight.h"
#include "lttng.h"

#if !defined(BHP_NO_USDT)
#ifdef _SYS_SDT_H
#error "include bhp.h before <sys/sdt.h>: it sets SDT_USE_VARIADIC and _SDT_HAS_SEMAPHORES"
#endif
#define SDT_USE_VARIADIC
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

/* bh_schedule_semaphore: raised by an attached tracer. Without one, the
 * arguments are not even prepared. */
#define BHP_EVENT(number, name, fields, doc) extern BHP_HIDDEN unsigned short bh_##name##_semaphore;
#include "events.def.h"

/* A second expansion, so that a list of fields becomes separate arguments. */
#define BHP_USDT(...) STAP_PROBEV(bh, __VA_ARGS__)

/* bhp_load_schedule() */
#define BHP_F(slot, kind, name, doc) __asm__ volatile("" : "+r"(e->name));
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static inline __attribute__((always_inline)) void bhp_load_##name(struct bhp_##name *e)                        \
	{                                                                                                              \
		fields                                                                                                 \
	}
#include "events.def.h"
#undef BHP_F

/* bhp_probe_schedule() */
#define BHP_F(slot, kind, name, doc) , e.name
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static inline                                                                                                  \
		__attribute__((always_inline)) void bhp_probe_##name(uint64_t time, const struct bhp_##name *event)    \
	{                                                                                                              \
		if (__builtin_expect(*(volatile unsigned short *)&bh_##name##_semaphore, 0)) {                         \
			struct bhp_##name e = *event;                                                                  \
			bhp_load_##name(&e);                                                                           \
			__asm__ volatile("" : "+r"(time));                                                             \
			BHP_USDT(name fields, time);                                                                   \
		}                                                                                                      \
	}
#include "events.def.h"
#undef BHP_F
#else
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static inline void bhp_probe_##name(uint64_t time, const struct bhp_##name *event)                             \
	{                                                                                                              \
		(void)time, (void)event;                                                                               \
	}
#include "events.def.h"
#endif

/* bhp_emit_schedule(time, &fields). The record is made twice rather than kept: that
 * would be four more stores where no session wants it. */
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static inline __attribute__((always_inline)) void bhp_emit_##name(uint64_t time, const struct bhp_##name *e)   \
	{                                                                                                              \
		bhp_flight_write(bhp_encode_##name(time, e), bhp_text_of_##name(e));                                   \
		bhp_probe_##name(time, e);                                                                             \
		const struct bhp_lttng_event *to = bhp_lttng_wanted(number);                                           \
		if (__builtin_expect(to != NULL, 0))                                                                   \
			to->emit(bhp_encode_##name(time, e), bhp_text_of_##name(e));                                   \
	}
#include "events.def.h"

/* Emits an event that happened at TIME, or now. */
#define bhp_emit_at(name, time, ...) bhp_emit_##name(time, &(struct bhp_##name){ __VA_ARGS__ })
#define bhp_emit(name, ...)          bhp_emit_at(name, bhp_clock(), __VA_ARGS__)

#endif
