/* SPDX-License-Identifier: MIT */
/*
 * Stuck inside a callback: asleep in a system call (callback-blocked) or using
 * the CPU while the loop does not turn (callback-spinning).
 */
#include "case.h"
#include "syscalls.h"

static const struct bht_bh *current_bh(const struct bht_case *c, const struct bht_loop *loop)
{
	const struct bht_sample *s = &c->ev->last;

	for (size_t i = 0; i < s->n_bhs; i++)
		if (s->bhs[i].addr == loop->current)
			return &s->bhs[i];
	return NULL;
}

static void blocked(const struct bht_loop_status *s, struct bht_finding *f, double since_ms)
{
	char call[160];

	snprintf(f->detail, sizeof(f->detail),
		 "The callback at 0x%llx has run for %.1f ms and its thread, %s (tid %u), sleeps in %s; it did not run "
		 "between the two samples.",
		 (unsigned long long)s->loop->current_callback, since_ms, s->thread->name, s->thread->tid,
		 bht_syscall_text(s->thread, call, sizeof(call)));
	snprintf(f->refute, sizeof(f->refute),
		 "The callback returns: then it was slow, not blocked (a later sample shows another iteration).");
}

static void spinning(const struct bht_loop_status *s, struct bht_finding *f, double since_ms)
{
	snprintf(
		f->detail, sizeof(f->detail),
		"The callback at 0x%llx has run for %.1f ms, its thread, %s (tid %u), used %.0f ms of CPU time between "
		"the two samples, and iteration %llu of the loop has not ended.",
		(unsigned long long)s->loop->current_callback, since_ms, s->thread->name, s->thread->tid,
		(double)s->cpu_ns / 1e6, (unsigned long long)s->loop->iteration);
	snprintf(f->refute, sizeof(f->refute),
		 "The callback returns: then it was slow, not spinning (a later sample shows another iteration).");
}

void bht_rule_callback(struct bht_case *c, const struct bht_loop_status *s, const struct bht_bh *bh)
{
	bool is_blocked = s->activity == BHT_BLOCKED;
	bool is_spinning = s->activity == BHT_ON_CPU;

	if (bh || s->loop->where != BHP_IN_BH || (!is_blocked && !is_spinning))
		return;
	/* One sample, as in a core, cannot tell a callback from a stuck one. */
	if (!c->ev->live || (is_spinning && s->cpu_ns < BHT_SPINNING_MS * UINT64_C(1000000))) {
		bht_reason(c, "loop \"%s\" is inside a callback, and was not watched long enough to call it stuck",
			   s->loop->name);
		return;
	}
	struct bht_finding *f = bht_finding_add(c, is_blocked ? BHT_RULE_CALLBACK_BLOCKED : BHT_RULE_CALLBACK_SPINNING,
						BHT_CONSISTENT, s->loop, current_bh(c, s->loop));
	if (!f)
		return;
	double since_ms = bht_ns(c->ev, s->loop->current_since, c->ev->last.ticks) / 1e6;
	if (is_blocked)
		blocked(s, f, since_ms);
	else
		spinning(s, f, since_ms);
	f->origin = s->loop->current_since;
	const struct bht_bh_machine *m = bht_machine_bh(c->m, f->bh.addr);
	if (m && bhp_record_time(&m->begin.r) == s->loop->current_since)
		bht_witness_key(f, &m->begin, "the callback began, and did not end");
	bht_witness_fill(c, f);
}
