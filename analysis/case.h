/* SPDX-License-Identifier: MIT */
/* case.h - what the rules share while one process is being diagnosed */
#ifndef BHT_CASE_H
#define BHT_CASE_H

#include "diagnosis.h"
#include "machines.h"
#include "order.h"
#include "status.h"

struct bht_case {
	const struct bht_evidence *ev;
	const struct bht_machines *m;
	bool history; /* there is a recorder */
	struct bht_diagnosis *d;
	int error; /* -ENOMEM */
};

/*
 * A rule looks at one bottom half (or, with BH NULL, at the loop alone) and
 * adds a finding, a reason why it cannot decide, or nothing.
 */
typedef void bht_rule_fn(struct bht_case *c, const struct bht_loop_status *loop, const struct bht_bh *bh);

bht_rule_fn bht_rule_flag_race;
/*
 * Without tickets several bottom halves of a loop may have had a schedule close
 * to their last clear. One loss explains the hang: the closest stays
 * consistent, the others become suspected. Called once, after the rules.
 */
void bht_flag_race_rank(struct bht_case *c);

bht_rule_fn bht_rule_notification;
bht_rule_fn bht_rule_callback;

/* A new finding; NULL when memory ran out (noted in the case). */
struct bht_finding *bht_finding_add(struct bht_case *c, enum bht_rule_id rule, enum bht_confidence confidence,
				    const struct bht_loop *loop, const struct bht_bh *bh);

/* A reason why something cannot be decided. Repeated ones are kept once. */
void bht_reason(struct bht_case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Witnesses: first the key events with their roles, then bht_witness_fill()
 * adds what happened around them and sorts by time.
 */
void bht_witness_key(struct bht_finding *f, const struct bht_event *e, const char *role);
void bht_witness_fill(struct bht_case *c, struct bht_finding *f);

/* "worker (tid 17)", in a buffer of the caller. */
const char *bht_thread_label(const struct bht_case *c, uint32_t tid, char *buf, size_t size);

#endif
