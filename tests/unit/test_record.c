/* SPDX-License-Identifier: MIT */
/* Every event of events.def.h through a record and back, with extreme values. */
#include "support.h"

/* The extremes of each kind: all bits, and alternating ones. Slots may be
 * narrower than the kind; what must survive is what the slot can hold. */
static uint64_t kind_mask(enum bhp_field_kind kind)
{
	switch (kind) {
	case BHP_FIELD_u8:
		return UINT8_MAX;
	case BHP_FIELD_u16:
		return UINT16_MAX;
	case BHP_FIELD_u32:
	case BHP_FIELD_i32:
		return UINT32_MAX;
	case BHP_FIELD_str:
		return 0;
	default:
		return UINT64_MAX;
	}
}

static uint64_t slot_mask(enum bhp_slot slot)
{
#define S(name, w, shift, width)                                                                                       \
	if (slot == BHP_SLOT_##name)                                                                                   \
		return BHP_BITS(width);
	BHP_SLOT_LIST(S)
#undef S
	return 0;
}

static uint64_t fit(enum bhp_slot slot, enum bhp_field_kind kind, uint64_t pattern)
{
	return pattern & slot_mask(slot) & kind_mask(kind);
}

static const uint64_t patterns[] = { 0, 1, UINT64_MAX, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 1ull << 63, 1ull << 31 };
enum { N_PATTERNS = sizeof(patterns) / sizeof(patterns[0]) };

/* round_trip_schedule(): each field gets another pattern, so that fields that
 * overlap would show. */
#define BHP_F(slot, kind, name, doc)                                                                                   \
	in.name = BHP_FROM_##kind(fit(BHP_SLOT_##slot, BHP_FIELD_##kind, patterns[(start + n++) % N_PATTERNS]));
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static struct bhp_##name filled_##name(int start)                                                              \
	{                                                                                                              \
		struct bhp_##name in;                                                                                  \
		int n = 0;                                                                                             \
		memset(&in, 0, sizeof(in));                                                                            \
		fields;                                                                                                \
		return in;                                                                                             \
	}
#define BHP_MARK BHP_EVENT
#include "events.def.h"
#undef BHP_F

#define BHP_F(slot, kind, name, doc)                                                                                   \
	assert_true(BHP_SLOT_##slot == BHP_SLOT_TEXT || BHP_TO_##kind(in.name) == BHP_TO_##kind(out.name));
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static void round_trip_##name(void **state)                                                                    \
	{                                                                                                              \
		(void)state;                                                                                           \
		for (int start = 0; start < N_PATTERNS; start++) {                                                     \
			struct bhp_##name in = filled_##name(start);                                                   \
			struct bhp_record r = bhp_encode_##name(patterns[start], &in);                                 \
			struct bhp_##name out = bhp_decode_##name(&r);                                                 \
			assert_int_equal(bhp_record_id(&r), BHP_ID_##name);                                            \
			assert_int_equal(bhp_record_time(&r), patterns[start]);                                        \
			fields                                                                                         \
		}                                                                                                      \
	}
#define BHP_MARK BHP_EVENT
#include "events.def.h"
#undef BHP_F

/* A value that is too wide is cut and does not reach the neighbours. */
static void too_wide_a_value_stays_in_its_slot(void **state)
{
	(void)state;
	struct bhp_schedule in = { .loop = (void *)UINTPTR_MAX, .seen = UINT8_MAX };
	struct bhp_record r = bhp_encode_schedule(0, &in);
	struct bhp_schedule out = bhp_decode_schedule(&r);

	assert_int_equal(bhp_record_id(&r), BHP_ID_schedule);
	assert_int_equal((uintptr_t)out.loop, (UINT64_C(1) << 48) - 1);
	assert_int_equal(out.seen, 15);
	assert_int_equal(out.kind, 0);
	assert_null(out.bh);
}

/* --- text -------------------------------------------------------------------------- */

/* Emits a bottom half's name and reads it back out of this thread's ring. */
static size_t through_the_ring(const char *name, char text[BHP_GROUP_MAX * BHP_TEXT_PER_RECORD])
{
	bhp_emit(bh_new, .name = name);
	struct bhp_ring *ring = bhp_tls_ring;
	uint64_t head = atomic_load(&ring->head), i = head;
	size_t len = 0;

	while ((int)bhp_record_id(bhp_ring_slot(ring, i - 1)) == BHP_ID_TEXT)
		i--;
	assert_int_equal(bhp_record_id(bhp_ring_slot(ring, i - 1)), BHP_ID_bh_new);
	for (; i < head; i++) {
		const struct bhp_record *r = bhp_ring_slot(ring, i);
		size_t part = r->word[1] >> 8;
		assert_in_range(part, 1, BHP_TEXT_PER_RECORD);
		memcpy(text + len, &r->word[0], part < 8 ? part : 8);
		if (part > 8)
			memcpy(text + len + 8, &r->word[2], part - 8);
		len += part;
	}
	return len;
}

static void text_of_every_length_follows_its_event(void **state)
{
	(void)state;
	char name[64], text[BHP_GROUP_MAX * BHP_TEXT_PER_RECORD];

	for (size_t len = 0; len < sizeof(name); len++) {
		for (size_t i = 0; i < len; i++)
			name[i] = (char)('!' + (i * 7 + len) % 90);
		name[len] = '\0';
		size_t kept = len < BHP_TEXT_MAX ? len : BHP_TEXT_MAX;
		assert_int_equal(through_the_ring(name, text), kept);
		assert_memory_equal(text, name, kept);
	}
	assert_int_equal(through_the_ring(NULL, text), 0);
}

/* A name that is not NUL-terminated within what is recorded is not read on. */
static void text_is_read_no_further_than_it_is_kept(void **state)
{
	(void)state;
	char *name = malloc(BHP_TEXT_MAX), text[BHP_GROUP_MAX * BHP_TEXT_PER_RECORD];

	memset(name, 'x', BHP_TEXT_MAX);
	assert_int_equal(through_the_ring(name, text), BHP_TEXT_MAX);
	free(name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define BHP_EVENT(number, name, fields, doc) cmocka_unit_test(round_trip_##name),
#define BHP_MARK                             BHP_EVENT
#include "events.def.h"
		cmocka_unit_test(too_wide_a_value_stays_in_its_slot),
		cmocka_unit_test(text_of_every_length_follows_its_event),
		cmocka_unit_test(text_is_read_no_further_than_it_is_kept),
	};

	return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
