/* SPDX-License-Identifier: MIT */
/* Reading rings that the real recorder wrote, and such that it never would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "fake_memory.h"
#include "flight.h"
#include "sources/registry.h"

enum { RINGS = 3, CAPACITY = 16, NOW = 1000 };

enum { RING_SIZE = BHP_RING_HEADER + CAPACITY * sizeof(struct bhp_record) };

static _Alignas(4096) unsigned char ring_memory[RINGS][RING_SIZE];

static struct bhp_field_info table[BHP_FIELD_INFO_MAX];
static struct bhp_root root;
static struct fake_memory fake;
static struct bht_refusal refusal;
static struct bht_rings *rings;
static struct bht_source **sources;
static unsigned n_sources;

static struct bhp_ring *ring(unsigned i)
{
	return (void *)ring_memory[i];
}

static int setup(void **state)
{
	(void)state;
	memset(ring_memory, 0, sizeof(ring_memory));
	memset(table, 0, sizeof(table));
	memset(&refusal, 0, sizeof(refusal));
	root = (struct bhp_root){ .magic = BHP_ROOT_MAGIC,
				  .fields = table,
				  .n_fields = bhp_schema(table),
				  .rings = ring(0),
				  .mode = BHP_FLIGHT_MEMORY };
	for (uint32_t i = 0; i < RINGS; i++) {
		*ring(i) = (struct bhp_ring){ .magic = BHP_RING_MAGIC,
					      .abi = BHP_ABI,
					      .record_size = sizeof(struct bhp_record),
					      .capacity = CAPACITY,
					      .tid = 100 + i };
	}
	fake_init(&fake);
	fake_show(&fake, ring_memory, sizeof(ring_memory));
	fake_show(&fake, table, sizeof(table));
	bhp_tls_ring = ring(0);
	return 0;
}

static void release(void)
{
	for (unsigned i = 0; i < n_sources; i++)
		sources[i]->close(sources[i]);
	free(sources);
	bht_rings_free(rings);
	sources = NULL;
	n_sources = 0;
	rings = NULL;
}

static int teardown(void **state)
{
	(void)state;
	bhp_tls_ring = NULL;
	release();
	return 0;
}

/* Times are those of the records, so the tests begin at a small number. */
static void write_consume(uint64_t time)
{
	bhp_flight_write(bhp_encode_consume(time, &(struct bhp_consume){ .ticket = time * 10 }), NULL);
}

static void write_named(uint64_t time, const char *name)
{
	bhp_flight_write(bhp_encode_loop_new(time, &(struct bhp_loop_new){ .name = name }), name);
}

static void write_thread(uint64_t time, uint32_t tid, uint32_t previous, const char *name)
{
	bhp_flight_write(bhp_encode_thread(time, &(struct bhp_thread){ .tid = tid, .previous = previous }), name);
}

static uint32_t add_1000(void *arg, uint32_t ns_tid)
{
	assert_ptr_equal(arg, &fake);
	return ns_tid + 1000;
}

static uint64_t ticks_now(void)
{
	return bhp_clock();
}

static void copy(void)
{
	rings = bht_rings_copy(&fake.mem, &root, ticks_now, &refusal);
	assert_non_null(rings);
	assert_int_equal(bht_rings_sources(rings, add_1000, &fake, &sources, &n_sources), 0);
}

static struct bht_event next(unsigned source)
{
	struct bht_event e;

	assert_in_range(source, 0, n_sources - 1);
	assert_int_equal(sources[source]->next(sources[source], &e, 1), 1);
	return e;
}

static void expect(unsigned source, unsigned id, uint64_t time, uint32_t tid)
{
	struct bht_event e = next(source);

	assert_int_equal(bht_event_id(&e), id);
	assert_int_equal(bhp_record_time(&e.r), time);
	assert_int_equal(e.tid, tid);
}

static void expect_loss(unsigned source, uint32_t tid, enum bht_loss_why why, uint64_t count)
{
	struct bht_event e = next(source);

	assert_int_equal(bht_event_id(&e), BHT_ID_LOSS);
	assert_int_equal(e.tid, tid);
	assert_int_equal(bht_loss_reason(&e), why);
	assert_int_equal(bht_loss_count(&e), count);
}

