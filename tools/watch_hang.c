/* SPDX-License-Identifier: MIT */
/*
 * Who seems to hang is looked at: passively, by a child, so that one that takes long,
 * or that makes trouble, holds up nobody. A suspicion is raised when two looks see the
 * same hang.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bhtrace.h"
#include "clock.h"
#include "render.h"
#include "watch_look.h"

static const uint64_t MS = 1000000;
/* At most so many at once, each process so often; how long one may take. */
enum { LOOKS_MAX = 4, EVERY_MS = 1000, NAMES_EVERY_MS = 10000, PATIENCE_MS = 15000 };
enum { NAMES_MAX = 65536 };

const char *const watch_kinds[WATCH_KINDS] = {
	[WATCH_BEGINS] = "begins",         [WATCH_ENDS] = "ends",     [WATCH_SUSPECTED] = "suspected",
	[WATCH_CLEARED] = "not confirmed", [WATCH_LATE] = "late",     [WATCH_UNDECIDED] = "undecidable",
	[WATCH_UNREADABLE] = "unreadable", [WATCH_RAISED] = "raised", [WATCH_SAID] = "watch",
};

struct subject {
	uint32_t pid;
	char process[WATCH_NAME];
	struct watch_named *names; /* by address */
	size_t n_names;
	struct record_hang kept; /* was raised */
	const char *verdict;     /* of the last look; a word or a rule */
	bool wanted, unnamed;    /* it is to be looked at; for its names alone */
	unsigned suspected;      /* suspicions since the last look began, */
	unsigned answering;      /* and those that the look is for that goes on */
	bool undecided;          /* the last suspicion is */
	uint64_t waited_ns;      /* of the longest suspicion */
	uint64_t looked_ns;
	/* The look: */
	pid_t child; /* 0: there is none */
	int from;
	char *said;
	size_t n_said;
};

struct watch_hangs {
	const struct watch_options *o;
	void (*on_event)(void *arg, const struct watch_event *e);
	void *arg;
	struct subject *subjects;
	size_t n;
	unsigned looks;
	pid_t commands[64]; /* of --on-hang, to be reaped */
	uint64_t suspected, cleared, undecided, raised;
};

/* --- looks ------------------------------------------------------------------------------------ */

static void begin_look(struct watch_hangs *h, struct subject *s)
{
	int ends[2];

	s->looked_ns = bht_mono_ns();
	if (pipe2(ends, O_CLOEXEC))
		return;
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	const pid_t child = fork();
	if (child == 0) {
		watch_become_silent();
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		watch_look(s->pid, &s->kept, h->o->dir, ends[1]);
	}
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		return;
	}
	s->child = child;
	s->from = ends[0];
	s->answering = s->suspected;
	s->suspected = 0;
	s->wanted = s->unnamed = false;
	h->looks++;
}

/* --- what is told ------------------------------------------------------------------------------- */

static struct subject *find(const struct watch_hangs *h, uint32_t pid)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->subjects[i].pid == pid)
			return &h->subjects[i];
	return NULL;
}

static void read_command(uint32_t pid, char dst[WATCH_NAME])
{
	char path[64], name[32] = "";

	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/comm", pid);
	FILE *in = fopen(path, "re");
	if (in && !fgets(name, sizeof(name), in))
		name[0] = '\0';
	if (in)
		fclose(in);
	name[strcspn(name, "\n")] = '\0';
	bht_escape(dst, WATCH_NAME, name);
}

static struct watch_event event_of(const struct subject *s, enum watch_kind kind)
{
	struct watch_event e = { .kind = kind, .pid = s->pid, .why = "", .rule = "", .waited_ns = 0 };

	memcpy(e.process, s->process, sizeof(e.process));
	return e;
}

