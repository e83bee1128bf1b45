/* SPDX-License-Identifier: MIT */
/*
 * Where the note is. Nearly every core has the first page of each ELF image, in
 * which it lies; one that was made without (bit 4 of coredump_filter) needs the
 * file. A wrong file does no harm: where it leads to there is no root.
 */
#include <errno.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core_elf.h"
#include "flight.h"
#include "refuse.h"

enum { BATCH = 64, FILES_MAX = 1024, NOTES_SIZE_MAX = 64 * 1024, BUILD_ID_MAX = 64 };

/* --- what was mapped ------------------------------------------------------------- */

static uint64_t word_at(const unsigned char *desc, size_t index)
{
	uint64_t word;

	memcpy(&word, desc + index * sizeof(word), sizeof(word));
	return word;
}

/* Count, page size, count times start, end and page offset, then the names. */
static int read_files(struct bht_core_maps *maps, const unsigned char *desc, size_t size)
{
	const size_t words = size / sizeof(uint64_t);
	const uint64_t count = words >= 2 ? word_at(desc, 0) : 0;

	if (maps->map || !count || count > (words - 2) / 3)
		return 0;
	const size_t names = (2 + 3 * count) * sizeof(uint64_t);
	maps->map = calloc(count, sizeof(*maps->map));
	maps->text = calloc(1, size - names + 1); /* ends with a NUL of our own */
	if (!maps->map || !maps->text)
		return -ENOMEM;
	memcpy(maps->text, desc + names, size - names);
	const char *name = maps->text, *const end = maps->text + (size - names);
	for (; maps->n < count && name < end; name += strlen(name) + 1) {
		const size_t at = 2 + 3 * maps->n;
		maps->map[maps->n++] = (struct bht_core_map){ word_at(desc, at), word_at(desc, at + 1),
							      word_at(desc, at + 2) * word_at(desc, 1), name };
	}
	return 0;
}

int bht_core_maps_note(struct bht_core_maps *maps, uint32_t type, const unsigned char *desc, size_t size)
{
	if (type == NT_FILE)
		return read_files(maps, desc, size);
	for (size_t i = 0; type == NT_AUXV && i + 1 < size / sizeof(uint64_t); i += 2)
		if (word_at(desc, i) == AT_ENTRY)
			maps->entry = word_at(desc, i + 1);
	return 0;
}

void bht_core_maps_free(struct bht_core_maps *maps)
{
	free(maps->map);
	free(maps->text);
}

/* --- images in the core ----------------------------------------------------------- */

static int look_at_batch(struct bht_core *core, const uint64_t *addrs, size_t n, struct bht_notes *notes)
{
	struct bht_notes more;
	int rc = bht_notes_find(&core->mem, addrs, n, &more);

	if (rc)
		return rc;
	for (unsigned i = 0; i < more.n_roots; i++)
		bht_notes_add(notes, more.root[i]);
	notes->n_images += more.n_images;
	notes->n_foreign += more.n_foreign;
	if (more.n_foreign)
		notes->foreign = more.foreign;
	return 0;
}

/* In batches: what is read at a time has a limit. */
static int look_at_segments(struct bht_core *core, struct bht_notes *notes)
{
	uint64_t addrs[BATCH];
	char magic[SELFMAG];
	size_t n = 0;
	int rc = 0;

	for (size_t i = 0; i < core->n_segments && !rc; i++) {
		if (bht_read(&core->mem, core->segments[i].start, magic, sizeof(magic)) ||
		    memcmp(magic, ELFMAG, SELFMAG))
			continue;
		addrs[n++] = core->segments[i].start;
		if (n == BATCH) {
			rc = look_at_batch(core, addrs, n, notes);
			n = 0;
		}
	}
	return rc ? rc : look_at_batch(core, addrs, n, notes);
}

/* --- images on disk --------------------------------------------------------------- */

/* What a file says, addresses before it is moved to where it was mapped. */
struct image {
	uint64_t entry;
	uint64_t first; /* where its first page goes */
	uint64_t root;  /* 0 for none */
	uint64_t build_id_addr;
	unsigned char build_id[BUILD_ID_MAX];
	size_t build_id_len;
};

static void look_at_note(struct image *image, const GElf_Nhdr *n, const char *name, const unsigned char *desc,
			 uint64_t addr)
{
	int64_t distance;

	if (n->n_type == BHP_NOTE_ROOT && n->n_namesz == sizeof(BHP_NOTE_NAME) && n->n_descsz == sizeof(distance) &&
	    !memcmp(name, BHP_NOTE_NAME, sizeof(BHP_NOTE_NAME))) {
		memcpy(&distance, desc, sizeof(distance));
		image->root = addr + (uint64_t)distance;
	}
	if (n->n_type == NT_GNU_BUILD_ID && n->n_namesz == sizeof(ELF_NOTE_GNU) && n->n_descsz <= BUILD_ID_MAX &&
	    !memcmp(name, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU))) {
		image->build_id_addr = addr;
		image->build_id_len = n->n_descsz;
		memcpy(image->build_id, desc, n->n_descsz);
	}
}