static void expect_end(unsigned source)
{
	struct bht_event e;

	assert_int_equal(sources[source]->next(sources[source], &e, 1), 0);
}

static void test_events_and_texts(void **state)
{
	(void)state;
	char long_name[100];

	memset(long_name, 'n', sizeof(long_name));
	long_name[99] = '\0';
	write_consume(1);
	write_named(2, "short");
	write_named(3, long_name);
	write_named(4, "");
	write_named(5, "exactly twenty-four char");
	copy();
	struct bht_event e = next(0);
	assert_int_equal(bhp_decode_consume(&e.r).ticket, 10);
	assert_int_equal(e.tid, 1100);
	assert_null(e.text);
	e = next(0);
	assert_string_equal(e.text, "short");
	e = next(0);
	assert_int_equal(strlen(e.text), BHP_TEXT_MAX);
	e = next(0);
	assert_null(e.text);
	e = next(0);
	assert_string_equal(e.text, "exactly twenty-four char");
	expect_end(0);
}

static void test_wrapped(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < CAPACITY + 5; i++)
		write_consume(i + 1);
	copy();
	struct bht_event e = next(0);
	assert_int_equal(bht_loss_reason(&e), BHT_LOSS_OVERWRITTEN);
	assert_int_equal(bht_loss_count(&e), 5);
	assert_int_equal(bhp_record_time(&e.r), 6); /* the first that is left */
	for (uint64_t i = 5; i < CAPACITY + 5; i++)
		expect(0, BHP_ID_consume, i + 1, 1100);
	expect_end(0);
}

/* The event at the start of the ring is gone, its text is not. */
static void test_cut_text(void **state)
{
	(void)state;
	write_named(1, "a name of more than 24 characters");
	for (uint64_t i = 0; i < CAPACITY - 2; i++)
		write_consume(i + 2);
	copy();
	expect_loss(0, 1100, BHT_LOSS_OVERWRITTEN, 1);
	expect(0, BHP_ID_consume, 2, 1100);
}

static void test_threads(void **state)
{
	(void)state;
	write_consume(1);
	write_thread(2, 7, 5, "seven");
	write_consume(3);
	write_thread(4, 9, 7, "nine");
	write_consume(5);
	copy();
	expect(0, BHP_ID_consume, 1, 1005);
	struct bht_event e = next(0);
	assert_string_equal(e.text, "seven");
	assert_int_equal(e.tid, 1007);
	expect(0, BHP_ID_consume, 3, 1007);
	expect(0, BHP_ID_thread, 4, 1009);
	expect(0, BHP_ID_consume, 5, 1009);
	expect_end(0);
}

/* --- a writer that goes on ------------------------------------------------------ */

static unsigned step;  /* records that the writer adds between two reads */
static unsigned until; /* the last read that it disturbs */

static void go_on(unsigned read_no)
{
	/* 1 field table, 2 header, 3 records, 4 header, 5 records, 6 header ... */
	for (unsigned i = 0; read_no >= 3 && read_no <= until && i < step; i++)
		write_consume(NOW + read_no);
}

static void test_overwritten_while_copied(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < CAPACITY; i++)
		write_consume(i + 1);
	fake.hook = go_on;
	step = 3;
	until = 3;
	copy();
	expect_loss(0, 1100, BHT_LOSS_UNSTABLE, 3);
	for (uint64_t i = 3; i < CAPACITY; i++)
		expect(0, BHP_ID_consume, i + 1, 1100);
	expect_end(0);
}

static void test_second_try(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < CAPACITY; i++)
		write_consume(i + 1);
	fake.hook = go_on;
	step = CAPACITY - 1;
	until = 4;
	copy();
	expect_loss(0, 1100, BHT_LOSS_OVERWRITTEN, 2 * CAPACITY - 2);
	for (unsigned i = 0; i < CAPACITY; i++)
		expect(0, BHP_ID_consume, i < 1 ? NOW + 3 : NOW + 4, 1100);
	expect_end(0);
}

