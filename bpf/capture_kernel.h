/* SPDX-License-Identifier: MIT */
/* capture_kernel.h - the programs of capture.bpf.c, loaded, and their rings */
#ifndef BHB_CAPTURE_KERNEL_H
#define BHB_CAPTURE_KERNEL_H

#include "capture.h"
#include "wire.h"

struct bhb_kernel;

/* Loads what O asks for and this kernel has; ON_EVENT and ON_LIFE get ARG. NULL with errno and WHY. */
struct bhb_kernel *bhb_kernel_open(const struct bhb_options *o, ring_buffer_sample_fn on_event,
				   ring_buffer_sample_fn on_life, void *arg, struct bhb_programs *programs,
				   char why[BHB_WHY]);

/* For functions of loops that have no probes; K's. */
struct bhb_recipes *bhb_kernel_recipes(const struct bhb_kernel *k);

/* From here on no process stops, and none is followed; what was told of them goes to ON_LIFE. */
void bhb_kernel_stop(struct bhb_kernel *k);
void bhb_kernel_close(struct bhb_kernel *k);

/* The table of processes. From the first on its life is told, from the second on also what it does; and it
 * is not stopped by us, or will not be soon. 0 or -errno. */
int bhb_kernel_add(struct bhb_kernel *k, uint32_t pid);
void bhb_kernel_ready(struct bhb_kernel *k, uint32_t pid);
void bhb_kernel_drop(struct bhb_kernel *k, uint32_t pid);

/* The ring of the events: how far it is written, and how far read once the record of SIZE bytes is, too. */
uint64_t bhb_kernel_written(const struct bhb_kernel *k);
uint64_t bhb_kernel_read_to(const struct bhb_kernel *k, size_t size);
uint64_t bhb_kernel_ring_size(const struct bhb_kernel *k);

/* Hands what is in a ring to its function; that of the events, until ON_EVENT gives a negative number. */
void bhb_kernel_events(struct bhb_kernel *k);
void bhb_kernel_lives(struct bhb_kernel *k);
int bhb_kernel_fd(const struct bhb_kernel *k); /* readable: there is life */

/* Sums over all processors, and the latest time. */
struct bhb_counts bhb_kernel_counts(const struct bhb_kernel *k);
void bhb_kernel_cost(const struct bhb_kernel *k, uint64_t *ns, uint64_t *runs);
const char *bhb_kernel_missing(const struct bhb_kernel *k); /* BHB_WHY bytes */

#endif
