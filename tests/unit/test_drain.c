/* SPDX-License-Identifier: MIT */
/* Rings that are read again and again while they are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

#include "drain.h"
#include "fake_memory.h"

enum { RINGS = 3, CAPACITY = 16, LARGE = 1 << 18, PLACES = 16, KEPT = 64 };
enum { RING_SIZE = BHP_RING_HEADER + CAPACITY * sizeof(struct bhp_record) };

static _Alignas(4096) unsigned char ring_memory[RINGS][RING_SIZE];
static _Alignas(4096) unsigned char large_memory[BHP_RING_HEADER + LARGE * sizeof(struct bhp_record)];
static struct bhp_field_info table[BHP_FIELD_INFO_MAX];
static struct bhp_root root;
static struct fake_memory fake;
static struct bht_roots roots;
static struct bht_refusal refusal;
static struct bht_drain *drain;

/* --- the sink ------------------------------------------------------------------- */

static struct place {
	struct bht_event e[KEPT]; /* the latest, by number modulo KEPT */
	char text[KEPT][BHP_TEXT_MAX + 1];
	unsigned n, at; /* got, and looked at */
} places[PLACES];
static unsigned n_places;

static void *make_place(void *arg)
{
	assert_ptr_equal(arg, places);
	assert_true(n_places < PLACES);
	return &places[n_places++];
}

static void put(void *arg, const struct bht_event *e)
{
	struct place *p = arg;
	const unsigned i = p->n++ % KEPT;

	p->e[i] = *e;
	strcpy(p->text[i], e->text ? e->text : "");
}

static const struct bht_drain_sink sink = { make_place, put, places };

/* --- the target ------------------------------------------------------------------ */

static struct bhp_ring *ring(unsigned i)
{
	return (void *)ring_memory[i];
}

static uint32_t add_1000(void *arg, uint32_t ns_tid)
{
	assert_ptr_equal(arg, &fake);
	return ns_tid + 1000;
}

static void make_ring(struct bhp_ring *r, uint64_t capacity, uint32_t tid, struct bhp_ring *next)
{
	*r = (struct bhp_ring){ .magic = BHP_RING_MAGIC,
				.abi = BHP_ABI,
				.record_size = sizeof(struct bhp_record),
				.capacity = capacity,
				.tid = tid,
				.next = next };
}

static int setup(void **state)
{
	(void)state;
	memset(ring_memory, 0, sizeof(ring_memory));
	memset(table, 0, sizeof(table));
	memset(places, 0, sizeof(places));
	n_places = 0;
	root = (struct bhp_root){ .magic = BHP_ROOT_MAGIC,
				  .abi = BHP_ABI,
				  .size = sizeof(root),
				  .record_size = sizeof(struct bhp_record),
				  .ring_header = BHP_RING_HEADER,
				  .mode = BHP_FLIGHT_MEMORY,
				  .fields = table,
				  .n_fields = bhp_schema(table),
				  .rings = ring(0),
				  .clock = { { 77, 1 }, { 77, 1 } } };
	for (unsigned i = 0; i < RINGS; i++)
		make_ring(ring(i), CAPACITY, 100 + i, NULL);
	fake_init(&fake);
	fake_show(&fake, &root, sizeof(root));
	fake_show(&fake, ring_memory, sizeof(ring_memory));
	fake_show(&fake, large_memory, sizeof(large_memory));
	fake_show(&fake, table, sizeof(table));
	bhp_tls_ring = ring(0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bhp_tls_ring = NULL;
	bht_drain_close(drain);
	drain = NULL;
	return 0;
}

static void start(void)
{
	roots = (struct bht_roots){ .addr = { (uintptr_t)&root }, .root = { root }, .n = 1 };
	drain = bht_drain_new(&fake.mem, &roots, add_1000, &fake, &sink, &refusal);
	if (!drain)
		fail_msg("%s", refusal.why);
}

static void one_round(void)
{
	if (bht_drain_round(drain, &refusal))
		fail_msg("%s", refusal.why);
}

static void write_consume(uint64_t time)
{
	bhp_flight_write(bhp_encode_consume(time, &(struct bhp_consume){ .ticket = time * 10 }), NULL);
}

static void write_many(uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++)
		write_consume(i);
}

