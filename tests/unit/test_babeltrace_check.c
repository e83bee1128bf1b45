/* SPDX-License-Identifier: MIT */
/* Sizes in LTTng's files that would hang or abort babeltrace2 are refused, with the
 * file and where in it they are; the same files with right ones are read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <endian.h>
#include <errno.h>
#include <unistd.h>

#include "babeltrace.h"
#include "babeltrace_graph.h"
#include "lttng_file.h"

static const struct kind k = { .name = "trace", .hostname = "here" };
static struct bht_refusal why;

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/trace/%s", root, name);
	return path;
}

/* 0, or what opening the trace is refused with. */
static int opens(void)
{
	const char *const trace = path_of("");
	struct bht_source *source;
	int rc = bht_babeltrace_open(&trace, 1, NULL, &source, &why);

	if (rc == 0)
		source->close(source);
	return rc;
}

static void says(const char *text)
{
	if (!strstr(why.why, text))
		fail_msg("\"%s\" does not say \"%s\"", why.why, text);
}

/* --- index files ------------------------------------------------------------------- */

/* One packet; SIZE in bits. */
static void write_index(uint64_t offset, uint64_t size)
{
	const uint32_t head[4] = { htobe32(0xC1F1DCC1), htobe32(1), htobe32(1), htobe32(72) };
	const uint64_t entry[9] = { htobe64(offset), htobe64(size), htobe64(size), htobe64(1000), htobe64(1000) };
	FILE *f = file("trace/index", "stream.idx");

	fwrite(head, sizeof(head), 1, f);
	fwrite(entry, sizeof(entry), 1, f);
	fclose(f);
}

static void test_index(void **state)
{
	(void)state;
	struct writer *w = begin(&k);
	struct stat st;

	schedule(w, 1000, ticks(900), 70, 70, 1);
	end(w);
	assert_int_equal(stat(path_of("stream"), &st), 0);
	const uint64_t bits = (uint64_t)st.st_size * 8;
	write_index(0, bits);
	assert_int_equal(opens(), 0);
	const uint64_t wrong[][2] = { { bits / 8, bits }, { 0, bits + 8 },      { 0, bits + 1 },
				      { 0, 0 },           { UINT64_MAX, bits }, { 0, UINT64_MAX & ~UINT64_C(7) } };
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		write_index(wrong[i][0], wrong[i][1]);
		assert_int_equal(opens(), -EBADMSG);
		says("index/stream.idx: offset 16: a packet that is not in the stream");
	}
	/* Another file there is nobody's business. */
	unlink(path_of("index/stream.idx"));
	fclose(file("trace/index", "stream.txt"));
	assert_int_equal(opens(), 0);
}

/* --- metadata in packets -------------------------------------------------------------- */

static void put32(FILE *f, uint32_t v, bool swapped)
{
	v = swapped ? __builtin_bswap32(v) : v;
	fwrite(&v, sizeof(v), 1, f);
}

static void write_packet(FILE *f, uint32_t content, uint32_t size, uint32_t written, bool swapped)
{
	put32(f, 0x75D11D57, swapped);
	for (unsigned i = 0; i < 5; i++)
		put32(f, 0, false);
	put32(f, content, swapped);
	put32(f, size, swapped);
	fwrite("\0\0\0\1\10", 5, 1, f);
	for (uint32_t i = 37; i < written; i++)
		fputc(' ', f);
}

static int check_packets(uint32_t content, uint32_t size, uint32_t written, bool swapped)
{
	FILE *f = file("packets", "metadata");
	char path[128];

	write_packet(f, 64 * 8, 100 * 8, 100, swapped);
	write_packet(f, content, size, written, swapped);
	fclose(f);
	snprintf(path, sizeof(path), "%s/packets/metadata", root);
	return bht_check_metadata(path, &why);
}

static void test_metadata(void **state)
{
	(void)state;
	for (unsigned swapped = 0; swapped < 2; swapped++) {
		assert_int_equal(check_packets(64 * 8, 128 * 8, 128, swapped), 0);
		static const uint32_t wrong[][3] = { { 64 * 8, 0, 128 },
						     { 0, 128 * 8, 128 },
						     { 36 * 8, 128 * 8, 128 },
						     { 129 * 8, 128 * 8, 128 },
						     { 64 * 8, 129 * 8, 128 },
						     { 64 * 8, 128 * 8 + 1, 200 },
						     { 64 * 8, UINT32_MAX & ~7u, 128 } };
		for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
			assert_int_equal(check_packets(wrong[i][0], wrong[i][1], wrong[i][2], swapped), -EBADMSG);
			says("packets/metadata: offset 100: a packet of metadata that says a wrong size");
		}
		/* What follows is no packet. */
		assert_int_equal(check_packets(64 * 8, 120 * 8, 128, swapped), -EBADMSG);
		says("offset 220: no packet of metadata begins here");
	}
}

static int make_root(void **state)
{
	(void)state;
	strcpy(root, "/tmp/bh-test-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_index), cmocka_unit_test(test_metadata) };

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
