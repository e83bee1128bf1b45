/* SPDX-License-Identifier: MIT */
/*
 * The kit's side of the LTTng-UST provider, with a provider of our own: what it is
 * handed and when. The real one is in tests/e2e/lttng-provider.sh.
 */
#include "recorder.h"
#include "support.h"

/* --- a provider that keeps the last event ------------------------------------------------- */

static int wanted;
static unsigned calls;
static struct bhp_record last;
static const char *last_text;

static void keep(struct bhp_record r, const char *text)
{
	calls++;
	last = r;
	last_text = text;
}

static unsigned prepared;

static void prepare(void)
{
	prepared++;
}

#define BHP_EVENT(number, name, fields, doc) [number] = { &wanted, keep },
static struct bhp_lttng provider = {
	.abi = BHP_ABI,
	.events = BHP_LTTNG_EVENTS,
	.thread = prepare,
	.event = {
#include "events.def.h"
	},
};

static int with_provider(void **state)
{
	(void)state;
	bhp_lttng = &provider;
	wanted = 1;
	calls = 0;
	return 0;
}

static int without_provider(void **state)
{
	(void)state;
	bhp_lttng = NULL;
	return 0;
}

/* --- events --------------------------------------------------------------------------------- */

/* What the ring has of the last event: its first record. */
static const struct bhp_record *newest(unsigned records)
{
	return bhp_ring_slot(bhp_tls_ring, atomic_load(&bhp_tls_ring->head) - records);
}

static void every_event_is_the_recorders(void **state)
{
	unsigned events = 0;

	(void)state;
#define BHP_F(slot, kind, name, doc) bhp_put_##slot(&r, ~UINT64_C(0));
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	{                                                                                                              \
		struct bhp_record r = { { 0, (number), 0, 0 } };                                                       \
		fields struct bhp_##name e = bhp_decode_##name(&r);                                                    \
		bhp_emit_##name(1000 + (number), &e);                                                                  \
		assert_int_equal(calls, ++events);                                                                     \
		assert_int_equal(bhp_record_id(&last), (number));                                                      \
		assert_int_equal(bhp_record_time(&last), 1000 + (number));                                             \
		assert_memory_equal(&last, newest(1), sizeof(last));                                                   \
		assert_null(last_text);                                                                                \
	}
#include "events.def.h"
#undef BHP_F
	assert_true(events >= 15);
}

static void a_text_comes_along(void **state)
{
	const char *name = "twenty-six letters, and on";

	(void)state;
	bhp_emit(bh_new, .name = name);
	assert_ptr_equal(last_text, name);
	assert_memory_equal(&last, newest(3), sizeof(last));
}

static void what_nobody_wants_is_not_handed_over(void **state)
{
	(void)state;
	wanted = 0;
	bhp_emit(consume, .ticket = 1);
	assert_int_equal(calls, 0);
	wanted = 1;
	bhp_emit(consume, .ticket = 2);
	assert_int_equal(calls, 1);
	assert_int_equal(bhp_decode_consume(&last).ticket, 2);
}

static void *emit_twice(void *arg)
{
	bhp_emit(consume, .ticket = 1);
	bhp_emit(consume, .ticket = 2);
	return arg;
}

static void a_thread_is_prepared_at_its_first_event(void **state)
{
	(void)state;
	prepared = 0;
	elsewhere(emit_twice, NULL);
	assert_int_equal(prepared, 1);
}

/* --- fork ------------------------------------------------------------------------------------- */

static void emits(void)
{
	calls = 0;
	bhp_emit(consume, .ticket = 1);
	_exit(calls == 1 ? 10 : 20);
}

static void a_child_emits_only_when_it_is_followed(void **state)
{
	(void)state;
	provider.follows_fork = true;
	assert_int_equal(WEXITSTATUS(in_child(emits, 10)), 10);
	provider.follows_fork = false;
	assert_int_equal(WEXITSTATUS(in_child(emits, 10)), 20);
	assert_ptr_equal(bhp_lttng, &provider);
}

/* --- BH_LTTNG ----------------------------------------------------------------------------------- */

static void assert_asks_for(const char *value, const char *wanted_library)
{
	const char *library = "unset";

	assert_int_equal(bhp_lttng_parse(value, &library), 0);
	if (wanted_library)
		assert_string_equal(library, wanted_library);
	else
		assert_null(library);
}

static void each_value_is_read_or_refused(void **state)
{
	static const char *const bad[] = { "2", "11", "yes", " 1", "./libbh-lttng.so.0", "libbh-lttng.so.0" };
	const char *library;

	(void)state;
	assert_asks_for(NULL, NULL);
	assert_asks_for("", NULL);
	assert_asks_for("0", NULL);
	assert_asks_for("1", "libbh-lttng.so.0");
	assert_asks_for("/opt/libbh-lttng.so.0", "/opt/libbh-lttng.so.0");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(bhp_lttng_parse(bad[i], &library), -EINVAL);
		assert_null(library);
	}
}

static const char *value;

static void start_again(void)
{
	setenv("BH_LTTNG", value, 1);
	dup2(STDOUT_FILENO, STDERR_FILENO);
	execl("/proc/self/exe", "test_lttng", "started", (char *)NULL);
	_exit(77);
}

/* Starts this program with BH_LTTNG=VALUE; it goes on without a provider and says
 * COMPLAINT, one line, "" for none. */
static void assert_says(const char *v, const char *complaint)
{
	char said[512];
	int ends[2], stdout_fd = dup(STDOUT_FILENO);

	assert_int_equal(pipe(ends), 0);
	fflush(stdout);
	dup2(ends[1], STDOUT_FILENO);
	value = v;
	int status = in_child(start_again, 20);
	dup2(stdout_fd, STDOUT_FILENO);
	close(stdout_fd);
	close(ends[1]);
	ssize_t n = read(ends[0], said, sizeof(said) - 1);
	close(ends[0]);
	if (WEXITSTATUS(status) == 77)
		skip(); /* an emulator's program cannot be started by the kernel */
	assert_int_equal(status, 0);
	said[n > 0 ? n : 0] = '\0';
	if (!*complaint)
		assert_string_equal(said, "");
	else if (strncmp(said, complaint, strlen(complaint)) != 0 || strchr(said, '\n') != said + n - 1)
		fail_msg("BH_LTTNG=%s: '%s'", v, said);
}

static void what_cannot_be_loaded_is_one_line(void **state)
{
	(void)state;
	assert_says("0", "");
	assert_says("/nonexistent/p.so", "libbh: BH_LTTNG: /nonexistent/p.so: cannot open");
	assert_says("/dev/null", "libbh: BH_LTTNG: /dev/null: ");
	assert_says("yes\x1b", "libbh: BH_LTTNG=yes? ignored: expected 1, 0 or the absolute path of the provider\n");
}

#define provided(f) cmocka_unit_test_setup_teardown(f, with_provider, without_provider)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		provided(every_event_is_the_recorders),
		provided(a_text_comes_along),
		provided(what_nobody_wants_is_not_handed_over),
		provided(a_thread_is_prepared_at_its_first_event),
		provided(a_child_emits_only_when_it_is_followed),
		cmocka_unit_test(each_value_is_read_or_refused),
		cmocka_unit_test(what_cannot_be_loaded_is_one_line),
	};

	(void)argv;
	if (argc == 2)
		return bhp_lttng != NULL;
	return cmocka_run_group_tests_name("lttng", tests, NULL, NULL);
}
