/* SPDX-License-Identifier: MIT */
/* Loops in synthetic memory: what is a loop and what is none, and lists that are damaged or change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "fake_memory.h"
#include "foreign/foreign_parts.h"

enum { N = 4, EVENTFD = 7, EPOLL = 9, SOCKET = 5, STACK = 64, CODE = 0x1000000 };

struct link {
	struct link *next, *prev;
};

struct bh {
	struct loop *loop;
	uint64_t callback;
	uint64_t *behind; /* the callback, behind a pointer */
	const char *name;
	struct link link;
	struct bh *next;
	uint32_t flag;
};

struct loop {
	int32_t poll_fd, notifier_fd;
	uint64_t iteration;
	uint32_t notify_me;
	uint8_t notified;
	struct link bhs;
	void *first;
	int32_t n_queues;
};

static struct {
	struct fake_memory fake;
	struct loop loop, other;
	struct bh bh[N];
	uint64_t stack[STACK];
	struct bht_adapter adapter;
	struct bht_layout layout;
	struct bht_scheme scheme;
	struct bht_foreign *f;
	struct bht_images images;
	struct bht_sample sample;
	struct bht_evidence ev;
	struct bht_thread thread;
	struct bht_refusal refusal;
	int eventfd_kind;
} t;

static bool executable(void *arg, uint64_t addr)
{
	(void)arg;
	return addr >= CODE && addr < CODE + 0x1000;
}

static bool writable(void *arg, uint64_t addr)
{
	(void)arg;
	return fake_find(&t.fake, addr, 1) != NULL;
}

static int descriptor(void *arg, int32_t fd)
{
	(void)arg;
	return fd == EVENTFD ? t.eventfd_kind : fd == EVENTFD + 1 ? 'e' : fd == EPOLL ? 'p' : fd == SOCKET ? 's' : 0;
}

static enum bht_stack_known stack(void *arg, const struct bht_thread *thread, struct bht_registers *registers,
				  uint64_t *end)
{
	(void)arg;
	(void)thread;
	registers->value[BHT_REGISTER_SP] = (uintptr_t)t.stack;
	*end = (uintptr_t)(t.stack + STACK);
	return BHT_STACK_EXACT;
}

static bool running(void *arg, const struct bht_thread *thread, struct bht_registers *registers)
{
	(void)arg;
	(void)thread;
	(void)registers;
	return false;
}

static void place(enum bht_member member, size_t offset, unsigned size)
{
	t.scheme.layout.place[member] = (struct bht_place){ .offset = { offset }, .n = 1, .size = size };
}

static void link_circle(struct link *head, unsigned n)
{
	struct link *before = head;

	for (unsigned i = 0; i < n; i++) {
		before->next = &t.bh[i].link;
		t.bh[i].link.prev = before;
		before = &t.bh[i].link;
	}
	before->next = head;
	head->prev = before;
}

