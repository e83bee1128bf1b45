/* SPDX-License-Identifier: MIT */
/*
 * The wakeup is in the eventfd and the loop sleeps all the same: nobody watches
 * it (fd-unwatched), or the kernel does not wake who does (kernel-lost-wake).
 * Needs no history.
 */
#include <sys/epoll.h>

#include "case.h"
#include "syscalls.h"

static void witnesses(struct bht_case *c, struct bht_finding *f)
{
	const struct bht_bh_machine *m = bht_machine_bh(c->m, f->bh.addr);

	f->origin = c->ev->last.ticks;
	if (m && m->pending) {
		f->origin = bht_time(&m->effective);
		bht_witness_key(f, &m->effective, "set the flag");
		bht_witness_key(f, &m->notify, "its notification");
	}
	bht_witness_fill(c, f);
}

static void unwatched(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *bh)
{
	const struct bht_loop *loop = s->loop;
	struct bht_finding *f = bht_finding_add(c, BHT_RULE_FD_UNWATCHED, BHT_PROVED, loop, bh);
	char call[160];

	if (!f)
		return;
	snprintf(f->detail, sizeof(f->detail),
		 "The eventfd (file descriptor %d) holds %lld, and %s (tid %u) sleeps in %s, %s.", loop->notifier_fd,
		 (long long)loop->notifier_count, s->thread->name, s->thread->tid,
		 bht_syscall_text(s->thread, call, sizeof(call)),
		 s->activity == BHT_EMBEDDED ? "which does not watch this loop's epoll descriptor"
		 : loop->notifier_mask       ? "which has it without EPOLLIN"
					     : "which does not watch it");
	snprintf(f->refute, sizeof(f->refute), "The descriptor, with EPOLLIN, in the set that the thread sleeps on.");
	witnesses(c, f);
}

static void lost_in_kernel(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *bh)
{
	const struct bht_loop *loop = s->loop;
	bool edge = loop->notifier_mask & EPOLLET;
	struct bht_finding *f =
		bht_finding_add(c, BHT_RULE_KERNEL_LOST_WAKE, edge ? BHT_SUSPECTED : BHT_CONSISTENT, loop, bh);
	char call[160];

	if (!f)
		return;
	snprintf(f->detail, sizeof(f->detail),
		 "The eventfd (file descriptor %d) holds %lld in both samples and is watched; %s (tid %u) sleeps in "
		 "%s, in the kernel in %s, and was not woken in %.0f ms.%s",
		 loop->notifier_fd, (long long)loop->notifier_count, s->thread->name, s->thread->tid,
		 bht_syscall_text(s->thread, call, sizeof(call)),
		 s->thread->wchan[0] ? s->thread->wchan : "a place that could not be read", s->watched_ms,
		 edge ? " It is watched edge-triggered: an edge that was taken and not acted upon looks the same."
		      : "");
	snprintf(f->refute, sizeof(f->refute),
		 "The thread returns from its wait by itself, or something that holds its system calls (a tracer, a "
		 "seccomp supervisor) has it.");
	witnesses(c, f);
}

void bht_rule_unheard(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *bh)
{
	const struct bht_loop *loop = s->loop;
	int watched = s->activity == BHT_EMBEDDED ? loop->embedder_watches : loop->notifier_watched;

	if (!bht_is_due(loop, bh) || !bht_waits(s) || loop->notifier_count <= 0)
		return;
	/* A thread that was woken a moment ago looks the same once. */
	if (!c->ev->live || !s->first || s->first->notifier_count <= 0)
		bht_reason(c, "loop \"%s\" sleeps and its eventfd is readable: it may be about to wake", loop->name);
	else if (watched == 0)
		unwatched(c, s, bh);
	else if (watched == 1)
		lost_in_kernel(c, s, bh);
	else
		bht_reason(c,
			   "loop \"%s\" sleeps, its eventfd holds %lld, and what its thread watches could not be read: "
			   "fd-unwatched or kernel-lost-wake",
			   loop->name, (long long)loop->notifier_count);
}
