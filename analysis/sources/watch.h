/* SPDX-License-Identifier: MIT */
/* watch.h - which file descriptors the owner of a loop waits for */
#ifndef BHT_WATCH_H
#define BHT_WATCH_H

#include "memory.h"
#include "procfs.h"

/*
 * Fills in what the kernel tells of the loops of SAMPLE: notifier_count,
 * notifier_watched, notifier_mask, embedder_watches, and the wchan of sleeping
 * owners. To be called when the threads were read and the owners are known:
 * what counts is the set that an owner really sleeps in, be it an epoll set or
 * an array of poll(2) in MEM. What could not be read goes to ev->unseen.
 */
void bht_watch_read(struct bht_procfs *p, struct bht_memory *mem, struct bht_evidence *ev, struct bht_sample *sample);

#endif
