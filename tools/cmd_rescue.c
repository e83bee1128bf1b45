/* SPDX-License-Identifier: MIT */
/*
 * bhtrace rescue: makes up for a notification that was lost, and so puts the
 * diagnosis to the test. The only command that writes to a process: 1, into the
 * eventfd of a loop that sleeps although something is scheduled.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bhtrace.h"
#include "options.h"
#include "patient.h"
#include "render.h"
#include "status.h"

enum { WAIT_MS = 1000, WAIT_GAP_MS = 2, STATE = 256 };

static const char help[] = "Usage: bhtrace rescue -p PID [OPTION]...\n\n"
			   "Diagnoses a process. When a notification was lost, and only then, writes the\n"
			   "eventfd of the loop that sleeps, and says whether the loop then ran what was\n"
			   "scheduled: that confirms the diagnosis.\n\n"
			   "  -p, --pid=PID  the process\n"
			   "      --yes      do not ask first\n"
			   "      --json     print JSON, schema bhtrace.rescue/1\n"
			   "  -h, --help     this text\n\n"
			   "Exit codes: 0 confirmed, 1 not confirmed, 2 usage or not wanted, 3 the diagnosis\n"
			   "does not allow it, 4 not permitted, 5 no such process or not instrumented.\n";

enum outcome { CONFIRMED = 0, UNCONFIRMED = 1, UNWANTED = 2, REFUSED = 3, NOT_PERMITTED = 4 };

struct rescue {
	struct patient p;
	const struct bht_finding *f; /* of p.d; its loop and bottom half are the state before; NULL: none */
	int pidfd, eventfd;
	bool written;
	uint64_t took_ms;            /* from the write to the end of the waiting */
	const struct bht_loop *loop; /* after it, in p.ev.last; NULL when it is gone or nothing was written */
	const struct bht_bh *bh;
	char why[BHT_SENTENCE + 256];
};

/* --- whether a wakeup would help ------------------------------------------------ */

/* Why the wakeup of rule R must not be made up for, NULL when it may. */
static const char *objection(enum bht_rule_id r)
{
	switch (r) {
	case BHT_RULE_NOTIFY_SKIPPED:
	case BHT_RULE_NOTIFY_STOLEN:
	case BHT_RULE_NOTIFY_MISSING:
		return NULL;
	case BHT_RULE_FLAG_RACE:
		return "nothing is scheduled any more, so that a wakeup would find nothing to run";
	case BHT_RULE_FD_UNWATCHED:
	case BHT_RULE_KERNEL_LOST_WAKE:
		return "its eventfd is readable already, and more in it wakes nobody";
	case BHT_RULE_STRANDED:
		return "nobody sleeps in that loop, so that there is nobody to wake";
	default:
		return bht_rules[r].verdict == BHT_LATE ? "it ran already"
							: "the loop's thread does not sleep in its wait";
	}
}

/* The first finding that a wakeup helps with. */
static const struct bht_finding *choose(const struct bht_diagnosis *d)
{
	for (unsigned i = 0; i < d->n_findings; i++)
		if (!objection(d->findings[i].rule))
			return &d->findings[i];
	return NULL;
}

static enum outcome refuse_diagnosis(struct rescue *r)
{
	const struct bht_diagnosis *d = &r->p.d;
	char sentence[BHT_SENTENCE];

	bht_verdict_sentence(sentence, d);
	if (d->n_findings)
		snprintf(r->why, sizeof(r->why), "%s It is not written to: %s.", sentence,
			 objection(d->findings[0].rule));
	else
		snprintf(r->why, sizeof(r->why), "%s: %s", bht_verdict_name(d->verdict), sentence);
	return REFUSED;
}

/* --- the wakeup ------------------------------------------------------------------ */

/* A new last sample, and what became of the two. 0 or -errno. */
static int sample(struct rescue *r)
{
	struct patient *p = &r->p;

	bht_sample_free(&p->ev.last);
	r->loop = NULL;
	r->bh = NULL;
	int error = bht_live_sample(p->live, &p->ev, &p->ev.last, &p->refusal);
	if (error)
		return error == -ESRCH ? -ECANCELED : error;
	r->loop = bht_sample_loop(&p->ev.last, r->f->loop.addr);
	if (r->loop && r->loop->serial != r->f->loop.serial)
		r->loop = NULL;
	r->bh = bht_sample_bh(&p->ev.last, r->f->bh.addr, 0);
	if (r->bh && r->bh->serial != r->f->bh.serial)
		r->bh = NULL;
	return 0;
}

/* Whether the loop sleeps the same sleep and nothing else moved. */
static bool unchanged(const struct rescue *r)
{
	if (!r->loop || !r->bh)
		return false;
	struct bht_loop_status status = bht_loop_status(&r->p.ev, r->loop);
	return bht_waits(&status) && r->loop->notifier_fd == r->f->loop.notifier_fd && r->loop->notifier_count == 0 &&
	       r->bh->runs == r->f->bh.runs && r->bh->flags & BHP_FLAG_SCHEDULED;
}

