/* SPDX-License-Identifier: MIT */
/* File descriptor handlers, on pipes. */
#include <fcntl.h>

#include "support.h"

enum { MANY = 200 }; /* more than one turn collects */

static struct bh_loop *loop;
static int in, out; /* the ends of a pipe */

static int setup(void **state)
{
	int ends[2];

	(void)state;
	loop = bh_loop_new("test");
	if (!loop || pipe(ends) != 0)
		return -1;
	in = ends[0];
	out = ends[1];
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	int r = bh_loop_free(loop);

	close(in);
	close(out);
	return r;
}

static int turn(void)
{
	return bh_loop_poll(loop, false);
}

static void fill(int fd)
{
	assert_int_equal(write(fd, "x", 1), 1);
}

static void drain(int fd)
{
	char c;

	assert_int_equal(read(fd, &c, 1), 1);
}

struct watch {
	struct bh_fd *handler, *other;
	int calls;
	int fd;
	unsigned events;
};

static void note(int fd, unsigned events, void *opaque)
{
	struct watch *w = opaque;

	w->calls++;
	w->fd = fd;
	w->events = events;
}

static void note_and_drain(int fd, unsigned events, void *opaque)
{
	note(fd, events, opaque);
	drain(fd);
}

static void a_ready_descriptor_is_called_while_it_is_ready(void **state)
{
	(void)state;
	struct watch w = { .calls = 0 };

	assert_non_null(bh_fd_new(loop, in, POLLIN, note, &w));
	assert_int_equal(turn(), 0);
	fill(out);
	assert_int_equal(turn(), 1);
	assert_int_equal(bh_loop_poll(loop, true), 1);
	assert_int_equal(w.calls, 2);
	assert_int_equal(w.fd, in);
	assert_int_equal(w.events, POLLIN);
	drain(in);
	assert_int_equal(turn(), 0);
}

static void events_are_those_of_poll(void **state)
{
	(void)state;
	struct watch reader = { .calls = 0 }, writer = { .calls = 0 };
	struct bh_fd *handler = bh_fd_new(loop, out, POLLOUT, note, &writer);

	assert_non_null(bh_fd_new(loop, in, POLLIN, note, &reader));
	assert_int_equal(turn(), 1);
	assert_int_equal(writer.events, POLLOUT);
	bh_fd_delete(handler);
	close(out);
	assert_int_equal(turn(), 1);
	assert_int_equal(reader.events, POLLHUP);
	out = dup(in);
}

static void events_can_be_changed(void **state)
{
	(void)state;
	struct watch w = { .calls = 0 };
	struct bh_fd *handler = bh_fd_new(loop, in, 0, note, &w);

	fill(out);
	assert_int_equal(turn(), 0);
	assert_int_equal(bh_fd_set(handler, POLLIN), 0);
	assert_int_equal(turn(), 1);
	assert_int_equal(bh_fd_set(handler, 0), 0);
	assert_int_equal(turn(), 0);
	assert_int_equal(w.calls, 1);
}

static void refused(int fd, int error)
{
	errno = 0;
	assert_null(bh_fd_new(loop, fd, POLLIN, note, NULL));
	assert_int_equal(errno, error);
	assert_int_equal(atomic_load(&loop->n_fds), 0);
}

static void what_cannot_be_watched_is_refused(void **state)
{
	(void)state;
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	refused(-1, EBADF);
	refused(file, EPERM);
	close(file);
	refused(file, EBADF);
	struct bh_fd *handler = bh_fd_new(loop, in, POLLIN, note, NULL);
	errno = 0;
	assert_null(bh_fd_new(loop, in, POLLIN, note, NULL));
	assert_int_equal(errno, EEXIST);
	bh_fd_delete(handler);
	handler = bh_fd_new(loop, in, POLLIN, note, NULL);
	assert_non_null(handler);
	assert_int_equal(close(in), 0);
	assert_int_equal(bh_fd_set(handler, POLLIN), -EBADF);
	in = dup(out);
}

static void delete_itself(int fd, unsigned events, void *opaque)
{
	struct watch *w = opaque;

	note(fd, events, w);
	bh_fd_delete(w->handler);
}

static void a_handler_deletes_itself(void **state)
{
	(void)state;
	struct watch w = { .calls = 0 };

	w.handler = bh_fd_new(loop, in, POLLIN, delete_itself, &w);
	fill(out);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(w.calls, 1);
	bh_fd_delete(NULL);
}

static void delete_other(int fd, unsigned events, void *opaque)
{
	struct watch *w = opaque;

	note(fd, events, w);
	bh_fd_delete(w->other);
	w->other = NULL;
}

