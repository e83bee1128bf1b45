/* SPDX-License-Identifier: MIT */
/*
 * producer-stopped: a thread is stopped in the middle of a schedule.
 *
 * A worker asks a loop and waits for the answer; a second one takes over when
 * the first is gone.
 *
 * died     The first worker is cancelled asynchronously, and hit when the flag
 *          is set and the bottom half not queued. The second one asks on; all
 *          that it asks finds the bottom half "scheduled already".
 * stopped  A debugger stops the worker when the bottom half is queued and the
 *          loop not told. Here the debugger is a child of the program, and when
 *          it goes the worker goes on.
 *
 * Both are made to happen at that very place: the worker waits there to be hit.
 * In the fixed control it is cancelled, too, but only while it waits for an answer.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "museum.h"
#include "protocol.h"

enum { DIED, STOPPED };
enum { FATAL = 64, MORE = 3 };

static struct museum museum;
static struct bh_loop *loop;
static struct museum_service service;
static uint64_t made; /* requests; only the worker of the day */
static sem_t in_the_middle;
static int to_debugger[2], from_debugger[2]; /* pipes */

/* --- the debugger ------------------------------------------------------------------ */

/* In a child: stops the thread whose id comes through the pipe, and keeps it so
 * for as long as the program lives. */
static _Noreturn void debug(pid_t program)
{
	pid_t tid;

	close(from_debugger[0]);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != program || read(to_debugger[0], &tid, sizeof(tid)) != sizeof(tid))
		_exit(0);
	museum_need(ptrace(PTRACE_SEIZE, tid, NULL, NULL) == 0, "may not trace");
	museum_need(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) == 0, "cannot stop it");
	museum_need(waitpid(tid, NULL, __WALL) == tid, "it did not stop");
	museum_need(write(from_debugger[1], "", 1) == 1, "pipe");
	for (;;)
		pause();
}

static void start_debugger(void)
{
	pid_t program = getpid(), child;

	museum_need(pipe(to_debugger) == 0 && pipe(from_debugger) == 0, "no pipe");
	child = fork();
	museum_need(child >= 0, "no debugger");
	if (child == 0)
		debug(program);
	close(from_debugger[1]);
	/* Where only a parent may trace, its child may with this. */
	prctl(PR_SET_PTRACER, child);
}

/* Returns when the debugger has gone. */
static void be_debugged(void)
{
	pid_t tid = gettid();
	char byte;

	museum_need(write(to_debugger[1], &tid, sizeof(tid)) == sizeof(tid), "pipe");
	while (read(from_debugger[0], &byte, 1) < 0 && errno == EINTR)
		;
}

static bool debugged(void)
{
	struct pollfd answer = { .fd = from_debugger[0], .events = POLLIN };

	return poll(&answer, 1, 0) == 1 && answer.revents & POLLIN;
}

static bool stuck(void)
{
	return museum.variant == STOPPED ? debugged() : museum_unanswered(&service);
}

/* --- the workers ---------------------------------------------------------------------- */

/* What museum_ask() does, but for what happens to its thread on the way. */
static void ask_in_steps(struct bh *bh, uint64_t ticket)
{
	/* One that is awake would find what is queued. */
	while (atomic_load(&loop->o.where) != BHP_WAIT)
		museum_relax();
	atomic_store_explicit(&service.asked, ticket, memory_order_release);
	uint32_t old = bh_flag_update(bh, BH_OP_SCHEDULE);

	if (museum.variant == DIED) {
		sem_post(&in_the_middle);
		for (;;)
			museum_relax();
	}
	if (!(old & BHP_FLAG_LINKED))
		bh_push(loop, bh);
	uint32_t me = bh_notify_me(loop);
	bhp_emit(schedule, .loop = loop, .bh = bh, .seen = old & BHP_FLAG_SCHEDULED, .kind = BHP_KIND_NORMAL,
		 .ticket = museum_ticket(&museum, ticket));
	be_debugged();
	bh_notify_write(loop, bh, me);
}

static void ask(uint64_t ticket)
{
	/* Whatever a schedule is made of: nobody is to end in the middle. */
	if (museum.fixed)
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	if (ticket == FATAL && !museum.fixed)
		ask_in_steps(service.bh, ticket);
	else
		museum_ask(&service, ticket);
	if (ticket == FATAL && museum.fixed)
		sem_post(&in_the_middle);
	if (museum.fixed)
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
}

static void work_on(void)
{
	for (;;) {
		ask(++made);
		museum_await(&service, 0);
	}
}

static void *work(void *arg)
{
	pthread_setname_np(pthread_self(), "worker");
	if (museum.variant == DIED)
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	work_on();
	return arg;
}

static void *take_over(void *arg)
{
	const pthread_t *first = arg;

	pthread_setname_np(pthread_self(), "worker 2");
	sem_wait(&in_the_middle);
	pthread_cancel(*first);
	pthread_join(*first, NULL);
	if (museum.fixed)
		museum_await(&service, 0); /* what the first one waited for */
	for (unsigned i = 0; i < MORE && !museum.fixed; i++)
		ask(++made);
	work_on();
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "died", "stopped", "fixed", NULL };
	static const struct museum_piece piece = { "producer-stopped",
						   "a thread is stopped in the middle of a schedule", variants, 100000,
						   false };
	static pthread_t first;

	museum_open(&museum, &piece, 1, argc, argv);
	if (museum.variant == STOPPED)
		start_debugger();
	sem_init(&in_the_middle, 0, 0);
	loop = bh_loop_new("disk");
	museum_need(loop, "no loop");
	museum_service_open(&service, &museum, loop);
	errno = pthread_create(&first, NULL, work, NULL);
	museum_need(errno == 0, "no thread");
	museum_thread(take_over, &first);
	museum_watch(&museum, stuck);
	museum_run(&museum, loop, 0);
	return 0;
}
