/* SPDX-License-Identifier: MIT */
/*
 * A round takes what was in the ring when it began. The life of processes comes through a
 * ring of its own and is told in its place between the events, by time.
 *
 * A process is in the kernel's table before its probes are attached, so that none of its
 * children is missed; what it does until they are is thrown away.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "capture_kernel.h"
#include "capture_times.h"
#include "maps.h"

enum { PASSES = 4, PAUSE_MS = 50 };

struct process {
	uint32_t pid;
	int pidfd;
	uint64_t begun; /* ticks: from then on it is told */
	bool whole;
	bool told; /* sink.begins() knows */
};

struct life {
	struct bhb_wire w;
	uint64_t time; /* ticks */
};

struct bhb_capture {
	struct bhb_options o;
	struct bhb_sink sink;
	struct bhb_kernel *kernel;
	struct bhb_attached *attached;
	struct process *processes;
	size_t n_processes, recent;
	struct life *lives;
	size_t n_lives;
	bool looked_around; /* EVERYBODY: all that were there */
	struct bhb_times times;
	uint64_t limit;         /* of this pass, a position in the ring */
	uint64_t dropped;       /* told so far */
	uint64_t lost, lost_at; /* to be told: number, ticks */
	uint64_t events, until, round_ns;
	unsigned pause_ms;
	char *why; /* of this round */
	int error;
};

/* --- processes --- */

static struct process *find(struct bhb_capture *c, uint32_t pid)
{
	if (c->recent < c->n_processes && c->processes[c->recent].pid == pid)
		return &c->processes[c->recent];
	for (c->recent = 0; c->recent < c->n_processes; c->recent++)
		if (c->processes[c->recent].pid == pid)
			return &c->processes[c->recent];
	return NULL;
}

static void leave(struct bhb_capture *c, struct process *p)
{
	bhb_kernel_drop(c->kernel, p->pid);
	bhb_forget(c->attached, p->pid);
	bhb_recipes_forget(bhb_kernel_recipes(c->kernel), p->pid);
	if (p->pidfd >= 0)
		close(p->pidfd);
	*p = c->processes[--c->n_processes];
}

/* A process that is not told of yet. */
static struct process *enter(struct bhb_capture *c, uint32_t pid)
{
	struct process *more = realloc(c->processes, (c->n_processes + 1) * sizeof(*more));

	if (!more)
		return NULL;
	c->processes = more;
	if (bhb_kernel_add(c->kernel, pid))
		return NULL;
	more += c->n_processes++;
	*more = (struct process){ .pid = pid, .pidfd = pidfd_open((pid_t)pid, 0) };
	return more;
}

/* TIME 0: from now on. */
static void begin(struct bhb_capture *c, struct process *p, uint64_t time, bool whole)
{
	if (!c->o.gated)
		bhb_kernel_ready(c->kernel, p->pid);
	p->begun = time ? time : bhp_clock();
	p->whole = whole;
	p->told = true;
	c->sink.begins(c->sink.arg, p->pid, p->begun, whole);
}

static bool attached_any(const struct bhb_capture *c, uint32_t pid)
{
	return bhb_attached_any(c->attached, pid) || bhb_recipes_any(bhb_kernel_recipes(c->kernel), pid);
}

/* USDT probes, and what the sink has to add, which is an error when there is nothing else. As bhb_attach(). */
static int attach_both(struct bhb_capture *c, uint32_t pid, char why[BHB_WHY])
{
	char said[BHB_WHY];
	const int rc = bhb_attach(c->attached, pid, why);
	const int more = c->sink.look && !c->o.everybody && rc != -ESRCH ? c->sink.look(c->sink.arg, pid, said) : 0;

	if (more > 0)
		return rc > 0 ? rc + more : more;
	if (rc || !more || attached_any(c, pid))
		return rc;
	memcpy(why, said, BHB_WHY);
	return more;
}

int bhb_capture_probe(struct bhb_capture *c, uint32_t pid, const struct bhb_probe *probes, size_t n, char why[BHB_WHY])
{
	return bhb_recipes_attach(bhb_kernel_recipes(c->kernel), pid, probes, n, why);
}

int bhb_capture_know(struct bhb_capture *c, uint32_t pid, uint64_t callback)
{
	return bhb_recipes_know(bhb_kernel_recipes(c->kernel), pid, callback);
}

