/* SPDX-License-Identifier: MIT */
/* What the child does: an examination that may take long, or go wrong. */
#include "watch_look.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "patient.h"
#include "render.h"
#include "snapshot.h"

enum { AGAIN_MS = 100, SNAPSHOTS_MAX = 1000 };

/* DIR/COMMAND-PID, or with a number behind it. */
static int keep_snapshot(const char *dir, struct patient *p, struct watch_seen *s)
{
	char path[4096], numbered[4200];
	int rc = record_process_path(path, sizeof(path), dir, p->ev.pid);

	for (unsigned n = 1; !rc && n <= SNAPSHOTS_MAX; n++) {
		snprintf(numbered, sizeof(numbered), n == 1 ? "%s" : "%s-%u", path, n);
		rc = bht_snapshot_write(numbered, &p->ev, p->history, &p->refusal);
		if (rc == -EEXIST)
			rc = 0;
		else if (!rc)
			return snprintf(s->snapshot, sizeof(s->snapshot), "%.500s", numbered), 0;
	}
	return rc ? rc : -EEXIST;
}

static void tell_finding(struct watch_seen *s, const struct bht_diagnosis *d)
{
	char sentence[BHT_SENTENCE];

	bht_verdict_sentence(sentence, d);
	snprintf(s->sentence, sizeof(s->sentence), "%s", sentence);
	s->verdict = d->verdict;
	s->hang.rule = BHT_RULES;
	if (!d->n_findings)
		return;
	const struct bht_finding *f = &d->findings[0];
	s->hang = (struct record_hang){ f->rule, f->bh.addr, f->loop.addr, f->loop.iteration };
	memcpy(s->bh, f->bh.name, sizeof(s->bh));
	memcpy(s->loop, f->loop.name, sizeof(s->loop));
}

/* What hangs makes no turn, but for one that is starved: its loop turns, it does not run. */
static bool is_stable(struct record_hangs *both, struct bht_diagnosis *d)
{
	struct bht_finding *f = d->n_findings ? &d->findings[0] : NULL;

	if (f && f->rule == BHT_RULE_STARVED)
		f->loop.iteration = f->bh.runs;
	return record_stable_hang(both, d);
}

static bool hangs(const struct watch_seen *s)
{
	return s->verdict == BHT_LOST || s->verdict == BHT_STUCK;
}

static int examine(struct patient *p, uint32_t pid)
{
	const int rc = patient_open(p, pid, BHT_LATE_NS);

	return rc ? rc : patient_examine(p);
}

static void write_all(int fd, const void *data, size_t size)
{
	const char *at = data;
	ssize_t n;

	for (; size && (n = write(fd, at, size)) > 0; size -= (size_t)n)
		at += n;
}

static void write_name(int to, uint64_t addr, const char name[BHP_NAME_SIZE])
{
	struct watch_named n = { .addr = addr };

	memcpy(n.name, name, sizeof(n.name));
	n.name[sizeof(n.name) - 1] = '\0';
	write_all(to, &n, sizeof(n));
}

_Noreturn void watch_look(uint32_t pid, const struct record_hang *kept, const char *dir, int to)
{
	struct record_hangs both = { .kept = *kept };
	struct watch_seen s = { .error = 0 };
	struct patient p;
	int rc = examine(&p, pid);

	if (!rc) {
		is_stable(&both, &p.d);
		tell_finding(&s, &p.d);
	}
	if (!rc && hangs(&s)) {
		patient_close(&p);
		patient_nap(AGAIN_MS);
		rc = examine(&p, pid);
		if (!rc) {
			s.stable = is_stable(&both, &p.d);
			tell_finding(&s, &p.d);
		}
	}
	if (!rc && s.stable && dir && keep_snapshot(dir, &p, &s))
		snprintf(s.snapshot, sizeof(s.snapshot), "none: %.400s",
			 p.refusal.why[0] ? p.refusal.why : "it could not be written");
	s.error = -rc;
	if (rc)
		snprintf(s.sentence, sizeof(s.sentence), "%.900s", p.refusal.why[0] ? p.refusal.why : strerror(-rc));
	write_all(to, &s, sizeof(s));
	for (size_t i = 0; !rc && i < p.ev.last.n_loops; i++)
		write_name(to, p.ev.last.loops[i].addr, p.ev.last.loops[i].name);
	for (size_t i = 0; !rc && i < p.ev.last.n_bhs; i++)
		write_name(to, p.ev.last.bhs[i].addr, p.ev.last.bhs[i].name);
	_exit(0);
}

void watch_become_silent(void)
{
	sigset_t none;
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	setpgid(0, 0); /* Ctrl-C is not for it */
}
