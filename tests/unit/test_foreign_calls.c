/* SPDX-License-Identifier: MIT */
/* The calls of threads that sleep and that run, seen from /proc as those of another process would be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "foreign/foreign_parts.h"
#include "sources/process.h"

static struct {
	int pipe[2];
	_Atomic uint32_t tid;
	_Atomic bool stop;
	struct bht_process process;
	struct bht_images images;
	struct bht_foreign f;
	struct bht_refusal refusal;
} t;

/* What follows each call keeps it from being a jump. */
static __attribute__((noinline)) int sleeper(void)
{
	char c;
	int n = (int)read(t.pipe[0], &c, 1);

	atomic_store(&t.stop, true);
	return n;
}

/* It asks for its frame, so it keeps a frame pointer, which nobody has saved where the thread sleeps. */
static __attribute__((noinline)) int with_frame_pointer(void)
{
	void *volatile frame = __builtin_frame_address(0);

	return sleeper() + (frame == NULL);
}

static __attribute__((noinline)) int spinner(void)
{
	while (!atomic_load(&t.stop))
		;
	return 1;
}

static void *sleep_in_it(void *arg)
{
	atomic_store(&t.tid, (uint32_t)gettid());
	return (void *)(intptr_t)(with_frame_pointer() + (arg != NULL));
}

static void *spin_in_it(void *arg)
{
	atomic_store(&t.tid, (uint32_t)gettid());
	return (void *)(intptr_t)(spinner() + (arg != NULL));
}

static int setup(void **state)
{
	(void)state;
	t.process.pidfd = -1;
	assert_int_equal(pipe(t.pipe), 0);
	assert_int_equal(bht_process_open(&t.process, (uint32_t)getpid(), &t.refusal), 0);
	assert_int_equal(bht_images_of_process(t.process.pid, &t.process.mem, &t.images, &t.refusal), 0);
	t.f.target = bht_process_target(&t.process, &t.images);
	t.stop = false;
	t.tid = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bht_foreign_tables_free(&t.f);
	t.f = (struct bht_foreign){ .n_tables = 0 };
	bht_images_free(&t.images);
	bht_process_close(&t.process);
	close(t.pipe[0]);
	close(t.pipe[1]);
	return 0;
}

static struct bht_thread start(pthread_t *id, void *(*run)(void *))
{
	assert_int_equal(pthread_create(id, NULL, run, NULL), 0);
	while (!atomic_load(&t.tid))
		;
	assert_int_equal(bht_process_remap(&t.process), 0);
	return (struct bht_thread){ .tid = atomic_load(&t.tid) };
}

/* The place of FUNCTION among the calls. */
static size_t find_call(const uint64_t *pc, size_t n, uintptr_t function)
{
	size_t i = 0;

	while (i < n && bht_foreign_function(&t.f, pc[i] - 1) != function)
		i++;
	assert_true(i < n);
	return i;
}

static void test_asleep(void **state)
{
	struct bht_registers registers = { .known = 0 };
	uint64_t pc[BHT_FRAMES_MAX] = { 0 }, end = 0;
	enum bht_stack_known known;
	pthread_t id;
	bool whole;

	(void)state;
	const struct bht_thread thread = start(&id, sleep_in_it);
	while ((known = bht_process_stack(&t.process, &thread, &registers, &end)) == BHT_STACK_SOMEWHERE)
		;
	assert_int_equal(known, BHT_STACK_EXACT);
	assert_true(registers.value[BHT_REGISTER_SP] < end);
	const size_t n = bht_foreign_unwind(&t.f, &registers, pc, &whole);
#if defined(__x86_64__)
	assert_true(whole);
	const size_t inner = find_call(pc, n, (uintptr_t)sleeper);
	const size_t outer = find_call(pc, n, (uintptr_t)with_frame_pointer);
	assert_true(inner > 0 && outer == inner + 1);
	assert_int_equal(find_call(pc, n, (uintptr_t)sleep_in_it), outer + 1);
#else
	assert_int_equal(n, 0);
#endif
	assert_int_equal(write(t.pipe[1], "", 1), 1);
	pthread_join(id, NULL);
}

static void test_running(void **state)
{
	struct bht_registers registers = { .known = 0 };
	uint64_t pc[BHT_FRAMES_MAX] = { 0 }, end = 0;
	bool whole = false, sampled = false;
	pthread_t id;

	(void)state;
	const struct bht_thread thread = start(&id, spin_in_it);
	/* Without a processor it has no clock. */
	for (t.process.running_max = 200; !sampled && t.process.running_max;)
		sampled = bht_process_running(&t.process, &thread, &registers);
	const enum bht_stack_known known =
		bht_process_stack(&t.process, &thread, &(struct bht_registers){ .known = 0 }, &end);
	const size_t n = sampled ? bht_foreign_unwind(&t.f, &registers, pc, &whole) : 0;
	atomic_store(&t.stop, true);
	pthread_join(id, NULL);
	assert_int_not_equal(known, BHT_STACK_UNKNOWN);
	if (!sampled)
		skip(); /* perf_event_open() is not permitted */
#if defined(__x86_64__)
	assert_true(whole);
	assert_int_equal(find_call(pc, n, (uintptr_t)spin_in_it), find_call(pc, n, (uintptr_t)spinner) + 1);
#else
	assert_int_equal(n, 0);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_asleep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_running, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
