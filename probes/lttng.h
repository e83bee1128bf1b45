/* SPDX-License-Identifier: MIT */
/*
 * lttng.h - the way to the LTTng-UST provider
 *
 * The provider is a library of its own (probes/lttng/): what is instrumented does
 * not need lttng-ust. It exports one table, with the state word of each tracepoint,
 * which LTTng raises while a session wants the event, and the function that takes
 * the event to it. It is handed the flight recorder's record, time stamp included,
 * so that two recordings of one run agree, and so that a program may bring an older
 * list of events than the provider.
 */
#ifndef BHP_LTTNG_H
#define BHP_LTTNG_H

#include "flight.h"

#define BHP_LTTNG_LIBRARY "libbh-lttng.so.0"
#define BHP_LTTNG_SYMBOL  "bhp_lttng_provider"

/* One more than the highest number. */
enum {
#define BHP_EVENT(number, name, fields, doc) BHP_LTTNG_##name = (number),
#define BHP_MARK                             BHP_EVENT
#include "events.def.h"
	BHP_LTTNG_EVENTS
};

struct bhp_lttng_event {
	const int *state; /* 0: no session wants it */
	void (*emit)(struct bhp_record r, const char *text);
};

struct bhp_lttng {
	uint32_t abi;                                   /* BHP_ABI */
	uint32_t events;                                /* BHP_LTTNG_EVENTS, as the provider knows it */
	bool follows_fork;                              /* a child is traced as a process of its own */
	void (*thread)(void);                           /* so that this thread's signal handlers may emit */
	struct bhp_lttng_event event[BHP_LTTNG_EVENTS]; /* by number; those of a BHP_MARK are empty */
};

/* NULL without a provider. Set before main(), or when a library that brought the
 * kit was loaded; cleared in a child that the provider cannot follow. */
extern BHP_HIDDEN const struct bhp_lttng *bhp_lttng;

/* Where an event goes, or NULL when no session wants it. */
static inline __attribute__((always_inline)) const struct bhp_lttng_event *bhp_lttng_wanted(unsigned number)
{
	const struct bhp_lttng *provider = bhp_lttng;

	if (__builtin_expect(!provider, 1) || !*(const volatile int *)provider->event[number].state)
		return NULL;
	return &provider->event[number];
}

/*
 * Reads a value of BH_LTTNG: 1 | 0 | /PATH of the provider. *LIBRARY is what to
 * load, VALUE or a constant; NULL for nothing. 0 or -EINVAL.
 */
BHP_HIDDEN int bhp_lttng_parse(const char *value, const char **library);

/* Looks for a provider that was preloaded, then for what BH_LTTNG asks for. What
 * goes wrong is one line on stderr, and there is none. */
BHP_HIDDEN void bhp_lttng_find(void);

BHP_HIDDEN void bhp_lttng_in_child(void);

#endif
