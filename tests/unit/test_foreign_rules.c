/* SPDX-License-Identifier: MIT */
/* What the rules say of loops that were never instrumented; never a finding of a healthy one. */
#include "foreign_story.h"

/* The main loop of QEMU is in a context of GLib. */
static void qemu_in_glib(struct story *s)
{
	qemu(s);
	story_more(s, 2, 0);
	both(s, loop[1].traits, GLIB);
	strcpy(s->first.loop[1].adapter, "glib");
	strcpy(s->last.loop[1].adapter, "glib");
}

static void qemu_due(struct story *s)
{
	qemu(s);
	due(s);
}

static void qemu_due_and_counted_awake(struct story *s)
{
	qemu_due(s);
	both(s, loop[0].notify_me, BHP_LOOP_AWAKE);
}

static void qemu_throttled(struct story *s)
{
	qemu_due(s);
	both(s, bh[0].flags, BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED | BHP_FLAG_IDLE);
	both(s, loop[0].wait_timeout_ns, 10000000);
}

static void due_without_a_notifier(struct story *s)
{
	libuv_due(s);
	both(s, loop[0].notifier_fd, -1);
	both(s, loop[0].notifier_count, -1);
}

static void due_with_a_count_not_read(struct story *s)
{
	libuv_due(s);
	both(s, loop[0].notifier_count, -1);
}

static void due_and_a_thread_is_held(struct story *s)
{
	qemu_due(s);
	both(s, thread[2].state, 't');
}

static void due_and_producer_preempted(struct story *s)
{
	libuv_due(s);
	both(s, thread[1].state, 'R');
	both(s, thread[1].syscall, BHT_SYSCALL_RUNNING);
}

static void due_and_producer_waits_for_a_page(struct story *s)
{
	libuv_due(s);
	both(s, thread[1].state, 'D');
	both(s, thread[1].syscall, BHT_SYSCALL_RUNNING);
}

static void due_and_producer_writes(struct story *s)
{
	libuv_due(s);
	both(s, thread[1].syscall, SYS_write);
	both(s, thread[1].args[0], 5);
}

static void due_and_producer_went_on(struct story *s)
{
	due_and_producer_preempted(s);
	s->last.thread[1].cpu_ns = 5000000;
}

static void due_since_a_moment(struct story *s)
{
	libuv_due(s);
	s->first.bh[0].flags = 0;
}

static void written_and_not_watched(struct story *s)
{
	libuv_due(s);
	both(s, loop[0].notifier_count, 1);
	both(s, loop[0].notifier_watched, 0);
}

static void written_and_watched(struct story *s)
{
	libuv_due(s);
	both(s, loop[0].notifier_count, 1);
}

static void about_to_wake(struct story *s)
{
	written_and_watched(s);
	s->first.loop[0].notifier_count = 0;
}

/* --- not in its wait */

static void asleep_in(struct story *s, enum bhp_where where)
{
	libuv(s);
	both(s, loop[0].where, where);
	both(s, thread[0].syscall, SYS_futex);
	both(s, thread[0].args[0], 0xdef0);
}

static void asleep_in_a_callback(struct story *s)
{
	asleep_in(s, BHP_IN_FD);
}

static void asleep_in_a_known_callback(struct story *s)
{
	asleep_in(s, BHP_IN_BH);
	both(s, loop[0].current, (uintptr_t)BH);
	both(s, loop[0].current_callback, 0x4000);
}

static void glib_asleep_in_a_callback(struct story *s)
{
	glib(s);
	both(s, loop[0].where, BHP_IN_FD);
	both(s, thread[0].syscall, SYS_read);
}

static void asleep_for_a_lock(struct story *s)
{
	asleep_in_a_callback(s);
	both(s, thread[0].lock_owner, OTHER);
	both(s, thread[0].args[0], 0xabc0);
	strcpy(s->last.thread[2].name, "holder");
}

static void asleep_outside(struct story *s)
{
	asleep_in(s, BHP_OUTSIDE);
}

static void asleep_outside_and_due(struct story *s)
{
	asleep_outside(s);
	due(s);
}

static void asleep_somewhere(struct story *s)
{
	asleep_in(s, BHP_DISPATCH);
}

static void asleep_somewhere_and_due(struct story *s)
{
	asleep_somewhere(s);
	due(s);
}

/* Its thread does something else, and the loop is not needed. */
static void active_outside(struct story *s)
{
	asleep_outside(s);
	s->last.thread[0].switches += 3;
	story_more(s, 2, 1);
	both(s, loop[1].owner, OTHER);
	both(s, loop[1].traits, LIBEVENT);
	both(s, loop[1].protocol, BHP_PROTOCOL_FULL_BARRIER);
	both(s, thread[2].syscall, SYS_ppoll);
}