bool bhb_capture_probed(const struct bhb_capture *c, uint32_t pid)
{
	return bhb_recipes_any(bhb_kernel_recipes(c->kernel), pid);
}

/* Attaches to what is new in P. That it has gone meanwhile is no error: its end is told. */
static int attach(struct bhb_capture *c, const struct process *p)
{
	char why[BHB_WHY];
	const int rc = attach_both(c, p->pid, why);

	if (*why && rc != -ESRCH && rc != -ENOPKG) {
		memcpy(c->why, why, BHB_WHY);
		c->error = rc < 0 ? rc : c->error;
	}
	return rc;
}

static void go_on(const struct bhb_capture *c, const struct process *p)
{
	if (!c->o.gated || p->pidfd < 0)
		return;
	bhb_kernel_ready(c->kernel, p->pid);
	pidfd_send_signal(p->pidfd, SIGCONT, NULL, 0);
}

int bhb_capture_follow(struct bhb_capture *c, uint32_t pid, bool whole, char why[BHB_WHY])
{
	struct process *p;
	int rc;

	why[0] = '\0';
	if (find(c, pid))
		return 0;
	p = enter(c, pid);
	if (!p)
		return -ENOMEM;
	/* one that waits to be executed is this program so far */
	rc = whole && c->o.gated ? bhb_attach(c->attached, pid, why) : attach_both(c, pid, why);
	if (rc >= 0 && !attached_any(c, pid) && !(whole && c->o.gated)) {
		snprintf(
			why, BHB_WHY,
			"process %u executes no file that has probes of provider bh, and no loop that an adapter knows",
			pid);
		rc = -ENOENT;
	}
	if (rc < 0) {
		leave(c, p);
		return rc;
	}
	bhb_kernel_ready(c->kernel, pid);
	p->begun = bhp_clock();
	p->whole = whole;
	return 0;
}

/* A process that was seen with EVERYBODY: ours from now on, when it has probes. */
static void consider(struct bhb_capture *c, uint32_t pid)
{
	struct process *p = pid == (uint32_t)getpid() ? NULL : enter(c, pid);
	char why[BHB_WHY];

	if (!p)
		return;
	if (attach_both(c, pid, why) >= 0 && attached_any(c, pid))
		begin(c, p, 0, false);
	else
		leave(c, p);
}

static void look_around(struct bhb_capture *c)
{
	uint32_t *pids;
	const size_t n = bhb_users(NULL, &pids);

	for (size_t i = 0; i < n; i++)
		if (!find(c, pids[i]))
			consider(c, pids[i]);
	free(pids);
	c->looked_around = true;
}

/* --- their life --- */

/* The child is ours already, in the kernel. Its parent's probes are its own where they are
 * everybody's, and it may be where both have the same memory. */
static void forked(struct bhb_capture *c, const struct life *l)
{
	const uint32_t child = (uint32_t)bhp_get_LO2(&l->w.r);
	const bool shares = bhp_get_HI2(&l->w.r) && bhb_attached_by_memory(c->attached);
	const struct process *parent = find(c, l->w.tgid);
	const bool ready = parent && parent->begun <= l->time;
	struct process *p = find(c, child) ? NULL : enter(c, child);
	int rc;

	if (!p)
		return;
	rc = shares ? 0 : attach(c, p);
	if (ready && (shares || (!rc && attached_any(c, child))))
		begin(c, p, l->time, true);
	else
		begin(c, p, 0, false);
}

/* Its main thread is another one now if that was not the one to execute; and without a main
 * thread the probes that were its own are silent. */
static void headless(struct bhb_capture *c, struct process *p)
{
	if (!bhb_attached_to_leader(c->attached, p->pid))
		return;
	bhb_forget(c->attached, p->pid);
	if (attach(c, p) != -ESRCH)
		c->sink.lost(c->sink.arg, bhp_clock(), 1);
}

/* Probes that it was given stay with it where it maps the same files again. */
static void executed(struct bhb_capture *c, struct process *p, const struct life *l)
{
	bhb_recipes_forget(bhb_kernel_recipes(c->kernel), p->pid);
	attach(c, p);
	begin(c, p, c->o.gated ? l->time : 0, c->o.gated);
	go_on(c, p);
}

static void mapped(struct bhb_capture *c, struct process *p)
{
	const int rc = attach(c, p);

	if (rc && !c->o.gated && p->told)
		begin(c, p, 0, false);
	go_on(c, p);
}

