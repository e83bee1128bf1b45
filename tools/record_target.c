/* SPDX-License-Identifier: MIT */
/* The target of a recording: how it is opened or started, waited for, and left. */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bhtrace.h"
#include "clock.h"
#include "patient.h"
#include "render.h"
#include "snapshot.h"

static volatile sig_atomic_t stopped_by, snapshot_wanted;
static volatile int wake = -1; /* eventfd: a signal came */
static uint64_t deadline_ns;   /* of --for, 0 for none */

/* --- signals -------------------------------------------------------------------- */

static void on_signal(int sig)
{
	const uint64_t one = 1;
	const int saved = errno;

	if (sig == SIGUSR1)
		snapshot_wanted = 1;
	else
		stopped_by = sig;
	/* Between the look at the flag and poll() it would go unnoticed. */
	if (write(wake, &one, sizeof(one)) < 0)
		errno = saved;
}

void record_signals(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGUSR1 };
	const struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	if (wake < 0)
		wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaction(signals[i], &action, NULL);
}

static bool time_is_over(void)
{
	return deadline_ns && bht_mono_ns() >= deadline_ns;
}

bool record_stopped(void)
{
	return stopped_by || patient_interrupted() || time_is_over();
}

bool record_snapshot_wanted(void)
{
	const bool wanted = snapshot_wanted;

	snapshot_wanted = 0;
	return wanted;
}

/* --- opening, starting ------------------------------------------------------------ */

/* What is before '=' is the same. */
static bool same_variable(const char *a, const char *b)
{
	const size_t len = strcspn(a, "=");

	return !strncmp(a, b, len + 1);
}

/* ENVIRON with the variables of MORE in place of its own; to be freed, but not
 * what it points to. */
static char **environment(char *const *more)
{
	size_t n = 0, n_more = 0;

	while (environ[n])
		n++;
	while (more && more[n_more])
		n_more++;
	char **all = calloc(n + n_more + 1, sizeof(*all));
	if (!all)
		return NULL;
	memcpy(all, environ, n * sizeof(*all));
	for (size_t i = 0; i < n_more; i++) {
		size_t at = 0;
		while (at < n && !same_variable(more[i], all[at]))
			at++;
		all[at] = more[i];
		n += at == n;
	}
	return all;
}

/*
 * The child, until it becomes the command. In a process group of its own: Ctrl-C
 * ends the recording, not what hangs in the terminal's foreground and is to be
 * examined. A background process may not read the terminal, so it gets an empty
 * input instead.
 */
