/* SPDX-License-Identifier: MIT */
/* The user-space side of monitor.bpf.c: loads it, follows processes, hands over what is told. */
#include <bpf/bpf.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "feature.h"
#include "maps.h"
#include "monitor_inside.h"
#include "wire.h"

static const uint64_t MS = 1000000;
enum { LOOKS_PER_S = 20, CALIBRATE_MS = 20, TICK_SHIFT = 20 };
/* Stamps of two threads, and a payload in a store buffer, are within that. */
enum { SLACK_NS = 1000 };
/* When the maps of a process are read: its libraries come within milliseconds, another
 * one at any time. With everybody, those of all others more rarely. */
enum { SOON_MS = 2, LATER_MS = 1000, RARELY_MS = 10000 };

/* --- loading --------------------------------------------------------------------------- */

static struct bhp_clock_pair clock_now(void)
{
	const uint64_t before = bhp_clock(), ns = bhb_mono_ns();

	return (struct bhp_clock_pair){ before / 2 + bhp_clock() / 2, ns };
}

/* The rate of the clock; the longer ago it began, the better it is known. */
static void calibrate(struct bhb_monitor *m)
{
	const struct bhp_clock_pair now = clock_now();

	m->ticks_per_ns = (double)(now.ticks - m->began.ticks) / (double)(now.mono_ns - m->began.mono_ns);
	if (!m->skel)
		return;
	m->skel->bss->at_ns = now.mono_ns;
	m->skel->bss->at_ticks = now.ticks;
	m->skel->bss->ticks_mult = (uint64_t)((1 << TICK_SHIFT) * m->ticks_per_ns);
}

static int make_attached(struct bhb_monitor *m)
{
	struct bhb_monitor_bpf *s = m->skel;
	struct bhb_programs programs = { .of = {
						 [BHP_ID_loop_new] = s->progs.loop_new,
						 [BHP_ID_loop_free] = s->progs.loop_free,
						 [BHP_ID_bh_new] = s->progs.bh_new,
						 [BHP_ID_bh_delete] = s->progs.bh_delete,
						 [BHP_ID_bh_cancel] = s->progs.bh_cancel,
						 [BHP_ID_schedule] = s->progs.schedule,
						 [BHP_ID_execute_end] = s->progs.execute_end,
						 [BHP_ID_poll_begin] = s->progs.poll_begin,
						 [BHP_ID_wait_begin] = s->progs.wait_begin,
						 [BHP_ID_wait_end] = s->progs.wait_end,
					 } };

	bhb_programs_prepare(&programs, s->obj);
	m->attached = bhb_attached_new(&programs, m->o.everybody);
	m->recipes = bhb_recipes_prepare(s->obj);
	return m->attached && m->recipes ? 0 : -ENOMEM;
}

static int load(struct bhb_monitor *m)
{
	struct bhb_monitor_bpf *s = m->skel = bhb_monitor__open();

	if (!s)
		return -errno;
	s->rodata->everybody = m->o.everybody;
	s->rodata->overdue_ns = m->o.overdue_ns;
	s->rodata->overdue_turns = m->o.overdue_turns;
	s->rodata->slack_ticks = (uint64_t)(SLACK_NS * m->ticks_per_ns);
	s->rodata->ns_mult = (uint64_t)((1 << TICK_SHIFT) / m->ticks_per_ns);
	int rc = bpf_map__set_max_entries(s->maps.bhs, m->o.max_objects);
	if (!rc)
		rc = make_attached(m);
	if (!rc)
		rc = bhb_monitor__load(s);
	if (!rc)
		calibrate(m);
	return rc;
}

static int attach_tracepoints(struct bhb_monitor *m)
{
	struct bhb_monitor_bpf *s = m->skel;

	if (m->o.everybody) /* who appears is found in /proc */
		return 0;
	s->links.forked = bpf_program__attach(s->progs.forked);
	s->links.executed = bpf_program__attach(s->progs.executed);
	return s->links.forked && s->links.executed ? 0 : -errno;
}

