/* SPDX-License-Identifier: MIT */
/*
 * The flight rings: copied first, decoded later.
 *
 * The copy of a ring follows flight.h: the header with `head`, the records
 * below it, the header again; what lies below `reserved` - capacity by then may
 * have been overwritten under the copy and is loss. A writer that is faster
 * than the copy costs another try, because an empty history decides nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "follow.h"
#include "refuse.h"
#include "rings.h"

enum { COPY_TRIES = 4 };
/* Bytes: of one ring, the newest; and of all rings of a root. */
static const uint64_t COPY_RING = UINT64_C(64) << 20, COPY_MAX = UINT64_C(1) << 30;

int bht_ring_check(const struct bhp_ring *h, uint64_t addr, struct bht_refusal *refusal)
{
	if (memcmp(h->magic, BHP_RING_MAGIC, sizeof(h->magic)))
		return bht_refuse(refusal, -EBADMSG, addr, "ring: does not begin with %s", BHP_RING_MAGIC);
	if (h->abi != BHP_ABI || h->record_size != sizeof(struct bhp_record))
		return bht_refuse(refusal, -EBADMSG, addr, "ring: ABI %u with records of %u bytes", h->abi,
				  h->record_size);
	if (!h->capacity || h->capacity & (h->capacity - 1) || h->capacity > BHP_RING_MAX / sizeof(struct bhp_record))
		return bht_refuse(refusal, -EBADMSG, addr, "ring: capacity %llu", (unsigned long long)h->capacity);
	return 0;
}

static int check_header(struct bht_memory *mem, uint64_t addr, const struct bhp_ring *h, struct bht_refusal *refusal)
{
	int rc = bht_ring_check(h, addr, refusal);

	if (rc)
		return rc;
	if (!mem->mapped(mem, addr, BHP_RING_HEADER + h->capacity * sizeof(struct bhp_record)))
		return bht_refuse(refusal, -EBADMSG, addr, "ring: %llu records, not all mapped",
				  (unsigned long long)h->capacity);
	return 0;
}

/* Copies records FIRST .. HEAD into a straight array. */
static int copy_records(struct bht_memory *mem, uint64_t addr, const struct bhp_ring *h, uint64_t first, void *to)
{
	const uint64_t n = h->head - first, at = first & (h->capacity - 1);
	const uint64_t before_wrap = n < h->capacity - at ? n : h->capacity - at;
	const uint64_t records = addr + BHP_RING_HEADER;
	const struct bht_span spans[] = {
		{ records + at * sizeof(struct bhp_record), to, before_wrap * sizeof(struct bhp_record) },
		{ records, (struct bhp_record *)to + before_wrap, (n - before_wrap) * sizeof(struct bhp_record) }
	};

	return mem->read(mem, spans, n > before_wrap ? 2 : 1);
}

/* Decides what of the copy H->head - N .. H->head can be trusted, by the
 * header as it is AFTER the copy. */
static void judge_copy(struct bht_ring *ring, const struct bhp_ring *h, const struct bhp_ring *after, uint64_t n)
{
	const uint64_t first = h->head - n;
	uint64_t valid = first;

	if (after->reserved < h->head || after->head < h->head || after->capacity != h->capacity) {
		*ring = (struct bht_ring){ .records = ring->records, .damaged = true, .tid = h->tid };
		return;
	}
	if (after->reserved > h->capacity && after->reserved - h->capacity > valid)
		valid = after->reserved - h->capacity;
	if (valid > h->head)
		valid = h->head;
	ring->tid = h->tid;
	ring->mark = h->mark;
	ring->n = h->head - valid;
	ring->lost = valid;
	ring->why = first ? BHT_LOSS_OVERWRITTEN : BHT_LOSS_UNSTABLE;
	memmove(ring->records, ring->records + (valid - first), ring->n * sizeof(*ring->records));
}