static void spins_in(struct story *s, enum bhp_where where)
{
	asleep_in(s, where);
	both(s, thread[0].state, 'R');
	both(s, thread[0].syscall, BHT_SYSCALL_RUNNING);
	s->last.thread[0].cpu_ns = WATCHED_NS;
}

static void spins_in_a_callback(struct story *s)
{
	spins_in(s, BHP_IN_FD);
}

static void spins_somewhere(struct story *s)
{
	spins_in(s, BHP_DISPATCH);
}

static void spins_somewhere_and_due(struct story *s)
{
	spins_somewhere(s);
	due(s);
}

static void spins_outside(struct story *s)
{
	spins_in(s, BHP_OUTSIDE);
}

static void spins_outside_and_due(struct story *s)
{
	spins_outside(s);
	due(s);
}

static void glib_on_cpu(struct story *s)
{
	spins_in_a_callback(s);
	both(s, loop[0].traits, GLIB);
}

static void glib_turned_in_between(struct story *s)
{
	glib_on_cpu(s);
	s->first.loop[0].where = BHP_WAIT;
}

static void glib_woke_and_sleeps(struct story *s)
{
	glib(s);
	s->last.thread[0].switches += 2;
}

static void turns_with_one_due(struct story *s)
{
	libuv_due(s);
	s->last.loop[0].iteration++;
	s->last.thread[0].switches += 2;
}

static void turns(struct story *s)
{
	turns_with_one_due(s);
	s->last.bh[0].flags = 0;
}

/* --- nobody's */

static void owner_gone(struct story *s)
{
	libuv_due(s);
	both(s, loop[0].owner, 99);
	both(s, loop[0].where, BHP_OUTSIDE);
}

static void nobodys_and_due(struct story *s)
{
	libuv_due(s);
	both(s, loop[0].owner, 0);
	both(s, loop[0].where, BHP_OUTSIDE);
	both(s, thread[0].syscall, SYS_futex);
}

static void nobodys_and_due_while_others_run(struct story *s)
{
	nobodys_and_due(s);
	both(s, thread[3].state, 'R');
	s->last.thread[3].cpu_ns = WATCHED_NS;
}

static void nobodys_and_due_since_a_moment(struct story *s)
{
	nobodys_and_due(s);
	s->ev.last.ticks = s->ev.first.ticks + 20000000;
}

static void nobodys(struct story *s)
{
	nobodys_and_due(s);
	both(s, bh[0].flags, 0);
}

static void one_left_over(struct story *s)
{
	libevent(s);
	story_more(s, 2, 0);
	both(s, loop[1].owner, 0);
	both(s, loop[1].where, BHP_OUTSIDE);
}

static void owner_in_another_loop(struct story *s)
{
	glib(s);
	due(s);
	story_more(s, 2, 1);
	both(s, loop[0].where, BHP_OUTSIDE);
	both(s, loop[0].notifier_watched, 0);
}

