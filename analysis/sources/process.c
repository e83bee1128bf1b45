/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "process.h"
#include "refuse.h"

/* PF_EXITING and PF_KTHREAD, field flags of /proc/PID/stat. */
static const uint32_t EXITING = 0x00000004, KERNEL_THREAD = 0x00200000;

/* --- maps --------------------------------------------------------------------- */

/* "START-END PERM OFFSET DEV INODE PATH"; false for a line that is none. */
static bool parse_map(const char *line, struct bht_map *map, bool *readable)
{
	char *at;

	map->start = strtoull(line, &at, 16);
	if (*at++ != '-')
		return false;
	map->end = strtoull(at, &at, 16);
	if (*at++ != ' ' || strnlen(at, 5) < 5)
		return false;
	*readable = at[0] == 'r';
	map->writable = at[1] == 'w';
	map->executable = at[2] == 'x';
	const uint64_t offset = strtoull(at + 4, &at, 16);
	at += strspn(at, " ");
	at += strcspn(at, " \n"); /* device */
	map->file_start = !offset && strtoull(at, NULL, 10);
	return map->start < map->end;
}

static int read_maps(struct bht_process *p)
{
	int rc = bht_text_read_list(&p->proc.text, p->proc.files, "maps");
	size_t lines = 1, n = 0;

	if (rc)
		return rc;
	for (const char *c = p->proc.text.data; (c = strchr(c, '\n')); c++)
		lines++;
	struct bht_map *maps = realloc(p->maps, lines * sizeof(*maps));
	if (!maps)
		return -ENOMEM;
	p->maps = maps;
	for (const char *line = p->proc.text.data; line && *line; line = strchr(line, '\n')) {
		bool readable;
		line += *line == '\n';
		if (n < lines && parse_map(line, &maps[n], &readable) && readable)
			n++;
	}
	p->n_maps = n;
	return 0;
}

