/* SPDX-License-Identifier: MIT */
/* What comes out of a damaged recording was put into it, and what is missing is told. */
#include "ctf_file.h"

/* --- damage ----------------------------------------------------------------------------------- */

/* What was got are events that were put, in their order, and for what is missing
 * there is a loss behind it: with the number, or, at the end, without. */
static void check_damaged(size_t where)
{
	uint64_t missing = 0, told = 0;
	int at = 0;
	bool open = false;

	read_it();
	for (int i = 0; i < got.n; i++) {
		if (bht_event_id(&got.e[i]) == BHT_ID_LOSS) {
			assert_int_equal(bht_loss_reason(&got.e[i]), BHT_LOSS_DAMAGED);
			told += bht_loss_count(&got.e[i]);
			open |= !bht_loss_count(&got.e[i]);
			if (open)
				assert_int_equal(i, got.n - 1);
			continue;
		}
		while (at < put.n && (memcmp(&put.e[at], &got.e[i], sizeof(got.e[i])) != 0 ||
				      strcmp(put.text[at], got.text[i]) != 0)) {
			missing++;
			at++;
		}
		if (at == put.n)
			fail_msg("damage at %zu: event %d was never put", where, i);
		at++;
		if (missing != told)
			fail_msg("damage at %zu: before event %d %d are missing, %d told", where, i, (int)missing,
				 (int)told);
	}
	missing += (uint64_t)(put.n - at);
	if (missing != told && !open)
		fail_msg("damage at %zu: %d are missing, %d told", where, (int)missing, (int)told);
}

static void test_truncated(void **state)
{
	(void)state;
	a_few_packets();
	for (size_t n = 0; n < length; n += n % 32 ? 32 - n % 32 : 1 + n / 32 % 31) {
		save("history/stream-0", n);
		check_damaged(n);
		assert_int_equal(bht_event_id(&got.e[got.n - 1]), BHT_ID_LOSS);
	}
	save("history/stream-0", length);
	compare();
}

static void test_flipped(void **state)
{
	(void)state;
	a_few_packets();
	for (size_t i = 0; i < length; i++) {
		content[i] ^= (unsigned char)(1 << i % 8);
		save("history/stream-0", length);
		content[i] ^= (unsigned char)(1 << i % 8);
		check_damaged(i);
		assert_true(got.n < put.n);
	}
	save("history/stream-0", length);
	compare();
}

/* Packets that are missing, twice there, in another order, or of another recording. */
static void test_rearranged(void **state)
{
	(void)state;
	size_t at[8] = { 0 }, n = 0;

	a_few_packets();
	for (size_t i = 0; i < length; i += ((struct bht_ctf_packet *)(content + i))->packet_size / 8)
		at[n++] = i;
	at[n] = length;
	assert_true(n >= 4);
	unsigned char *all = content;
	const size_t size = length;
	content = malloc(2 * size + 1);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++) {
			length = 0;
			for (size_t p = 0; p < n; p++) {
				const size_t from = p == i ? k : p;
				memcpy(content + length, all + at[from], at[from + 1] - at[from]);
				length += at[from + 1] - at[from];
			}
			save("history/stream-0", length);
			check_damaged(i * 10 + k);
		}
	/* One of a machine with another order of bytes among them. */
	memcpy(content, all, size);
	for (unsigned i = 0; i < 4; i++)
		content[at[1] + i] = all[at[1] + 3 - i];
	save("history/stream-0", size);
	check_damaged(0);
	assert_true(got.n < put.n);
	/* What follows the end is none of it. */
	memcpy(content, all, size);
	memset(content + size, 0x5a, 1000);
	save("history/stream-0", size + 1000);
	compare();
	free(all);
}

static void test_streams_missing(void **state)
{
	(void)state;
	create(3);
	struct bht_event e = a_schedule(about.clock.ticks + 1, 1, 1);
	put_one(0, &e);
	put_one(1, &e);
	put_one(2, &e);
	closed();
	assert_int_equal(unlinkat(dir, "history/stream-1", 0), 0);
	read_it();
	assert_int_equal(got.n, 3);
	assert_int_equal(bht_event_id(&got.e[2]), BHT_ID_LOSS);
	assert_int_equal(bht_time(&got.e[2]), about.clock.ticks + 1);
	unlinkat(dir, "history/stream-0", 0);
	unlinkat(dir, "history/stream-2", 0);
	read_it();
	assert_int_equal(got.n, 1);
	assert_int_equal(bht_event_id(&got.e[0]), BHT_ID_LOSS);
	assert_int_equal(bht_time(&got.e[0]), about.clock.ticks);
}

