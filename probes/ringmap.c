/* SPDX-License-Identifier: MIT */
/* Memory for rings: anonymous, or a file that survives SIGKILL. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "recorder.h"

static void *map_file(const char *directory, size_t size, unsigned number)
{
	char path[sizeof(((struct bhp_config *)0)->directory) + 64];
	void *map = MAP_FAILED;

	/* The start time tells files of a reused process id apart. */
	snprintf(path, sizeof(path), "%s/bh-%d-%llx-%u.flight", directory, getpid(),
		 (unsigned long long)bhp_flight_root.clock[0].mono_ns, number);
	/* O_EXCL and O_NOFOLLOW: the directory may be everybody's, like /tmp. */
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return MAP_FAILED;
	/* Not ftruncate(): a store to a hole of a full disk is a SIGBUS. */
	int error;
	do
		error = posix_fallocate(fd, 0, (off_t)size);
	while (error == EINTR);
	if (error == 0) {
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		error = map == MAP_FAILED ? errno : 0;
	}
	if (error)
		unlink(path);
	close(fd);
	errno = error;
	return map;
}

void *bhp_ring_map(const struct bhp_config *config, size_t size, unsigned number)
{
	static atomic_flag complained = ATOMIC_FLAG_INIT;
	void *map = MAP_FAILED;

	size += BHP_RING_HEADER;
	if (config->mode == BHP_FLIGHT_FILE) {
		map = map_file(config->directory, size, number);
		if (map == MAP_FAILED && !atomic_flag_test_and_set(&complained))
			fprintf(stderr, "libbh: BH_FLIGHT: no ring file in %s: %s; recording to memory\n",
				config->directory, strerror(errno));
	}
	if (map == MAP_FAILED)
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return map == MAP_FAILED ? NULL : map;
}
