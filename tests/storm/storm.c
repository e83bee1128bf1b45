/* SPDX-License-Identifier: MIT */
/*
 * A healthy storm: everything that libbh can do at once, on the library as it is
 * installed. Nothing here loses a wakeup, and no diagnosis of it may say so.
 *
 *	storm SCHEDULES STATUS-FILE
 *
 * Sites are loops of one generation: a thread makes one, runs it while producers
 * come and go, and frees it. What was posted must have been seen, at the latest
 * when the site closes; otherwise the storm says what was lost and exits with 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bh.h"

enum { PRODUCERS = 4, SITES = 3, BURST = 4000, NESTED_MAX = 3, LOST_SECONDS = 60 };
static const uint64_t MS = 1000000;

/* By what a desk's work is announced. */
enum kind { BY_TICKET, PLAIN, IDLE, DESKS };

/* A bottom half, and the work that each producer posted for it. Relaxed on
 * purpose: the schedule alone must order them. */
struct desk {
	struct site *site;
	struct bh *bh;
	bool tickets;
	_Atomic uint64_t posted[PRODUCERS], seen[PRODUCERS];
};

struct site {
	struct bh_loop *loop;
	struct desk desk[DESKS];
	struct desk fickle[PRODUCERS]; /* each is cancelled by its producer */
	struct bh_timer *end, *tick, *anybody;
	struct bh_timer *bell[NESTED_MAX]; /* ends a nested sleep */
	bool rung[NESTED_MAX];
	unsigned nesting;
	int mail[2];
	uint64_t mail_read, oneshots_run;
	_Atomic uint64_t mail_sent, oneshots;
	_Atomic uint64_t born_ns;
	bool embedded;
	_Atomic bool over; /* for the embedder */
	pthread_mutex_t lock;
	bool open; /* under the lock, as is: */
	unsigned users;
};

static struct site sites[SITES];
static _Atomic uint64_t schedules, generations, awaited;
static _Atomic unsigned active = 1; /* producers */
static _Atomic bool over;
static __thread uint64_t scheduled_here; /* not in schedules yet */

static void need(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		_exit(2);
	}
}

static void lost(const char *what, uint64_t posted, uint64_t seen)
{
	fprintf(stderr, "storm: lost: %s: %llu posted, %llu seen\n", what, (unsigned long long)posted,
		(unsigned long long)seen);
	_exit(1);
}

/* Below N; each thread has a sequence of its own. */
static unsigned chance(unsigned n)
{
	static _Atomic uint64_t seed = 88172645463325252u;
	static __thread uint64_t x;

	if (!x)
		x = atomic_fetch_add(&seed, 0x9e3779b97f4a7c15u);
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (unsigned)(x >> 32) % n;
}

/* --- in the loop's thread --------------------------------------------------------- */

static void set_true(void *opaque)
{
	*(bool *)opaque = true;
}

/* A loop of a callback's own, until what it asked for is done. */
static void visit(void)
{
	struct bh_loop *loop = bh_loop_new("visited");
	bool due = false, done = false;

	need(loop != NULL, "a loop");
	struct bh_timer *timer = bh_timer_new(loop, set_true, &due);
	need(timer && bh_schedule_oneshot(loop, set_true, &done, "asked") == 0, "a visit");
	scheduled_here++;
	bh_timer_set(timer, bh_now_ns() + chance(200) * 1000);
	while (!due || !done)
		need(bh_loop_poll(loop, true) >= 0, "a visited loop");
	need(bh_loop_free(loop) == 0, "freeing a visited loop");
}

static void nested_sleep(struct site *s)
{
	unsigned level = s->nesting - 1;

	s->rung[level] = false;
	bh_timer_set(s->bell[level], bh_now_ns() + chance(200) * 1000);
	while (!s->rung[level])
		need(bh_loop_poll(s->loop, true) >= 0, "a nested poll");
}

static void nest(struct site *s)
{
	if (s->nesting == NESTED_MAX)
		return;
	s->nesting++;
	switch (chance(3)) {
	case 0:
		need(bh_loop_poll(s->loop, false) >= 0, "a nested poll");
		break;
	case 1:
		nested_sleep(s);
		break;
	default:
		visit();
	}
	s->nesting--;
}

