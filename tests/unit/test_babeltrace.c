/* SPDX-License-Identifier: MIT */
/*
 * Traces written by hand, as LTTng writes them, and by analysis/ctf/: what is in
 * them, and what is wrong with them, is known.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "babeltrace.h"
#include "lttng_file.h"
#include "ctf/ctf.h"

enum { EVENTS_MAX = 60000 };

static struct bht_refusal why;
static struct bht_event got[EVENTS_MAX];
static unsigned n_got;
static struct bht_trace_info info;
static struct bht_trace_process process[4];
static char damage[400];

/* --- reading ------------------------------------------------------------------------ */

static int open_traces(const char *a, const char *b, struct bht_source **source)
{
	char path[2][128];
	const char *const paths[] = { path[0], path[1] };

	snprintf(path[0], sizeof(path[0]), "%s/%s", root, a);
	snprintf(path[1], sizeof(path[1]), "%s/%s", root, b ? b : "");
	return bht_babeltrace_open(paths, b ? 2 : 1, NULL, source, &why);
}

static void read_traces(const char *a, const char *b)
{
	static char text[EVENTS_MAX][BHP_TEXT_MAX + 1];
	struct bht_source *source;
	int n;

	if (open_traces(a, b, &source) != 0)
		fail_msg("refused: %s", why.why);
	n_got = 0;
	while ((n = source->next(source, &got[n_got], BHT_BATCH)) > 0) {
		for (int i = 0; i < n; i++, n_got++) {
			if (!got[n_got].text)
				continue;
			assert_int_equal(i, n - 1);
			strcpy(text[n_got], got[n_got].text);
			got[n_got].text = text[n_got];
		}
		assert_true(n_got + BHT_BATCH <= EVENTS_MAX);
	}
	assert_int_equal(n, 0);
	info = bht_babeltrace_info(source);
	assert_in_range(info.n_processes, 0, 4);
	if (info.n_processes)
		memcpy(process, info.process, info.n_processes * sizeof(process[0]));
	strcpy(damage, bht_babeltrace_damage(source));
	source->close(source);
}

static void refuses(const char *dir, int error, const char *text)
{
	struct bht_source *source;

	assert_int_equal(open_traces(dir, NULL, &source), error);
	if (!strstr(why.why, text))
		fail_msg("\"%s\" does not say \"%s\"", why.why, text);
}

#define assert_event(i, tid_, process_, text_, time_, name_, ...)                                                      \
	do {                                                                                                           \
		struct bhp_record r_ = bhp_encode_##name_(time_, &(struct bhp_##name_){ __VA_ARGS__ });                \
		assert_true((i) < n_got);                                                                              \
		assert_memory_equal(&got[i].r, &r_, sizeof(r_));                                                       \
		assert_int_equal(got[i].tid, tid_);                                                                    \
		assert_int_equal(got[i].process, process_);                                                            \
		if (text_)                                                                                             \
			assert_string_equal(got[i].text, text_);                                                       \
		else                                                                                                   \
			assert_null(got[i].text);                                                                      \
	} while (0)

static const void *const LOOP = (const void *)0x1000, *const BH = (const void *)0x2000;

/* --- events --------------------------------------------------------------------------- */