/* clang-format off */
static const struct said table[] = {
	SAID(libuv, NOTHING(UNDECIDABLE), { "--witness", "bhtrace run", "--via bpf", "libuv" }),
	SAID(glib, NOTHING(UNDECIDABLE), { "--witness", "keeps for itself" }),
	SAID(libevent, NOTHING(HEALTHY), { NULL }),
	SAID(qemu_in_glib, NOTHING(HEALTHY), { NULL }),
	SAID(qemu, NOTHING(HEALTHY), { NULL }),
	SAID(libuv_due, FOUND(NOTIFY_STOLEN, SUSPECTED), { "lost", "notify-missing", "bpf", "!notify-skipped" }),
	SAID(qemu_due, FOUND(NOTIFY_MISSING, SUSPECTED), { "notify-skipped", "notify-stolen", "!libuv" }),
	SAID(qemu_due_and_counted_awake, FOUND(NOTIFY_SKIPPED, SUSPECTED), { "notify_me = 0" }),
	SAID(qemu_throttled, NOTHING(HEALTHY), { NULL }),
	SAID(due_without_a_notifier, FOUND(NOTIFY_MISSING, SUSPECTED), { "no notifier" }),
	SAID(due_with_a_count_not_read, NOTHING(UNDECIDABLE), { "could not be read" }),
	SAID(due_and_a_thread_is_held, FOUND(PRODUCER_STOPPED, SUSPECTED), { "tid 12" }),
	SAID(due_and_producer_preempted, NOTHING(UNDECIDABLE), { "thread 11 (state R)" }),
	SAID(due_and_producer_waits_for_a_page, NOTHING(UNDECIDABLE), { "thread 11 (state D)" }),
	SAID(due_and_producer_writes, NOTHING(UNDECIDABLE), { "thread 11" }),
	SAID(due_and_producer_went_on, FOUND(NOTIFY_STOLEN, SUSPECTED), { NULL }),
	SAID(due_since_a_moment, NOTHING(UNDECIDABLE), { NULL }),
	SAID(written_and_not_watched, FOUND(FD_UNWATCHED, PROVED), { NULL }),
	SAID(written_and_watched, FOUND(KERNEL_LOST_WAKE, CONSISTENT), { NULL }),
	SAID(about_to_wake, NOTHING(UNDECIDABLE), { NULL }),
	SAID(asleep_in_a_callback, FOUND(CALLBACK_BLOCKED, CONSISTENT), { "futex", "!has run", "!0x0", "A callback" }),
	SAID(asleep_in_a_known_callback, FOUND(CALLBACK_BLOCKED, CONSISTENT), { "0x4000", "!has run" }),
	SAID(glib_asleep_in_a_callback, FOUND(CALLBACK_BLOCKED, CONSISTENT), { "read" }),
	SAID(asleep_for_a_lock, FOUND(CALLBACK_BLOCKED, CONSISTENT), { "0xabc0", "holder (tid 12)" }),
	SAID(asleep_outside, NOTHING(UNDECIDABLE), { "futex" }),
	SAID(asleep_outside_and_due, FOUND(LOOP_BLOCKED, SUSPECTED), { "futex" }),
	SAID(asleep_somewhere, NOTHING(UNDECIDABLE), { "futex" }),
	SAID(asleep_somewhere_and_due, FOUND(LOOP_BLOCKED, SUSPECTED), { "futex" }),
	SAID(active_outside, NOTHING(HEALTHY), { NULL }),
	SAID(spins_in_a_callback, FOUND(CALLBACK_SPINNING, CONSISTENT), { "A callback", "600 ms", "!0x0", "!has run" }),
	SAID(spins_somewhere, FOUND(CALLBACK_SPINNING, SUSPECTED), { "left the loop" }),
	SAID(spins_somewhere_and_due, FOUND(CALLBACK_SPINNING, CONSISTENT), { NULL }),
	SAID(spins_outside, NOTHING(UNDECIDABLE), { "nothing is scheduled" }),
	SAID(spins_outside_and_due, FOUND(CALLBACK_SPINNING, SUSPECTED), { NULL }),
	SAID(glib_on_cpu, NOTHING(UNDECIDABLE), { "does not count its turns" }),
	SAID(glib_turned_in_between, NOTHING(HEALTHY), { NULL }),
	SAID(glib_woke_and_sleeps, NOTHING(HEALTHY), { NULL }),
	SAID(turns, NOTHING(HEALTHY), { NULL }),
	SAID(turns_with_one_due, NOTHING(UNDECIDABLE), { "not counted" }),
	SAID(owner_gone, FOUND(STRANDED, CONSISTENT), { "tid 99" }),
	SAID(nobodys_and_due, FOUND(STRANDED, SUSPECTED), { "held up elsewhere", "main thread", "futex" }),
	SAID(nobodys_and_due_while_others_run, NOTHING(UNDECIDABLE), { "no thread was seen" }),
	SAID(nobodys_and_due_since_a_moment, NOTHING(UNDECIDABLE), { "no thread was seen" }),
	SAID(nobodys, NOTHING(UNDECIDABLE), { "no thread was seen" }),
	SAID(one_left_over, NOTHING(HEALTHY), { NULL }),
	SAID(owner_in_another_loop, NOTHING(UNDECIDABLE), { "\"aux\"" }),
	SAID(flags_not_known, NOTHING(UNDECIDABLE), { "cannot be read" }),
};
/* clang-format on */

static void without_a_history(void **state)
{
	CHECK_SAID(*state, table);
}

/* Undecidable in one sentence, however many loops and bottom halves there are. */
static void one_reason(void **state)
{
	struct story *s = *state;
	struct bht_diagnosis d;

	libuv(s);
	story_more(s, 2, 2);
	both(s, bh[1].loop, (uintptr_t)AUX);
	both(s, loop[1].owner, OTHER);
	both(s, thread[2].syscall, SYS_epoll_pwait);
	diagnose(s, false, &d);
	assert_int_equal(d.n_reasons, 1);
	bht_diagnosis_free(&d);
}

