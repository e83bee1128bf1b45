/* SPDX-License-Identifier: MIT */
/*
 * Files of /proc/PID. Names in them are the target's choice, so numbers are
 * looked for behind the last parenthesis or at the start of a line.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "array.h"
#include "procfs.h"

enum { TEXT_FIRST = 4096, TEXT_MAX = 64 << 20, PATH_SIZE = 64 };

static int text_grow(struct bht_text *text)
{
	const size_t size = text->size ? text->size * 2 : TEXT_FIRST;
	char *data = size > TEXT_MAX ? NULL : realloc(text->data, size);

	if (!data)
		return size > TEXT_MAX ? -EFBIG : -ENOMEM;
	text->data = data;
	text->size = size;
	return 0;
}

static int read_file(struct bht_text *text, int dir, const char *path, bool to_the_end)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : 0;
	bool more = true;

	text->len = 0;
	while (!rc && more) {
		if (text->size - text->len < 2)
			rc = text_grow(text);
		if (rc)
			break;
		const size_t room = text->size - text->len - 1;
		const ssize_t n = read(fd, text->data + text->len, room);
		if (n < 0)
			rc = -errno;
		else
			text->len += (size_t)n;
		more = to_the_end ? n > 0 : n == (ssize_t)room;
	}
	if (!rc)
		text->data[text->len] = '\0';
	if (fd >= 0)
		close(fd);
	return rc;
}

int bht_text_read(struct bht_text *text, int dir, const char *path)
{
	return read_file(text, dir, path, false);
}

int bht_text_read_list(struct bht_text *text, int dir, const char *path)
{
	return read_file(text, dir, path, true);
}

const char *bht_line_value(const char *text, const char *key)
{
	const size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, len))
			return line + len;
	}
	return NULL;
}

/* The last number of the line of STATUS that lists the ids of a thread from our
 * namespace to its own; 0 when there is none. */
static uint32_t innermost_id(const char *status)
{
	const char *at = bht_line_value(status, "NSpid:");
	uint32_t id = 0;

	while (at && *at && *at != '\n') {
		char *end;
		id = (uint32_t)strtoul(at, &end, 10);
		at = end + strspn(end, " \t");
		if (*at != '\n' && !isdigit((unsigned char)*at))
			break;
	}
	return id;
}

/* Whether PATH below the directories of the target and of this process is the
 * same file. A target that may not be looked at is refused elsewhere. */
static bool same_namespace(int dir, const char *path)
{
	struct stat theirs, ours;
	char self[PATH_SIZE];

	snprintf(self, sizeof(self), "/proc/self/%s", path);
	if (fstatat(dir, path, &theirs, 0) || stat(self, &ours))
		return true;
	return theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev;
}

