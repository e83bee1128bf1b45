/* SPDX-License-Identifier: MIT */
/* What the museum's pieces share. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "museum.h"
#include "protocol.h"

enum { LOOKS_A_SECOND = 10, LOOKS_UNTIL_HUNG = 5, SAFETY_SECONDS = 600 };

enum option_key {
	OPT_VARIANT = 1,
	OPT_ROUNDS,
	OPT_SECONDS,
	OPT_MAX_SECONDS,
	OPT_IDLE_AFTER,
	OPT_NO_TICKETS,
	OPT_HELP,
	OPT_WORKERS,
	OPT_COUNT
};

/* Those from OPT_WORKERS on are for pieces with workers only. */
static const struct option options[] = {
	{ "variant", required_argument, NULL, OPT_VARIANT },
	{ "rounds", required_argument, NULL, OPT_ROUNDS },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "max-seconds", required_argument, NULL, OPT_MAX_SECONDS },
	{ "idle-after", no_argument, NULL, OPT_IDLE_AFTER },
	{ "no-tickets", no_argument, NULL, OPT_NO_TICKETS },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "workers", required_argument, NULL, OPT_WORKERS },
	{ "count", no_argument, NULL, OPT_COUNT },
	{ NULL, 0, NULL, 0 },
};

void museum_need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

static _Noreturn void refuse(const char *what, const char *value, const char *why)
{
	fprintf(stderr, "%s: %s %s: %s; see --help\n", program_invocation_short_name, what, value, why);
	exit(2);
}

static _Noreturn void help(const struct museum *m)
{
	const struct museum_piece *piece = m->piece;

	printf("%s - %s\n\n", piece->name, piece->summary);
	printf("  --variant NAME     one of:");
	for (unsigned i = 0; piece->variants[i]; i++)
		printf(" %s%s", piece->variants[i], i == 0 ? " (default)" : "");
	printf("\n"
	       "  --rounds N         end after N rounds; 0 for never\n"
	       "                     (default: 0, for the variant \"fixed\" %llu)\n"
	       "  --seconds N        end after N seconds\n"
	       "  --idle-after       then do not end but stay idle, and say \"idle pid=N\"\n"
	       "  --max-seconds N    be killed by SIGALRM after N seconds, hung or not (default: %d)\n"
	       "  --no-tickets       do not announce work by tickets\n",
	       (unsigned long long)piece->control_rounds, SAFETY_SECONDS);
	if (piece->has_workers)
		printf("  --workers N        threads that complete requests (default: %u)\n"
		       "  --count            count lost wakeups and go on instead of hanging\n",
		       m->workers);
	printf("\nWhen it hung, or was late, it says \"hung pid=N\" or \"late pid=N\" and stays so until it is "
	       "killed.\n");
	exit(0);
}

static uint64_t number(const char *option, uint64_t min, uint64_t max)
{
	char *end;

	errno = 0;
	unsigned long long n = strtoull(optarg, &end, 10);
	if (errno || end == optarg || *end || *optarg == '-' || n < min || n > max)
		refuse(option, optarg, "not a number in its range");
	return n;
}

static unsigned variant(const struct museum_piece *piece)
{
	unsigned i = 0;

	while (piece->variants[i] && strcmp(piece->variants[i], optarg) != 0)
		i++;
	if (!piece->variants[i])
		refuse("--variant", optarg, "unknown");
	return i;
}

void museum_open(struct museum *m, const struct museum_piece *piece, unsigned workers, int argc, char **argv)
{
	uint64_t rounds = UINT64_MAX, seconds = 0, safety = SAFETY_SECONDS;
	int key, i = 0;

	*m = (struct museum){ .piece = piece, .tickets = true, .workers = workers };
	while ((key = getopt_long(argc, argv, "", options, &i)) != -1) {
		if (key >= OPT_WORKERS && !piece->has_workers)
			refuse("option", options[i].name, "not for this piece");
		switch (key) {
		case OPT_VARIANT:
			m->variant = variant(piece);
			break;
		case OPT_ROUNDS:
			rounds = number("--rounds", 0, UINT64_MAX - 1);
			break;
		case OPT_SECONDS:
			seconds = number("--seconds", 1, 1000000);
			break;
		case OPT_MAX_SECONDS:
			safety = number("--max-seconds", 1, 1000000);
			break;
		case OPT_IDLE_AFTER:
			m->idle_after = true;
			break;
		case OPT_NO_TICKETS:
			m->tickets = false;
			break;
		case OPT_WORKERS:
			m->workers = (unsigned)number("--workers", 1, 64);
			break;
		case OPT_COUNT:
			m->count = true;
			break;
		case OPT_HELP:
			help(m);
		default:
			exit(2);
		}
	}
	if (optind < argc)
		refuse("argument", argv[optind], "not expected");
	m->fixed = !piece->variants[m->variant + 1];
	m->max_rounds = rounds != UINT64_MAX ? rounds : m->fixed && !seconds ? piece->control_rounds : 0;
	m->begin_ns = bh_now_ns();
	m->end_ns = seconds ? m->begin_ns + seconds * 1000000000u : UINT64_MAX;
	alarm((unsigned)safety);
}

