/* SPDX-License-Identifier: MIT */
/* privileges.h - what a process can do without is given up */
#ifndef BHTRACE_PRIVILEGES_H
#define BHTRACE_PRIVILEGES_H

#include <stdbool.h>
#include <stdint.h>

#define PRIVILEGE(capability) (UINT64_C(1) << (capability))

/*
 * Keeps, of the capabilities this thread has, those in KEEP; gives up all others, also
 * those that a program could get back by being executed. Those in PERHAPS are kept when WORKS says, without them,
 * that they are needed. Processes that were started before keep theirs. Nothing of that
 * can be undone. 0 or -errno. No other thread may run.
 */
int privileges_keep(uint64_t keep, uint64_t perhaps, bool (*works)(void *arg), void *arg);

#endif