/* On the first processor that there is. */
static int attach_looks(struct bhb_monitor *m)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = 1000 * MS / LOOKS_PER_S,
	};
	int fd = -1;

	for (int cpu = 0; fd < 0 && cpu < libbpf_num_possible_cpus(); cpu++)
		fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return -errno;
	m->looks = bpf_program__attach_perf_event(m->skel->progs.look, fd);
	if (m->looks) /* the descriptor is the link's now */
		return 0;
	const int error = -errno;
	close(fd);
	return error;
}

static int wait_for(struct bhb_monitor *m, int fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	return fd < 0 || epoll_ctl(m->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int take(void *arg, void *data, size_t size);

static int make_ring(struct bhb_monitor *m)
{
	m->ring = ring_buffer__new(bpf_map__fd(m->skel->maps.told), take, m, NULL);
	if (!m->ring)
		return -errno;
	m->epoll = epoll_create1(EPOLL_CLOEXEC);
	m->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	const int rc = m->epoll < 0 ? -errno : wait_for(m, ring_buffer__epoll_fd(m->ring));
	return rc ? rc : wait_for(m, m->timer);
}

static void say_why_not(int error, char why[BHB_WHY])
{
	char buffer[BHB_WHY];
	const char *sentence = bhb_why_not(buffer, sizeof(buffer));

	if (sentence)
		snprintf(why, BHB_WHY, "%s", sentence);
	else
		snprintf(why, BHB_WHY, "the kernel refused the programs of bhtrace watch: %s", strerror(-error));
}

struct bhb_monitor *bhb_monitor_open(const struct bhb_monitor_options *o, const struct bhb_monitor_sink *sink,
				     char why[BHB_WHY])
{
	struct bhb_monitor *m = calloc(1, sizeof(*m));

	*why = '\0';
	if (!m) {
		errno = ENOMEM;
		return NULL;
	}
	*m = (struct bhb_monitor){ .o = *o, .sink = *sink, .epoll = -1, .timer = -1, .stats = -1 };
	m->o.overdue_ns = o->overdue_ns ? o->overdue_ns : 500 * MS;
	m->o.overdue_turns = o->overdue_turns ? o->overdue_turns : 1000;
	m->o.max_objects = o->max_objects ? o->max_objects : 8192;
	m->processors = (unsigned)libbpf_num_possible_cpus();
	m->began = clock_now();
	usleep(CALIBRATE_MS * 1000);
	calibrate(m);
	libbpf_set_print(NULL); /* what it has to say is for programmers */
	int rc = load(m);
	if (!rc)
		rc = attach_tracepoints(m);
	if (!rc)
		rc = attach_looks(m);
	if (!rc)
		rc = make_ring(m);
	m->stats = rc ? -1 : bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (!rc)
		return m;
	say_why_not(rc, why);
	bhb_monitor_close(m);
	errno = rc == -EACCES ? EPERM : rc == -ENOMEM || rc == -EPERM ? -rc : ENOTSUP;
	return NULL;
}

static void let_go(struct bhb_process *p)
{
	if (p->pidfd >= 0)
		close(p->pidfd);
}

void bhb_monitor_close(struct bhb_monitor *m)
{
	if (!m)
		return;
	bhb_attached_free(m->attached);
	bhb_recipes_free(m->recipes);
	bpf_link__destroy(m->looks);
	ring_buffer__free(m->ring);
	bhb_monitor__destroy(m->skel);
	for (size_t i = 0; i < m->n; i++)
		let_go(&m->processes[i]);
	const int fds[] = { m->epoll, m->timer, m->stats };
	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(m->processes);
	free(m);
}

/* --- processes ----------------------------------------------------------------------------- */

static struct bhb_process *find(struct bhb_monitor *m, uint32_t pid)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->processes[i].pid == pid)
			return &m->processes[i];
	return NULL;
}

static int target(struct bhb_monitor *m, uint32_t pid)
{
	const uint32_t flags = BHB_TARGET;

	return m->o.everybody || !bpf_map_update_elem(bpf_map__fd(m->skel->maps.targets), &pid, &flags, BPF_ANY)
		       ? 0
		       : -errno;
}

/* To be told of its exit. 0 or -errno. */
static int hold(struct bhb_monitor *m, struct bhb_process *p)
{
	p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	if (p->pidfd < 0)
		return errno == EINVAL || errno == ENOENT ? -ESRCH : -errno;
	return wait_for(m, p->pidfd);
}

