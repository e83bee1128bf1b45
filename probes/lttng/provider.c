/* SPDX-License-Identifier: MIT */
/* libbh-lttng: the LTTng-UST provider bh, and the table that the kit looks for. */
#include <stdlib.h>
#include <string.h>

#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#define LTTNG_UST_TRACEPOINT_HIDDEN_DEFINITION
#define LTTNG_UST_TRACEPOINT_PROVIDER_HIDDEN_DEFINITION
#include "lttng/provider.h"
#include <lttng/ust-thread.h>

#include "lttng.h"

extern struct bhp_lttng bhp_lttng_provider;

/* As much of TEXT as the flight recorder keeps. */
static const char *cut(char kept[BHP_TEXT_MAX + 1], const char *text)
{
	if (!text)
		return "";
	const size_t len = strnlen(text, BHP_TEXT_MAX);
	memcpy(kept, text, len);
	kept[len] = '\0';
	return kept;
}

/* emit_schedule() */
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static void emit_##name(struct bhp_record r, const char *text)                                                 \
	{                                                                                                              \
		const struct bhp_##name e = bhp_decode_##name(&r);                                                     \
		char kept[BHP_TEXT_MAX + 1];                                                                           \
		lttng_ust_do_tracepoint(bh, name, bhp_record_time(&r), &e, cut(kept, text));                           \
	}
#include "events.def.h"

#define BHP_EVENT(number, name, fields, doc) [number] = { &lttng_ust_tracepoint_bh___##name.state, emit_##name },
__attribute__((visibility("default"))) struct bhp_lttng bhp_lttng_provider = {
	.abi = BHP_ABI,
	.events = BHP_LTTNG_EVENTS,
	.thread = lttng_ust_init_thread,
	.event = {
#include "events.def.h"
	},
};

/* Whether fork() is that of liblttng-ust-fork, which must be preloaded. */
static bool fork_is_lttngs(void)
{
	const void *function = dlsym(RTLD_DEFAULT, "fork");
	Dl_info info;

	return function && dladdr(function, &info) && info.dli_fname && strstr(info.dli_fname, "liblttng-ust-fork.so");
}

/* Before the constructors of lttng/tracepoint.h: no state is raised yet. */
__attribute__((constructor(101))) static void start(void)
{
	static const int never;
	const char *begin = secure_getenv("BH_LTTNG_BEGIN");

	/* It stands before the consumer's racing pair, see docs/placement.md. */
	if (!begin || strcmp(begin, "1") != 0)
		bhp_lttng_provider.event[BHP_ID_execute_begin].state = &never;
	bhp_lttng_provider.follows_fork = fork_is_lttngs();
}
