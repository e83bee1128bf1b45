/* SPDX-License-Identifier: MIT */
/* The semaphores that an attached tracer raises, one an event. */
#include "bhp.h"

#if !defined(BHP_NO_USDT)
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	BHP_HIDDEN unsigned short bh_##name##_semaphore __attribute__((section(".probes")));
#include "events.def.h"
#endif
