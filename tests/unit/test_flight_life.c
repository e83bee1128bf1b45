/* SPDX-License-Identifier: MIT */
/* The life of rings: threads come, go and fork, with signals at bad moments. */
#include <sys/syscall.h>
#include <ucontext.h>

#include "support.h"

enum { KEPT = 32 }; /* rings of exited threads whose history is kept */

static void emit(uint64_t ticket)
{
	bhp_emit(consume, .ticket = ticket);
}

static uint32_t own_tid(void)
{
	return (uint32_t)syscall(SYS_gettid);
}

/* The record of event ID in RING that comes last, NULL when there is none. */
static const struct bhp_record *last_of(struct bhp_ring *ring, enum bhp_id id)
{
	for (uint64_t i = atomic_load(&ring->head); i-- > 0;) {
		const struct bhp_record *r = bhp_ring_slot(ring, i);
		if (bhp_record_id(r) == id)
			return r;
	}
	return NULL;
}

static unsigned count_rings(void)
{
	unsigned n = 0;

	for (struct bhp_ring *r = atomic_load(&bhp_flight_root.rings); r; r = atomic_load(&r->next))
		n++;
	assert_int_equal(n, bhp_flight_root.n_rings);
	return n;
}

/* --- threads -------------------------------------------------------------------------- */

struct visitor {
	struct bhp_ring *ring;
	uint32_t tid;
	uint64_t ticket;
};

static void *visit(void *arg)
{
	struct visitor *v = arg;

	pthread_setname_np(pthread_self(), "visitor");
	emit(v->ticket);
	v->ring = bhp_tls_ring;
	v->tid = own_tid();
	return NULL;
}

static void a_thread_leaves_its_history(void **state)
{
	(void)state;
	struct visitor v = { .ticket = 4711 };

	elsewhere(visit, &v);
	assert_int_equal(atomic_load(&v.ring->state), BHP_RING_EXITED);
	assert_int_equal(atomic_load(&v.ring->tid), v.tid);
	assert_int_equal(v.ring->pid, (uint32_t)getpid());
	assert_int_equal(bhp_decode_consume(last_of(v.ring, BHP_ID_consume)).ticket, 4711);
	struct bhp_thread mark = bhp_decode_thread(last_of(v.ring, BHP_ID_thread));
	assert_int_equal(mark.tid, v.tid);
	assert_int_equal(mark.previous, 0);
	assert_memory_equal(last_of(v.ring, BHP_ID_thread) + 1, "visitor", 7);
}

static void rings_are_taken_over_and_say_so(void **state)
{
	(void)state;
	struct visitor v[KEPT + 2];
	unsigned before = count_rings();

	for (unsigned i = 0; i < KEPT + 2; i++) {
		v[i] = (struct visitor){ .ticket = i };
		elsewhere(visit, &v[i]);
	}
	assert_true(count_rings() <= before + KEPT);
	const struct visitor *last = &v[KEPT + 1];
	struct bhp_thread mark = bhp_decode_thread(last_of(last->ring, BHP_ID_thread));
	assert_int_equal(mark.tid, last->tid);
	assert_int_not_equal(mark.previous, 0);
	assert_int_not_equal(mark.previous, last->tid);
	/* What the previous thread wrote is still there, before the mark. */
	assert_int_equal(bhp_record_id(bhp_ring_slot(last->ring, 0)), BHP_ID_thread);
}

static void thousands_of_threads_need_few_rings(void **state)
{
	(void)state;
	enum { AT_ONCE = 8, ROUNDS = 500 };
	pthread_t thread[AT_ONCE];
	struct visitor v[AT_ONCE] = { { .ticket = 1 } };

	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < AT_ONCE; i++)
			thread[i] = in_thread(visit, &v[i]);
		for (int i = 0; i < AT_ONCE; i++)
			pthread_join(thread[i], NULL);
	}
	assert_true(count_rings() <= KEPT + AT_ONCE + 1);
	assert_int_equal(atomic_load(&bhp_flight_root.dropped), 0);
}

