/* SPDX-License-Identifier: MIT */
#include "patient.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "bhtrace.h"
#include "progress.h"
#include "render.h"
#include "status.h"

/* Between two samples; and how long a picture that will not settle is retried
 * before it is called undecidable. */
enum { GAP_MS = 20, SETTLE_MS = 2000 };

static volatile bool interrupted;

static void on_interrupt(int sig)
{
	(void)sig;
	interrupted = true;
}

const volatile bool *patient_catch_interrupt(void)
{
	signal(SIGINT, on_interrupt);
	return &interrupted;
}

bool patient_interrupted(void)
{
	return interrupted;
}

uint64_t patient_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

void patient_nap(unsigned ms)
{
	struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

int patient_open(struct patient *p, uint32_t pid, uint64_t late_ns)
{
	*p = (struct patient){ .ev = { .live = true }, .late_ns = late_ns };
	patient_catch_interrupt();
	p->live = bht_live_open(pid, &p->refusal);
	return p->live ? 0 : -errno;
}

static void forget_history(struct patient *p)
{
	if (p->history)
		p->history->close(p->history);
	p->history = NULL;
}

void patient_close(struct patient *p)
{
	forget_history(p);
	bht_live_close(p->live);
	bht_diagnosis_free(&p->d);
	bht_evidence_free(&p->ev);
}

/* It was there when it was opened: it did not refuse, it went away. */
static int went_away(int error)
{
	return error == -ESRCH ? -ECANCELED : error;
}

void patient_start_over(struct patient *p)
{
	bht_sample_free(&p->ev.first);
	p->ev.first = p->ev.last;
	p->ev.last = (struct bht_sample){ 0 };
	p->ev.payload.first = p->ev.payload.last;
}

/* The history is read between two samples, so that a loop that slept through
 * both did so while the rings were copied. */
static int look(struct patient *p)
{
	bht_sample_free(&p->ev.last);
	forget_history(p);
	p->history = bht_live_history(p->live, &p->ev, &p->refusal);
	if (!p->history)
		return went_away(-errno);
	int r = bht_live_sample(p->live, &p->ev, &p->ev.last, &p->refusal);
	if (r != 0)
		return went_away(r);
	bht_diagnosis_free(&p->d);
	return bht_diagnose(&p->ev, p->history, p->late_ns, &p->d);
}

static bool only_time_can_tell(const struct bht_diagnosis *d)
{
	return d->verdict == BHT_UNDECIDABLE && d->n_reasons > d->n_lasting;
}

/* A verdict that only time can decide (a producer on its way, a thread without
 * CPU) is looked at again. */
static int settle(struct patient *p)
{
	uint64_t deadline = patient_now_ms() + SETTLE_MS;

	for (;;) {
		patient_nap(GAP_MS);
		int r = look(p);
		enum bht_settled settled = r ? BHT_SETTLED : bht_settled(&p->ev);
		if (r != 0 || (settled == BHT_SETTLED && !only_time_can_tell(&p->d)) || patient_now_ms() >= deadline ||
		    interrupted)
			return r;
		if (settled != BHT_LOOK_AGAIN)
			patient_start_over(p);
	}
}

int patient_examine(struct patient *p)
{
	bht_sample_free(&p->ev.first);
	int r = went_away(bht_live_sample(p->live, &p->ev, &p->ev.first, &p->refusal));

	if (r != 0)
		return r;
	progress_begin("process %u has not settled yet ", p->ev.pid);
	r = settle(p);
	progress_end();
	return r;
}

int patient_refused(const struct patient *p, int error)
{
	char safe[2 * sizeof(p->refusal.why)];

	fprintf(stderr, "bhtrace: %s\n",
		p->refusal.why[0] ? bht_escape(safe, sizeof(safe), p->refusal.why) : strerror(error));
	switch (error) {
	case EPERM:
	case EACCES:
		return EXIT_NOT_PERMITTED;
	case ECANCELED: /* it exited while it was read */
	case ENOMSG:    /* it has no loop yet, or none that can be found */
	case ENOMEM:
		return EXIT_UNDECIDABLE;
	default:
		return EXIT_BAD_INPUT;
	}
}