static void list_is(enum bht_list list)
{
	t.adapter.list = list;
	if (list == BHT_LIST_CIRCULAR) {
		place(BHT_LOOP_bhs, offsetof(struct loop, bhs), 8);
		place(BHT_BH_link, offsetof(struct bh, link), 8);
	} else {
		place(BHT_LOOP_bhs, offsetof(struct loop, first), 8);
		place(BHT_BH_link, offsetof(struct bh, next), 8);
	}
}

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	fake_init(&t.fake);
	fake_show(&t.fake, &t.loop, sizeof(t.loop));
	fake_show(&t.fake, &t.other, sizeof(t.other));
	fake_show(&t.fake, t.bh, sizeof(t.bh));
	fake_show(&t.fake, t.stack, sizeof(t.stack));
	t.adapter = (struct bht_adapter){ .name = "fake", .flag_known = 3, .n_flags = 1 };
	t.adapter.flag[0].mask = 1;
	t.adapter.flag[0].flag = BHP_FLAG_SCHEDULED;
	t.scheme.layout.adapter = &t.adapter;
	t.scheme.loop_size = sizeof(struct loop);
	t.scheme.bh_size = sizeof(struct bh);
	place(BHT_LOOP_poll_fd, offsetof(struct loop, poll_fd), 4);
	t.scheme.layout.place[BHT_LOOP_poll_fd].is_signed = true;
	place(BHT_LOOP_notifier_fd, offsetof(struct loop, notifier_fd), 4);
	place(BHT_LOOP_iteration, offsetof(struct loop, iteration), 8);
	place(BHT_BH_loop, offsetof(struct bh, loop), 8);
	place(BHT_BH_callback, offsetof(struct bh, callback), 8);
	place(BHT_BH_flag, offsetof(struct bh, flag), 4);
	place(BHT_BH_name, offsetof(struct bh, name), 8);
	list_is(BHT_LIST_CIRCULAR);
	t.loop = (struct loop){ .poll_fd = EPOLL, .notifier_fd = EVENTFD, .iteration = 42 };
	link_circle(&t.loop.bhs, N);
	for (unsigned i = 0; i < N; i++) {
		t.bh[i].loop = &t.loop;
		t.bh[i].callback = CODE + 16 * i;
	}
	t.eventfd_kind = 'e';
	t.f = calloc(1, sizeof(*t.f));
	assert_non_null(t.f);
	t.f->target = (struct bht_foreign_target){ .mem = &t.fake.mem,
						   .images = &t.images,
						   .executable = executable,
						   .writable = writable,
						   .descriptor = descriptor,
						   .stack = stack,
						   .running = running };
	t.f->schemes = malloc(sizeof(t.scheme));
	t.f->n_schemes = 1;
	t.f->sample = &t.sample;
	t.f->ev = &t.ev;
	memset(t.f->kind, 1, sizeof(t.f->kind));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	bht_sample_free(&t.sample);
	bht_evidence_free(&t.ev);
	bht_foreign_free(t.f);
	return 0;
}

/* --- lists ------------------------------------------------------------------------------- */

static int walk(size_t *n)
{
	const struct bht_loop loop = { .addr = (uintptr_t)&t.loop };

	return bht_foreign_walk(t.f, &t.scheme, &loop, false, n);
}

static void walk_gives(int error, size_t listed)
{
	size_t n;

	assert_int_equal(walk(&n), error);
	assert_int_equal(t.sample.n_bhs, listed);
	t.sample.n_bhs = 0;
}

static void test_circle(void **state)
{
	static _Alignas(8) const char name[8] = "third";
	size_t n;

	(void)state;
	t.bh[1].flag = 1;
	t.bh[2].flag = 2;
	t.bh[2].name = name;
	fake_show(&t.fake, name, sizeof(name));
	assert_int_equal(walk(&n), 0);
	assert_int_equal(n, N);
	assert_int_equal(t.sample.n_bhs, N);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(t.sample.bhs[i].addr, (uintptr_t)&t.bh[i]);
		assert_int_equal(t.sample.bhs[i].callback, CODE + 16 * i);
		assert_int_equal(t.sample.bhs[i].flags, i == 1 ? BHP_FLAG_SCHEDULED : 0);
	}
	assert_string_equal(t.sample.bhs[2].name, "third");
	assert_string_equal(t.sample.bhs[0].name, "0x1000000");
	t.adapter.flag[0].inverted = true;
	t.sample.n_bhs = 0;
	assert_int_equal(walk(&n), 0);
	assert_int_equal(t.sample.bhs[0].flags, BHP_FLAG_SCHEDULED);
	assert_int_equal(t.sample.bhs[1].flags, 0);
}

static void test_empty(void **state)
{
	(void)state;
	link_circle(&t.loop.bhs, 0);
	walk_gives(0, 0);
	list_is(BHT_LIST_CHAIN);
	walk_gives(0, 0);
}

static void test_damaged(void **state)
{
	(void)state;
	t.bh[2].link.prev = &t.bh[3].link;
	walk_gives(-EAGAIN, 0);
	link_circle(&t.loop.bhs, N);
	t.bh[3].link.next = &t.bh[1].link; /* round and round, but not through the head */
	walk_gives(-EAGAIN, 0);
	t.bh[3].link.next = (void *)0x4000;
	walk_gives(-EAGAIN, 0);
	t.bh[3].link.next = (void *)((char *)&t.bh[1].link + 1);
	walk_gives(-EAGAIN, 0);
	t.bh[3].link.next = NULL;
	walk_gives(-EAGAIN, 0);
	link_circle(&t.loop.bhs, N);
	t.loop.bhs.prev = &t.bh[0].link;
	walk_gives(-EAGAIN, 0);
}

