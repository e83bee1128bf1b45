/* SPDX-License-Identifier: MIT */
/* The field table, as an observer finds it, against the list it is made from. */
#include "support.h"

static struct bhp_field_info table[BHP_FIELD_INFO_MAX];
static uint32_t n_table;

static int setup(void **state)
{
	(void)state;
	n_table = bhp_schema(table);
	return 0;
}

static void expect(uint32_t *i, uint8_t event, const char *event_name, enum bhp_slot slot, enum bhp_field_kind kind,
		   const char *name)
{
	assert_true(*i < n_table);
	const struct bhp_field_info *f = &table[(*i)++];

	assert_int_equal(f->event, event);
	assert_int_equal(f->slot, slot);
	assert_int_equal(f->kind, kind);
	assert_string_equal(f->event_name, event_name);
	assert_string_equal(f->name, name);
}

static void the_table_is_the_list(void **state)
{
	(void)state;
	uint32_t i = 0;

#define BHP_F(slot, kind, name, doc) expect(&i, event, event_name, BHP_SLOT_##slot, BHP_FIELD_##kind, #name);
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	{                                                                                                              \
		const uint8_t event = (number);                                                                        \
		const char *event_name = #name;                                                                        \
		fields                                                                                                 \
	}
#define BHP_MARK BHP_EVENT
#include "events.def.h"
#undef BHP_F
	assert_int_equal(i, n_table);
}

static void numbers_and_names_are_unique(void **state)
{
	(void)state;
	static const struct {
		int number;
		const char *name;
	} events[] = {
#define BHP_EVENT(number, name, fields, doc) { (number), #name },
#define BHP_MARK                             BHP_EVENT
#include "events.def.h"
	};
	const size_t n = sizeof(events) / sizeof(events[0]);

	for (size_t a = 0; a < n; a++) {
		assert_in_range(events[a].number, 1, BHP_ID_TEXT - 1);
		for (size_t b = 0; b < a; b++) {
			assert_int_not_equal(events[a].number, events[b].number);
			assert_string_not_equal(events[a].name, events[b].name);
		}
	}
}

static bool holds(const struct bhp_field_info *f)
{
	if (f->kind == BHP_FIELD_str || f->slot == BHP_SLOT_TEXT)
		return f->kind == BHP_FIELD_str && f->slot == BHP_SLOT_TEXT;
	switch (f->slot) {
	case BHP_SLOT_LOOP:
	case BHP_SLOT_BH:
		return f->kind == BHP_FIELD_ptr;
	case BHP_SLOT_T0:
	case BHP_SLOT_T1:
		return f->kind == BHP_FIELD_u8;
	case BHP_SLOT_HALF:
		return f->kind == BHP_FIELD_u8 || f->kind == BHP_FIELD_u16;
	case BHP_SLOT_LO:
	case BHP_SLOT_HI:
		return f->kind >= BHP_FIELD_u8 && f->kind <= BHP_FIELD_i32;
	default:
		return true;
	}
}

/* A small value in T0 and T1 (four bits) is a promise of the event's doc; any
 * other slot is as wide as what it holds. */
static void every_kind_fits_its_slot(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < n_table; i++)
		if (!holds(&table[i]))
			fail_msg("%s.%s does not fit its slot", table[i].event_name, table[i].name);
}

static void the_root_leads_to_the_table(void **state)
{
	(void)state;
	assert_string_equal(bhp_flight_root.magic, BHP_ROOT_MAGIC);
	assert_int_equal(bhp_flight_root.abi, BHP_ABI);
	assert_int_equal(bhp_flight_root.size, sizeof(struct bhp_root));
	assert_int_equal(bhp_flight_root.record_size, sizeof(struct bhp_record));
	assert_int_equal(bhp_flight_root.ring_header, BHP_RING_HEADER);
	assert_int_equal(bhp_flight_root.pid, (uint32_t)getpid());
	assert_int_equal(bhp_flight_root.n_fields, n_table);
	assert_memory_equal(bhp_flight_root.fields, table, n_table * sizeof(table[0]));
}

static void every_ring_carries_the_table(void **state)
{
	(void)state;
	bhp_emit(loop_free, .loop = NULL);
	assert_string_equal(bhp_tls_ring->magic, BHP_RING_MAGIC);
	assert_int_equal(bhp_tls_ring->record_size, sizeof(struct bhp_record));
	assert_int_equal(bhp_tls_ring->n_fields, n_table);
	assert_memory_equal(bhp_tls_ring->fields, table, n_table * sizeof(table[0]));
}

/* The layouts are an ABI: these offsets are compiled into observers. */
static void layouts_have_not_moved(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct bhp_field_info), 32);
	assert_int_equal(offsetof(struct bhp_loop_object, owner_tid), 64);
	assert_int_equal(offsetof(struct bhp_loop_object, notify_me), 128);
	assert_int_equal(offsetof(struct bhp_loop_object, incoming), 136);
	assert_int_equal(offsetof(struct bhp_bh_object, next), 32);
	assert_int_equal(offsetof(struct bhp_bh_object, name), 64);
	assert_int_equal(sizeof(struct bhp_bh_object), 96);
	assert_int_equal(offsetof(struct bhp_chunk, slot), 64);
	assert_int_equal(offsetof(struct bhp_pool, chunks), 16);
	assert_int_equal(offsetof(struct bhp_root, rings), 48);
	assert_int_equal(offsetof(struct bhp_ring, clock), 40);
	assert_int_equal(offsetof(struct bhp_ring, reserved), 128);
	assert_int_equal(offsetof(struct bhp_ring, fields), 192);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_is_the_list),        cmocka_unit_test(numbers_and_names_are_unique),
		cmocka_unit_test(every_kind_fits_its_slot),     cmocka_unit_test(the_root_leads_to_the_table),
		cmocka_unit_test(every_ring_carries_the_table), cmocka_unit_test(layouts_have_not_moved),
	};

	return cmocka_run_group_tests_name("schema", tests, setup, NULL);
}