static bool is_eventfd(int fd)
{
	char path[64], line[64];
	bool found = false;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *in = fopen(path, "re");
	while (in && !found && fgets(line, sizeof(line), in))
		found = !strncmp(line, "eventfd-count:", strlen("eventfd-count:"));
	if (in)
		fclose(in);
	return found;
}

static enum outcome duplicate(struct rescue *r)
{
	r->eventfd = (int)syscall(SYS_pidfd_getfd, r->pidfd, r->f->loop.notifier_fd, 0);
	if (r->eventfd < 0) {
		int error = errno;

		snprintf(r->why, sizeof(r->why), "its eventfd %d cannot be had: pidfd_getfd: %s%s",
			 r->f->loop.notifier_fd, strerror(error),
			 error == EPERM    ? "; the same user or CAP_SYS_PTRACE would do"
			 : error == ENOSYS ? "; it came with Linux 5.6"
					   : "");
		return error == EPERM || error == ENOSYS ? NOT_PERMITTED : REFUSED;
	}
	if (is_eventfd(r->eventfd))
		return CONFIRMED;
	snprintf(r->why, sizeof(r->why), "its file descriptor %d is no eventfd", r->f->loop.notifier_fd);
	return REFUSED;
}

/* Whether the loop turned and dealt with the bottom half. One that is gone then
 * was taken away by the loop, after its only execution. */
static bool dealt_with(const struct rescue *r)
{
	if (r->bh)
		return r->bh->runs > r->f->bh.runs;
	return r->loop && !r->p.ev.last.unstable && r->loop->iteration > r->f->loop.iteration;
}

static enum outcome wake(struct rescue *r)
{
	const uint64_t one = 1;
	int error = write(r->eventfd, &one, sizeof(one)) == sizeof(one) ? 0 : -errno;
	uint64_t began = patient_now_ms();

	r->written = !error;
	while (!error && r->took_ms < WAIT_MS && !patient_interrupted()) {
		error = sample(r);
		r->took_ms = patient_now_ms() - began;
		if (!error && dealt_with(r)) {
			snprintf(r->why, sizeof(r->why),
				 "after a write to its eventfd the loop ran the bottom half%s, within %" PRIu64
				 " ms: nothing but the notification was missing.",
				 r->bh ? "" : " and freed it", r->took_ms + 1);
			return CONFIRMED;
		}
		patient_nap(WAIT_GAP_MS);
	}
	if (error)
		snprintf(r->why, sizeof(r->why), "%s", r->p.refusal.why[0] ? r->p.refusal.why : strerror(-error));
	else
		snprintf(r->why, sizeof(r->why),
			 "the loop %s, but did not run the bottom half in %" PRIu64 " ms after a write to its eventfd.",
			 r->loop && r->loop->iteration > r->f->loop.iteration ? "turned" : "still sleeps", r->took_ms);
	return UNCONFIRMED;
}

static enum outcome try_wake(struct rescue *r)
{
	enum outcome outcome = duplicate(r);

	if (outcome != CONFIRMED)
		return outcome;
	/* The eventfd is in hand: what is seen now is what the write will meet. */
	patient_start_over(&r->p);
	int error = sample(r);
	if (!error && unchanged(r))
		return wake(r);
	snprintf(r->why, sizeof(r->why), "the loop moved meanwhile%s%s; nothing was written.", error ? ": " : "",
		 error ? strerror(-error) : "");
	return REFUSED;
}

/* --- what is said ----------------------------------------------------------------- */

static void state_words(char dst[STATE], const struct bht_loop *loop, const struct bht_bh *bh)
{
	int n = loop ? snprintf(dst, STATE, "loop %s, turn %" PRIu64 ", eventfd count %" PRId64,
				loop->where == BHP_WAIT ? "asleep" : "awake", loop->iteration, loop->notifier_count)
		     : snprintf(dst, STATE, "loop gone");

	if (bh)
		snprintf(dst + n, STATE - (size_t)n, "; bottom half %sscheduled, %" PRIu64 " executions",
			 bh->flags & BHP_FLAG_SCHEDULED ? "" : "not ", bh->runs);
	else
		snprintf(dst + n, STATE - (size_t)n, "; bottom half gone");
}

/* The verdict as far as it is acted on. */
static void diagnosis_sentence(char dst[BHT_SENTENCE], const struct rescue *r)
{
	struct bht_finding *f = (struct bht_finding *)r->f;
	const struct bht_diagnosis one = { .verdict = BHT_LOST, .findings = f, .n_findings = 1 };

	bht_verdict_sentence(dst, f ? &one : &r->p.d);
}