/* Both are ready and in the same turn: whichever comes first. */
static void a_handler_deletes_another_of_the_same_turn(void **state)
{
	(void)state;
	struct watch a = { .calls = 0 }, b = { .calls = 0 };

	b.other = bh_fd_new(loop, in, POLLIN, delete_other, &a);
	a.other = bh_fd_new(loop, out, POLLOUT, delete_other, &b);
	fill(out);
	assert_int_equal(turn(), 1);
	assert_int_equal(a.calls + b.calls, 1);
}

static void *watch_from_thread(void *opaque)
{
	struct watch *w = opaque;

	until_asleep(loop);
	w->handler = bh_fd_new(loop, in, POLLIN, note_and_drain, w);
	fill(out);
	return NULL;
}

static void *unwatch_from_thread(void *opaque)
{
	struct watch *w = opaque;

	bh_fd_delete(w->handler);
	return NULL;
}

static void another_thread_watches_and_unwatches(void **state)
{
	(void)state;
	struct watch w = { .calls = 0 };
	pthread_t t = in_thread(watch_from_thread, &w);

	while (!w.calls)
		assert_true(bh_loop_poll(loop, true) >= 0);
	pthread_join(t, NULL);
	elsewhere(unwatch_from_thread, &w);
	fill(out);
	assert_int_equal(turn(), 0);
	assert_int_equal(w.calls, 1);
}

static void all_of_many_are_served(void **state)
{
	(void)state;
	struct watch w[MANY] = { { .calls = 0 } };
	int fd[MANY];

	for (int i = 0; i < MANY; i++) {
		fd[i] = dup(out);
		assert_non_null(bh_fd_new(loop, fd[i], POLLOUT, note, &w[i]));
	}
	for (int i = 0; i < 2 * (MANY / 64 + 1); i++)
		assert_int_equal(turn(), 1);
	for (int i = 0; i < MANY; i++) {
		assert_in_range(w[i].calls, 1, 3);
		close(fd[i]);
	}
}

static void again(void *opaque)
{
	bh_schedule(*(struct bh **)opaque);
}

static void busy_bottom_halves_do_not_starve_them(void **state)
{
	(void)state;
	struct watch w = { .calls = 0 };
	struct bh *busy = bh_new(loop, again, &busy, "busy");

	bh_fd_new(loop, in, POLLIN, note, &w);
	bh_schedule(busy);
	fill(out);
	for (int i = 0; i < 3; i++)
		assert_int_equal(bh_loop_poll(loop, true), 1);
	assert_int_equal(w.calls, 3);
}

static void drain_and_poll(int fd, unsigned events, void *opaque)
{
	note_and_drain(fd, events, opaque);
	assert_true(turn() >= 0);
}

/* Each handler takes the only byte and polls; a second call of one whose
 * readiness is stale would block in its read. */
static void a_nested_poll_leaves_nothing_stale(void **state)
{
	(void)state;
	struct watch a = { .calls = 0 }, b = { .calls = 0 };
	int second[2];

	assert_int_equal(pipe2(second, O_NONBLOCK), 0);
	assert_int_equal(fcntl(in, F_SETFL, O_NONBLOCK), 0);
	bh_fd_new(loop, in, POLLIN, drain_and_poll, &a);
	bh_fd_new(loop, second[0], POLLIN, drain_and_poll, &b);
	fill(out);
	fill(second[1]);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 1);
	assert_int_equal(bh_fd_set(LIST_FIRST(&loop->fds), 0), 0);
	close(second[0]);
	close(second[1]);
}

static void delete_itself_and_poll(int fd, unsigned events, void *opaque)
{
	delete_itself(fd, events, opaque);
	assert_int_equal(turn(), 0);
	assert_int_equal(atomic_load(&loop->o.where), BHP_IN_FD);
}

static void a_handler_deletes_itself_and_polls(void **state)
{
	(void)state;
	struct watch w = { .calls = 0 };

	w.handler = bh_fd_new(loop, in, POLLIN, delete_itself_and_poll, &w);
	fill(out);
	assert_int_equal(turn(), 1);
	assert_int_equal(turn(), 0);
	assert_int_equal(w.calls, 1);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(a_ready_descriptor_is_called_while_it_is_ready),
		test(events_are_those_of_poll),
		test(events_can_be_changed),
		test(what_cannot_be_watched_is_refused),
		test(a_handler_deletes_itself),
		test(a_handler_deletes_another_of_the_same_turn),
		test(another_thread_watches_and_unwatches),
		test(all_of_many_are_served),
		test(busy_bottom_halves_do_not_starve_them),
		test(a_nested_poll_leaves_nothing_stale),
		test(a_handler_deletes_itself_and_polls),
	};

	return cmocka_run_group_tests_name("fd", tests, NULL, NULL);
}