/* How many records are worth a copy. */
static uint64_t wanted(const struct bhp_ring *h)
{
	const uint64_t most = h->capacity < COPY_RING / sizeof(struct bhp_record)
				      ? h->capacity
				      : COPY_RING / sizeof(struct bhp_record);

	return h->head < most ? h->head : most;
}

/* One try: H is the header before, and after it the one found afterwards. */
static int try_copy(struct bht_memory *mem, uint64_t addr, struct bhp_ring *h, struct bht_ring *ring)
{
	const uint64_t n = wanted(h);
	struct bhp_ring after;
	struct bhp_record *records = realloc(ring->records, (n + 1) * sizeof(*records));

	if (!records)
		return -ENOMEM;
	ring->records = records;
	int rc = n ? copy_records(mem, addr, h, h->head - n, records) : 0;
	if (rc)
		return rc;
	/* Pairs with the release fence between raising `reserved` and writing
	 * the record. */
	atomic_thread_fence(memory_order_acquire);
	rc = bht_read(mem, addr, &after, sizeof(after));
	if (rc)
		return rc;
	judge_copy(ring, h, &after, n);
	*h = after;
	return 0;
}

static int copy_ring(struct bht_memory *mem, uint64_t addr, struct bhp_ring *h, struct bht_ring *ring)
{
	const uint64_t enough = wanted(h) / 4;

	for (int i = 0; i < COPY_TRIES; i++) {
		int rc = try_copy(mem, addr, h, ring);
		if (rc || ring->damaged || ring->n >= enough)
			return rc;
	}
	return 0;
}

/* Appends the ring at ADDR, gives its successor in *NEXT. */
static int add_ring(struct bht_memory *mem, struct bht_rings *rings, uint64_t addr, uint64_t *next,
		    struct bht_refusal *refusal)
{
	struct bhp_ring h;
	struct bht_ring ring = { 0 };
	int rc = bht_read(mem, addr, &h, sizeof(h));

	if (rc)
		return bht_refuse_read(refusal, rc, addr, "ring");
	rc = check_header(mem, addr, &h, refusal);
	if (rc)
		return rc;
	rings->copied += wanted(&h) * sizeof(struct bhp_record);
	if (rings->copied > COPY_MAX)
		return bht_refuse(refusal, -E2BIG, addr, "rings: more than %llu bytes in all",
				  (unsigned long long)COPY_MAX);
	if (!bht_room_for_one(&rings->ring, rings->n, sizeof(*rings->ring)))
		return bht_refuse(refusal, -ENOMEM, addr, "rings: no memory for %zu", rings->n);
	*next = (uintptr_t)h.next;
	rc = copy_ring(mem, addr, &h, &ring);
	if (rc) {
		free(ring.records);
		return bht_refuse_read(refusal, rc, addr, "ring");
	}
	rings->ring[rings->n++] = ring;
	return 0;
}

static int read_fields(struct bht_memory *mem, const struct bhp_root *root, struct bht_rings *rings,
		       struct bht_refusal *refusal)
{
	const uint64_t addr = (uintptr_t)root->fields;
	struct bhp_field_info *table;

	if (root->n_fields > BHT_FIELDS_MAX)
		return bht_refuse(refusal, -EBADMSG, addr, "field table: %u rows, at most %d expected", root->n_fields,
				  BHT_FIELDS_MAX);
	table = calloc(root->n_fields + 1, sizeof(*table));
	if (!table)
		return bht_refuse(refusal, -ENOMEM, addr, "field table: no memory");
	int rc = root->n_fields ? bht_read(mem, addr, table, root->n_fields * sizeof(*table)) : 0;
	if (rc)
		bht_refuse_read(refusal, rc, addr, "field table");
	else
		bht_decoding_init(&rings->how, table, root->n_fields, UINT64_MAX);
	free(table);
	return rc;
}

static int copy_list(struct bht_memory *mem, const struct bhp_root *root, struct bht_rings *rings,
		     struct bht_refusal *refusal)
{
	struct bht_follow follow = { 0 };
	uint64_t next = 0;