static void test_wrong_members(void **state)
{
	(void)state;
	t.bh[3].loop = &t.other;
	walk_gives(-EAGAIN, 0);
	t.bh[3].loop = &t.loop;
	t.bh[3].callback = (uintptr_t)&t.loop;
	walk_gives(-EAGAIN, 0);
	t.bh[3].callback = 0;
	walk_gives(0, N);
	t.bh[0].flag = 4;
	walk_gives(-EAGAIN, 0);
}

/* The second walk finds another list, and that stands still. */
static void remove_last(unsigned read_no)
{
	if (read_no == 4)
		link_circle(&t.loop.bhs, N - 1);
}

static void test_changes(void **state)
{
	(void)state;
	t.fake.hook = remove_last;
	walk_gives(0, N - 1);
}

static void toggle(unsigned read_no)
{
	link_circle(&t.loop.bhs, read_no % 3 ? N : 1);
}

static void test_never_stands_still(void **state)
{
	(void)state;
	t.fake.hook = toggle;
	walk_gives(-EAGAIN, 0);
}

static void test_chain(void **state)
{
	(void)state;
	list_is(BHT_LIST_CHAIN);
	t.loop.first = &t.bh[0];
	for (unsigned i = 0; i + 1 < N; i++)
		t.bh[i].next = &t.bh[i + 1];
	walk_gives(0, N);
	t.bh[N - 1].next = &t.bh[1];
	walk_gives(-EAGAIN, 0);
	t.bh[N - 1].next = &t.bh[N - 1];
	walk_gives(-EAGAIN, 0);
	t.loop.first = (void *)0x4000;
	walk_gives(-EAGAIN, 0);
}

static void test_too_long(void **state)
{
	struct bh *many = calloc(BHT_FOREIGN_BHS_MAX + 1, sizeof(*many));

	(void)state;
	assert_non_null(many);
	fake_show(&t.fake, many, (BHT_FOREIGN_BHS_MAX + 1) * sizeof(*many));
	for (size_t i = 0; i <= BHT_FOREIGN_BHS_MAX; i++)
		many[i] = (struct bh){ .loop = &t.loop, .next = &many[i + 1] };
	many[BHT_FOREIGN_BHS_MAX].next = NULL;
	list_is(BHT_LIST_CHAIN);
	t.loop.first = many;
	walk_gives(-E2BIG, 0);
	many[BHT_FOREIGN_BHS_MAX - 1].next = NULL;
	walk_gives(0, BHT_FOREIGN_BHS_MAX);
	free(many);
}

static void test_chains(void **state)
{
	static struct node {
		void *data;
		struct node *next, *prev;
		struct bh *head;
	} node[3] = { { node, &node[1], NULL, &t.bh[0] }, { node + 1, &node[2], node, NULL } };
	static struct bh *plain = &t.bh[2];

	(void)state;
	fake_show(&t.fake, node, sizeof(node));
	fake_show(&t.fake, &plain, sizeof(plain));
	node[2] = (struct node){ .data = &plain };
	t.bh[0].next = &t.bh[1];
	list_is(BHT_LIST_CHAINS);
	t.loop.first = node;
	walk_gives(0, 3);
	node[2].next = node;
	walk_gives(-EAGAIN, 0);
}

static void test_queues(void **state)
{
	static struct {
		struct bh *first, *last;
	} queue[2] = { { &t.bh[0], &t.bh[1] }, { &t.bh[2], &t.bh[2] } };

	(void)state;
	fake_show(&t.fake, queue, sizeof(queue));
	list_is(BHT_LIST_QUEUES);
	place(BHT_LOOP_n_queues, offsetof(struct loop, n_queues), 4);
	t.loop.first = queue;
	t.loop.n_queues = 2;
	t.bh[0].next = &t.bh[1];
	t.bh[1].loop = (void *)0x1234; /* something else that waits in it */
	t.bh[1].callback = 0x1234;
	walk_gives(0, 2);
	t.loop.n_queues = 3;
	walk_gives(-EAGAIN, 0);
}

