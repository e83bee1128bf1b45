/* SPDX-License-Identifier: MIT */
/* checks.h - what this kernel and these privileges allow, tried rather than guessed */
#ifndef BHTRACE_CHECKS_H
#define BHTRACE_CHECKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "feature.h"

enum { CHECK_DETAIL = 160 };

struct check {
	const char *id;
	const char *needed_by;
	const char *help; /* what would make it available; NULL for a feature, which says it itself */
	bool required;    /* without it no live diagnosis */
	/* Whether it is there; DETAIL says what was tried and seen. NULL: it is FEATURE of eBPF. */
	bool (*available)(uint32_t pid, char detail[CHECK_DETAIL]);
	enum bhb_feature feature;
};

/* What does not depend on a target (PID is ignored), and what does. */
extern const struct check checks_system[], checks_target[];
extern const size_t n_checks_system, n_checks_target;

#endif
