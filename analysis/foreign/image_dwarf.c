/* SPDX-License-Identifier: MIT */
/*
 * Members and variables by DWARF: of the file itself, or of its debug file, which has the same build id.
 * A name may mean different things in different units: what does not agree is no answer.
 */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "array.h"
#include "image_inside.h"

/* Of a file with debug information: libdw reads whole sections. */
static const off_t FILE_MAX = (off_t)4 << 30;

enum { UNITS_MAX = 1 << 17, NESTED_MAX = 16, NAMED_MAX = 1 << 23 };

struct bht_debug {
	Dwarf *dwarf; /* or NULL */
	Elf *elf;     /* of the debug file, or NULL: the image's */
	int fd;
	/* Types and variables by the hash of their name, with the first question: there may be millions. */
	struct named {
		uint64_t offset;
		uint32_t hash;
		enum { IN_FILE, IN_TYPES /* .debug_types of DWARF 4 */, IN_SHARED /* file of dwz */ } where;
	} * named;
	size_t n_named;
};

/* --- where it is ------------------------------------------------------------------------ */

static bool open_debug_file(const struct bht_image *image, struct bht_debug *debug, const char *path)
{
	char id_text[129] = "";
	struct stat st;
	const void *id;

	debug->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (debug->fd < 0)
		return false;
	if (!fstat(debug->fd, &st) && S_ISREG(st.st_mode) && st.st_size <= FILE_MAX)
		debug->elf = elf_begin(debug->fd, ELF_C_READ, NULL);
	const ssize_t len = debug->elf ? dwelf_elf_gnu_build_id(debug->elf, &id) : -1;
	if (len > 0)
		bht_image_build_id_text(id_text, id, (size_t)len);
	if (!strcmp(id_text, image->build_id)) {
		debug->dwarf = dwarf_begin_elf(debug->elf, DWARF_C_READ, NULL);
		return true;
	}
	elf_end(debug->elf);
	close(debug->fd);
	debug->elf = NULL;
	debug->fd = -1;
	return false;
}

static bool has_debug_info(const struct bht_image *image)
{
	Elf *elf = image->elf;
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	struct stat st;
	size_t names;

	if (!elf || fstat(image->fd, &st) || st.st_size > FILE_MAX || elf_getshdrstrndx(elf, &names))
		return false;
	while ((scn = elf_nextscn(elf, scn))) {
		const char *name = gelf_getshdr(scn, &header) ? elf_strptr(elf, names, header.sh_name) : NULL;
		if (name && header.sh_type != SHT_NOBITS && !strcmp(name, ".debug_info"))
			return true;
	}
	return false;
}

static void find_debug(struct bht_image *image, struct bht_debug *debug)
{
	const char *id = image->build_id, *slash = strrchr(image->path, '/');
	char path[4400];
	GElf_Word crc;

	if (has_debug_info(image)) {
		debug->dwarf = dwarf_begin_elf(image->elf, DWARF_C_READ, NULL);
		return;
	}
	if (!*id)
		return;
	snprintf(path, sizeof(path), "/usr/lib/debug/.build-id/%.2s/%s.debug", id, id + 2);
	if (open_debug_file(image, debug, path))
		return;
	const char *name = image->elf ? dwelf_elf_gnu_debuglink(image->elf, &crc) : NULL;
	if (!name || strchr(name, '/') || !slash)
		return;
	snprintf(path, sizeof(path), "/usr/lib/debug%.*s/%s", (int)(slash - image->path), image->path, name);
	open_debug_file(image, debug, path);
}

void bht_debug_free(struct bht_debug *debug)
{
	if (!debug)
		return;
	free(debug->named);
	dwarf_end(debug->dwarf);
	elf_end(debug->elf);
	if (debug->fd >= 0)
		close(debug->fd);
	free(debug);
}

/* --- types -------------------------------------------------------------------------------- */

static bool type_of(Dwarf_Die *die, Dwarf_Die *type)
{
	Dwarf_Attribute attr;

	return dwarf_attr_integrate(die, DW_AT_type, &attr) && dwarf_formref_die(&attr, type) &&
	       !dwarf_peel_type(type, type);
}

static bool is_aggregate(Dwarf_Die *type)
{
	const int tag = dwarf_tag(type);

	return (tag == DW_TAG_structure_type || tag == DW_TAG_union_type || tag == DW_TAG_class_type) &&
	       !dwarf_hasattr(type, DW_AT_declaration);
}

static bool is_named(Dwarf_Die *die, const char *name, size_t len)
{
	const char *has = dwarf_diename(die);

	return has && strlen(has) == len && !memcmp(has, name, len);
}

