/* SPDX-License-Identifier: MIT */
/*
 * The counts in the file of the process say what should be there. A ring or a
 * chunk that is not (the disk was full, somebody tidied up) may have held
 * anything.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "array.h"
#include "refuse.h"
#include "ringroot.h"

enum {
	OBJECTS_MAX = 1 << 20,
	PIECE = 1 << 20, /* bytes of objects that are read at a time */
	PARTS = 1 << 20, /* records of all rings that are in memory at a time, */
	PART_MIN = 16,   /* of each at least */
	PART_MAX = 4096  /* and at most */
};

static const char *const suffix[] = { "process", "flight", "objects" };

void bht_ringname_print(const struct bht_ringname *name, char *buf, size_t size)
{
	if (name->kind == BHT_RING_PROCESS)
		snprintf(buf, size, "bh-%u-%llx.process", name->pid, (unsigned long long)name->start);
	else
		snprintf(buf, size, "bh-%u-%llx-%u.%s", name->pid, (unsigned long long)name->start, name->number,
			 suffix[name->kind]);
}

bool bht_ringname_parse(const char *text, struct bht_ringname *name)
{
	char again[BHT_RINGNAME], *at;

	if (strncmp(text, "bh-", 3))
		return false;
	name->pid = (uint32_t)strtoul(text + 3, &at, 10);
	name->start = *at == '-' ? strtoull(at + 1, &at, 16) : 0;
	name->number = *at == '-' ? (uint32_t)strtoul(at + 1, &at, 10) : 0;
	for (int kind = BHT_RING_PROCESS; kind <= BHT_RING_OBJECTS; kind++) {
		name->kind = (enum bht_ringname_kind)kind;
		bht_ringname_print(name, again, sizeof(again));
		if (!strcmp(text, again))
			return name->pid;
	}
	return false;
}

/* --- files -------------------------------------------------------------------- */

/* A file that cannot be used: what it held may have been anything. */
static int damaged(struct bht_ringroot *root, int rc)
{
	if (rc == -ENOMEM)
		return rc;
	root->damaged = true;
	bht_unseen(root->ev, "%s", root->refusal->why);
	return 0;
}

static int check_owner(const struct bht_ringroot *root, const struct stat *st, const char *name)
{
	if (st->st_uid == root->owner)
		return 0;
	return bht_refuse(root->refusal, -EPERM, 0, "%s: belongs to uid %u, others to %u", name, st->st_uid,
			  root->owner);
}

static int read_process(struct bht_ringroot *root, const struct bht_ringname *of)
{
	struct bhp_process_file *p = &root->process;
	struct stat st;
	char name[BHT_RINGNAME];

	bht_ringname_print(of, name, sizeof(name));
	int fd = bht_file_open(root->dir, name, &st, root->refusal);
	if (fd < 0)
		return fd;
	int rc = bht_file_read(fd, name, p, sizeof(*p), 0, root->refusal);
	close(fd);
	if (rc)
		return rc;
	if (memcmp(p->magic, BHP_PROCESS_MAGIC, sizeof(p->magic)) || p->abi != BHP_ABI || p->pid != of->pid)
		return bht_refuse(root->refusal, -EBADMSG, 0, "%s: offset 0: no %s of ABI %d and process %u", name,
				  BHP_PROCESS_MAGIC, BHP_ABI, of->pid);
	p->command[sizeof(p->command) - 1] = '\0';
	root->owner = st.st_uid;
	root->known = true;
	return 0;
}

static int open_ring(struct bht_ringroot *root, const struct bht_ringname *of)
{
	char name[BHT_RINGNAME];

	if (!bht_room_for_one(&root->ring, root->n_rings, sizeof(*root->ring)))
		return bht_refuse(root->refusal, -ENOMEM, 0, "rings: no memory");
	bht_ringname_print(of, name, sizeof(name));
	int rc = bht_ringfile_open(root->dir, name, root->owner, &root->table, &root->ring[root->n_rings],
				   root->refusal);
	if (!rc) {
		root->rings_found += of->number < root->process.n_rings;
		root->n_rings++;
		return 0;
	}
	/* One that was being made has no events yet. */
	return !root->known || of->number < root->process.n_rings ? damaged(root, rc) : 0;
}

/* Adds the objects of an opened file, piece by piece. */
static int read_slots(struct bht_ringroot *root, int fd, const char *name, const struct bhp_objects_file *h)
{
	const uint32_t most = PIECE / h->stride;
	const uint64_t offset = BHP_RING_HEADER + sizeof(struct bhp_chunk), slots = h->chunk + sizeof(struct bhp_chunk);
	struct bht_sample *sample = &root->ev->last;
	void *piece = malloc(PIECE);
	int rc = piece ? 0 : bht_refuse(root->refusal, -ENOMEM, 0, "%s: no memory", name);

	for (uint32_t at = 0, n; !rc && at < h->count; at += n) {
		const uint64_t skip = (uint64_t)at * h->stride;
		const unsigned long long from = offset + skip;
		n = h->count - at < most ? h->count - at : most;
		rc = bht_file_read(fd, name, piece, (size_t)n * h->stride, from, root->refusal);
		if (!rc)
			rc = bht_registry_slots(sample, h->kind, h->stride, slots + skip, piece, n, root->refusal);
		if (!rc && sample->n_loops + sample->n_bhs > OBJECTS_MAX)
			rc = bht_refuse(root->refusal, -E2BIG, from, "%s: offset %llu: more than %d objects", name,
					from, OBJECTS_MAX);
	}
	free(piece);
	return rc;
}

