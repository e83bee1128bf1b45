/* SPDX-License-Identifier: MIT */
/*
 * live.h - a running process, read without stopping it
 *
 * pidfd first, then /proc and process_vm_readv: no ptrace, no signal, no write.
 * A stuck epoll_wait() returns EINTR after a ptrace stop, which heals the
 * patient before it is examined.
 */
#ifndef BHT_LIVE_H
#define BHT_LIVE_H

#include "evidence.h"
#include "event.h"
#include "registry.h"
#include "witness.h"

struct bht_live;

/*
 * Opens process PID and finds its roots; without one, the loops that an adapter knows (foreign.h).
 * NULL with errno:
 *   ESRCH   no such process, or it exited meanwhile
 *   EPERM   not permitted; refusal says which capability or sysctl would do
 *   ENOENT  it has no bhtrace note: not linked with libbh; and no adapter recognises anything in it
 *   ENOTSUP an adapter does, but its structures could not be placed
 *   EPROTO, EBADMSG  it has one that this reader does not understand
 */
struct bht_live *bht_live_open(uint32_t pid, struct bht_refusal *refusal);
void bht_live_close(struct bht_live *live);

/* Whether the process has not exited (the pidfd, so PID reuse is no risk). */
bool bht_live_alive(const struct bht_live *live);

/*
 * From now on each sample says in ev->payload whether W, which is copied, holds: one into ev->first there in
 * first, any other in last. 0 or -ENOENT, when its operands are not to be found.
 */
int bht_live_witness(struct bht_live *live, const struct bht_claim *w, struct bht_refusal *refusal);

/*
 * One sample: registry, threads, notifier counts and epoll sets. What could
 * not be read goes to ev->unseen; time and command to EV. 0 or -errno, with
 * -ESRCH when the process is gone, -ENOMSG when an adapter recognises it and no loop is found.
 */
int bht_live_sample(struct bht_live *live, struct bht_evidence *ev, struct bht_sample *sample,
		    struct bht_refusal *refusal);

/*
 * The history in all flight rings, none without libbh, as one merged source, which owns its copy.
 * Sets ev->ticks_per_ns from the target's clock pairs and the clock now.
 * NULL with errno.
 */
struct bht_source *bht_live_history(struct bht_live *live, struct bht_evidence *ev, struct bht_refusal *refusal);

/* Microseconds spent reading the target so far. */
uint64_t bht_live_read_us(const struct bht_live *live);

#endif
