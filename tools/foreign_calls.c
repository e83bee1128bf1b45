/* SPDX-License-Identifier: MIT */
#include "foreign_calls.h"

static void put(const struct foreign_calls *c, uint32_t tid, bool kernel, const struct bhp_record *r, const char *text)
{
	c->sink.event(c->sink.arg, c->pid, tid, kernel, r, text);
}

static void let_go(const struct foreign_calls *c, struct foreign_thread *t)
{
	if (t->held)
		put(c, t->tid, false, &t->schedule, NULL);
	t->held = false;
}

uint64_t foreign_calls_flush(struct foreign_calls *c, uint64_t before)
{
	uint64_t earliest = UINT64_MAX;

	for (unsigned i = 0; i < FOREIGN_THREADS; i++) {
		struct foreign_thread *t = &c->thread[i];
		const uint64_t time = bhp_record_time(&t->schedule);
		if (t->held && time < before)
			let_go(c, t);
		else if (t->held && time < earliest)
			earliest = time;
	}
	return earliest;
}

/* The place of a thread; another one that had it gives it up. */
static struct foreign_thread *thread_of(struct foreign_calls *c, uint32_t tid)
{
	struct foreign_thread *t = &c->thread[tid % FOREIGN_THREADS];

	if (t->tid == tid)
		return t;
	let_go(c, t);
	*t = (struct foreign_thread){ .tid = tid };
	return t;
}

void foreign_calls_loop(struct foreign_calls *c, const struct foreign_loop *loop)
{
	unsigned at = 0;

	for (unsigned i = 0; i < c->n_loops; i++) { /* a descriptor is another loop's when that one is gone */
		struct foreign_loop *l = &c->loop[i];
		if (l->poll_fd == loop->poll_fd)
			l->poll_fd = -1;
		if (l->notifier_fd == loop->notifier_fd)
			l->notifier_fd = -1;
	}
	while (at < c->n_loops && c->loop[at].addr != loop->addr)
		at++;
	if (at == FOREIGN_LOOPS_MAX)
		return;
	c->n_loops += at == c->n_loops;
	c->loop[at] = *loop;
}

static const struct foreign_loop *find_loop(const struct foreign_calls *c, uint64_t addr)
{
	for (unsigned i = 0; i < c->n_loops; i++)
		if (c->loop[i].addr == addr)
			return &c->loop[i];
	return NULL;
}

static const struct foreign_loop *find_notifier(const struct foreign_calls *c, int32_t fd)
{
	for (unsigned i = 0; i < c->n_loops && fd >= 0; i++)
		if (c->loop[i].notifier_fd == fd)
			return &c->loop[i];
	return NULL;
}

static const struct foreign_loop *find_poll(const struct foreign_calls *c, int32_t fd)
{
	for (unsigned i = 0; i < c->n_loops && fd >= 0; i++)
		if (c->loop[i].poll_fd == fd)
			return &c->loop[i];
	return NULL;
}

/* --- what calls say ------------------------------------------------------------------- */

/* The schedule that the thread is in, if it is in one, found the flag clear, not long ago: the way back from
 * the probe takes longer than from the exchange to the call. */
static void writes(const struct foreign_calls *c, struct foreign_thread *t, const struct foreign_loop *loop,
		   uint64_t time)
{
	struct bhp_schedule s = bhp_decode_schedule(&t->schedule);
	const bool its = bhp_get_LOOP(&t->schedule) == loop->addr;

	if (t->held && its && loop->exact) {
		const uint64_t took = time - bhp_record_time(&t->schedule);
		s.seen = 0;
		s.took = (uint16_t)(took < UINT16_MAX ? took : UINT16_MAX);
		t->schedule = bhp_encode_schedule(time, &s);
	}
	let_go(c, t);
	const struct bhp_record r = bhp_encode_notify(time, &(struct bhp_notify){ .loop = BHP_FROM_ptr(loop->addr),
										  .bh = its ? s.bh : NULL,
										  .notify_me = BHP_LOOP_SLEEPING,
										  .written = 1 });
	put(c, t->tid, false, &r, NULL);
}

static void begins_to_wait(const struct foreign_calls *c, struct foreign_thread *t, const struct foreign_loop *loop,
			   uint64_t time, int64_t timeout_ns)
{
	const struct bhp_record r = bhp_encode_wait_begin(
		time, &(struct bhp_wait_begin){ .loop = BHP_FROM_ptr(loop->addr), .timeout_ns = timeout_ns });

	if (timeout_ns == 0) /* it only looks */
		return;
	t->waits = loop;
	put(c, t->tid, false, &r, NULL);
}

