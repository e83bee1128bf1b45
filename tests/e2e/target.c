/* SPDX-License-Identifier: MIT */
/*
 * Processes to be diagnosed, on libbh as it is installed: nothing here loses a
 * wakeup. Each says "ready pid=N" once it is what it is meant to be.
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>

#include "bh.h"

/* More events than a ring holds. */
enum { ROUNDS = 3000, SAFETY_SECONDS = 300 };

static struct bh_loop *loop;
static struct bh *work;
static sem_t worked;

static void need(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static void say(const char *what)
{
	printf("%s pid=%d\n", what, getpid());
	fflush(stdout);
}

static pthread_t thread(void *(*run)(void *), void *arg)
{
	pthread_t id;

	need(pthread_create(&id, NULL, run, arg) == 0, "a thread");
	return id;
}

static void do_work(void *opaque)
{
	(void)opaque;
	sem_post(&worked);
}

static void new_loop(const char *name)
{
	sem_init(&worked, 0, 0);
	loop = bh_loop_new(name);
	work = loop ? bh_new(loop, do_work, NULL, "work") : NULL;
	need(work != NULL, "a loop");
}

/* --- idle: it worked, and sleeps ---------------------------------------------------- */

static void *worker(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		bh_schedule(work);
		sem_wait(&worked);
	}
	say("ready");
	pause();
	return arg;
}

static void idle(void)
{
	new_loop("main");
	thread(worker, NULL);
	bh_loop_run(loop);
}

/* --- stuck: after some time, in a callback that does not return -------------------------- */

static void get_stuck(void *opaque)
{
	(void)opaque;
	say("ready");
	for (;;)
		pause();
}

static void start_flush(void *flush)
{
	bh_schedule(flush);
}

static void stuck(int ms)
{
	new_loop("main");
	struct bh *flush = bh_new(loop, get_stuck, NULL, "flush");
	struct bh_timer *timer = bh_timer_new(loop, start_flush, flush);

	need(flush && timer, "a bottom half");
	bh_schedule(work);
	bh_timer_set(timer, bh_now_ns() + (uint64_t)ms * 1000000);
	bh_loop_run(loop);
}

/* --- headless: the loop is stuck in another thread, the main thread has exited ------------ */

static void *stuck_thread(void *arg)
{
	stuck(0);
	return arg;
}

static void headless(void)
{
	thread(stuck_thread, NULL);
	pthread_exit(NULL);
}

/* --- fork: the parent is idle, its child is stuck -------------------------------------- */

static void forked(void)
{
	new_loop("parent");
	bh_schedule(work);
	bh_loop_poll(loop, true);
	pid_t child = fork();
	need(child >= 0, "fork");
	if (child > 0)
		bh_loop_run(loop);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	new_loop("child");
	bh_schedule(bh_new(loop, get_stuck, NULL, "orphan"));
	bh_loop_run(loop);
}

/* --- crowd: many threads with full rings, many bottom halves ---------------------------- */

static _Atomic int busy;

static void *member(void *arg)
{
	for (int i = 0; i < ROUNDS; i++)
		bh_schedule(work);
	if (atomic_fetch_sub(&busy, 1) == 1)
		say("ready");
	pause();
	return arg;
}

static void crowd(int threads, int bottom_halves)
{
	new_loop("main");
	for (int i = 1; i < bottom_halves; i++)
		need(bh_new(loop, do_work, NULL, "one of many") != NULL, "a bottom half");
	atomic_store(&busy, threads - 1);
	for (int i = 1; i < threads; i++)
		thread(member, NULL);
	bh_loop_run(loop);
}

/* --- brief: busy, and gone after some milliseconds --------------------------------------- */

static void *hurry(void *arg)
{
	for (;;) {
		bh_schedule(work);
		sem_wait(&worked);
	}
	return arg;
}

static void leave(int sig)
{
	(void)sig;
	_exit(0);
}

static void brief(int ms)
{
	const struct itimerval life = { .it_value = { ms / 1000, ms % 1000 * 1000 } };

	new_loop("main");
	signal(SIGALRM, leave);
	setitimer(ITIMER_REAL, &life, NULL);
	for (int i = 0; i < 4; i++)
		thread(hurry, NULL);
	say("ready");
	bh_loop_run(loop);
}

/* --- churn: nothing stays ------------------------------------------------------------------ */

/* A thread with a loop and bottom halves of its own, all of it short-lived. */
static void *mayfly(void *arg)
{
	struct bh_loop *own = bh_loop_new("mayfly");
	struct bh *bh[3];

	need(own != NULL, "a loop");
	for (int i = 0; i < 3; i++) {
		bh[i] = bh_new(own, do_work, NULL, "mayfly");
		need(bh[i] != NULL, "a bottom half");
		bh_schedule(bh[i]);
	}
	bh_loop_poll(own, true);
	bh_delete(bh[0]);
	bh_schedule(bh[1]);
	bh_cancel(bh[1]);
	bh_schedule_oneshot(own, do_work, NULL, "once");
	bh_loop_poll(own, true);
	bh_loop_free(own);
	return arg;
}

static void *breeder(void *arg)
{
	for (;;) {
		struct bh *bh = bh_new(loop, do_work, NULL, "transient");

		need(bh != NULL, "a bottom half");
		bh_schedule(bh);
		pthread_join(thread(mayfly, NULL), NULL);
		bh_delete(bh);
	}
	return arg;
}

static void churn(void)
{
	new_loop("main");
	thread(breeder, NULL);
	thread(breeder, NULL);
	say("ready");
	bh_loop_run(loop);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	alarm(SAFETY_SECONDS);
	if (!strcmp(what, "idle"))
		idle();
	else if (!strcmp(what, "stuck") && argc == 3)
		stuck(atoi(argv[2]));
	else if (!strcmp(what, "headless"))
		headless();
	else if (!strcmp(what, "fork"))
		forked();
	else if (!strcmp(what, "crowd") && argc == 4)
		crowd(atoi(argv[2]), atoi(argv[3]));
	else if (!strcmp(what, "brief") && argc == 3)
		brief(atoi(argv[2]));
	else if (!strcmp(what, "churn"))
		churn();
	fprintf(stderr,
		"usage: %s idle | stuck MS | headless | fork | crowd THREADS BOTTOM-HALVES | brief MS | churn\n",
		argv[0]);
	return 2;
}
