/* SPDX-License-Identifier: MIT */
/*
 * epoch.h - one clock for what several machines recorded: ns since the Epoch
 *
 * The time stamps of two machines, or of one before and after a restart, have
 * nothing in common; each recording says what one of them was in real time. Within
 * one process nothing becomes less exact; between machines it is as good as their
 * clocks agree.
 */
#ifndef BHT_EPOCH_H
#define BHT_EPOCH_H

#include "event.h"
#include "evidence.h"

/* One instant on both clocks, and the rate. */
struct bht_epoch {
	double ticks_per_ns;
	uint64_t ticks, realtime_ns;
};

/* In which word of the record of event ID there is a second time; 0: in none. */
unsigned bht_time_word(unsigned id);

/* Whether two processes have stamps of one clock: of one machine, since it started. */
bool bht_epoch_same(const struct bht_evidence *a, const struct bht_evidence *b);

/* That of a process, before its evidence is converted. */
struct bht_epoch bht_epoch_of(const struct bht_evidence *ev);

/* Converts all times of an event, or of evidence, whose rate is 1 then. */
void bht_epoch_event(const struct bht_epoch *epoch, struct bht_event *e);
void bht_epoch_evidence(struct bht_evidence *ev);

#endif
