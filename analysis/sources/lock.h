/* SPDX-License-Identifier: MIT */
/* lock.h - what a thread that sleeps in futex(2) waits for */
#ifndef BHT_LOCK_H
#define BHT_LOCK_H

#include "registry.h"

/*
 * Fills in lock_word and lock_owner of the threads of SAMPLE that sleep in
 * futex(2), from MEM; MAP turns a thread id of the target into the observer's.
 * The lock itself says who owns it: the futex word of a priority-inheriting or
 * robust one, the owner field of a glibc mutex. Only a thread of the sample is
 * believed. What cannot be read stays 0.
 */
void bht_lock_read(struct bht_memory *mem, struct bht_sample *sample, bht_tid_map map, void *arg);

#endif
