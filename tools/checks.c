/* SPDX-License-Identifier: MIT */
#include "checks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* Numbers of include/uapi/linux/capability.h; older headers lack the last two. */
enum { SYS_PTRACE = 19 };

#define SAY(...) snprintf(detail, CHECK_DETAIL, __VA_ARGS__)

/* The first line of FILE that begins with PREFIX, without it. */
static bool read_line(const char *file, const char *prefix, char *line, size_t size)
{
	FILE *in = fopen(file, "re");
	bool found = false;

	while (in && !found && fgets(line, (int)size, in))
		found = !strncmp(line, prefix, strlen(prefix));
	if (in)
		fclose(in);
	if (found) {
		memmove(line, line + strlen(prefix), strlen(line) - strlen(prefix) + 1);
		line[strcspn(line, "\n")] = '\0';
	}
	return found;
}

static bool has_capability(unsigned number)
{
	char line[64];

	return read_line("/proc/self/status", "CapEff:", line, sizeof(line)) && strtoull(line, NULL, 16) >> number & 1;
}

/* Reads one word at ADDR of PID. 0 or an errno. */
static int read_word(pid_t pid, uint64_t addr)
{
	uint64_t word;
	struct iovec here = { &word, sizeof(word) }, there = { (void *)(uintptr_t)addr, sizeof(word) };

	return process_vm_readv(pid, &here, 1, &there, 1, 0) == sizeof(word) ? 0 : errno;
}

static const uint64_t landmark = 1;

