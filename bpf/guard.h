/* SPDX-License-Identifier: MIT */
/*
 * guard.h - who lets stopped processes go when this one is killed
 *
 * A gated process stops itself until its probes are attached. Should this process be
 * killed meanwhile, it would stay stopped for ever.
 */
#ifndef BHB_GUARD_H
#define BHB_GUARD_H

#include <sys/types.h>

/* Starts a process that waits for the end of this one, and then continues all of the table TARGETS (a
 * descriptor) that are stopped by us. To be called before any probe is attached: the guard would keep it. */
int bhb_guard_start(int targets, pid_t *guard);
void bhb_guard_end(pid_t guard);

#endif
