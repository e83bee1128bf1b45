/* SPDX-License-Identifier: MIT */
/* maps.h - the files that a process executes */
#ifndef BHB_MAPS_H
#define BHB_MAPS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "attach.h"

struct bhb_map {
	uint64_t start, end, dev, ino; /* as /proc/PID/maps has them */
	char *path;
};

struct bhb_maps {
	uint32_t tid; /* a thread that still has the memory of the process; its main thread when that has it */
	struct bhb_map *map;
	size_t n;
};

/* Executable mappings of files, one a file. 0, -ESRCH, -EACCES or -ENOMEM; bhb_maps_free() in any case. */
int bhb_maps_read(uint32_t pid, struct bhb_maps *maps, char why[BHB_WHY]);
void bhb_maps_free(struct bhb_maps *maps);

/* Opens the file behind M, and no other one that has its name now. A descriptor or -errno. */
int bhb_map_open(const struct bhb_maps *maps, const struct bhb_map *m, struct stat *st, char why[BHB_WHY]);

/* The processes that execute M's file, as far as they can be seen; with NULL all. *PIDS to be freed. */
size_t bhb_users(const struct bhb_map *m, uint32_t **pids);

static inline uint64_t bhb_mono_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
