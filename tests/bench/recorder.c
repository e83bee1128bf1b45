/* SPDX-License-Identifier: MIT */
/* What recording an event costs, beside an attached USDT probe. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "usdt.h"
#include "bh.h"
#include "bench.h"

enum { RUNS = 9, EVENTS = 1000000, TRACED_EVENTS = 20000 };

static struct bh_loop *loop;
static struct bh *bh;

/* The event that a busy program records most, all fields filled in. */
static void emit(uint64_t i)
{
	bhp_emit(schedule, .loop = loop, .bh = bh, .seen = i & 1, .kind = BHP_KIND_NORMAL, .ticket = i);
}

static void consume(uint64_t i)
{
	bh_consume(bh, i);
}

static void clock_only(uint64_t i)
{
	uint64_t now = bhp_clock();

	__asm__ volatile("" : : "r"(now), "r"(i));
}

static void traced(uint64_t i)
{
	USDT_SITE(traced, loop, bh, i);
}

static void untraced(uint64_t i)
{
	USDT_SITE(untraced, loop, bh, i);
}

static inline __attribute__((always_inline)) double ns_per_event(void (*event)(uint64_t), uint64_t n)
{
	for (uint64_t i = 0; i < n / 10; i++)
		event(i);
	usdt_drain();
	uint64_t begin = bench_now_ns();
	for (uint64_t i = 0; i < n; i++)
		event(i);
	return (double)(bench_now_ns() - begin) / (double)n;
}

static void open_loop(void)
{
	loop = bh_loop_new("bench");
	bh = loop ? bh_new(loop, NULL, NULL, "bench") : NULL;
	if (!bh)
		bench_die("no event loop");
}

/* The traced site must have been traced, or its cost is that of a nop. */
static double traced_ns(void)
{
	double ns = ns_per_event(traced, TRACED_EVENTS);
	unsigned seen = usdt_drain();

	if (seen != TRACED_EVENTS)
		bench_die("the USDT tracer saw %u of %u events", seen, TRACED_EVENTS);
	return ns;
}

static void measure(struct bench_set *set, bool tracer)
{
	bench_add(set, "emit", ns_per_event(emit, EVENTS));
	if (tracer)
		bench_add(set, "traced", traced_ns());
	bench_add(set, "consume", ns_per_event(consume, EVENTS));
	bench_add(set, "clock", ns_per_event(clock_only, EVENTS));
	bench_add(set, "untraced", ns_per_event(untraced, EVENTS));
	if (bench_child("off", "off", "off", set) != 0)
		bench_die("the run with BH_FLIGHT=off failed");
}

static void row(const struct bench_set *set, const char *name, const char *key, const char *target, const char *why)
{
	double value = bench_median(set, key), peer = bench_median(set, "traced");

	bench_print(&(struct bench_row){ .table = "Cost of one event",
					 .name = name,
					 .value = value,
					 .unit = "ns",
					 .peer = why ? NULL : "attached USDT probe",
					 .peer_value = peer,
					 .ratio = peer / value,
					 .target = target,
					 .note = why });
}

int main(int argc, char **argv)
{
	static struct bench_set set;

	bench_pin(0);
	open_loop();
	if (argc > 1 && strcmp(argv[1], "off") == 0) {
		printf("emit %.3f\n", ns_per_event(emit, EVENTS));
		return 0;
	}
	const char *why = usdt_attach();
	for (int run = 0; run < RUNS; run++)
		measure(&set, !why);
	usdt_detach();
	row(&set, "flight recorder, schedule event", "emit", "value <= 12", why);
	row(&set, "flight recorder against USDT", "emit", "ratio >= 50", why);
	row(&set, "flight recorder, bh_consume()", "consume", NULL, why);
	row(&set, "of which reading the clock", "clock", NULL, why);
	row(&set, "BH_FLIGHT=off, no tracer", "off.emit", NULL, why);
	row(&set, "a disabled USDT site alone", "untraced", NULL, why);
	return 0;
}
