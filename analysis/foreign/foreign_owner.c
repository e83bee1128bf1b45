/* SPDX-License-Identifier: MIT */
/*
 * Who turns a loop. A thread that sleeps on its epoll set, or on its notifier, is in the loop's wait. Of
 * other threads the calls tell: one that is in the function that turns loops, and has a pointer to this one near
 * to that on its stack, is in a turn of it; and what that function called is the handler that it is in.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "array.h"
#include "foreign_parts.h"

enum {
	POLL_MAX = 4096,
	JUMP_MAX = 128,  /* bytes of a function that only jumps on */
	JUMPS_MAX = 256, /* such functions that are looked at for one call */
	NEAR = 128       /* words: the frame of the function, and the registers that what it called has saved */
};

/* --- what threads sleep in ----------------------------------------------------------------- */

static int64_t from_ms(uint64_t ms)
{
	return (int32_t)ms < 0 ? -1 : (int64_t)(int32_t)ms * 1000000;
}

/* Of a struct timespec in the target's memory. */
static int64_t from_timespec(struct bht_foreign *f, uint64_t addr)
{
	struct timespec t;

	if (!addr || bht_read(f->target.mem, addr, &t, sizeof(t)))
		return -1;
	return t.tv_sec > INT32_MAX ? INT64_MAX : t.tv_sec * 1000000000 + t.tv_nsec;
}

static int add_sleep(struct bht_foreign *f, const struct bht_thread *thread, int32_t fd, bool epoll, int64_t timeout)
{
	if (!bht_room_for_one(&f->sleeps, f->n_sleeps, sizeof(*f->sleeps)))
		return -ENOMEM;
	f->sleeps[f->n_sleeps++] = (struct bht_sleep){ thread->tid, fd, epoll, timeout };
	return 0;
}

static int add_array(struct bht_foreign *f, const struct bht_thread *thread, int64_t timeout)
{
	const uint64_t n = thread->args[1];
	struct pollfd *array = n <= POLL_MAX ? calloc(n + 1, sizeof(*array)) : NULL;
	int rc = 0;

	if (!array)
		return n <= POLL_MAX ? -ENOMEM : 0;
	if (!bht_read(f->target.mem, thread->args[0], array, n * sizeof(*array)))
		for (uint64_t i = 0; i < n && !rc; i++)
			if (array[i].fd >= 0)
				rc = add_sleep(f, thread, array[i].fd, false, timeout);
	free(array);
	return rc;
}

static int add_thread(struct bht_foreign *f, const struct bht_thread *thread)
{
	const int32_t set = (int32_t)thread->args[0];

	switch (thread->syscall) {
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
#endif
	case SYS_epoll_pwait:
		return add_sleep(f, thread, set, true, from_ms(thread->args[3]));
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
		return add_sleep(f, thread, set, true, from_timespec(f, thread->args[3]));
#endif
#ifdef SYS_poll
	case SYS_poll:
		return add_array(f, thread, from_ms(thread->args[2]));
#endif
	case SYS_ppoll:
		return add_array(f, thread, from_timespec(f, thread->args[2]));
	default:
		return 0;
	}
}

int bht_foreign_sleeps(struct bht_foreign *f)
{
	int rc = 0;

	for (size_t i = 0; i < f->sample->n_threads && !rc; i++)
		rc = add_thread(f, &f->sample->threads[i]);
	return rc;
}

const struct bht_sleep *bht_foreign_sleeper(const struct bht_foreign *f, const struct bht_loop *loop)
{
	for (size_t i = 0; i < f->n_sleeps; i++) {
		const struct bht_sleep *s = &f->sleeps[i];
		if (s->epoll ? loop->poll_fd >= 0 && s->fd == loop->poll_fd : s->fd == loop->notifier_fd)
			return s;
	}
	return NULL;
}

/* What thread TID sleeps in, if that is one of these calls. */
static const struct bht_sleep *sleep_of(const struct bht_foreign *f, uint32_t tid)
{
	for (size_t i = 0; i < f->n_sleeps; i++)
		if (f->sleeps[i].tid == tid)
			return &f->sleeps[i];
	return NULL;
}

/* Whether the thread is in the wait of one of the loops that are known. */
static bool waits_elsewhere(const struct bht_foreign *f, uint32_t tid)
{
	for (size_t i = 0; i < f->sample->n_loops; i++) {
		const struct bht_sleep *s = bht_foreign_sleeper(f, &f->sample->loops[i]);
		if (s && s->tid == tid)
			return true;
	}
	return false;
}

/* --- calls ------------------------------------------------------------------------------------ */

/* A process may have the same loop twice, in two modules; the code of either may turn it. */
static const struct bht_function *run_at(const struct bht_foreign *f, const struct bht_scheme *s, uint64_t addr)
{
	for (unsigned k = 0; k < f->n_schemes; k++) {
		const struct bht_scheme *t = &f->schemes[k];
		for (unsigned i = 0; t->layout.adapter == s->layout.adapter && i < t->n_run; i++)
			if (addr > t->run[i].addr && addr <= t->run[i].addr + t->run[i].size)
				return &t->run[i];
	}
	return NULL;
}

