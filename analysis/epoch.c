/* SPDX-License-Identifier: MIT */
#include "epoch.h"

#include <string.h>

/* More than two clocks are set apart in practice, less than a restart takes. */
static const int64_t SAME_NS = 1000000000;

enum { IS_ptr, IS_str = 0, IS_u8 = 0, IS_u16 = 0, IS_u32 = 0, IS_i32 = 0, IS_u64 = 0, IS_i64 = 0, IS_time };
#define S(slot, w, shift, width) WORD_##slot = (w),
enum { BHP_SLOT_LIST(S) WORD_TEXT = 0 };
#undef S
#define BHP_F(slot, kind, name, doc)         +IS_##kind *WORD_##slot
#define BHP_EVENT(number, name, fields, doc) [number] = 0 fields,
#define BHP_MARK                             BHP_EVENT
static const uint8_t time_word[256] = {
#include "events.def.h"
};
#undef BHP_F

unsigned bht_time_word(unsigned id)
{
	return id < sizeof(time_word) ? time_word[id] : 0;
}

/* 0 stays 0: it stands for no time. */
static uint64_t to_ns(const struct bht_epoch *epoch, uint64_t ticks)
{
	if (ticks == 0)
		return 0;
	return epoch->realtime_ns + (uint64_t)(int64_t)((double)(int64_t)(ticks - epoch->ticks) / epoch->ticks_per_ns);
}

struct bht_epoch bht_epoch_of(const struct bht_evidence *ev)
{
	return (struct bht_epoch){ ev->ticks_per_ns, ev->clock.ticks, ev->realtime_ns };
}

bool bht_epoch_same(const struct bht_evidence *a, const struct bht_evidence *b)
{
	const struct bht_epoch epoch = bht_epoch_of(a);
	const int64_t apart = (int64_t)(to_ns(&epoch, b->clock.ticks) - b->realtime_ns);

	if (strcmp(a->hostname, b->hostname) != 0)
		return false;
	return !a->realtime_ns || !b->realtime_ns || (apart < SAME_NS && apart > -SAME_NS);
}

void bht_epoch_event(const struct bht_epoch *epoch, struct bht_event *e)
{
	const unsigned word = bht_time_word(bht_event_id(e));

	e->r.word[0] = to_ns(epoch, e->r.word[0]);
	if (word)
		e->r.word[word] = to_ns(epoch, e->r.word[word]);
}

static void convert_sample(const struct bht_epoch *epoch, struct bht_sample *s)
{
	s->ticks = to_ns(epoch, s->ticks);
	for (size_t i = 0; i < s->n_loops; i++)
		s->loops[i].current_since = to_ns(epoch, s->loops[i].current_since);
	for (size_t i = 0; i < s->n_bhs; i++)
		s->bhs[i].last_run = to_ns(epoch, s->bhs[i].last_run);
}

void bht_epoch_evidence(struct bht_evidence *ev)
{
	const struct bht_epoch epoch = bht_epoch_of(ev);

	ev->history_until = to_ns(&epoch, ev->history_until);
	convert_sample(&epoch, &ev->first);
	convert_sample(&epoch, &ev->last);
	ev->clock.ticks = ev->realtime_ns;
	ev->ticks_per_ns = 1;
}
