/* SPDX-License-Identifier: MIT */
#include "record_processes.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "patient.h"
#include "snapshot.h"

/* A stream whose thread did nothing for so long may be another's: its events come in the order of
 * time, but for what preempts a thread between the event and its probe. */
enum { IDLE_SECONDS = 5 };

/* What happens in a thread, or what the kernel sees of it. */
struct lane {
	struct lane *next; /* in its bucket, or of those that are free */
	struct process *process;
	struct recording_place *place;
	uint64_t used; /* second */
	uint32_t tgid, tid;
	bool kernel;
};

struct process {
	struct process *next;
	uint32_t tgid;
	char command[RECORD_COMMAND];
	uint64_t since;
	bool whole;
	bool open, refused; /* the recording is there; it could not be made, which was said */
	bool used;          /* there are events in it */
	bool ended;         /* at UNTIL: to be closed */
	uint64_t until;
	struct recording r;
	struct recording_place *losses;
	struct lane *idle;
	uint64_t told; /* events counted as discarded that were told to all processes */
	uint64_t cpu_first, cpu_last;
};

static struct process *find_process(const struct processes *ps, uint32_t tgid)
{
	struct process *p = ps->first;

	while (p && (p->tgid != tgid || p->ended))
		p = p->next;
	return p;
}

