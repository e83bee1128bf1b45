/* SPDX-License-Identifier: MIT */
/*
 * A ring is read as flight.h wants it: head, the records below it, `reserved`;
 * what lies below reserved - capacity by then may have been overwritten under the
 * copy and is loss. Nothing is kept between rounds but the index of the next
 * record: head never stands within an event, so there is always a whole number
 * of them to read.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "drained.h"

/* Records that are copied at a time. */
static const uint64_t PART = 128 * 1024;

/* --- loss --------------------------------------------------------------------- */

void bht_drain_tell(struct bht_drain *d, enum bht_loss_why why, uint64_t count)
{
	const struct bht_event e = bht_loss(bhp_clock(), 0, why, count);

	if (!d->common)
		d->common = d->sink.place(d->sink.arg);
	if (d->common)
		d->sink.put(d->common, &e);
}

void bht_drain_damaged(struct bht_drain *d, const char *why)
{
	memcpy(d->stats.damage, why, strnlen(why, sizeof(d->stats.damage) - 1) + 1);
	d->stats.damage[sizeof(d->stats.damage) - 1] = '\0';
	bht_drain_tell(d, BHT_LOSS_DAMAGED, 0);
}

/* What is below record TO is lost. */
static void overtaken(struct bht_drain *d, struct bht_drained *ring, uint64_t to)
{
	const uint64_t n = to - ring->next;

	ring->d.lost += n;
	ring->d.why = d->stats.rounds ? BHT_LOSS_OVERWRITTEN : BHT_LOSS_EARLIER;
	ring->cut = true;
	ring->next = to;
	d->lossy = true;
	if (!d->stats.rounds) {
		d->stats.before += n;
		return;
	}
	d->stats.overwritten += n;
	if (!d->stats.capacity || ring->capacity < d->stats.capacity)
		d->stats.capacity = ring->capacity;
}

/* The same, for what may have been overwritten when BEGUN records were begun. */
static void check_overtaken(struct bht_drain *d, struct bht_drained *ring, uint64_t begun, uint64_t head)
{
	const uint64_t oldest = begun > ring->capacity ? begun - ring->capacity : 0;

	if (oldest > ring->next)
		overtaken(d, ring, oldest < head ? oldest : head);
}

static void give_up(struct bht_drain *d, struct bht_drained *ring)
{
	ring->dead = true;
	bht_drain_damaged(d, "a ring: its counters make no sense");
}

/* --- one ring ------------------------------------------------------------------- */

/* Who wrote the first of N records: whom the first mark behind it relieved. False
 * when a mark may come later than these. */
static bool find_writer(struct bht_drain *d, struct bht_drained *ring, const struct bhp_ring *h, uint64_t n)
{
	uint32_t writer = h->tid;

	if ((!h->mark || h->mark - 1 >= ring->next) && !bht_find_mark(ring->d.how, ring->d.records, n, &writer) &&
	    ring->next + n < h->head)
		return false;
	ring->d.tid = writer ? d->map(d->arg, writer) : 0;
	return true;
}

/* How many of N records do not include the last event: its text may be cut. */
static uint64_t without_last(const struct bhp_record *records, uint64_t n)
{
	uint64_t last = n - 1;

	for (unsigned i = 1; i < BHP_GROUP_MAX && last && (records[last].word[1] & 0xff) == BHP_ID_TEXT; i++)
		last--;
	return last ? last : n;
}

/* N records from ring->next on are at ring->d.records. */
static void decode(struct bht_drain *d, struct bht_drained *ring, const struct bhp_ring *h, uint64_t n)
{
	struct bht_event e[BHT_BATCH];
	int got;

	if (ring->cut && !find_writer(d, ring, h, n)) {
		overtaken(d, ring, ring->next + n);
		return;
	}
	if (ring->next + n < h->head)
		n = without_last(ring->d.records, n);
	ring->d.at = 0;
	ring->d.n = n;
	if (ring->cut)
		bht_decoder_skip_text(&ring->d);
	ring->cut = false;
	d->format[ring->root]->how.now = bhp_clock();
	while ((got = bht_decoder_next(&ring->d.base, e, BHT_BATCH)) > 0)
		for (int i = 0; i < got; i++)
			d->sink.put(ring->place, &e[i]);
	ring->next += n;
}

static int make_room(struct bht_drain *d, uint64_t n)
{
	if (n <= d->room)
		return 0;
	free(d->buffer);
	d->buffer = calloc(n, sizeof(*d->buffer));
	d->room = d->buffer ? n : 0;
	return d->buffer ? 0 : -ENOMEM;
}

/* Copies N records from ring->next on. */
static int copy(struct bht_drain *d, const struct bht_drained *ring, uint64_t n)
{
	const uint64_t record = sizeof(struct bhp_record), at = ring->next & (ring->capacity - 1);
	const uint64_t before_wrap = n < ring->capacity - at ? n : ring->capacity - at;
	const uint64_t records = ring->addr + BHP_RING_HEADER;
	const struct bht_span spans[] = { { records + at * record, d->buffer, before_wrap * record },
					  { records, d->buffer + before_wrap, (n - before_wrap) * record } };

	return d->mem->read(d->mem, spans, n > before_wrap ? 2 : 1);
}

/* Reads the next part of what is below h->head; *BEGUN is how many records were
 * begun when it was copied. */
static int drain_part(struct bht_drain *d, struct bht_drained *ring, const struct bhp_ring *h, uint64_t *begun)
{
	const uint64_t first = ring->next, n = h->head - first < PART ? h->head - first : PART;
	int rc = make_room(d, n);

	if (!rc)
		rc = copy(d, ring, n);
	/* Pairs with the release fence between raising `reserved` and writing the
	 * record. */
	atomic_thread_fence(memory_order_acquire);
	if (!rc)
		rc = bht_read(d->mem, ring->addr + offsetof(struct bhp_ring, reserved), begun, sizeof(*begun));
	if (rc)
		return rc;
	if (*begun < h->head) {
		give_up(d, ring);
		return 0;
	}
	check_overtaken(d, ring, *begun, h->head);
	if (ring->next < first + n) {
		ring->d.records = d->buffer + (ring->next - first);
		decode(d, ring, h, first + n - ring->next);
	}
	return 0;
}

int bht_drain_ring(struct bht_drain *d, struct bht_drained *ring, const struct bhp_ring *h)
{
	/* Two loads: the later one may be ahead. */
	uint64_t begun = h->reserved > h->head ? h->reserved : h->head;
	int rc = 0;

	if (!ring->dead && (h->head < ring->next || h->capacity != ring->capacity))
		give_up(d, ring);
	if (!ring->dead)
		check_overtaken(d, ring, begun, h->head);
	while (!rc && !ring->dead && ring->next < h->head)
		rc = drain_part(d, ring, h, &begun);
	const double fill = ring->dead ? 0 : (double)(begun - ring->begun) / (double)ring->capacity;
	if (fill > d->fill)
		d->fill = fill;
	ring->begun = begun;
	return rc;
}
