/* SPDX-License-Identifier: MIT */
/* --witness: what can be written, what it finds, what it says. */
#include "foreign_image.h"
#include "witness.h"

static struct own_images own;
static struct bht_claim w;
static struct bht_refusal refusal;

unsigned long witness_produced = 7, witness_consumed = 5;
int witness_negative = -1;
static volatile unsigned char witness_small = 200;
struct {
	int made;
	struct {
		short done;
	} in;
	char rest[24];
} witness_queue = { .made = 3, .in = { .done = -2 } };
double witness_ratio = 0.5;

static void refused(const char *text, const char *reason)
{
	assert_int_equal(bht_claim_parse(&w, text, &refusal), -EINVAL);
	if (!strstr(refusal.why, reason))
		fail_msg("%s: %s, not %s", text, refusal.why, reason);
}

static void test_parse(void **state)
{
	(void)state;
	assert_int_equal(bht_claim_parse(&w, " a.b!=0x10 ", &refusal), 0);
	assert_string_equal(w.text, " a.b!=0x10 ");
	assert_string_equal(w.left.text, "a.b");
	assert_false(w.left.constant);
	assert_int_equal(w.comparison, BHT_NE);
	assert_true(w.right.constant);
	assert_int_equal(w.right.value, 16);
	assert_int_equal(bht_claim_parse(&w, "0x55d0:i16 <= -9223372036854775808", &refusal), 0);
	assert_int_equal(w.left.addr, 0x55d0);
	assert_int_equal(w.left.size, 2);
	assert_true(w.left.is_signed);
	assert_int_equal(w.right.value, INT64_MIN);
	assert_int_equal(bht_claim_parse(&w, "18446744073709551615>=x$1", &refusal), 0);
	assert_int_equal(w.left.value, UINT64_MAX);
	assert_false(w.left.is_signed);
	assert_int_equal(w.comparison, BHT_GE);
}

static void test_refused(void **state)
{
	char text[300];

	(void)state;
	refused("", "column 1: an operand");
	refused("a", "column 2: a comparison");
	refused("a =", "column 3: a comparison");
	refused("a = b", "column 3: a comparison");
	refused("a !=", "column 5: an operand");
	refused("a != b c", "column 8: the end");
	refused("a < b < c", "column 7: the end");
	refused("1 < 2", "two numbers");
	refused("a < 12x", "column 7: not a part of a number");
	refused("a < 0x", "column 6: not a part of a number");
	refused("a < -", "column 5: a number");
	refused("a < 18446744073709551616", "column 5: a number beyond");
	refused("a < -9223372036854775809", "column 5: a number beyond");
	refused("0x10:u63 == 0", "column 6: a type");
	refused("0x10: == 0", "column 6: a type");
	refused("0x10:u640 == 0", "column 6: a type");
	refused("a+b == 0", "column 2: a character");
	refused("a\x1b == 0", "column 2: a character");
	refused(".a == 0", "column 1: a name");
	refused("a. == 0", "column 1: a name");
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	refused(text, "more than 255");
	text[200] = '\0';
	refused(text, "more than 95");
}

static int look_up(const char *text)
{
	assert_int_equal(bht_claim_parse(&w, text, &refusal), 0);
	return bht_claim_resolve(&w, &own.images, &refusal);
}

static void expect(bool wanted, const char *text)
{
	bool holds = !wanted;

	if (look_up(text) || bht_claim_read(&w, &own.process.mem, &holds, &refusal))
		fail_msg("%s: %s", text, refusal.why);
	assert_int_equal(holds, wanted);
}

static bool has_debug_information(void)
{
	uint64_t addr, size;
	int is_signed = -1;

	bht_image_variable(own_image(&own, &witness_negative), "witness_negative", &addr, &size, &is_signed);
	return is_signed >= 0;
}

static void test_variables(void **state)
{
	(void)state;
	expect(true, "witness_produced != witness_consumed");
	assert_int_equal(w.left.value, 7);
	assert_int_equal(w.right.value, 5);
	expect(false, "witness_produced == witness_consumed");
	expect(true, "witness_produced > witness_consumed");
	expect(false, "witness_produced <= witness_consumed");
	expect(true, "witness_produced >= 7");
	expect(false, "witness_produced < 7");
	witness_consumed = 7;
	expect(false, "witness_produced != witness_consumed");
	witness_consumed = 5;
}