static void write_named(uint64_t time, const char *name)
{
	bhp_flight_write(bhp_encode_loop_new(time, &(struct bhp_loop_new){ .name = name }), name);
}

static void write_thread(uint64_t time, uint32_t tid, uint32_t previous)
{
	bhp_flight_write(bhp_encode_thread(time, &(struct bhp_thread){ .tid = tid, .previous = previous }), NULL);
}

/* --- what was told ----------------------------------------------------------------- */

static const struct bht_event *next(unsigned place)
{
	struct place *p = &places[place];

	assert_true(p->at < p->n);
	assert_true(p->n - p->at <= KEPT);
	return &p->e[p->at++ % KEPT];
}

static void expect(unsigned place, unsigned id, uint64_t time, uint32_t tid)
{
	const struct bht_event *e = next(place);

	assert_int_equal(bht_event_id(e), id);
	assert_int_equal(bht_time(e), time);
	assert_int_equal(e->tid, tid);
}

static void expect_many(unsigned place, uint64_t from, uint64_t to, uint32_t tid)
{
	for (uint64_t i = from; i < to; i++)
		expect(place, BHP_ID_consume, i, tid);
}

static void expect_loss(unsigned place, uint32_t tid, enum bht_loss_why why, uint64_t count)
{
	const struct bht_event *e = next(place);

	assert_int_equal(bht_event_id(e), BHT_ID_LOSS);
	assert_int_equal(e->tid, tid);
	assert_int_equal(bht_loss_reason(e), why);
	assert_int_equal(bht_loss_count(e), count);
}

static void expect_no_more(unsigned place)
{
	assert_int_equal(places[place].at, places[place].n);
}

/* --- rounds ------------------------------------------------------------------------- */

static void test_only_what_is_new(void **state)
{
	(void)state;
	write_many(1, 5);
	start();
	one_round();
	expect_many(0, 1, 5, 1100);
	expect_no_more(0);
	uint64_t idle = bht_drain_stats(drain).bytes_read;
	one_round();
	expect_no_more(0);
	idle = bht_drain_stats(drain).bytes_read - idle;
	/* Root and header, no record. */
	assert_int_equal(idle, sizeof(struct bhp_root) + sizeof(struct bhp_ring));
	/* Round the end of the ring, and again. */
	for (uint64_t i = 5; i < 200; i += 15) {
		write_many(i, i + 15);
		one_round();
		expect_many(0, i, i + 15, 1100);
		expect_no_more(0);
	}
	assert_int_equal(n_places, 1);
	assert_int_equal(bht_drain_stats(drain).overwritten + bht_drain_stats(drain).before, 0);
}

static void test_texts(void **state)
{
	(void)state;
	start();
	for (uint64_t i = 0; i < 20; i++) {
		write_named(i, "a name of more than 24 characters");
		write_consume(i);
		one_round();
		expect(0, BHP_ID_loop_new, i, 1100);
		assert_string_equal(places[0].text[(places[0].at - 1) % KEPT], "a name of more than 24 characters");
		expect(0, BHP_ID_consume, i, 1100);
		expect_no_more(0);
	}
}

