/* SPDX-License-Identifier: MIT */
/*
 * fuzz.h - what the fuzz targets share
 *
 * A target makes something to read out of the input, reads it as bhtrace would,
 * and has what came of it diagnosed and printed. Built with libFuzzer, or with
 * replay.c, which runs given files through it.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "diagnosis.h"
#include "registry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is left of the input. Reading past its end gives zeros. */
struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

void fuzz_take(struct fuzz_input *in, void *to, size_t size);

/* Stops the fuzzer when a property that must hold does not. */
#define fuzz_check(condition) ((condition) ? (void)0 : fuzz_failed(__FILE__, __LINE__, #condition))
_Noreturn void fuzz_failed(const char *file, int line, const char *what);

/*
 * Diagnoses and prints. What is printed must be clean, and a verdict must fit
 * its reasons. Frees EV and closes HISTORY, which may be NULL.
 */
void fuzz_judge(struct bht_evidence *ev, struct bht_source *history);

/* What a reader gave: judges it, or checks that the refusal says why. */
void fuzz_result(int rc, struct bht_evidence *ev, struct bht_source *history, const struct bht_refusal *refusal);

/* --- a target's memory ------------------------------------------------------------- */

enum { FUZZ_REGIONS = 64 };

/*
 * The input is a list of regions: address (8 bytes), length (4), stored length
 * (4), the bytes that are stored; behind them it is zeros. Regions at the same
 * address are what different reads see: a target that runs.
 */
struct fuzz_image {
	struct bht_memory mem; /* first */
	struct fuzz_region {
		uint64_t addr;
		uint32_t len;
		uint32_t stored;
		const uint8_t *bytes;
	} region[FUZZ_REGIONS];
	unsigned n;
	unsigned reads;
};

void fuzz_image_open(struct fuzz_image *image, struct fuzz_input *in);

/* --- a directory ------------------------------------------------------------------- */

/*
 * The input is a list of files: name up to a NUL, length (4 bytes), bytes. They
 * are written into a directory in memory, whose path this gives; the same one
 * each time. A name that cannot be one ends the list.
 */
const char *fuzz_directory(struct fuzz_input *in);

#endif
