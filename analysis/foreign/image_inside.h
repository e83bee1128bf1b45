/* SPDX-License-Identifier: MIT */
/* image_inside.h - what the files image*.c share */
#ifndef BHT_IMAGE_INSIDE_H
#define BHT_IMAGE_INSIDE_H

#include <gelf.h>

#include "image.h"

enum { BHT_IMAGE_SEGMENTS_MAX = 64, BHT_IMAGES_MAX = 4096 };

struct bht_symbols;
struct bht_debug;

struct bht_image {
	struct bht_memory *mem; /* borrowed */
	char *path;
	char build_id[129];
	int fd;   /* -1: there is no file, all comes from memory */
	Elf *elf; /* NULL: the same. Not mapped: a file may be cut off while it is read. */
	bool other_machine;
	uint64_t bias;
	uint64_t low, high; /* in memory */
	struct bht_segment {
		uint64_t vaddr, memsz, offset, filesz;
		uint32_t flags;
	} segment[BHT_IMAGE_SEGMENTS_MAX]; /* PT_LOAD */
	unsigned n_segments;
	uint64_t dynamic; /* PT_DYNAMIC in the file's addresses, 0 for none */
	uint64_t dynamic_size;
	struct bht_symbols *symbols; /* once they were asked for */
	struct bht_debug *debug;
};

/* A line of maps, of a part of a file. */
struct bht_image_line {
	struct bht_image_map map;
	uint64_t device, inode; /* 0 when not known */
	bool executable;        /* or not known */
};

/*
 * How a file is opened: a descriptor, or -errno with the reason. *SURE: it is the mapped one for
 * certain; otherwise its build id has to agree with the one in memory.
 */
struct bht_image_opener {
	int (*open)(const struct bht_image_opener *opener, const struct bht_image_line *line, bool *sure,
		    struct bht_refusal *refusal);
};

/* Makes the images of N lines, which are sorted by address. REFUSAL gets the first reason why a file was left out. */
int bht_images_make(const struct bht_image_line *lines, size_t n, const struct bht_image_opener *opener,
		    struct bht_memory *mem, struct bht_images *images, struct bht_refusal *refusal);

/* The segment that holds VADDR, an address in the file; NULL when none does. */
const struct bht_segment *bht_image_segment(const struct bht_image *image, uint64_t vaddr);

void bht_image_build_id_text(char text[129], const void *id, size_t len);

/* --- symbols (image_symbols.c, image_dynamic.c) --------------------------------------------------------------- */

/* In order of preference. */
enum bht_symbol_rank { BHT_SYMBOL_GLOBAL, BHT_SYMBOL_LOCAL, BHT_SYMBOL_OLD /* version */ };

struct bht_symbol {
	const char *name;
	uint32_t hash, name_len; /* of the name without its version */
	bool function;
	uint8_t rank;
	uint64_t vaddr, size;
};

struct bht_symbols {
	struct bht_symbol *symbol; /* by hash, name and rank */
	uint32_t n;
	const struct bht_symbol **function; /* by address */
	uint32_t n_functions;
	char *text; /* names copied from memory, owned, or NULL */
};

uint32_t bht_name_hash(const char *name, size_t len);

/* The symbols of IMAGE, read when they are first asked for; NULL: no memory. */
const struct bht_symbols *bht_image_symbols(struct bht_image *image);
void bht_symbols_free(struct bht_symbols *symbols);

/* Best symbol of that name; *AMBIGUOUS: others are as good and elsewhere. NULL when there
 * is none. */
const struct bht_symbol *bht_symbols_find(const struct bht_symbols *symbols, const char *name, bool *ambiguous);

/* Bytes from ADDR, in a function, to its end, by its symbol or up to the next one; 0 when that is not known. */
uint64_t bht_image_function_rest(struct bht_image *image, uint64_t addr);

/* Whether the linker made the 8 bytes at ADDR: an address that the loader puts there (.got). That goes to *TARGET, 0
 * when it is not known. Without the file it always seems not to be. */
bool bht_image_got(struct bht_image *image, uint64_t addr, uint64_t *target);

/* Appends SYM, of version VERSION as .gnu.version has it or 0, unless IMAGE does not define it. 0 or -ENOMEM. */
int bht_symbols_add(const struct bht_image *image, struct bht_symbols *symbols, const GElf_Sym *sym, const char *name,
		    unsigned version);

/* Appends those of the dynamic section in memory. 0 or -errno. */
int bht_symbols_from_memory(struct bht_image *image, struct bht_symbols *symbols);

/* --- debug information (image_dwarf.c) ------------------------------------------------------------------------ */

void bht_debug_free(struct bht_debug *debug);

#endif
