/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "fake_memory.h"
#include "flight.h"
#include "sources/registry.h"

enum { SLOTS = 8, LOOP_STRIDE = 256, BH_STRIDE = 128 };

enum { CHUNK_SIZE = sizeof(struct bhp_chunk) + SLOTS * LOOP_STRIDE };

static struct {
	struct fake_memory fake;
	struct bhp_root root;
	struct bhp_pool loops, bhs;
	_Alignas(BHP_CACHE_LINE) unsigned char loop_chunk[CHUNK_SIZE], bh_chunk[2][CHUNK_SIZE];
	struct bht_sample sample;
	struct bht_refusal refusal;
} t;

static struct bhp_chunk *loop_chunk(void)
{
	return (void *)t.loop_chunk;
}

static struct bhp_chunk *bh_chunk(unsigned i)
{
	return (void *)t.bh_chunk[i];
}

static struct bhp_loop_object *loop_at(unsigned i)
{
	return (void *)(loop_chunk()->slot + i * LOOP_STRIDE);
}

static struct bhp_bh_object *bh_at(unsigned chunk, unsigned i)
{
	return (void *)(bh_chunk(chunk)->slot + i * BH_STRIDE);
}

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	fake_init(&t.fake);
	t.root = (struct bhp_root){ .magic = BHP_ROOT_MAGIC,
				    .abi = BHP_ABI,
				    .size = sizeof(t.root),
				    .record_size = sizeof(struct bhp_record),
				    .ring_header = BHP_RING_HEADER,
				    .pools = &t.loops };
	t.loops = (struct bhp_pool){
		.next = &t.bhs, .kind = BHP_POOL_LOOP, .stride = LOOP_STRIDE, .chunks = loop_chunk()
	};
	t.bhs = (struct bhp_pool){ .kind = BHP_POOL_BH, .stride = BH_STRIDE, .chunks = bh_chunk(0) };
	loop_chunk()->count = SLOTS;
	bh_chunk(0)->next = bh_chunk(1);
	bh_chunk(0)->count = SLOTS;
	bh_chunk(1)->count = SLOTS;
	*loop_at(3) = (struct bhp_loop_object){ .state = BHP_LIVE,
						.serial = 7,
						.notifier_fd = 5,
						.poll_fd = 4,
						.name = "main",
						.owner_tid = 42,
						.iteration = 9,
						.where = BHP_WAIT,
						.wait_timeout_ns = -1,
						.notify_me = BHP_LOOP_SLEEPING };
	*bh_at(0, 0) = (struct bhp_bh_object){ .state = BHP_LIVE, .serial = 1, .loop = loop_at(3), .name = "first" };
	*bh_at(1, 7) = (struct bhp_bh_object){ .state = BHP_DYING, .serial = 2, .flags = 9, .runs = 3, .last_run = 11 };
	fake_show(&t.fake, &t.root, sizeof(t.root));
	fake_show(&t.fake, &t.loops, sizeof(t.loops));
	fake_show(&t.fake, &t.bhs, sizeof(t.bhs));
	fake_show(&t.fake, t.loop_chunk, sizeof(t.loop_chunk));
	fake_show(&t.fake, t.bh_chunk, sizeof(t.bh_chunk));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bht_sample_free(&t.sample);
	return 0;
}

static int walk(void)
{
	struct bhp_root root;
	int rc = bht_root_read(&t.fake.mem, (uintptr_t)&t.root, &root, &t.refusal);

	return rc ? rc : bht_registry_walk(&t.fake.mem, &root, &t.sample, &t.refusal);
}

static void refused(int error, const void *where, const char *why)
{
	assert_int_equal(walk(), error);
	assert_ptr_equal((void *)(uintptr_t)t.refusal.addr, where);
	if (!strstr(t.refusal.why, why))
		fail_msg("\"%s\" instead of \"%s\"", t.refusal.why, why);
}

static void test_walk(void **state)
{
	(void)state;
	assert_int_equal(walk(), 0);
	assert_false(t.sample.unstable);
	assert_int_equal(t.sample.n_loops, 1);
	const struct bht_loop *loop = bht_sample_loop(&t.sample, (uintptr_t)loop_at(3));
	assert_non_null(loop);
	assert_string_equal(loop->name, "main");
	assert_int_equal(loop->serial, 7);
	assert_int_equal(loop->owner, 42);
	assert_int_equal(loop->where, BHP_WAIT);
	assert_int_equal(loop->iteration, 9);
	assert_int_equal(loop->wait_timeout_ns, -1);
	assert_int_equal(loop->notifier_fd, 5);
	assert_int_equal(loop->poll_fd, 4);
	assert_int_equal(loop->notifier_count, -1);
	assert_int_equal(loop->notifier_watched, -1);
	assert_int_equal(t.sample.n_bhs, 2);
	assert_int_equal(t.sample.bhs[0].loop, loop->addr);
	assert_string_equal(t.sample.bhs[0].name, "first");
	assert_int_equal(t.sample.bhs[1].state, BHP_DYING);
	assert_int_equal(t.sample.bhs[1].flags, 9);
	assert_int_equal(t.sample.bhs[1].runs, 3);
	assert_int_equal(t.sample.bhs[1].last_run, 11);
	assert_int_equal(walk(), 0); /* appends */
	assert_int_equal(t.sample.n_bhs, 4);
}