/* Through probes: the schedule that set the flag is known, and decides as it does for libbh. */
static void recorded_through_probes(void **state)
{
	struct story *s = *state;
	struct bht_diagnosis d;

	qemu_due(s);
	story_executed(s, BH, 800000, 800100);
	story_sleeps(s, 900000);
	tell(s, PRODUCER, 1000000, schedule, .loop = LOOP, .bh = BH, .seen = 0);
	tell(s, PRODUCER, 1000100, notify, .loop = LOOP, .bh = BH, .notify_me = BHP_LOOP_AWAKE);
	story_diagnose(s, &d);
	assert_int_equal(d.n_findings, 1);
	assert_int_equal(d.findings[0].rule, BHT_RULE_NOTIFY_SKIPPED);
	assert_int_equal(d.findings[0].confidence, BHT_PROVED);
	bht_diagnosis_free(&d);
}

/* --- no healthy state gives a finding ---------------------------------------------------------------------- */

static uint64_t seed;

static unsigned roll(unsigned n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(seed >> 33) % n;
}

/* A thread that is no loop's does anything; it is not held. */
static void stranger(struct story *s, unsigned t)
{
	static const long calls[] = { SYS_futex, SYS_read, SYS_ppoll, BHT_SYSCALL_RUNNING, BHT_SYSCALL_UNKNOWN };

	s->first.thread[t].state = "SRDS"[roll(4)];
	s->last.thread[t].state = "SRDS"[roll(4)];
	s->first.thread[t].syscall = calls[roll(5)];
	s->last.thread[t].syscall = calls[roll(5)];
	s->last.thread[t].switches += roll(3);
	s->last.thread[t].cpu_ns += roll(2) * 1000000000u;
}

/* The loop gets on in one of the ways that there are. */
static void gets_on(struct story *s)
{
	struct bht_loop *first = &s->first.loop[0], *last = &s->last.loop[0];
	const bool counts = !(last->traits & BHT_TRAIT_CANNOT_TURN);
	static const enum bhp_where places[] = { BHP_OUTSIDE, BHP_DISPATCH, BHP_WAIT, BHP_IN_BH, BHP_IN_FD };

	first->where = places[roll(5)];
	last->where = places[roll(5)];
	last->iteration += counts;
	s->last.thread[0].switches += 1 + roll(5);
	s->last.thread[0].state = last->where == BHP_WAIT ? 'S' : "SR"[roll(2)];
	s->last.thread[0].cpu_ns += roll(2) * 400000000u;
	if (roll(2))
		s->first.bh[0].flags = BHP_FLAG_SCHEDULED;
	if (roll(2))
		s->last.bh[0].flags = BHP_FLAG_SCHEDULED;
	first->notifier_count = roll(2);
	last->notifier_count = roll(2);
}

/* A schedule is on its way, its producer lost the CPU or a page; or the eventfd has just been written. */
static void is_being_told(struct story *s)
{
	both(s, bh[0].flags, BHP_FLAG_SCHEDULED);
	if (roll(2)) {
		s->first.thread[1] = s->last.thread[1];
		both(s, thread[1].state, "RD"[roll(2)]);
		both(s, thread[1].syscall, BHT_SYSCALL_RUNNING);
	} else {
		s->last.loop[0].notifier_count = 1;
	}
}

static void healthy(struct story *s)
{
	static const uint32_t kinds[] = { LIBUV, GLIB, QEMU, GLIB | BHT_TRAIT_FLAG_UNKNOWN,
					  LIBUV | BHT_TRAIT_LISTS_PENDING };
	const uint32_t traits = kinds[roll(5)];

	begin(s, "libuv", traits, traits & BHT_TRAIT_ASKS ? BHP_PROTOCOL_FULL_BARRIER : 0);
	if (traits & BHT_TRAIT_CANNOT_TURN)
		both(s, loop[0].iteration, 0);
	for (unsigned t = 1; t < STORY_THREADS; t++)
		stranger(s, t);
	both(s, loop[0].notifier_watched, (int)roll(3) - 1);
	both(s, loop[0].wait_timeout_ns, roll(2) ? -1 : 100000000);
	switch (roll(3)) {
	case 0: /* idle */
		break;
	case 1:
		gets_on(s);
		break;
	default:
		is_being_told(s);
		break;
	}
	if (roll(2))
		witness(s, roll(2), false);
}

static void healthy_states(void **state)
{
	struct story *s = *state;
	struct bht_diagnosis d;

	for (unsigned i = 0; i < 50000; i++) {
		seed = i;
		healthy(s);
		diagnose(s, roll(2), &d);
		if (d.n_findings) {
			char name[32];
			snprintf(name, sizeof(name), "seed %u", i);
			print_said(name, &d);
		}
		assert_int_equal(d.n_findings, 0);
		bht_diagnosis_free(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_history),
		cmocka_unit_test(one_reason),
		cmocka_unit_test(recorded_through_probes),
		cmocka_unit_test(healthy_states),
	};

	return cmocka_run_group_tests(tests, story_setup, story_teardown);
}