/* With everybody, most have no probes: they get no descriptor. */
static struct bhb_process *add(struct bhb_monitor *m, uint32_t pid)
{
	struct bhb_process *all = reallocarray(m->processes, m->n + 1, sizeof(*all));

	if (!all) {
		errno = ENOMEM;
		return NULL;
	}
	m->processes = all;
	struct bhb_process *p = &all[m->n];
	*p = (struct bhb_process){ .pid = pid, .pidfd = -1, .pause_ns = SOON_MS * MS };
	int rc = m->o.everybody ? 0 : hold(m, p);
	if (!rc)
		rc = target(m, pid);
	if (!rc)
		return &all[m->n++];
	let_go(p);
	errno = -rc;
	return NULL;
}

/* Removes the entries of TGID from MAP. */
static void forget_entries(struct bhb_monitor *m, struct bpf_map *map, uint32_t tgid)
{
	struct bhb_key key, next;
	const int fd = bpf_map__fd(map);
	int rc = bpf_map_get_next_key(fd, NULL, &next);

	while (!rc) {
		key = next;
		rc = bpf_map_get_next_key(fd, &key, &next);
		if (key.tgid != tgid)
			continue;
		__sync_fetch_and_add(&m->skel->bss->deleted, 1); /* first, as in the programs */
		if (bpf_map_delete_elem(fd, &key))
			__sync_fetch_and_sub(&m->skel->bss->deleted, 1);
	}
}

static void forget(struct bhb_monitor *m, uint32_t pid)
{
	bhb_forget(m->attached, pid);
	bhb_recipes_forget(m->recipes, pid);
	forget_entries(m, m->skel->maps.bhs, pid);
	forget_entries(m, m->skel->maps.loops, pid);
}

static void ended(struct bhb_monitor *m, struct bhb_process *p)
{
	const uint32_t pid = p->pid;
	const bool begun = p->begun;

	let_go(p);
	*p = m->processes[--m->n];
	if (!m->o.everybody)
		bpf_map_delete_elem(bpf_map__fd(m->skel->maps.targets), &pid);
	if (!begun)
		return;
	m->sink.ends(m->sink.arg, pid);
	forget(m, pid);
}

static bool has_exited(const struct bhb_process *p)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };

	return p->gone || poll(&pfd, 1, 0) == 1; /* of no descriptor, nothing is told */
}

int bhb_monitor_probe(struct bhb_monitor *m, uint32_t pid, const struct bhb_probe *probes, size_t n, char why[BHB_WHY])
{
	return bhb_recipes_attach(m->recipes, pid, probes, n, why);
}

int bhb_monitor_know(struct bhb_monitor *m, uint32_t pid, uint64_t callback)
{
	return bhb_recipes_know(m->recipes, pid, callback);
}

bool bhb_monitor_probed(const struct bhb_monitor *m, uint32_t pid)
{
	return bhb_recipes_any(m->recipes, pid);
}

/* What the sink adds to NEW probes of PID, which is an error when there is nothing else. How many, or -errno. */
static int look_further(struct bhb_monitor *m, uint32_t pid, int new, char why[BHB_WHY])
{
	char said[BHB_WHY];
	const int more = m->sink.look && !m->o.everybody ? m->sink.look(m->sink.arg, pid, said) : 0;

	if (more >= 0)
		return new + more;
	if (new || bhb_attached_any(m->attached, pid) || bhb_monitor_probed(m, pid))
		return new;
	memcpy(why, said, BHB_WHY);
	return more;
}

/* Attaches to what is new in P. 0 or -errno. */
static int look_at(struct bhb_monitor *m, struct bhb_process *p, char why[BHB_WHY])
{
	p->looked_ns = bhb_mono_ns();
	int rc = bhb_attach(m->attached, p->pid, why);
	if (rc >= 0)
		rc = look_further(m, p->pid, rc, why);
	const uint64_t most = (m->o.everybody && !p->begun ? RARELY_MS : LATER_MS) * MS;

	p->pause_ns = p->pause_ns * 2 < most ? p->pause_ns * 2 : most;
	p->next_ns = bhb_mono_ns() + p->pause_ns;
	if (rc > 0 && !p->begun) {
		p->begun = true;
		m->sink.begins(m->sink.arg, p->pid);
		if (p->pidfd < 0)
			p->gone = hold(m, p) == -ESRCH;
	}
	return rc < 0 ? rc : 0;
}

