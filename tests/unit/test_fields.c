/* SPDX-License-Identifier: MIT */
/* Records whose field table is not ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "sources/fields.h"

enum { OFFSET = 100 };

static struct bhp_field_info table[BHP_FIELD_INFO_MAX + 1];
static uint32_t n_rows;
static struct bht_fields fields;

static int setup(void **state)
{
	(void)state;
	memset(table, 0, sizeof(table));
	n_rows = bhp_schema(table);
	return 0;
}

static struct bhp_field_info *row(const char *event, const char *field)
{
	for (uint32_t i = 0; i < n_rows; i++)
		if (!strcmp(table[i].event_name, event) && !strcmp(table[i].name, field))
			return &table[i];
	fail_msg("no field %s.%s", event, field);
	return &table[0];
}

static enum bht_fields_verdict apply(struct bhp_record *r)
{
	bht_fields_init(&fields, table, n_rows);
	return bht_fields_apply(&fields, r);
}

static struct bhp_record a_schedule(void)
{
	return bhp_encode_schedule(5, &(struct bhp_schedule){ .loop = (void *)0x7ffffffff000,
							      .bh = (void *)0x123456789abc,
							      .seen = 1,
							      .kind = 2,
							      .took = 77,
							      .ticket = 88 });
}

static void test_our_own(void **state)
{
	(void)state;
	const struct bhp_record before = a_schedule();
	struct bhp_record r = before;

	assert_int_equal(apply(&r), BHT_RECORD_OK);
	assert_true(fields.same);
	assert_memory_equal(&r, &before, sizeof(r));
}

static void test_other_numbers(void **state)
{
	(void)state;
	const struct bhp_record before = a_schedule();
	struct bhp_record r = before;

	for (uint32_t i = 0; i < n_rows; i++)
		table[i].event = (uint8_t)(table[i].event + OFFSET);
	assert_int_equal(apply(&r), BHT_RECORD_NONSENSE);
	r.word[1] += OFFSET;
	assert_int_equal(apply(&r), BHT_RECORD_OK);
	assert_false(fields.same);
	assert_memory_equal(&r, &before, sizeof(r));
}

static void test_other_slots(void **state)
{
	(void)state;
	struct bhp_record r = { { 5, BHP_ID_schedule, 0, 0 } };

	row("schedule", "seen")->slot = BHP_SLOT_T1;
	row("schedule", "kind")->slot = BHP_SLOT_T0;
	row("schedule", "loop")->slot = BHP_SLOT_BH;
	row("schedule", "bh")->slot = BHP_SLOT_LOOP;
	bhp_put_T1(&r, 1);
	bhp_put_T0(&r, 2);
	bhp_put_BH(&r, 0x7ffffffff000);
	bhp_put_LOOP(&r, 0x123456789abc);
	bhp_put_HALF(&r, 77);
	bhp_put_ARG(&r, 88);
	assert_int_equal(apply(&r), BHT_RECORD_OK);
	const struct bhp_record expected = a_schedule();
	assert_memory_equal(&r, &expected, sizeof(r));
}

/* A field of another name or kind is none of ours. */
static void test_other_fields(void **state)
{
	(void)state;
	struct bhp_record r = a_schedule();

	strcpy(row("schedule", "took")->name, "tuck");
	row("schedule", "ticket")->kind = BHP_FIELD_i64;
	assert_int_equal(apply(&r), BHT_RECORD_OK);
	const struct bhp_schedule s = bhp_decode_schedule(&r);
	assert_int_equal(s.took, 0);
	assert_int_equal(s.ticket, 0);
	assert_int_equal(s.seen, 1);
}

static void test_new_event(void **state)
{
	(void)state;
	struct bhp_record r = { { 5, 200, 0, 0 } };

	assert_int_equal(apply(&r), BHT_RECORD_NONSENSE);
	table[n_rows++] = (struct bhp_field_info){ 200, BHP_SLOT_ARG, BHP_FIELD_u64, "brand_new", "what" };
	assert_int_equal(apply(&r), BHT_RECORD_UNKNOWN);
	r = a_schedule();
	assert_int_equal(apply(&r), BHT_RECORD_OK);
}

/* Whatever the table says, only our own events come out. */
static void test_hostile(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 256; round++) {
		for (uint32_t i = 0; i < n_rows; i++) {
			table[i] = (struct bhp_field_info){ (uint8_t)(i * round), (uint8_t)(round + i), (uint8_t)i, "",
							    "" };
			memcpy(table[i].event_name, "schedule", 8);
			memset(table[i].event_name + 8, round % 3 ? 0 : 'x', sizeof(table[i].event_name) - 8);
		}
		bht_fields_init(&fields, table, n_rows);
		for (unsigned id = 0; id < 256; id++) {
			struct bhp_record r = { { 1, id, ~0u, ~0u } };
			if (bht_fields_apply(&fields, &r) == BHT_RECORD_OK)
				assert_int_equal(bhp_record_id(&r), BHP_ID_schedule);
		}
		assert_false(fields.event[0].described);
		assert_false(fields.event[BHP_ID_TEXT].described);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_our_own, setup),     cmocka_unit_test_setup(test_other_numbers, setup),
		cmocka_unit_test_setup(test_other_slots, setup), cmocka_unit_test_setup(test_other_fields, setup),
		cmocka_unit_test_setup(test_new_event, setup),   cmocka_unit_test_setup(test_hostile, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
