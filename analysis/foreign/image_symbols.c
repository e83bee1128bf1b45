/* SPDX-License-Identifier: MIT */
/* Symbols of an image: read once, sorted once, found by name or by address. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "image_inside.h"
#include "refuse.h"

enum {
	SYMBOLS_MAX = 1 << 21,
	SECTION_MAX = 1 << 29,
	NAME_MAX_LEN = 4096,
	HIDDEN = 0x8000 /* in .gnu.version: not the default */
};

/* --- reading ------------------------------------------------------------------------ */

/* FNV-1a: names are compared only where hashes are the same. */
uint32_t bht_name_hash(const char *name, size_t len)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)name[i]) * 16777619u;
	return hash;
}

int bht_symbols_add(const struct bht_image *image, struct bht_symbols *symbols, const GElf_Sym *sym, const char *name,
		    unsigned version)
{
	const unsigned type = GELF_ST_TYPE(sym->st_info), bind = GELF_ST_BIND(sym->st_info);
	const size_t len = strnlen(name, NAME_MAX_LEN) < NAME_MAX_LEN ? strcspn(name, "@") : 0;

	if (!len || sym->st_shndx == SHN_UNDEF || sym->st_shndx == SHN_ABS || !bht_image_segment(image, sym->st_value))
		return 0;
	if (type != STT_FUNC && type != STT_OBJECT && (type != STT_NOTYPE || bind == STB_LOCAL))
		return 0;
	if (!bht_room_for_one(&symbols->symbol, symbols->n, sizeof(*symbols->symbol)))
		return -ENOMEM;
	const bool old = version & HIDDEN || (name[len] == '@' && name[len + 1] != '@');
	symbols->symbol[symbols->n++] = (struct bht_symbol){
		.name = name,
		.hash = bht_name_hash(name, len),
		.name_len = (uint32_t)len,
		.function = type == STT_FUNC,
		.rank = old                 ? BHT_SYMBOL_OLD
			: bind == STB_LOCAL ? BHT_SYMBOL_LOCAL
					    : BHT_SYMBOL_GLOBAL,
		.vaddr = sym->st_value,
		.size = sym->st_size,
	};
	symbols->n_functions += type == STT_FUNC;
	return 0;
}

/* What SCN holds; NULL when it cannot be read, or is larger than any should be. */
static Elf_Data *contents(Elf_Scn *scn, GElf_Shdr *header)
{
	return scn && gelf_getshdr(scn, header) && header->sh_size <= SECTION_MAX ? elf_getdata(scn, NULL) : NULL;
}

/* The symbols of one section; what is damaged in it is left out. */
static int read_section(const struct bht_image *image, struct bht_symbols *symbols, Elf_Scn *scn, Elf_Data *versions)
{
	GElf_Shdr header, text_header;
	Elf_Data *data = contents(scn, &header);
	const Elf_Data *text = data ? contents(elf_getscn(image->elf, header.sh_link), &text_header) : NULL;
	GElf_Versym version = 0;
	GElf_Sym sym;
	int rc = 0;

	if (!text || !text->d_buf)
		return 0;
	for (int i = 1; !rc && symbols->n < SYMBOLS_MAX && gelf_getsym(data, i, &sym); i++) {
		const size_t room = sym.st_name < text->d_size ? text->d_size - sym.st_name : 0;
		const char *name = (const char *)text->d_buf + sym.st_name;
		if (!room || !memchr(name, '\0', room < NAME_MAX_LEN ? room : NAME_MAX_LEN))
			continue;
		if (versions && !gelf_getversym(versions, i, &version))
			version = 0;
		rc = bht_symbols_add(image, symbols, &sym, name, version);
	}
	return rc;
}

/* .symtab has all that .dynsym has, unless somebody took it out. */
static int read_file(const struct bht_image *image, struct bht_symbols *symbols)
{
	Elf_Scn *scn = NULL, *table = NULL, *dynamic = NULL;
	Elf_Data *versions = NULL;
	GElf_Shdr header;

	while ((scn = elf_nextscn(image->elf, scn))) {
		if (!gelf_getshdr(scn, &header))
			continue;
		if (header.sh_type == SHT_SYMTAB)
			table = scn;
		else if (header.sh_type == SHT_DYNSYM)
			dynamic = scn;
		else if (header.sh_type == SHT_GNU_versym)
			versions = contents(scn, &header);
	}
	int rc = table ? read_section(image, symbols, table, NULL) : 0;
	return rc || !dynamic ? rc : read_section(image, symbols, dynamic, versions);
}

