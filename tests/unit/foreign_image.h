/* SPDX-License-Identifier: MIT */
/*
 * foreign_image.h - images for the tests: those of the test itself, or a file as if it were mapped
 */
#ifndef FOREIGN_IMAGE_H
#define FOREIGN_IMAGE_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_memory.h"
#include "image.h"
#include "sources/process.h"

/* Code that is looked at must be what was written. */
#if defined(__clang__)
#define AS_WRITTEN                                                                                                     \
	__attribute__((noinline, used, disable_sanitizer_instrumentation,                                              \
		       no_sanitize("address", "undefined", "thread")))
#else
#define AS_WRITTEN __attribute__((noipa, used, no_sanitize("address", "undefined", "thread")))
#endif

struct own_images {
	struct bht_process process;
	struct bht_images images;
	struct bht_refusal refusal;
};

static inline void own_open(struct own_images *own)
{
	assert_int_equal(bht_process_open(&own->process, (uint32_t)getpid(), &own->refusal), 0);
	assert_int_equal(bht_images_of_process((uint32_t)getpid(), &own->process.mem, &own->images, &own->refusal), 0);
}

static inline void own_close(struct own_images *own)
{
	bht_images_free(&own->images);
	bht_process_close(&own->process);
}

/* The image that has ADDR, an object of the test. */
static inline struct bht_image *own_image(struct own_images *own, const void *addr)
{
	struct bht_image *image = bht_images_at(&own->images, (uintptr_t)addr);

	assert_non_null(image);
	return image;
}

/* A file as if it were mapped at FILE_BASE. */
#define FILE_BASE UINT64_C(0x7f0000000000)

struct file_image {
	struct fake_memory fake; /* has its first page */
	unsigned char head[4096];
	struct bht_images images;
	struct bht_refusal refusal;
};

/* Gives the lines that maps would have, at most 16; their number. */
static inline unsigned file_lines(const char *path, struct bht_image_map *maps)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	GElf_Phdr p;
	size_t n = 0;
	unsigned found = 0;

	elf_version(EV_CURRENT);
	Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
	elf_getphdrnum(elf, &n);
	for (size_t i = 0; i < n && found < 16 && gelf_getphdr(elf, (int)i, &p); i++) {
		if (p.p_type != PT_LOAD)
			continue;
		const uint64_t start = p.p_vaddr & ~UINT64_C(4095),
			       end = (p.p_vaddr + p.p_filesz + 4095) & ~UINT64_C(4095);
		maps[found++] = (struct bht_image_map){ FILE_BASE + start, FILE_BASE + end,
							p.p_offset & ~UINT64_C(4095), path, path };
	}
	elf_end(elf);
	close(fd);
	return found;
}

/* NULL: there is no such file. */
static inline struct bht_image *file_open(struct file_image *file, const char *path)
{
	struct bht_image_map maps[16];
	const int fd = open(path, O_RDONLY | O_CLOEXEC);

	fake_init(&file->fake);
	file->images.n = 0;
	if (fd < 0)
		return NULL;
	assert_int_equal(read(fd, file->head, sizeof(file->head)), sizeof(file->head));
	close(fd);
	fake_show_at(&file->fake, FILE_BASE, file->head, sizeof(file->head));
	const unsigned n = file_lines(path, maps);
	assert_int_equal(bht_images_of_maps(maps, n, &file->fake.mem, &file->images, &file->refusal), 0);
	assert_string_equal(file->refusal.why, "");
	assert_int_equal(file->images.n, 1);
	return file->images.image[0];
}

#endif