/* A child that runs BODY and exits with its result; -1 when it has none. */
static int in_child(int (*body)(pid_t parent))
{
	pid_t parent = getpid(), child = fork();
	int status;

	if (!child)
		_exit(body(parent));
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static bool pidfd_works(uint32_t pid, char detail[CHECK_DETAIL])
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	(void)pid;
	SAY("pidfd_open: %s", fd < 0 ? strerror(errno) : "works");
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool pidfd_getfd_works(uint32_t pid, char detail[CHECK_DETAIL])
{
	int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
	int fd = (int)syscall(SYS_pidfd_getfd, self, self, 0);

	(void)pid;
	SAY("pidfd_getfd: %s", fd < 0 ? strerror(errno) : "works");
	if (fd >= 0)
		close(fd);
	if (self >= 0)
		close(self);
	return fd >= 0;
}

static bool child_is_readable(uint32_t pid, char detail[CHECK_DETAIL])
{
	pid_t child = fork();

	(void)pid;
	if (!child)
		for (;;)
			pause();
	int err = child < 0 ? errno : read_word(child, (uintptr_t)&landmark);
	SAY("process_vm_readv on a child of this process: %s", err ? strerror(err) : "works");
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	return !err;
}

static int read_parent(pid_t parent)
{
	return read_word(parent, (uintptr_t)&landmark);
}

/* A parent is no descendant of its child: the case that Yama restricts. */
static bool stranger_is_readable(uint32_t pid, char detail[CHECK_DETAIL])
{
	int err = in_child(read_parent);

	(void)pid;
	SAY("process_vm_readv on a process that is no child: %s", err < 0 ? "could not be tried"
								  : err   ? strerror(err)
									  : "works");
	return !err;
}

static bool yama_allows(uint32_t pid, char detail[CHECK_DETAIL])
{
	char scope[16];

	(void)pid;
	if (!read_line("/proc/sys/kernel/yama/ptrace_scope", "", scope, sizeof(scope))) {
		SAY("kernel.yama.ptrace_scope is not there: no restriction");
		return true;
	}
	SAY("kernel.yama.ptrace_scope is %s", scope);
	return *scope == '0' || (*scope != '3' && has_capability(SYS_PTRACE));
}

static bool syscall_is_shown(uint32_t pid, char detail[CHECK_DETAIL])
{
	char file[64], line[256];

	snprintf(file, sizeof(file), "/proc/%u/syscall", pid ? pid : (uint32_t)getpid());
	bool shown = read_line(file, "", line, sizeof(line));
	SAY("%s: %s", file, shown ? "readable" : strerror(errno));
	return shown;
}

static bool eventfd_count_is_shown(uint32_t pid, char detail[CHECK_DETAIL])
{
	char file[64], line[64];
	int fd = eventfd(3, EFD_CLOEXEC);

	(void)pid;
	snprintf(file, sizeof(file), "/proc/self/fdinfo/%d", fd);
	bool shown = fd >= 0 && read_line(file, "eventfd-count:", line, sizeof(line)) && strtoull(line, NULL, 16) == 3;
	SAY("eventfd-count in fdinfo: %s", shown ? "shown" : "not shown");
	if (fd >= 0)
		close(fd);
	return shown;
}

static bool epoll_set_is_shown(uint32_t pid, char detail[CHECK_DETAIL])
{
	int set = epoll_create1(EPOLL_CLOEXEC), fd = eventfd(0, EFD_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN };
	char file[64], line[128];
	bool shown = false;

	(void)pid;
	snprintf(file, sizeof(file), "/proc/self/fdinfo/%d", set);
	if (set >= 0 && fd >= 0 && !epoll_ctl(set, EPOLL_CTL_ADD, fd, &event))
		shown = read_line(file, "tfd:", line, sizeof(line));
	SAY("members of an epoll set in fdinfo: %s", shown ? "shown" : "not shown");
	if (fd >= 0)
		close(fd);
	if (set >= 0)
		close(set);
	return shown;
}

static bool clock_is_invariant(uint32_t pid, char detail[CHECK_DETAIL])
{
	(void)pid;
#if defined(__x86_64__)
	char line[8192];
	bool known = read_line("/proc/cpuinfo", "flags", line, sizeof(line));
	bool invariant = known && strstr(line, " constant_tsc") && strstr(line, " nonstop_tsc");

	SAY("TSC: %s", invariant ? "constant_tsc and nonstop_tsc" : "may change its rate, or stop");
	return invariant;
#else
	SAY("the architecture's system counter has a fixed rate");
	return true;
#endif
}

static bool say_capability(const char *name, unsigned number, char detail[CHECK_DETAIL])
{
	bool has = has_capability(number);

	SAY("%s is %seffective", name, has ? "" : "not ");
	return has;
}

static bool has_ptrace(uint32_t pid, char detail[CHECK_DETAIL])
{
	(void)pid;
	return say_capability("CAP_SYS_PTRACE", SYS_PTRACE, detail);
}

/* The start of the first readable mapping of PID. */
static bool first_mapping(uint32_t pid, uint64_t *addr)
{
	char file[64], line[512], read = '-';
	uint64_t end;

	snprintf(file, sizeof(file), "/proc/%u/maps", pid);
	FILE *in = fopen(file, "re");
	while (in && read != 'r' && fgets(line, sizeof(line), in))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %c", addr, &end, &read) != 3)
			break;
	if (in)
		fclose(in);
	return read == 'r';
}

static bool target_maps_are_readable(uint32_t pid, char detail[CHECK_DETAIL])
{
	uint64_t addr;

	errno = 0;
	bool readable = first_mapping(pid, &addr);
	SAY("/proc/%u/maps: %s", pid, readable ? "readable" : errno ? strerror(errno) : "shows no readable mapping");
	return readable;
}

static bool target_is_readable(uint32_t pid, char detail[CHECK_DETAIL])
{
	uint64_t addr = 0;
	int err = first_mapping(pid, &addr) ? read_word((pid_t)pid, addr) : EPERM;

	SAY("process_vm_readv on process %u: %s", pid, err ? strerror(err) : "works");
	return !err;
}

static bool target_fds_are_shown(uint32_t pid, char detail[CHECK_DETAIL])
{
	char file[64];

	snprintf(file, sizeof(file), "/proc/%u/fdinfo", pid);
	DIR *dir = opendir(file);
	SAY("%s: %s", file, dir ? "readable" : strerror(errno));
	if (dir)
		closedir(dir);
	return dir;
}

#define LIVE     "diagnose -p, snapshot, rescue"
#define ATTACHED "record --via bpf, watch"
#define AS_ROOT  "run bhtrace as the target's user or as root, or give it CAP_SYS_PTRACE"

#define CHECK(id, needed_by, help, required, available)                                                                \
	{                                                                                                              \
		id, needed_by, help, required, available, BHB_FEATURES                                                 \
	}
#define FEATURE(id, needed_by, feature)                                                                                \
	{                                                                                                              \
		id, needed_by, NULL, false, NULL, feature                                                              \
	}

const struct check checks_system[] = {
	CHECK("pidfd", LIVE, "a kernel with pidfd_open, or a seccomp profile that allows it", true, pidfd_works),
	CHECK("pidfd-getfd", "rescue", "Linux 5.6, or a seccomp profile that allows it", false, pidfd_getfd_works),
	CHECK("read-child", LIVE, "a seccomp profile that allows process_vm_readv", true, child_is_readable),
	CHECK("read-stranger", LIVE, "sysctl kernel.yama.ptrace_scope=0, or CAP_SYS_PTRACE", true,
	      stranger_is_readable),
	CHECK("yama", LIVE, "sysctl kernel.yama.ptrace_scope=0, or CAP_SYS_PTRACE", true, yama_allows),
	CHECK("proc-syscall", LIVE ", to see what a thread sleeps in", "a kernel with CONFIG_HAVE_ARCH_TRACEHOOK",
	      false, syscall_is_shown),
	CHECK("eventfd-count", LIVE ", to see whether a wakeup is pending", "a kernel with CONFIG_PROC_FS fdinfo",
	      false, eventfd_count_is_shown),
	CHECK("epoll-set", LIVE ", to see whether the notifier is watched", "a kernel with CONFIG_PROC_FS fdinfo",
	      false, epoll_set_is_shown),
	CHECK("clock", LIVE ", to order events of several threads", "nothing: confidence is lower on this machine",
	      false, clock_is_invariant),
	CHECK("cap-sys-ptrace", LIVE ", for processes of other users", "sudo, or setcap cap_sys_ptrace+ep on bhtrace",
	      false, has_ptrace),
	FEATURE("bpf", ATTACHED, BHB_PERMITTED),
	FEATURE("bpf-btf", ATTACHED, BHB_BTF),
	FEATURE("bpf-ring-buffer", ATTACHED, BHB_RINGBUF),
	FEATURE("bpf-uprobes", ATTACHED, BHB_UPROBES),
	FEATURE("bpf-tracepoints", "record --via bpf, for the scheduler's part of a gap", BHB_RAW_TRACEPOINT),
	FEATURE("bpf-clock", "watch, to find what is overdue", BHB_PERF_EVENT),
};
const size_t n_checks_system = sizeof(checks_system) / sizeof(*checks_system);

const struct check checks_target[] = {
	CHECK("target-maps", LIVE, AS_ROOT, true, target_maps_are_readable),
	CHECK("target-memory", LIVE, AS_ROOT, true, target_is_readable),
	CHECK("target-syscall", LIVE ", to see what a thread sleeps in", AS_ROOT, false, syscall_is_shown),
	CHECK("target-fdinfo", LIVE ", to see eventfd counts and epoll sets", AS_ROOT, false, target_fds_are_shown),
};
const size_t n_checks_target = sizeof(checks_target) / sizeof(*checks_target);