/* The section that holds VADDR, if its name begins with PREFIX. */
static Elf_Scn *section_at(const struct bht_image *image, uint64_t vaddr, const char *prefix)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	size_t names;

	if (!image->elf || elf_getshdrstrndx(image->elf, &names))
		return NULL;
	while ((scn = elf_nextscn(image->elf, scn))) {
		if (!gelf_getshdr(scn, &header) || vaddr < header.sh_addr || vaddr - header.sh_addr >= header.sh_size)
			continue;
		const char *name = elf_strptr(image->elf, names, header.sh_name);
		if (name && !strncmp(name, prefix, strlen(prefix)))
			return scn;
	}
	return NULL;
}

/* The function or variable of IMAGE that the loader will put at VADDR by a relocation; 0 when it is no one's. */
static uint64_t relocated(struct bht_image *image, uint64_t vaddr)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header, symbols, text;
	GElf_Rela rela;
	GElf_Sym sym;

	while ((scn = elf_nextscn(image->elf, scn))) {
		Elf_Data *data = contents(scn, &header);
		if (!data || header.sh_type != SHT_RELA)
			continue;
		for (int i = 0; gelf_getrela(data, i, &rela); i++) {
			if (rela.r_offset != vaddr)
				continue;
			Elf_Data *table = contents(elf_getscn(image->elf, header.sh_link), &symbols);
			if (!table || !gelf_getsym(table, (int)GELF_R_SYM(rela.r_info), &sym) ||
			    !contents(elf_getscn(image->elf, symbols.sh_link), &text))
				return 0;
			const char *name = elf_strptr(image->elf, symbols.sh_link, sym.st_name);
			return name ? bht_image_symbol(image, name, NULL) : 0;
		}
	}
	return 0;
}

bool bht_image_got(struct bht_image *image, uint64_t addr, uint64_t *target)
{
	*target = 0;
	if (!section_at(image, addr - image->bias, ".got"))
		return false;
	/* Until its first call a function's entry leads back to the stub that called. */
	if (bht_read(image->mem, addr, target, sizeof(*target)) || section_at(image, *target - image->bias, ".plt"))
		*target = relocated(image, addr - image->bias);
	return true;
}

/* --- sorting -------------------------------------------------------------------------- */

static int compare_names(const struct bht_symbol *a, const struct bht_symbol *b)
{
	const uint32_t len = a->name_len < b->name_len ? a->name_len : b->name_len;
	const int order = memcmp(a->name, b->name, len);

	return order ? order : (a->name_len > b->name_len) - (a->name_len < b->name_len);
}

static int by_name(const void *a, const void *b)
{
	const struct bht_symbol *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	const int order = compare_names(x, y);
	if (order)
		return order;
	if (x->rank != y->rank)
		return x->rank - y->rank;
	return (x->vaddr > y->vaddr) - (x->vaddr < y->vaddr);
}

static int by_address(const void *a, const void *b)
{
	const struct bht_symbol *x = *(const struct bht_symbol *const *)a, *y = *(const struct bht_symbol *const *)b;

	if (x->vaddr != y->vaddr)
		return x->vaddr < y->vaddr ? -1 : 1;
	return x->rank != y->rank ? x->rank - y->rank : compare_names(x, y);
}

static int sort(struct bht_symbols *symbols)
{
	uint32_t n = 0;

	symbols->function = calloc(symbols->n_functions + 1, sizeof(struct bht_symbol *));
	if (!symbols->function)
		return -ENOMEM;
	if (symbols->n)
		qsort(symbols->symbol, symbols->n, sizeof(*symbols->symbol), by_name);
	for (uint32_t i = 0; i < symbols->n; i++)
		if (symbols->symbol[i].function)
			symbols->function[n++] = &symbols->symbol[i];
	if (n)
		qsort(symbols->function, n, sizeof(struct bht_symbol *), by_address);
	return 0;
}