/* Destructors of thread-specific data may still emit after the ring is gone. */
static void emit_late(void *arg)
{
	emit((uintptr_t)arg);
}

static pthread_key_t late_key;

static void *leave_late(void *arg)
{
	emit(1);
	pthread_setspecific(late_key, (void *)2);
	return arg;
}

static void late_events_give_their_ring_back(void **state)
{
	(void)state;
	unsigned live = 0;

	emit(0);                         /* so that the recorder's key is the older one */
	unsigned before = count_rings(); /* of threads that ran at once, there may be more than KEPT */
	assert_int_equal(pthread_key_create(&late_key, emit_late), 0);
	for (int i = 0; i < 3 * KEPT; i++)
		elsewhere(leave_late, NULL);
	pthread_key_delete(late_key);
	for (struct bhp_ring *r = atomic_load(&bhp_flight_root.rings); r; r = atomic_load(&r->next))
		live += atomic_load(&r->state) == BHP_RING_LIVE;
	assert_int_equal(live, 1);
	assert_true(count_rings() <= (before > KEPT + 2 ? before : KEPT + 2));
}

/* --- fork -------------------------------------------------------------------------------- */

static struct bhp_ring *parents_ring;

static void have_own_rings(void)
{
	child_check(bhp_flight_root.n_rings == 0 && !bhp_tls_ring && !atomic_load(&bhp_flight_root.rings));
	child_check(atomic_load(&bhp_flight_root.pid) == (uint32_t)getpid());
	emit(2);
	child_check(bhp_flight_root.n_rings == 1 && bhp_tls_ring->pid == (uint32_t)getpid());
	child_check(atomic_load(&bhp_tls_ring->tid) == own_tid());
	child_check(bhp_decode_thread(last_of(bhp_tls_ring, BHP_ID_thread)).previous == 0);
	child_check(bhp_decode_consume(last_of(bhp_tls_ring, BHP_ID_consume)).ticket == 2);
	child_check(WEXITSTATUS(system("true")) == 0);
	/* The loop library works there, too. */
	struct bh_loop *loop = bh_loop_new("child");
	int runs = 0;
	bh_schedule(bh_new(loop, count, &runs, "child"));
	child_check(bh_loop_poll(loop, true) == 1 && runs == 1);
	child_check(bh_loop_free(loop) == 0);
}

static void a_child_has_its_own_rings(void **state)
{
	(void)state;
	emit(1);
	parents_ring = bhp_tls_ring;
	uint64_t head = atomic_load(&parents_ring->head);
	unsigned rings = count_rings();

	assert_int_equal(in_child(have_own_rings, 10), 0);
	assert_ptr_equal(bhp_tls_ring, parents_ring);
	assert_int_equal(atomic_load(&parents_ring->head), head);
	assert_int_equal(count_rings(), rings);
	emit(3);
	assert_int_equal(bhp_decode_consume(last_of(parents_ring, BHP_ID_consume)).ticket, 3);
}

static void fork_again(void)
{
	emit(1);
	child_check(in_child(have_own_rings, 5) == 0);
	child_check(bhp_flight_root.n_rings == 1);
}

static void a_grandchild_too(void **state)
{
	(void)state;
	assert_int_equal(in_child(fork_again, 10), 0);
}

static _Atomic bool over;

static void *come_and_go(void *arg)
{
	while (!over) {
		pthread_t t;
		struct visitor v = { .ticket = 1 };
		if (pthread_create(&t, NULL, visit, &v) == 0)
			pthread_join(t, NULL);
	}
	return arg;
}

/* Locks that another thread holds while this one forks would hang the child. */
static void forks_beside_busy_threads(void **state)
{
	(void)state;
	/* TSan's own locks are not safe here, and neither are those of
	 * qemu-user 7.2: about one run in twelve hangs, in the emulator. */
	if (UNDER_TSAN || getenv("TEST_WRAPPER"))
		skip();
	over = false;
	pthread_t t = in_thread(come_and_go, NULL);
	for (int i = 0; i < 50; i++)
		assert_int_equal(in_child(have_own_rings, 10), 0);
	over = true;
	pthread_join(t, NULL);
}