static uint64_t cpu_ns(uint32_t tgid)
{
	struct timespec t;
	clockid_t clock;

	if (clock_getcpuclockid((pid_t)tgid, &clock) || clock_gettime(clock, &t))
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void look_at_cpu(struct process *p)
{
	const uint64_t now = cpu_ns(p->tgid);

	if (now > p->cpu_last)
		p->cpu_last = now;
}

/* --- recordings ---------------------------------------------------------------------- */

static void tell_loss(struct process *p, uint64_t time, enum bht_loss_why why, uint64_t count)
{
	const struct bht_event loss = bht_loss(time, 0, why, count);

	recording_put(p->losses, &loss);
	p->told += count ? count : 1;
}

static int make_recording(struct processes *ps, struct process *p, struct bht_refusal *refusal)
{
	struct bht_evidence ev = { .pid = p->tgid, .ticks_per_ns = ps->ticks_per_ns };
	struct bht_ctf_about about;

	snprintf(ev.command, sizeof(ev.command), "%s", p->command);
	bht_ctf_about_evidence(&ev, &about);
	about.recorder = BHT_BY_BPF;
	p->losses = recording_place(&p->r);
	if (!p->losses) {
		snprintf(refusal->why, sizeof(refusal->why), "process %" PRIu32 ": no memory", p->tgid);
		return -ENOMEM;
	}
	return recording_open(&p->r, ps->dir, &about, refusal);
}

/* What cannot be opened is counted from then on. */
static bool open_recording(struct processes *ps, struct process *p)
{
	struct bht_refusal refusal = { .why = "" };

	if (p->open || p->refused)
		return p->open;
	const int rc = make_recording(ps, p, &refusal);
	p->open = !rc;
	p->refused = rc != 0;
	if (rc) {
		record_refused(&refusal, -rc);
		ps->error = ps->error ? ps->error : rc;
		return false;
	}
	ps->n++;
	ps->n_late += !p->whole;
	if (!p->whole)
		tell_loss(p, p->since, BHT_LOSS_EARLIER, 0);
	return true;
}

static void add_count(struct bht_ctf_count *sum, const struct process *p, const struct bht_ctf_count *count)
{
	sum->bytes += count->bytes;
	sum->events += count->events;
	sum->discarded += count->discarded > p->told ? count->discarded - p->told : 0;
}

static void free_lanes(struct lane *lane)
{
	while (lane) {
		struct lane *next = lane->next;
		free(lane);
		lane = next;
	}
}

/* Takes P's lanes, or those that are idle, out of the table. */
static void retire_lanes(struct processes *ps, const struct process *p)
{
	for (unsigned i = 0; i < RECORD_BUCKETS; i++)
		for (struct lane **at = &ps->bucket[i], *l; (l = *at);) {
			if (p ? l->process != p : l->used + IDLE_SECONDS > ps->second) {
				at = &l->next;
				continue;
			}
			*at = l->next;
			l->next = l->process->idle;
			l->process->idle = l;
		}
}

static void close_process(struct processes *ps, struct process *p)
{
	struct bht_ctf_count count = { 0 };
	struct process **at = &ps->first;

	look_at_cpu(p);
	retire_lanes(ps, p);
	free_lanes(p->idle);
	recording_close(&p->r, p->until, &count);
	add_count(&ps->done, p, &count);
	ps->cpu_ns += p->cpu_last - p->cpu_first;
	ps->error = ps->error ? ps->error : p->r.error;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	free(p);
}

/* --- what is told ---------------------------------------------------------------------- */

static void on_ends(void *arg, uint32_t tgid, uint64_t time)
{
	struct processes *ps = arg;
	struct process *p = find_process(ps, tgid);

	if (!p)
		return;
	p->ended = true;
	p->until = time;
}

/* Probes came to it one file after the other, before it hit the first of them. */
static bool begins_later(struct process *p, uint64_t time, bool whole)
{
	char command[RECORD_COMMAND] = "";

	if (!p || !p->open || p->used || whole || !record_command(p->tgid, command) || strcmp(command, p->command))
		return false;
	tell_loss(p, time, BHT_LOSS_EARLIER, 0);
	return true;
}

/* Most that a command starts have nothing to do with bottom halves: a recording is
 * made when the first event comes, unless it may hang already. */
static void on_begins(void *arg, uint32_t tgid, uint64_t time, bool whole)
{
	struct processes *ps = arg;

	if (begins_later(find_process(ps, tgid), time, whole))
		return;
	struct process *p = calloc(1, sizeof(*p));
	on_ends(ps, tgid, time); /* it executes another program */
	if (!p)
		return; /* its first event will try it again */
	*p = (struct process){ .next = ps->first, .tgid = tgid, .since = time, .whole = whole, .r = RECORDING_NONE };
	record_command(tgid, p->command);
	p->cpu_first = p->cpu_last = cpu_ns(tgid);
	ps->first = p;
	if (!whole && (ps->everybody || tgid == ps->asked))
		open_recording(ps, p);
}

static void on_lost(void *arg, uint64_t time, uint64_t count)
{
	struct processes *ps = arg;

	for (struct process *p = ps->first; p; p = p->next) {
		if (p->open)
			tell_loss(p, time, BHT_LOSS_DROPPED, count);
		else
			p->since = time, p->whole = false;
	}
}

static struct lane **bucket_of(struct processes *ps, uint32_t tid, bool kernel)
{
	return &ps->bucket[(tid * 2 + kernel) % RECORD_BUCKETS];
}

static struct lane *find_lane(struct processes *ps, uint32_t tgid, uint32_t tid, bool kernel)
{
	struct lane *l = *bucket_of(ps, tid, kernel);

	while (l && (l->tid != tid || l->tgid != tgid || l->kernel != kernel))
		l = l->next;
	return l;
}

static struct lane *make_lane(struct processes *ps, struct process *p, uint32_t tid, bool kernel)
{
	struct lane *l = p->idle, **bucket = bucket_of(ps, tid, kernel);

	if (l) {
		p->idle = l->next;
	} else {
		l = calloc(1, sizeof(*l));
		struct recording_place *place = l ? recording_place(&p->r) : NULL;
		if (!place) {
			free(l);
			return NULL;
		}
		l->place = place;
	}
	*l = (struct lane){
		.next = *bucket, .process = p, .place = l->place, .tgid = p->tgid, .tid = tid, .kernel = kernel
	};
	*bucket = l;
	p->used = true;
	return l;
}

/* What the kernel sees of a process before its first event is of no use. NULL: not recorded. */
static struct lane *new_lane(struct processes *ps, uint32_t tgid, uint32_t tid, bool kernel, uint64_t time)
{
	struct process *p = find_process(ps, tgid);

	if (!p && !kernel) {
		on_begins(ps, tgid, time, false);
		p = find_process(ps, tgid);
	}
	if (!p || (kernel && !p->open))
		return NULL;
	struct lane *l = open_recording(ps, p) ? make_lane(ps, p, tid, kernel) : NULL;
	if (!l && p->open)
		tell_loss(p, time, BHT_LOSS_DROPPED, 1);
	if (!l)
		ps->done.discarded++;
	return l;
}

static void on_event(void *arg, uint32_t tgid, uint32_t tid, bool kernel, const struct bhp_record *r, const char *text)
{
	const struct bht_event e = { .r = *r, .tid = tid, .text = text };
	struct processes *ps = arg;
	struct lane *l = find_lane(ps, tgid, tid, kernel);

	if (!l)
		l = new_lane(ps, tgid, tid, kernel, bht_time(&e));
	if (!l)
		return;
	l->used = ps->second;
	recording_put(l->place, &e);
}

struct bhb_sink processes_sink(struct processes *p)
{
	return (struct bhb_sink){ .event = on_event, .lost = on_lost, .begins = on_begins, .ends = on_ends, .arg = p };
}

/* --- all --------------------------------------------------------------------------------- */

/* That it ended may have been lost. */
static bool is_there(const struct process *p)
{
	return !p->ended && (!kill((pid_t)p->tgid, 0) || errno != ESRCH);
}

bool processes_left(const struct processes *ps)
{
	const struct process *p = ps->first;

	while (p && !is_there(p))
		p = p->next;
	return p != NULL;
}

static void close_ended(struct processes *ps)
{
	for (struct process *p = ps->first, *next; p; p = next) {
		next = p->next;
		if (p->ended)
			close_process(ps, p);
	}
}

void processes_flush(struct processes *ps, uint64_t until)
{
	const uint64_t second = patient_now_ms() / 1000;
	const bool over = second != ps->second;

	ps->second = second;
	if (!ps->looked_at)
		close_ended(ps);
	if (over)
		retire_lanes(ps, NULL);
	for (struct process *p = ps->first; p; p = p->next) {
		if (!p->open || p->ended)
			continue;
		look_at_cpu(p);
		if (recording_due(&p->r))
			recording_flush(&p->r, until);
	}
}

struct bht_ctf_count processes_count(const struct processes *ps)
{
	struct bht_ctf_count sum = ps->done;

	for (const struct process *p = ps->first; p; p = p->next) {
		const struct bht_ctf_count count = p->open ? recording_count(&p->r) : (struct bht_ctf_count){ 0 };
		add_count(&sum, p, &count);
	}
	return sum;
}

uint64_t processes_cpu_ns(const struct processes *ps)
{
	uint64_t sum = ps->cpu_ns;

	for (const struct process *p = ps->first; p; p = p->next)
		sum += p->cpu_last - p->cpu_first;
	return sum;
}

/* Meanwhile processes come and go: those in the list stay until all were looked at. */
int processes_evidence(struct processes *ps, int (*turn)(void *arg), void *arg, unsigned *unseen)
{
	int rc = 0, kept;

	*unseen = 0;
	ps->looked_at = true;
	for (struct process *p = ps->first; p && !rc; p = p->next) {
		if (!p->open || !is_there(p))
			continue;
		rc = recording_evidence(&p->r, turn, arg, &kept);
		if (p->ended)
			recording_drop_evidence(&p->r); /* it may be of the program that it executed */
		else
			*unseen += kept && kept != -ESRCH;
	}
	ps->looked_at = false;
	return rc;
}

void processes_drop_evidence(const struct processes *ps)
{
	for (const struct process *p = ps->first; p; p = p->next)
		if (p->open)
			recording_drop_evidence(&p->r);
}

void processes_close(struct processes *ps, uint64_t until)
{
	for (struct process *p = ps->first; p; p = p->next)
		if (!p->ended)
			p->ended = true, p->until = until;
	close_ended(ps);
}
