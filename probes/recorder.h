/* SPDX-License-Identifier: MIT */
/* recorder.h - what the files of probes/ share with one another */
#ifndef BHP_RECORDER_H
#define BHP_RECORDER_H

#include "flight.h"

/* What BH_FLIGHT asks for. */
struct bhp_config {
	enum bhp_flight_mode mode;
	uint64_t size;       /* bytes of records in a ring, a power of two */
	char directory[512]; /* BHP_FLIGHT_FILE */
};

/*
 * Reads a value of BH_FLIGHT: off | SIZE | file:DIR[,SIZE], SIZE in bytes or
 * with K, M or G. NULL or "" is the default. 0, or -EINVAL with *WHY a constant
 * sentence and CONFIG the default.
 */
BHP_HIDDEN int bhp_config_parse(const char *value, struct bhp_config *config, const char **why);

/* The configuration of this process; an invalid BH_FLIGHT is reported once on
 * stderr. */
BHP_HIDDEN const struct bhp_config *bhp_config(void);

/* Says on stderr that VARIABLE has a VALUE nobody understands. */
BHP_HIDDEN void bhp_complain(const char *variable, const char *value, const char *why);

/* A mapping for ring NUMBER, of SIZE bytes of records, zeroed; NULL with errno. */
BHP_HIDDEN struct bhp_ring *bhp_ring_map(const struct bhp_config *config, size_t size, unsigned number);

/* The same for chunk NUMBER, of COUNT slots of POOL; filled in but for its slots. */
BHP_HIDDEN struct bhp_chunk *bhp_chunk_map(const struct bhp_pool *pool, uint32_t count, unsigned number);

static inline size_t bhp_chunk_size(const struct bhp_pool *pool, uint32_t count)
{
	return sizeof(struct bhp_chunk) + (size_t)count * pool->stride;
}

/* Counts in the file of the process, if it has one; with the rings, also the
 * root's clock. The callers hold the lock of the rings resp. of the pools. */
BHP_HIDDEN void bhp_file_rings(uint32_t n);
BHP_HIDDEN void bhp_file_chunks(uint32_t n);

/* An event that found no ring. Async-signal-safe. */
BHP_HIDDEN void bhp_dropped(void);

BHP_HIDDEN struct bhp_clock_pair bhp_clock_pair(void);

/* Called around fork(); the child starts with rings and files of its own. */
BHP_HIDDEN void bhp_files_in_child(void);
BHP_HIDDEN void bhp_pool_before_fork(void);
BHP_HIDDEN void bhp_pool_after_fork(bool child);
BHP_HIDDEN void bhp_rings_before_fork(void);
BHP_HIDDEN void bhp_rings_after_fork(bool child);

#endif
