/* SPDX-License-Identifier: MIT */
/*
 * Dynamic symbols as the loader uses them, from memory alone: for an image whose file cannot be opened, or of
 * a core. Their number is nowhere; it comes from the hash tables.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image_inside.h"

enum { DYNAMIC_MAX = 1024, SYMBOLS_MAX = 1 << 20, BUCKETS_MAX = 1 << 20, TEXT_MAX = 64 << 20, CHAIN_MAX = 1 << 20 };

struct dynamic {
	uint64_t symbols, text, text_size, hash, gnu_hash, versions;
};

/* glibc writes addresses to where the file has offsets, musl does not. */
static uint64_t in_memory(const struct bht_image *image, uint64_t value)
{
	if (value >= image->low && value < image->high)
		return value;
	value += image->bias;
	return value >= image->low && value < image->high ? value : 0;
}

static int read_dynamic(struct bht_image *image, struct dynamic *d)
{
	Elf64_Dyn entry[DYNAMIC_MAX];
	const size_t n = image->dynamic_size / sizeof(entry[0]);

	if (!n || n > DYNAMIC_MAX)
		return -ENOENT;
	int rc = bht_read(image->mem, image->dynamic + image->bias, entry, n * sizeof(entry[0]));
	for (size_t i = 0; i < n && !rc && entry[i].d_tag != DT_NULL; i++) {
		const uint64_t value = entry[i].d_un.d_val;
		switch (entry[i].d_tag) {
		case DT_SYMTAB:
			d->symbols = in_memory(image, value);
			break;
		case DT_STRTAB:
			d->text = in_memory(image, value);
			break;
		case DT_STRSZ:
			d->text_size = value;
			break;
		case DT_HASH:
			d->hash = in_memory(image, value);
			break;
		case DT_GNU_HASH:
			d->gnu_hash = in_memory(image, value);
			break;
		case DT_VERSYM:
			d->versions = in_memory(image, value);
			break;
		}
	}
	return rc;
}

/* The chain that begins at symbol LAST, the highest that a bucket names, ends with that of the highest number. */
static int end_of_chain(struct bht_image *image, uint64_t chains, uint32_t first, uint32_t last, uint32_t *n)
{
	for (uint32_t i = 0; i < CHAIN_MAX; i++, last++) {
		uint32_t hash;
		int rc = bht_read(image->mem, chains + 4 * (uint64_t)(last - first), &hash, sizeof(hash));
		if (rc)
			return rc;
		if (hash & 1) {
			*n = last + 1;
			return 0;
		}
	}
	return -EBADMSG;
}

static int count_by_gnu_hash(struct bht_image *image, uint64_t table, uint32_t *n)
{
	struct {
		uint32_t buckets, first, bloom, shift;
	} head;
	uint32_t last = 0;
	int rc = bht_read(image->mem, table, &head, sizeof(head));

	if (rc || !head.buckets || head.buckets > BUCKETS_MAX || head.bloom > BUCKETS_MAX)
		return rc ? rc : -EBADMSG;
	uint32_t *bucket = calloc(head.buckets, sizeof(*bucket));
	if (!bucket)
		return -ENOMEM;
	const uint64_t buckets = table + sizeof(head) + 8 * (uint64_t)head.bloom;
	rc = bht_read(image->mem, buckets, bucket, head.buckets * sizeof(*bucket));
	for (uint32_t i = 0; i < head.buckets && !rc; i++)
		last = bucket[i] > last ? bucket[i] : last;
	free(bucket);
	if (!rc && last < head.first)
		*n = head.first; /* none but those that are not defined here */
	else if (!rc)
		rc = end_of_chain(image, buckets + 4 * (uint64_t)head.buckets, head.first, last, n);
	return rc;
}

static int count(struct bht_image *image, const struct dynamic *d, uint32_t *n)
{
	uint32_t head[2]; /* buckets, symbols */
	int rc = -ENOENT;

	if (d->hash)
		rc = bht_read(image->mem, d->hash, head, sizeof(head));
	if (!rc)
		*n = head[1];
	else if (d->gnu_hash)
		rc = count_by_gnu_hash(image, d->gnu_hash, n);
	return rc ? rc : *n > SYMBOLS_MAX ? -E2BIG : 0;
}

int bht_symbols_from_memory(struct bht_image *image, struct bht_symbols *symbols)
{
	struct dynamic d = { 0 };
	uint16_t *versions = NULL;
	Elf64_Sym *table = NULL;
	uint32_t n = 0;
	int rc = read_dynamic(image, &d);

	if (!rc)
		rc = d.symbols && d.text && d.text_size && d.text_size <= TEXT_MAX ? count(image, &d, &n) : -ENOENT;
	if (rc)
		return rc;
	table = calloc(n + 1, sizeof(*table));
	versions = calloc(n + 1, sizeof(*versions));
	symbols->text = calloc(1, d.text_size + 1);
	rc = table && versions && symbols->text ? 0 : -ENOMEM;
	if (!rc)
		rc = bht_read(image->mem, d.symbols, table, n * sizeof(*table));
	if (!rc)
		rc = bht_read(image->mem, d.text, symbols->text, d.text_size);
	if (!rc && d.versions && bht_read(image->mem, d.versions, versions, n * sizeof(*versions)))
		memset(versions, 0, n * sizeof(*versions));
	for (uint32_t i = 1; i < n && !rc; i++) {
		const GElf_Sym sym = table[i]; /* of 64 bits: the same type */
		if (sym.st_name < d.text_size)
			rc = bht_symbols_add(image, symbols, &sym, symbols->text + sym.st_name, versions[i]);
	}
	free(table);
	free(versions);
	return rc;
}
