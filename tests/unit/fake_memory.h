/* SPDX-License-Identifier: MIT */
/*
 * fake_memory.h - a target that is a few objects of the test itself
 *
 * Addresses are the test's own pointers; only what was shown is mapped. A hook
 * may change the objects between two reads, as a running target would.
 */
#ifndef FAKE_MEMORY_H
#define FAKE_MEMORY_H

#include <errno.h>
#include <string.h>

#include "sources/memory.h"

enum { FAKE_REGIONS = 64 };

struct fake_memory {
	struct bht_memory mem;
	struct {
		uint64_t addr;
		const void *bytes;
		uint64_t len;
	} region[FAKE_REGIONS];
	unsigned n;
	unsigned reads;                 /* calls of read() so far */
	void (*hook)(unsigned read_no); /* called before each, counted from 1 */
	int error;                      /* what all reads give, 0 for none */
};

static const unsigned char *fake_find(const struct fake_memory *fake, uint64_t addr, uint64_t len)
{
	for (unsigned i = 0; i < fake->n; i++)
		if (addr >= fake->region[i].addr && len <= fake->region[i].len &&
		    addr - fake->region[i].addr <= fake->region[i].len - len)
			return (const unsigned char *)fake->region[i].bytes + (addr - fake->region[i].addr);
	return NULL;
}

static bool fake_mapped(struct bht_memory *mem, uint64_t addr, uint64_t len)
{
	return fake_find((struct fake_memory *)mem, addr, len) != NULL;
}

static int fake_read(struct bht_memory *mem, const struct bht_span *spans, size_t n)
{
	struct fake_memory *fake = (struct fake_memory *)mem;

	if (fake->hook)
		fake->hook(fake->reads + 1);
	fake->reads++;
	if (fake->error)
		return fake->error;
	for (size_t i = 0; i < n; i++) {
		const unsigned char *from = fake_find(fake, spans[i].addr, spans[i].len);
		if (!from)
			return -EFAULT;
		memcpy(spans[i].buf, from, spans[i].len);
		mem->bytes_read += spans[i].len;
	}
	return 0;
}

static inline void fake_init(struct fake_memory *fake)
{
	*fake = (struct fake_memory){ .mem = { fake_read, fake_mapped, 0 } };
}

static inline void fake_show_at(struct fake_memory *fake, uint64_t addr, const void *bytes, uint64_t len)
{
	fake->region[fake->n].addr = addr;
	fake->region[fake->n].bytes = bytes;
	fake->region[fake->n++].len = len;
}

static inline void fake_show(struct fake_memory *fake, const void *object, uint64_t len)
{
	fake_show_at(fake, (uintptr_t)object, object, len);
}

#endif
