/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "maps.h"

enum { FILES_MAX = 4096 /* of one process */ };

/* The next executable mapping of a file; its path is in *LINE. */
static bool next_map(FILE *f, char **line, size_t *size, struct bhb_map *m)
{
	unsigned long long start, end, ino;
	unsigned major, minor;
	char flags[5];
	int path;

	while (getline(line, size, f) > 0) {
		path = 0;
		if (sscanf(*line, "%llx-%llx %4s %*s %x:%x %llu %n", &start, &end, flags, &major, &minor, &ino,
			   &path) != 6 ||
		    !path || flags[2] != 'x' || !ino)
			continue;
		(*line)[strcspn(*line, "\n")] = '\0';
		*m = (struct bhb_map){ start, end, (uint64_t)major << 32 | minor, ino, *line + path };
		return true;
	}
	return false;
}

static int add(struct bhb_maps *maps, const struct bhb_map *m)
{
	struct bhb_map *more;

	for (size_t i = 0; i < maps->n; i++)
		if (maps->map[i].dev == m->dev && maps->map[i].ino == m->ino)
			return 0;
	if (maps->n == FILES_MAX)
		return 0;
	more = realloc(maps->map, (maps->n + 1) * sizeof(*m));
	if (!more)
		return -ENOMEM;
	maps->map = more;
	more[maps->n] = *m;
	more[maps->n].path = strdup(m->path);
	return more[maps->n].path ? (maps->n++, 0) : -ENOMEM;
}

/* The maps of thread TID: 1 when it has none, as it has exited. */
static int read_maps(uint32_t tid, struct bhb_maps *maps)
{
	char path[32], *line = NULL;
	size_t size = 0;
	struct bhb_map m;
	FILE *f;
	int rc = 0, any;

	snprintf(path, sizeof(path), "/proc/%u/maps", tid);
	f = fopen(path, "re");
	if (!f)
		return errno == ENOENT ? -ESRCH : -errno;
	any = getc(f);
	if (any != EOF)
		ungetc(any, f);
	while (!rc && next_map(f, &line, &size, &m))
		rc = add(maps, &m);
	free(line);
	fclose(f);
	maps->tid = tid;
	return rc || any != EOF ? rc : 1;
}

/* The next number in a directory of /proc; 0: there is none. */
static uint32_t next_number(DIR *dir)
{
	const struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (e->d_name[0] > '0' && e->d_name[0] <= '9')
			return (uint32_t)strtoul(e->d_name, NULL, 10);
	return 0;
}

int bhb_maps_read(uint32_t pid, struct bhb_maps *maps, char why[BHB_WHY])
{
	uint32_t tid;
	char path[32];
	int rc;

	*maps = (struct bhb_maps){ .n = 0 };
	rc = read_maps(pid, maps);
	if (rc == 1) {
		/* the main thread has exited; perhaps others go on */
		snprintf(path, sizeof(path), "/proc/%u/task", pid);
		DIR *dir = opendir(path);
		while (rc == 1 && (tid = next_number(dir)))
			rc = read_maps(tid, maps);
		if (dir)
			closedir(dir);
	}
	if (rc == 1 || rc == -ESRCH)
		snprintf(why, BHB_WHY, "process %u has exited", pid), rc = -ESRCH;
	else if (rc == -EACCES || rc == -EPERM)
		snprintf(why, BHB_WHY,
			 "process %u: not permitted to see what it executes: this needs CAP_SYS_PTRACE, "
			 "or to be its user",
			 pid);
	else if (rc)
		snprintf(why, BHB_WHY, "/proc/%u/maps: %s", pid, strerror(-rc));
	return rc;
}

void bhb_maps_free(struct bhb_maps *maps)
{
	for (size_t i = 0; i < maps->n; i++)
		free(maps->map[i].path);
	free(maps->map);
	*maps = (struct bhb_maps){ .n = 0 };
}

/* A regular file that is number INO. O_PATH, because opening a device may do something. */
static int open_number(const char *path, uint64_t ino, struct stat *st)
{
	const int at = open(path, O_PATH | O_CLOEXEC);
	char self[32];
	int fd;

	if (at < 0)
		return -errno;
	if (fstat(at, st) || !S_ISREG(st->st_mode) || st->st_ino != ino) {
		close(at);
		return -ESTALE;
	}
	snprintf(self, sizeof(self), "/proc/self/fd/%d", at);
	fd = open(self, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fd = -errno;
	close(at);
	return fd;
}

/* Its device is no help: stat() gives another one than the maps on btrfs and overlayfs. */
int bhb_map_open(const struct bhb_maps *maps, const struct bhb_map *m, struct stat *st, char why[BHB_WHY])
{
	const size_t size = strlen(m->path) + 64;
	char *path = malloc(size);
	int fd;

	if (!path)
		return -ENOMEM;
	/* whatever became of its name, for those who may: CAP_CHECKPOINT_RESTORE */
	snprintf(path, size, "/proc/%u/map_files/%llx-%llx", maps->tid, (unsigned long long)m->start,
		 (unsigned long long)m->end);
	fd = open_number(path, m->ino, st);
	if (fd < 0) {
		snprintf(path, size, "/proc/%u/root%s", maps->tid, m->path);
		fd = open_number(path, m->ino, st);
	}
	if (fd == -ENOENT || fd == -ESTALE)
		snprintf(why, BHB_WHY,
			 "%s: deleted or replaced since process %u mapped it; such a file can only be reached "
			 "with CAP_CHECKPOINT_RESTORE",
			 m->path, maps->tid);
	else if (fd < 0)
		snprintf(why, BHB_WHY, "%s: %s%s", path, strerror(-fd),
			 fd == -EACCES || fd == -EPERM ? ": this needs CAP_SYS_PTRACE and to be able to read the file"
						       : "");
	free(path);
	return fd;
}

static bool executes(uint32_t pid, const struct bhb_map *m)
{
	struct bhb_maps maps;
	char why[BHB_WHY];
	bool found = false;

	bhb_maps_read(pid, &maps, why);
	for (size_t i = 0; i < maps.n && !found; i++)
		found = maps.map[i].dev == m->dev && maps.map[i].ino == m->ino;
	bhb_maps_free(&maps);
	return found;
}

size_t bhb_users(const struct bhb_map *m, uint32_t **pids)
{
	DIR *dir = opendir("/proc");
	uint32_t pid, *more;
	size_t n = 0;

	*pids = NULL;
	while ((pid = next_number(dir))) {
		if (m && !executes(pid, m))
			continue;
		more = realloc(*pids, (n + 1) * sizeof(pid));
		if (!more)
			break;
		*pids = more;
		more[n++] = pid;
	}
	if (dir)
		closedir(dir);
	return n;
}
