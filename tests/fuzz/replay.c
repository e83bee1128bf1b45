/* SPDX-License-Identifier: MIT */
/*
 * Runs the files of directories through a fuzz target that is built without
 * libFuzzer: what was found once stays fixed. Hangs end by SIGALRM.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

enum { SECONDS_EACH = 10, MEMORY_MAX_MB = 256 };

/* The input in memory of exactly its size, so that reading past it is seen. */
static void run(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	fuzz_check(fd >= 0 && fstat(fd, &st) == 0);
	uint8_t *data = malloc((size_t)st.st_size);
	fuzz_check(data && read(fd, data, (size_t)st.st_size) == st.st_size);
	close(fd);
	alarm(SECONDS_EACH);
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	alarm(0);
	free(data);
}

static unsigned run_all(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	unsigned n = 0;

	fuzz_check(dir != NULL);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		fprintf(stderr, "%s/%s\n", path, entry->d_name);
		run(dirfd(dir), entry->d_name);
		n++;
	}
	closedir(dir);
	return n;
}

int main(int argc, char **argv)
{
	struct rusage usage;
	unsigned n = 0;

	for (int i = 1; i < argc; i++)
		n += run_all(argv[i]);
	getrusage(RUSAGE_SELF, &usage);
	printf("%u inputs, peak %ld MB\n", n, usage.ru_maxrss >> 10);
	fuzz_check(n > 0);
	fuzz_check(usage.ru_maxrss >> 10 < MEMORY_MAX_MB);
	return 0;
}