/* CMD with what it has to know; it goes on alone. */
static void run_command(struct watch_hangs *h, const struct watch_event *e)
{
	char pid[16];
	size_t i = 0;

	while (i < sizeof(h->commands) / sizeof(*h->commands) && h->commands[i])
		i++;
	if (!h->o->on_hang || i == sizeof(h->commands) / sizeof(*h->commands))
		return;
	h->commands[i] = fork();
	if (h->commands[i] < 0)
		h->commands[i] = 0;
	if (h->commands[i])
		return;
	watch_become_silent();
	snprintf(pid, sizeof(pid), "%" PRIu32, e->pid);
	setenv("BHTRACE_PID", pid, 1);
	setenv("BHTRACE_RULE", e->rule, 1);
	setenv("BHTRACE_SENTENCE", e->sentence, 1);
	execl("/bin/sh", "sh", "-c", h->o->on_hang, (char *)NULL);
	_exit(127);
}

static void reap_commands(struct watch_hangs *h)
{
	for (size_t i = 0; i < sizeof(h->commands) / sizeof(*h->commands); i++)
		if (h->commands[i] && waitpid(h->commands[i], NULL, WNOHANG) != 0)
			h->commands[i] = 0;
}

/* What the look said of a process that is there. */
static enum watch_kind judge(struct watch_hangs *h, struct subject *s, const struct watch_seen *seen)
{
	const unsigned asked = s->answering;

	s->undecided = asked && (seen->verdict == BHT_UNDECIDABLE || seen->error);
	if (seen->error) {
		s->verdict = "unreadable";
		h->undecided += asked;
		return WATCH_UNREADABLE;
	}
	s->verdict = bht_verdict_name(seen->verdict);
	if (seen->verdict == BHT_HEALTHY) {
		s->verdict = "not confirmed";
		h->cleared += asked;
		return asked ? WATCH_CLEARED : WATCH_KINDS;
	}
	if (seen->verdict == BHT_UNDECIDABLE) {
		h->undecided += asked;
		return asked ? WATCH_UNDECIDED : WATCH_KINDS;
	}
	if (seen->verdict == BHT_LATE)
		return asked ? WATCH_LATE : WATCH_KINDS;
	if (seen->hang.rule < BHT_RULES)
		s->verdict = bht_rules[seen->hang.rule].id;
	if (!seen->stable) {
		/* Told already, or not the same twice. */
		const struct record_hang *k = &s->kept;
		s->wanted |= k->rule != seen->hang.rule || k->bh != seen->hang.bh || k->loop != seen->hang.loop ||
			     k->iteration != seen->hang.iteration;
		return WATCH_KINDS;
	}
	s->kept = seen->hang;
	h->raised++;
	return WATCH_RAISED;
}

static void tell_seen(struct watch_hangs *h, struct subject *s, const struct watch_seen *seen)
{
	struct watch_event e = event_of(s, judge(h, s, seen));

	if (e.kind == WATCH_KINDS)
		return;
	if (e.kind != WATCH_CLEARED && e.kind != WATCH_UNDECIDED && !seen->error && seen->hang.rule < BHT_RULES) {
		e.rule = bht_rules[seen->hang.rule].id;
		bht_escape(e.bh, sizeof(e.bh), seen->bh);
		bht_escape(e.loop, sizeof(e.loop), seen->loop);
	}
	e.waited_ns = s->waited_ns;
	bht_escape(e.sentence, sizeof(e.sentence), seen->sentence);
	bht_escape(e.snapshot, sizeof(e.snapshot), seen->snapshot);
	h->on_event(h->arg, &e);
	if (e.kind == WATCH_RAISED)
		run_command(h, &e);
}

static int by_addr(const void *a, const void *b)
{
	const struct watch_named *x = a, *y = b;

	return (x->addr > y->addr) - (x->addr < y->addr);
}

