/* SPDX-License-Identifier: MIT */
/*
 * memory.h - the address space of a target, however it is reached
 *
 * The registry walk and the ring reader know only this. A live process, a core
 * and a snapshot each provide one.
 */
#ifndef BHT_MEMORY_H
#define BHT_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bht_span {
	uint64_t addr;
	void *buf;
	size_t len;
};

struct bht_memory {
	/* Reads N spans; all or nothing. 0, or -EFAULT (not mapped), -ESRCH
	 * (target gone), -EPERM, -EIO. */
	int (*read)(struct bht_memory *mem, const struct bht_span *spans, size_t n);
	/* Whether [addr, addr + len) is mapped and readable as far as known. */
	bool (*mapped)(struct bht_memory *mem, uint64_t addr, uint64_t len);
	uint64_t bytes_read; /* counted by read() */
};

static inline int bht_read(struct bht_memory *mem, uint64_t addr, void *buf, size_t len)
{
	struct bht_span span = { addr, buf, len };
	return mem->read(mem, &span, 1);
}

#endif
