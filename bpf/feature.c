/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attach.h"
#include "feature.h"
#include "multi.h"

/* Inode numbers of the initial namespaces: PROC_PID_INIT_INO and PROC_USER_INIT_INO, <linux/proc_ns.h>. */
enum { CAP_SYS_ADMIN_BIT = 21, CAP_PERFMON_BIT = 38, CAP_BPF_BIT = 39 };
static const ino_t initial_pid_ns = 4026531836, initial_user_ns = 4026531837;

static const char vmlinux[] = "/sys/kernel/btf/vmlinux";
static const char uprobe_type[] = "/sys/bus/event_source/devices/uprobe/type";
static const char uprobe_counter[] = "/sys/bus/event_source/devices/uprobe/format/ref_ctr_offset";

static const char *const remedies[BHB_FEATURES] = {
	[BHB_PERMITTED] =
		"run it as root, or with CAP_BPF and CAP_PERFMON; in a container these must be given on the host, "
		"and its seccomp filter must let bpf(2) pass",
	[BHB_BTF] = "a kernel with CONFIG_DEBUG_INFO_BTF=y, and sysfs: mount -t sysfs sysfs /sys",
	[BHB_RINGBUF] = "a kernel that has BPF ring buffers (Linux 5.8 and later), and CAP_BPF",
	/* CAP_PERFMON was enough until "perf: Revert to requiring CAP_SYS_ADMIN for uprobes" */
	[BHB_UPROBES] = "a kernel with uprobe_multi links (Linux 6.10 and later); or else CAP_SYS_ADMIN (where the "
			"kernel is content with it, CAP_PERFMON), CONFIG_UPROBE_EVENTS=y, and sysfs: mount -t sysfs "
			"sysfs /sys",
	[BHB_RAW_TRACEPOINT] = "a kernel with CONFIG_BPF_EVENTS=y and BTF, and CAP_BPF with CAP_PERFMON",
	[BHB_PERF_EVENT] = "a kernel with CONFIG_PERF_EVENTS=y, and CAP_PERFMON or kernel.perf_event_paranoid=-1",
};

/* A file of /proc or /sys, as a string; "" when it cannot be read. */
static void read_text(const char *path, char *text, size_t size)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	if (fd >= 0)
		close(fd);
}

/* The smallest program: gives 0. A descriptor or -errno. */
static int load(enum bpf_prog_type type, const struct bpf_prog_load_opts *opts)
{
	const struct bpf_insn nothing[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K }, { .code = BPF_JMP | BPF_EXIT } };
	const int fd = bpf_prog_load(type, "bhb_try", "Dual MIT/GPL", nothing, 2, opts);

	return fd < 0 ? -errno : fd;
}

static int perf_event(struct perf_event_attr *attr, pid_t pid, int cpu)
{
	const long fd = syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

/* 0 or -errno; takes FD over. */
static int done(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

static int try_btf(void)
{
	const int fd = open(vmlinux, O_RDONLY | O_CLOEXEC);

	return done(fd < 0 ? -errno : fd);
}

static int try_ringbuf(void)
{
	const int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "bhb_try", 0, 0, (uint32_t)sysconf(_SC_PAGESIZE), NULL);

	return done(fd < 0 ? -errno : fd);
}

/* What a probe is put on, and what it counts in. */
static volatile uint16_t counter = 2;

__attribute__((noinline)) static void probed(void)
{
	__asm__ volatile("nop");
}

/* Where in its file ADDRESS of this process is; *PATH of it. 0: not found. */
static uint64_t offset_of(const void *address, char *path, size_t size)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long long start, end, offset;
	char line[4600];
	uint64_t found = 0;
	int at;

	while (f && !found && fgets(line, sizeof(line), f)) {
		at = 0;
		if (sscanf(line, "%llx-%llx %*s %llx %*s %*s %n", &start, &end, &offset, &at) != 3 || line[at] != '/' ||
		    (uintptr_t)address < start || (uintptr_t)address >= end)
			continue;
		line[strcspn(line, "\n")] = '\0';
		if ((size_t)snprintf(path, size, "%s", line + at) < size)
			found = (uintptr_t)address - start + offset;
	}
	if (f)
		fclose(f);
	return found;
}