static void become(char **command, char **all, int gate, int said)
{
	char go;

	setpgid(0, 0);
	if (read(gate, &go, 1) != 1)
		_exit(127); /* the recorder has ended */
	const int empty = isatty(STDIN_FILENO) ? open("/dev/null", O_RDONLY) : -1;
	if (empty >= 0)
		dup2(empty, STDIN_FILENO);
	execvpe(command[0], command, all);
	const int error = errno;
	if (write(said, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

/* A child that waits at the gate. 0 or an errno. */
static int spawn(char **command, char *const *env, struct record_target *t)
{
	char **all = environment(env);
	int gate[2] = { -1, -1 }, said[2] = { -1, -1 };
	pid_t pid = -1;

	if (all && !pipe2(gate, O_CLOEXEC) && !pipe2(said, O_CLOEXEC))
		pid = fork();
	if (pid == 0) {
		close(gate[1]);
		become(command, all, gate[0], said[1]);
	}
	const int error = pid < 0 ? errno : 0;
	free(all);
	close(gate[0]);
	close(said[1]);
	t->pid = (uint32_t)pid;
	t->gate = gate[1];
	t->said = said[0];
	return error;
}

static int refuse(int error, const char *subject)
{
	char safe[512];

	fprintf(stderr, "bhtrace: %s: %s\n", bht_escape(safe, sizeof(safe), subject),
		error == ESRCH ? "does not exist" : strerror(error));
	return error == EPERM || error == EACCES ? EXIT_NOT_PERMITTED : EXIT_BAD_INPUT;
}

int record_target_hold(const struct record_request *q, char *const *env, struct record_target *t)
{
	char subject[32];

	*t = (struct record_target){ .pid = q->pid,
				     .pidfd = -1,
				     .also = -1,
				     .gate = -1,
				     .said = -1,
				     .command = q->command,
				     .child = q->command != NULL };
	if (q->for_ns)
		deadline_ns = bht_mono_ns() + q->for_ns;
	if (q->all)
		return 0;
	const int error = q->command ? spawn(q->command, env, t) : 0;
	if (error)
		return refuse(error, q->command[0]);
	snprintf(subject, sizeof(subject), "process %" PRIu32, t->pid);
	/* A child's number stays its own until it was waited for. */
	t->pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
	if (t->pidfd < 0)
		return refuse(errno == EINVAL || errno == ENOENT ? ESRCH : errno, subject);
	return 0;
}

int record_target_start(struct record_target *t)
{
	int error = 0;

	if (t->gate < 0)
		return 0;
	/* A child that was killed meanwhile: SIGPIPE must not end the recorder. */
	signal(SIGPIPE, SIG_IGN);
	const bool sent = write(t->gate, "", 1) == 1;
	signal(SIGPIPE, SIG_DFL);
	close(t->gate);
	t->gate = -1;
	if (sent && read(t->said, &error, sizeof(error)) < 0)
		error = errno;
	return error ? refuse(error, t->command[0]) : 0;
}

int record_target_open(const struct record_request *q, char *const *env, struct record_target *t)
{
	const int code = record_target_hold(q, env, t);

	return code ? code : record_target_start(t);
}

/* --- waiting, leaving -------------------------------------------------------------- */

bool record_target_exited(struct record_target *t)
{
	struct pollfd pfd = { .fd = t->pidfd, .events = POLLIN };

	if (t->exited || poll(&pfd, 1, 0) != 1)
		return t->exited;
	t->exited = true;
	if (t->child && waitpid((pid_t)t->pid, &t->status, 0) != (pid_t)t->pid)
		t->child = false; /* somebody else was told how it ended */
	return true;
}

void record_target_wait(const struct record_target *t, unsigned ms)
{
	struct pollfd pfds[] = { { .fd = t->exited ? -1 : t->pidfd, .events = POLLIN },
				 { .fd = wake, .events = POLLIN },
				 { .fd = t->also, .events = POLLIN } };
	const uint64_t now = bht_mono_ns(), left_ms = deadline_ns > now ? (deadline_ns - now) / 1000000 + 1 : ms;
	uint64_t signals;

	if (poll(pfds, 3, (int)(left_ms < ms ? left_ms : ms)) > 0 && pfds[1].revents &&
	    read(wake, &signals, sizeof(signals)) < 0)
		return; /* another signal's handler was interrupted before its write */
}

const char *record_ended(const struct record_target *t)
{
	static char words[64];

	if (t->exited && t->child && WIFSIGNALED(t->status))
		snprintf(words, sizeof(words), "the command was killed by signal %d", WTERMSIG(t->status));
	else if (t->exited && t->child)
		snprintf(words, sizeof(words), "the command exited with %d", WEXITSTATUS(t->status));
	else if (t->exited)
		return "the target exited";
	else if (stopped_by == SIGTERM)
		return "SIGTERM";
	else
		return time_is_over() ? "the time was over" : "Ctrl-C";
	return words;
}

void record_target_close(struct record_target *t)
{
	const int fds[] = { t->pidfd, t->gate, t->said };

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	t->pidfd = t->gate = t->said = -1;
}

/* --- hangs ---------------------------------------------------------------------------- */

static bool same_hang(const struct record_hang *a, const struct record_hang *b)
{
	return a->rule == b->rule && a->bh == b->bh && a->loop == b->loop && a->iteration == b->iteration;
}

bool record_stable_hang(struct record_hangs *h, const struct bht_diagnosis *d)
{
	const bool hangs = d->n_findings && (d->verdict == BHT_LOST || d->verdict == BHT_STUCK);
	const struct bht_finding *f = hangs ? &d->findings[0] : NULL;
	struct record_hang now = { .rule = BHT_RULES };

	if (f)
		now = (struct record_hang){ f->rule, f->bh.addr, f->loop.addr, f->loop.iteration };
	const bool stable = f && h->looked && same_hang(&now, &h->seen) && !same_hang(&now, &h->kept);
	if (stable)
		h->kept = now;
	h->seen = now;
	h->looked = true;
	return stable;
}

/* --- evidence ------------------------------------------------------------------------- */

bool record_command(uint32_t pid, char command[RECORD_COMMAND])
{
	char file[64];

	snprintf(file, sizeof(file), "/proc/%" PRIu32 "/comm", pid);
	FILE *comm = fopen(file, "re");
	const bool read = comm && fgets(command, RECORD_COMMAND, comm);
	if (comm)
		fclose(comm);
	if (read)
		command[strcspn(command, "\n")] = '\0';
	return read;
}

int record_command_path(char *path, size_t size, const char *dir, const char *command, uint32_t pid)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-";
	char name[RECORD_COMMAND];

	snprintf(name, sizeof(name), "%s", command);
	for (char *c = name; *c; c++)
		if (!strchr(plain, *c) || (c == name && (*c == '.' || *c == '-')))
			*c = '_';
	const int n = snprintf(path, size, "%s/%s-%" PRIu32, dir, name[0] ? name : "process", pid);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int record_process_path(char *path, size_t size, const char *dir, uint32_t pid)
{
	char command[RECORD_COMMAND] = "";

	record_command(pid, command);
	return record_command_path(path, size, dir, command, pid);
}

/* With what the rings know and another recorder may leave out. */
static int keep(const char *path, struct patient *p)
{
	struct bht_evidence ev = p->ev;

	ev.begun = p->d.begun;
	ev.n_begun = p->d.n_begun;
	return bht_evidence_write(path, &ev, &p->refusal);
}

int record_evidence_at(const char *path, uint32_t pid)
{
	struct patient p;
	int r = patient_open(&p, pid, BHT_LATE_NS);

	record_signals(); /* the patient's SIGINT is ours */
	if (r == 0)
		r = patient_examine(&p);
	if (r == 0)
		r = keep(path, &p);
	if (r == -ECANCELED)
		r = -ESRCH;
	if (r && r != -ESRCH)
		patient_refused(&p, -r);
	patient_close(&p);
	return r;
}

int record_evidence(const char *dir, uint32_t pid)
{
	char path[4096];
	int r = record_process_path(path, sizeof(path), dir, pid);

	if (r == 0 && mkdir(path, 0700) && errno != EEXIST)
		r = -errno;
	if (r == 0)
		return record_evidence_at(path, pid);
	refuse(-r, path);
	return r;
}
