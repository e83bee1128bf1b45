/* SPDX-License-Identifier: MIT */
/*
 * bhtrace record --via bpf: USDT probes, the scheduler and system calls of a process
 * that runs already, of a command, or of all that use an instrumented file; and of what they
 * start.
 *
 *   DIR/COMMAND-PID/history/, evidence, until    a recording (recording.h), one a process
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bhtrace.h"
#include "clock.h"
#include "foreign_probes.h"
#include "patient.h"
#include "privileges.h"
#include "record_processes.h"
#include "render.h"
#include "roots.h"
#include "snapshot.h"
#include "trap.h"

/* How long the clock is watched; how long what the evidence may know is waited for; and how long an event of
 * foreign_probes.h may wait for what explains it. */
enum { CLOCK_MS = 50, CATCH_UP_MS = 3000, HELD_MS = 100 };

/* Programs and probes for what comes later; the memory of other users' processes; their
 * files; to let them go on that were stopped until their probes were there. */
#define NEEDED                                                                                                         \
	(PRIVILEGE(CAP_BPF) | PRIVILEGE(CAP_PERFMON) | PRIVILEGE(CAP_SYS_PTRACE) | PRIVILEGE(CAP_DAC_READ_SEARCH) |    \
	 PRIVILEGE(CAP_KILL))
/* Linux 6.18 wants it for a uprobe of perf_event_open(2), where CAP_PERFMON does for all else. */
#define NEEDED_PERHAPS PRIVILEGE(CAP_SYS_ADMIN)

/* Inode of the initial PID namespace: PROC_PID_INIT_INO of include/linux/proc_ns.h. */
#define INITIAL_PIDS "pid:[4026531836]"

struct bpf {
	const struct record_request *q;
	struct record_result *result;
	struct record_target target;
	struct processes processes;
	struct bhb_capture *capture;
	struct foreign *foreign;
	struct bhb_sink below; /* of the processes */
	unsigned unseen;       /* processes without evidence */
	double trap_ns;
	struct bhb_attach_stats attached; /* the most there were */
	bool failed;                      /* a process could not be attached to, which was said */
	bool outlived;                    /* by processes that it has started, which was said */
	char why[BHB_WHY];
	uint64_t began_ns;
};

