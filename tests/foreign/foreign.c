/* SPDX-License-Identifier: MIT */
/* What the programs on stock loops share. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "foreign.h"

enum { LOOKS_A_SECOND = 10, LOOKS_UNTIL_SURE = 5, SAFETY_SECONDS = 600 };

uint64_t produced, consumed;

static struct foreign *foreign;
static uint64_t rounds = 1000;
static sem_t answered;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void foreign_need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(1);
}

static _Noreturn void usage(void)
{
	fprintf(stderr, "usage: %s [--variant faulty|fixed] [--rounds N]\n", program_invocation_short_name);
	exit(2);
}

void foreign_open(struct foreign *f, int argc, char **argv)
{
	static const struct option options[] = { { "variant", required_argument, NULL, 'v' },
						 { "rounds", required_argument, NULL, 'r' },
						 { NULL, 0, NULL, 0 } };
	int key;

	while ((key = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (key == 'r')
			rounds = strtoull(optarg, NULL, 10);
		else if (key == 'v' && (strcmp(optarg, "fixed") == 0 || strcmp(optarg, "faulty") == 0))
			f->fixed = optarg[1] == 'i';
		else
			usage();
	}
	if (optind < argc || rounds == 0)
		usage();
	foreign = f;
	alarm(SAFETY_SECONDS);
}

void foreign_thread(const char *name, void *(*run)(void *), void *arg)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, run, arg);
	foreign_need(errno == 0, "no thread");
	pthread_setname_np(thread, name);
	pthread_detach(thread);
}

/* --- watching: it only looks, so it neither hurries nor cures anything ------------------- */

static bool asleep(const char *tid)
{
	char path[64], stat[256] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/stat", tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true; /* has exited */
	if (read(fd, stat, sizeof(stat) - 1) <= 0)
		stat[0] = '\0';
	close(fd);
	const char *end = strrchr(stat, ')'); /* of the thread's name; the state follows */
	return !end || end[1] != ' ' || end[2] == 'S';
}

bool foreign_all_asleep(void)
{
	const struct dirent *entry;
	bool all = true;
	DIR *tasks = opendir("/proc/self/task");

	foreign_need(tasks, "no /proc");
	while (all && (entry = readdir(tasks)))
		all = entry->d_name[0] == '.' || strtol(entry->d_name, NULL, 10) == gettid() || asleep(entry->d_name);
	closedir(tasks);
	return all;
}

void foreign_wait_asleep(pid_t tid)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", tid);
	while (!asleep(name))
		usleep(100);
}

static uint64_t load(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}

static bool unanswered(void)
{
	return load(&produced) != load(&consumed) && foreign_all_asleep();
}

static void say(const char *what)
{
	printf("%s pid=%d\n", what, getpid());
	fflush(stdout);
}

/* NULL while it goes on. */
static const char *state(void)
{
	if (foreign->stuck ? foreign->stuck() : unanswered())
		return "hung";
	return foreign->fixed && load(&consumed) == rounds && foreign_all_asleep() ? "idle" : NULL;
}

static void *monitor(void *arg)
{
	uint64_t last = 0;
	const char *now = NULL, *before;

	for (unsigned same = 0; same < LOOKS_UNTIL_SURE;) {
		usleep(1000000 / LOOKS_A_SECOND);
		before = now;
		now = state();
		same = now && now == before && load(&consumed) == last ? same + 1 : 0;
		last = load(&consumed);
	}
	say(now);
	/* Not a return: an observer may be looking at the threads already. */
	for (;;)
		pause();
	return arg;
}

int foreign_eventfd(void)
{
	char path[64], what[64];
	const struct dirent *entry;
	int fd = -1;
	DIR *fds = opendir("/proc/self/fd");

	foreign_need(fds, "no /proc");
	while (fd < 0 && (entry = readdir(fds))) {
		snprintf(path, sizeof(path), "/proc/self/fd/%.16s", entry->d_name);
		ssize_t n = readlink(path, what, sizeof(what) - 1);
		what[n < 0 ? 0 : n] = '\0';
		if (strcmp(what, "anon_inode:[eventfd]") == 0)
			fd = (int)strtol(entry->d_name, NULL, 10);
	}
	closedir(fds);
	foreign_need(fd >= 0, "no eventfd");
	return fd;
}

/* --- requests ------------------------------------------------------------------------------ */

bool foreign_goes_wrong(void)
{
	return !foreign->fixed && load(&produced) % FOREIGN_RARE == 0;
}

static void *client(void *arg)
{
	for (uint64_t n = 1; !foreign->fixed || n <= rounds; n++) {
		__atomic_store_n(&produced, n, __ATOMIC_RELEASE);
		bool faulty = foreign_goes_wrong();
		if (faulty && foreign->locks)
			pthread_mutex_lock(&lock);
		foreign->ask(faulty);
		while (sem_wait(&answered) != 0)
			;
		if (faulty && foreign->locks)
			pthread_mutex_unlock(&lock);
	}
	for (;;)
		pause();
	return arg;
}

void foreign_answer(void)
{
	if (load(&consumed) == load(&produced))
		return; /* woken once more */
	if (foreign->locks)
		pthread_mutex_lock(&lock);
	__atomic_store_n(&consumed, load(&produced), __ATOMIC_RELEASE);
	if (foreign->locks)
		pthread_mutex_unlock(&lock);
	sem_post(&answered);
}

void foreign_serve(struct foreign *f)
{
	foreign_need(foreign == f && sem_init(&answered, 0, 0) == 0, "not open");
	foreign_thread("client", client, NULL);
	foreign_thread("monitor", monitor, NULL);
	say("ready");
}