static int try_perf_uprobe(void)
{
	struct perf_event_attr attr = { .size = sizeof(attr), .sample_period = 1, .wakeup_events = 1 };
	char text[16], path[4096];
	int fd;

	read_text(uprobe_type, text, sizeof(text));
	if (!*text || access(uprobe_counter, F_OK))
		return -ENOENT;
	attr.type = (uint32_t)strtoul(text, NULL, 10);
	attr.config = offset_of((const void *)&counter, path, sizeof(path)) << 32;
	attr.config2 = offset_of((const void *)(uintptr_t)probed, path, sizeof(path));
	attr.config1 = (uintptr_t)path;
	if (!attr.config || !attr.config2)
		return -ENOENT;
	fd = perf_event(&attr, 0, -1);
	if (fd >= 0 && counter != 3) {
		close(fd);
		return -ENOTSUP;
	}
	return done(fd);
}

bool bhb_multi_off;

/* Before "bpf: fix multi-uprobe PID filtering logic" (Linux 6.10) a link for a process was for its main thread
 * alone; since then no process is called -1. */
static bool try_multi(void)
{
	const struct bpf_prog_load_opts opts = { .sz = sizeof(opts),
						 .expected_attach_type = (enum bpf_attach_type)BHB_TRACE_UPROBE_MULTI };
	char path[4096];
	const uint64_t cookie = 1, at = offset_of((const void *)(uintptr_t)probed, path, sizeof(path));
	const uint64_t counts = offset_of((const void *)&counter, path, sizeof(path));
	const int program = at && counts ? load(BPF_PROG_TYPE_KPROBE, &opts) : -ENOENT;
	const uint16_t before = counter;
	int fd;

	if (program < 0)
		return false;
	fd = bhb_multi_create(program, path, UINT32_MAX, 1, &at, &counts, &cookie, false);
	if (fd == -EINVAL)
		fd = bhb_multi_create(program, path, (uint32_t)getpid(), 1, &at, &counts, &cookie, false);
	else if (fd >= 0)
		fd = done(fd) - ENOTSUP;
	const bool works = fd >= 0 && counter == before + 1;
	done(fd);
	done(program);
	return works;
}

bool bhb_multi_works(void)
{
	static bool tried, works;

	if (!tried)
		works = try_multi();
	tried = true;
	return works && !bhb_multi_off;
}

static int try_uprobes(void)
{
	return bhb_multi_works() ? 0 : try_perf_uprobe();
}

static int try_tracepoint(void)
{
	const int id = libbpf_find_vmlinux_btf_id("sched_switch", BPF_TRACE_RAW_TP);
	const struct bpf_prog_load_opts opts = { .sz = sizeof(opts),
						 .expected_attach_type = BPF_TRACE_RAW_TP,
						 .attach_btf_id = (uint32_t)id };
	const int program = id < 0 ? id : load(BPF_PROG_TYPE_TRACING, &opts);
	int fd = program < 0 ? program : bpf_raw_tracepoint_open(NULL, program);

	if (program >= 0 && fd < 0)
		fd = -errno;
	done(program);
	return done(fd);
}

static int try_perf_event(void)
{
	struct perf_event_attr attr = { .size = sizeof(attr),
					.type = PERF_TYPE_SOFTWARE,
					.config = PERF_COUNT_SW_CPU_CLOCK,
					.sample_period = 100000000,
					.disabled = 1 };
	const int program = load(BPF_PROG_TYPE_PERF_EVENT, NULL);
	int fd = program < 0 ? program : perf_event(&attr, -1, 0);

	if (program >= 0 && fd >= 0 && ioctl(fd, PERF_EVENT_IOC_SET_BPF, program)) {
		const int error = -errno;
		close(fd);
		fd = error;
	}
	done(program);
	return done(fd);
}

