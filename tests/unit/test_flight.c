/* SPDX-License-Identifier: MIT */
/*
 * A ring while it is written: what a concurrent reader and an interrupting
 * signal handler find. Events count per source, so that a lost, doubled or
 * torn one shows.
 */
#include <sys/uio.h>
#include <ucontext.h>

#include "support.h"

enum { CAPACITY = BHP_RING_DEFAULT / sizeof(struct bhp_record), RUN_MS = 400 };
enum source { THREAD = 1, HANDLER = 2 };

/* Every word depends on the number: a torn record contradicts itself. */
static void emit_number(enum source source, uint64_t number)
{
	bhp_emit_at(consume, number * 3, .loop = (void *)(uintptr_t)source, .bh = (void *)(uintptr_t)(number * 5),
		    .ticket = number);
}

static bool intact(const struct bhp_record *r)
{
	struct bhp_consume e = bhp_decode_consume(r);

	return bhp_record_id(r) == BHP_ID_consume && r->word[0] == e.ticket * 3 && (uintptr_t)e.bh == e.ticket * 5;
}

/* The numbers of each source must follow one another; 0 at the beginning. */
struct checker {
	uint64_t last[3];
	uint64_t checked;
	const char *complaint;
};

static void check_record(struct checker *c, const struct bhp_record *r)
{
	if (bhp_record_id(r) != BHP_ID_consume)
		return;
	struct bhp_consume e = bhp_decode_consume(r);
	uintptr_t source = (uintptr_t)e.loop;

	if (!intact(r) || source < THREAD || source > HANDLER)
		c->complaint = "torn";
	else if (c->last[source] && e.ticket != c->last[source] + 1)
		c->complaint = e.ticket > c->last[source] ? "lost" : "out of order";
	else
		c->last[source] = e.ticket;
	c->checked++;
}

/* --- the reader ------------------------------------------------------------------------ */

static bool copy(void *to, const void *from, size_t size)
{
	struct iovec local = { to, size }, remote = { (void *)from, size };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)size;
}

/* What flight.h promises to a reader that knows nothing else: the records in
 * [from, head), some of which may have been overwritten: *LOST of them. */
static void read_ring(const struct bhp_ring *ring, uint64_t *from, struct checker *c, uint64_t *lost)
{
	static struct bhp_record records[CAPACITY];
	uint64_t head, reserved;

	if (!copy(&head, (void *)&ring->head, sizeof(head)) ||
	    !copy(records, bhp_ring_slot((struct bhp_ring *)ring, 0), sizeof(records)) ||
	    !copy(&reserved, (void *)&ring->reserved, sizeof(reserved))) {
		c->complaint = strerror(errno);
		return;
	}
	if (head < *from)
		c->complaint = "head went back";
	uint64_t first = reserved > CAPACITY ? reserved - CAPACITY : 0;
	if (first > *from) {
		*lost += first - *from;
		memset(c->last, 0, sizeof(c->last));
		*from = first;
	}
	for (; *from < head; ++*from)
		check_record(c, &records[*from & (CAPACITY - 1)]);
}

/* --- a writer in a thread ------------------------------------------------------------------ */

static _Atomic bool over;
static struct bhp_ring *_Atomic writers_ring;
static uint64_t emitted[3];

static void *write_numbers(void *arg)
{
	uint64_t n = 0;

	emitted[HANDLER] = 0;
	emit_number(THREAD, ++n);
	atomic_store(&writers_ring, bhp_tls_ring);
	while (!over)
		emit_number(THREAD, ++n);
	emitted[THREAD] = n;
	return arg;
}

static void on_timer(int signal_number)
{
	(void)signal_number;
	/* Timers fire in any thread that has a ring and writes numbers. */
	if (bhp_tls_ring && bhp_tls_ring == atomic_load(&writers_ring))
		for (int i = 0; i < 3; i++)
			emit_number(HANDLER, ++emitted[HANDLER]);
}

