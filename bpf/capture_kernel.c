/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capture_kernel.h"
#include "feature.h"
#include "guard.h"

/* bpftool calls it as we call ours */
#define bhb_capture skeleton
#include "capture.skel.h"
#undef bhb_capture

struct bhb_kernel {
	struct skeleton *skel;
	struct bhb_recipes *recipes;
	struct ring_buffer *events, *lives;
	volatile const unsigned long *read_to, *written; /* pages of the ring of the events */
	uint64_t ring_size;
	bool gated;
	pid_t guard; /* 0: none */
	unsigned cpus;
	char missing[BHB_WHY];
};

/* Programs that sit in the kernel itself. */
enum part { LIFE, SCHEDULER, CALLS, PARTS };
static const char *const part_names[PARTS] = { "following of children and of what they execute",
					       "switches and wake-ups of the scheduler", "system calls" };
static const struct at {
	const char *program, *event;
	enum part part;
} kernel_programs[] = {
	{ "forked", "btf_trace_sched_process_fork", LIFE },  { "executed", "btf_trace_sched_process_exec", LIFE },
	{ "exited", "btf_trace_sched_process_exit", LIFE },  { "waking", "btf_trace_sched_waking", SCHEDULER },
	{ "switched", "btf_trace_sched_switch", SCHEDULER }, { "call_entered", "btf_trace_sys_enter", CALLS },
	{ "call_left", "btf_trace_sys_exit", CALLS },
};
enum { KERNEL_PROGRAMS = sizeof(kernel_programs) / sizeof(kernel_programs[0]) };

static const struct bpf_call {
	unsigned number;
	enum bhb_shape shape;
} shapes[] = {
	{ SYS_read, BHB_SHAPE_READ },
	{ SYS_write, BHB_SHAPE_WRITE },
	{ SYS_ppoll, BHB_SHAPE_POLL_TS3 },
	{ SYS_epoll_pwait, BHB_SHAPE_EPOLL_MS },
	{ SYS_epoll_pwait2, BHB_SHAPE_EPOLL_TS },
	{ SYS_futex, BHB_SHAPE_FUTEX },
	{ SYS_mmap, BHB_SHAPE_MMAP },
#ifdef SYS_poll
	{ SYS_poll, BHB_SHAPE_POLL_MS3 },
	{ SYS_epoll_wait, BHB_SHAPE_EPOLL_MS },
#endif
};

static void miss(struct bhb_kernel *k, enum part part, const char *why)
{
	const size_t n = strlen(k->missing);

	snprintf(k->missing + n, BHB_WHY - n, "%s%s: %s", n ? "; " : "", part_names[part], why);
}

/* How many arguments the tracepoint gives; -1: there is none. */
static int arguments(const struct btf *btf, const char *event)
{
	const int id = btf__find_by_name_kind(btf, event, BTF_KIND_TYPEDEF);
	const struct btf_type *t = id < 0 ? NULL : btf__type_by_id(btf, (uint32_t)id);

	for (unsigned i = 0; t && i < 2; i++) /* a typedef of a pointer to a function */
		t = btf__type_by_id(btf, t->type);
	return t && btf_is_func_proto(t) ? btf_vlen(t) - 1 : -1;
}

/* Switches off what is not wanted, or not there. */
static int choose(struct bhb_kernel *k, const struct bhb_options *o, const bool wanted[PARTS])
{
	const bool storage = libbpf_probe_bpf_map_type(BPF_MAP_TYPE_TASK_STORAGE, NULL) == 1;
	struct btf *btf = btf__load_vmlinux_btf();
	bool off[PARTS] = { !wanted[LIFE], !wanted[SCHEDULER], !wanted[CALLS] };

	if (!btf)
		return -ENOTSUP;
	if (!off[CALLS] && !storage) {
		miss(k, CALLS, "the kernel has no storage for tasks");
		off[CALLS] = true;
	}
	for (unsigned i = 0; i < KERNEL_PROGRAMS; i++) {
		const struct at *at = &kernel_programs[i];
		if (off[at->part] || arguments(btf, at->event) >= 0)
			continue;
		miss(k, at->part, at->event);
		off[at->part] = true;
	}
	for (unsigned i = 0; i < KERNEL_PROGRAMS; i++)
		bpf_program__set_autoload(bpf_object__find_program_by_name(k->skel->obj, kernel_programs[i].program),
					  !off[kernel_programs[i].part]);
	if (off[CALLS])
		bpf_map__set_autocreate(k->skel->maps.in_calls, false);
	k->skel->rodata->has_state = arguments(btf, "btf_trace_sched_switch") >= 4;
	k->skel->rodata->everybody = o->everybody;
	k->skel->rodata->calls = o->kernel;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (o->kernel || shapes[i].shape == BHB_SHAPE_MMAP)
			k->skel->rodata->shape_of[shapes[i].number] = (uint8_t)shapes[i].shape;
	btf__free(btf);
	return 0;
}

