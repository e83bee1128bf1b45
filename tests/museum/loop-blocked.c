/* SPDX-License-Identifier: MIT */
/*
 * loop-blocked: the loop's thread sleeps, but not in its wait and not in a
 * bottom half.
 *
 * A client asks a server and waits for the answer, a bottom half. Every 64th
 * time the server has something else to do:
 *
 * handler  a writer changes a table under a lock and has the loop publish it,
 *          in a file descriptor's handler, which takes the lock; the careless
 *          writer waits for that with the lock still in its hand.
 * timer    a timer's callback asks a device whether it is there, and reads its
 *          answer from a blocking socket; now and then the device says nothing.
 *
 * The fixed control does both: it unlocks first, and does not wait for what has
 * not come.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "museum.h"
#include "protocol.h"

enum { HANDLER, TIMER };
enum { RARE = 64, SILENT = 4 };

static struct museum museum;
static struct bh_loop *loop;
static struct museum_service service;

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t table, shown; /* the latest change, and the one published last */
static int changed;           /* eventfd, readable when the table is to be published */
static sem_t due, published;

static struct bh_timer *probe;
static int device[2]; /* the server's end, and that of the device */

static bool stuck(void)
{
	uint32_t where = atomic_load(&loop->o.where);

	return (where == BHP_IN_FD || where == BHP_IN_TIMER) && museum_all_asleep();
}

/* --- the loop ---------------------------------------------------------------------- */

static void publish(int fd, unsigned events, void *opaque)
{
	uint64_t n;

	(void)events;
	(void)opaque;
	if (read(fd, &n, sizeof(n)) != sizeof(n))
		return;
	pthread_mutex_lock(&table_lock);
	shown = table;
	pthread_mutex_unlock(&table_lock);
	sem_post(&published);
}

static void probe_device(void *opaque)
{
	char byte = '?';

	(void)opaque;
	if (send(device[0], &byte, 1, MSG_DONTWAIT) == 1)
		recv(device[0], &byte, 1, museum.fixed ? MSG_DONTWAIT : 0);
}

/* --- the others -------------------------------------------------------------------- */

static void *write_table(void *arg)
{
	const uint64_t one = 1;

	pthread_setname_np(pthread_self(), "writer");
	for (uint64_t change = 1; sem_wait(&due) == 0; change++) {
		pthread_mutex_lock(&table_lock);
		table = change;
		if (museum.fixed)
			pthread_mutex_unlock(&table_lock);
		museum_need(write(changed, &one, sizeof(one)) == sizeof(one), "eventfd");
		sem_wait(&published);
		if (!museum.fixed)
			pthread_mutex_unlock(&table_lock);
	}
	return arg;
}

static void *be_device(void *arg)
{
	char byte;

	pthread_setname_np(pthread_self(), "device");
	for (unsigned n = 1; recv(device[1], &byte, 1, 0) == 1; n++)
		if (n % SILENT != 0)
			send(device[1], &byte, 1, 0);
	return arg;
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	for (uint64_t ticket = 1;; ticket++) {
		museum_ask(&service, ticket);
		museum_await(&service, 0);
		if (ticket % RARE == 0 && museum.variant != TIMER)
			sem_post(&due);
		if (ticket % RARE == 0 && museum.variant != HANDLER)
			bh_timer_set(probe, bh_now_ns());
	}
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "handler", "timer", "fixed", NULL };
	static const struct museum_piece piece = { "loop-blocked",
						   "the loop's thread sleeps outside its wait and its bottom halves",
						   variants, 100000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	sem_init(&due, 0, 0);
	sem_init(&published, 0, 0);
	loop = bh_loop_new("server");
	museum_need(loop, "no loop");
	museum_service_open(&service, &museum, loop);
	changed = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	museum_need(changed >= 0 && bh_fd_new(loop, changed, POLLIN, publish, NULL), "no eventfd");
	museum_need(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, device) == 0, "no socket");
	probe = bh_timer_new(loop, probe_device, NULL);
	museum_need(probe, "no timer");
	museum_thread(write_table, NULL);
	museum_thread(be_device, NULL);
	museum_thread(client, NULL);
	museum_watch(&museum, stuck);
	museum_run(&museum, loop, 0);
	return 0;
}
