/* SPDX-License-Identifier: MIT */
/*
 * Who waits for whom: from a thread that sleeps to the holder of what it waits
 * for, and on. Only what the lock itself says counts as an edge; a holder that
 * sleeps after having given this loop work to do most likely waits for that.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "case.h"
#include "syscalls.h"

enum { CHAIN_MAX = 8 };

struct chain {
	const struct bht_case *c;
	char *buf;
	size_t size, used;
};

__attribute__((format(printf, 2, 3))) static void say(struct chain *s, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	int n = vsnprintf(s->buf + s->used, s->size - s->used, format, ap);
	va_end(ap);
	if (n > 0)
		s->used += (size_t)n < s->size - s->used ? (size_t)n : s->size - s->used - 1;
}

static bool waits_for_ever(const struct bht_thread *thread)
{
	return thread->syscall == SYS_futex && thread->args[3] == 0;
}

/* The loop whose callback this thread is in. */
static const struct bht_loop *inside_of(const struct bht_case *c, uint32_t tid)
{
	const struct bht_sample *s = &c->ev->last;

	for (size_t i = 0; i < s->n_loops; i++)
		if (s->loops[i].owner == tid && s->loops[i].where >= BHP_IN_BH)
			return &s->loops[i];
	return NULL;
}

static void say_holder(struct chain *s, const struct bht_thread *holder)
{
	const struct bht_loop *in = inside_of(s->c, holder->tid);
	const struct bht_bh *bh = in ? bht_sample_bh(&s->c->ev->last, in->current, 0) : NULL;
	const bool foreign = in && in->traits & BHT_TRAIT_FOREIGN;
	char who[80], call[160];

	say(s, "; it is held by %s", bht_thread_label(s->c, holder->tid, who, sizeof(who)));
	if (in)
		say(s, ", in a callback%s%s%s of loop \"%s\"", bh || !foreign ? " (" : "",
		    bh        ? bh->name
		    : foreign ? ""
			      : "not of a bottom half",
		    bh || !foreign ? ")" : "", in->name);
	if (bht_thread_still(s->c->ev, holder))
		say(s, ", which itself sleeps in %s", bht_syscall_text(holder, call, sizeof(call)));
}

/* Whether the thread's last act was to give this loop something to do. */
static const struct bht_bh *asked_for(const struct bht_case *c, const struct bht_loop *loop, uint32_t tid)
{
	const struct bht_thread_machine *t = bht_machine_thread(c->m, tid);
	const struct bht_sample *s = &c->ev->last;

	for (size_t i = 0; t && i < s->n_bhs; i++) {
		const struct bht_bh_machine *m = bht_machine_bh(c->m, s->bhs[i].addr);
		if (s->bhs[i].loop != loop->addr || !m)
			continue;
		const struct bht_event *last =
			bht_time(&m->effective) > bht_time(&m->coalesced) ? &m->effective : &m->coalesced;
		bool ended = bht_time(&m->end) > bht_time(last) && !bht_execution_open(c, &s->bhs[i]);
		if (last->tid == tid && !ended)
			return &s->bhs[i];
	}
	return NULL;
}

static enum bht_wait end_of_chain(struct chain *s, const struct bht_loop *loop, const struct bht_thread *last)
{
	const struct bht_bh *bh;

	if (!bht_thread_still(s->c->ev, last) || !waits_for_ever(last))
		return BHT_WAIT_OPEN;
	bh = asked_for(s->c, loop, last->tid);
	if (!bh)
		return BHT_WAIT_OPEN;
	say(s,
	    ", and the last that it did here was to schedule bottom half \"%s\" of this loop: each waits for the "
	    "other, a "
	    "deadlock",
	    bh->name);
	return BHT_WAIT_ASLEEP;
}

enum bht_wait bht_describe_wait(const struct bht_case *c, const struct bht_loop *loop, const struct bht_thread *thread,
				char *buf, size_t size)
{
	struct chain s = { .c = c, .buf = buf, .size = size };
	const struct bht_thread *seen[CHAIN_MAX] = { thread }, *last = thread;
	char call[160];

	buf[0] = '\0';
	say(&s, "%s", bht_syscall_text(thread, call, sizeof(call)));
	for (unsigned n = 1; n < CHAIN_MAX && last->lock_owner; n++) {
		const struct bht_thread *holder = bht_sample_thread(&c->ev->last, last->lock_owner);
		if (!holder) {
			say(&s, "; it is held by thread %u, which has exited", last->lock_owner);
			return BHT_WAIT_DEADLOCK;
		}
		say_holder(&s, holder);
		for (unsigned i = 0; i < n; i++) {
			if (seen[i] != holder)
				continue;
			say(&s, ": a circle, so a deadlock");
			return BHT_WAIT_DEADLOCK;
		}
		seen[n] = last = holder;
	}
	return last == thread ? BHT_WAIT_OPEN : end_of_chain(&s, loop, last);
}