static void choose_probes(struct bhb_kernel *k, const struct bhb_options *o, struct bhb_programs *programs)
{
	struct skeleton *s = k->skel;

	*programs = (struct bhb_programs){ .of = {
#define BHP_EVENT(number, name, fields, doc) [number] = s->progs.on_##name,
#include "events.def.h"
					   } };
	if (!o->begins) {
		bpf_program__set_autoload(programs->of[BHP_ID_execute_begin], false);
		programs->of[BHP_ID_execute_begin] = NULL;
	}
	for (unsigned i = 0; i < BHB_EVENTS; i++)
		if (programs->of[i])
			bpf_program__set_autoattach(programs->of[i], false);
	bhb_programs_prepare(programs, s->obj);
}

static int load(struct bhb_kernel *k, const struct bhb_options *o, const bool wanted[PARTS],
		struct bhb_programs *programs)
{
	int rc;

	bhb_hush();
	k->skel = bhb_capture__open();
	if (!k->skel)
		return -errno;
	rc = choose(k, o, wanted);
	choose_probes(k, o, programs);
	k->recipes = bhb_recipes_prepare(k->skel->obj);
	if (!k->recipes)
		rc = -ENOMEM;
	bpf_map__set_max_entries(k->skel->maps.records, o->ring_size ? o->ring_size : 8u << 20);
	if (!rc)
		rc = bhb_capture__load(k->skel);
	if (!rc && o->gated)
		rc = bhb_guard_start(bpf_map__fd(k->skel->maps.targets), &k->guard);
	if (!rc)
		rc = bhb_capture__attach(k->skel);
	if (rc) {
		bhb_guard_end(k->guard);
		k->guard = 0;
		bhb_recipes_free(k->recipes);
		k->recipes = NULL;
		bhb_capture__destroy(k->skel);
		k->skel = NULL;
	}
	return rc;
}

/* Part after part is given up, until the rest is taken. */
static int load_some(struct bhb_kernel *k, const struct bhb_options *o, struct bhb_programs *programs)
{
	bool wanted[PARTS] = { true, o->kernel, true };
	int rc = load(k, o, wanted, programs);

	for (int part = PARTS - 1; rc && rc != -EPERM && rc != -ENOTSUP && rc != -ENOMEM && part >= 0; part--) {
		if (!wanted[part])
			continue;
		char said[BHB_WHY / 2];
		snprintf(said, sizeof(said), "%s", *bhb_said() ? bhb_said() : strerror(-rc));
		wanted[part] = false;
		miss(k, (enum part)part, said);
		rc = load(k, o, wanted, programs);
	}
	return rc;
}

static int explain(int error, char why[BHB_WHY])
{
	char buffer[BHB_WHY];
	const char *sentence;

	snprintf(why, BHB_WHY, "the kernel does not take the eBPF programs: %s",
		 *bhb_said() ? bhb_said() : strerror(-error));
	sentence = bhb_why_not(buffer, sizeof(buffer));
	if (sentence)
		snprintf(why, BHB_WHY, "%s", sentence);
	return error;
}

/* The pages in front of the ring: how far it was read, and written. */
static int map_positions(struct bhb_kernel *k)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	const int fd = bpf_map__fd(k->skel->maps.records);
	void *read_to = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
	void *written = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, (off_t)page);

	k->read_to = read_to == MAP_FAILED ? NULL : read_to;
	k->written = written == MAP_FAILED ? NULL : written;
	k->ring_size = bpf_map__max_entries(k->skel->maps.records);
	return k->read_to && k->written ? 0 : -errno;
}

struct bhb_kernel *bhb_kernel_open(const struct bhb_options *o, ring_buffer_sample_fn on_event,
				   ring_buffer_sample_fn on_life, void *arg, struct bhb_programs *programs,
				   char why[BHB_WHY])
{
	struct bhb_kernel *k = calloc(1, sizeof(*k));
	int rc;

	if (!k)
		return NULL;
	k->gated = o->gated;
	k->cpus = (unsigned)libbpf_num_possible_cpus();
	rc = load_some(k, o, programs);
	if (rc)
		explain(rc, why);
	if (!rc)
		rc = map_positions(k);
	if (!rc) {
		k->events = ring_buffer__new(bpf_map__fd(k->skel->maps.records), on_event, arg, NULL);
		k->lives = ring_buffer__new(bpf_map__fd(k->skel->maps.lives), on_life, arg, NULL);
		rc = k->events && k->lives ? 0 : -errno;
	}
	if (rc) {
		bhb_kernel_close(k);
		errno = -rc;
		return NULL;
	}
	return k;
}