static uint64_t ticket(unsigned producer, uint64_t number)
{
	return (uint64_t)producer << 48 | number;
}

static void handle(void *opaque)
{
	struct desk *d = opaque;

	for (unsigned p = 0; p < PRODUCERS; p++) {
		uint64_t posted = atomic_load_explicit(&d->posted[p], memory_order_relaxed);
		uint64_t seen = atomic_load_explicit(&d->seen[p], memory_order_relaxed);
		for (uint64_t n = seen + 1; d->tickets && n <= posted; n++)
			bh_consume(d->bh, ticket(p, n));
		atomic_store_explicit(&d->seen[p], posted, memory_order_relaxed);
	}
	if (chance(1000) == 0)
		nest(d->site);
}

static void count(void *opaque)
{
	++*(uint64_t *)opaque;
}

static void nothing(void *opaque)
{
	(void)opaque;
}

static void receive(int fd, unsigned events, void *opaque)
{
	struct site *s = opaque;
	char bytes[64];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	(void)events;
	need(n > 0, "reading mail");
	s->mail_read += (uint64_t)n;
	bh_schedule(s->desk[PLAIN].bh);
	scheduled_here++;
}

static void on_tick(void *opaque)
{
	struct site *s = opaque;

	bh_timer_set(s->tick, bh_now_ns() + (1 + chance(20)) * MS);
	bh_schedule_idle(s->desk[IDLE].bh);
	scheduled_here++;
	if (chance(4) == 0)
		nest(s);
}

/* --- who may use a site ------------------------------------------------------------- */

static bool enter(struct site *s)
{
	pthread_mutex_lock(&s->lock);
	bool open = s->open;
	s->users += open;
	pthread_mutex_unlock(&s->lock);
	return open;
}

/* The last one lets the loop go; under the lock, so that it is still there. */
static void dismiss(struct site *s)
{
	if (s->open || s->users)
		return;
	if (s->embedded) {
		atomic_store(&s->over, true);
		bh_loop_wake(s->loop);
	} else {
		bh_loop_stop(s->loop);
	}
}

static void leave(struct site *s)
{
	pthread_mutex_lock(&s->lock);
	s->users--;
	dismiss(s);
	pthread_mutex_unlock(&s->lock);
}

static void set_open(struct site *s, bool open)
{
	pthread_mutex_lock(&s->lock);
	s->open = open;
	dismiss(s);
	pthread_mutex_unlock(&s->lock);
}

static void on_end(void *site)
{
	set_open(site, false);
}

/* --- the life of a site --------------------------------------------------------------- */

static void desk_open(struct site *s, struct desk *d, bool tickets, const char *name)
{
	memset(d, 0, sizeof(*d));
	d->site = s;
	d->tickets = tickets;
	d->bh = bh_new(s->loop, handle, d, name);
	need(d->bh != NULL, "a bottom half");
}

static void site_open(struct site *s)
{
	static const char *const name[DESKS] = { "by ticket", "plain", "idle" };

	s->embedded = chance(3) == 0;
	s->loop = bh_loop_new(s->embedded ? "embedded" : "site");
	need(s->loop != NULL, "a loop");
	for (unsigned k = 0; k < DESKS; k++)
		desk_open(s, &s->desk[k], k == BY_TICKET, name[k]);
	for (unsigned p = 0; p < PRODUCERS; p++)
		desk_open(s, &s->fickle[p], true, "fickle");
	s->end = bh_timer_new(s->loop, on_end, s);
	s->tick = bh_timer_new(s->loop, on_tick, s);
	s->anybody = bh_timer_new(s->loop, nothing, NULL);
	for (unsigned i = 0; i < NESTED_MAX; i++)
		s->bell[i] = bh_timer_new(s->loop, set_true, &s->rung[i]);
	need(s->end && s->tick && s->anybody && s->bell[NESTED_MAX - 1], "a timer");
	need(pipe2(s->mail, O_NONBLOCK | O_CLOEXEC) == 0, "a pipe");
	need(bh_fd_new(s->loop, s->mail[0], POLLIN, receive, s) != NULL, "a handler");
	s->mail_read = s->oneshots_run = 0;
	atomic_store(&s->mail_sent, 0);
	atomic_store(&s->oneshots, 0);
	s->over = false;
	if (chance(2))
		bh_timer_set(s->tick, bh_now_ns());
	bh_timer_set(s->end, bh_now_ns() + (10 + chance(1500)) * MS);
	atomic_store(&s->born_ns, bh_now_ns());
	set_open(s, true);
}