/* The member NAME of the aggregate TYPE, also of unnamed ones within; adds to *OFFSET. */
static bool find_member(Dwarf_Die *type, const char *name, size_t len, Dwarf_Die *member, uint64_t *offset,
			unsigned depth)
{
	Dwarf_Die child, inner;
	int rc = dwarf_child(type, &child);

	for (; rc == 0; rc = dwarf_siblingof(&child, &child)) {
		Dwarf_Attribute attr;
		Dwarf_Word at = 0;
		if (dwarf_tag(&child) != DW_TAG_member || dwarf_hasattr(&child, DW_AT_bit_size))
			continue;
		/* Of a union: none. */
		if (dwarf_attr(&child, DW_AT_data_member_location, &attr) && dwarf_formudata(&attr, &at))
			continue;
		uint64_t within = *offset + at;
		if (is_named(&child, name, len)) {
			*member = child;
			*offset = within;
			return true;
		}
		if (!dwarf_diename(&child) && depth < NESTED_MAX && type_of(&child, &inner) && is_aggregate(&inner) &&
		    find_member(&inner, name, len, member, &within, depth + 1)) {
			*offset = within;
			return true;
		}
	}
	return false;
}

/* Follows PATH ("a.b") from TYPE: the type there, and its distance. */
static bool follow(Dwarf_Die *type, const char *path, uint64_t *offset)
{
	for (unsigned depth = 0; *path && depth < NESTED_MAX; depth++) {
		const size_t len = strcspn(path, ".");
		Dwarf_Die member;
		if (!is_aggregate(type) || !find_member(type, path, len, &member, offset, 0) || !type_of(&member, type))
			return false;
		path += len + (path[len] == '.');
	}
	return !*path;
}

static uint64_t size_of(Dwarf_Die *type)
{
	Dwarf_Word size;

	return dwarf_aggregate_size(type, &size) ? 0 : size;
}

/* --- what is asked -------------------------------------------------------------------------------- */

struct query {
	const char *name; /* of a type or variable */
	size_t name_len;
	const char *path; /* of a member, or "" */
	uint64_t bias;
	/* What was found */
	int rc; /* 0, -ENOENT or -ENOTUNIQ */
	bool is_external;
	uint64_t at, size;
	bool is_number, is_signed;
};

static void keep(struct query *q, uint64_t at, Dwarf_Die *type, bool is_external)
{
	const uint64_t size = size_of(type);
	Dwarf_Attribute attr;
	Dwarf_Word encoding = 0;

	if (q->rc == 0 && is_external == q->is_external && (at != q->at || size != q->size))
		q->rc = -ENOTUNIQ;
	/* A global variable is meant rather than a static one. */
	if (q->rc != -ENOENT && (!is_external || q->is_external))
		return;
	const int tag = dwarf_tag(type);
	if (tag == DW_TAG_base_type && dwarf_attr(type, DW_AT_encoding, &attr))
		dwarf_formudata(&attr, &encoding);
	*q = (struct query){
		q->name, q->name_len, q->path, q->bias, .at = at, .size = size, .is_external = is_external
	};
	q->is_signed = encoding == DW_ATE_signed || encoding == DW_ATE_signed_char;
	q->is_number = tag == DW_TAG_pointer_type || tag == DW_TAG_enumeration_type ||
		       (tag == DW_TAG_base_type && encoding != DW_ATE_float && encoding != DW_ATE_complex_float);
}

static void look_at_type(struct query *q, Dwarf_Die *die)
{
	uint64_t offset = 0;
	Dwarf_Die type = *die;

	if (dwarf_tag(die) == DW_TAG_typedef && dwarf_peel_type(&type, &type))
		return;
	if (is_aggregate(&type) && follow(&type, q->path, &offset))
		keep(q, offset, &type, false);
}

/* Only variables with one address for all threads. */
static void look_at_variable(struct query *q, Dwarf_Die *die)
{
	Dwarf_Attribute attr;
	Dwarf_Op *op;
	size_t n;
	Dwarf_Die type;
	uint64_t offset = 0;
	bool is_external = false;

	if (!dwarf_attr_integrate(die, DW_AT_location, &attr) || dwarf_getlocation(&attr, &op, &n) || n != 1)
		return;
	uint64_t addr = op->number;
	if (op->atom == DW_OP_addrx) {
		Dwarf_Attribute indexed;
		Dwarf_Addr value;
		if (dwarf_getlocation_attr(&attr, op, &indexed) || dwarf_formaddr(&indexed, &value))
			return;
		addr = value;
	} else if (op->atom != DW_OP_addr) {
		return;
	}
	if (dwarf_attr_integrate(die, DW_AT_external, &attr))
		dwarf_formflag(&attr, &is_external);
	if (type_of(die, &type) && follow(&type, q->path, &offset))
		keep(q, addr + offset + q->bias, &type, is_external);
}

/* --- by name ------------------------------------------------------------------------------ */

static bool is_variable(Dwarf_Die *die)
{
	return dwarf_tag(die) == DW_TAG_variable;
}

