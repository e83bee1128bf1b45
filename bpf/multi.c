/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "feature.h"
#include "multi.h"

enum { CLOSERS = 32 }; /* threads, of the whole process */

void bhb_programs_prepare(struct bhb_programs *programs, const struct bpf_object *object)
{
	const struct bpf_map *specs = bpf_object__find_map_by_name(object, "__bpf_usdt_specs");

	programs->specs = NULL;
	if (!specs || bpf_map__value_size(specs) != sizeof(struct bhb_usdt_spec) || !bhb_multi_works())
		return;
	programs->specs = specs;
	for (unsigned i = 0; i < BHB_EVENTS; i++)
		if (programs->of[i])
			bpf_program__set_expected_attach_type(programs->of[i],
							      (enum bpf_attach_type)BHB_TRACE_UPROBE_MULTI);
}

/* The part of union bpf_attr for BPF_LINK_CREATE with uprobe_multi, <linux/bpf.h> of Linux 6.6. */
struct link_create {
	uint32_t prog_fd, target_fd, attach_type, flags;
	struct {
		uint64_t path, offsets, ref_ctr_offsets, cookies;
		uint32_t cnt, flags, pid;
	} uprobe_multi;
};

int bhb_multi_create(int program, const char *path, uint32_t pid, uint32_t n, const uint64_t *offsets,
		     const uint64_t *counters, const uint64_t *cookies, bool at_return)
{
	struct link_create attr;

	memset(&attr, 0, sizeof(attr)); /* its end, too: the kernel looks */
	attr.prog_fd = (uint32_t)program;
	attr.attach_type = BHB_TRACE_UPROBE_MULTI;
	attr.uprobe_multi.path = (uintptr_t)path;
	attr.uprobe_multi.offsets = (uintptr_t)offsets;
	attr.uprobe_multi.ref_ctr_offsets = (uintptr_t)counters;
	attr.uprobe_multi.cookies = (uintptr_t)cookies;
	attr.uprobe_multi.cnt = n;
	attr.uprobe_multi.flags = at_return; /* BPF_F_UPROBE_MULTI_RETURN */
	attr.uprobe_multi.pid = pid;
	const long fd = syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
	return fd < 0 ? -errno : (int)fd;
}

/* The number of SPEC in the map, or -errno. */
static int number_of(struct bhb_specs *s, const struct bhb_usdt_spec *spec)
{
	const unsigned max = bpf_map__max_entries(s->map);

	for (unsigned i = 0; i < s->n; i++)
		if (!memcmp(&s->spec[i], spec, sizeof(*spec)))
			return (int)i;
	if (s->n == max)
		return -ENOSPC;
	if (!s->spec && !(s->spec = malloc(max * sizeof(*s->spec))))
		return -ENOMEM;
	if (bpf_map_update_elem(bpf_map__fd(s->map), &s->n, spec, BPF_ANY))
		return -errno;
	s->spec[s->n] = *spec;
	return (int)s->n++;
}

int bhb_multi_link(struct bhb_specs *s, const struct bpf_program *program, const char *path, uint32_t pid,
		   const struct bhb_site *sites, size_t n, unsigned event)
{
	uint64_t *const offsets = calloc(3 * n, sizeof(*offsets)), *counters = offsets + n, *cookies = counters + n;
	int rc = offsets ? 0 : -ENOMEM, number;
	uint32_t found = 0;

	for (size_t i = 0; i < n && !rc; i++) {
		if (sites[i].event != event)
			continue;
		number = number_of(s, &sites[i].spec);
		if (number < 0) {
			rc = number;
			break;
		}
		offsets[found] = sites[i].offset;
		counters[found] = sites[i].counter;
		cookies[found++] = (uint64_t)number;
	}
	if (!rc)
		rc = bhb_multi_create(bpf_program__fd(program), path, pid, found, offsets, counters, cookies, false);
	free(offsets);
	return rc;
}

struct closing {
	const int *fds;
	size_t n;
	_Atomic size_t next;
};

static _Atomic int closers;

static void *close_some(void *arg)
{
	struct closing *c = arg;
	size_t i;

	while ((i = atomic_fetch_add(&c->next, 1)) < c->n)
		if (c->fds[i] >= 0)
			close(c->fds[i]);
	return NULL;
}

void bhb_multi_close(const int *fds, size_t n)
{
	struct closing c = { .fds = fds, .n = n };
	pthread_t thread[CLOSERS];
	int open = 0, threads = 0;

	for (size_t i = 0; i < n; i++)
		open += fds[i] >= 0;
	/* this one closes, too */
	for (; threads < CLOSERS && threads < open - 1; threads++) {
		if (atomic_fetch_add(&closers, 1) < CLOSERS && !pthread_create(&thread[threads], NULL, close_some, &c))
			continue;
		atomic_fetch_sub(&closers, 1);
		break;
	}
	close_some(&c);
	atomic_fetch_sub(&closers, threads);
	while (threads)
		pthread_join(thread[--threads], NULL);
}