static void test_strange_files(void **state)
{
	(void)state;
	static const char *const names[] = { "history/metadata", "history/stream-0" };

	refused(-ENOENT, "/history: No such file");
	a_few_packets();
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(renameat(dir, names[i], dir, "moved"), 0);
		assert_int_equal(symlinkat("../moved", dir, names[i]), 0);
		refused(-ELOOP, "a symbolic link");
		unlinkat(dir, names[i], 0);
		assert_int_equal(mkfifoat(dir, names[i], 0600), 0);
		refused(-EBADMSG, "no regular file");
		unlinkat(dir, names[i], 0);
		assert_int_equal(mkdirat(dir, names[i], 0700), 0);
		refused(-EBADMSG, "no regular file");
		unlinkat(dir, names[i], AT_REMOVEDIR);
		assert_int_equal(renameat(dir, "moved", dir, names[i]), 0);
	}
	save("history/stream-65536", 0);
	refused(-EBADMSG, "stream-65536: a number");
	unlinkat(dir, "history/stream-65536", 0);
	/* None of the names that a stream has. */
	save("history/stream-00", length);
	save("history/stream--1", length);
	save("history/stream-4294967296", length);
	save("history/stream-0x1", length);
	compare();
	assert_int_equal(renameat(dir, "history", dir, "elsewhere"), 0);
	assert_int_equal(symlinkat("elsewhere", dir, "history"), 0);
	struct bht_source *history;
	assert_true(open_it(&history) < 0);
	assert_null(history);
}

/* --- metadata ------------------------------------------------------------------------------------ */

static void test_metadata_truncated(void **state)
{
	(void)state;
	struct bht_source *history;

	a_few_packets();
	load("history/metadata");
	for (size_t n = 0; n < length; n++) {
		save("history/metadata", n);
		const int rc = open_it(&history);
		if (rc != -EBADMSG && rc != -EPROTO)
			fail_msg("cut at %zu: %d %s", n, rc, refusal.why);
		assert_true(refusal.addr <= n);
	}
	unlinkat(dir, "history/metadata", 0);
	refused(-ENOENT, "/history/metadata: No such file");
}

/* Any bit: refused, or one of the values, and the events are what they are. */
static void test_metadata_flipped(void **state)
{
	(void)state;
	struct bht_source *history;
	unsigned read = 0;

	a_few_packets();
	load("history/metadata");
	for (size_t i = 0; i < 8 * length; i += 1 + i % 3) {
		content[i / 8] ^= (unsigned char)(1 << i % 8);
		save("history/metadata", length);
		content[i / 8] ^= (unsigned char)(1 << i % 8);
		if (open_it(&history)) {
			assert_true(refusal.why[0] && !history);
		} else {
			read++;
			tell_all(history);
		}
	}
	assert_true(read > 10 && read < length);
}

static void replace(const char *what, const char *by, int error, const char *why)
{
	char *other, *at, *original = (char *)content;
	const size_t original_length = length;

	at = strstr(original, what);
	assert_non_null(at);
	const int n = asprintf(&other, "%.*s%s%s", (int)(at - original), original, by, at + strlen(what));
	content = (unsigned char *)other;
	save("history/metadata", (size_t)n);
	refused(error, why);
	free(other);
	content = (unsigned char *)original;
	length = original_length;
}

