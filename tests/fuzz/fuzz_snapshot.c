/* SPDX-License-Identifier: MIT */
/* A directory of hostile files that says that it is a snapshot. */
#include "fuzz.h"
#include "snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct bht_evidence ev = { 0 };
	struct bht_source *history = NULL;
	struct bht_refusal refusal = { 0 };
	int rc = bht_snapshot_open(fuzz_directory(&in), &ev, &history, &refusal);

	fuzz_result(rc, &ev, history, &refusal);
	return 0;
}
