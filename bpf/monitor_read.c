/* SPDX-License-Identifier: MIT */
/* What the kernel's maps and counters hold. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "monitor_inside.h"
#include "wire.h"

enum { BATCH = 256, SAMPLE = 10000 };

/* Copies of MAP's entries, each of SIZE bytes, to EACH of ARG. */
static int read_map(struct bpf_map *map, size_t size, bool (*each)(void *arg, const struct bhb_key *key, const void *e),
		    void *arg)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	struct bhb_key *keys = calloc(BATCH, sizeof(*keys));
	char *values = calloc(BATCH, size);
	uint32_t at = 0, count = BATCH;
	bool first = true, on = keys && values;
	int rc = on ? 0 : -ENOMEM;

	while (on && !rc) {
		count = BATCH;
		rc = bpf_map_lookup_batch(bpf_map__fd(map), first ? NULL : &at, &at, keys, values, &count, &opts)
			     ? -errno
			     : 0;
		first = false;
		for (uint32_t i = 0; on && (!rc || rc == -ENOENT) && i < count; i++)
			on = each(arg, &keys[i], values + i * size);
	}
	free(keys);
	free(values);
	return rc == -ENOENT ? 0 : rc;
}

struct typed {
	bool (*bh)(void *arg, const struct bhb_key *key, const struct bhb_bh *bh);
	bool (*loop)(void *arg, const struct bhb_key *key, const struct bhb_loop *loop);
	void *arg;
};

static bool as_bh(void *arg, const struct bhb_key *key, const void *e)
{
	const struct typed *t = arg;

	return t->bh(t->arg, key, e);
}

static bool as_loop(void *arg, const struct bhb_key *key, const void *e)
{
	const struct typed *t = arg;

	return t->loop(t->arg, key, e);
}

int bhb_monitor_bhs(struct bhb_monitor *m, bool (*each)(void *arg, const struct bhb_key *key, const struct bhb_bh *bh),
		    void *arg)
{
	return read_map(m->skel->maps.bhs, sizeof(struct bhb_bh), as_bh, &(struct typed){ .bh = each, .arg = arg });
}

int bhb_monitor_loops(struct bhb_monitor *m,
		      bool (*each)(void *arg, const struct bhb_key *key, const struct bhb_loop *loop), void *arg)
{
	return read_map(m->skel->maps.loops, sizeof(struct bhb_loop), as_loop,
			&(struct typed){ .loop = each, .arg = arg });
}

/* Adds up MAP's only entry over the processors, as N words. */
static void sum(const struct bhb_monitor *m, struct bpf_map *map, uint64_t *words, unsigned n)
{
	uint64_t *each = calloc(m->processors, n * sizeof(*each));
	const uint32_t zero = 0;

	if (each && !bpf_map_lookup_elem(bpf_map__fd(map), &zero, each))
		for (unsigned i = 0; i < m->processors * n; i++)
			words[i % n] += each[i];
	free(each);
}

struct bhb_monitor_stats bhb_monitor_stats(struct bhb_monitor *m)
{
	struct bhb_counts counts = { 0 };
	struct bhb_monitor_stats s = { .attach = bhb_attach_stats(m->attached) };
	struct bpf_program *program;

	sum(m, m->skel->maps.counts, (uint64_t *)&counts, sizeof(counts) / sizeof(uint64_t));
	s.hits = counts.hits;
	s.strange = counts.strange;
	s.told = m->skel->bss->n_told;
	s.evicted = m->skel->bss->evicted + m->skel->bss->refused;
	for (size_t i = 0; i < m->n; i++)
		s.processes += m->processes[i].begun;
	bpf_object__for_each_program(program, m->skel->obj)
	{
		struct bpf_prog_info info = { 0 };
		uint32_t size = sizeof(info);
		if (bpf_program__type(program) != BPF_PROG_TYPE_KPROBE ||
		    bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size))
			continue;
		s.bpf_ns += info.run_time_ns;
		s.bpf_runs += info.run_cnt;
	}
	/* That tells what one takes. To have them counted costs each, so no longer than that. */
	if (m->stats >= 0 && s.bpf_runs >= SAMPLE) {
		close(m->stats);
		m->stats = -1;
	}
	return s;
}

double bhb_monitor_ticks_per_ns(const struct bhb_monitor *m)
{
	return m->ticks_per_ns;
}