/* A ring that is copied in parts: an event may lie across the border of two. */
static void test_parts(void **state)
{
	struct bhp_ring *large = (void *)large_memory;
	const uint64_t part = 128 * 1024;

	(void)state;
	for (uint64_t before = part - 3; before <= part; before++) {
		make_ring(large, LARGE, 7, NULL);
		root.rings = large;
		bhp_tls_ring = large;
		write_thread(0, 7, 0); /* as each ring begins */
		write_many(1, before);
		write_named(part + 1, "a name of more than 24 characters");
		write_consume(part + 2);
		start();
		one_round();
		assert_int_equal(places[n_places - 1].n, before + 2);
		places[n_places - 1].at = (unsigned)before;
		expect(n_places - 1, BHP_ID_loop_new, part + 1, 1007);
		assert_string_equal(places[n_places - 1].text[before % KEPT], "a name of more than 24 characters");
		expect(n_places - 1, BHP_ID_consume, part + 2, 1007);
		bht_drain_close(drain);
		drain = NULL;
	}
}

static void test_pause(void **state)
{
	(void)state;
	start();
	one_round();
	for (unsigned i = 0; i < 10; i++)
		one_round();
	assert_int_equal(bht_drain_pause_ms(drain), BHT_DRAIN_MAX_MS);
	/* As much in an instant as the ring holds. */
	write_many(1, CAPACITY + 1);
	one_round();
	assert_int_equal(bht_drain_pause_ms(drain), BHT_DRAIN_MIN_MS);
	one_round();
	assert_int_equal(bht_drain_pause_ms(drain), 2 * BHT_DRAIN_MIN_MS);
}

/* --- loss ---------------------------------------------------------------------------- */

static void test_before_the_first_round(void **state)
{
	(void)state;
	write_many(1, CAPACITY + 6);
	start();
	one_round();
	expect_loss(0, 1100, BHT_LOSS_EARLIER, 5);
	expect_many(0, 6, CAPACITY + 6, 1100);
	assert_int_equal(bht_drain_stats(drain).before, 5);
	assert_int_equal(bht_drain_stats(drain).overwritten, 0);
}

static void test_wrapped_between_rounds(void **state)
{
	(void)state;
	write_consume(1);
	start();
	one_round();
	expect(0, BHP_ID_consume, 1, 1100);
	const uint64_t until = bht_drain_stats(drain).until;
	/* The event at the start is gone, its text is not. */
	write_consume(2);
	write_named(3, "a name of more than 24 characters");
	write_many(4, 4 + CAPACITY - 1);
	one_round();
	expect_loss(0, 1100, BHT_LOSS_OVERWRITTEN, 3);
	expect_many(0, 4, 4 + CAPACITY - 1, 1100);
	expect_no_more(0);
	assert_int_equal(bht_drain_stats(drain).overwritten, 3);
	assert_int_equal(bht_drain_stats(drain).capacity, CAPACITY);
	/* A gap is not within what is known to be whole. */
	assert_int_equal(bht_drain_stats(drain).until, until);
	one_round();
	assert_true(bht_drain_stats(drain).until > until);
}

/* Reads of a round: 1 root, 2 headers, 3 records, 4 reserved. */
static unsigned hook_read, hook_records, hook_first;

static void go_on(unsigned read_no)
{
	if (read_no == hook_read)
		write_many(1000, 1000 + hook_records);
}

static void write_during(unsigned read_no, unsigned n)
{
	hook_first = fake.reads;
	hook_read = hook_first + read_no;
	hook_records = n;
	fake.hook = go_on;
}

static void test_overwritten_while_copied(void **state)
{
	(void)state;
	write_consume(1);
	start();
	one_round();
	expect(0, BHP_ID_consume, 1, 1100);
	write_many(2, 2 + CAPACITY);
	write_during(3, 3);
	one_round();
	expect_loss(0, 1100, BHT_LOSS_OVERWRITTEN, 3);
	expect_many(0, 5, 2 + CAPACITY, 1100);
	expect_no_more(0);
	one_round();
	expect_many(0, 1000, 1003, 1100);
}

