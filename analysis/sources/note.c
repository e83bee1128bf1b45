/* SPDX-License-Identifier: MIT */
/*
 * Two rounds of reading: the heads of all images, then the note segments that
 * their program headers name. Section headers are not in memory.
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flight.h"
#include "note.h"

enum {
	HEAD_SIZE = 1024, /* holds the ELF header and 17 program headers */
	PHDRS_MAX = 128,
	SEGMENTS_MAX = 8, /* note segments of one image */
	SEGMENT_SIZE_MAX = 64 * 1024
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { NATIVE_DATA = ELFDATA2LSB };
#else
enum { NATIVE_DATA = ELFDATA2MSB };
#endif

struct segment {
	uint64_t addr;
	size_t len;
	size_t align;
};

struct search {
	struct bht_memory *mem;
	struct bht_notes *notes;
	struct segment *segments;
	size_t n_segments;
};

/* Reads what of SPANS can be read; the others get length 0. */
static int read_some(struct bht_memory *mem, struct bht_span *spans, size_t n)
{
	int rc = n ? mem->read(mem, spans, n) : 0;

	if (rc != -EFAULT && rc != -EIO)
		return rc;
	if (n == 1) {
		spans->len = 0;
		return 0;
	}
	rc = read_some(mem, spans, n / 2);
	return rc ? rc : read_some(mem, spans + n / 2, n - n / 2);
}

static bool is_image(struct search *s, uint64_t addr, const Elf64_Ehdr *e)
{
	if (memcmp(e->e_ident, ELFMAG, SELFMAG))
		return false;
	if (e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_ident[EI_DATA] != NATIVE_DATA) {
		s->notes->n_foreign++;
		s->notes->foreign = addr;
		return false;
	}
	if (e->e_phentsize != sizeof(Elf64_Phdr) || !e->e_phnum || e->e_phnum > PHDRS_MAX)
		return false;
	s->notes->n_images++;
	return true;
}

/* Adds the note segments of the image at ADDR. Its first loaded segment holds
 * the ELF header, which tells how far it was moved. */
static void add_segments(struct search *s, uint64_t addr, const Elf64_Phdr *phdrs, unsigned n)
{
	uint64_t moved = 0;
	unsigned found = 0, i = 0;

	while (i < n && phdrs[i].p_type != PT_LOAD)
		i++;
	if (i == n)
		return;
	moved = addr - (phdrs[i].p_vaddr - phdrs[i].p_offset);
	for (i = 0; i < n && found < SEGMENTS_MAX; i++) {
		if (phdrs[i].p_type != PT_NOTE || phdrs[i].p_filesz > SEGMENT_SIZE_MAX)
			continue;
		s->segments[s->n_segments++] = (struct segment){ .addr = moved + phdrs[i].p_vaddr,
								 .len = phdrs[i].p_filesz,
								 .align = phdrs[i].p_align == 8 ? 8 : 4 };
		found++;
	}
}

static int look_at_head(struct search *s, uint64_t addr, const unsigned char *head)
{
	Elf64_Phdr phdrs[PHDRS_MAX];
	Elf64_Ehdr e;

	memcpy(&e, head, sizeof(e));
	if (!is_image(s, addr, &e))
		return 0;
	const size_t len = e.e_phnum * sizeof(phdrs[0]);
	if (e.e_phoff <= HEAD_SIZE - sizeof(phdrs[0]) && e.e_phoff + len <= HEAD_SIZE) {
		memcpy(phdrs, head + e.e_phoff, len);
	} else {
		struct bht_span span = { addr + e.e_phoff, phdrs, len };
		int rc = read_some(s->mem, &span, 1);
		if (rc || !span.len)
			return rc;
	}
	add_segments(s, addr, phdrs, e.e_phnum);
	return 0;
}

