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
 * with K or M. NULL or "" is the default. 0, or -EINVAL with *WHY a constant
 * sentence and CONFIG the default.
 */
BHP_HIDDEN int bhp_config_parse(const char *value, struct bhp_config *config, const char **why);

/* The configuration of this process; an invalid BH_FLIGHT is reported once on
 * stderr. */
BHP_HIDDEN const struct bhp_config *bhp_config(void);

/* A mapping for a ring of SIZE bytes of records, zeroed; NULL with errno. */
BHP_HIDDEN void *bhp_ring_map(const struct bhp_config *config, size_t size, unsigned number);

BHP_HIDDEN struct bhp_clock_pair bhp_clock_pair(void);

/* Called around fork(); the child starts with rings of its own. */
BHP_HIDDEN void bhp_pool_before_fork(void);
BHP_HIDDEN void bhp_pool_after_fork(void);
BHP_HIDDEN void bhp_rings_before_fork(void);
BHP_HIDDEN void bhp_rings_after_fork(bool child);

#endif