/* What by what, and what is said of that. */
static const struct {
	const char *what, *by;
	int error;
	const char *why;
} lies[] = {
	{ "\"bhtrace\"", "\"lttng-ust\"", -EPROTO, "no recording of bhtrace" },
	{ "tracer_format = 1", "tracer_format = 2", -EPROTO, "format" },
	{ "byte_order = le", "byte_order = be", -EPROTO, "byte order" },
	{ "pid = 4711", "pid = 9223372036854775808", -EBADMSG, "here should be \"" },
	{ "pid = 4711", "pid = 4294967296", -EBADMSG, "here should be \"0;\"" },
	{ "pid = 4711", "pid = -1", -EBADMSG, "here should be \"4294967295;\"" },
	{ "clock_ticks = 6", "clock_ticks = 18446744073709551616", -EBADMSG, "should be" },
	{ "freq = ", "freq = 9", -EBADMSG, "should be \"2596120100;\"" },
	{ "ticks_per_ns_bits = 0x40", "ticks_per_ns_bits = 0x7f", -EBADMSG, "should be" },
	{ "ticks_per_ns_bits = 0x4", "ticks_per_ns_bits = 0xc", -EBADMSG, "should be" },
	{ "clock {\n", "clock {\n\tname = \"other\";\n};\n\nclock {\n", -EBADMSG, "should be" },
	{ "uint8_t uuid[16]", "uint8_t uuid[9223372036854775808]", -EBADMSG, "should be \"16];\"" },
	{ "align(256)", "align(0)", -EBADMSG, "should be \"256);\"" },
	{ "name[48]", "name[4611686018427387904]", -EBADMSG, "should be \"8];\"" },
	{ "size = 48", "size = 64", -EBADMSG, "should be \"48;" },
	{ "LOOP_ptr_48 loop", "ARG_ptr_64 loop", -EBADMSG, "offset" },
	{ "LOOP_ptr_48 loop;", "LOOP_ptr_48 loop;\n\t\tLOOP_ptr_48 loop;", -EBADMSG, "offset" },
	{ "LOOP_ptr_48 loop;\n\t\tBH_ptr_64 bh;", "BH_ptr_64 bh;\n\t\tLOOP_ptr_48 loop;", -EBADMSG, "offset" },
	{ "LOOP_ptr_48 loop", "LOUP_ptr_48 loop", -EBADMSG, "should be" },
	{ "LOOP_ptr_48 loop", "LOOP_pdr_48 loop", -EBADMSG, "should be" },
	{ "bh:loop_new", "../../etc/passwd", -EBADMSG, "should be" },
	{ "bh:loop_new", "bh:a_name_that_is_longer_than_fifteen", -EBADMSG, "should be" },
	{ "notifier_fd", "notifier_fd_and_so_on", -EBADMSG, "should be" },
	{ "\tid = 1;", "\tid = 0;", -EBADMSG, "offset" },
	{ "\tid = 1;", "\tid = 255;", -EBADMSG, "offset" },
	{ "\tid = 1;", "\tid = 257;", -EBADMSG, "should be" },
	{ "\tid = 2;", "\tid = 1;", -EBADMSG, "" },
	{ "\tid = 3;", "\tid = 1;", -EBADMSG, "offset" },
	{ "hostname = \"", "hostname = \"\\0", -EBADMSG, "should be" },
	{ "hostname = \"", "hostname = \"\\7", -EBADMSG, "should be" },
	{ " result;\n\t} align(8);\n};\n", " result;\n\t} align(8);\n};\n\n", -EBADMSG, "more than was expected" },
	{ "events = 21", "events = 22", -EBADMSG, "it ends, with 21 events of 22" },
	{ "events = 21;", "events = 21;\n\trecorder = \"none\";", -EBADMSG, "should be" },
	{ "events = 21;", "events = 21;\n\trecorder = \"flight\";", -EBADMSG, "should be" },
	{ "uuid = \"", "uuid = \"0", -EBADMSG, "should be" },
};

static void test_metadata_hostile(void **state)
{
	(void)state;
	char *line = calloc(1, 70000);

	a_few_packets();
	load("history/metadata");
	for (unsigned i = 0; i < sizeof(lies) / sizeof(*lies); i++)
		replace(lies[i].what, lies[i].by, lies[i].error, lies[i].why);
	memset(line, 'x', 69999);
	replace("/* CTF 1.8 */", line, -EPROTO, "too long");
	free(line);
	save("history/metadata", length);
	compare();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_truncated),        TEST(test_flipped),          TEST(test_rearranged),
		TEST(test_streams_missing),  TEST(test_strange_files),    TEST(test_metadata_truncated),
		TEST(test_metadata_flipped), TEST(test_metadata_hostile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