int bhb_monitor_follow(struct bhb_monitor *m, uint32_t pid, char why[BHB_WHY])
{
	struct bhb_process *p = find(m, pid);

	*why = '\0';
	if (!p)
		p = add(m, pid);
	if (p)
		return look_at(m, p, why);
	const int error = errno;
	snprintf(why, BHB_WHY, "process %" PRIu32 ": %s", pid, error == ESRCH ? "does not exist" : strerror(error));
	return -error;
}

/* All processes but this one. Those of the kernel map no files. */
static void look_around(struct bhb_monitor *m)
{
	DIR *proc = opendir("/proc");
	const struct dirent *d;

	for (size_t i = 0; proc && i < m->n; i++)
		m->processes[i].gone = m->processes[i].pidfd < 0;
	while (proc && (d = readdir(proc))) {
		const uint32_t pid = isdigit((unsigned char)d->d_name[0]) ? (uint32_t)atoi(d->d_name) : 0;
		struct bhb_process *p = pid ? find(m, pid) : NULL;
		if (p)
			p->gone = false;
		else if (pid && pid != (uint32_t)getpid())
			add(m, pid);
	}
	if (proc)
		closedir(proc);
}

/* --- what is told ------------------------------------------------------------------------------ */

static void told_life(struct bhb_monitor *m, const struct bhb_told *t)
{
	struct bhb_process *p = find(m, t->key.tgid);

	if (t->what == BHB_FORKED && !find(m, (uint32_t)t->key.addr)) {
		add(m, (uint32_t)t->key.addr);
	} else if (t->what == BHB_MADE && p) {
		p->next_ns = bhb_mono_ns();
	} else if (t->what == BHB_EXECUTED && p && t->ns > p->looked_ns) {
		if (p->begun)
			m->sink.ends(m->sink.arg, p->pid);
		forget(m, p->pid);
		p->begun = false;
		p->pause_ns = SOON_MS * MS;
		p->next_ns = bhb_mono_ns();
	}
}

static int take(void *arg, void *data, size_t size)
{
	struct bhb_monitor *m = arg;
	const struct bhb_told *t = data;
	struct bhb_bh bh;

	if (size < sizeof(*t))
		return 0;
	if (t->what >= BHB_FORKED)
		told_life(m, t);
	else if (!bpf_map_lookup_elem(bpf_map__fd(m->skel->maps.bhs), &t->key, &bh))
		m->sink.overdue(m->sink.arg, &t->key, (enum bhb_overdue)t->what, t->ns, &bh);
	return 0;
}

static void arm(struct bhb_monitor *m)
{
	uint64_t next = bhb_mono_ns() + LATER_MS * MS;

	for (size_t i = 0; i < m->n; i++)
		if (m->processes[i].next_ns < next)
			next = m->processes[i].next_ns;
	next += !next;
	const struct itimerspec at = { .it_value = { (time_t)(next / 1000000000u), (long)(next % 1000000000u) } };
	timerfd_settime(m->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

int bhb_monitor_round(struct bhb_monitor *m, char why[BHB_WHY])
{
	uint64_t expired;
	int rc = 0;

	*why = '\0';
	const bool on_time = read(m->timer, &expired, sizeof(expired)) == sizeof(expired);
	if (on_time)
		calibrate(m);
	if (ring_buffer__consume(m->ring) < 0)
		return -EIO;
	if (m->o.everybody && (on_time || !m->n))
		look_around(m);
	/* Backwards: one that has ended gives its place to the last. */
	for (size_t i = m->n; i-- > 0;) {
		struct bhb_process *p = &m->processes[i];
		char said[BHB_WHY];
		if (has_exited(p)) {
			ended(m, p);
			continue;
		}
		const int error = p->next_ns <= bhb_mono_ns() ? look_at(m, p, said) : 0;
		/* With everybody, it is nobody in particular who may not be looked at. */
		if (error && error != -ESRCH && !m->o.everybody) {
			rc = error;
			memcpy(why, said, BHB_WHY);
		}
	}
	arm(m);
	return rc;
}

int bhb_monitor_fd(const struct bhb_monitor *m)
{
	return m->epoll;
}