static void site_run(struct site *s)
{
	struct pollfd pollable = { .events = POLLIN };

	if (!s->embedded) {
		need(bh_loop_run(s->loop) == 0, "running a loop");
		return;
	}
	pollable.fd = bh_loop_pollable_fd(s->loop);
	need(pollable.fd >= 0, "a pollable descriptor");
	while (!atomic_load(&s->over)) {
		need(poll(&pollable, 1, -1) == 1, "poll");
		need(bh_loop_poll(s->loop, false) >= 0, "an embedded poll");
	}
}

/* Nobody else uses it now: what is left is run, and then nothing may be missing. */
static void site_check(struct site *s)
{
	bh_timer_cancel(s->tick);
	while (bh_loop_poll(s->loop, false) > 0)
		;
	for (unsigned k = 0; k < DESKS; k++)
		for (unsigned p = 0; p < PRODUCERS; p++)
			if (s->desk[k].seen[p] != s->desk[k].posted[p])
				lost("work of a closed site", s->desk[k].posted[p], s->desk[k].seen[p]);
	if (s->oneshots_run != s->oneshots)
		lost("oneshots", s->oneshots, s->oneshots_run);
	if (s->mail_read != s->mail_sent)
		lost("mail", s->mail_sent, s->mail_read);
}

/* In a thread of its own. */
static void *site_live(void *site)
{
	struct site *s = site;

	site_open(s);
	site_run(s);
	set_open(s, false); /* whoever dismissed it has let go of the lock */
	site_check(s);
	for (unsigned k = 0; k < DESKS; k++)
		if (chance(2))
			bh_delete(s->desk[k].bh);
	need(bh_loop_free(s->loop) == 0, "freeing a loop");
	close(s->mail[0]);
	close(s->mail[1]);
	atomic_fetch_add(&schedules, scheduled_here);
	atomic_fetch_add(&generations, 1);
	return NULL;
}

/* --- producers -------------------------------------------------------------------------- */

static void post(struct desk *d, unsigned p)
{
	uint64_t n = atomic_load_explicit(&d->posted[p], memory_order_relaxed) + 1;

	atomic_store_explicit(&d->posted[p], n, memory_order_relaxed);
	if (d->tickets)
		bh_schedule_ticket(d->bh, ticket(p, n));
	else if (d == &d->site->desk[IDLE])
		bh_schedule_idle(d->bh);
	else
		bh_schedule(d->bh);
	scheduled_here++;
}

/* Nobody else may come to the rescue meanwhile. */
static void await(struct desk *d, unsigned p)
{
	uint64_t posted = atomic_load_explicit(&d->posted[p], memory_order_relaxed), seen;
	uint64_t deadline = bh_now_ns() + LOST_SECONDS * 1000 * MS;

	while ((seen = atomic_load_explicit(&d->seen[p], memory_order_relaxed)) < posted) {
		usleep(20);
		if (bh_now_ns() > deadline)
			lost("work that is awaited", posted, seen);
	}
	atomic_fetch_add_explicit(&awaited, 1, memory_order_relaxed);
}

static void live_and_die(struct site *s)
{
	struct bh *bh = bh_new(s->loop, nothing, NULL, "mortal");

	need(bh != NULL, "a bottom half");
	for (unsigned n = chance(3); n > 0; n--, scheduled_here++)
		bh_schedule_ticket(bh, n);
	if (chance(3) == 0)
		bh_cancel(bh);
	bh_delete(bh);
}

static void send_mail(struct site *s)
{
	/* Counted first: it may be read before write() returns. */
	atomic_fetch_add(&s->mail_sent, 1);
	if (write(s->mail[1], "", 1) != 1) {
		need(errno == EAGAIN, "sending mail");
		atomic_fetch_sub(&s->mail_sent, 1);
	}
}

