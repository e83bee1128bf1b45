/* SPDX-License-Identifier: MIT */
/*
 * Where the files of a target are. Of a process the kernel keeps a link to each mapped file, whatever happened
 * to its name since (/proc/PID/map_files, for root); otherwise its name is
 * followed within the process's own root, and leads to the same device and inode.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "array.h"
#include "image_inside.h"
#include "procfs.h"
#include "refuse.h"

/* Looks before it opens: a path may by now lead to a device or a FIFO. -errno or a descriptor. */
static int open_regular(int path_fd, struct stat *st)
{
	char path[32];
	int fd;

	if (path_fd < 0)
		return -errno;
	if (fstat(path_fd, st) || !S_ISREG(st->st_mode)) {
		close(path_fd);
		return -EINVAL;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", path_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		fd = -errno;
	close(path_fd);
	return fd;
}

/* --- of a process ------------------------------------------------------------------------- */

struct process_opener {
	struct bht_image_opener base;
	struct bht_procfs proc;
	int root; /* its root directory, or -errno */
};

static int open_in_root(int root, const char *path)
{
	const struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS };

	if (root < 0) {
		errno = -root;
		return -1;
	}
	return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

static int open_of_process(const struct bht_image_opener *opener, const struct bht_image_line *line, bool *sure,
			   struct bht_refusal *refusal)
{
	const struct process_opener *p = (const struct process_opener *)opener;
	char link[64];
	struct stat st = { 0 };

	snprintf(link, sizeof(link), "map_files/%llx-%llx", (unsigned long long)line->map.start,
		 (unsigned long long)line->map.end);
	int fd = open_regular(openat(p->proc.dir, link, O_PATH | O_CLOEXEC), &st);
	*sure = fd >= 0;
	if (fd >= 0)
		return fd;
	fd = open_regular(open_in_root(p->root, line->map.path), &st);
	if (fd < 0)
		return bht_refuse(refusal, fd, line->map.start, "%s of process %u: %s", line->map.path, p->proc.pid,
				  strerror(-fd));
	/* Where devices have several numbers (btrfs, overlayfs) the build id decides. */
	*sure = st.st_dev == line->device && st.st_ino == line->inode;
	return fd;
}

/* "START-END PERM OFFSET MAJOR:MINOR INODE PATH" of a part of a file that can be read or executed. */
static bool parse_line(char *text, struct bht_image_line *line)
{
	unsigned long long start, end, offset, inode;
	unsigned major_, minor_;
	char perm[5];
	int at = 0;

	if (sscanf(text, "%llx-%llx %4s %llx %x:%x %llu %n", &start, &end, perm, &offset, &major_, &minor_, &inode,
		   &at) < 7 ||
	    !at || start >= end || !inode || text[at] != '/' || (perm[0] != 'r' && perm[2] != 'x'))
		return false;
	*line = (struct bht_image_line){
		{ start, end, offset, text + at, NULL }, makedev(major_, minor_), inode, perm[2] == 'x'
	};
	return true;
}

/* Lines of TEXT, whose paths stay in it. */
static int parse_maps(char *text, struct bht_image_line **lines, size_t *n)
{
	struct bht_image_line line;
	char *rest = NULL;

	*n = 0;
	*lines = NULL;
	for (char *at = strtok_r(text, "\n", &rest); at; at = strtok_r(NULL, "\n", &rest)) {
		if (!parse_line(at, &line))
			continue;
		if (!bht_room_for_one(lines, *n, sizeof(line)))
			return -ENOMEM;
		(*lines)[(*n)++] = line;
	}
	return 0;
}

int bht_images_of_process(uint32_t pid, struct bht_memory *mem, struct bht_images *images, struct bht_refusal *refusal)
{
	struct process_opener p = { .base = { open_of_process }, .root = -1 };
	struct bht_text maps = { .data = NULL };
	struct bht_image_line *lines = NULL;
	size_t n = 0;

	*images = (struct bht_images){ .n = 0 };
	int rc = bht_procfs_open(&p.proc, pid);
	if (!rc)
		rc = bht_text_read_list(&maps, p.proc.files, "maps");
	if (!rc)
		rc = parse_maps(maps.data, &lines, &n);
	if (rc) {
		bht_refuse(refusal, rc, 0, "maps of process %u: %s", pid, strerror(-rc));
		goto out;
	}
	p.root = openat(p.proc.files, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p.root < 0)
		p.root = -errno;
	rc = bht_images_make(lines, n, &p.base, mem, images, refusal);
	if (p.root >= 0)
		close(p.root);
out:
	free(lines);
	free(maps.data);
	bht_procfs_close(&p.proc);
	return rc;
}

/* --- of anything else ----------------------------------------------------------------------- */

static int open_named(const struct bht_image_opener *opener, const struct bht_image_line *line, bool *sure,
		      struct bht_refusal *refusal)
{
	struct stat st = { 0 };

	(void)opener;
	*sure = false;
	if (!line->map.open)
		return bht_refuse(refusal, -ENOENT, line->map.start, "%s: no file", line->map.path);
	const int fd = open_regular(open(line->map.open, O_PATH | O_CLOEXEC), &st);
	return fd >= 0 ? fd : bht_refuse(refusal, fd, line->map.start, "%s: %s", line->map.open, strerror(-fd));
}

static int by_start(const void *a, const void *b)
{
	const struct bht_image_line *x = a, *y = b;

	return (x->map.start > y->map.start) - (x->map.start < y->map.start);
}

int bht_images_of_maps(const struct bht_image_map *maps, size_t n, struct bht_memory *mem, struct bht_images *images,
		       struct bht_refusal *refusal)
{
	const struct bht_image_opener opener = { open_named };
	struct bht_image_line *lines = calloc(n + 1, sizeof(*lines));

	*images = (struct bht_images){ .n = 0 };
	if (!lines)
		return bht_refuse(refusal, -ENOMEM, 0, "ELF images: no memory");
	for (size_t i = 0; i < n; i++)
		lines[i] = (struct bht_image_line){ .map = maps[i], .executable = true };
	qsort(lines, n, sizeof(*lines), by_start);
	int rc = bht_images_make(lines, n, &opener, mem, images, refusal);
	free(lines);
	return rc;
}