/* What it does with that bottom half until its function has probes is missing, unless it is stopped. */
static void made(struct bhb_capture *c, struct process *p)
{
	if (attach(c, p) > 0 && !c->o.gated)
		c->sink.lost(c->sink.arg, bhp_clock(), 1);
	go_on(c, p);
}

static void lived(struct bhb_capture *c, const struct life *l)
{
	const enum bhb_life what = (enum bhb_life)bhp_record_id(&l->w.r);
	struct process *p;

	if (what == BHB_FORKED) {
		forked(c, l);
		return;
	}
	p = find(c, l->w.tgid);
	if (!p && c->o.everybody && what != BHB_EXITED)
		consider(c, l->w.tgid);
	else if (!p)
		return;
	else if (what == BHB_EXECUTED)
		executed(c, p, l);
	else if (what == BHB_MAPPED)
		mapped(c, p);
	else if (what == BHB_MADE)
		made(c, p);
	else if (what == BHB_HEADLESS)
		headless(c, p);
	else if (what == BHB_EXITED) {
		if (p->told)
			c->sink.ends(c->sink.arg, p->pid, l->time);
		leave(c, p);
	}
}

static void tell_loss(struct bhb_capture *c, uint64_t time)
{
	if (!c->lost || c->lost_at > time)
		return;
	c->sink.lost(c->sink.arg, c->lost_at, c->lost);
	c->lost = 0;
}

/* Tells what came to pass until TIME. */
static void live_until(struct bhb_capture *c, uint64_t time)
{
	size_t n = 0;

	for (; n < c->n_lives && c->lives[n].time <= time; n++) {
		tell_loss(c, c->lives[n].time);
		lived(c, &c->lives[n]);
	}
	c->n_lives -= n;
	if (n)
		memmove(c->lives, c->lives + n, c->n_lives * sizeof(*c->lives));
	tell_loss(c, time);
}