	for (uint64_t addr = (uintptr_t)root->rings; addr; addr = next) {
		int rc = bht_follow(&follow, addr, BHT_RINGS_MAX);
		if (rc)
			return bht_refuse(refusal, rc, addr, "list of rings: %s",
					  rc == -ELOOP ? "runs in a circle" : "too long");
		rc = add_ring(mem, rings, addr, &next, refusal);
		if (rc)
			return rc;
	}
	return 0;
}

struct bht_rings *bht_rings_copy(struct bht_memory *mem, const struct bhp_root *root, uint64_t (*clock)(void),
				 struct bht_refusal *refusal)
{
	struct bht_rings *rings = calloc(1, sizeof(*rings));

	if (!rings) {
		bht_refuse(refusal, -ENOMEM, 0, "rings: no memory");
		return NULL;
	}
	int rc = read_fields(mem, root, rings, refusal);
	if (!rc)
		rc = copy_list(mem, root, rings, refusal);
	if (rc == -ENOMEM || rc == -ESRCH || rc == -EPERM) {
		bht_rings_free(rings);
		errno = -rc;
		return NULL;
	}
	/* What hangs behind a damaged ring is out of reach; the rings before it
	 * are still evidence. */
	rings->damaged = rc != 0;
	rings->dropped = root->dropped;
	rings->off = root->mode == BHP_FLIGHT_OFF;
	rings->how.now = clock ? clock() : UINT64_MAX;
	return rings;
}

void bht_rings_free(struct bht_rings *rings)
{
	if (!rings)
		return;
	for (size_t i = 0; i < rings->n; i++)
		free(rings->ring[i].records);
	free(rings->ring);
	free(rings);
}

/* --- decoding ----------------------------------------------------------------- */

static void decoder_close(struct bht_source *source)
{
	free(source);
}

/* Who wrote the first record: whom the first visible mark relieved. */
static uint32_t first_writer(const struct bht_rings *rings, const struct bht_ring *ring)
{
	uint32_t before;

	if (ring->mark && ring->mark - 1 < ring->lost)
		return ring->tid;
	return bht_find_mark(&rings->how, ring->records, ring->n, &before) ? before : ring->tid;
}

static struct bht_source *ring_source(const struct bht_rings *rings, const struct bht_ring *ring, bht_tid_map map,
				      void *arg)
{
	struct bht_decoder *d = calloc(1, sizeof(*d));
	const uint32_t writer = first_writer(rings, ring);

	if (!d)
		return NULL;
	*d = (struct bht_decoder){
		.base = { bht_decoder_next, decoder_close },
		.how = &rings->how,
		.records = ring->records,
		.n = ring->n,
		.map = map,
		.arg = arg,
		.tid = writer ? map(arg, writer) : 0,
		.lost = ring->lost,
		.why = ring->damaged ? BHT_LOSS_DAMAGED
		       : ring->lost  ? ring->why
				     : 0,
	};
	if (ring->lost)
		bht_decoder_skip_text(d);
	return &d->base;
}

int bht_rings_sources(struct bht_rings *rings, bht_tid_map map, void *arg, struct bht_source ***sources, unsigned *n)
{
	struct bht_source **all = calloc(rings->n + 2, sizeof(*all));
	unsigned wanted = 0, made = 0;

	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < rings->n; i++)
		all[wanted++] = ring_source(rings, &rings->ring[i], map, arg);
	/* What is missing may be of any thread and any time up to now. */
	if (rings->dropped || rings->off)
		all[wanted++] = bht_loss_source(rings->how.now, BHT_LOSS_DROPPED, rings->dropped);
	if (rings->damaged)
		all[wanted++] = bht_loss_source(rings->how.now, BHT_LOSS_DAMAGED, 0);
	while (made < wanted && all[made])
		made++;
	*sources = all;
	*n = wanted;
	if (made == wanted)
		return 0;
	for (unsigned i = 0; i < wanted; i++)
		free(all[i]);
	free(all);
	return -ENOMEM;
}