static void test_writer_too_fast(void **state)
{
	(void)state;
	write_consume(1);
	for (uint64_t i = 0; i < CAPACITY; i++)
		write_consume(i + 1);
	fake.hook = go_on;
	step = CAPACITY;
	until = 100;
	copy();
	struct bht_event e = next(0);
	assert_int_equal(bht_event_id(&e), BHT_ID_LOSS);
	assert_true(bhp_record_time(&e.r) > NOW + 100); /* now, not the time of any record */
	expect_end(0);
	assert_in_range(fake.reads, 5, 20);
}

/* --- nonsense ----------------------------------------------------------------------- */

static void test_nonsense_records(void **state)
{
	(void)state;
	const struct bhp_record bad[] = {
		{ { 3, 0, 0, 0 } },
		{ { 3, 200, 0, 0 } },
		{ { 3, BHP_ID_TEXT | 24 << 8, 0, 0 } },
		{ { 3, BHT_ID_LOSS, 0, 0 } },
		{ { UINT64_MAX, BHP_ID_consume, 0, 0 } },
	};
	const unsigned n = sizeof(bad) / sizeof(bad[0]);

	write_consume(1);
	for (unsigned i = 0; i < n; i++)
		bhp_flight_write(bad[i], NULL);
	write_consume(9);
	bhp_flight_write(bad[0], NULL);
	/* Text that could be that of an event before it, but for its length. */
	bhp_ring_slot(ring(0), 3)->word[1] = BHP_ID_TEXT | 25 << 8;
	copy();
	expect(0, BHP_ID_consume, 1, 1100);
	struct bht_event e = next(0);
	assert_int_equal(bht_loss_reason(&e), BHT_LOSS_DAMAGED);
	assert_int_equal(bht_loss_count(&e), n);
	assert_int_equal(bhp_record_time(&e.r), 9);
	expect(0, BHP_ID_consume, 9, 1100);
	expect_loss(0, 1100, BHT_LOSS_DAMAGED, 1);
	expect_end(0);
}

static void test_times_out_of_order(void **state)
{
	(void)state;
	write_consume(9);
	write_consume(4);
	write_consume(0);
	copy();
	expect(0, BHP_ID_consume, 9, 1100);
	expect(0, BHP_ID_consume, 4, 1100);
	expect(0, BHP_ID_consume, 0, 1100);
	expect_end(0);
}

static void expect_damaged_ring(void)
{
	copy();
	expect_loss(0, 1100, BHT_LOSS_DAMAGED, 0);
	expect_end(0);
	release();
}

static void head_goes_back(unsigned read_no)
{
	if (read_no == 4)
		ring(0)->head = 1;
}

static void test_impossible_counters(void **state)
{
	(void)state;
	ring(0)->head = 5;
	ring(0)->reserved = 2;
	expect_damaged_ring();
	ring(0)->head = UINT64_MAX;
	expect_damaged_ring();
	ring(0)->head = ring(0)->reserved = 5;
	fake.reads = 0;
	fake.hook = head_goes_back;
	expect_damaged_ring();
	fake.hook = NULL;
	ring(0)->head = 5;
	ring(0)->reserved = UINT64_MAX;
	copy();
	expect_loss(0, 1100, BHT_LOSS_UNSTABLE, 5);
	expect_end(0);
	release();
	ring(0)->head = ring(0)->reserved = UINT64_MAX;
	copy();
	expect_loss(0, 1100, BHT_LOSS_DAMAGED, UINT64_MAX);
	expect_end(0);
}

/* The second ring cannot be read: the first is still there, and a loss for all
 * threads says that more is missing. */
static void expect_broken_list(const char *why)
{
	refusal.why[0] = '\0';
	copy();
	assert_int_equal(n_sources, 2);
	expect(0, BHP_ID_consume, 1, 1100);
	expect_end(0);
	expect_loss(1, 0, BHT_LOSS_DAMAGED, 0);
	expect_end(1);
	if (!strstr(refusal.why, why))
		fail_msg("\"%s\" instead of \"%s\"", refusal.why, why);
	release();
}

