/* SPDX-License-Identifier: MIT */
/* note.h - from the ELF images in a target's memory to the roots */
#ifndef BHT_NOTE_H
#define BHT_NOTE_H

#include "registry.h"

struct bht_notes {
	uint64_t root[BHT_ROOTS_MAX]; /* where the notes point; not looked at yet */
	unsigned n_roots;
	unsigned n_images;  /* ELF images of this machine's kind */
	unsigned n_foreign; /* and others: 32 bits, other byte order */
	uint64_t foreign;   /* one of those */
	char build_id[41];  /* hexadecimal, of the first image that has one, or "" */
};

/* Once each; those beyond BHT_ROOTS_MAX are left out. */
void bht_notes_add(struct bht_notes *notes, uint64_t root);

/*
 * Looks for the notes of the ELF images at ADDRS, in MEM alone: the files may
 * be deleted or in another mount namespace. What is no image, or damaged, is
 * passed over. 0 or -errno.
 */
int bht_notes_find(struct bht_memory *mem, const uint64_t *addrs, size_t n, struct bht_notes *notes);

#endif