static void test_name_without_end(void **state)
{
	(void)state;
	memset(loop_at(3)->name, 'x', BHP_NAME_SIZE);
	assert_int_equal(walk(), 0);
	assert_int_equal(strlen(t.sample.loops[0].name), BHP_NAME_SIZE - 1);
}

static void test_no_root(void **state)
{
	(void)state;
	t.root.magic[0] = 'X';
	refused(-EBADMSG, &t.root, "BHTRACE");
	struct bhp_root root;
	assert_int_equal(bht_root_read(&t.fake.mem, 8, &root, &t.refusal), -EFAULT);
	assert_int_equal(bht_root_read(&t.fake.mem, 8, &root, NULL), -EFAULT);
}

static void test_other_abi(void **state)
{
	(void)state;
	t.root.abi = BHP_ABI + 1;
	refused(-EPROTO, &t.root, "ABI 2");
	t.root.abi = BHP_ABI;
	t.root.size = 8;
	refused(-EPROTO, &t.root, "8 bytes");
	t.root.size = sizeof(t.root) + 64; /* appended to since */
	assert_int_equal(walk(), 0);
	t.root.record_size = 64;
	refused(-EPROTO, &t.root, "records of 64 bytes");
}

static void test_circles(void **state)
{
	(void)state;
	bh_chunk(1)->next = bh_chunk(0);
	assert_int_equal(walk(), -EBADMSG);
	assert_string_equal(t.refusal.why, "list of chunks: runs in a circle");
	bh_chunk(1)->next = bh_chunk(1);
	refused(-EBADMSG, bh_chunk(1), "runs in a circle");
	bh_chunk(1)->next = NULL;
	t.bhs.next = &t.loops;
	assert_int_equal(walk(), -EBADMSG);
	assert_string_equal(t.refusal.why, "list of pools: runs in a circle");
}

static void test_counts_and_strides(void **state)
{
	(void)state;
	bh_chunk(0)->count = UINT32_MAX;
	refused(-E2BIG, bh_chunk(0)->slot, "4294967295 slots");
	bh_chunk(0)->count = 3000000; /* few enough, but they would not fit a chunk */
	refused(-E2BIG, bh_chunk(0)->slot, "3000000 slots");
	bh_chunk(0)->count = 1000;
	refused(-EBADMSG, bh_chunk(0)->slot, "not all mapped");
	bh_chunk(0)->count = 0;
	assert_int_equal(walk(), 0);
	const uint32_t bad[] = { 0, 64, 130, 1 << 20, UINT32_MAX };
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		t.bhs.stride = bad[i];
		refused(-EBADMSG, &t.bhs, "slots of");
	}
}

static void test_wild_pointers(void **state)
{
	(void)state;
	bh_chunk(1)->next = (void *)0x10;
	refused(-EFAULT, (void *)0x10, "chunk: not mapped");
	bh_chunk(1)->next = NULL;
	t.bhs.next = (void *)-8L;
	refused(-EFAULT, (void *)-8L, "pool: not mapped");
	t.bhs.next = NULL;
	t.fake.error = -ESRCH;
	refused(-ESRCH, &t.root, "gone");
}

static void test_unknown_pool(void **state)
{
	(void)state;
	t.loops.kind = 77;
	t.loops.stride = 0;
	assert_int_equal(walk(), 0);
	assert_int_equal(t.sample.n_loops, 0);
	assert_int_equal(t.sample.n_bhs, 2);
}

/* Reads of walk(): 1 root, 2 pool, 3 chunk, 4 its slots (twice), 5 pool again,
 * 6 pool, 7 chunk, 8 slots, ... */
static void grow_list(unsigned read_no)
{
	if (read_no == 9)
		t.bhs.chunks = bh_chunk(1);
}

static void test_growing_list(void **state)
{
	(void)state;
	t.fake.hook = grow_list;
	assert_int_equal(walk(), 0);
	assert_true(t.sample.unstable);
}

/* Between the two copies of a chunk the target goes on. */
static bool settles;

static void restless(unsigned read_no)
{
	struct bhp_bh_object *bh = bh_at(0, 0);

	bh->serial = settles && read_no > 9 ? 50 : read_no;
}

static int torn_read(struct bht_memory *mem, const struct bht_span *spans, size_t n)
{
	int rc = 0;

	for (size_t i = 0; i < n && !rc; i++)
		rc = fake_read(mem, &spans[i], 1);
	return rc;
}

static void test_reused_under_the_walk(void **state)
{
	(void)state;
	t.fake.mem.read = torn_read;
	t.fake.hook = restless;
	settles = true;
	assert_int_equal(walk(), 0);
	assert_false(t.sample.unstable);
	assert_int_equal(t.sample.n_bhs, 2);
	assert_int_equal(t.sample.bhs[0].serial, 50);
	bht_sample_free(&t.sample);
	settles = false;
	t.fake.reads = 0;
	assert_int_equal(walk(), 0);
	assert_true(t.sample.unstable);
	assert_int_equal(t.sample.n_bhs, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_walk),          TEST(test_name_without_end),
		TEST(test_no_root),       TEST(test_other_abi),
		TEST(test_circles),       TEST(test_counts_and_strides),
		TEST(test_wild_pointers), TEST(test_unknown_pool),
		TEST(test_growing_list),  TEST(test_reused_under_the_walk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
