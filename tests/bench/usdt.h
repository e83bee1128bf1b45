/* SPDX-License-Identifier: MIT */
/* usdt.h - USDT sites of the benchmarks, one name traced, one not */
#ifndef BENCH_USDT_H
#define BENCH_USDT_H

#include "bhp.h"

/* Raised by libbpf for the time it is attached. */
extern unsigned short bench_traced_semaphore;
extern unsigned short bench_untraced_semaphore;

/* A site in the shape of those in bhp.h, with the fields that a lost wakeup is
 * proved with. In registers: libbpf cannot resolve an operand like
 * "loop(%rip)", which gcc makes of a global variable. */
#define USDT_SITE(name, a, b, c)                                                                                       \
	do {                                                                                                           \
		if (__builtin_expect(*(volatile unsigned short *)&bench_##name##_semaphore, 0)) {                      \
			uint64_t a_ = (uintptr_t)(a), b_ = (uintptr_t)(b), c_ = (c);                                   \
			__asm__("" : "+r"(a_), "+r"(b_), "+r"(c_));                                                    \
			STAP_PROBEV(bench, name, a_, b_, c_);                                                          \
		}                                                                                                      \
	} while (0)

/*
 * Attaches the program of usdt.bpf.c to all sites of this process named
 * "traced". NULL, or a sentence why that is not possible.
 */
const char *usdt_attach(void);

/* Takes the records out of the kernel's ring; how many there were. */
unsigned usdt_drain(void);

void usdt_detach(void);

#endif
