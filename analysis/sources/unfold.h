/* SPDX-License-Identifier: MIT */
/*
 * unfold.h - the beginnings that a heavy tracer leaves out
 *
 * LTTng and USDT record no execute_begin: it would stand inside the race
 * (docs/placement.md). execute_end has its time, and so the history can be made
 * whole: each end whose beginning is missing gets one, right after the event of
 * its thread that was the last before it; what the kernel says of a thread does not count.
 * A beginning that is there twice is there once.
 *
 * For that, events are held back while a callback may be running: up to
 * BHT_UNFOLD_MAX of them. When one callback lasts longer than those, its
 * beginning is not known in time, and its thread has a loss there.
 */
#ifndef BHT_UNFOLD_H
#define BHT_UNFOLD_H

#include "event.h"

enum { BHT_UNFOLD_MAX = 1 << 18 };

/* Takes ownership of SOURCE, which is merged, also when it fails: NULL with errno
 * ENOMEM. A history that has all its beginnings passes through unchanged. */
struct bht_source *bht_unfold(struct bht_source *source);

#endif
