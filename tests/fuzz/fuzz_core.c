/* SPDX-License-Identifier: MIT */
/* A hostile core file; every third one is its own program, too. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bht_evidence ev = { 0 };
	struct bht_source *history = NULL;
	struct bht_refusal refusal = { 0 };
	char path[64];
	int fd = memfd_create("core", MFD_CLOEXEC);

	fuzz_check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int rc = bht_core_open(path, size % 3 ? NULL : path, &ev, &history, &refusal);
	fuzz_result(rc, &ev, history, &refusal);
	close(fd);
	return 0;
}