static void look_at_notes(struct image *image, Elf *elf, const GElf_Phdr *p)
{
	Elf_Data *data = p->p_filesz > NOTES_SIZE_MAX
				 ? NULL
				 : elf_getdata_rawchunk(elf, (int64_t)p->p_offset, p->p_filesz,
							p->p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
	size_t at = 0, next, name, desc;
	GElf_Nhdr n;

	for (; data && (next = gelf_getnote(data, at, &n, &name, &desc)) > at; at = next)
		look_at_note(image, &n, (char *)data->d_buf + name, (unsigned char *)data->d_buf + desc,
			     p->p_vaddr + desc);
}

static bool read_image(Elf *elf, struct image *image)
{
	bool loaded = false;
	GElf_Ehdr e;
	GElf_Phdr p;
	size_t n;

	if (elf_kind(elf) != ELF_K_ELF || gelf_getclass(elf) != ELFCLASS64 || !gelf_getehdr(elf, &e) ||
	    elf_getphdrnum(elf, &n))
		return false;
	image->entry = e.e_entry;
	for (size_t i = 0; i < n && i < PN_XNUM && gelf_getphdr(elf, (int)i, &p); i++) {
		if (p.p_type == PT_LOAD && !loaded) {
			image->first = p.p_vaddr - p.p_offset;
			loaded = true;
		}
		if (p.p_type == PT_NOTE)
			look_at_notes(image, elf, &p);
	}
	return loaded && image->root;
}

/* Whether the core shows another build there; it may not show any. */
static bool other_build(struct bht_core *core, const struct image *image, uint64_t moved)
{
	unsigned char there[BUILD_ID_MAX];

	return image->build_id_len && !bht_read(&core->mem, moved + image->build_id_addr, there, image->build_id_len) &&
	       memcmp(there, image->build_id, image->build_id_len);
}

static bool read_path(const char *path, struct image *image)
{
	struct stat st;
	int fd = bht_core_file_open(path, &st);

	if (fd < 0)
		return false;
	Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
	*image = (struct image){ .entry = 0 };
	const bool ok = read_image(elf, image);
	elf_end(elf);
	close(fd);
	return ok;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The file that was asked for: where something of its name was mapped, or else
 * where the program was entered. */
static int look_at_exe(struct bht_core *core, const struct bht_core_maps *maps, const char *exe,
		       struct bht_notes *notes, struct bht_refusal *refusal)
{
	struct image image;
	unsigned before = notes->n_roots;
	bool other = false;

	if (!read_path(exe, &image))
		return bht_refuse(refusal, -ENOENT, 0, "file %s: cannot be read, is no ELF file or has no bhtrace note",
				  exe);
	for (size_t i = 0; i < maps->n; i++) {
		const uint64_t moved = maps->map[i].start - image.first;
		if (maps->map[i].offset || strcmp(base_name(maps->map[i].name), base_name(exe)) != 0)
			continue;
		other |= other_build(core, &image, moved);
		if (!other_build(core, &image, moved))
			bht_notes_add(notes, moved + image.root);
	}
	if (maps->entry && notes->n_roots == before && !other)
		bht_notes_add(notes, maps->entry - image.entry + image.root);
	if (other && notes->n_roots == before)
		return bht_refuse(refusal, -EBADMSG, 0, "file %s: of another build than the one in core %s", exe,
				  core->path);
	return 0;
}

static void look_at_files(struct bht_core *core, const struct bht_core_maps *maps, struct bht_notes *notes)
{
	struct image image;

	for (size_t i = 0, tried = 0; i < maps->n && tried < FILES_MAX; i++) {
		const struct bht_core_map *map = &maps->map[i];
		if (map->offset || map->name[0] != '/')
			continue;
		tried++;
		if (!read_path(map->name, &image))
			continue;
		const uint64_t moved = map->start - image.first;
		if (!other_build(core, &image, moved))
			bht_notes_add(notes, moved + image.root);
	}
}

int bht_core_images(struct bht_core *core, const struct bht_core_maps *maps, const char *exe, struct bht_notes *notes,
		    struct bht_refusal *refusal)
{
	memset(notes, 0, sizeof(*notes));
	int rc = look_at_segments(core, notes);
	if (rc)
		return bht_refuse(refusal, rc, 0, "core %s: ELF images: %s", core->path, strerror(-rc));
	if (notes->n_roots)
		return 0;
	if (exe)
		return look_at_exe(core, maps, exe, notes, refusal);
	look_at_files(core, maps, notes);
	return 0;
}