/* Nothing of the copy is left; what comes next tells of the loss. */
static void test_overtaken(void **state)
{
	(void)state;
	write_consume(1);
	start();
	one_round();
	expect(0, BHP_ID_consume, 1, 1100);
	const uint64_t until = bht_drain_stats(drain).until;
	write_many(2, 6);
	write_during(3, CAPACITY + 4);
	one_round();
	expect_no_more(0);
	one_round();
	expect_loss(0, 1100, BHT_LOSS_OVERWRITTEN, 8);
	expect_many(0, 1004, 1004 + CAPACITY, 1100);
	assert_int_equal(bht_drain_stats(drain).until, until);
}

static void test_loss_at_the_end(void **state)
{
	(void)state;
	write_consume(1);
	start();
	one_round();
	expect(0, BHP_ID_consume, 1, 1100);
	const uint64_t until = bht_drain_stats(drain).until;
	write_many(2, 6);
	write_during(3, CAPACITY + 4);
	one_round();
	assert_int_equal(bht_drain_stats(drain).until, until);
	bht_drain_end(drain);
	assert_true(bht_time(&places[0].e[1]) > until);
	expect_loss(0, 1100, BHT_LOSS_OVERWRITTEN, 4);
	expect_no_more(0);
	bht_drain_end(drain);
	expect_no_more(0);
}

static void test_dropped(void **state)
{
	(void)state;
	write_consume(1);
	root.dropped = 3;
	start();
	one_round();
	root.dropped = 5;
	one_round();
	one_round();
	assert_int_equal(n_places, 2);
	expect_loss(0, 0, BHT_LOSS_DROPPED, 3);
	expect_loss(0, 0, BHT_LOSS_DROPPED, 2);
	expect_no_more(0);
	expect(1, BHP_ID_consume, 1, 1100);
}

/* --- threads --------------------------------------------------------------------------- */

static void test_new_ring(void **state)
{
	(void)state;
	write_consume(1);
	start();
	one_round();
	ring(1)->next = ring(0);
	root.rings = ring(1);
	bhp_tls_ring = ring(1);
	write_many(2, 2 + CAPACITY + 1);
	one_round();
	expect(0, BHP_ID_consume, 1, 1100);
	expect_no_more(0);
	/* Not before the recording, though before it was seen first. */
	expect_loss(1, 1101, BHT_LOSS_OVERWRITTEN, 1);
	expect_many(1, 3, 2 + CAPACITY + 1, 1101);
	assert_int_equal(bht_drain_stats(drain).rings, 2);
}

static void test_taken_over(void **state)
{
	(void)state;
	write_consume(1);
	start();
	one_round();
	write_thread(2, 7, 100);
	ring(0)->tid = 7;
	ring(0)->mark = 2;
	write_consume(3);
	one_round();
	write_consume(4);
	one_round();
	expect(0, BHP_ID_consume, 1, 1100);
	expect(0, BHP_ID_thread, 2, 1007);
	expect_many(0, 3, 5, 1007);
	expect_no_more(0);
}

/* What says who wrote is itself gone, or is still to come. */
static void test_writer_after_loss(void **state)
{
	(void)state;
	write_consume(1);
	start();
	one_round();
	expect(0, BHP_ID_consume, 1, 1100);
	write_thread(2, 7, 100);
	ring(0)->tid = 7;
	ring(0)->mark = 2;
	write_many(3, 3 + CAPACITY);
	one_round();
	expect_loss(0, 1007, BHT_LOSS_OVERWRITTEN, 1);
	expect_many(0, 3, 3 + CAPACITY, 1007);
	write_many(30, 30 + 6);
	write_thread(40, 9, 7);
	ring(0)->tid = 9;
	ring(0)->mark = CAPACITY + 2 + 6 + 1;
	write_many(41, 41 + CAPACITY - 2);
	one_round();
	expect_loss(0, 1007, BHT_LOSS_OVERWRITTEN, 5);
	expect(0, BHP_ID_consume, 35, 1007);
	expect(0, BHP_ID_thread, 40, 1009);
	expect_many(0, 41, 41 + CAPACITY - 2, 1009);
}

/* --- nonsense ----------------------------------------------------------------------------- */

