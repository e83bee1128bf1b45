/* SPDX-License-Identifier: MIT */
/* process.h - the memory of a running process, read with process_vm_readv */
#ifndef BHT_PROCESS_H
#define BHT_PROCESS_H

#include "foreign.h"
#include "procfs.h"
#include "registry.h"
#include "roots.h"

/* A mapping that can be read. */
struct bht_map {
	uint64_t start;
	uint64_t end;
	bool file_start; /* of the first page of a file: an ELF image may begin here */
	bool writable, executable;
};

struct bht_process {
	struct bht_memory mem; /* first, so that its functions find the rest */
	struct bht_procfs proc;
	uint32_t pid;
	int pidfd;
	struct bht_map *maps; /* by address */
	size_t n_maps;
	unsigned running_max; /* threads that may still be looked at while they run: each takes some ms */
};

/* Opens process PID. 0 or what bht_live_open() gives; release with
 * bht_process_close() in any case. */
int bht_process_open(struct bht_process *p, uint32_t pid, struct bht_refusal *refusal);
void bht_process_close(struct bht_process *p);

/* The mapping that holds ADDR, as the maps were read last; NULL when none does. Maps are read again when memory
 * is asked for that is in none, and by bht_process_remap(): 0 or -errno. */
const struct bht_map *bht_process_map(const struct bht_process *p, uint64_t addr);
int bht_process_remap(struct bht_process *p);

/* process_stack.c: as bht_foreign_target.stack() and running(). */
enum bht_stack_known bht_process_stack(struct bht_process *p, const struct bht_thread *thread,
				       struct bht_registers *registers, uint64_t *end);
bool bht_process_running(struct bht_process *p, const struct bht_thread *thread, struct bht_registers *registers);

/* What foreign.h asks of it; IMAGES is borrowed. */
struct bht_foreign_target bht_process_target(struct bht_process *p, struct bht_images *images);

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