static int check_objects(struct bht_ringroot *root, const struct bhp_objects_file *h, const struct stat *st,
			 const char *name)
{
	const uint64_t len = (uint64_t)h->count * h->stride;
	struct bht_refusal why;

	if (memcmp(h->magic, BHP_OBJECTS_MAGIC, sizeof(h->magic)) || h->abi != BHP_ABI)
		return bht_refuse(root->refusal, -EBADMSG, 0, "%s: offset 0: no %s of ABI %d", name, BHP_OBJECTS_MAGIC,
				  BHP_ABI);
	int rc = bht_registry_check(&root->ev->last, h->kind, h->stride, h->chunk, h->count, &why);
	if (rc)
		return bht_refuse(root->refusal, rc, offsetof(struct bhp_objects_file, stride), "%s: offset %zu: %s",
				  name, offsetof(struct bhp_objects_file, stride), why.why);
	if ((uint64_t)st->st_size != BHP_RING_HEADER + sizeof(struct bhp_chunk) + len)
		return bht_refuse(root->refusal, -EBADMSG, (uint64_t)st->st_size,
				  "%s: offset %lld: the file ends, not where %u slots of %u bytes end", name,
				  (long long)st->st_size, h->count, h->stride);
	return 0;
}

static int read_objects(struct bht_ringroot *root, const struct bht_ringname *of)
{
	struct bhp_objects_file h;
	struct stat st;
	char name[BHT_RINGNAME];

	bht_ringname_print(of, name, sizeof(name));
	int fd = bht_file_open(root->dir, name, &st, root->refusal);
	int rc = fd < 0 ? fd : check_owner(root, &st, name);
	if (!rc)
		rc = bht_file_read(fd, name, &h, sizeof(h), 0, root->refusal);
	if (!rc)
		rc = check_objects(root, &h, &st, name);
	/* Other kinds of objects may come later. */
	if (!rc && (h.kind == BHP_POOL_LOOP || h.kind == BHP_POOL_BH))
		rc = read_slots(root, fd, name, &h);
	if (fd >= 0)
		close(fd);
	if (!rc) {
		root->chunks_found += of->number < root->process.n_chunks;
		return 0;
	}
	return !root->known || of->number < root->process.n_chunks ? damaged(root, rc) : 0;
}

/* --- all of one root ---------------------------------------------------------- */

void bht_ringroot_begin(struct bht_ringroot *root, const struct bht_ringname *first)
{
	char name[BHT_RINGNAME];
	struct stat st;

	if (first->kind == BHT_RING_PROCESS && read_process(root, first))
		bht_unseen(root->ev, "%s", root->refusal->why);
	bht_ringname_print(first, name, sizeof(name));
	if (!root->known && !fstatat(root->dir, name, &st, AT_SYMLINK_NOFOLLOW))
		root->owner = st.st_uid;
}

int bht_ringroot_open(struct bht_ringroot *root, const struct bht_ringname *names, size_t n)
{
	int rc = 0;

	/* Rings before objects: see bht_ringroot_missing(). */
	for (size_t i = 0; i < n && !rc; i++)
		if (names[i].kind == BHT_RING_FLIGHT)
			rc = open_ring(root, &names[i]);
	for (size_t i = 0; i < n && !rc; i++)
		if (names[i].kind == BHT_RING_OBJECTS)
			rc = read_objects(root, &names[i]);
	return rc;
}

uint64_t bht_ringroot_room(size_t n)
{
	const uint64_t room = PARTS / (n + 1);

	return room < PART_MIN ? PART_MIN : room > PART_MAX ? PART_MAX : room;
}

void bht_ringroot_allow(size_t n)
{
	struct rlimit limit;

	n += 64;
	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= n)
		return;
	limit.rlim_cur = limit.rlim_max < n ? limit.rlim_max : n;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int bht_ringroot_start(struct bht_ringroot *root, bht_tid_map map, void *arg, uint64_t room,
		       struct bht_source **sources, unsigned *n)
{
	int rc = 0;

	for (unsigned i = 0; i < root->n_rings; i++) {
		sources[(*n)++] = &root->ring[i]->d.base;
		if (!rc)
			rc = bht_ringfile_start(root->ring[i], &root->how, map, arg, room);
	}
	root->n_rings = 0;
	return rc;
}

void bht_ringroot_close(struct bht_ringroot *root)
{
	for (unsigned i = 0; i < root->n_rings; i++)
		root->ring[i]->d.base.close(&root->ring[i]->d.base);
	free(root->ring);
}

void bht_ringroot_missing(struct bht_ringroot *root)
{
	const struct bhp_process_file *p = &root->process;
	bool moved = false;

	if (!root->known)
		bht_unseen(root->ev, "whether all rings and objects are there: no file says how many there were");
	else if (root->rings_found < p->n_rings)
		bht_unseen(root->ev, "the history of %u of %u rings: there are no files of them (kept in memory?)",
			   p->n_rings - root->rings_found, p->n_rings);
	if (root->known && root->chunks_found < p->n_chunks)
		bht_unseen(root->ev,
			   "some loops and bottom halves: files of %u of %u chunks are not there (kept in memory?)",
			   p->n_chunks - root->chunks_found, p->n_chunks);
	for (unsigned i = 0; i < root->n_rings; i++)
		moved |= bht_ringfile_moved(root->ring[i]);
	if (moved)
		bht_unseen(root->ev, "a moment of process %u: it went on while its files were read", root->ev->pid);
	root->damaged |= !root->known || root->rings_found < p->n_rings || root->chunks_found < p->n_chunks;
	root->ev->last.unstable |= moved || root->damaged;
}
