/* SPDX-License-Identifier: MIT */
#include "callstacks.h"

#include <inttypes.h>
#include <string.h>

#include "render.h"

enum { NAME = 512 };

static void print_frame(unsigned index, const struct bht_frame *f)
{
	char name[NAME];

	printf("      #%-2u 0x%016" PRIx64, index, f->address);
	if (f->symbol)
		printf("  %s+0x%" PRIx64, bht_escape(name, sizeof(name), f->symbol), f->offset);
	if (f->file)
		printf("  %s:%d", bht_escape(name, sizeof(name), f->file), f->line);
	else if (f->module)
		printf("  in %s", bht_escape(name, sizeof(name), f->module));
	putchar('\n');
}

static void print_stack(const struct bht_stack *s, const struct bht_evidence *ev)
{
	const struct bht_thread *thread = bht_sample_thread(&ev->last, s->tid);
	char name[NAME];

	printf("   thread %" PRIu32, s->tid);
	if (thread && *thread->name)
		printf(" (%s)", bht_escape(name, sizeof(name), thread->name));
	if (s->stopped_us)
		printf(", stopped for %" PRIu64 " us", s->stopped_us);
	putchar('\n');
	for (unsigned i = 0; i < s->n_frames; i++)
		print_frame(i, &s->frames[i]);
	if (*s->why)
		printf("      %s\n", bht_escape(name, sizeof(name), s->why));
}

void callstacks_print(const struct bht_stacks *stacks, const struct bht_evidence *ev, bool color)
{
	putchar('\n');
	bht_paint(stdout, color, "1");
	fputs("Stacks", stdout);
	bht_paint(stdout, color, "");
	putchar('\n');
	for (size_t i = 0; i < stacks->n; i++)
		print_stack(&stacks->threads[i], ev);
	if (stacks->more)
		printf("   and more than these %d threads\n", BHT_STACKS_MAX);
}

/* Names are the target's, so that they may be no UTF-8. */
static json_t *name_json(const char *name)
{
	char safe[NAME];

	return name ? json_string(bht_escape(safe, sizeof(safe), name)) : json_null();
}

static json_t *frame_json(const struct bht_frame *f)
{
	return json_pack("{s:o, s:o, s:I, s:o, s:o, s:i}", "address", json_sprintf("0x%" PRIx64, f->address), "symbol",
			 name_json(f->symbol), "offset", (json_int_t)f->offset, "module", name_json(f->module), "file",
			 name_json(f->file), "line", f->line);
}

static json_t *stack_json(const struct bht_stack *s)
{
	json_t *frames = json_array();

	for (unsigned i = 0; i < s->n_frames; i++)
		json_array_append_new(frames, frame_json(&s->frames[i]));
	return json_pack("{s:I, s:I, s:o, s:o}", "tid", (json_int_t)s->tid, "stopped_us", (json_int_t)s->stopped_us,
			 "frames", frames, "why", *s->why ? name_json(s->why) : json_null());
}

json_t *callstacks_json(const struct bht_stacks *stacks)
{
	json_t *threads = json_array();

	for (size_t i = 0; i < stacks->n; i++)
		json_array_append_new(threads, stack_json(&stacks->threads[i]));
	return threads;
}