void museum_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, run, arg);
	museum_need(errno == 0, "no thread");
	pthread_detach(thread);
}

void museum_pin(unsigned n)
{
	cpu_set_t allowed, mine;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) < 2)
		return;
	unsigned count = (unsigned)CPU_COUNT(&allowed);
	int cpu = -1;
	n = n == 0 ? 0 : 1 + (n - 1) % (count - 1);
	do
		while (!CPU_ISSET(++cpu, &allowed))
			;
	while (n-- > 0);
	CPU_ZERO(&mine);
	CPU_SET(cpu, &mine);
	sched_setaffinity(0, sizeof(mine), &mine);
}

static void say(const char *what, uint64_t rounds)
{
	/* At once, so that who reads the first line has the second, too. */
	printf("%s pid=%d\nafter rounds=%llu\n", what, getpid(), (unsigned long long)rounds);
	fflush(stdout);
}

/* --- watching ------------------------------------------------------------------- */

static bool asleep(const char *tid)
{
	char path[64], stat[256] = "";
	const char *end;

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/stat", tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true; /* has exited */
	if (read(fd, stat, sizeof(stat) - 1) <= 0)
		stat[0] = '\0';
	close(fd);
	end = strrchr(stat, ')'); /* of the thread's name; the state follows */
	return !end || end[1] != ' ' || end[2] == 'S';
}

bool museum_all_asleep(void)
{
	const pid_t self = gettid();
	const struct dirent *entry;
	bool all = true;
	DIR *tasks = opendir("/proc/self/task");

	museum_need(tasks, "no /proc");
	while (all && (entry = readdir(tasks)))
		all = entry->d_name[0] == '.' || atoi(entry->d_name) == self || asleep(entry->d_name);
	closedir(tasks);
	return all;
}

struct watch {
	struct museum *m;
	bool (*stuck)(void);
};

static void *watch(void *arg)
{
	const struct watch *w = arg;
	const struct timespec nap = { .tv_nsec = 1000000000 / LOOKS_A_SECOND };
	uint64_t last = UINT64_MAX;

	pthread_setname_np(pthread_self(), "monitor");
	for (unsigned same = 0; same < LOOKS_UNTIL_HUNG;) {
		nanosleep(&nap, NULL);
		uint64_t now = atomic_load_explicit(&w->m->rounds, memory_order_relaxed);
		same = now == last && w->stuck() ? same + 1 : 0;
		last = now;
	}
	say("hung", last);
	/* Not a return: an observer may be looking at the threads already. */
	for (;;)
		pause();
	return NULL;
}

void museum_watch(struct museum *m, bool (*stuck)(void))
{
	static struct watch w;

	w = (struct watch){ m, stuck };
	museum_thread(watch, &w);
}

bool museum_loop_asleep(const struct bh_loop *loop)
{
	return atomic_load(&loop->o.where) == BHP_WAIT && atomic_load(&loop->o.notify_me) == BHP_LOOP_SLEEPING;
}

_Noreturn void museum_late(struct museum *m, const struct bh_loop *loop)
{
	while (!museum_loop_asleep(loop) || atomic_load(&loop->o.wait_timeout_ns) >= 0)
		usleep(1000);
	say("late", atomic_load_explicit(&m->rounds, memory_order_relaxed));
	for (;;)
		pause();
}

/* --- the run ---------------------------------------------------------------------- */

bool museum_advance(struct museum *m, unsigned n)
{
	uint64_t rounds = atomic_load_explicit(&m->rounds, memory_order_relaxed) + n;

	atomic_store_explicit(&m->rounds, rounds, memory_order_relaxed);
	if (!(m->max_rounds && rounds >= m->max_rounds) && !(m->end_ns != UINT64_MAX && bh_now_ns() >= m->end_ns))
		return true;
	if (m->idle_after)
		say("idle", rounds);
	m->over = !m->idle_after;
	return false;
}