static void fire_and_forget(struct site *s)
{
	atomic_fetch_add(&s->oneshots, 1);
	need(bh_schedule_oneshot(s->loop, count, &s->oneshots_run, "oneshot") == 0, "a oneshot");
	scheduled_here++;
}

static void rarely(struct site *s, unsigned p)
{
	switch (chance(7)) {
	case 0:
		fire_and_forget(s);
		break;
	case 1:
		live_and_die(s);
		break;
	case 2:
		post(&s->fickle[p], p);
		if (chance(4))
			bh_cancel(s->fickle[p].bh);
		break;
	case 3:
		send_mail(s);
		break;
	case 4:
		bh_timer_set(s->anybody, bh_now_ns() + chance(2000) * 1000);
		break;
	case 5:
		/* Beside hogs either takes its time. */
		if (chance(3) == 0)
			await(&s->desk[chance(IDLE)], p);
		break;
	default:
		if (chance(8) == 0)
			usleep(chance(300));
	}
}

/* For a second or two: threads come and go, too. */
static void *produce(void *arg)
{
	unsigned p = (unsigned)(intptr_t)arg;
	uint64_t until = bh_now_ns() + (1 + chance(2000)) * MS;

	while (!over && bh_now_ns() < until) {
		struct site *s = &sites[chance(SITES)];
		if (p >= active || !enter(s)) {
			usleep(1000);
			continue;
		}
		for (unsigned n = chance(BURST); n > 0; n--) {
			if (chance(16) == 0)
				rarely(s, p);
			else
				post(&s->desk[chance(DESKS)], p);
		}
		leave(s);
		atomic_fetch_add(&schedules, scheduled_here);
		scheduled_here = 0;
	}
	return NULL;
}

/* --- the program --------------------------------------------------------------------------- */

/* One life after the other, each in a thread of its own. */
struct lives {
	void *(*live)(void *);
	void *arg;
	pthread_t keeper;
};

static void *keep(void *lives)
{
	struct lives *l = lives;
	pthread_t t;

	while (!over)
		need(pthread_create(&t, NULL, l->live, l->arg) == 0 && pthread_join(t, NULL) == 0, "a thread");
	return NULL;
}

static void tell(int fd, const char *word)
{
	need(lseek(fd, 0, SEEK_SET) == 0 && dprintf(fd, "%sschedules=%-14llu generations=%-8llu awaited=%-12llu\n",
						    word, (unsigned long long)schedules,
						    (unsigned long long)generations, (unsigned long long)awaited) > 0,
	     "writing the status");
}

static void watch(void)
{
	uint64_t now = bh_now_ns();

	/* Now and then nobody, so that loops sleep with all their work done. */
	active = (unsigned)(now / (700 * MS)) % (PRODUCERS + 1);
	for (unsigned i = 0; i < SITES; i++)
		if (now > sites[i].born_ns && now - sites[i].born_ns > LOST_SECONDS * 1000 * MS)
			lost("the end of a site", 1, 0);
}

int main(int argc, char **argv)
{
	uint64_t goal = argc == 3 ? strtoull(argv[1], NULL, 10) : 0;
	int status = argc == 3 ? open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
	struct lives lives[SITES + PRODUCERS];

	if (!goal) {
		fprintf(stderr, "usage: storm SCHEDULES STATUS-FILE\n");
		return 2;
	}
	need(status >= 0, argv[2]);
	for (unsigned i = 0; i < SITES; i++) {
		sites[i].born_ns = bh_now_ns();
		pthread_mutex_init(&sites[i].lock, NULL);
		lives[i] = (struct lives){ site_live, &sites[i], 0 };
	}
	for (intptr_t p = 0; p < PRODUCERS; p++)
		lives[SITES + p] = (struct lives){ produce, (void *)p, 0 };
	for (unsigned i = 0; i < SITES + PRODUCERS; i++)
		need(pthread_create(&lives[i].keeper, NULL, keep, &lives[i]) == 0, "a thread");
	while (schedules < goal) {
		usleep(100000);
		watch();
		tell(status, "");
	}
	over = true;
	alarm(LOST_SECONDS);
	for (unsigned i = 0; i < SITES + PRODUCERS; i++)
		pthread_join(lives[i].keeper, NULL);
	tell(status, "done ");
	return 0;
}