/* Which descriptors were ready is not told: it may have been the notifier. */
static void wakes(const struct foreign_calls *c, struct foreign_thread *t, uint64_t time, int64_t result)
{
	const uint8_t woke = result > 0   ? BHP_WOKE_NOTIFIER | BHP_WOKE_FD
			     : result < 0 ? BHP_WOKE_SIGNAL
					  : BHP_WOKE_TIMEOUT;
	const struct bhp_record r =
		bhp_encode_wait_end(time, &(struct bhp_wait_end){ .loop = BHP_FROM_ptr(t->waits->addr),
								  .woke = woke,
								  .fd = -1,
								  .ready = result > 0 ? (uint32_t)result : 0 });

	t->waits = NULL;
	put(c, t->tid, false, &r, NULL);
}

static void calls(const struct foreign_calls *c, struct foreign_thread *t, const struct bhp_record *r)
{
	const struct bhp_call_begin e = bhp_decode_call_begin(r);
	const struct foreign_loop *written = e.call == BHP_CALL_WRITE ? find_notifier(c, e.fd) : NULL;
	const struct foreign_loop *polled = e.call == BHP_CALL_POLL ? find_poll(c, e.fd) : NULL;

	if (written)
		writes(c, t, written, bhp_record_time(r));
	else
		let_go(c, t);
	if (polled)
		begins_to_wait(c, t, polled, bhp_record_time(r), e.arg);
}

/* The notifier was read by this thread; there was something in it, how much is not told. */
static void accepts(const struct foreign_calls *c, const struct foreign_thread *t, const struct bhp_record *r)
{
	const struct bhp_call_end e = bhp_decode_call_end(r);
	const struct foreign_loop *loop = e.call == BHP_CALL_READ && e.result == 8 ? find_notifier(c, e.fd) : NULL;
	struct bhp_record accept;

	if (!loop)
		return;
	accept = bhp_encode_accept(
		bhp_record_time(r),
		&(struct bhp_accept){ .loop = BHP_FROM_ptr(loop->addr), .by = BHP_BY_POLL, .value = 1 });
	put(c, t->tid, false, &accept, NULL);
}

/* --- executions ------------------------------------------------------------------------- */

static void executes(const struct foreign_calls *c, struct foreign_thread *t, const struct bhp_record *r)
{
	const struct bhp_execute_begin e = bhp_decode_execute_begin(r);
	const uint64_t entered = bhp_record_time(r), begin = t->last && t->last < entered ? t->last : entered;
	const struct bhp_record moved = bhp_encode_execute_begin(begin, &e);

	if (t->n_executions == FOREIGN_NESTED)
		t->n_executions = 0; /* some never returned */
	t->execution[t->n_executions].entered = entered;
	t->execution[t->n_executions++].begin = begin;
	put(c, t->tid, false, &moved, NULL);
}

static void executed(const struct foreign_calls *c, struct foreign_thread *t, const struct bhp_record *r)
{
	struct bhp_execute_end e = bhp_decode_execute_end(r);
	struct bhp_record moved;

	for (unsigned i = t->n_executions; i-- > 0;) {
		if (t->execution[i].entered != e.begin)
			continue;
		e.begin = t->execution[i].begin;
		t->n_executions = i;
		break;
	}
	moved = bhp_encode_execute_end(bhp_record_time(r), &e);
	put(c, t->tid, false, &moved, NULL);
}

void foreign_calls_event(struct foreign_calls *c, uint32_t tid, bool kernel, const struct bhp_record *r,
			 const char *text)
{
	struct foreign_thread *t = thread_of(c, tid);
	const struct foreign_loop *loop;

	switch (bhp_record_id(r)) {
	case BHP_ID_schedule:
		let_go(c, t);
		loop = find_loop(c, bhp_get_LOOP(r));
		t->schedule = *r;
		t->held = loop && loop->exact;
		t->last = bhp_record_time(r);
		if (t->held)
			return;
		break;
	case BHP_ID_waking: /* also told by others */
	case BHP_ID_switch_in:
	case BHP_ID_switch_out:
		put(c, tid, kernel, r, text);
		return;
	case BHP_ID_execute_begin:
		let_go(c, t);
		executes(c, t, r);
		t->last = bhp_record_time(r);
		return;
	case BHP_ID_execute_end:
		let_go(c, t);
		executed(c, t, r);
		t->last = bhp_record_time(r);
		return;
	case BHP_ID_call_begin:
		calls(c, t, r);
		break;
	case BHP_ID_call_end:
		if (t->waits && bhp_decode_call_end(r).call == BHP_CALL_POLL)
			wakes(c, t, bhp_record_time(r), bhp_decode_call_end(r).result);
		accepts(c, t, r);
		break;
	default:
		let_go(c, t);
		break;
	}
	t->last = bhp_record_time(r);
	put(c, tid, kernel, r, text);
}