static bool in_module(const struct bht_foreign *f, const struct bht_scheme *s, uint64_t addr)
{
	const struct bht_image *image = bht_images_at(f->target.images, addr);

	for (unsigned k = 0; k < f->n_schemes; k++)
		if (f->schemes[k].layout.adapter == s->layout.adapter && f->schemes[k].layout.image == image)
			return true;
	return false;
}

/* Whether there is a word that may be a return address into a function that turns loops, with LOOP near to it. */
static bool may_turn(const struct bht_foreign *f, const struct bht_scheme *s, uint64_t loop, const struct bht_words *w)
{
	for (size_t i = 0; i < w->n; i++) {
		if (!run_at(f, s, w->word[i]))
			continue;
		const size_t from = i > NEAR ? i - NEAR : 0, to = w->n - i > NEAR ? i + NEAR : w->n;
		for (size_t k = from; k < to; k++)
			if (w->word[k] == loop)
				return true;
	}
	return false;
}

/* Whether FUNCTION, a short one, ends in a jump to TARGET: such a call leaves no trace on the stack. */
static bool jumps_to(struct bht_foreign *f, uint64_t function, uint64_t target)
{
#if defined(__x86_64__)
	struct bht_image *image = bht_images_at(f->target.images, function);
	unsigned char code[JUMP_MAX + 5];
	int32_t distance;

	if (!image || bht_image_code(image, function, code, sizeof(code)))
		return false;
	for (unsigned i = 0; i < JUMP_MAX; i++) {
		memcpy(&distance, code + i + 1, sizeof(distance));
		if (code[i] == 0xe9 && function + i + 5 + (uint64_t)(int64_t)distance == target)
			return bht_foreign_function(f, function + i) == function;
	}
#else
	(void)f, (void)function, (void)target;
#endif
	return false;
}

/*
 * The bottom half of LOOP that runs FUNCTION, itself or by a jump to it, or NULL. *SAME: others have the same callback, so
 * which one it is cannot be told.
 */
static const struct bht_bh *bh_running(struct bht_foreign *f, const struct bht_loop *loop, uint64_t function, bool jump,
				       bool *same)
{
	const struct bht_bh *found = NULL;
	unsigned tried = 0;

	*same = false;
	for (size_t i = 0; function && i < f->sample->n_bhs; i++) {
		const struct bht_bh *bh = &f->sample->bhs[i];
		if (bh->loop != loop->addr || !bh->callback)
			continue;
		if (found ? bh->callback == found->callback
			  : bh->callback == function ||
				    (jump && tried++ < JUMPS_MAX && jumps_to(f, bh->callback, function))) {
			*same = found != NULL;
			found = bh;
		}
	}
	return found;
}

/* The calls of a thread, and the outermost of them that turns a loop: -1 for none. */
struct calls {
	uint64_t pc[BHT_FRAMES_MAX];
	size_t n;
	bool whole;
	int64_t run;
};

static void follow_calls(struct bht_foreign *f, const struct bht_scheme *s, const struct bht_stack *stack,
			 struct calls *c)
{
	struct bht_registers r = stack->registers;

	*c = (struct calls){ .run = -1 };
	if (stack->known != BHT_STACK_EXACT && !f->target.running(f->target.arg, stack->thread, &r))
		return;
	c->n = bht_foreign_unwind(f, &r, c->pc, &c->whole);
	c->run = (int64_t)c->n - 1;
	while (c->run >= 0 && !run_at(f, s, c->pc[c->run]))
		c->run--;
}

static void in_callback(struct bht_loop *loop, uint64_t bh, uint64_t callback)
{
	loop->where = BHP_IN_BH;
	loop->current = bh;
	loop->current_callback = callback;
}

/*
 * What the turn has called: the callback of a bottom half, of one that is listed or by a function that calls
 * nothing else; or else the first function of another module. A program that has the loop linked
 * into it is one module.
 */
static void find_handler(struct bht_foreign *f, const struct bht_scheme *s, const struct calls *c,
			 struct bht_loop *loop)
{
	bool same;

	for (int64_t i = c->run - 1; i >= 0; i--) {
		const uint64_t function = bht_foreign_function(f, c->pc[i] - 1), start = function ? function : c->pc[i];
		const struct bht_function *caller = run_at(f, s, c->pc[i + 1]);
		const struct bht_bh *bh = bh_running(f, loop, function, in_module(f, s, c->pc[i + 1]), &same);
		if (bh || (caller && caller->executes)) {
			in_callback(loop, bh && !same ? bh->addr : 0, bh ? bh->callback : start);
			return;
		}
		if (loop->current_callback || in_module(f, s, c->pc[i]))
			continue;
		loop->current_callback = start;
		/* Whatever such a loop calls has been in its queues. */
		if (s->layout.adapter->list == BHT_LIST_QUEUES && i)
			loop->where = BHP_IN_BH;
	}
}