static int on_life(void *arg, void *data, size_t size)
{
	struct bhb_capture *c = arg;
	struct life *more;

	if (size < sizeof(struct bhb_wire))
		return 0;
	more = realloc(c->lives, (c->n_lives + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	c->lives = more;
	more += c->n_lives++;
	memcpy(&more->w, data, sizeof(more->w));
	more->time = bhb_times_ticks(&c->times, bhp_record_time(&more->w.r));
	return 0;
}

/* --- events --- */

#define BHP_KERNEL(number, name, fields, doc) | UINT32_C(1) << (number)
static const uint32_t of_kernel = 0
#include "events.def.h"
	;

static int on_event(void *arg, void *data, size_t size)
{
	struct bhb_capture *c = arg;
	struct bhb_wire_text *w = data;
	struct bhp_record r = w->w.r;
	const struct process *p;
	const unsigned id = bhp_record_id(&r);
	const bool kernel = id < 32 && of_kernel >> id & 1, text = size >= sizeof(*w);
	const uint32_t tgid = w->w.tgid & ~BHB_IN_NS;

	if (w->w.tgid & BHB_IN_NS)
		r = bhb_times_of_recipe(&c->times, w->w.tid, &r);
	else if (kernel)
		r.word[0] = bhb_times_of_thread(&c->times, w->w.tid, r.word[0]);
	live_until(c, bhp_record_time(&r));
	p = find(c, tgid);
	if (p && p->told && bhp_record_time(&r) >= p->begun) {
		c->events++;
		c->sink.event(c->sink.arg, tgid, w->w.tid, kernel, &r, text ? w->text : NULL);
	}
	return bhb_kernel_read_to(c->kernel, size) >= c->limit ? -ECANCELED : 0;
}

/* What was in the rings when it began. Whether nothing is missing that was before NOW. */
static bool pass(struct bhb_capture *c)
{
	struct bhb_counts n;
	bool whole;

	bhb_times_compare(&c->times);
	c->limit = bhb_kernel_written(c->kernel);
	n = bhb_kernel_counts(c->kernel);
	whole = n.dropped == c->dropped;
	if (!whole) {
		c->lost = n.dropped - c->dropped;
		c->lost_at = bhb_times_ticks(&c->times, n.dropped_ns) + 1;
		c->dropped = n.dropped;
	}
	bhb_kernel_lives(c->kernel);
	if (bhb_kernel_read_to(c->kernel, 0) < c->limit)
		bhb_kernel_events(c->kernel);
	live_until(c, c->times.now.ticks);
	tell_loss(c, UINT64_MAX);
	return whole && bhb_kernel_read_to(c->kernel, 0) >= c->limit;
}

/* So that at this pace a quarter of the ring fills until the next round. */
static void choose_pause(struct bhb_capture *c, uint64_t bytes)
{
	const uint64_t now = bhb_mono_ns(), took = now - c->round_ns, quarter = bhb_kernel_ring_size(c->kernel) / 4;
	const uint64_t ms = bytes ? took / 1000000 * quarter / bytes : PAUSE_MS;

	/* slowly up: what comes next is not known yet */
	c->pause_ms = ms > 2 * c->pause_ms ? 2 * c->pause_ms : ms ? (unsigned)ms : 1;
	if (c->pause_ms > PAUSE_MS)
		c->pause_ms = PAUSE_MS;
	c->round_ns = now;
}

int bhb_capture_round(struct bhb_capture *c, char why[BHB_WHY])
{
	const uint64_t from = bhb_kernel_read_to(c->kernel, 0);
	int passes = 0;

	why[0] = '\0';
	c->why = why;
	c->error = 0;
	if (c->o.everybody && !c->looked_around)
		look_around(c);
	for (size_t i = 0; i < c->n_processes; i++)
		if (!c->processes[i].told)
			begin(c, &c->processes[i], c->processes[i].begun, c->processes[i].whole);
	do {
		if (pass(c))
			c->until = c->times.now.ticks;
	} while (c->n_lives && ++passes < PASSES);
	choose_pause(c, bhb_kernel_read_to(c->kernel, 0) - from);
	return c->error;
}

unsigned bhb_capture_pause_ms(const struct bhb_capture *c)
{
	return c->pause_ms;
}

int bhb_capture_fd(const struct bhb_capture *c)
{
	return bhb_kernel_fd(c->kernel);
}

struct bhb_capture *bhb_capture_open(const struct bhb_options *o, const struct bhb_sink *sink, char why[BHB_WHY])
{
	struct bhb_capture *c = calloc(1, sizeof(*c));
	struct bhb_programs programs;

	why[0] = '\0';
	if (!c)
		return NULL;
	c->o = *o;
	c->sink = *sink;
	bhb_times_begin(&c->times, o->ticks_per_ns);
	c->round_ns = bhb_mono_ns();
	c->pause_ms = 1;
	c->kernel = bhb_kernel_open(o, on_event, on_life, c, &programs, why);
	if (c->kernel && (c->attached = bhb_attached_new(&programs, o->everybody)))
		return c;
	const int error = errno;
	bhb_capture_close(c);
	errno = error;
	return NULL;
}

struct bhb_capture_stats bhb_capture_stats(struct bhb_capture *c)
{
	const struct bhb_counts n = bhb_kernel_counts(c->kernel);
	struct bhb_capture_stats s = { .hits = n.hits,
				       .strange = n.strange,
				       .dropped = n.dropped,
				       .events = c->events,
				       .until = c->until,
				       .processes = (unsigned)c->n_processes,
				       .attach = bhb_attach_stats(c->attached) };

	bhb_kernel_cost(c->kernel, &s.bpf_ns, &s.bpf_runs);
	memcpy(s.missing, bhb_kernel_missing(c->kernel), BHB_WHY);
	return s;
}

struct bhb_recipes_stats bhb_capture_recipes(const struct bhb_capture *c)
{
	return bhb_recipes_stats(bhb_kernel_recipes(c->kernel));
}

void bhb_capture_close(struct bhb_capture *c)
{
	struct process *p;

	if (!c)
		return;
	/* nobody stays stopped: no more of them from here on */
	bhb_kernel_stop(c->kernel);
	for (size_t i = 0; i < c->n_lives; i++)
		if ((enum bhb_life)bhp_record_id(&c->lives[i].w.r) != BHB_EXITED && (p = find(c, c->lives[i].w.tgid)))
			go_on(c, p);
	for (size_t i = 0; i < c->n_processes; i++)
		if (c->processes[i].pidfd >= 0)
			close(c->processes[i].pidfd);
	bhb_attached_free(c->attached);
	bhb_kernel_close(c->kernel);
	bhb_times_end(&c->times);
	free(c->processes);
	free(c->lives);
	free(c);
}
