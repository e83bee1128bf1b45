/* SPDX-License-Identifier: MIT */
/* A hostile adapter file. What is accepted must be within its bounds; what is refused says why. */
#include <string.h>

#include "adapter.h"
#include "fuzz.h"
#include "render.h"

static void check_text(const char *text, size_t size)
{
	char escaped[4 * 400];

	fuzz_check(strnlen(text, size) < size && !strcmp(bht_escape(escaped, sizeof(escaped), text), text));
}

static void check_way(const struct bht_way *way)
{
	if (way->kind == BHT_WAY_CODE)
		check_text(way->code.function, sizeof(way->code.function));
	if (way->kind == BHT_WAY_DWARF)
		check_text(way->dwarf.type, sizeof(way->dwarf.type));
	fuzz_check(way->kind <= BHT_WAY_FIXED && way->line);
	fuzz_check(way->kind != BHT_WAY_CODE || (way->code.nth && way->code.size <= 8));
}

static void check_member(const struct bht_path *path)
{
	fuzz_check(path->n <= BHT_ADAPTER_STEPS_MAX);
	fuzz_check(!path->n || (path->line && path->size && path->size <= 8));
	for (unsigned s = 0; s < path->n; s++) {
		fuzz_check(path->step[s].n && path->step[s].n <= BHT_ADAPTER_WAYS_MAX);
		for (unsigned w = 0; w < path->step[s].n; w++)
			check_way(&path->step[s].way[w]);
	}
}

static void check_probe(const struct bht_adapter *a, const struct bht_probe *p)
{
	fuzz_check(p->n_args <= BHT_ADAPTER_ARGS_MAX);
	check_text(p->function, sizeof(p->function));
	for (unsigned i = 0; i < p->n_args; i++)
		fuzz_check(p->arg[i].arg <= 6 && (p->at_return || p->arg[i].constant || p->arg[i].arg) &&
			   (!p->arg[i].has_member || a->member[p->arg[i].member].n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bht_adapter a;
	struct bht_refusal refusal = { 0 };

	if (bht_adapter_parse(&a, "a", (const char *)data, size, &refusal)) {
		fuzz_check(!strncmp(refusal.why, "a: ", 3));
		return 0;
	}
	fuzz_check(*a.name && *a.title && a.n_needs && a.n_needs <= BHT_ADAPTER_NEEDS_MAX);
	fuzz_check(a.n_flags <= BHT_ADAPTER_FLAGS_MAX && a.n_roots <= BHT_ADAPTER_ROOTS_MAX &&
		   a.n_probes <= BHT_ADAPTER_EVENTS_MAX && a.n_remarks <= BHT_ADAPTER_REMARKS_MAX);
	check_text(a.title, sizeof(a.title));
	for (unsigned i = 0; i < BHT_MEMBERS; i++)
		check_member(&a.member[i]);
	for (unsigned i = 0; i < a.n_roots; i++)
		check_way(&a.root[i]);
	for (unsigned i = 0; i < a.n_probes; i++)
		check_probe(&a, &a.probe[i]);
	for (unsigned i = 0; i < a.n_remarks; i++)
		check_text(a.remark[i].text, sizeof(a.remark[i].text));
	return 0;
}