/* A turn has taken the last three to a list of its own, which hangs on its stack; what was there before was another. */
static void test_taken_to_the_stack(void **state)
{
	const struct bht_loop loop = { .addr = (uintptr_t)&t.loop };
	const struct bht_words words = { (uintptr_t)t.stack, t.stack, STACK };
	struct link *head = (struct link *)&t.stack[8], *stale = (struct link *)&t.stack[20];

	(void)state;
	link_circle(&t.loop.bhs, 1);
	for (unsigned i = 1; i < N; i++) {
		t.bh[i].link.prev = i == 1 ? head : &t.bh[i - 1].link;
		t.bh[i].link.next = i + 1 == N ? head : &t.bh[i + 1].link;
	}
	*head = (struct link){ &t.bh[1].link, &t.bh[N - 1].link };
	*stale = *head;
	assert_int_equal(bht_foreign_walk_stack(t.f, &t.scheme, &loop, &words), 0);
	assert_int_equal(t.sample.n_bhs, N - 1);
	assert_int_equal(t.sample.bhs[0].addr, (uintptr_t)&t.bh[1]);
	t.sample.n_bhs = 0;
	t.bh[2].link.prev = NULL;
	assert_int_equal(bht_foreign_walk_stack(t.f, &t.scheme, &loop, &words), 0);
	assert_int_equal(t.sample.n_bhs, 0);
}

static void test_behind_pointers(void **state)
{
	static uint64_t behind[2] = { 0, CODE };

	(void)state;
	fake_show(&t.fake, behind, sizeof(behind));
	t.scheme.layout.place[BHT_BH_callback] =
		(struct bht_place){ .offset = { offsetof(struct bh, behind), 8 }, .n = 2, .size = 8 };
	t.bh[1].behind = behind;
	size_t n;
	assert_int_equal(walk(&n), 0);
	assert_int_equal(t.sample.bhs[0].callback, 0);
	assert_int_equal(t.sample.bhs[1].callback, CODE);
	t.sample.n_bhs = 0;
	t.bh[2].behind = (void *)0x4000;
	walk_gives(-EAGAIN, 0);
}

/* --- what is a loop ---------------------------------------------------------------------- */

static void check_gives(int error)
{
	struct bht_loop loop;
	int points;

	memset(t.f->kind, 1, sizeof(t.f->kind));
	assert_int_equal(bht_foreign_check(t.f, &t.scheme, (uintptr_t)&t.loop, &loop, &points), error);
}

static void test_check(void **state)
{
	struct bht_loop loop;
	int points;

	(void)state;
	t.adapter.coalesces = t.adapter.full_barrier = true;
	assert_int_equal(bht_foreign_check(t.f, &t.scheme, (uintptr_t)&t.loop, &loop, &points), 0);
	assert_int_equal(loop.notifier_fd, EVENTFD);
	assert_int_equal(loop.poll_fd, EPOLL);
	assert_int_equal(loop.iteration, 42);
	assert_int_equal(loop.protocol, BHP_PROTOCOL_FULL_BARRIER);
	assert_int_equal(loop.traits, BHT_TRAIT_FOREIGN | BHT_TRAIT_COALESCES);
	assert_true(points > 0);
	assert_int_equal(t.sample.n_bhs, 0);
	assert_int_equal(bht_foreign_check(t.f, &t.scheme, (uintptr_t)&t.loop + 4, &loop, &points), -EBADMSG);
	assert_int_equal(bht_foreign_check(t.f, &t.scheme, 0x4000, &loop, &points), -EBADMSG);
}

static void test_no_loop(void **state)
{
	(void)state;
	t.loop.notifier_fd = SOCKET;
	check_gives(-EBADMSG);
	t.loop.notifier_fd = 100; /* not open */
	check_gives(-EBADMSG);
	t.loop.notifier_fd = EVENTFD;
	t.loop.poll_fd = EVENTFD + 1;
	check_gives(-EBADMSG);
	t.loop.poll_fd = t.loop.notifier_fd = -1;
	check_gives(-EBADMSG);
	t.loop.poll_fd = EPOLL;
	t.loop.bhs.next = NULL;
	check_gives(-EAGAIN);
	link_circle(&t.loop.bhs, 0);
	check_gives(0);
	place(BHT_LOOP_notified, offsetof(struct loop, notified), 1);
	t.loop.notified = 2;
	check_gives(-EBADMSG);
}

/* --- from stacks to samples ----------------------------------------------------------------- */

