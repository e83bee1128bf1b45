/* SPDX-License-Identifier: MIT */
/*
 * From maps to images. The first map of a file tells how far it was moved; those that fit belong
 * to the same image. A file may be mapped several times: by dlmopen(), or to be read as data, and then its
 * writable segment is not where it should be.
 */
#include <dwarf.h>
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "image_inside.h"
#include "note.h"
#include "refuse.h"

#if defined(__x86_64__)
enum { NATIVE_MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { NATIVE_MACHINE = EM_AARCH64 };
#else
enum { NATIVE_MACHINE = EM_NONE };
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { NATIVE_DATA = ELFDATA2LSB };
#else
enum { NATIVE_DATA = ELFDATA2MSB };
#endif

enum { PHDRS_MAX = 256 };
static const uint64_t PAGE = 4096; /* the smallest there is */

/* --- one file ------------------------------------------------------------------------ */

static void image_free(struct bht_image *image)
{
	if (!image)
		return;
	bht_symbols_free(image->symbols);
	bht_debug_free(image->debug);
	elf_end(image->elf);
	if (image->fd >= 0)
		close(image->fd);
	free(image->path);
	free(image);
}

static void add_header(struct bht_image *image, const GElf_Phdr *p)
{
	uint64_t end;

	if (p->p_type == PT_DYNAMIC) {
		image->dynamic = p->p_vaddr;
		image->dynamic_size = p->p_memsz;
	}
	if (p->p_type != PT_LOAD || image->n_segments == BHT_IMAGE_SEGMENTS_MAX || p->p_filesz > p->p_memsz ||
	    __builtin_add_overflow(p->p_vaddr, p->p_memsz, &end) ||
	    __builtin_add_overflow(p->p_offset, p->p_filesz, &end))
		return;
	image->segment[image->n_segments++] =
		(struct bht_segment){ p->p_vaddr, p->p_memsz, p->p_offset, p->p_filesz, p->p_flags };
}

void bht_image_build_id_text(char text[129], const void *id, size_t len)
{
	const unsigned char *byte = id;

	text[0] = '\0';
	for (size_t i = 0; i < len && len <= 64; i++)
		snprintf(text + 2 * i, 3, "%02x", byte[i]);
}

/* 0, or -errno: not an ELF file, or a damaged one. */
static int read_file_headers(struct bht_image *image)
{
	GElf_Ehdr e;
	GElf_Phdr p;
	size_t n;

	image->elf = elf_begin(image->fd, ELF_C_READ, NULL);
	if (!image->elf || elf_kind(image->elf) != ELF_K_ELF)
		return -ENOEXEC;
	if (!gelf_getehdr(image->elf, &e) || elf_getphdrnum(image->elf, &n) || n > PHDRS_MAX)
		return -EBADMSG;
	image->other_machine =
		e.e_machine != NATIVE_MACHINE || e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_ident[EI_DATA] != NATIVE_DATA;
	for (size_t i = 0; i < n; i++) {
		if (!gelf_getphdr(image->elf, (int)i, &p))
			return -EBADMSG;
		add_header(image, &p);
	}
	const void *id;
	const ssize_t len = dwelf_elf_gnu_build_id(image->elf, &id);
	if (len > 0)
		bht_image_build_id_text(image->build_id, id, (size_t)len);
	return image->n_segments ? 0 : -EBADMSG;
}

/* The same of an image that begins at START in memory. */
static int read_memory_headers(struct bht_image *image, uint64_t start)
{
	struct bht_notes notes;
	Elf64_Ehdr e;
	Elf64_Phdr p[PHDRS_MAX];
	int rc = bht_notes_find(image->mem, &start, 1, &notes);

	if (rc)
		return rc;
	memcpy(image->build_id, notes.build_id, sizeof(notes.build_id));
	image->other_machine = notes.n_foreign > 0;
	if (notes.n_foreign)
		return 0;
	if (!notes.n_images)
		return -ENOEXEC;
	rc = bht_read(image->mem, start, &e, sizeof(e));
	if (rc)
		return rc;
	if (e.e_phnum > PHDRS_MAX || e.e_phentsize != sizeof(p[0]))
		return -EBADMSG;
	image->other_machine = e.e_machine != NATIVE_MACHINE;
	rc = bht_read(image->mem, start + e.e_phoff, p, e.e_phnum * sizeof(p[0]));
	for (unsigned i = 0; i < e.e_phnum && !rc; i++) {
		GElf_Phdr header = p[i]; /* of 64 bits: the same type */
		add_header(image, &header);
	}
	return rc ? rc : image->n_segments ? 0 : -EBADMSG;
}

/* --- where it was moved ------------------------------------------------------------------ */

/* Whether MAP shows a part of segment S; *BIAS, if so. */
static bool shows(const struct bht_image_map *map, const struct bht_segment *s, uint64_t *bias)
{
	const uint64_t first = s->offset & ~(PAGE - 1);

	if (!s->filesz || map->offset < first || map->offset >= s->offset + s->filesz)
		return false;
	*bias = map->start - (s->vaddr - s->offset + map->offset);
	return true;
}

static bool belongs(const struct bht_image *image, const struct bht_image_map *map)
{
	uint64_t bias;

	for (unsigned i = 0; i < image->n_segments; i++)
		if (shows(map, &image->segment[i], &bias) && bias == image->bias)
			return true;
	return false;
}

/* Of N lines of the same file those that belong to the image that the first begins; 0: it begins none. */
static size_t place(struct bht_image *image, const struct bht_image_line *lines, size_t n)
{
	bool writable = false, mapped = false;
	size_t end = 0;

	image->low = lines->map.start;
	image->high = lines->map.end;
	if (!image->n_segments)
		return image->other_machine ? n : 0;
	if (!shows(&lines->map, &image->segment[0], &image->bias))
		return 0;
	for (unsigned i = 0; i < image->n_segments; i++) {
		const struct bht_segment *s = &image->segment[i];
		if (s->vaddr + s->memsz + image->bias > image->high)
			image->high = s->vaddr + s->memsz + image->bias;
		writable |= (s->flags & PF_W) && s->filesz;
	}
	for (; end < n && lines[end].map.start < image->high; end++) {
		const struct bht_image_map *map = &lines[end].map;
		if (!belongs(image, map))
			continue;
		for (unsigned i = 0; i < image->n_segments; i++) {
			const struct bht_segment *s = &image->segment[i];
			const uint64_t at = s->vaddr + image->bias;
			mapped |= (!writable || s->flags & PF_W) && s->filesz && at >= map->start && at < map->end &&
				  map->offset + (at - map->start) == s->offset;
		}
	}
	return mapped ? end : 0;
}

/* --- all files ------------------------------------------------------------------------------ */

struct maker {
	const struct bht_image_opener *opener;
	struct bht_memory *mem;
	struct bht_images *images;
	struct bht_refusal *refusal;
	bool refused; /* the refusal tells of a file that was left out */
};

static void leave_out(struct maker *m, const struct bht_refusal *why)
{
	if (!m->refused && m->refusal)
		*m->refusal = *why;
	m->refused = true;
}

/* Opens the file of LINE, or does without; the headers are read. 0 or -errno. */
static int open_image(struct maker *m, const struct bht_image_line *line, struct bht_image **out)
{
	struct bht_refusal why = { .why = "" };
	struct bht_notes notes = { .n_images = 0 };
	struct bht_image *image = calloc(1, sizeof(*image));
	bool sure = false;

	if (!image)
		return -ENOMEM;
	*image = (struct bht_image){ .mem = m->mem, .fd = -1, .path = strdup(line->map.path) };
	int rc = image->path ? 0 : -ENOMEM;
	if (rc)
		goto out;
	image->fd = m->opener->open(m->opener, line, &sure, &why);
	if (image->fd < 0) {
		image->fd = -1;
		rc = line->map.offset ? -ENOEXEC : read_memory_headers(image, line->map.start);
		if (rc || !image->n_segments)
			leave_out(m, &why);
		goto out;
	}
	rc = read_file_headers(image);
	if (rc == -EBADMSG) {
		bht_refuse(&why, rc, 0, "%s: damaged ELF file: %s", line->map.path, elf_errmsg(-1));
		leave_out(m, &why);
	}
	if (rc || image->other_machine)
		goto out;
	/* The file that was opened must be the one that was loaded. */
	if (!line->map.offset && !bht_notes_find(m->mem, &line->map.start, 1, &notes) && notes.build_id[0])
		rc = strncmp(notes.build_id, image->build_id, sizeof(notes.build_id) - 1) ? -ESTALE : 0;
	else if (!sure)
		rc = -ESTALE;
	if (rc) {
		bht_refuse(&why, rc, line->map.start, "%s: not the file that is mapped (build id %s, in memory %s)",
			   line->map.path, image->build_id[0] ? image->build_id : "none",
			   notes.build_id[0] ? notes.build_id : "none");
		leave_out(m, &why);
	}
out:
	if (!rc)
		*out = image;
	else
		image_free(image);
	return rc;
}

/* The images of N lines of one file. */
static int make_file(struct maker *m, const struct bht_image_line *lines, size_t n)
{
	struct bht_images *images = m->images;
	int rc = 0;

	for (size_t at = 0; at < n && !rc;) {
		struct bht_image *image;
		rc = open_image(m, &lines[at], &image);
		if (rc)
			return rc == -ENOMEM || rc == -ESRCH || rc == -EPERM ? rc : 0;
		size_t taken = 0;
		for (; at < n && !taken; at += taken ? taken : 1)
			taken = place(image, lines + at, n - at);
		if (taken && images->n < BHT_IMAGES_MAX &&
		    bht_room_for_one(&images->image, images->n, sizeof(struct bht_image *)))
			images->image[images->n++] = image;
		else
			image_free(image);
	}
	return 0;
}

static bool same_file(const struct bht_image_line *a, const struct bht_image_line *b)
{
	return a->device == b->device && a->inode == b->inode && !strcmp(a->map.path, b->map.path);
}

static int by_low(const void *a, const void *b)
{
	const struct bht_image *const *x = a, *const *y = b;

	return ((*x)->low > (*y)->low) - ((*x)->low < (*y)->low);
}

int bht_images_make(const struct bht_image_line *lines, size_t n, const struct bht_image_opener *opener,
		    struct bht_memory *mem, struct bht_images *images, struct bht_refusal *refusal)
{
	struct maker m = { opener, mem, images, refusal, false };
	int rc = 0;