static void take_names(struct subject *s)
{
	const size_t n = (s->n_said - sizeof(struct watch_seen)) / sizeof(struct watch_named);
	struct watch_named *names = n && n <= NAMES_MAX ? malloc(n * sizeof(*names)) : NULL;

	if (!names)
		return;
	memcpy(names, s->said + sizeof(struct watch_seen), n * sizeof(*names));
	qsort(names, n, sizeof(*names), by_addr);
	free(s->names);
	s->names = names;
	s->n_names = n;
}

/* The child is done, or is made to be. */
static void end_look(struct watch_hangs *h, struct subject *s)
{
	struct watch_seen seen;

	kill(s->child, SIGKILL);
	waitpid(s->child, NULL, 0);
	close(s->from);
	s->child = 0;
	h->looks--;
	if (s->n_said >= sizeof(seen)) {
		memcpy(&seen, s->said, sizeof(seen));
		take_names(s);
	} else {
		seen = (struct watch_seen){ .error = EIO };
		snprintf(seen.sentence, sizeof(seen.sentence), "looking at process %" PRIu32 " took too long", s->pid);
	}
	free(s->said);
	s->said = NULL;
	s->n_said = 0;
	/* One that is gone is told by the monitor. */
	if (seen.error != ESRCH && seen.error != ECANCELED)
		tell_seen(h, s, &seen);
	s->waited_ns = 0;
}

/* Whether the child has said all. */
static bool take_said(struct subject *s)
{
	enum { PIECE = 65536 };
	const size_t most = sizeof(struct watch_seen) + NAMES_MAX * sizeof(struct watch_named);

	for (;;) {
		char *grown = s->n_said > most ? NULL : realloc(s->said, s->n_said + PIECE);
		if (!grown)
			return true;
		s->said = grown;
		const ssize_t n = read(s->from, s->said + s->n_said, PIECE);
		if (n <= 0)
			return n == 0 || errno != EAGAIN;
		s->n_said += (size_t)n;
	}
}

/* --- for the others ------------------------------------------------------------------------------ */

struct watch_hangs *watch_hangs_new(const struct watch_options *o,
				    void (*on_event)(void *arg, const struct watch_event *e), void *arg)
{
	struct watch_hangs *h = calloc(1, sizeof(*h));

	if (h)
		*h = (struct watch_hangs){ .o = o, .on_event = on_event, .arg = arg };
	return h;
}

/* What S has. */
static void release(struct subject *s)
{
	if (s->child) {
		kill(s->child, SIGKILL);
		waitpid(s->child, NULL, 0);
		close(s->from);
	}
	free(s->said);
	free(s->names);
}

void watch_hangs_free(struct watch_hangs *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->n; i++)
		release(&h->subjects[i]);
	free(h->subjects);
	free(h);
}

void watch_begins(struct watch_hangs *h, uint32_t pid)
{
	struct subject *all = find(h, pid) ? NULL : reallocarray(h->subjects, h->n + 1, sizeof(*all));

	if (!all)
		return;
	h->subjects = all;
	struct subject *s = &all[h->n++];
	*s = (struct subject){ .pid = pid, .verdict = "suspected", .wanted = true };
	read_command(pid, s->process);
	const struct watch_event e = event_of(s, WATCH_BEGINS);
	h->on_event(h->arg, &e);
}

void watch_ends(struct watch_hangs *h, uint32_t pid)
{
	struct subject *s = find(h, pid);

	if (!s)
		return;
	const struct watch_event e = event_of(s, WATCH_ENDS);
	h->looks -= s->child != 0;
	release(s);
	*s = h->subjects[--h->n];
	h->on_event(h->arg, &e);
}