static int sample(void)
{
	bht_sample_free(&t.sample);
	t.sample.threads = malloc(sizeof(t.thread));
	t.sample.threads[0] = t.thread;
	t.sample.n_threads = 1;
	t.f->schemes[0] = t.scheme;
	return bht_foreign_sample(t.f, &t.ev, &t.sample, &t.refusal);
}

static void test_found_from_stack(void **state)
{
	(void)state;
	t.scheme.layout.image = NULL;
	for (unsigned i = 0; i < STACK; i++)
		t.stack[i] = i % 3 ? (uintptr_t)&t.bh[i % N] : i * 1234567;
	t.stack[STACK - 1] = (uintptr_t)&t.loop;
	/* What is left of a loop that had the same descriptors is none. */
	t.other = t.loop;
	t.other.bhs.next = t.other.bhs.prev = &t.other.bhs;
	t.stack[0] = t.stack[1] = (uintptr_t)&t.other;
	t.thread = (struct bht_thread){
		.tid = 12, .name = "worker", .syscall = SYS_epoll_pwait, .args = { EPOLL, 0, 0, 1500 }
	};
	assert_int_equal(sample(), 0);
	assert_false(t.sample.unstable);
	assert_int_equal(t.sample.n_loops, 1);
	assert_int_equal(t.sample.n_bhs, N);
	const struct bht_loop *loop = &t.sample.loops[0];
	assert_int_equal(loop->addr, (uintptr_t)&t.loop);
	assert_string_equal(loop->name, "fake:worker");
	assert_string_equal(loop->adapter, "fake");
	assert_int_equal(loop->owner, 12);
	assert_int_equal(loop->where, BHP_WAIT);
	assert_int_equal(loop->wait_timeout_ns, 1500 * 1000000);
	assert_int_equal(loop->notify_me, BHP_LOOP_SLEEPING);
}

static void test_sleeps_in_poll(void **state)
{
	static struct pollfd array[] = { { .fd = 1 }, { .fd = EVENTFD, .events = POLLIN } };

	(void)state;
	fake_show(&t.fake, array, sizeof(array));
	t.stack[3] = (uintptr_t)&t.loop;
	t.thread = (struct bht_thread){ .tid = 12, .syscall = SYS_ppoll, .args = { (uintptr_t)array, 2 } };
	assert_int_equal(sample(), 0);
	assert_int_equal(t.sample.loops[0].where, BHP_WAIT);
	assert_int_equal(t.sample.loops[0].wait_timeout_ns, -1);
	assert_string_equal(t.sample.loops[0].name, "fake:12");
}

static void test_gone(void **state)
{
	(void)state;
	t.stack[3] = (uintptr_t)&t.loop;
	t.thread = (struct bht_thread){ .tid = 12, .syscall = BHT_SYSCALL_UNKNOWN };
	assert_int_equal(sample(), 0);
	assert_int_equal(t.sample.loops[0].where, BHP_OUTSIDE);
	assert_int_equal(t.sample.loops[0].owner, 0);
	/* Its list is damaged: it is kept in mind, and nothing said of it. */
	t.bh[0].link.prev = NULL;
	assert_int_equal(sample(), 0);
	assert_true(t.sample.unstable);
	assert_int_equal(t.sample.n_loops, 0);
	link_circle(&t.loop.bhs, N);
	assert_int_equal(sample(), 0);
	assert_int_equal(t.sample.n_bhs, N);
	/* Its eventfd was closed. */
	t.eventfd_kind = 0;
	assert_int_equal(sample(), 0);
	assert_true(t.sample.unstable);
	assert_int_equal(sample(), -ENOMSG);
	assert_non_null(strstr(t.refusal.why, "lead to a loop"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_circle),
		TEST(test_empty),
		TEST(test_damaged),
		TEST(test_wrong_members),
		TEST(test_changes),
		TEST(test_never_stands_still),
		TEST(test_chain),
		TEST(test_too_long),
		TEST(test_chains),
		TEST(test_queues),
		TEST(test_taken_to_the_stack),
		TEST(test_behind_pointers),
		TEST(test_check),
		TEST(test_no_loop),
		TEST(test_found_from_stack),
		TEST(test_sleeps_in_poll),
		TEST(test_gone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