/* A turn of the loop that sleeps only after so many polls found nothing. */
static int turn(struct bh_loop *loop, unsigned polls, void (*before_sleep)(void))
{
	int r = 0;

	for (unsigned i = 0; i < polls && r == 0; i++)
		r = bh_loop_poll(loop, false);
	if (r == 0 && before_sleep)
		before_sleep();
	return r == 0 ? bh_loop_poll(loop, true) : r;
}

void museum_run(struct museum *m, struct bh_loop *loop, unsigned polls)
{
	int error = 0;

	while (error >= 0 && !m->over)
		error = turn(loop, polls, m->before_sleep);
	double seconds = (double)(bh_now_ns() - m->begin_ns) / 1e9;
	uint64_t rounds = atomic_load_explicit(&m->rounds, memory_order_relaxed);

	errno = -error;
	museum_need(error >= 0, "the loop");
	printf("done rounds=%llu seconds=%.3f\n", (unsigned long long)rounds, seconds);
}

/* --- requests ----------------------------------------------------------------------- */

static void answer(void *opaque)
{
	struct museum_service *s = opaque;

	museum_consume(s->m, s->bh, atomic_load_explicit(&s->asked, memory_order_acquire));
	if (museum_advance(s->m, 1))
		sem_post(&s->answered);
}

void museum_service_open(struct museum_service *s, struct museum *m, struct bh_loop *loop)
{
	s->m = m;
	sem_init(&s->answered, 0, 0);
	s->bh = bh_new(loop, answer, s, "request");
	museum_need(s->bh, "no bottom half");
}

void museum_ask(struct museum_service *s, uint64_t ticket)
{
	atomic_store_explicit(&s->asked, ticket, memory_order_release);
	bh_schedule_ticket(s->bh, museum_ticket(s->m, ticket));
}

void museum_ask_silently(struct museum_service *s, uint64_t ticket)
{
	struct bh_loop *loop = (struct bh_loop *)s->bh->o.loop;

	atomic_store_explicit(&s->asked, ticket, memory_order_release);
	uint32_t old = bh_flag_update(s->bh, BH_OP_SCHEDULE);

	if (!(old & BHP_FLAG_LINKED))
		bh_push(loop, s->bh);
	bhp_emit(schedule, .loop = loop, .bh = s->bh, .seen = old & BHP_FLAG_SCHEDULED, .kind = BHP_KIND_NORMAL,
		 .ticket = museum_ticket(s->m, ticket));
}

void museum_await(struct museum_service *s, unsigned spins)
{
	museum_down(&s->answered, spins);
}

bool museum_unanswered(struct museum_service *s)
{
	const struct bh_loop *loop = s->bh->o.loop;

	return atomic_load(&loop->o.where) == BHP_WAIT && atomic_load(&s->bh->o.flags) & BHP_FLAG_SCHEDULED &&
	       museum_all_asleep();
}

/* --- a second poller ------------------------------------------------------------------ */

static struct {
	pthread_mutex_t lock;
	bool waiting; /* the loop's thread waits and has let go of the lock */
	struct bh_loop *loop;
	void (*poll)(struct bh_loop *loop);
	sem_t wanted;
} second = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void let_go(void)
{
	second.waiting = true;
	pthread_mutex_unlock(&second.lock);
}

static void take_back(void)
{
	pthread_mutex_lock(&second.lock);
	second.waiting = false;
}

static void *poll_too(void *arg)
{
	pthread_setname_np(pthread_self(), "vcpu");
	for (;;) {
		sem_wait(&second.wanted);
		pthread_mutex_lock(&second.lock);
		if (second.waiting)
			second.poll(second.loop);
		pthread_mutex_unlock(&second.lock);
	}
	return arg;
}

void museum_second_poller(struct bh_loop *loop, void (*poll)(struct bh_loop *loop))
{
	second.loop = loop;
	second.poll = poll;
	sem_init(&second.wanted, 0, 0);
	pthread_mutex_lock(&second.lock);
	bh_fault_wait_begin = let_go;
	bh_fault_wait_end = take_back;
	museum_thread(poll_too, NULL);
}

void museum_second_poll(void)
{
	sem_post(&second.wanted);
}

/* --- patience and chance ------------------------------------------------------------------ */

void museum_down(sem_t *sem, unsigned spins)
{
	for (; spins > 0; spins--) {
		if (sem_trywait(sem) == 0)
			return;
		museum_relax();
	}
	while (sem_wait(sem) != 0)
		;
}

unsigned museum_random(unsigned n)
{
	static _Thread_local uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (unsigned)(x % n);
}
