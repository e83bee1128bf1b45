/* SPDX-License-Identifier: MIT */
/*
 * multi.h - all sites of a program in a file, attached through one link
 *
 * BPF uprobe_multi (Linux 6.6). The uprobes of perf are removed one by one under a lock of the whole
 * machine, each with a wait of 70 to 110 ms; a link removes all of its own with one, and links
 * that are closed at the same time wait together. libbpf 1.1 does not know them, so that what
 * it has for USDT is done here: sites, and the map of where arguments are.
 */
#ifndef BHB_MULTI_H
#define BHB_MULTI_H

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "attach.h"
#include "usdt_args.h"

enum { BHB_TRACE_UPROBE_MULTI = 48 }; /* BPF_TRACE_UPROBE_MULTI of enum bpf_attach_type, Linux 6.6 */

struct bhb_site {
	unsigned event;
	uint64_t offset, counter; /* in the file; of its semaphore, 0: it has none */
	struct bhb_usdt_spec spec;
};

/* The sites that bhb_sites_of() counts. Besides its errors: EINVAL, where an argument is is not
 * understood; E2BIG: too many. *SITES is to be freed. */
int bhb_sites_list(int fd, const char *name, struct bhb_site **sites, char why[BHB_WHY]);

/* What is in the map __bpf_usdt_specs; only added to, as most builds have the same. */
struct bhb_specs {
	const struct bpf_map *map;
	struct bhb_usdt_spec *spec; /* to be freed */
	unsigned n;
};

/*
 * A link of PROGRAM, loaded for BHB_TRACE_UPROBE_MULTI, to the sites of EVENT in the file PATH; PID 0: for
 * everybody. A descriptor to be closed, or -errno: ENOSPC, the map is full.
 */
int bhb_multi_link(struct bhb_specs *s, const struct bpf_program *program, const char *path, uint32_t pid,
		   const struct bhb_site *sites, size_t n, unsigned event);

/* bpf(BPF_LINK_CREATE), for what bhb_multi_link(), recipes.c and feature.c ask of it. A descriptor or -errno. */
int bhb_multi_create(int program, const char *path, uint32_t pid, uint32_t n, const uint64_t *offsets,
		     const uint64_t *counters, const uint64_t *cookies, bool at_return);

/* Closes those of N descriptors that are not negative, in parallel as far as there are threads to be
 * had; returns when the kernel has removed them. Thread-safe. */
void bhb_multi_close(const int *fds, size_t n);

#endif
