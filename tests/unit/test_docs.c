/* SPDX-License-Identifier: MIT */
/* The committed tables of docs/ are what `make docs` would write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define main gen_docs_main
int gen_docs_main(int argc, char **argv);
#include "../../docs/gen_docs.c" /* NOLINT(bugprone-suspicious-include): its main() is renamed */
#undef main

static void assert_file_is(const char *file, void (*generate)(FILE *out))
{
	static char committed[1 << 18];
	char *made = NULL;
	size_t size, n;
	FILE *out = open_memstream(&made, &size), *in = fopen(file, "r");

	generate(out);
	fclose(out);
	if (!in)
		fail_msg("%s cannot be read: run the tests at the top of the tree", file);
	n = fread(committed, 1, sizeof(committed) - 1, in);
	fclose(in);
	if (n != size || memcmp(committed, made, n))
		fail_msg("%s is not what the lists say: run make docs", file);
	free(made);
}

static void test_mechanisms(void **state)
{
	(void)state;
	assert_file_is("docs/mechanisms.md", gen_mechanisms);
}

static void test_events(void **state)
{
	(void)state;
	assert_file_is("docs/events.md", gen_events);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mechanisms),
		cmocka_unit_test(test_events),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