static void test_broken_list(void **state)
{
	(void)state;
	write_consume(1);
	ring(0)->next = (void *)0x1000;
	expect_broken_list("not mapped");
	ring(0)->next = ring(1);
	ring(1)->capacity = 24;
	expect_broken_list("capacity 24");
	ring(1)->capacity = 0;
	expect_broken_list("capacity 0");
	ring(1)->capacity = UINT64_C(1) << 63;
	expect_broken_list("capacity 9223372036854775808");
	ring(1)->capacity = 1 << 16;
	expect_broken_list("not all mapped");
	ring(1)->capacity = CAPACITY;
	ring(1)->record_size = 64;
	expect_broken_list("records of 64 bytes");
	ring(1)->record_size = 32;
	ring(1)->abi = 9;
	expect_broken_list("ABI 9");
	ring(1)->magic[0] = 'x';
	expect_broken_list("does not begin with");
}

static void test_circle(void **state)
{
	(void)state;
	for (unsigned i = 0; i < RINGS; i++)
		ring(i)->next = ring((i + 1) % RINGS);
	copy();
	assert_string_equal(refusal.why, "list of rings: runs in a circle");
	assert_in_range(n_sources, RINGS + 1, 3 * RINGS + 1);
	expect_loss(n_sources - 1, 0, BHT_LOSS_DAMAGED, 0);
}

static void test_dropped_and_off(void **state)
{
	(void)state;
	root.dropped = 12;
	copy();
	assert_int_equal(n_sources, 2);
	expect_loss(1, 0, BHT_LOSS_DROPPED, 12);
	release();
	root = (struct bhp_root){ .mode = BHP_FLIGHT_OFF };
	copy();
	assert_int_equal(n_sources, 1);
	expect_loss(0, 0, BHT_LOSS_DROPPED, 0);
}

static void test_target_gone(void **state)
{
	(void)state;
	fake.error = -ESRCH;
	assert_null(bht_rings_copy(&fake.mem, &root, ticks_now, &refusal));
	assert_int_equal(errno, ESRCH);
}

/* --- the field table ------------------------------------------------------------------- */

static void test_bad_table(void **state)
{
	(void)state;
	write_consume(1);
	root.n_fields = UINT32_MAX;
	copy();
	assert_int_equal(n_sources, 1);
	expect_loss(0, 0, BHT_LOSS_DAMAGED, 0);
	release();
	root.n_fields = 3;
	root.fields = (void *)0x10;
	copy();
	expect_loss(0, 0, BHT_LOSS_DAMAGED, 0);
	release();
	root.n_fields = 0; /* no event has a description */
	copy();
	expect_loss(0, 1100, BHT_LOSS_DAMAGED, 1);
	expect_end(0);
}

/* An event that only the recorder knows goes by with its text; the thread mark
 * is found under whatever number. */
static void test_newer_recorder(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < root.n_fields; i++)
		if (table[i].event == BHP_ID_thread)
			table[i].event = 201;
	memcpy(&table[0], &(struct bhp_field_info){ 200, BHP_SLOT_ARG, BHP_FIELD_u64, "brand_new", "what" },
	       sizeof(table[0]));
	write_consume(1);
	bhp_flight_write((struct bhp_record){ { 2, 200, 0, 0 } }, "its text");
	bhp_flight_write((struct bhp_record){ { 3, 201, UINT64_C(5) << 32 | 7, 0 } }, "seven");
	copy();
	expect(0, BHP_ID_consume, 1, 1005);
	expect(0, BHP_ID_thread, 3, 1007);
	expect_end(0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_events_and_texts),
		TEST(test_wrapped),
		TEST(test_cut_text),
		TEST(test_threads),
		TEST(test_overwritten_while_copied),
		TEST(test_second_try),
		TEST(test_writer_too_fast),
		TEST(test_nonsense_records),
		TEST(test_times_out_of_order),
		TEST(test_impossible_counters),
		TEST(test_broken_list),
		TEST(test_circle),
		TEST(test_dropped_and_off),
		TEST(test_target_gone),
		TEST(test_bad_table),
		TEST(test_newer_recorder),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