static int look_at_heads(struct search *s, const uint64_t *addrs, size_t n)
{
	unsigned char *heads = malloc(n * HEAD_SIZE);
	struct bht_span *spans = calloc(n, sizeof(*spans));
	int rc = heads && spans ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && !rc; i++)
		spans[i] = (struct bht_span){ addrs[i], heads + i * HEAD_SIZE, HEAD_SIZE };
	if (!rc)
		rc = read_some(s->mem, spans, n);
	for (size_t i = 0; i < n && !rc; i++)
		if (spans[i].len)
			rc = look_at_head(s, addrs[i], heads + i * HEAD_SIZE);
	free(heads);
	free(spans);
	return rc;
}

void bht_notes_add(struct bht_notes *notes, uint64_t root)
{
	for (unsigned i = 0; i < notes->n_roots; i++)
		if (notes->root[i] == root)
			return;
	if (notes->n_roots < BHT_ROOTS_MAX)
		notes->root[notes->n_roots++] = root;
}

static void keep_build_id(struct bht_notes *notes, const unsigned char *id, size_t len)
{
	if (notes->build_id[0] || len > sizeof(notes->build_id) / 2)
		return;
	for (size_t i = 0; i < len; i++)
		snprintf(notes->build_id + 2 * i, 3, "%02x", id[i]);
}

/* Walks the notes of one segment; BUF is its contents. */
static void look_at_notes(struct bht_notes *notes, const struct segment *segment, const unsigned char *buf)
{
	const uint64_t mask = segment->align - 1;
	Elf64_Nhdr n;
	int64_t distance;

	for (uint64_t at = 0; at + sizeof(n) <= segment->len;) {
		memcpy(&n, buf + at, sizeof(n));
		/* Sums of 32-bit sizes in 64 bits: they do not overflow. */
		const uint64_t name = at + sizeof(n);
		const uint64_t descriptor = (name + n.n_namesz + mask) & ~mask;
		if (descriptor + n.n_descsz > segment->len)
			return;
		if (n.n_type == BHP_NOTE_ROOT && n.n_namesz == sizeof(BHP_NOTE_NAME) &&
		    n.n_descsz == sizeof(distance) && !memcmp(buf + name, BHP_NOTE_NAME, sizeof(BHP_NOTE_NAME))) {
			memcpy(&distance, buf + descriptor, sizeof(distance));
			bht_notes_add(notes, segment->addr + descriptor + (uint64_t)distance);
		}
		if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == sizeof(ELF_NOTE_GNU) &&
		    !memcmp(buf + name, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)))
			keep_build_id(notes, buf + descriptor, n.n_descsz);
		at = (descriptor + n.n_descsz + mask) & ~mask;
	}
}

static int look_at_segments(struct search *s)
{
	struct bht_span *spans = calloc(s->n_segments + 1, sizeof(*spans));
	size_t total = 1;
	int rc = 0;

	for (size_t i = 0; i < s->n_segments; i++)
		total += s->segments[i].len;
	unsigned char *buf = malloc(total), *to = buf;
	if (!spans || !buf)
		rc = -ENOMEM;
	for (size_t i = 0; i < s->n_segments && !rc; to += s->segments[i++].len)
		spans[i] = (struct bht_span){ s->segments[i].addr, to, s->segments[i].len };
	if (!rc)
		rc = read_some(s->mem, spans, s->n_segments);
	for (size_t i = 0; i < s->n_segments && !rc; i++)
		if (spans[i].len)
			look_at_notes(s->notes, &s->segments[i], spans[i].buf);
	free(spans);
	free(buf);
	return rc;
}

int bht_notes_find(struct bht_memory *mem, const uint64_t *addrs, size_t n, struct bht_notes *notes)
{
	struct search s = { .mem = mem, .notes = notes };

	memset(notes, 0, sizeof(*notes));
	if (!n)
		return 0;
	s.segments = calloc(n, SEGMENTS_MAX * sizeof(*s.segments));
	int rc = s.segments ? look_at_heads(&s, addrs, n) : -ENOMEM;
	if (!rc)
		rc = look_at_segments(&s);
	free(s.segments);
	return rc;
}