struct bhb_recipes *bhb_kernel_recipes(const struct bhb_kernel *k)
{
	return k->recipes;
}

void bhb_kernel_stop(struct bhb_kernel *k)
{
	if (!k || !k->skel)
		return;
	bhb_capture__detach(k->skel);
	if (k->lives)
		ring_buffer__consume(k->lives);
}

void bhb_kernel_close(struct bhb_kernel *k)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (!k)
		return;
	bhb_guard_end(k->guard);
	bhb_recipes_free(k->recipes);
	ring_buffer__free(k->events);
	ring_buffer__free(k->lives);
	if (k->read_to)
		munmap((void *)k->read_to, page);
	if (k->written)
		munmap((void *)k->written, page);
	bhb_capture__destroy(k->skel);
	free(k);
}

static int set_flags(struct bhb_kernel *k, uint32_t pid, uint32_t flags, uint64_t how)
{
	if (k->gated)
		flags |= BHB_GATED;
	return bpf_map__update_elem(k->skel->maps.targets, &pid, sizeof(pid), &flags, sizeof(flags), how);
}

int bhb_kernel_add(struct bhb_kernel *k, uint32_t pid)
{
	const int rc = set_flags(k, pid, BHB_FOLLOWED, BPF_NOEXIST);

	return rc == -EEXIST ? 0 : rc;
}

void bhb_kernel_ready(struct bhb_kernel *k, uint32_t pid)
{
	set_flags(k, pid, BHB_FOLLOWED | BHB_TARGET, BPF_EXIST);
}

void bhb_kernel_drop(struct bhb_kernel *k, uint32_t pid)
{
	bpf_map__delete_elem(k->skel->maps.targets, &pid, sizeof(pid), 0);
}

uint64_t bhb_kernel_written(const struct bhb_kernel *k)
{
	/* Pairs with the kernel's release store of it: the records below it are there, or busy. */
	return __atomic_load_n(k->written, __ATOMIC_ACQUIRE);
}

uint64_t bhb_kernel_read_to(const struct bhb_kernel *k, size_t size)
{
	return *k->read_to + (size ? (size + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8 : 0);
}

uint64_t bhb_kernel_ring_size(const struct bhb_kernel *k)
{
	return k->ring_size;
}

void bhb_kernel_events(struct bhb_kernel *k)
{
	ring_buffer__consume(k->events);
}

void bhb_kernel_lives(struct bhb_kernel *k)
{
	ring_buffer__consume(k->lives);
}

int bhb_kernel_fd(const struct bhb_kernel *k)
{
	return ring_buffer__epoll_fd(k->lives);
}

struct bhb_counts bhb_kernel_counts(const struct bhb_kernel *k)
{
	struct bhb_counts sum = { 0, 0, 0, 0 }, *each = calloc(k->cpus, sizeof(*each));
	const uint32_t zero = 0;

	if (each && !bpf_map__lookup_elem(k->skel->maps.counts, &zero, sizeof(zero), each, k->cpus * sizeof(*each), 0))
		for (unsigned i = 0; i < k->cpus; i++) {
			sum.hits += each[i].hits;
			sum.strange += each[i].strange;
			sum.dropped += each[i].dropped;
			if (each[i].dropped_ns > sum.dropped_ns)
				sum.dropped_ns = each[i].dropped_ns;
		}
	free(each);
	return sum;
}

void bhb_kernel_cost(const struct bhb_kernel *k, uint64_t *ns, uint64_t *runs)
{
	struct bpf_program *p;

	*ns = *runs = 0;
	bpf_object__for_each_program(p, k->skel->obj)
	{
		struct bpf_prog_info info = { 0 };
		uint32_t size = sizeof(info);
		if (bpf_program__fd(p) < 0 || bpf_obj_get_info_by_fd(bpf_program__fd(p), &info, &size))
			continue;
		*ns += info.run_time_ns;
		*runs += info.run_cnt;
	}
}

const char *bhb_kernel_missing(const struct bhb_kernel *k)
{
	return k->missing;
}