static int say(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int say(int code, const char *format, ...)
{
	char text[BHB_WHY + 512], safe[2 * sizeof(text)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	record_unshow();
	fprintf(stderr, "bhtrace: %s\n", bht_escape(safe, sizeof(safe), text));
	return code;
}

/* Says WHY, and what works all the same. */
static int refuse(const char *why, int error)
{
	const bool permitted = error != EPERM && error != EACCES && error != ENOTSUP;

	say(0, "%s", why[0] ? why : strerror(error));
	if (permitted)
		return error == ENOMEM ? EXIT_UNDECIDABLE : EXIT_BAD_INPUT;
	return say(EXIT_NOT_PERMITTED, "what works without that, for one's own processes: bhtrace snapshot, bhtrace "
				       "record --via flight");
}

/* --- the clock ------------------------------------------------------------------------ */

static struct bhp_clock_pair both_clocks(void)
{
	const struct bht_evidence ev = { .pid = (uint32_t)getpid() };
	struct bht_ctf_about about;

	bht_ctf_about_evidence(&ev, &about);
	return about.clock;
}

static double ticks_per_ns(void)
{
	const struct bhp_clock_pair from = both_clocks();
	struct bhp_clock_pair to;

	do {
		patient_nap(CLOCK_MS);
		to = both_clocks();
	} while (to.mono_ns < from.mono_ns + CLOCK_MS * UINT64_C(1000000));
	return bht_clock_rate(&from, &to, 1);
}

/* --- loops that were never instrumented --------------------------------------------- */

static int probe(void *bpf, uint32_t pid, const struct bhb_probe *probes, size_t n, char why[BHB_WHY])
{
	return bhb_capture_probe(((struct bpf *)bpf)->capture, pid, probes, n, why);
}

static int know(void *bpf, uint32_t pid, uint64_t callback)
{
	return bhb_capture_know(((struct bpf *)bpf)->capture, pid, callback);
}

static bool is_probed(const void *bpf, uint32_t pid)
{
	return bhb_capture_probed(((const struct bpf *)bpf)->capture, pid);
}

static int look(void *bpf, uint32_t pid, char why[BHB_WHY])
{
	return foreign_look(((struct bpf *)bpf)->foreign, pid, why);
}

static void on_event(void *bpf, uint32_t tgid, uint32_t tid, bool kernel, const struct bhp_record *r, const char *text)
{
	foreign_event(((struct bpf *)bpf)->foreign, tgid, tid, kernel, r, text);
}

static void on_lost(void *bpf, uint64_t time, uint64_t count)
{
	const struct bpf *f = bpf;

	f->below.lost(f->below.arg, time, count);
}

static void on_begins(void *bpf, uint32_t tgid, uint64_t time, bool whole)
{
	const struct bpf *f = bpf;

	f->below.begins(f->below.arg, tgid, time, whole);
}

static void on_ends(void *bpf, uint32_t tgid, uint64_t time)
{
	const struct bpf *f = bpf;

	foreign_forget(f->foreign, tgid);
	f->below.ends(f->below.arg, tgid, time);
}

/* Callbacks that were met for the first time: what they did until they had probes is missing. */
static void attach_due(struct bpf *f)
{
	uint32_t pid;

	while ((pid = foreign_due(f->foreign))) {
		const int rc = foreign_look(f->foreign, pid, f->why);
		if (rc > 0)
			on_lost(f, bhp_clock(), 1);
		else if (rc < 0)
			foreign_forget(f->foreign, pid);
	}
}

/* --- opening -------------------------------------------------------------------------- */

/* The kernel's programs see the numbers of the initial namespace, and /proc has others. */
static bool initial_pids(void)
{
	char name[64] = "";

	return readlink("/proc/self/ns/pid", name, sizeof(name) - 1) < 0 || !strcmp(name, INITIAL_PIDS);
}

static int open_capture(struct bpf *f)
{
	const struct record_request *q = f->q;
	const struct foreign_ops ops = { probe, know, is_probed, .calls = !q->no_kernel };
	const struct bhb_sink sink = {
		.event = on_event, .lost = on_lost, .begins = on_begins, .ends = on_ends, .look = look, .arg = f
	};
	const struct bhb_options options = { .everybody = q->all,
					     .begins = q->begins,
					     .kernel = !q->no_kernel,
					     .gated = q->command != NULL,
					     .ticks_per_ns = f->processes.ticks_per_ns };

	f->below = processes_sink(&f->processes);
	f->foreign = foreign_new(&ops, f, &(struct foreign_sink){ f->below.event, f->below.arg });
	if (!f->foreign)
		return refuse("", ENOMEM);
	if (!initial_pids())
		return refuse("this is a PID namespace of its own, in which the kernel's process numbers mean nothing: "
			      "record from the initial one (nsenter -t 1 -p)",
			      EPERM);
	f->capture = bhb_capture_open(&options, &sink, f->why);
	if (!f->capture) {
		const int error = errno;
		return refuse(f->why, error);
	}
	f->target.also = bhb_capture_fd(f->capture);
	if (q->begins)
		say(0,
		    "--begins: probes stand before the callbacks, where they can hide a race; that no wakeup is lost "
		    "proves nothing");
	return 0;
}

static int follow(struct bpf *f)
{
	if (f->q->all)
		return 0;
	const int rc = bhb_capture_follow(f->capture, f->target.pid, f->q->command != NULL, f->why);
	return rc ? refuse(f->why, -rc) : 0;
}

static bool probes_work(void *bpf)
{
	struct bpf *f = bpf;

	f->trap_ns = trap_ns();
	return f->trap_ns > 0;
}

static void give_up_privileges(struct bpf *f)
{
	const int rc = privileges_keep(NEEDED, NEEDED_PERHAPS, probes_work, f);

	if (rc)
		say(0, "the privileges that are not needed any more could not be given up: %s", strerror(-rc));
	if (!f->trap_ns)
		f->trap_ns = trap_ns();
}

/* A command that is held is a process already: it keeps its privileges. */
static int open_all(struct bpf *f)
{
	int code = record_target_hold(f->q, NULL, &f->target);

	f->processes.asked = f->target.pid;
	f->result->target = f->target.pid;
	if (!code)
		code = open_capture(f);
	if (!code)
		code = follow(f);
	if (code)
		return code;
	give_up_privileges(f);
	return record_target_start(&f->target);
}

/* --- recording -------------------------------------------------------------------------- */

static void show(const struct bpf *f, const struct bhb_capture_stats *stats)
{
	const struct bht_ctf_count count = processes_count(&f->processes);

	record_show("recording %u process%s: %" PRIu64 " events, %" PRIu64 " discarded, %" PRIu64 " KiB",
		    stats->processes, stats->processes == 1 ? "" : "es", count.events, count.discarded + stats->dropped,
		    count.bytes / 1024);
}

/* Until when all was told, HELD_MS at most before UNTIL. */
static uint64_t told_until(struct bpf *f, uint64_t until)
{
	const uint64_t held = (uint64_t)(HELD_MS * 1e6 * f->processes.ticks_per_ns);

	return foreign_flush(f->foreign, until > held ? until - held : 0, until);
}

static int turn(void *bpf)
{
	struct bpf *f = bpf;
	const int rc = bhb_capture_round(f->capture, f->why);
	const struct bhb_capture_stats stats = bhb_capture_stats(f->capture);

	attach_due(f);
	processes_flush(&f->processes, told_until(f, stats.until));
	if (rc && !f->failed)
		say(0, "%s; recording goes on without it", f->why[0] ? f->why : strerror(-rc));
	f->failed |= rc != 0;
	if (stats.attach.links > f->attached.links)
		f->attached = stats.attach;
	show(f, &stats);
	record_target_wait(&f->target, bhb_capture_pause_ms(f->capture));
	return 0;
}

/* The target, and what it has started. */
static bool all_exited(struct bpf *f)
{
	if (f->q->all || !record_target_exited(&f->target))
		return false;
	if (!processes_left(&f->processes))
		return true;
	if (!f->outlived)
		say(0, "%s; what it has started is still recorded, until Ctrl-C", record_ended(&f->target));
	f->outlived = true;
	return false;
}

/* Until all that happened before now was told; whether it was. */
static bool catch_up(struct bpf *f)
{
	const uint64_t now = bhp_clock(), deadline_ms = patient_now_ms() + CATCH_UP_MS;

	while (bhb_capture_stats(f->capture).until < now && patient_now_ms() < deadline_ms)
		turn(f);
	return bhb_capture_stats(f->capture).until >= now;
}

static void record(struct bpf *f)
{
	while (!record_stopped() && !all_exited(f))
		turn(f);
	processes_evidence(&f->processes, turn, f, &f->unseen);
	/* What evidence knows has to be in the history, too. */
	if (!catch_up(f)) {
		processes_drop_evidence(&f->processes);
		record_note(f->result,
			    "The state in the end was not kept: the events until then could not be had in time.");
	}
}

/* --- the end ------------------------------------------------------------------------------ */

static void explain(struct bpf *f, const struct bhb_capture_stats *stats)
{
	struct record_result *r = f->result;

	r->ended = record_ended(&f->target);
	if (stats->dropped)
		record_note(r,
			    "%" PRIu64 " events found the buffer full: this rate is too high for a recorder that "
			    "gets so little CPU time%s.",
			    stats->dropped, f->q->no_kernel ? "" : "; --no-kernel makes them fewer");
	if (f->processes.n_late)
		record_note(r, "%u process%s ran already when probes were attached: what was before is not in it.",
			    f->processes.n_late, f->processes.n_late == 1 ? "" : "es");
	if (f->unseen)
		record_note(r, "Of %u process%s the state in the end could not be kept.", f->unseen,
			    f->unseen == 1 ? "" : "es");
	if (stats->missing[0])
		record_note(r, "Done without what this kernel does not have: %s.", stats->missing);
}

/* As it was seen last; or what a command and those it has waited for took, which is exact. */
static uint64_t cpu_ns(const struct bpf *f)
{
	const uint64_t seen = processes_cpu_ns(&f->processes);
	struct rusage u;

	if (!f->target.child || !f->target.exited || getrusage(RUSAGE_CHILDREN, &u))
		return seen;
	const uint64_t exact = (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000u +
			       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000u;
	return exact > seen ? exact : seen;
}

static void explain_functions(struct bpf *f, const struct bhb_recipes_stats *s)
{
	if (s->silent[0])
		record_note(f->result,
			    "Never entered while their neighbours were, so probably inlined, or not used: %.300s.",
			    s->silent);
	if (s->impossible[0])
		record_note(f->result, "The kernel can put no probe at %.200s: what they did is not in it.",
			    s->impossible);
}

static void report_probes(struct bpf *f, const struct bhb_capture_stats *stats)
{
	const struct bhb_recipes_stats functions = bhb_capture_recipes(f->capture);

	explain_functions(f, &functions);
	f->result->probed = true;
	f->result->probes = (struct record_probes){
		.processes = f->processes.n,
		.files = f->attached.files + functions.files,
		.links = f->attached.links + functions.probes,
		.bystanders = f->attached.bystanders,
		.hits = stats->hits,
		.strange = stats->strange,
		.attach_ms = (double)(stats->attach.attach_ns + functions.attach_ns) / 1e6,
		.trap_ns = f->trap_ns,
		.program_ns = stats->bpf_runs ? (double)stats->bpf_ns / (double)stats->bpf_runs : 0,
		.cpu_ns = cpu_ns(f),
		.begins = f->q->begins,
		.functions = functions.probes,
		.returns = functions.returns,
		.return_hits = functions.hits_at_return,
	};
	snprintf(f->result->probes.modules, sizeof(f->result->probes.modules), "%s", foreign_modules(f->foreign));
}

static int close_all(struct bpf *f)
{
	const struct bhb_capture_stats stats = bhb_capture_stats(f->capture);
	struct record_result *r = f->result;

	record_unshow();
	foreign_flush(f->foreign, UINT64_MAX, stats.until);
	processes_close(&f->processes, stats.until);
	if (!f->processes.n)
		return say(EXIT_BAD_INPUT, "nothing was recorded, no process hit a probe: %s",
			   record_ended(&f->target));
	explain(f, &stats);
	const struct bht_ctf_count count = processes_count(&f->processes);
	r->events = count.events;
	r->discarded = count.discarded + stats.dropped;
	r->bytes = count.bytes;
	report_probes(f, &stats);
	return f->failed || f->processes.error ? EXIT_BAD_INPUT : EXIT_HEALTHY;
}

int record_bpf(const struct record_request *q, struct record_result *result)
{
	struct bpf f = { .q = q, .result = result, .target = { .pidfd = -1 }, .began_ns = bht_mono_ns() };
	struct bht_refusal refusal;
	struct timespec cpu;

	if (mkdir(q->dir, 0700)) {
		const int error = errno;
		snprintf(refusal.why, sizeof(refusal.why), "%.300s: %s", q->dir, strerror(error));
		return record_refused(&refusal, error);
	}
	snprintf(result->where, sizeof(result->where), "%.500s", q->dir);
	f.processes = (struct processes){ .dir = q->dir, .everybody = q->all, .ticks_per_ns = ticks_per_ns() };
	int code = open_all(&f);
	if (!code) {
		record(&f);
		code = close_all(&f);
	}
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	result->cpu_share = ((double)cpu.tv_sec * 1e9 + (double)cpu.tv_nsec) / (double)(bht_mono_ns() - f.began_ns);
	processes_close(&f.processes, 0);
	bhb_capture_close(f.capture);
	foreign_free(f.foreign);
	record_target_close(&f.target);
	rmdir(q->dir); /* as far as there is nothing in it */
	return code;
}