/* The directory of the threads; NULL with errno. */
static DIR *open_task(const struct bht_procfs *p)
{
	int fd = openat(p->dir, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *task = fd < 0 ? NULL : fdopendir(fd);

	if (!task && fd >= 0)
		close(fd);
	return task;
}

static bool has_exited(struct bht_procfs *p, const char *stat)
{
	struct bht_thread thread;

	return bht_text_read(&p->text, p->dir, stat) || bht_parse_stat(p->text.data, &thread, NULL) ||
	       thread.state == 'Z' || thread.state == 'X';
}

/* A main thread that called pthread_exit() has neither memory nor files; any
 * thread that lives speaks for the process then. */
static void find_speaker(struct bht_procfs *p)
{
	char path[PATH_SIZE];
	DIR *task = has_exited(p, "stat") ? open_task(p) : NULL;

	p->speaker = p->pid;
	p->files = p->dir;
	for (struct dirent *entry; task && p->files == p->dir && (entry = readdir(task));) {
		snprintf(path, sizeof(path), "task/%.20s/stat", entry->d_name);
		if (!isdigit((unsigned char)entry->d_name[0]) || has_exited(p, path))
			continue;
		*strrchr(path, '/') = '\0';
		int fd = openat(p->dir, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue;
		p->files = fd;
		p->speaker = (uint32_t)strtoul(entry->d_name, NULL, 10);
	}
	if (task)
		closedir(task);
}

int bht_procfs_open(struct bht_procfs *p, uint32_t pid)
{
	char path[PATH_SIZE];

	*p = (struct bht_procfs){ .pid = pid, .ns_pid = pid };
	snprintf(path, sizeof(path), "/proc/%u", pid);
	p->dir = p->files = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->dir < 0)
		return -errno;
	find_speaker(p);
	p->other_time_ns = !same_namespace(p->files, "ns/time");
	p->tids.same = same_namespace(p->files, "ns/pid");
	if (p->tids.same)
		return 0;
	int rc = bht_text_read(&p->text, p->dir, "status");
	if (!rc)
		p->ns_pid = innermost_id(p->text.data);
	return rc;
}

void bht_procfs_close(struct bht_procfs *p)
{
	if (p->files >= 0 && p->files != p->dir)
		close(p->files);
	if (p->dir >= 0)
		close(p->dir);
	free(p->text.data);
	free(p->tids.pair);
}

/* --- threads ------------------------------------------------------------------ */

int bht_parse_stat(const char *text, struct bht_thread *thread, uint32_t *flags)
{
	const char *open_ = strchr(text, '('), *close_ = strrchr(text, ')');
	unsigned long long utime, stime;
	unsigned int task_flags;
	char state;

	if (!open_ || !close_ || close_ < open_)
		return -EBADMSG;
	if (sscanf(close_ + 1, " %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %llu %llu", &state, &task_flags, &utime,
		   &stime) != 4)
		return -EBADMSG;
	snprintf(thread->name, sizeof(thread->name), "%.*s", (int)(close_ - open_ - 1), open_ + 1);
	thread->state = state;
	thread->cpu_ns = (utime + stime) * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
	if (flags)
		*flags = task_flags;
	return 0;
}

void bht_parse_syscall(const char *text, struct bht_thread *thread)
{
	char *at;

	thread->syscall = BHT_SYSCALL_UNKNOWN;
	if (!strncmp(text, "running", 7)) {
		thread->syscall = BHT_SYSCALL_RUNNING;
		return;
	}
	const long long number = strtoll(text, &at, 10);
	if (at == text)
		return;
	/* -1: stopped, but not in a system call. */
	thread->syscall = number < 0 ? BHT_SYSCALL_RUNNING : number;
	for (int i = 0; i < 6 && number >= 0; i++)
		thread->args[i] = strtoull(at, &at, 16);
}

static int read_thread_file(struct bht_procfs *p, uint32_t tid, const char *name)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof(path), "task/%u/%s", tid, name);
	return bht_text_read(&p->text, p->dir, path);
}

/* Context switches and CPU time, as fine as the kernel tells them. */
static int read_schedule(struct bht_procfs *p, struct bht_thread *thread)
{
	unsigned long long cpu_ns, switches;
	int rc = p->no_schedstat ? -ENOENT : read_thread_file(p, thread->tid, "schedstat");

	/* All zero: compiled in, but switched off. */
	if (!rc && sscanf(p->text.data, "%llu %*u %llu", &cpu_ns, &switches) == 2 && switches) {
		thread->cpu_ns = cpu_ns;
		thread->switches = switches;
		return 0;
	}
	p->no_schedstat = true;
	rc = read_thread_file(p, thread->tid, "status");
	if (rc)
		return rc;
	const char *yielded = bht_line_value(p->text.data, "voluntary_ctxt_switches:");
	const char *preempted = bht_line_value(p->text.data, "nonvoluntary_ctxt_switches:");
	if (yielded && preempted)
		thread->switches = strtoull(yielded, NULL, 10) + strtoull(preempted, NULL, 10);
	return 0;
}

void bht_procfs_wchan(struct bht_procfs *p, struct bht_thread *thread)
{
	int rc = read_thread_file(p, thread->tid, "wchan");

	if (!rc && strcmp(p->text.data, "0"))
		snprintf(thread->wchan, sizeof(thread->wchan), "%.*s", (int)strcspn(p->text.data, "\n"), p->text.data);
}

static void read_wait(struct bht_procfs *p, struct bht_evidence *ev, struct bht_thread *thread)
{
	int rc = read_thread_file(p, thread->tid, "syscall");

	thread->syscall = BHT_SYSCALL_UNKNOWN;
	if (!rc)
		bht_parse_syscall(p->text.data, thread);
	else if (rc != -ENOENT && rc != -ESRCH)
		bht_unseen(ev, "the system calls that threads wait in: /proc/%u/task/*/syscall: %s", p->pid,
			   strerror(-rc));
	/* The call says more than the kernel function that it sleeps in. */
	if (thread->syscall == BHT_SYSCALL_UNKNOWN)
		bht_procfs_wchan(p, thread);
}

