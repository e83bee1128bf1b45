/* SPDX-License-Identifier: MIT */
/* refuse.h - how the sources fill in a refusal */
#ifndef BHT_REFUSE_H
#define BHT_REFUSE_H

#include "registry.h"

/* Fills in *REFUSAL unless it is NULL and gives ERROR, a negative errno. */
int bht_refuse(struct bht_refusal *refusal, int error, uint64_t addr, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* The same for memory that read() could not read: WHAT, at ADDR. */
int bht_refuse_read(struct bht_refusal *refusal, int error, uint64_t addr, const char *what);

#endif
