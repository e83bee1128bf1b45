/* SPDX-License-Identifier: MIT */
/*
 * From the root to the loops and bottom halves: a list of pools, each with a
 * list of chunks, each with equal slots.
 *
 * A chunk is copied twice in one go. A slot whose serial number is the same in
 * both copies was not reused in between, so its first copy shows one object.
 */
#include <stdlib.h>
#include <string.h>

#include "flight.h"
#include "follow.h"
#include "refuse.h"

enum { POOLS_MAX = 1024, STRIDE_MAX = 16 * 1024, CHUNK_SIZE_MAX = 64 << 20, SETTLE_TRIES = 4 };

int bht_root_read(struct bht_memory *mem, uint64_t addr, struct bhp_root *root, struct bht_refusal *refusal)
{
	int rc = bht_read(mem, addr, root, sizeof(*root));

	if (rc)
		return bht_refuse_read(refusal, rc, addr, "root");
	if (memcmp(root->magic, BHP_ROOT_MAGIC, sizeof(root->magic)))
		return bht_refuse(refusal, -EBADMSG, addr, "root: does not begin with %s", BHP_ROOT_MAGIC);
	if (root->abi != BHP_ABI)
		return bht_refuse(refusal, -EPROTO, addr, "root: ABI %u, this reader knows %d", root->abi, BHP_ABI);
	if (root->size < sizeof(*root))
		return bht_refuse(refusal, -EPROTO, addr, "root: %u bytes, expected %zu or more", root->size,
				  sizeof(*root));
	if (root->record_size != sizeof(struct bhp_record) || root->ring_header != BHP_RING_HEADER)
		return bht_refuse(refusal, -EPROTO, addr, "root: records of %u bytes behind %u, expected %zu behind %d",
				  root->record_size, root->ring_header, sizeof(struct bhp_record), BHP_RING_HEADER);
	return 0;
}

struct walk {
	struct bht_memory *mem;
	struct bht_sample *sample;
	struct bht_refusal *refusal;
	unsigned char *copy; /* two copies of a chunk's slots */
	size_t size;
};

/* What both kinds of object begin with. */
struct identity {
	uint32_t state;
	uint32_t other;
	uint64_t serial;
};

_Static_assert(offsetof(struct bhp_loop_object, serial) == offsetof(struct identity, serial), "a loop's serial");
_Static_assert(offsetof(struct bhp_bh_object, serial) == offsetof(struct identity, serial), "a bottom half's serial");

static bool in_use(const void *slot)
{
	struct identity id;

	memcpy(&id, slot, sizeof(id));
	return id.state != BHP_FREE;
}

static bool same_object(const void *a, const void *b)
{
	struct identity x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x.serial == y.serial && y.state != BHP_FREE;
}

static size_t object_size(uint32_t kind)
{
	return kind == BHP_POOL_LOOP ? sizeof(struct bhp_loop_object) : sizeof(struct bhp_bh_object);
}

static void copy_name(char to[BHP_NAME_SIZE], const char from[BHP_NAME_SIZE])
{
	memcpy(to, from, BHP_NAME_SIZE);
	to[BHP_NAME_SIZE - 1] = '\0';
}

static void add_loop(struct bht_sample *sample, uint64_t addr, const void *slot)
{
	struct bhp_loop_object o;

	memcpy(&o, slot, sizeof(o));
	if (o.state != BHP_LIVE)
		return;
	struct bht_loop *loop = &sample->loops[sample->n_loops++];
	*loop = (struct bht_loop){
		.addr = addr,
		.serial = o.serial,
		.protocol = o.protocol,
		.owner = o.owner_tid,
		.where = o.where,
		.depth = o.depth,
		.iteration = o.iteration,
		.notify_me = o.notify_me,
		.notifier_fd = o.notifier_fd,
		.poll_fd = o.poll_fd,
		.current = (uintptr_t)o.current,
		.current_callback = (uintptr_t)o.current_callback,
		.current_since = o.current_since,
		.wait_timeout_ns = o.wait_timeout_ns,
		.notifier_count = -1,
		.notifier_watched = -1,
		.embedder_watches = -1,
	};
	copy_name(loop->name, o.name);
	memcpy(loop->adapter, o.family, sizeof(o.family)); /* has room for a zero behind it */
}

static void add_bh(struct bht_sample *sample, uint64_t addr, const void *slot)
{
	struct bhp_bh_object o;

	memcpy(&o, slot, sizeof(o));
	struct bht_bh *bh = &sample->bhs[sample->n_bhs++];
	*bh = (struct bht_bh){
		.addr = addr,
		.serial = o.serial,
		.loop = (uintptr_t)o.loop,
		.callback = (uintptr_t)o.callback,
		.state = o.state,
		.flags = o.flags,
		.runs = o.runs,
		.last_run = o.last_run,
	};
	copy_name(bh->name, o.name);
}