static int try_permitted(void)
{
	/* of the kind that is attached to probes */
	return done(load(BPF_PROG_TYPE_KPROBE, NULL));
}

void bhb_try(enum bhb_feature f, struct bhb_found *found)
{
	static const struct {
		const char *what;
		int (*try)(void);
	} tries[BHB_FEATURES] = {
		[BHB_PERMITTED] = { "loading an eBPF program", try_permitted },
		[BHB_BTF] = { vmlinux, try_btf },
		[BHB_RINGBUF] = { "making a ring buffer", try_ringbuf },
		[BHB_UPROBES] = { "a uprobe with a counter in this process", try_uprobes },
		[BHB_RAW_TRACEPOINT] = { "a program at the tracepoint sched_switch", try_tracepoint },
		[BHB_PERF_EVENT] = { "a program on the clock of a processor", try_perf_event },
	};
	int rc;

	bhb_hush();
	rc = tries[f].try();

	*found = (struct bhb_found){ .works = !rc, .remedy = rc ? remedies[f] : NULL };
	snprintf(found->detail, sizeof(found->detail), "%s: %s", tries[f].what, rc ? strerror(-rc) : "works");
}

static bool in_namespace(const char *path, ino_t initial)
{
	struct stat st;

	return stat(path, &st) || st.st_ino == initial;
}

static uint64_t status_field(const char *key, int base)
{
	char text[4096];
	const char *at;

	read_text("/proc/self/status", text, sizeof(text));
	at = strstr(text, key);
	return at ? strtoull(at + strlen(key), NULL, base) : 0;
}

static const char *why_not_permitted(void)
{
	const uint64_t caps = status_field("\nCapEff:", 16);
	const bool admin = caps >> CAP_SYS_ADMIN_BIT & 1, bpf = caps >> CAP_BPF_BIT & 1;
	const bool perfmon = caps >> CAP_PERFMON_BIT & 1;

	if (!in_namespace("/proc/self/ns/user", initial_user_ns))
		return "in a user namespace no capability permits eBPF: run it outside, as root or with CAP_BPF and "
		       "CAP_PERFMON";
	if (!admin && !bpf && !perfmon)
		return "not permitted to use eBPF: run it as root, or with CAP_BPF and CAP_PERFMON";
	if (!admin && !perfmon)
		return "not permitted to use eBPF for tracing: CAP_PERFMON is missing";
	if (!admin && !bpf)
		return "not permitted to use eBPF: CAP_BPF is missing";
	if (status_field("\nSeccomp:", 10))
		return "a seccomp filter, perhaps of a container, does not let bpf(2) pass: run it without that filter";
	return NULL;
}

const char *bhb_why_not(char *buffer, size_t size)
{
	static const enum bhb_feature needed[] = { BHB_PERMITTED, BHB_BTF, BHB_RINGBUF, BHB_UPROBES };
	struct bhb_found found;
	const char *why;
	char text[64];

	for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		bhb_try(needed[i], &found);
		if (found.works)
			continue;
		why = needed[i] == BHB_PERMITTED ? why_not_permitted() : NULL;
		if (why)
			return why;
		snprintf(buffer, size, "%s; needed: %s", found.detail, found.remedy);
		return buffer;
	}
	if (!in_namespace("/proc/self/ns/pid", initial_pid_ns))
		return "in a PID namespace the kernel's numbers of processes are not ours: run it on the host, or in a "
		       "container "
		       "that shares the host's (--pid=host)";
	read_text("/sys/kernel/security/lockdown", text, sizeof(text));
	if (strstr(text, "[confidentiality]"))
		return "kernel lockdown forbids eBPF to read memory: boot with lockdown=integrity or none";
	return NULL;
}