const struct bht_symbols *bht_image_symbols(struct bht_image *image)
{
	struct bht_symbols *symbols = image->symbols ? NULL : calloc(1, sizeof(*symbols));
	int rc = symbols ? 0 : -ENOMEM;

	if (!rc && !image->other_machine)
		/* Names in memory that cannot be read: there are none. */
		rc = image->elf ? read_file(image, symbols) : bht_symbols_from_memory(image, symbols);
	if (symbols && (rc == -ENOMEM || sort(symbols)))
		bht_symbols_free(symbols);
	else if (symbols)
		image->symbols = symbols;
	return image->symbols;
}

void bht_symbols_free(struct bht_symbols *symbols)
{
	if (!symbols)
		return;
	free(symbols->symbol);
	free(symbols->function);
	free(symbols->text);
	free(symbols);
}

/* --- finding ------------------------------------------------------------------------------ */

const struct bht_symbol *bht_symbols_find(const struct bht_symbols *symbols, const char *name, bool *ambiguous)
{
	const size_t len = strlen(name);
	const struct bht_symbol key = { .name = name, .name_len = (uint32_t)len, .hash = bht_name_hash(name, len) };
	uint32_t low = 0, high = symbols->n;

	*ambiguous = false;
	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;
		if (by_name(&symbols->symbol[middle], &key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	const struct bht_symbol *found = &symbols->symbol[low];
	if (low == symbols->n || found->hash != key.hash || compare_names(found, &key))
		return NULL;
	for (uint32_t i = low + 1; i < symbols->n; i++) {
		const struct bht_symbol *next = &symbols->symbol[i];
		if (next->hash != key.hash || next->rank != found->rank || compare_names(next, &key))
			break;
		*ambiguous |= next->vaddr != found->vaddr;
	}
	return found;
}

uint64_t bht_image_symbol(struct bht_image *image, const char *name, uint64_t *size)
{
	const struct bht_symbols *symbols = bht_image_symbols(image);
	bool ambiguous;
	const struct bht_symbol *found = symbols ? bht_symbols_find(symbols, name, &ambiguous) : NULL;

	if (!found || ambiguous || found->rank == BHT_SYMBOL_OLD)
		return 0;
	if (size)
		*size = found->size;
	return found->vaddr + image->bias;
}

/* Number of functions at or before VADDR. */
static uint32_t functions_before(const struct bht_symbols *symbols, uint64_t vaddr)
{
	uint32_t low = 0, high = symbols->n_functions;

	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;
		if (symbols->function[middle]->vaddr <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The function that holds VADDR, the best of several; *NEXT: where the next one begins, or 0. */
static const struct bht_symbol *function_at(const struct bht_image *image, const struct bht_symbols *symbols,
					    uint64_t vaddr, uint64_t *next)
{
	const struct bht_segment *segment = bht_image_segment(image, vaddr);
	uint32_t i = functions_before(symbols, vaddr);

	*next = i < symbols->n_functions ? symbols->function[i]->vaddr : 0;
	if (!i || !segment || !(segment->flags & PF_X))
		return NULL;
	const struct bht_symbol *found = symbols->function[--i];
	while (i && symbols->function[i - 1]->vaddr == found->vaddr)
		found = symbols->function[--i];
	return found->size && vaddr - found->vaddr >= found->size ? NULL : found;
}

uint64_t bht_image_function_rest(struct bht_image *image, uint64_t addr)
{
	const struct bht_symbols *symbols = bht_image_symbols(image);
	const uint64_t vaddr = addr - image->bias;
	uint64_t next = 0;
	const struct bht_symbol *found = symbols ? function_at(image, symbols, vaddr, &next) : NULL;

	return found && found->size ? found->vaddr + found->size - vaddr : next ? next - vaddr : 0;
}

const char *bht_images_name(struct bht_images *images, uint64_t addr, uint64_t *off)
{
	/* In memory a name goes on with its version. */
	static _Thread_local char name[256];
	struct bht_image *image = bht_images_at(images, addr);
	const struct bht_symbols *symbols = image ? bht_image_symbols(image) : NULL;
	uint64_t next;
	const struct bht_symbol *found = symbols ? function_at(image, symbols, addr - image->bias, &next) : NULL;

	*off = found ? addr - image->bias - found->vaddr : 0;
	if (!found)
		return "";
	snprintf(name, sizeof(name), "%.*s", (int)found->name_len, found->name);
	return name;
}