static void test_counters_go_back(void **state)
{
	(void)state;
	write_many(1, 6);
	start();
	one_round();
	ring(0)->head = 3;
	one_round();
	one_round();
	assert_int_equal(places[0].n, 5);
	expect_loss(1, 0, BHT_LOSS_DAMAGED, 0);
	expect_no_more(1);
	assert_string_equal(bht_drain_stats(drain).damage, "a ring: its counters make no sense");
}

static void test_counters_far_ahead(void **state)
{
	(void)state;
	start();
	one_round();
	write_many(1, CAPACITY + 1);
	ring(0)->head = ring(0)->reserved = UINT64_MAX;
	one_round();
	expect_loss(0, 1100, BHT_LOSS_OVERWRITTEN, UINT64_MAX - CAPACITY);
	assert_in_range(places[0].n, 2, CAPACITY + 2);
	ring(0)->head = ring(0)->reserved = 0;
	one_round();
	assert_int_equal(n_places, 2);
	expect_loss(1, 0, BHT_LOSS_DAMAGED, 0);
}

static void test_broken_list(void **state)
{
	(void)state;
	write_consume(1);
	start();
	one_round();
	ring(1)->next = (void *)0x1000;
	root.rings = ring(1);
	bhp_tls_ring = ring(1);
	write_consume(2);
	one_round();
	write_consume(3);
	one_round();
	expect(0, BHP_ID_consume, 1, 1100);
	expect(1, BHP_ID_consume, 2, 1101);
	expect(1, BHP_ID_consume, 3, 1101);
	expect_loss(2, 0, BHT_LOSS_DAMAGED, 0);
	expect_no_more(2);
	assert_string_equal(bht_drain_stats(drain).damage, "ring: not mapped");
}

static void test_circle(void **state)
{
	(void)state;
	for (unsigned i = 0; i < RINGS; i++)
		ring(i)->next = ring((i + 1) % RINGS);
	write_consume(1);
	start();
	one_round();
	one_round();
	assert_int_equal(bht_drain_stats(drain).rings, RINGS);
	expect(0, BHP_ID_consume, 1, 1100);
	expect_no_more(0);
}

static void test_another_program(void **state)
{
	(void)state;
	write_consume(1);
	start();
	one_round();
	root.clock[0].ticks++;
	assert_int_equal(bht_drain_round(drain, &refusal), -ESTALE);
	root.clock[0].ticks--;
	root.magic[0] = 'x';
	assert_int_equal(bht_drain_round(drain, &refusal), -EBADMSG);
}

static void expect_refused(uint32_t mode, int error)
{
	root.mode = mode;
	roots = (struct bht_roots){ .addr = { (uintptr_t)&root }, .root = { root }, .n = 1 };
	assert_null(bht_drain_new(&fake.mem, &roots, add_1000, &fake, &sink, &refusal));
	assert_int_equal(errno, error);
}

static void test_refused(void **state)
{
	(void)state;
	expect_refused(BHP_FLIGHT_OFF, ENODATA);
	expect_refused(BHP_FLIGHT_UNSET, EAGAIN);
	root.n_fields = UINT32_MAX;
	expect_refused(BHP_FLIGHT_MEMORY, EBADMSG);
	assert_null(bht_drain_open(0, &sink, &refusal));
	assert_int_equal(errno, ESRCH);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_only_what_is_new),
		TEST(test_texts),
		TEST(test_parts),
		TEST(test_pause),
		TEST(test_before_the_first_round),
		TEST(test_wrapped_between_rounds),
		TEST(test_overwritten_while_copied),
		TEST(test_overtaken),
		TEST(test_loss_at_the_end),
		TEST(test_dropped),
		TEST(test_new_ring),
		TEST(test_taken_over),
		TEST(test_writer_after_loss),
		TEST(test_counters_go_back),
		TEST(test_counters_far_ahead),
		TEST(test_broken_list),
		TEST(test_circle),
		TEST(test_another_program),
		TEST(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