/* Defined, not only declared. */
static bool is_of_interest(Dwarf_Die *die)
{
	switch (dwarf_tag(die)) {
	case DW_TAG_variable:
		return dwarf_hasattr_integrate(die, DW_AT_location);
	case DW_TAG_structure_type:
	case DW_TAG_union_type:
	case DW_TAG_class_type:
		return !dwarf_hasattr(die, DW_AT_declaration);
	case DW_TAG_typedef:
		return true;
	default:
		return false;
	}
}

static void index_units(struct bht_debug *debug, Dwarf *dwarf, bool shared)
{
	Dwarf_CU *unit = NULL;
	Dwarf_Half version;
	Dwarf_Die top, die;
	uint8_t type;

	for (unsigned i = 0; i < UNITS_MAX && !dwarf_get_units(dwarf, unit, &unit, &version, &type, &top, NULL); i++) {
		int rc = dwarf_child(&top, &die);
		for (; rc == 0; rc = dwarf_siblingof(&die, &die)) {
			const char *name = is_of_interest(&die) ? dwarf_diename(&die) : NULL;
			if (!name || debug->n_named == NAMED_MAX ||
			    !bht_room_for_one(&debug->named, debug->n_named, sizeof(*debug->named)))
				continue;
			debug->named[debug->n_named++] =
				(struct named){ dwarf_dieoffset(&die), bht_name_hash(name, strlen(name)),
						shared                              ? IN_SHARED
						: type == DW_UT_type && version < 5 ? IN_TYPES
										    : IN_FILE };
		}
	}
}

static int by_hash(const void *a, const void *b)
{
	const struct named *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

static void make_index(struct bht_debug *debug)
{
	Dwarf *shared = dwarf_getalt(debug->dwarf);

	index_units(debug, debug->dwarf, false);
	if (shared)
		index_units(debug, shared, true);
	if (debug->n_named)
		qsort(debug->named, debug->n_named, sizeof(*debug->named), by_hash);
}

static struct bht_debug *get_debug(struct bht_image *image)
{
	if (image->debug || image->other_machine)
		return image->debug;
	image->debug = calloc(1, sizeof(*image->debug));
	if (!image->debug)
		return NULL;
	image->debug->fd = -1;
	find_debug(image, image->debug);
	if (image->debug->dwarf)
		make_index(image->debug);
	return image->debug;
}

static void look_at(struct query *q, struct bht_debug *debug, const struct named *named, bool variables)
{
	Dwarf *dwarf = named->where == IN_SHARED ? dwarf_getalt(debug->dwarf) : debug->dwarf;
	Dwarf_Die die;

	if (!(named->where == IN_TYPES ? dwarf_offdie_types : dwarf_offdie)(dwarf, named->offset, &die) ||
	    is_variable(&die) != variables || !is_named(&die, q->name, q->name_len))
		return;
	if (variables)
		look_at_variable(q, &die);
	else
		look_at_type(q, &die);
}

static void ask(struct bht_image *image, struct query *q, bool variables)
{
	struct bht_debug *debug = get_debug(image);
	const uint32_t hash = bht_name_hash(q->name, q->name_len);
	size_t low = 0;

	q->rc = -ENOENT;
	q->bias = image->bias;
	for (size_t high = debug ? debug->n_named : 0; low < high;) {
		const size_t middle = low + (high - low) / 2;
		if (debug->named[middle].hash < hash)
			low = middle + 1;
		else
			high = middle;
	}
	for (; debug && low < debug->n_named && debug->named[low].hash == hash; low++)
		look_at(q, debug, &debug->named[low], variables);
}

int bht_image_dwarf_member(struct bht_image *image, const char *type, const char *member, uint64_t *offset,
			   uint64_t *size)
{
	struct query q = { .name = type, .name_len = strlen(type), .path = member };

	ask(image, &q, false);
	if (q.rc)
		return q.rc;
	*offset = q.at;
	if (size)
		*size = q.size;
	return 0;
}

int bht_image_variable(struct bht_image *image, const char *name, uint64_t *addr, uint64_t *size, int *is_signed)
{
	const size_t len = strcspn(name, ".");
	struct query q = { .name = name, .name_len = len, .path = name + len + (name[len] == '.') };
	const struct bht_symbols *symbols = bht_image_symbols(image);
	bool ambiguous = false;
	const struct bht_symbol *symbol = symbols && !name[len] ? bht_symbols_find(symbols, name, &ambiguous) : NULL;

	/* Without a symbol there may be a member or, the symbols being stripped, a variable of a debug file. */
	ask(image, &q, true);
	if (q.rc == -ENOTUNIQ || ambiguous)
		return -ENOTUNIQ;
	if (q.rc == 0) {
		*addr = q.at;
		*size = q.is_number ? q.size : 0;
		*is_signed = q.is_signed;
		return 0;
	}
	if (!symbol || symbol->function)
		return -ENOENT;
	*addr = symbol->vaddr + image->bias;
	*size = symbol->size;
	*is_signed = -1;
	return 0;
}