static void test_addresses(void **state)
{
	char text[128];

	(void)state;
	snprintf(text, sizeof(text), "%#lx:i32 < 0", (unsigned long)&witness_negative);
	expect(true, text);
	assert_int_equal(w.left.value, -1);
	snprintf(text, sizeof(text), "%#lx:u32 == 4294967295", (unsigned long)&witness_negative);
	expect(true, text);
	/* As in C, the sign is lost when one has none. */
	snprintf(text, sizeof(text), "%#lx:i32 < %#lx:u64", (unsigned long)&witness_negative,
		 (unsigned long)&witness_produced);
	expect(false, text);
	snprintf(text, sizeof(text), "%#lx:i8 == -56", (unsigned long)&witness_small);
	expect(true, text);
	assert_int_equal(look_up("0x8:u64 == 0"), 0);
	bool holds;
	assert_int_equal(bht_claim_read(&w, &own.process.mem, &holds, &refusal), -EFAULT);
	assert_non_null(strstr(refusal.why, "0x8:u64 == 0: not mapped"));
}

static void test_debug_information(void **state)
{
	(void)state;
	if (!has_debug_information())
		skip();
	expect(true, "witness_negative < 0");
	expect(true, "witness_negative == -1");
	expect(true, "witness_queue.in.done < witness_queue.made");
	assert_int_equal(w.left.value, -2);
	expect(true, "witness_small == 200");
	assert_int_equal(look_up("witness_queue != 0"), -EINVAL);
	assert_non_null(strstr(refusal.why, "witness_queue of "));
	assert_int_equal(look_up("witness_queue.in != 0"), -EINVAL);
	assert_int_equal(look_up("witness_queue.none != 0"), -ENOENT);
	/* Of 8 bytes, but no integer. */
	assert_int_equal(look_up("witness_ratio != 0"), -EINVAL);
}

/* Without it, only what is the same with either sign is an answer. */
static void test_unknown_sign(void **state)
{
	bool holds;

	(void)state;
	assert_int_equal(look_up("witness_negative < witness_queue"), -EINVAL);
	assert_int_equal(look_up("witness_negative == -1"), 0);
	w.left.is_signed = false;
	w.left.sign_unknown = true;
	assert_int_equal(bht_claim_read(&w, &own.process.mem, &holds, &refusal), -ERANGE);
	assert_non_null(strstr(refusal.why, "depends on a sign"));
	w.right.value = 5;
	assert_int_equal(bht_claim_read(&w, &own.process.mem, &holds, &refusal), 0);
	assert_false(holds);
	w.comparison = BHT_LT;
	assert_int_equal(bht_claim_read(&w, &own.process.mem, &holds, &refusal), -ERANGE);
	/* Two of a size have the same, whichever it is. */
	w.right = w.left;
	w.comparison = BHT_EQ;
	assert_int_equal(bht_claim_read(&w, &own.process.mem, &holds, &refusal), 0);
	assert_true(holds);
}

static void test_not_found(void **state)
{
	(void)state;
	assert_int_equal(look_up("witness_nothing != 0"), -ENOENT);
	assert_non_null(strstr(refusal.why, "witness_nothing: no variable"));
	assert_int_equal(look_up("main != 0"), -ENOENT);
	/* A library has one of its own. */
	struct bht_image *twice[2] = { own_image(&own, &witness_negative), own_image(&own, &witness_negative) };
	struct bht_images images = { twice, 2 };
	assert_int_equal(bht_claim_parse(&w, "witness_produced != 0", &refusal), 0);
	assert_int_equal(bht_claim_resolve(&w, &images, &refusal), -ENOTUNIQ);
	assert_non_null(strstr(refusal.why, "both have one"));
}

static int setup(void **state)
{
	(void)state;
	own_open(&own);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	own_close(&own);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_variables),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_debug_information),
		cmocka_unit_test(test_unknown_sign),
		cmocka_unit_test(test_not_found),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
