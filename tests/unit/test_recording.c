/* SPDX-License-Identifier: MIT */
/* Recordings of a recorder that leaves out where executions begin, with the kernel's events
 * between: they are read with all beginnings. */
#include "ctf_file.h"

#include "recording.h"
#include "snapshot.h"

enum { LOOPER = 5, PRODUCER = 6 };

#define LOOP ((const void *)0x1000)
#define BH   ((const void *)0x2000)

#define put_event(s, tid_, time_, name_, ...)                                                                          \
	do {                                                                                                           \
		struct bht_event e_ = { .r = bhp_encode_##name_(time_, &(struct bhp_##name_){ __VA_ARGS__ }),          \
					.tid = (tid_) };                                                               \
		assert_int_equal(bht_ctf_put(stream[s], &e_), 0);                                                      \
	} while (0)

/* The loop is woken for its bottom half and executes it, perhaps to the end. */
static void put_history(bool ends)
{
	put_event(0, LOOPER, 100, loop_new, .loop = LOOP, .notifier_fd = 7);
	put_event(0, LOOPER, 110, bh_new, .loop = LOOP, .bh = BH, .callback = (void *)0x3000);
	put_event(0, LOOPER, 200, poll_begin, .loop = LOOP, .depth = 1, .blocking = 1, .iteration = 1);
	put_event(0, LOOPER, 300, wait_begin, .loop = LOOP, .timeout_ns = -1);
	put_event(0, LOOPER, 900, wait_end, .loop = LOOP, .woke = BHP_WOKE_NOTIFIER, .fd = -1);
	if (ends)
		put_event(0, LOOPER, 1500, execute_end, .loop = LOOP, .bh = BH, .begin = 900);
	put_event(1, LOOPER, 350, switch_out, .why = BHP_ASLEEP, .cpu = 1);
	put_event(1, LOOPER, 620, waking, .waker = PRODUCER);
	put_event(1, LOOPER, 800, switch_in, .before = 77, .cpu = 1);
	put_event(1, LOOPER, 1000, switch_out, .why = BHP_PREEMPTED, .after = 77, .cpu = 1);
	put_event(1, LOOPER, 1200, switch_in, .before = 77, .cpu = 1);
	put_event(2, PRODUCER, 500, schedule, .loop = LOOP, .bh = BH);
	put_event(2, PRODUCER, 700, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
	put_event(3, PRODUCER, 600, call_begin, .call = BHP_CALL_WRITE, .fd = 7, .arg = 1);
	put_event(3, PRODUCER, 640, call_end, .call = BHP_CALL_WRITE, .fd = 7, .result = 8);
}

static void record(enum bht_recorder recorder, bool ends)
{
	about.recorder = recorder;
	about.ticks_per_ns = 1;
	about.clock = (struct bhp_clock_pair){ 5000, 5000 };
	create(4);
	put_history(ends);
	closed();
}

static struct bht_recording rec;

static void open_recording(void)
{
	const char *const traces[] = { top };

	rec = (struct bht_recording){ 0 };
	if (bht_recording_open(traces, 1, &rec, &refusal))
		fail_msg("%s", refusal.why);
	assert_int_equal(rec.n, 1);
}

/* What comes right before the beginning of the execution; 0: there is none. */
static unsigned before_begin(void)
{
	struct bht_event e;
	unsigned before = 0, found = 0, begins = 0;

	open_recording();
	for (; rec.history->next(rec.history, &e, 1) == 1; before = bht_event_id(&e)) {
		if (bht_event_id(&e) != BHP_ID_execute_begin)
			continue;
		begins++;
		found = before;
		assert_int_equal(bht_time(&e), 900);
		assert_int_equal(e.tid, LOOPER);
		assert_true(bhp_get_LOOP(&e.r) == (uintptr_t)LOOP && bhp_get_BH(&e.r) == (uintptr_t)BH);
	}
	assert_true(begins <= 1);
	bht_recording_close(&rec);
	return found;
}

static void keep_evidence(size_t n_begun)
{
	struct bht_begun begun = { (uintptr_t)LOOP, (uintptr_t)BH, 900, LOOPER };
	struct bht_evidence ev = { .pid = 4711,
				   .live = true,
				   .ticks_per_ns = 1,
				   .clock_error_ns = 250,
				   .first.ticks = 3000,
				   .last.ticks = 4000,
				   .begun = &begun,
				   .n_begun = n_begun };

	assert_int_equal(bht_evidence_write(top, &ev, &refusal), 0);
}

static void ended_without_evidence(void **state)
{
	(void)state;
	record(BHT_BY_BPF, true);
	assert_int_equal(before_begin(), BHP_ID_wait_end);
	open_recording();
	assert_false(rec.process[0].kept);
	assert_int_equal(rec.process[0].ev.recorder, BHT_BY_BPF);
	bht_recording_close(&rec);
}

static void ended_with_evidence(void **state)
{
	(void)state;
	record(BHT_BY_BPF, true);
	keep_evidence(0);
	assert_int_equal(before_begin(), BHP_ID_wait_end);
	open_recording();
	assert_true(rec.process[0].kept);
	assert_int_equal(rec.process[0].ev.recorder, BHT_BY_BPF);
	bht_recording_close(&rec);
}

static void goes_on(void **state)
{
	(void)state;
	record(BHT_BY_BPF, false);
	assert_int_equal(before_begin(), 0);
	keep_evidence(1);
	assert_int_equal(before_begin(), BHP_ID_wait_end);
}

/* A flight recorder leaves out nothing, so nothing is added. */
static void by_flight(void **state)
{
	(void)state;
	record(BHT_BY_FLIGHT, true);
	assert_int_equal(before_begin(), 0);
}

static void diagnosed(unsigned n_events, enum bht_verdict verdict)
{
	struct bht_diagnosis *d;

	open_recording();
	assert_int_equal(bht_recording_diagnose(&rec, BHT_LATE_NS, &d), 0);
	assert_int_equal(d[0].n_events, n_events);
	assert_int_equal(d[0].verdict, verdict);
	bht_diagnosis_free(&d[0]);
	free(d);
	bht_recording_close(&rec);
}

/* Events of the kernel alone are no history. */
static void kernel_does_not_count(void **state)
{
	(void)state;
	record(BHT_BY_BPF, true);
	keep_evidence(0);
	diagnosed(9, BHT_HEALTHY);
	bht_ctf_remove(dir, "history");
	create(1);
	put_event(0, LOOPER, 620, waking, .waker = PRODUCER);
	closed();
	diagnosed(0, BHT_HEALTHY);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(ended_without_evidence), TEST(ended_with_evidence), TEST(goes_on), TEST(by_flight),
		TEST(kernel_does_not_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