static void test_events(void **state)
{
	(void)state;
	static const struct kind k = { .name = "events", .hostname = "here" };
	struct writer *w = begin(&k);
	static const char name[] = "a loop", chars[8] = "chars";

	event(w, 0, 1000, 70, 71);
	PUT(w, uint64_t, ticks(900));
	PUT(w, uint64_t, 0x1000);
	PUT(w, int32_t, -1);
	put(w, "abc", 3);
	put(w, name, sizeof(name));
	event(w, 6, 1500, 70, 71);
	PUT(w, uint64_t, ticks(1400));
	PUT(w, uint64_t, 0x1000);
	PUT(w, uint64_t, 0x2000);
	PUT(w, uint64_t, 0x3000);
	put(w, chars, sizeof(chars));
	schedule(w, 2000, ticks(1900), 70, 70, 5);
	event(w, 4, 2500, 70, 70);
	PUT(w, uint64_t, 1);
	PUT(w, uint64_t, 1);
	PUT(w, uint64_t, 1);
	event(w, 5, 2600, 70, 70);
	PUT(w, uint64_t, 1);
	event(w, 2, 3000, 80, 80);
	PUT(w, uint64_t, ticks(2800));
	PUT(w, uint64_t, 0x2000);
	PUT(w, uint64_t, 0x1000);
	PUT(w, uint64_t, ticks(2900));
	event(w, 3, 4000, 80, 81);
	PUT(w, uint64_t, ticks(3900));
	PUT(w, uint64_t, 0x1000);
	PUT(w, int64_t, -1);
	end(w);
	read_traces("events", NULL);
	assert_int_equal(n_got, 5);
	assert_event(0, 71, 0, "a loop", ticks(900), loop_new, .loop = LOOP, .notifier_fd = -1);
	assert_event(1, 71, 0, "chars", ticks(1400), bh_new, .loop = LOOP, .bh = BH, .callback = (void *)0x3000);
	assert_event(2, 70, 0, (char *)NULL, ticks(1900), schedule, .loop = LOOP, .bh = BH, .seen = 1, .ticket = 5);
	assert_event(3, 80, 1, (char *)NULL, ticks(2900), execute_end, .loop = LOOP, .bh = BH, .begin = ticks(2800));
	assert_event(4, 81, 1, (char *)NULL, ticks(3900), wait_begin, .loop = LOOP, .timeout_ns = -1);
	assert_string_equal(damage, "");
	assert_int_equal(info.n_processes, 2);
	assert_int_equal(process[0].pid, 70);
	assert_string_equal(process[0].hostname, "here");
	/* The thread that came first has another name, the process's own one decides. */
	assert_string_equal(process[0].command, "the command");
}

/* Also the same trace when only its environment names the process. */
static void test_no_contexts(void **state)
{
	(void)state;
	static const struct kind k = { .name = "nobody", .hostname = "here", .no_contexts = true },
				 alone = { .name = "thread", .hostname = "here", .no_contexts = true, .env_pid = 7 };
	struct writer *w = begin(&k);

	schedule(w, 2000, ticks(1900), 70, 70, 5);
	end(w);
	refuses("nobody", -EPROTO, "\"bh:schedule\": neither a context nor its packet names its thread");
	w = begin(&alone);
	schedule(w, 2000, ticks(1900), 70, 70, 5);
	end(w);
	refuses("thread", -EPROTO, "names its thread");
}

static void test_lacking_field(void **state)
{
	(void)state;
	static const struct kind k = { .name = "lacking", .hostname = "here", .no_bh = true };
	struct writer *w = begin(&k);

	for (unsigned i = 0; i < 3; i++)
		schedule(w, 2000 + i, ticks(1900), 70, 70, 5);
	event(w, 3, 4000, 80, 81);
	PUT(w, uint64_t, ticks(3900));
	PUT(w, uint64_t, 0x1000);
	PUT(w, int64_t, -1);
	end(w);
	read_traces("lacking", NULL);
	assert_int_equal(n_got, 3);
	assert_int_equal(bht_event_id(&got[0]), BHT_ID_LOSS);
	assert_int_equal(bht_loss_reason(&got[0]), BHT_LOSS_DAMAGED);
	assert_int_equal(bht_event_id(&got[1]), BHP_ID_wait_begin);
	/* The rest of them is told of at the end. */
	assert_int_equal(bht_loss_count(&got[0]) + bht_loss_count(&got[2]), 3);
	assert_int_equal(got[2].process, BHT_ALL_PROCESSES);
	assert_non_null(strstr(damage, "\"bh:schedule\": has no field \"bh\""));
}

/* --- time -------------------------------------------------------------------------------- */

/* Stamps are late by 100 ns and up to 50 us; one thread's always by 2 ms. Afterwards
 * the order is that of the events' own time. */
