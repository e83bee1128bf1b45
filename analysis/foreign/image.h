/* SPDX-License-Identifier: MIT */
/*
 * image.h - the program and the libraries of a target: symbols, build ids, machine code
 *
 * Symbols come from the file (.symtab, .dynsym), which is opened through the target's own
 * mount namespace (/proc/PID/map_files or /proc/PID/root) and has to be the file that is
 * mapped (device, inode and build id agree); of a core, from the file it names when the
 * build id agrees, or from the dynamic section in its memory. Nothing is trusted.
 */
#ifndef BHT_IMAGE_H
#define BHT_IMAGE_H

#include "memory.h"
#include "registry.h"

struct bht_image; /* one ELF file of the target */

struct bht_images {
	struct bht_image **image;
	unsigned n;
};

/* A file that is mapped, wherever that is known from. */
struct bht_image_map {
	uint64_t start, end, offset;
	const char *path; /* in the target's mount namespace */
	const char *open; /* where to open it instead, or NULL: do not */
};

/*
 * Of a process, through /proc/PID. 0 or -errno. Free with bht_images_free(). Files that cannot be used are left out:
 * then REFUSAL tells of the first one, else it is "". Not thread-safe, and neither is what reads symbols of one image.
 */
int bht_images_of_process(uint32_t pid, struct bht_memory *mem, struct bht_images *images, struct bht_refusal *refusal);
/* Of anything else. MEM is borrowed while IMAGES is used. */
int bht_images_of_maps(const struct bht_image_map *maps, size_t n, struct bht_memory *mem, struct bht_images *images,
		       struct bht_refusal *refusal);
void bht_images_free(struct bht_images *images);

const char *bht_image_path(const struct bht_image *image);
const char *bht_image_build_id(const struct bht_image *image); /* hexadecimal or "" */
bool bht_image_other_machine(const struct bht_image *image);   /* 32 bits, or another processor */
uint64_t bht_image_bias(const struct bht_image *image);        /* address in memory - address in the file */

/* Address in the target's memory of a function or variable that IMAGE defines; 0 when it does not, or has several
 * static ones. *SIZE, unless NULL, may be 0. Of versions the default one. */
uint64_t bht_image_symbol(struct bht_image *image, const char *name, uint64_t *size);

/* Name of the function that holds ADDR ("" when none does) and the distance from its start. Valid until the
 * thread's next call. */
const char *bht_images_name(struct bht_images *images, uint64_t addr, uint64_t *off);
struct bht_image *bht_images_at(struct bht_images *images, uint64_t addr);

/* Copies LEN bytes of code at ADDR as the FILE has them (a debugger or a uprobe may have written a breakpoint to
 * memory), from memory where there is no file. 0 or -errno. */
int bht_image_code(struct bht_image *image, uint64_t addr, void *buf, size_t len);

/* Offset of MEMBER ("notifier.rfd") in the struct or typedef TYPE by the DWARF of the image (or its
 * .gnu_debuglink / build-id file under /usr/lib/debug). 0, -ENOENT, or -ENOTUNIQ: several such types
 * differ. *SIZE may be NULL. */
int bht_image_dwarf_member(struct bht_image *image, const char *type, const char *member, uint64_t *offset,
			   uint64_t *size);

/*
 * Address, size and signedness of a global or static variable by DWARF or symbol; members with dots: "stats.done".
 * *SIZE is 0 when it is known to be neither integer nor pointer; *IS_SIGNED 1 or 0, -1 when that is not known. 0,
 * -ENOENT, or -ENOTUNIQ: there are several.
 */
int bht_image_variable(struct bht_image *image, const char *name, uint64_t *addr, uint64_t *size, int *is_signed);

/* The file, to attach probes to: an open descriptor borrowed from IMAGE, or -1; and the offset of ADDR in it. */
int bht_image_fd(const struct bht_image *image);
uint64_t bht_image_file_offset(const struct bht_image *image, uint64_t addr);

#endif
