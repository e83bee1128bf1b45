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
	bool history;     /* there is a recorder */
	uint64_t late_ns; /* shorter gaps are not called late */
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

bht_rule_fn bht_rule_notification; /* notify-skipped, -stolen, -missing, producer-stopped */
bht_rule_fn bht_rule_unheard;      /* fd-unwatched, kernel-lost-wake */
bht_rule_fn bht_rule_stranded;
bht_rule_fn bht_rule_blocked; /* callback-blocked, loop-blocked */
bht_rule_fn bht_rule_spinning;
bht_rule_fn bht_rule_nested;
bht_rule_fn bht_rule_starved;

/* What memory cannot show, and --witness can: an idle loop may have lost a wakeup. Called
 * once, after the rules and bht_flag_race_rank(). */
void bht_rule_undone(struct bht_case *c);

/* rescued, slow-callback, slow-wake: of all bottom halves that the history
 * mentions, also those that are gone. */
void bht_rule_late(struct bht_case *c);

/* --- what several rules ask --------------------------------------------------- */

/* Whether there is a finding about the loop, or one of its bottom halves. */
bool bht_found_on(const struct bht_case *c, const struct bht_loop *loop);

/* Whether BH is alive and scheduled, and not by an idle schedule that waits for
 * its time-out on purpose. */
bool bht_is_due(const struct bht_loop *loop, const struct bht_bh *bh);

/* Whether the loop sleeps in a nested poll while an outer execution that began
 * after this schedule goes on. */
bool bht_held_outside(const struct bht_case *c, const struct bht_loop *loop, uint64_t schedule);

/* Whether the loop is in a nested poll, and the recorder leaves out what the outer
 * execution is: what that one holds, and may still look at, cannot be told then. */
bool bht_outside_unknown(const struct bht_case *c, const struct bht_loop *loop);

/* Of a loop whose protocol may lose a wakeup to a race: whether what was seen leaves room for one
 * of BH, which looks idle. */
bool bht_flag_race_open(const struct bht_case *c, const struct bht_loop *loop, const struct bht_bh *bh);

/* A schedule that sees the flag set does nothing, and has no full barrier. */
static inline bool bht_may_race(const struct bht_loop *loop)
{
	return !(loop->protocol & BHP_PROTOCOL_FULL_BARRIER) &&
	       (!(loop->traits & BHT_TRAIT_FOREIGN) || loop->traits & BHT_TRAIT_COALESCES);
}

/*
 * A thread, but the owner's, that did not get on between the looks and does not sleep either: it lost the CPU,
 * waits for a page, or is in the very write of the notifier. It may be between publishing and
 * notifying. NULL: there is none, so what was not notified by now was not on its way.
 */
const struct bht_thread *bht_on_its_way(const struct bht_case *c, const struct bht_loop *loop);

/* Stopped, or preempted, in the very write: a debugger's step, a slow tracer. */
bool bht_is_writing(const struct bht_thread *thread, const struct bht_loop *loop);

/* A thread that a signal or a debugger holds, or NULL. */
const struct bht_thread *bht_held_thread(const struct bht_case *c);

/* Whether an execution of BH has begun and not ended. */
bool bht_execution_open(const struct bht_case *c, const struct bht_bh *bh);

/* Whether the thread has exited, as far as the evidence shows threads. */
bool bht_thread_gone(const struct bht_case *c, uint32_t tid);

static inline bool bht_thread_stopped(const struct bht_thread *thread)
{
	return thread && (thread->state == 'T' || thread->state == 't');
}

/* What the thread sleeps in, who holds that, what the holder sleeps in, and so
 * on, as a sentence. */
enum bht_wait { BHT_WAIT_OPEN, BHT_WAIT_ASLEEP, BHT_WAIT_DEADLOCK };
enum bht_wait bht_describe_wait(const struct bht_case *c, const struct bht_loop *loop, const struct bht_thread *thread,
				char *buf, size_t size);

/* --- findings ------------------------------------------------------------------- */

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
