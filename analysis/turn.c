/* SPDX-License-Identifier: MIT */
/* The notify and loop machine: turns, waits, the notifier, what is executing. */
#include "machines.h"

#include <errno.h>
#include <string.h>

static void made_anew(struct bht_loop_machine *loop, const struct bht_event *e)
{
	struct bhp_loop_new f = bhp_decode_loop_new(&e->r);

	*loop = (struct bht_loop_machine){
		.addr = loop->addr, .seen_new = true, .protocol = f.protocol, .notifier_fd = f.notifier_fd
	};
	strncpy(loop->name, e->text ? e->text : "", sizeof(loop->name) - 1);
}

static uint64_t length(const struct bht_stretch *x)
{
	return x->end - x->begin;
}

void bht_longest_add(struct bht_longest *l, const struct bht_stretch *x)
{
	unsigned n = l->n;

	while (n > 0 && length(&l->x[n - 1]) <= length(x))
		n--;
	if (n == BHT_LONG_MAX)
		memmove(l->x, l->x + 1, --n * sizeof(*x));
	l->x[n] = *x;
	l->n = n + 1;
}

/* What the kernel has told of this wait. */
static void woken(const struct bht_machines *m, struct bht_loop_machine *loop, const struct bht_event *e)
{
	const struct bht_kernel *k = bht_machine_kernel(m, e->tid);

	if (!k)
		return;
	loop->waking = loop->running = (struct bht_event){ 0 };
	if (bht_time(&k->woken) <= bht_time(&loop->wait_begin))
		return;
	loop->waking = k->woken;
	if (bht_time(&k->in) >= bht_time(&k->woken))
		loop->running = k->in;
}

int bht_feed_loop(struct bht_machines *m, const struct bht_event *e)
{
	struct bht_loop_machine *loop = bht_the_loop(m, bhp_get_LOOP(&e->r));

	if (!loop)
		return -ENOMEM;
	switch (bht_event_id(e)) {
	case BHP_ID_loop_new:
		made_anew(loop, e);
		break;
	case BHP_ID_loop_free:
		loop->freed = true;
		break;
	case BHP_ID_notify:
		if (bhp_decode_notify(&e->r).written == 1)
			loop->written = *e;
		break;
	case BHP_ID_accept:
		loop->accept = *e;
		if (e->tid != loop->poll.tid)
			loop->stolen = *e;
		break;
	case BHP_ID_poll_begin:
		/* What was executing outside of an outermost turn never ended. */
		if (bhp_decode_poll_begin(&e->r).depth == 1)
			loop->n_open = 0;
		loop->poll = *e;
		break;
	case BHP_ID_poll_end:
		loop->poll = *e;
		break;
	case BHP_ID_wait_begin:
		loop->wait_begin = *e;
		break;
	case BHP_ID_wait_end:
		loop->wait_end = *e;
		woken(m, loop, e);
		break;
	}
	bht_remember(loop, e);
	return 0;
}

void bht_execution_begins(const struct bht_machines *m, struct bht_loop_machine *loop, uint64_t bh, uint64_t time)
{
	if (loop->n_losses != m->n_losses) {
		loop->n_losses = m->n_losses;
		loop->executions_lossy = loop->executions;
	}
	loop->executions++;
	if (loop->n_open < BHT_OPEN_MAX)
		loop->open[loop->n_open] = (struct bht_stretch){ .bh = bh, .begin = time };
	loop->n_open++;
}

/* An end whose begin was lost ends nothing. */
void bht_execution_ends(struct bht_loop_machine *loop, uint64_t bh, uint64_t time)
{
	unsigned n = loop->n_open;

	if (n > BHT_OPEN_MAX) {
		loop->n_open--;
		return;
	}
	while (n > 0 && loop->open[n - 1].bh != bh)
		n--;
	if (n == 0)
		return;
	loop->n_open = n - 1;
	struct bht_stretch x = loop->open[n - 1];
	x.end = time;
	if (x.end <= x.begin)
		return;
	bht_longest_add(&loop->longest, &x);
	if (loop->n_open == 0)
		loop->busy += x.end - x.begin;
}