/* --- one loop --------------------------------------------------------------------------------- */

/* The wait of a loop whose set is not known: its own code has called what sleeps. */
static void in_own_wait(const struct bht_foreign *f, const struct bht_scheme *s, const struct bht_thread *thread,
			const struct calls *c, struct bht_loop *loop)
{
	const struct bht_sleep *sleep = sleep_of(f, thread->tid);

	if (sleep && c->run > 0 && in_module(f, s, c->pc[1])) {
		loop->where = BHP_WAIT;
		loop->wait_timeout_ns = sleep->timeout_ns;
		if (sleep->epoll && loop->poll_fd < 0)
			loop->poll_fd = sleep->fd;
	}
#ifdef SYS_io_uring_enter
	/* A ring of its own may stand in the place of the set; a library calls it. */
	if (thread->syscall == SYS_io_uring_enter) {
		loop->where = BHP_WAIT;
		loop->wait_timeout_ns = INT64_MAX;
	}
#endif
}

static void in_turn(struct bht_foreign *f, const struct bht_scheme *s, const struct bht_thread *thread,
		    const struct calls *c, struct bht_loop *loop)
{
	loop->owner = thread->tid;
	loop->depth = 1;
	loop->where = BHP_IN_FD;
	find_handler(f, s, c, loop);
	if (loop->where == BHP_IN_FD)
		in_own_wait(f, s, thread, c, loop);
	if (loop->where == BHP_WAIT)
		loop->current_callback = 0;
}

/* What is on its stack suggests that it is in a turn. The calls of one that runs may change while they are followed. */
static void seems_in_turn(struct bht_foreign *f, const struct bht_stack *stack, struct bht_loop *loop)
{
	loop->owner = stack->thread->tid;
	loop->where = BHP_DISPATCH;
	loop->depth = 1;
	if (stack->known == BHT_STACK_EXACT)
		bht_unseen(f->ev, "what thread %u is in: its calls could not be followed", stack->thread->tid);
}

/* The thread that turns LOOP; of several, which a word left behind may suggest, the one that did so before. */
static void find_turner(struct bht_foreign *f, const struct bht_known *known, struct bht_loop *loop)
{
	const struct bht_scheme *s = known->scheme;
	struct calls c, found;
	const struct bht_stack *turner = NULL, *doubtful = NULL;
	unsigned n = 0;

	for (size_t i = 0; i < f->n_stacks; i++) {
		const struct bht_stack *stack = &f->stacks[i];
		const struct bht_thread *thread = stack->thread;
		if (waits_elsewhere(f, thread->tid) ||
		    (!may_turn(f, s, loop->addr, &stack->part[0]) && !may_turn(f, s, loop->addr, &stack->part[1])))
			continue;
		follow_calls(f, s, stack, &c);
		if (c.run >= 0 && (!n++ || thread->tid == known->owner)) {
			turner = stack;
			found = c;
		} else if (c.run < 0 && !c.whole) {
			doubtful = stack;
		}
	}
	if (turner && (n == 1 || turner->thread->tid == known->owner))
		in_turn(f, s, turner->thread, &found, loop);
	else if (turner || doubtful)
		seems_in_turn(f, turner ? turner : doubtful, loop);
}

/* The bottom halves that the turn has taken to its own stack. */
static int take_taken(struct bht_foreign *f, const struct bht_scheme *s, const struct bht_loop *loop)
{
	int rc = 0;

	for (size_t i = 0; i < 2 * f->n_stacks && !rc; i++)
		if (f->stacks[i / 2].thread->tid == loop->owner)
			rc = bht_foreign_walk_stack(f, s, loop, &f->stacks[i / 2].part[i % 2]);
	return rc;
}

int bht_foreign_owner(struct bht_foreign *f, struct bht_known *known, struct bht_loop *loop)
{
	const struct bht_sleep *sleep = bht_foreign_sleeper(f, loop);

	if (sleep) {
		loop->owner = sleep->tid;
		loop->where = BHP_WAIT;
		loop->depth = 1;
		loop->wait_timeout_ns = sleep->timeout_ns;
	} else {
		find_turner(f, known, loop);
	}
	if (loop->owner)
		known->owner = loop->owner;
	else if (known->owner && bht_sample_thread(f->sample, known->owner))
		loop->owner = known->owner;
	if (!bht_has(known->scheme, BHT_LOOP_notify_me))
		loop->notify_me = loop->where == BHP_WAIT ? BHP_LOOP_SLEEPING : BHP_LOOP_AWAKE;
	return loop->where == BHP_OUTSIDE || loop->where == BHP_WAIT ? 0 : take_taken(f, known->scheme, loop);
}