/* Room for COUNT more objects of KIND; false when there is no memory. */
static bool make_room(struct bht_sample *sample, uint32_t kind, size_t count)
{
	if (kind == BHP_POOL_LOOP) {
		void *loops = realloc(sample->loops, (sample->n_loops + count) * sizeof(*sample->loops));
		if (loops)
			sample->loops = loops;
		return loops;
	}
	void *bhs = realloc(sample->bhs, (sample->n_bhs + count) * sizeof(*sample->bhs));
	if (bhs)
		sample->bhs = bhs;
	return bhs;
}

/* Copies the slot at ADDR, which was reused under the first copy, until it
 * holds still. 1, 0 when it is free now or too busy, or -errno. */
static int settle(struct walk *w, uint64_t addr, void *slot, size_t size)
{
	struct identity again;
	const struct bht_span spans[] = { { addr, slot, size }, { addr, &again, sizeof(again) } };

	for (int i = 0; i < SETTLE_TRIES; i++) {
		int rc = w->mem->read(w->mem, spans, 2);
		if (rc)
			return bht_refuse_read(w->refusal, rc, addr, "object");
		if (!in_use(slot))
			return 0;
		if (same_object(slot, &again))
			return 1;
	}
	w->sample->unstable = true;
	return 0;
}

static void add_object(struct bht_sample *sample, uint32_t kind, uint64_t addr, const void *slot)
{
	if (kind == BHP_POOL_LOOP)
		add_loop(sample, addr, slot);
	else
		add_bh(sample, addr, slot);
}

static int add_objects(struct walk *w, const struct bhp_pool *pool, uint64_t slots, uint32_t count)
{
	const size_t len = (size_t)count * pool->stride;

	for (uint32_t i = 0; i < count; i++) {
		const size_t at = (size_t)i * pool->stride;
		if (!in_use(w->copy + at))
			continue;
		if (!same_object(w->copy + at, w->copy + len + at)) {
			int rc = settle(w, slots + at, w->copy + at, object_size(pool->kind));
			if (rc < 0)
				return rc;
			if (!rc)
				continue;
		}
		add_object(w->sample, pool->kind, slots + at, w->copy + at);
	}
	return 0;
}

static uint32_t count_in_use(const unsigned char *slots, uint32_t stride, uint32_t count)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < count; i++)
		n += in_use(slots + (size_t)i * stride);
	return n;
}

/* Makes room for two copies of LEN bytes. */
static int reserve_copy(struct walk *w, uint64_t addr, size_t len)
{
	if (w->copy && 2 * len <= w->size)
		return 0;
	free(w->copy);
	w->size = 2 * len;
	w->copy = malloc(w->size);
	if (w->copy)
		return 0;
	w->size = 0;
	return bht_refuse(w->refusal, -ENOMEM, addr, "chunk: no memory for two copies of %zu bytes", len);
}

static int check_count(const struct bht_sample *sample, uint32_t stride, uint64_t slots, uint32_t count,
		       struct bht_refusal *refusal)
{
	if (sample->n_loops + sample->n_bhs + count > BHT_OBJECTS_MAX || (uint64_t)count * stride > CHUNK_SIZE_MAX)
		return bht_refuse(refusal, -E2BIG, slots,
				  "chunk: %u slots of %u bytes, more than %d objects or %d bytes", count, stride,
				  BHT_OBJECTS_MAX, CHUNK_SIZE_MAX);
	return 0;
}

static int check_slots(struct walk *w, const struct bhp_pool *pool, uint64_t slots, uint32_t count)
{
	int rc = check_count(w->sample, pool->stride, slots, count, w->refusal);

	if (!rc && !w->mem->mapped(w->mem, slots, (uint64_t)count * pool->stride))
		rc = bht_refuse(w->refusal, -EBADMSG, slots, "chunk: %u slots of %u bytes, not all mapped", count,
				pool->stride);
	return rc;
}

static int walk_slots(struct walk *w, const struct bhp_pool *pool, uint64_t slots, uint32_t count)
{
	const size_t len = (size_t)count * pool->stride;
	int rc = count ? check_slots(w, pool, slots, count) : 0;

	if (rc || !count)
		return rc;
	rc = reserve_copy(w, slots, len);
	if (rc)
		return rc;
	const struct bht_span spans[] = { { slots, w->copy, len }, { slots, w->copy + len, len } };
	rc = w->mem->read(w->mem, spans, 2);
	if (rc)
		return bht_refuse_read(w->refusal, rc, slots, "chunk");
	uint32_t used = count_in_use(w->copy, pool->stride, count);
	if (!used)
		return 0;
	if (!make_room(w->sample, pool->kind, used))
		return bht_refuse(w->refusal, -ENOMEM, slots, "chunk: no memory for %u objects", used);
	return add_objects(w, pool, slots, count);
}