static void read_beside_writer(struct checker *c, int tid_signal)
{
	uint64_t from = 0, lost = 0, end = bh_now_ns() + RUN_MS * MS;

	over = false;
	writers_ring = NULL;
	pthread_t t = in_thread(write_numbers, NULL);
	while (!writers_ring)
		;
	while (bh_now_ns() < end && !c->complaint) {
		if (tid_signal)
			pthread_kill(t, tid_signal);
		read_ring(writers_ring, &from, c, &lost);
	}
	over = true;
	pthread_join(t, NULL);
	read_ring(writers_ring, &from, c, &lost);
	assert_null(c->complaint);
	assert_true(c->checked > 10000);
	assert_int_equal(c->last[THREAD], emitted[THREAD]);
	assert_int_equal(from, atomic_load(&writers_ring->reserved));
}

static void a_concurrent_reader_gets_whole_records_in_order(void **state)
{
	(void)state;
	struct checker c = { .checked = 0 };

	read_beside_writer(&c, 0);
}

static void signals_interrupt_a_writer_that_is_read(void **state)
{
	(void)state;
	struct checker c = { .checked = 0 };
	struct sigaction action = { .sa_handler = on_timer };

	sigaction(SIGUSR1, &action, NULL);
	read_beside_writer(&c, SIGUSR1);
	assert_true(emitted[HANDLER] > 100 || UNDER_TSAN); /* it delays handlers */
}

/* --- a writer and its own timer ---------------------------------------------------------------- */

static struct checker check_own_ring(uint64_t from)
{
	struct checker c = { .checked = 0 };
	uint64_t lost = 0;

	read_ring(bhp_tls_ring, &from, &c, &lost);
	return c;
}

static timer_t start_timer(long interval_ns)
{
	struct sigevent to_me = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
	struct itimerspec t = { { 0, interval_ns }, { 0, interval_ns } };
	timer_t timer;

	assert_int_equal(timer_create(CLOCK_MONOTONIC, &to_me, &timer), 0);
	assert_int_equal(timer_settime(timer, 0, &t, NULL), 0);
	return timer;
}

static void a_fast_timer_loses_and_tears_nothing(void **state)
{
	(void)state;
	struct sigaction action = { .sa_handler = on_timer, .sa_flags = SA_RESTART };
	uint64_t n = 0, end = bh_now_ns() + RUN_MS * MS;

	emit_number(THREAD, ++n);
	uint64_t begin = atomic_load(&bhp_tls_ring->head);
	writers_ring = bhp_tls_ring;
	emitted[HANDLER] = 0;
	sigaction(SIGUSR2, &action, NULL);
	timer_t timer = start_timer(20000);
	while (bh_now_ns() < end) {
		for (int i = 0; i < CAPACITY / 16; i++)
			emit_number(THREAD, ++n);
		struct checker c = check_own_ring(begin);
		assert_null(c.complaint);
		/* Handlers may have come since the copy, never the thread. */
		assert_int_equal(c.last[THREAD], n);
	}
	timer_delete(timer);
	assert_true(emitted[HANDLER] > 100 || UNDER_TSAN);
	assert_int_equal(check_own_ring(begin).last[HANDLER], emitted[HANDLER]);
	assert_int_equal(atomic_load(&bhp_tls_ring->head), atomic_load(&bhp_tls_ring->reserved));
}

/* --- interrupted at every instruction -------------------------------------------------------------- */

#if defined(__x86_64__) && !UNDER_TSAN

enum { TRAP_FLAG = 0x100 };

static struct {
	volatile bool on;
	int now;           /* instructions so far */
	int first, second; /* the handler emits after these */
	uint64_t head;
	bool head_fell, read_torn;
} step;

/* Sees the ring as a reader that comes at this moment. */
static void look(void)
{
	uint64_t head = atomic_load(&bhp_tls_ring->head);

	step.head_fell |= head < step.head;
	step.head = head;
	step.read_torn |= !intact(bhp_ring_slot(bhp_tls_ring, head - 1));
}