static void test_order_and_rate(void **state)
{
	(void)state;
	static const struct kind k = { .name = "order", .hostname = "here" };
	enum { N = 20000, STEP = 3000, LATE = 1000 };
	static uint64_t stamp[N], time[N];
	struct writer *w = begin(&k);
	unsigned next = 0;

	srand(3);
	for (unsigned i = 0; i < N; i++) {
		time[i] = 1000000 + (uint64_t)i * STEP;
		stamp[i] =
			time[i] + (i % LATE == 1 ? 2000000 : 100 + (uint64_t)(rand() % (rand() % 50 ? 1000 : 50000)));
	}
	/* In the order of the stamps; each thread's own are in order. */
	for (uint64_t ns = 0; next < N; ns += STEP / 30) {
		for (unsigned i = next; i < N && time[i] <= ns; i++)
			if (stamp[i] && stamp[i] <= ns) {
				schedule(w, ns, ticks(time[i]), 70, 100 + i % LATE, i);
				stamp[i] = 0;
			}
		while (next < N && !stamp[next])
			next++;
	}
	end(w);
	read_traces("order", NULL);
	assert_int_equal(n_got, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(bhp_decode_schedule(&got[i].r).ticket, i);
	assert_true(info.ticks_per_ns > TICKS_PER_NS * 0.9999 && info.ticks_per_ns < TICKS_PER_NS * 1.0001);
}

/* A thread's own order is kept even against its clock. */
static void test_order_of_a_thread(void **state)
{
	(void)state;
	static const struct kind k = { .name = "thread-order", .hostname = "here" };
	struct writer *w = begin(&k);

	schedule(w, 1000, ticks(900), 70, 70, 0);
	schedule(w, 2000, ticks(1900), 70, 70, 1);
	schedule(w, 2100, ticks(1800), 70, 70, 2);
	schedule(w, 2200, ticks(1700), 70, 71, 3);
	end(w);
	read_traces("thread-order", NULL);
	static const uint64_t wanted[] = { 0, 3, 1, 2 };
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(bhp_decode_schedule(&got[i].r).ticket, wanted[i]);
}

/* Two machines with other ticks, an hour apart: on one clock afterwards. */
static void test_two_hosts(void **state)
{
	(void)state;
	static const struct kind a = { .name = "ahost", .hostname = "a", .boot = 1 },
				 b = { .name = "bhost", .hostname = "b", .boot = 2, .epoch_offset = 500 };
	enum { N = 2000 };
	const uint64_t apart = UINT64_C(3600000000000);
	struct writer *w = begin(&a);

	for (unsigned i = 0; i < N; i++)
		schedule(w, 10000 + i * 50000, ticks(10000 + i * 50000 - 100), 70, 70, i);
	event(w, 2, 10000 + N * 50000, 70, 70);
	PUT(w, uint64_t, ticks(N * 50000 - 5000));
	PUT(w, uint64_t, 0x2000);
	PUT(w, uint64_t, 0x1000);
	PUT(w, uint64_t, ticks(10000 + N * 50000 - 100));
	end(w);
	w = begin(&b);
	for (unsigned i = 0; i < N; i++)
		schedule(w, apart + i * 50000, 77 + i * 50000, 70, 70, N + i);
	end(w);
	read_traces("ahost", "bhost");
	assert_int_equal(n_got, 2 * N + 1);
	assert_true(info.ticks_per_ns == 1);
	assert_int_equal(info.n_processes, 2);
	assert_string_equal(process[1].hostname, "b");
	for (unsigned i = 0; i < 2 * N + 1; i++) {
		const unsigned k = i < N ? i : i - 1;
		const uint64_t ns = EPOCH + (k < N ? 10000 + k * 50000 : 500 + apart + (k - N) * 50000);
		if (i == N) {
			assert_true(llabs((long long)(bht_time(&got[i]) - EPOCH - 10000 - N * 50000)) < 200);
			uint64_t began = bhp_decode_execute_end(&got[i].r).begin;
			assert_true(llabs((long long)(bht_time(&got[i]) - began) - 14900) < 10);
			continue;
		}
		assert_int_equal(bhp_decode_schedule(&got[i].r).ticket, k);
		assert_int_equal(got[i].process, k >= N);
		assert_true(llabs((long long)(bht_time(&got[i]) - ns)) < 200);
	}
}

/* --- loss -------------------------------------------------------------------------------- */

static void check_loss(const char *name, uint32_t env_pid, uint64_t discarded, uint64_t packets, uint64_t count)
{
	const struct kind k = { .name = name, .hostname = "here", .env_pid = env_pid };
	struct writer *w = begin(&k);
	enum { N = 1000 };

	for (unsigned i = 0; i < N; i++)
		schedule(w, 1000 + i * 100000, ticks(900 + i * 100000), env_pid ? env_pid : 70, 71, i);
	end_packet(w);
	w->discarded += discarded;
	w->seq += packets;
	for (unsigned i = N; i < 2 * N; i++)
		schedule(w, 1000 + i * 100000, ticks(900 + i * 100000), env_pid ? env_pid : 70, 71, i);
	w->end = 1000 + 2 * N * 100000;
	end_packet(w);
	schedule(w, 2000 + 2 * N * 100000, ticks(1900 + 2 * N * 100000), env_pid ? env_pid : 70, 71, 2 * N);
	end(w);
	read_traces(name, NULL);
	assert_int_equal(n_got, 2 * N + 2);
	/* It ends with the packet, when it was of events, and with the next one's first
	 * event, when it was of packets. */
	const unsigned at = packets ? N + 1 : 2 * N;
	const uint64_t ns = packets ? 1000 + N * 100000 : 1000 + 2 * N * 100000;
	for (unsigned i = 0; i < n_got; i++)
		if ((bht_event_id(&got[i]) == BHT_ID_LOSS) != (i == at))
			fail_msg("%s: event %u is %u", name, i, bht_event_id(&got[i]));
	assert_int_equal(bht_loss_reason(&got[at]), BHT_LOSS_DROPPED);
	assert_int_equal(bht_loss_count(&got[at]), count);
	assert_int_equal(got[at].tid, 0);
	assert_int_equal(got[at].process, env_pid ? 0 : BHT_ALL_PROCESSES);
	assert_in_range(bht_time(&got[at]), ticks(ns - 100), ticks(ns + 10000));
}

static void test_discarded(void **state)
{
	(void)state;
	check_loss("discarded", 0, 12, 0, 12);
	check_loss("Discarded", 70, 12, 0, 12);
	check_loss("packets", 0, 0, 3, 0);
}

static void test_truncated(void **state)
{
	(void)state;
	static const struct kind k = { .name = "truncated", .hostname = "here" };
	struct writer *w = begin(&k);
	char path[128];
	struct stat st;

	for (unsigned packet = 0; packet < 2; packet++) {
		for (unsigned i = 0; i < 1000; i++)
			schedule(w, 1000 + (packet * 1000 + i) * 100000, ticks(900 + (packet * 1000 + i) * 100000), 70,
				 71, i);
		end_packet(w);
	}
	end(w);
	snprintf(path, sizeof(path), "%s/truncated/stream", root);
	assert_int_equal(stat(path, &st), 0);
	/* In the middle of the second packet: babeltrace2 says so at once. */
	assert_int_equal(truncate(path, st.st_size * 3 / 4), 0);
	refuses("truncated", -EBADMSG, "babeltrace2 cannot read it");
	/* An event number that there is not, later on. */
	int fd = open(path, O_WRONLY);
	assert_int_equal(truncate(path, st.st_size / 2), 0);
	assert_int_equal(pwrite(fd, "\xff", 1, st.st_size / 2 - (4 + 8 + 25 + 33)), 1);
	close(fd);
	read_traces("truncated", NULL);
	assert_int_equal(n_got, 1000);
	assert_int_equal(bht_event_id(&got[999]), BHT_ID_LOSS);
	assert_int_equal(bht_loss_reason(&got[999]), BHT_LOSS_DAMAGED);
	assert_int_equal(got[999].process, BHT_ALL_PROCESSES);
	assert_true(bht_time(&got[999]) >= bht_time(&got[998]));
	assert_true(damage[0]);
}

static void test_refusals(void **state)
{
	(void)state;
	static const struct kind k = { .name = "linked", .hostname = "here" };
	char path[128];

	refuses("nowhere", -ENOENT, "nowhere");
	snprintf(path, sizeof(path), "%s/empty", root);
	mkdir(path, 0755);
	refuses("empty", -ENOENT, "no trace there");
	fputs("/* CTF 1.8 */ nonsense {", file("nonsense", "metadata"));
	refuses("nonsense", -EBADMSG, "babeltrace2 cannot read it");
	end(begin(&k));
	snprintf(path, sizeof(path), "%s/linked/stream-2", root);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	refuses("linked", -ELOOP, "linked/stream-2: a symbolic link");
	/* One to a directory is just not gone into. */
	unlink(path);
	assert_int_equal(symlink("/", path), 0);
	read_traces("linked", NULL);
	assert_int_equal(n_got, 0);
}

/* --- our own recordings -------------------------------------------------------------------- */

static void write_own(void)
{
	const struct bht_ctf_about about = { .pid = 70,
					     .command = "the command",
					     .hostname = "here",
					     .ticks_per_ns = TICKS_PER_NS,
					     .clock = { START, 900000 },
					     .realtime_ns = EPOCH };
	int dir = open(root, O_RDONLY | O_DIRECTORY);
	struct bht_ctf_writer *w = bht_ctf_create(dir, "own", root, &about, &why);

	assert_non_null(w);
	for (unsigned s = 0; s < 3; s++) {
		struct bht_ctf_stream *stream = bht_ctf_add(w, &why);
		assert_non_null(stream);
		uint64_t time = START + s;
		struct bht_event e = { .r = bhp_encode_loop_new(
					       time, &(struct bhp_loop_new){ .loop = LOOP, .notifier_fd = 7 }),
				       .tid = 70 + s,
				       .text = "a loop of ours" };
		assert_int_equal(bht_ctf_put(stream, &e), 0);
		for (unsigned i = 0; i < 5000; i++) {
			time += 3 * (1 + (unsigned)rand() % 1000);
			struct bhp_schedule f = {
				.loop = LOOP, .bh = BH, .seen = i % 2, .kind = 2, .took = 77, .ticket = i
			};
			struct bhp_execute_end x = { .loop = LOOP, .bh = BH, .begin = time - 2 };
			struct bhp_wait_end we = { .loop = LOOP, .woke = 5, .fd = -1, .ready = i };
			e = (struct bht_event){ .r = i % 3 == 0   ? bhp_encode_schedule(time, &f)
						     : i % 3 == 1 ? bhp_encode_execute_end(time, &x)
								  : bhp_encode_wait_end(time, &we),
						.tid = 70 + s };
			if (i == 2500 && s == 1)
				e = bht_loss(time, 71, BHT_LOSS_OVERWRITTEN, 9);
			assert_int_equal(bht_ctf_put(stream, &e), 0);
		}
	}
	assert_int_equal(bht_ctf_close(w, &why), 0);
	close(dir);
}

/* Both readers give the same; a loss is of all threads here. */
static void test_own(void **state)
{
	(void)state;
	struct bht_ctf_about about;
	struct bht_source *native;
	struct bht_event e;
	unsigned at = 0, losses = 0;

	srand(4);
	write_own();
	read_traces("own", NULL);
	assert_true(info.ticks_per_ns == TICKS_PER_NS);
	assert_int_equal(info.n_processes, 1);
	assert_int_equal(process[0].pid, 70);
	assert_string_equal(process[0].command, "the command");
	int dir = open(root, O_RDONLY | O_DIRECTORY);
	assert_int_equal(bht_ctf_open(dir, "own", root, &about, &native, &why), 0);
	for (; native->next(native, &e, 1) == 1; at++) {
		while (at < n_got && bht_event_id(&got[at]) == BHT_ID_LOSS)
			losses += bht_loss_count(&got[at]) == 9, at++;
		while (bht_event_id(&e) == BHT_ID_LOSS)
			assert_int_equal(native->next(native, &e, 1), 1);
		assert_true(at < n_got);
		assert_memory_equal(&got[at].r, &e.r, sizeof(e.r));
		assert_int_equal(got[at].tid, e.tid);
		assert_int_equal(!got[at].text, !e.text);
		if (e.text)
			assert_string_equal(got[at].text, e.text);
	}
	assert_int_equal(at, n_got);
	assert_int_equal(losses, 1);
	native->close(native);
	close(dir);
}

/* --- */

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
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_no_contexts),
		cmocka_unit_test(test_lacking_field),
		cmocka_unit_test(test_order_and_rate),
		cmocka_unit_test(test_order_of_a_thread),
		cmocka_unit_test(test_two_hosts),
		cmocka_unit_test(test_discarded),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_own),
	};
	return cmocka_run_group_tests(tests, make_root, remove_root);
}