/* --- interrupted at every instruction --------------------------------------------------------- */

#if defined(__x86_64__) && !UNDER_TSAN

enum { TRAP_FLAG = 0x100 };

static _Thread_local struct {
	volatile bool on;
	int now, when; /* the handler emits after so many instructions */
} step;

static void on_step(int signal_number, siginfo_t *info, void *context)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

	(void)signal_number, (void)info;
	*flags &= ~TRAP_FLAG;
	if (!step.on)
		return;
	*flags |= TRAP_FLAG;
	if (++step.now == step.when)
		emit(99);
}

static void end_steps(void *arg)
{
	*(int *)arg = step.now;
	step.on = false;
}

static pthread_key_t end_key;
static int steps_taken;

/* From the end of the thread's function to after the recorder's exit hook. */
static void *exit_in_steps(void *when)
{
	emit(1);
	pthread_setspecific(end_key, &steps_taken);
	step.when = (int)(intptr_t)when;
	step.on = true;
	raise(SIGTRAP);
	return NULL;
}

static void *begin_in_steps(void *when)
{
	step.when = (int)(intptr_t)when;
	step.on = true;
	raise(SIGTRAP);
	emit(1);
	end_steps(&steps_taken);
	/* Whatever the handler wrote came after this thread's mark. */
	struct bhp_ring *ring = bhp_tls_ring;
	uint64_t i = atomic_load(&ring->head) - 1;
	int events = 0;
	while (bhp_record_id(bhp_ring_slot(ring, i)) != BHP_ID_thread)
		events += bhp_record_id(bhp_ring_slot(ring, i--)) == BHP_ID_consume;
	child_check(bhp_decode_thread(bhp_ring_slot(ring, i)).tid == own_tid());
	child_check(events >= 1 && atomic_load(&ring->head) == atomic_load(&ring->reserved));
	return NULL;
}

/* At each instruction, or at some where a sanitizer's own are many: the work is
 * the square of their number. */
static void each_moment(void *(*f)(void *))
{
	enum { STEPS_IN_ALL = 100000 };

	struct sigaction action = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };
	pthread_t t;

	sigaction(SIGTRAP, &action, NULL);
	emit(0);
	pthread_key_create(&end_key, end_steps);
	steps_taken = 1;
	for (intptr_t when = 0; when <= steps_taken; when += 1 + steps_taken * steps_taken / STEPS_IN_ALL) {
		child_check(pthread_create(&t, NULL, f, (void *)when) == 0);
		pthread_join(t, NULL);
	}
	child_check(steps_taken > 20 && bhp_flight_root.n_rings <= KEPT + 2);
}

static void exit_at_each_moment(void)
{
	each_moment(exit_in_steps);
}

static void begin_at_each_moment(void)
{
	each_moment(begin_in_steps);
}

static void a_signal_may_come_while_a_thread_exits(void **state)
{
	(void)state;
	assert_int_equal(in_child(exit_at_each_moment, 20), 0);
}

static void a_signal_may_come_while_a_thread_begins(void **state)
{
	(void)state;
	assert_int_equal(in_child(begin_at_each_moment, 20), 0);
}

#else

static void a_signal_may_come_while_a_thread_exits(void **state)
{
	(void)state;
	skip(); /* single steps: x86-64, and not through TSan's own code */
}

static void a_signal_may_come_while_a_thread_begins(void **state)
{
	(void)state;
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_leaves_its_history),
		cmocka_unit_test(rings_are_taken_over_and_say_so),
		cmocka_unit_test(thousands_of_threads_need_few_rings),
		cmocka_unit_test(late_events_give_their_ring_back),
		cmocka_unit_test(a_child_has_its_own_rings),
		cmocka_unit_test(a_grandchild_too),
		cmocka_unit_test(forks_beside_busy_threads),
		cmocka_unit_test(a_signal_may_come_while_a_thread_exits),
		cmocka_unit_test(a_signal_may_come_while_a_thread_begins),
	};

	return cmocka_run_group_tests_name("flight_life", tests, NULL, NULL);
}