static void on_step(int signal_number, siginfo_t *info, void *context)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

	(void)signal_number, (void)info;
	if (!step.on) {
		*flags &= ~TRAP_FLAG;
		return;
	}
	*flags |= TRAP_FLAG;
	step.now++;
	look();
	if (step.now == step.first || step.now == step.second) {
		emit_number(HANDLER, ++emitted[HANDLER]);
		look();
	}
}

/* Emits one event, interrupted after FIRST and SECOND instructions. The number
 * of instructions it took. */
static int emit_in_steps(int first, int second, uint64_t number)
{
	step.now = 0;
	step.first = first;
	step.second = second;
	step.on = true;
	raise(SIGTRAP);
	emit_number(THREAD, number);
	step.on = false;
	return step.now;
}

static void every_interruption_leaves_a_whole_ring(void **state)
{
	(void)state;
	struct sigaction action = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO }, before;
	uint64_t n = 0;

	emitted[HANDLER] = 0;
	emit_number(THREAD, ++n);
	uint64_t begin = atomic_load(&bhp_tls_ring->head);
	step.head = begin;
	sigaction(SIGTRAP, &action, &before);
	int length = emit_in_steps(0, 0, ++n);
	/* Pairs only where they are cheap: not in code with a sanitizer in it. */
	int apart = length < 120 ? 12 : 0;

	for (int first = 1; first <= length; first++)
		for (int second = first; second <= first + apart; second++) {
			emit_in_steps(first, second, ++n);
			struct bhp_ring *ring = bhp_tls_ring;
			assert_int_equal(atomic_load(&ring->head), atomic_load(&ring->reserved));
			assert_false(step.read_torn);
			if (step.head_fell)
				fail_msg("head fell: interrupted after %d and %d of %d instructions", first, second,
					 length);
		}
	sigaction(SIGTRAP, &before, NULL);
	struct checker c = check_own_ring(begin);
	assert_null(c.complaint);
	assert_int_equal(c.last[THREAD], n);
	assert_int_equal(c.last[HANDLER], emitted[HANDLER]);
}

#else

static void every_interruption_leaves_a_whole_ring(void **state)
{
	(void)state;
	skip(); /* single steps: x86-64, and not through TSan's own code */
}

#endif

/* --- wrap ------------------------------------------------------------------------------------------ */

static void a_full_ring_keeps_the_newest(void **state)
{
	(void)state;
	uint64_t n = 0;

	for (int i = 0; i < 3 * CAPACITY + 7; i++)
		emit_number(THREAD, ++n);
	assert_int_equal(bhp_tls_ring->capacity, CAPACITY);
	struct checker c = check_own_ring(0);
	assert_null(c.complaint);
	assert_int_equal(c.checked, CAPACITY);
	assert_int_equal(c.last[THREAD], n);
}

/* Text continuations that cross the end of the ring stay in order. */
static void groups_wrap_too(void **state)
{
	(void)state;
	static const char name[] = "forty-eight characters are two continuation rec.";

	for (int i = 0; i < CAPACITY; i++) {
		bhp_emit(bh_new, .name = name);
		uint64_t head = atomic_load(&bhp_tls_ring->head);
		const struct bhp_record *last = bhp_ring_slot(bhp_tls_ring, head - 1);
		assert_memory_equal(&last->word[0], name + 24, 8);
		assert_memory_equal(&last->word[2], name + 32, 16);
		assert_int_equal(bhp_record_id(bhp_ring_slot(bhp_tls_ring, head - 3)), BHP_ID_bh_new);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_concurrent_reader_gets_whole_records_in_order),
		cmocka_unit_test(signals_interrupt_a_writer_that_is_read),
		cmocka_unit_test(a_fast_timer_loses_and_tears_nothing),
		cmocka_unit_test(every_interruption_leaves_a_whole_ring),
		cmocka_unit_test(a_full_ring_keeps_the_newest),
		cmocka_unit_test(groups_wrap_too),
	};

	return cmocka_run_group_tests_name("flight", tests, NULL, NULL);
}
