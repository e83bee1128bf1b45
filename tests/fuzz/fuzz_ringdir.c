/* SPDX-License-Identifier: MIT */
/* A directory of hostile files that say that they are of a recorder. */
#include "fuzz.h"
#include "ringdir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct bht_evidence ev = { 0 };
	struct bht_source *history = NULL;
	struct bht_refusal refusal = { 0 };
	uint8_t pid;

	fuzz_take(&in, &pid, sizeof(pid));
	int rc = bht_ringdir_open(fuzz_directory(&in), pid & 1, &ev, &history, &refusal);
	fuzz_result(rc, &ev, history, &refusal);
	return 0;
}
