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

#include "fields.h"
#include "flight.h"
#include "follow.h"
#include "refuse.h"

enum { COPY_TRIES = 4 };
static const uint64_t COPY_MAX = UINT64_C(1) << 30; /* bytes, all rings of a root */

/* Beyond this a record is from the future: time stamps of two CPUs differ by
 * far less. */
static const uint64_t CLOCK_SKEW = UINT64_C(1) << 24;

/* One copied ring: records with index first .. first + n. */
struct ring {
	struct bhp_record *records;
	uint64_t n;
	uint64_t lost; /* records before the first */
	enum bht_loss_why why;
	bool damaged; /* the counters make no sense: n is 0 */
	uint32_t tid; /* of the last writer, in the target's namespace */
};

struct bht_rings {
	struct bht_fields fields;
	struct ring *ring;
	size_t n;
	uint64_t copied;  /* bytes */
	uint64_t now;     /* the target's clock */
	uint64_t dropped; /* events that found no ring */
	bool off;         /* the recorder was told not to record */
	bool damaged;     /* not all rings could be read */
};

static int check_header(struct bht_memory *mem, uint64_t addr, const struct bhp_ring *h, struct bht_refusal *refusal)
{
	if (memcmp(h->magic, BHP_RING_MAGIC, sizeof(h->magic)))
		return bht_refuse(refusal, -EBADMSG, addr, "ring: does not begin with %s", BHP_RING_MAGIC);
	if (h->abi != BHP_ABI || h->record_size != sizeof(struct bhp_record))
		return bht_refuse(refusal, -EBADMSG, addr, "ring: ABI %u with records of %u bytes", h->abi,
				  h->record_size);
	if (!h->capacity || h->capacity & (h->capacity - 1) || h->capacity > BHP_RING_MAX / sizeof(struct bhp_record))
		return bht_refuse(refusal, -EBADMSG, addr, "ring: capacity %llu", (unsigned long long)h->capacity);
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
static void judge_copy(struct ring *ring, const struct bhp_ring *h, const struct bhp_ring *after, uint64_t n)
{
	const uint64_t first = h->head - n;
	uint64_t valid = first;

	if (after->reserved < h->head || after->head < h->head || after->capacity != h->capacity) {
		*ring = (struct ring){ .records = ring->records, .damaged = true, .tid = h->tid };
		return;
	}
	if (after->reserved > h->capacity && after->reserved - h->capacity > valid)
		valid = after->reserved - h->capacity;
	if (valid > h->head)
		valid = h->head;
	ring->tid = h->tid;
	ring->n = h->head - valid;
	ring->lost = valid;
	ring->why = first ? BHT_LOSS_OVERWRITTEN : BHT_LOSS_UNSTABLE;
	memmove(ring->records, ring->records + (valid - first), ring->n * sizeof(*ring->records));
}

/* One try: H is the header before, and after it the one found afterwards. */
static int try_copy(struct bht_memory *mem, uint64_t addr, struct bhp_ring *h, struct ring *ring)
{
	const uint64_t n = h->head < h->capacity ? h->head : h->capacity;
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

static int copy_ring(struct bht_memory *mem, uint64_t addr, struct bhp_ring *h, struct ring *ring)
{
	const uint64_t enough = h->head < h->capacity ? h->head / 4 : h->capacity / 4;

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
	struct ring ring = { 0 };
	int rc = bht_read(mem, addr, &h, sizeof(h));

	if (rc)
		return bht_refuse_read(refusal, rc, addr, "ring");
	rc = check_header(mem, addr, &h, refusal);
	if (rc)
		return rc;
	rings->copied += (h.head < h.capacity ? h.head : h.capacity) * sizeof(struct bhp_record);
	if (rings->copied > COPY_MAX)
		return bht_refuse(refusal, -E2BIG, addr, "rings: more than %llu bytes in all",
				  (unsigned long long)COPY_MAX);
	/* Doubling the array whenever its length is a power of two. */
	if (!(rings->n & (rings->n - 1))) {
		struct ring *more = realloc(rings->ring, (rings->n ? 2 * rings->n : 1) * sizeof(*more));
		if (!more)
			return bht_refuse(refusal, -ENOMEM, addr, "rings: no memory for %zu", rings->n);
		rings->ring = more;
	}
	*next = (uintptr_t)h.next;
	rc = copy_ring(mem, addr, &h, &ring);
	if (rc) {
		free(ring.records);
		return bht_refuse_read(refusal, rc, addr, "ring");
	}
	rings->ring[rings->n++] = ring;
	return 0;
}

static int read_fields(struct bht_memory *mem, const struct bhp_root *root, struct bht_fields *fields,
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
		bht_fields_init(fields, table, root->n_fields);
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
	int rc = read_fields(mem, root, &rings->fields, refusal);
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
	rings->now = clock ? clock() : UINT64_MAX;
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

struct ring_source {
	struct bht_source base;
	const struct bht_rings *rings;
	const struct ring *ring;
	uint64_t at;
	bht_tid_map map;
	void *arg;
	uint32_t tid;          /* writer of the record at AT, in our namespace */
	uint64_t lost;         /* to be told before the next event */
	enum bht_loss_why why; /* 0: nothing is to be told */
	char text[BHP_TEXT_MAX + 1];
};

static bool is_text(const struct ring *ring, uint64_t at)
{
	return at < ring->n && (ring->records[at].word[1] & 0xff) == BHP_ID_TEXT;
}

/* Collects the text records from AT on, at most what one event may have; gives
 * their number. */
static unsigned collect_text(struct ring_source *s, uint64_t at)
{
	unsigned n = 0;
	size_t len = 0;

	for (; n < BHP_GROUP_MAX - 1 && is_text(s->ring, at + n); n++) {
		const struct bhp_record *r = &s->ring->records[at + n];
		const size_t part = r->word[1] >> 8 & 0xff;
		if (part > BHP_TEXT_PER_RECORD)
			break;
		memcpy(s->text + len, &r->word[0], part < 8 ? part : 8);
		if (part > 8)
			memcpy(s->text + len + 8, &r->word[2], part - 8);
		len += part;
	}
	s->text[len] = '\0';
	return n;
}

static enum bht_fields_verdict decode(const struct ring_source *s, struct bhp_record *r)
{
	if (bhp_record_time(r) > s->rings->now && bhp_record_time(r) - s->rings->now > CLOCK_SKEW)
		return BHT_RECORD_NONSENSE;
	return bht_fields_apply(&s->rings->fields, r);
}

static int tell_loss(struct ring_source *s, uint64_t time, struct bht_event *e)
{
	*e = bht_loss(time, s->tid, s->why, s->lost);
	s->why = 0;
	s->lost = 0;
	return 1;
}

static int next_event(struct ring_source *s, struct bht_event *e)
{
	while (s->at < s->ring->n) {
		*e = (struct bht_event){ .r = s->ring->records[s->at] };
		enum bht_fields_verdict verdict = decode(s, &e->r);
		if (verdict == BHT_RECORD_OK && s->why)
			return tell_loss(s, bhp_record_time(&e->r), e);
		s->at++;
		if (verdict == BHT_RECORD_NONSENSE) {
			s->why = BHT_LOSS_DAMAGED;
			s->lost++;
			continue;
		}
		s->at += collect_text(s, s->at);
		if (verdict == BHT_RECORD_UNKNOWN)
			continue;
		if (bhp_record_id(&e->r) == BHP_ID_thread)
			s->tid = s->map(s->arg, bhp_decode_thread(&e->r).tid);
		e->tid = s->tid;
		e->text = s->text[0] ? s->text : NULL;
		return 1;
	}
	return s->why ? tell_loss(s, s->rings->now, e) : 0;
}

static int ring_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct ring_source *s = (struct ring_source *)source;
	unsigned n = 0;

	while (n < max && next_event(s, &e[n]))
		if (e[n++].text)
			break;
	return (int)n;
}

static void source_free(struct bht_source *source)
{
	free(source);
}

/* Who wrote the first record: whom the first visible mark relieved. */
static uint32_t first_writer(const struct bht_rings *rings, const struct ring *ring)
{
	for (uint64_t i = 0; i < ring->n; i++) {
		struct bhp_record r = ring->records[i];
		if (rings->fields.event[bhp_record_id(&r)].id != BHP_ID_thread)
			continue;
		bht_fields_apply(&rings->fields, &r);
		return bhp_decode_thread(&r).previous;
	}
	return ring->tid;
}

static struct bht_source *ring_source(const struct bht_rings *rings, const struct ring *ring, bht_tid_map map,
				      void *arg)
{
	struct ring_source *s = calloc(1, sizeof(*s));
	const uint32_t writer = first_writer(rings, ring);

	if (!s)
		return NULL;
	s->base = (struct bht_source){ ring_next, source_free };
	s->rings = rings;
	s->ring = ring;
	s->map = map;
	s->arg = arg;
	s->tid = writer ? map(arg, writer) : 0;
	s->lost = ring->lost;
	s->why = ring->damaged ? BHT_LOSS_DAMAGED : ring->lost ? ring->why : 0;
	/* The event that this text belongs to is among the lost ones. */
	while (ring->lost && s->at < BHP_GROUP_MAX - 1 && is_text(ring, s->at))
		s->at++;
	return &s->base;
}

/* A source of a single loss event. */
struct loss_source {
	struct bht_source base;
	struct bht_event event;
	bool told;
};

static int loss_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct loss_source *s = (struct loss_source *)source;

	(void)max;
	if (s->told)
		return 0;
	s->told = true;
	*e = s->event;
	return 1;
}

static struct bht_source *loss_source(uint64_t time, enum bht_loss_why why, uint64_t count)
{
	struct loss_source *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	*s = (struct loss_source){ .base = { loss_next, source_free }, .event = bht_loss(time, 0, why, count) };
	return &s->base;
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
		all[wanted++] = loss_source(rings->now, BHT_LOSS_DROPPED, rings->dropped);
	if (rings->damaged)
		all[wanted++] = loss_source(rings->now, BHT_LOSS_DAMAGED, 0);
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
