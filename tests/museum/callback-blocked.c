/* SPDX-License-Identifier: MIT */
/*
 * callback-blocked: a callback waits for a lock that waits for the callback.
 *
 * A writer changes a table under a lock and has the loop flush it; the callback
 * takes the same lock. Now and then the writer must know that the flush is
 * over, and waits for it with the lock still in its hand.
 */
#include <semaphore.h>
#include <stddef.h>

#include "museum.h"
#include "protocol.h"

enum { RARE = 64 };

static struct museum museum;
static struct bh_loop *loop;
static struct bh *flush;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t table; /* the latest change */
static sem_t flushed;

static bool stuck(void)
{
	return atomic_load(&loop->o.current) == flush;
}

static void flush_table(void *opaque)
{
	(void)opaque;
	pthread_mutex_lock(&table_lock);
	uint64_t change = table;
	pthread_mutex_unlock(&table_lock);
	museum_consume(&museum, flush, change);
	if (museum_advance(&museum, 1))
		sem_post(&flushed);
}

static void *writer(void *arg)
{
	pthread_setname_np(pthread_self(), "writer");
	for (uint64_t change = 1;; change++) {
		bool careless = change % RARE == 0 && !museum.fixed;

		pthread_mutex_lock(&table_lock);
		table = change;
		if (!careless)
			pthread_mutex_unlock(&table_lock);
		bh_schedule_ticket(flush, museum_ticket(&museum, change));
		sem_wait(&flushed);
		if (careless)
			pthread_mutex_unlock(&table_lock);
	}
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "faulty", "fixed", NULL };
	static const struct museum_piece piece = { "callback-blocked", "a callback waits for a lock that waits for it",
						   variants, 100000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	sem_init(&flushed, 0, 0);
	loop = bh_loop_new("database");
	museum_need(loop, "no loop");
	flush = bh_new(loop, flush_table, NULL, "flush");
	museum_need(flush, "no bottom half");
	museum_thread(writer, NULL);
	museum_watch(&museum, stuck);
	museum_run(&museum, loop, 0);
	return 0;
}
