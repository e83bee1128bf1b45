/* SPDX-License-Identifier: MIT */
/*
 * Sizes in LTTng's files that babeltrace2 2.0.4 believes: a metadata packet of no size
 * makes it read for ever, and an index entry behind the end of its stream aborts the
 * process. So they are looked at before.
 *
 * Formats: Common Trace Format 1.8.3, 7.1 (metadata packets); lttng-tools 2.13,
 * ctf-index.h (index files, big-endian).
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "babeltrace_graph.h"
#include "refuse.h"

enum { PATH = 4096 };

static const uint32_t METADATA_MAGIC = 0x75D11D57, INDEX_MAGIC = 0xC1F1DCC1;

struct metadata_packet {
	uint32_t magic;
	uint8_t uuid[16];
	uint32_t checksum, content_size, packet_size; /* bits */
	uint8_t compression, encryption, checksum_scheme, major, minor;
} __attribute__((packed));

struct index_header {
	uint32_t magic, major, minor, entry_size;
};

struct index_entry {
	uint64_t offset, packet_size; /* bytes, bits; more follows */
};

static int bad(struct bht_refusal *refusal, const char *path, uint64_t at, const char *what)
{
	return bht_refuse(refusal, -EBADMSG, at, "%s: offset %llu: %s", path, (unsigned long long)at, what);
}

static int open_file(const char *path, FILE **file, uint64_t *size, struct bht_refusal *refusal)
{
	struct stat st;

	*file = fopen(path, "re");
	if (!*file || fstat(fileno(*file), &st) != 0) {
		int rc = bht_refuse(refusal, -errno, 0, "%s: %s", path, strerror(errno));
		if (*file)
			fclose(*file);
		return rc;
	}
	*size = (uint64_t)st.st_size;
	return 0;
}

int bht_check_metadata(const char *path, struct bht_refusal *refusal)
{
	struct metadata_packet p = { 0 };
	uint64_t size = 0;
	FILE *f = NULL;
	int rc = open_file(path, &f, &size, refusal);

	if (rc)
		return rc;
	for (uint64_t at = 0; rc == 0 && at < size; at += be32toh(p.packet_size) / 8) {
		const size_t n = fseeko(f, (off_t)at, SEEK_SET) == 0 ? fread(&p, 1, sizeof(p), f) : 0;
		const bool native = p.magic == METADATA_MAGIC;
		if (at == 0 && (n < sizeof(p.magic) || (!native && p.magic != __builtin_bswap32(METADATA_MAGIC))))
			break; /* plain text */
		if (native) {
			p.content_size = htobe32(p.content_size);
			p.packet_size = htobe32(p.packet_size);
		}
		const uint32_t content = be32toh(p.content_size), packet = be32toh(p.packet_size);
		if (n < sizeof(p) || (!native && p.magic != __builtin_bswap32(METADATA_MAGIC)))
			rc = bad(refusal, path, at, "no packet of metadata begins here");
		else if (content < sizeof(p) * 8 || content > packet || packet % 8 || packet / 8 > size - at)
			rc = bad(refusal, path, at, "a packet of metadata that says a wrong size");
	}
	fclose(f);
	return rc;
}

static int check_entries(FILE *f, const char *path, uint64_t size, uint64_t stream_size, struct bht_refusal *refusal)
{
	struct index_header h;
	struct index_entry e;

	if (fread(&h, sizeof(h), 1, f) != 1 || be32toh(h.magic) != INDEX_MAGIC || be32toh(h.entry_size) < sizeof(e))
		return bad(refusal, path, 0, "no index of a stream");
	for (uint64_t at = sizeof(h), step = be32toh(h.entry_size); at + step <= size; at += step) {
		if (fseeko(f, (off_t)at, SEEK_SET) != 0 || fread(&e, sizeof(e), 1, f) != 1)
			return bad(refusal, path, at, "it cannot be read");
		const uint64_t offset = be64toh(e.offset), bits = be64toh(e.packet_size);
		if (offset >= stream_size || bits == 0 || bits % 8 || bits / 8 > stream_size - offset)
			return bad(refusal, path, at, "a packet that is not in the stream");
	}
	return 0;
}

int bht_check_index(const char *path, struct bht_refusal *refusal)
{
	static const char inside[] = "/index/", suffix[] = ".idx";
	const char *name = strrchr(path, '/');
	const size_t length = strlen(path), dir = name ? (size_t)(name - path) + 1 : 0;
	char stream[PATH];
	struct stat st;
	uint64_t size = 0;
	FILE *f = NULL;

	if (dir < sizeof(inside) || strncmp(path + dir - (sizeof(inside) - 1), inside, sizeof(inside) - 1) != 0 ||
	    length < sizeof(suffix) || strcmp(path + length - (sizeof(suffix) - 1), suffix) != 0)
		return 0;
	snprintf(stream, sizeof(stream), "%.*s%.*s", (int)(dir - strlen("index/")), path,
		 (int)(length - dir - strlen(suffix)), path + dir);
	if (lstat(stream, &st) != 0)
		return 0; /* nobody will ask for it */
	int rc = open_file(path, &f, &size, refusal);
	if (rc)
		return rc;
	rc = check_entries(f, path, size, (uint64_t)st.st_size, refusal);
	fclose(f);
	return rc;
}