/* "NUMBER ARGS... SP PC", "-1 SP PC", or "running". */
int bht_procfs_registers(struct bht_procfs *p, uint32_t tid, uint64_t *sp, uint64_t *pc)
{
	int rc = read_thread_file(p, tid, "syscall");
	char *at;

	if (rc)
		return rc;
	const long long number = strtoll(p->text.data, &at, 10);
	if (at == p->text.data)
		return -EBUSY;
	for (int i = 0; i < 6 && number >= 0; i++)
		strtoull(at, &at, 16);
	*sp = strtoull(at, &at, 16);
	*pc = strtoull(at, NULL, 16);
	return *sp ? 0 : -EBADMSG;
}

static int remember_tid(struct bht_tids *tids, uint32_t theirs, uint32_t ours)
{
	for (size_t i = 0; i < tids->n; i++)
		if (tids->pair[i].theirs == theirs) {
			tids->pair[i].ours = ours;
			return 0;
		}
	if (!bht_room_for_one(&tids->pair, tids->n, sizeof(*tids->pair)))
		return -ENOMEM;
	tids->pair[tids->n++] = (struct bht_tid_pair){ theirs, ours };
	return 0;
}

uint32_t bht_tids_map(void *arg, uint32_t ns_tid)
{
	const struct bht_tids *tids = arg;

	if (tids->same)
		return ns_tid;
	for (size_t i = 0; i < tids->n; i++)
		if (tids->pair[i].theirs == ns_tid)
			return tids->pair[i].ours;
	return 0;
}

static int read_ns_tid(struct bht_procfs *p, struct bht_thread *thread)
{
	thread->ns_tid = thread->tid;
	if (p->tids.same)
		return 0;
	int rc = read_thread_file(p, thread->tid, "status");
	if (rc)
		return rc;
	thread->ns_tid = innermost_id(p->text.data);
	return remember_tid(&p->tids, thread->ns_tid, thread->tid);
}

static int read_thread(struct bht_procfs *p, struct bht_evidence *ev, struct bht_thread *thread)
{
	int rc = read_thread_file(p, thread->tid, "stat");

	if (!rc)
		rc = bht_parse_stat(p->text.data, thread, NULL);
	if (!rc)
		rc = read_schedule(p, thread);
	if (!rc)
		rc = read_ns_tid(p, thread);
	if (!rc)
		read_wait(p, ev, thread);
	return rc;
}

static int add_thread(struct bht_procfs *p, struct bht_evidence *ev, struct bht_sample *sample, uint32_t tid)
{
	struct bht_thread thread = { .tid = tid, .state = '?' };
	int rc = read_thread(p, ev, &thread);

	if (rc == -ENOENT || rc == -ESRCH)
		return 0; /* it exited after the directory was read */
	if (rc)
		return rc;
	if (!bht_room_for_one(&sample->threads, sample->n_threads, sizeof(*sample->threads)))
		return -ENOMEM;
	sample->threads[sample->n_threads++] = thread;
	return 0;
}

int bht_procfs_threads(struct bht_procfs *p, struct bht_evidence *ev, struct bht_sample *sample)
{
	DIR *task = open_task(p);
	int rc = 0;

	if (!task)
		return -errno;
	for (struct dirent *entry; !rc && (entry = readdir(task));)
		if (isdigit((unsigned char)entry->d_name[0]))
			rc = add_thread(p, ev, sample, (uint32_t)strtoul(entry->d_name, NULL, 10));
	closedir(task);
	return rc;
}

/* --- file descriptors --------------------------------------------------------- */

int bht_procfs_fdinfo(struct bht_procfs *p, int32_t fd)
{
	char path[PATH_SIZE];

	if (fd < 0)
		return -EBADF;
	snprintf(path, sizeof(path), "fdinfo/%d", fd);
	return bht_text_read(&p->text, p->files, path);
}

char bht_procfs_descriptor(const struct bht_procfs *p, int32_t fd)
{
	static const struct {
		const char *begins;
		char kind;
	} kinds[] = { { "anon_inode:[eventfd]", 'e' },
		      { "anon_inode:[eventpoll]", 'p' },
		      { "pipe:[", 'f' },
		      { "socket:[", 's' } };
	char path[PATH_SIZE], target[64] = "";

	snprintf(path, sizeof(path), "fd/%d", fd);
	if (readlinkat(p->files, path, target, sizeof(target) - 1) < 0)
		return 0;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strncmp(target, kinds[i].begins, strlen(kinds[i].begins)))
			return kinds[i].kind;
	return '?';
}

bool bht_procfs_is_epoll(const struct bht_procfs *p, int32_t fd)
{
	return bht_procfs_descriptor(p, fd) == 'p';
}
