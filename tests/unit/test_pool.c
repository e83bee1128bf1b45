/* SPDX-License-Identifier: MIT */
/* Pools: an observer may read any slot at any time, and knows objects apart. */
#include "support.h"

enum { STRIDE = 192, MANY = 10000, THREADS = 4 };

static struct bhp_pool pool;

static void *get(uint64_t *serial)
{
	struct bhp_bh_object *o = bhp_pool_get(&pool, BHP_POOL_BH, STRIDE, serial);

	if (o) {
		o->serial = *serial;
		atomic_store(&o->state, BHP_LIVE);
	}
	return o;
}

/* The slots that an observer finds, and how many of them are alive. */
static size_t walk(size_t *live)
{
	struct bhp_pool *p = atomic_load(&bhp_flight_root.pools);
	size_t slots = 0;

	while (p != &pool)
		p = atomic_load(&p->next);
	*live = 0;
	for (struct bhp_chunk *c = atomic_load(&p->chunks); c; c = atomic_load(&c->next)) {
		for (uint32_t i = 0; i < c->count; i++) {
			const struct bhp_bh_object *o = (void *)(c->slot + (size_t)i * p->stride);
			*live += atomic_load(&o->state) == BHP_LIVE;
		}
		slots += c->count;
	}
	return slots;
}

static void objects_are_zeroed_aligned_and_found_from_the_root(void **state)
{
	(void)state;
	static const char zero[STRIDE];
	uint64_t serial;
	size_t live;
	char *slot = bhp_pool_get(&pool, BHP_POOL_BH, STRIDE, &serial);

	assert_int_equal(serial, 1);
	assert_int_equal((uintptr_t)slot % BHP_CACHE_LINE, 0);
	assert_memory_equal(slot, zero, STRIDE);
	memset(slot, 0xff, STRIDE);
	bhp_pool_put(&pool, slot);
	assert_ptr_equal(bhp_pool_get(&pool, BHP_POOL_BH, STRIDE, &serial), slot);
	assert_memory_equal(slot, zero, STRIDE);
	assert_int_equal(pool.kind, BHP_POOL_BH);
	assert_int_equal(pool.stride, STRIDE);
	bhp_pool_put(&pool, slot);
	walk(&live);
	assert_int_equal(live, 0);
}

static void slots_are_reused_not_unmapped_serials_never(void **state)
{
	(void)state;
	static void *slot[MANY];
	uint64_t serial, last = 0;
	size_t live, slots = 0;

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < MANY; i++) {
			slot[i] = get(&serial);
			assert_non_null(slot[i]);
			assert_true(serial > last);
			last = serial;
		}
		assert_true(slots == 0 || walk(&live) == slots);
		slots = walk(&live);
		assert_int_equal(live, MANY);
		for (int i = 0; i < MANY; i++)
			bhp_pool_put(&pool, slot[i]);
		assert_int_equal(walk(&live), slots);
		assert_int_equal(live, 0);
	}
}

static uint64_t serials[THREADS][MANY];

static void *take_and_give(void *arg)
{
	for (int i = 0; i < MANY; i++)
		bhp_pool_put(&pool, get(&((uint64_t *)arg)[i]));
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void threads_get_different_serials(void **state)
{
	(void)state;
	pthread_t thread[THREADS];
	uint64_t *all = serials[0];

	for (int i = 0; i < THREADS; i++)
		thread[i] = in_thread(take_and_give, serials[i]);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	qsort(all, THREADS * MANY, sizeof(*all), compare);
	for (int i = 1; i < THREADS * MANY; i++)
		assert_true(all[i] > all[i - 1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_zeroed_aligned_and_found_from_the_root),
		cmocka_unit_test(slots_are_reused_not_unmapped_serials_never),
		cmocka_unit_test(threads_get_different_serials),
	};

	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
