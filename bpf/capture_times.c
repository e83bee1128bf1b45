/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stdlib.h>

#include "capture_times.h"
#include "maps.h"

/* One instant on both clocks: the tightest of a few tries. */
static struct bhp_clock_pair read_clocks(void)
{
	struct bhp_clock_pair pair = { 0, 0 };
	uint64_t narrowest = UINT64_MAX;

	for (int i = 0; i < 5; i++) {
		const uint64_t before = bhp_clock(), ns = bhb_mono_ns(), width = bhp_clock() - before;
		if (width < narrowest)
			pair = (struct bhp_clock_pair){ before + width / 2, ns }, narrowest = width;
	}
	return pair;
}

void bhb_times_begin(struct bhb_times *t, double ticks_per_ns)
{
	t->ticks_per_ns = ticks_per_ns;
	t->before = t->now = read_clocks();
}

void bhb_times_end(struct bhb_times *t)
{
	for (size_t i = 0; i < BHB_TID_PAGES; i++)
		free(t->last[i]);
}

void bhb_times_compare(struct bhb_times *t)
{
	t->before = t->now;
	t->now = read_clocks();
}

/* Between two pairs a straight line, outside of them the given slope: so it only rises. */
uint64_t bhb_times_ticks(const struct bhb_times *t, uint64_t ns)
{
	const struct bhp_clock_pair *a = &t->before, *b = &t->now;

	if (ns >= b->mono_ns)
		return b->ticks + (uint64_t)((double)(ns - b->mono_ns) * t->ticks_per_ns);
	if (ns < a->mono_ns)
		return a->ticks - (uint64_t)((double)(a->mono_ns - ns) * t->ticks_per_ns);
	return a->ticks + (uint64_t)((double)(ns - a->mono_ns) * (double)(b->ticks - a->ticks) /
				     (double)(b->mono_ns - a->mono_ns));
}

/* Two processors may put what they have to say of one thread into the ring in another order
 * than they read the clock. */
static uint64_t not_before(struct bhb_times *t, uint32_t tid, uint64_t time)
{
	uint64_t **page = &t->last[tid / BHB_TIDS_PER_PAGE % BHB_TID_PAGES], *last;

	if (!*page)
		*page = calloc(BHB_TIDS_PER_PAGE, sizeof(uint64_t));
	if (!*page)
		return time;
	last = *page + tid % BHB_TIDS_PER_PAGE;
	return *last = time > *last ? time : *last;
}

uint64_t bhb_times_of_thread(struct bhb_times *t, uint32_t tid, uint64_t ns)
{
	return not_before(t, tid, bhb_times_ticks(t, ns));
}

/* An execution ends with the very time at which it was said to begin, and between
 * the two the clocks may have been compared again. */
struct bhp_record bhb_times_of_recipe(struct bhb_times *t, uint32_t tid, const struct bhp_record *in)
{
	struct bhp_record r = *in;
	struct bhp_execute_end end = bhp_decode_execute_end(in);
	const bool ends = bhp_record_id(in) == BHP_ID_execute_end;
	const uint64_t ns = ends ? end.begin : in->word[0];
	struct bhb_begun *b = &t->begun[(ns ^ ns >> 12 ^ tid) % BHB_BEGUN];

	r.word[0] = bhb_times_of_thread(t, tid, in->word[0]);
	if (bhp_record_id(in) == BHP_ID_execute_begin)
		*b = (struct bhb_begun){ ns, r.word[0], tid };
	if (!ends)
		return r;
	end.begin = b->ns == ns && b->tid == tid ? b->ticks : bhb_times_ticks(t, ns);
	return bhp_encode_execute_end(r.word[0], &end);
}
