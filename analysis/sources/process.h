/* SPDX-License-Identifier: MIT */
/* process.h - the memory of a running process, read with process_vm_readv */
#ifndef BHT_PROCESS_H
#define BHT_PROCESS_H

#include "procfs.h"
#include "registry.h"
#include "roots.h"

/* A mapping that can be read. */
struct bht_map {
	uint64_t start;
	uint64_t end;
	bool file_start; /* of the first page of a file: an ELF image may begin here */
};

struct bht_process {
	struct bht_memory mem; /* first, so that its functions find the rest */
	struct bht_procfs proc;
	uint32_t pid;
	int pidfd;
	struct bht_map *maps; /* by address */
	size_t n_maps;
};

/* Opens process PID. 0 or what bht_live_open() gives; release with
 * bht_process_close() in any case. */
int bht_process_open(struct bht_process *p, uint32_t pid, struct bht_refusal *refusal);
void bht_process_close(struct bht_process *p);

/* Finds its roots by the notes of the images that are mapped. 0 or as bht_roots_open(). */
int bht_process_roots(struct bht_process *p, struct bht_roots *roots, struct bht_refusal *refusal);

/* Whether it has not exited. */
bool bht_process_alive(const struct bht_process *p);

/* Whether it is at least on its way out: it loses its memory and its threads
 * some time before the pidfd tells that it exited. */
bool bht_process_gone(struct bht_process *p);

/* Turns ERROR of a read into the final refusal: a process that has exited is
 * -ESRCH whatever the read said, and a lack of permission says what would help. */
int bht_process_refuse(struct bht_process *p, int error, struct bht_refusal *refusal);

#endif
