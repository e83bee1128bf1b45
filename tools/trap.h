/* SPDX-License-Identifier: MIT */
/* trap.h - what it costs on this machine when a process runs into a probe */
#ifndef BHTRACE_TRAP_H
#define BHTRACE_TRAP_H

/*
 * Nanoseconds for a probe at a nop, as a USDT site has it, that does nothing but count: the way into
 * the kernel and back. Measured in this process, in about a tenth of a second. 0 when that is not possible.
 */
double trap_ns(void);

#endif