static int refuse_list(struct walk *w, int rc, uint64_t addr, const char *what, int max)
{
	if (rc == -ELOOP)
		return bht_refuse(w->refusal, -EBADMSG, addr, "list of %s: runs in a circle", what);
	return bht_refuse(w->refusal, rc, addr, "list of %s: more than %d", what, max);
}

static int walk_chunks(struct walk *w, const struct bhp_pool *pool)
{
	struct bht_follow follow = { 0 };
	struct bhp_chunk chunk;

	for (uint64_t addr = (uintptr_t)pool->chunks; addr; addr = (uintptr_t)chunk.next) {
		int rc = bht_follow(&follow, addr, BHT_CHUNKS_MAX);
		if (rc)
			return refuse_list(w, rc, addr, "chunks", BHT_CHUNKS_MAX);
		rc = bht_read(w->mem, addr, &chunk, sizeof(chunk));
		if (rc)
			return bht_refuse_read(w->refusal, rc, addr, "chunk");
		rc = walk_slots(w, pool, addr + sizeof(chunk), chunk.count);
		if (rc)
			return rc;
	}
	return 0;
}

/* Others may come later. */
static bool known(uint32_t kind)
{
	return kind == BHP_POOL_LOOP || kind == BHP_POOL_BH;
}

static int check_stride(uint32_t kind, uint32_t stride, uint64_t addr, struct bht_refusal *refusal)
{
	if (stride < object_size(kind) || stride > STRIDE_MAX || stride % BHP_CACHE_LINE)
		return bht_refuse(refusal, -EBADMSG, addr, "pool: slots of %u bytes", stride);
	return 0;
}

static int walk_pool(struct walk *w, uint64_t addr, struct bhp_pool *pool)
{
	struct bhp_pool again;
	int rc = bht_read(w->mem, addr, pool, sizeof(*pool));

	if (rc)
		return bht_refuse_read(w->refusal, rc, addr, "pool");
	if (!known(pool->kind))
		return 0;
	rc = check_stride(pool->kind, pool->stride, addr, w->refusal);
	if (rc)
		return rc;
	rc = walk_chunks(w, pool);
	if (rc)
		return rc;
	rc = bht_read(w->mem, addr, &again, sizeof(again));
	if (rc)
		return bht_refuse_read(w->refusal, rc, addr, "pool");
	if (again.chunks != pool->chunks)
		w->sample->unstable = true;
	return 0;
}

int bht_registry_walk(struct bht_memory *mem, const struct bhp_root *root, struct bht_sample *sample,
		      struct bht_refusal *refusal)
{
	struct walk w = { .mem = mem, .sample = sample, .refusal = refusal };
	struct bht_follow follow = { 0 };
	struct bhp_pool pool;
	int rc = 0;

	for (uint64_t addr = (uintptr_t)root->pools; addr && !rc; addr = (uintptr_t)pool.next) {
		rc = bht_follow(&follow, addr, POOLS_MAX);
		if (rc)
			rc = refuse_list(&w, rc, addr, "pools", POOLS_MAX);
		else
			rc = walk_pool(&w, addr, &pool);
	}
	free(w.copy);
	return rc;
}

int bht_registry_check(const struct bht_sample *sample, uint32_t kind, uint32_t stride, uint64_t slots, uint32_t count,
		       struct bht_refusal *refusal)
{
	if (!known(kind))
		return 0;
	int rc = check_stride(kind, stride, slots, refusal);
	return rc ? rc : check_count(sample, stride, slots, count, refusal);
}

int bht_registry_slots(struct bht_sample *sample, uint32_t kind, uint32_t stride, uint64_t slots, const void *bytes,
		       uint32_t count, struct bht_refusal *refusal)
{
	const uint32_t used = known(kind) ? count_in_use(bytes, stride, count) : 0;

	if (!used)
		return 0;
	if (!make_room(sample, kind, used))
		return bht_refuse(refusal, -ENOMEM, slots, "chunk: no memory for %u objects", used);
	for (uint32_t i = 0; i < count; i++) {
		const unsigned char *slot = (const unsigned char *)bytes + (size_t)i * stride;
		if (in_use(slot))
			add_object(sample, kind, slots + (uint64_t)i * stride, slot);
	}
	return 0;
}