	elf_version(EV_CURRENT);
	*images = (struct bht_images){ .n = 0 };
	if (refusal)
		*refusal = (struct bht_refusal){ .why = "" };
	for (size_t at = 0, end; at < n && !rc; at = end) {
		bool code = lines[at].executable;
		for (end = at + 1; end < n && same_file(&lines[at], &lines[end]);)
			code |= lines[end++].executable;
		if (code)
			rc = make_file(&m, lines + at, end - at);
	}
	if (!rc && images->n)
		qsort(images->image, images->n, sizeof(struct bht_image *), by_low);
	if (rc) {
		bht_refuse_read(refusal, rc, 0, "ELF images");
		bht_images_free(images);
	}
	return rc;
}

void bht_images_free(struct bht_images *images)
{
	for (unsigned i = 0; i < images->n; i++)
		image_free(images->image[i]);
	free(images->image);
	*images = (struct bht_images){ .n = 0 };
}

/* --- what is known of one ---------------------------------------------------------------------- */

const char *bht_image_path(const struct bht_image *image)
{
	return image->path;
}

const char *bht_image_build_id(const struct bht_image *image)
{
	return image->build_id;
}

bool bht_image_other_machine(const struct bht_image *image)
{
	return image->other_machine;
}

uint64_t bht_image_bias(const struct bht_image *image)
{
	return image->bias;
}

int bht_image_fd(const struct bht_image *image)
{
	return image->fd;
}

const struct bht_segment *bht_image_segment(const struct bht_image *image, uint64_t vaddr)
{
	for (unsigned i = 0; i < image->n_segments; i++)
		if (vaddr >= image->segment[i].vaddr && vaddr - image->segment[i].vaddr < image->segment[i].memsz)
			return &image->segment[i];
	return NULL;
}

uint64_t bht_image_file_offset(const struct bht_image *image, uint64_t addr)
{
	const struct bht_segment *s = bht_image_segment(image, addr - image->bias);

	return s ? addr - image->bias - s->vaddr + s->offset : 0;
}

int bht_image_code(struct bht_image *image, uint64_t addr, void *buf, size_t len)
{
	const uint64_t vaddr = addr - image->bias;
	const struct bht_segment *s = bht_image_segment(image, vaddr);

	if (!s || !(s->flags & PF_X) || vaddr - s->vaddr > s->filesz || len > s->filesz - (vaddr - s->vaddr))
		return -EFAULT;
	if (image->fd < 0)
		return bht_read(image->mem, addr, buf, len);
	for (size_t done = 0; done < len;) {
		const ssize_t n =
			pread(image->fd, (char *)buf + done, len - done, (off_t)(s->offset + vaddr - s->vaddr + done));
		if (n == 0)
			return -EFAULT; /* cut off since it was opened */
		if (n < 0 && errno != EINTR)
			return -EIO;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

struct bht_image *bht_images_at(struct bht_images *images, uint64_t addr)
{
	unsigned low = 0, high = images->n;

	while (low < high) {
		const unsigned middle = low + (high - low) / 2;
		if (images->image[middle]->low <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low && addr < images->image[low - 1]->high ? images->image[low - 1] : NULL;
}