/* The first mapping that ends above ADDR. */
static size_t find_map(const struct bht_process *p, uint64_t addr)
{
	size_t low = 0, high = p->n_maps;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		if (p->maps[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

const struct bht_map *bht_process_map(const struct bht_process *p, uint64_t addr)
{
	const size_t i = find_map(p, addr);

	return i < p->n_maps && p->maps[i].start <= addr ? &p->maps[i] : NULL;
}

int bht_process_remap(struct bht_process *p)
{
	return read_maps(p);
}

static bool covered(const struct bht_process *p, uint64_t addr, uint64_t end)
{
	for (size_t i = find_map(p, addr); i < p->n_maps && p->maps[i].start <= addr; i++) {
		addr = p->maps[i].end;
		if (addr >= end)
			return true;
	}
	return false;
}

static bool process_mapped(struct bht_memory *mem, uint64_t addr, uint64_t len)
{
	struct bht_process *p = (struct bht_process *)mem;
	uint64_t end;

	if (__builtin_add_overflow(addr, len, &end))
		return false;
	if (covered(p, addr, end))
		return true;
	/* It may have been mapped since the maps were read. */
	return read_maps(p) == 0 && covered(p, addr, end);
}

/* --- reading ------------------------------------------------------------------ */

static int read_batch(struct bht_process *p, const struct bht_span *spans, size_t n)
{
	struct iovec local[IOV_MAX], remote[IOV_MAX];
	size_t wanted = 0;

	for (size_t i = 0; i < n; i++) {
		local[i] = (struct iovec){ spans[i].buf, spans[i].len };
		remote[i] = (struct iovec){ (void *)(uintptr_t)spans[i].addr, spans[i].len };
		wanted += spans[i].len;
	}
	ssize_t got = process_vm_readv((pid_t)p->proc.speaker, local, n, remote, n, 0);
	if (got < 0) {
		/* EINVAL: an address that no user space has. */
		switch (errno) {
		case ESRCH:
		case EPERM:
			return -errno;
		case EFAULT:
		case EINVAL:
			return -EFAULT;
		default:
			return -EIO;
		}
	}
	p->mem.bytes_read += (uint64_t)got;
	return (size_t)got == wanted ? 0 : -EFAULT;
}

static int process_read(struct bht_memory *mem, const struct bht_span *spans, size_t n)
{
	struct bht_process *p = (struct bht_process *)mem;
	int rc = 0;

	for (size_t at = 0; at < n && !rc; at += IOV_MAX)
		rc = read_batch(p, spans + at, n - at < IOV_MAX ? n - at : IOV_MAX);
	return rc;
}

/* --- opening ------------------------------------------------------------------ */

/* The value of kernel.yama.ptrace_scope, 0 where there is no such thing. */
static long yama_scope(void)
{
	FILE *file = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
	long scope = 0;

	if (file && fscanf(file, "%ld", &scope) != 1)
		scope = 0;
	if (file)
		fclose(file);
	return scope;
}

static int refuse_permission(const struct bht_process *p, struct bht_refusal *refusal)
{
	const long scope = yama_scope();
	struct stat st;
	char yama[64] = "";

	if (scope > 0)
		snprintf(yama, sizeof(yama), ", or kernel.yama.ptrace_scope=0 (it is %ld)", scope);
	if (p->proc.dir < 0 || fstat(p->proc.dir, &st) || st.st_uid == geteuid())
		return bht_refuse(refusal, -EPERM, 0, "process %u: not permitted; CAP_SYS_PTRACE would do%s", p->pid,
				  yama);
	return bht_refuse(refusal, -EPERM, 0,
			  "process %u of uid %u: not permitted for uid %u; the same user or CAP_SYS_PTRACE would do%s",
			  p->pid, st.st_uid, geteuid(), yama);
}

static int read_speaker(struct bht_process *p, struct bht_thread *thread, uint32_t *flags)
{
	int rc = bht_text_read(&p->proc.text, p->proc.files, "stat");

	return rc ? rc : bht_parse_stat(p->proc.text.data, thread, flags);
}

bool bht_process_gone(struct bht_process *p)
{
	struct bht_thread speaker;
	uint32_t flags = 0;
	int rc = read_speaker(p, &speaker, &flags);

	return rc == -ESRCH || flags & EXITING || !bht_process_alive(p);
}

int bht_process_refuse(struct bht_process *p, int error, struct bht_refusal *refusal)
{
	if (error == -ESRCH || bht_process_gone(p))
		return bht_refuse(refusal, -ESRCH, 0, "process %u: exited while it was read", p->pid);
	if (error == -EPERM || error == -EACCES)
		return refuse_permission(p, refusal);
	return error;
}

static int open_pidfd(struct bht_process *p, struct bht_refusal *refusal)
{
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	if (p->pidfd >= 0)
		return 0;
	switch (errno) {
	case ESRCH:
		return bht_refuse(refusal, -ESRCH, 0, "process %u: does not exist", p->pid);
	case EINVAL:
	case ENOENT:
		return bht_refuse(refusal, -ESRCH, 0, "%u: no process id, perhaps that of a thread", p->pid);
	default:
		return bht_refuse(refusal, -errno, 0, "process %u: pidfd_open: %s", p->pid, strerror(errno));
	}
}

/* An error of /proc itself. */
static int refuse_proc(struct bht_process *p, int error, const char *file, struct bht_refusal *refusal)
{
	bht_refuse(refusal, error, 0, "/proc/%u/%s: %s", p->pid, file, strerror(-error));
	return bht_process_refuse(p, error, refusal);
}

/* What has no memory is refused by name. */
static int check_kind(struct bht_process *p, struct bht_refusal *refusal)
{
	struct bht_thread speaker;
	uint32_t flags;
	int rc = read_speaker(p, &speaker, &flags);

	if (rc)
		return refuse_proc(p, rc, "stat", refusal);
	if (flags & KERNEL_THREAD)
		return bht_refuse(refusal, -ENOENT, 0, "process %u (%s): a kernel thread", p->pid, speaker.name);
	if (speaker.state == 'Z' || speaker.state == 'X')
		return bht_refuse(refusal, -ESRCH, 0, "process %u (%s): a zombie, all its threads have exited", p->pid,
				  speaker.name);
	return 0;
}

int bht_process_open(struct bht_process *p, uint32_t pid, struct bht_refusal *refusal)
{
	*p = (struct bht_process){
		.mem = { process_read, process_mapped, 0 }, .proc = { .dir = -1, .files = -1 }, .pid = pid, .pidfd = -1
	};
	if (!pid || pid > INT_MAX)
		return bht_refuse(refusal, -ESRCH, 0, "%u: no process id", pid);
	int rc = open_pidfd(p, refusal);
	if (rc)
		return rc;
	rc = bht_procfs_open(&p->proc, pid);
	if (rc == -ENOENT && bht_process_alive(p))
		return bht_refuse(refusal, -EPERM, 0, "process %u: /proc does not show it (mounted with hidepid?)",
				  pid);
	if (rc)
		return refuse_proc(p, rc, "", refusal);
	rc = check_kind(p, refusal);
	if (rc)
		return rc;
	rc = read_maps(p);
	return rc ? refuse_proc(p, rc, "maps", refusal) : 0;
}

void bht_process_close(struct bht_process *p)
{
	bht_procfs_close(&p->proc);
	if (p->pidfd >= 0)
		close(p->pidfd);
	free(p->maps);
}

int bht_process_roots(struct bht_process *p, struct bht_roots *roots, struct bht_refusal *refusal)
{
	struct bht_notes notes = { .n_roots = 0 };
	uint64_t *addrs = calloc(p->n_maps + 1, sizeof(*addrs));
	char subject[32];
	size_t n = 0;

	if (!addrs)
		return bht_refuse(refusal, -ENOMEM, 0, "process %u: no memory", p->pid);
	for (size_t i = 0; i < p->n_maps; i++)
		if (p->maps[i].file_start)
			addrs[n++] = p->maps[i].start;
	int rc = bht_notes_find(&p->mem, addrs, n, &notes);
	free(addrs);
	if (rc)
		return bht_refuse_read(refusal, rc, 0, "ELF images");
	snprintf(subject, sizeof(subject), "process %u", p->pid);
	return bht_roots_open(&p->mem, &notes, subject, roots, refusal);
}

bool bht_process_alive(const struct bht_process *p)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };

	return poll(&pfd, 1, 0) != 1;
}

/* --- what foreign.h asks ---------------------------------------------------------- */

static bool target_executable(void *arg, uint64_t addr)
{
	const struct bht_map *map = bht_process_map(arg, addr);

	return map && map->executable;
}

static bool target_writable(void *arg, uint64_t addr)
{
	const struct bht_map *map = bht_process_map(arg, addr);

	return map && map->writable;
}

static int target_descriptor(void *arg, int32_t fd)
{
	const struct bht_process *p = arg;

	return bht_procfs_descriptor(&p->proc, fd);
}

static enum bht_stack_known target_stack(void *arg, const struct bht_thread *thread, struct bht_registers *registers,
					 uint64_t *end)
{
	return bht_process_stack(arg, thread, registers, end);
}

static bool target_running(void *arg, const struct bht_thread *thread, struct bht_registers *registers)
{
	return bht_process_running(arg, thread, registers);
}

struct bht_foreign_target bht_process_target(struct bht_process *p, struct bht_images *images)
{
	return (struct bht_foreign_target){ .mem = &p->mem,
					    .images = images,
					    .executable = target_executable,
					    .writable = target_writable,
					    .descriptor = target_descriptor,
					    .stack = target_stack,
					    .running = target_running,
					    .arg = p };
}