/* Whether the user wants it. Ctrl-C here means no. */
static bool confirm(const struct rescue *r)
{
	char sentence[BHT_SENTENCE], state[STATE], answer[16] = "", who[BHT_WHO];

	signal(SIGINT, SIG_DFL);
	diagnosis_sentence(sentence, r);
	state_words(state, &r->f->loop, &r->f->bh);
	fprintf(stderr, "%s\nNow: %s.\nWrite 1 into eventfd %d of %s? [y/N] ", sentence, state, r->f->loop.notifier_fd,
		bht_who(who, "loop", r->f->loop.name, r->f->loop.addr));
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static const char *const outcomes[] = {
	[CONFIRMED] = "confirmed", [UNCONFIRMED] = "not confirmed",   [UNWANTED] = "not wanted",
	[REFUSED] = "refused",     [NOT_PERMITTED] = "not permitted",
};

static void print_text(const struct rescue *r, enum outcome outcome)
{
	char sentence[BHT_SENTENCE], state[STATE], why[2 * sizeof(r->why)];

	for (const char *c = outcomes[outcome]; *c; c++)
		putchar(toupper((unsigned char)*c));
	printf(": %s\n", bht_escape(why, sizeof(why), r->why));
	if (!r->f)
		return;
	diagnosis_sentence(sentence, r);
	state_words(state, &r->f->loop, &r->f->bh);
	printf("The diagnosis was: %s\n   before  %s\n", sentence, state);
	if (!r->written)
		return;
	state_words(state, r->loop, r->bh);
	printf("   after   %s\n", state);
}

static json_t *state_json(const struct bht_loop *loop, const struct bht_bh *bh)
{
	json_t *o = json_object();

	if (loop)
		json_object_update_new(o, json_pack("{s:i, s:I, s:i, s:I}", "where", (int)loop->where, "iteration",
						    (json_int_t)loop->iteration, "notify_me", (int)loop->notify_me,
						    "notifier_count", (json_int_t)loop->notifier_count));
	if (bh)
		json_object_update_new(o,
				       json_pack("{s:i, s:I}", "flags", (int)bh->flags, "runs", (json_int_t)bh->runs));
	return o;
}

static void print_json(const struct rescue *r, enum outcome outcome)
{
	const struct bht_finding *f = r->f ? r->f : r->p.d.n_findings ? r->p.d.findings : NULL;
	char safe[4 * BHP_NAME_SIZE], sentence[BHT_SENTENCE], why[2 * sizeof(r->why)];

	diagnosis_sentence(sentence, r);
	json_t *root =
		json_pack("{s:s, s:i, s:s, s:s, s:s, s:s?, s:s?, s:b, s:I, s:o, s:o}", "schema", "bhtrace.rescue/1",
			  "pid", (int)r->p.ev.pid, "command", bht_escape(safe, sizeof(safe), r->p.ev.command),
			  "outcome", outcomes[outcome], "sentence", bht_escape(why, sizeof(why), r->why), "rule",
			  f ? bht_rules[f->rule].id : NULL, "diagnosis", sentence, "written", r->written, "took_ms",
			  (json_int_t)r->took_ms, "before", r->f ? state_json(&r->f->loop, &r->f->bh) : json_null(),
			  "after", r->written ? state_json(r->loop, r->bh) : json_null());

	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

/* --- the command ------------------------------------------------------------------- */

static enum outcome treat(struct rescue *r, bool yes)
{
	r->f = choose(&r->p.d);
	if (!r->f)
		return refuse_diagnosis(r);
	if (yes || (isatty(STDIN_FILENO) && confirm(r)))
		return try_wake(r);
	snprintf(r->why, sizeof(r->why), "%s; nothing was written.",
		 isatty(STDIN_FILENO) ? "the answer was not yes" : "nobody to ask, and no --yes");
	return UNWANTED;
}

static int rescue(uint32_t pid, bool yes, bool json)
{
	/* Held from before the first look to after the last: the number cannot pass to another process. */
	struct rescue r = { .pidfd = (int)syscall(SYS_pidfd_open, pid, 0), .eventfd = -1 };
	int code, error = patient_open(&r.p, pid, BHT_LATE_NS);

	if (!error && r.pidfd < 0)
		error = -ESRCH;
	if (!error)
		error = patient_examine(&r.p);
	if (error) {
		code = patient_refused(&r.p, -error);
	} else {
		code = (int)treat(&r, yes);
		(json ? print_json : print_text)(&r, (enum outcome)code);
	}
	if (r.eventfd >= 0)
		close(r.eventfd);
	if (r.pidfd >= 0)
		close(r.pidfd);
	patient_close(&r.p);
	return code;
}

int cmd_rescue(int argc, char **argv)
{
	uint32_t pid = 0;
	bool yes = false, json = false;
	const struct opt options[] = {
		{ OPT_PID, 'p', "pid", &pid },
		{ OPT_FLAG, 0, "yes", &yes },
		{ OPT_FLAG, 0, "json", &json },
		{ .kind = OPT_END },
	};
	int code;

	if (!opt_parse(argc, argv, help, options, &code))
		return code;
	return pid ? rescue(pid, yes, json) : opt_usage(argv[0], "which process? -p PID is needed");
}