void watch_suspect(struct watch_hangs *h, const struct bhb_key *key, enum bhb_overdue why, uint64_t waited_ns,
		   const struct bhb_bh *bh)
{
	static const char *const words[] = {
		[BHB_PENDING_LONG] = "waits for long",
		[BHB_PENDING_TURNS] = "waits while its loop turns",
		[BHB_STALE] = "was scheduled about when it ran",
		[BHB_RESCUED] = "ran although no notification woke its loop",
	};
	struct subject *s = find(h, key->tgid);

	if (!s || why < BHB_PENDING_LONG || why > BHB_RESCUED)
		return;
	struct watch_event e = event_of(s, WATCH_SUSPECTED);
	char own[BHB_NAME];
	memcpy(own, bh->name, sizeof(own));
	own[sizeof(own) - 1] = '\0';
	watch_name(h, key->tgid, key->addr, own, e.bh);
	watch_name(h, key->tgid, bh->loop, "", e.loop);
	e.why = words[why];
	e.waited_ns = waited_ns;
	s->wanted = true;
	s->suspected++;
	s->waited_ns = waited_ns > s->waited_ns ? waited_ns : s->waited_ns;
	s->verdict = s->child ? s->verdict : "suspected";
	h->suspected++;
	h->on_event(h->arg, &e);
}

/* When S is to be looked at next. */
static uint64_t due_ns(const struct subject *s)
{
	if (s->child)
		return s->looked_ns + PATIENCE_MS * MS;
	return s->wanted ? s->looked_ns + EVERY_MS * MS : s->unnamed ? s->looked_ns + NAMES_EVERY_MS * MS : UINT64_MAX;
}

int watch_hangs_round(struct watch_hangs *h)
{
	const uint64_t now = bht_mono_ns();
	uint64_t next = now + EVERY_MS * MS;

	reap_commands(h);
	for (size_t i = 0; i < h->n; i++) {
		struct subject *s = &h->subjects[i];
		if (s->child && (take_said(s) || now >= due_ns(s)))
			end_look(h, s);
	}
	for (size_t i = 0; i < h->n; i++) {
		struct subject *s = &h->subjects[i];
		if (!s->child && now >= due_ns(s) && h->looks < LOOKS_MAX)
			begin_look(h, s);
		if (due_ns(s) > now && due_ns(s) < next)
			next = due_ns(s);
	}
	return (int)((next - now) / MS) + 1;
}

unsigned watch_hangs_fds(const struct watch_hangs *h, struct pollfd *fds, unsigned max)
{
	unsigned n = 0;

	for (size_t i = 0; i < h->n && n < max; i++)
		if (h->subjects[i].child)
			fds[n++] = (struct pollfd){ .fd = h->subjects[i].from, .events = POLLIN };
	return n;
}

void watch_name(struct watch_hangs *h, uint32_t pid, uint64_t addr, const char *own, char dst[WATCH_NAME])
{
	struct subject *s = find(h, pid);
	const struct watch_named key = { .addr = addr }, *named = NULL;

	if (!*own && s && s->n_names)
		named = bsearch(&key, s->names, s->n_names, sizeof(*named), by_addr);
	if (*own || (named && named->name[0])) {
		bht_escape(dst, WATCH_NAME, *own ? own : named->name);
		return;
	}
	if (s && addr && !named)
		s->unnamed = true;
	snprintf(dst, WATCH_NAME, "0x%" PRIx64, addr);
}

void watch_process(const struct watch_hangs *h, uint32_t pid, char dst[WATCH_NAME])
{
	const struct subject *s = find(h, pid);

	snprintf(dst, WATCH_NAME, "%s", s ? s->process : "");
}

const char *watch_verdict(const struct watch_hangs *h, uint32_t pid)
{
	const struct subject *s = find(h, pid);

	return s ? s->verdict : "suspected";
}

void watch_hangs_count(const struct watch_hangs *h, struct watch_totals *t)
{
	t->suspected = h->suspected;
	t->cleared = h->cleared;
	t->undecided = h->undecided;
	t->raised = h->raised;
}

int watch_hangs_code(const struct watch_hangs *h)
{
	bool undecided = false;

	for (size_t i = 0; i < h->n; i++)
		undecided |= h->subjects[i].undecided;
	return h->raised ? EXIT_FINDING : undecided ? EXIT_UNDECIDABLE : EXIT_HEALTHY;
}
