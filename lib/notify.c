/* SPDX-License-Identifier: MIT */
/*
 * Waking a loop. The eventfd is written only when the loop is asleep or about
 * to be, and once a sleep: whoever moves notify_me from SLEEPING to NOTIFIED
 * writes.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol.h"

/* Not write(3), which is a cancellation point: a thread that ended in it would
 * leave the loop NOTIFIED and asleep. */
static int write_notifier(int fd)
{
	const uint64_t one = 1;
	int saved = errno;
	/* EAGAIN: the counter is full, so the loop is woken anyway. */
	int r = syscall(SYS_write, fd, &one, sizeof(one)) == sizeof(one) || errno == EAGAIN ? 0 : -1;

	errno = saved;
	return r;
}

/* The second half of a notification: bh_notify_me() was the first, and nothing
 * is recorded before that, because it ends pair (2) of protocol.h. */
void bh_notify_write(struct bh_loop *loop, const struct bh *bh, uint32_t seen)
{
	uint8_t written = 0;

	if (seen == BHP_LOOP_SLEEPING &&
	    atomic_compare_exchange_strong_explicit(&loop->o.notify_me, &seen, BHP_LOOP_NOTIFIED, memory_order_seq_cst,
						    memory_order_seq_cst))
		written = write_notifier(loop->o.notifier_fd) == 0 ? 1 : 2;
	bhp_emit(notify, .loop = loop, .bh = bh, .notify_me = (uint8_t)seen, .written = written);
}

void bh_notify(struct bh_loop *loop)
{
	bh_notify_write(loop, NULL, bh_notify_me(loop));
}

/*
 * Clears the eventfd. Call it between set_awake() and the next bh_sleep_begin():
 * what a write announced was pushed before it and is found there, at the latest.
 * A write that comes after costs one empty turn.
 */
void bh_notify_accept(struct bh_loop *loop)
{
	uint64_t value = 0;

	if (read(loop->o.notifier_fd, &value, sizeof(value)) != sizeof(value))
		value = 0;
	bhp_emit(accept, .loop = loop, .by = loop->embedded ? BHP_BY_EMBEDDER : BHP_BY_POLL, .value = value);
}
