/* SPDX-License-Identifier: MIT */
/* bhtrace watch: bottom halves and loops of running processes, counted in the kernel;
 * who hangs is found, examined and raised. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bhtrace.h"
#include "clock.h"
#include "foreign_probes.h"
#include "options.h"
#include "record.h"
#include "render.h"
#include "trap.h"
#include "watch.h"

static const uint64_t MS = 1000000;
enum { LOOKS = 8 };

static const char help[] = "Usage: bhtrace watch [OPTION]... -p PID\n"
			   "       bhtrace watch [OPTION]... --all\n"
			   "       bhtrace watch [OPTION]... [--] COMMAND...\n\n"
			   "Watches bottom halves while they run: how often, how late, what is overdue. The\n"
			   "kernel counts, no event leaves it. What is overdue is diagnosed, without stopping\n"
			   "it, and raised when it hangs.\n\n"
			   "  -p, --pid=PID       a process that runs, and its children\n"
			   "      --all           all processes with probes, now and later\n"
			   "      --for=DUR       end after that time (10s, 2m, 1h)\n"
			   "      --interval=DUR  between two tables (default: 1s)\n"
			   "      --overdue=DUR   what waits for longer is looked at (default: 500ms)\n"
			   "      --adapter=FILE  also loops that FILE describes (docs/adapters.md)\n"
			   "      --plain         lines of text; the default when stdout is no terminal\n"
			   "      --json          one JSON object a line, schema bhtrace.watch/1\n"
			   "      --metrics=FILE  write OpenMetrics text there, every interval\n"
			   "      --on-hang=WHAT  snapshot:DIR keeps the evidence in DIR; anything else is a\n"
			   "                      command for sh, with BHTRACE_PID, BHTRACE_RULE and\n"
			   "                      BHTRACE_SENTENCE in its environment\n"
			   "      --color=WHEN    auto, always or never\n"
			   "  -h, --help          this text\n\n"
			   "Keys: q quit, s sort, p pause, h help, arrows scroll.\n\n"
			   "Exit codes: 0 nothing hung, 1 a hang was raised, 2 usage, 3 a suspicion could not be\n"
			   "decided, 4 not permitted, 5 no such process or command, or FILE or DIR not writable.\n";

struct watch {
	const struct watch_options *o;
	const struct watch_output *out;
	struct bhb_monitor *monitor;
	struct foreign *foreign;
	struct watch_hangs *hangs;
	struct record_target target;
	struct watch_view view;
	int signals;
	uint64_t began_ns, shown_ns;
	bool metrics_failed, effect_said;
};

/* --- what is told ------------------------------------------------------------------------- */

static void on_event(void *arg, const struct watch_event *e)
{
	const struct watch *w = arg;

	w->out->event(e);
}

static void said(struct watch *w, const char *sentence)
{
	struct watch_event e = { .kind = WATCH_SAID, .why = "", .rule = "" };

	bht_escape(e.sentence, sizeof(e.sentence), sentence);
	w->out->event(&e);
}

static void on_overdue(void *arg, const struct bhb_key *key, enum bhb_overdue why, uint64_t waited_ns,
		       const struct bhb_bh *bh)
{
	const struct watch *w = arg;

	watch_suspect(w->hangs, key, why, waited_ns, bh);
}

static void on_begins(void *arg, uint32_t pid)
{
	const struct watch *w = arg;

	watch_begins(w->hangs, pid);
}

static void on_ends(void *arg, uint32_t pid)
{
	const struct watch *w = arg;

	watch_ends(w->hangs, pid);
	foreign_forget(w->foreign, pid);
}

/* --- loops that were never instrumented ------------------------------------------------------ */

static int probe(void *arg, uint32_t pid, const struct bhb_probe *probes, size_t n, char why[BHB_WHY])
{
	return bhb_monitor_probe(((struct watch *)arg)->monitor, pid, probes, n, why);
}

static int know(void *arg, uint32_t pid, uint64_t callback)
{
	return bhb_monitor_know(((struct watch *)arg)->monitor, pid, callback);
}

static bool is_probed(const void *arg, uint32_t pid)
{
	return bhb_monitor_probed(((const struct watch *)arg)->monitor, pid);
}

static int on_look(void *arg, uint32_t pid, char why[BHB_WHY])
{
	return foreign_look(((struct watch *)arg)->foreign, pid, why);
}

/* --- opening -------------------------------------------------------------------------------- */

static int open_monitor(struct watch *w)
{
	const struct bhb_monitor_options o = { .everybody = w->o->all, .overdue_ns = w->o->overdue_ns };
	const struct bhb_monitor_sink sink = {
		.overdue = on_overdue, .begins = on_begins, .ends = on_ends, .look = on_look, .arg = w
	};
	const struct foreign_ops ops = { probe, know, is_probed, .calls = false };
	char why[BHB_WHY] = "";

	w->foreign = foreign_new(&ops, w, &(struct foreign_sink){ .arg = NULL });
	w->monitor = w->foreign ? bhb_monitor_open(&o, &sink, why) : NULL;
	if (w->monitor)
		return EXIT_HEALTHY;
	const int error = errno;
	fprintf(stderr,
		"bhtrace: %s\nWithout it: bhtrace snapshot -p PID and bhtrace diagnose -p PID look at a process "
		"once, bhtrace record --via=flight --snapshot waits for its hang.\n",
		*why ? why : strerror(error));
	return error == ENOMEM ? EXIT_UNDECIDABLE : EXIT_NOT_PERMITTED;
}

/* The screen is no place for what a command prints. */
static int hold_command(struct watch *w)
{
	const struct record_request q = { .pid = w->o->pid, .command = w->o->command };
	int kept[2] = { -1, -1 };

	fflush(stdout);
	if (w->out == &watch_screen && w->o->command) {
		const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		for (int i = 0; null >= 0 && i < 2; i++) {
			kept[i] = fcntl(i + 1, F_DUPFD_CLOEXEC, 3);
			dup2(null, i + 1);
		}
		if (null >= 0)
			close(null);
	}
	const int code = record_target_hold(&q, NULL, &w->target);
	for (int i = 0; i < 2; i++)
		if (kept[i] >= 0) {
			dup2(kept[i], i + 1);
			close(kept[i]);
		}
	return code;
}

/* Follows who is to be watched. An exit code. */
static int follow(struct watch *w)
{
	char why[BHB_WHY] = "", safe[2 * BHB_WHY];

	if (w->o->all)
		return EXIT_HEALTHY;
	int rc = bhb_monitor_follow(w->monitor, w->target.pid, why);
	if (rc && rc != -ENOENT) {
		fprintf(stderr, "bhtrace: %s\n", bht_escape(safe, sizeof(safe), *why ? why : strerror(-rc)));
		return rc == -EPERM || rc == -EACCES ? EXIT_NOT_PERMITTED : EXIT_BAD_INPUT;
	}
	return record_target_start(&w->target);
}

/* Before children are made: they take over what is blocked here, and undo it. */
static int catch_signals(struct watch *w)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD, SIGWINCH };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaddset(&set, signals[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	w->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return w->signals < 0 ? EXIT_UNDECIDABLE : EXIT_HEALTHY;
}

/* --- watching --------------------------------------------------------------------------------- */

/* Whether none of them asks to end. */
static bool take_signals(struct watch *w)
{
	struct signalfd_siginfo info;
	bool on = true;

	while (read(w->signals, &info, sizeof(info)) == sizeof(info))
		on &= info.ssi_signo == SIGCHLD || info.ssi_signo == SIGWINCH;
	return on;
}

static void show(struct watch *w)
{
	struct watch_view view;
	int rc = watch_view_take(w->monitor, w->hangs, &w->view, &view);

	if (rc) {
		watch_view_free(&view);
		said(w, strerror(-rc));
		return;
	}
	watch_view_free(&w->view);
	w->view = view;
	w->out->table(&view);
	rc = w->o->metrics ? watch_metrics_write(w->o->metrics, &view) : 0;
	if (rc && !w->metrics_failed) {
		char sentence[600];
		snprintf(sentence, sizeof(sentence), "%.500s: %s", w->o->metrics, strerror(-rc));
		said(w, sentence);
	}
	w->metrics_failed = rc != 0;
}

static bool is_over(struct watch *w)
{
	if (w->o->for_ns && bht_mono_ns() >= w->began_ns + w->o->for_ns)
		return true;
	return !w->o->all && record_target_exited(&w->target);
}

/* Sleeps until there is something to do, MS at most. */
static void wait_for_work(struct watch *w, int ms)
{
	struct pollfd fds[LOOKS + 4] = {
		{ .fd = w->signals, .events = POLLIN },
		{ .fd = bhb_monitor_fd(w->monitor), .events = POLLIN },
		{ .fd = w->o->all ? -1 : w->target.pidfd, .events = POLLIN },
		{ .fd = w->out->input ? STDIN_FILENO : -1, .events = POLLIN },
	};
	const unsigned n = watch_hangs_fds(w->hangs, fds + 4, LOOKS);

	poll(fds, 4 + n, ms);
}

static int until_ms(uint64_t ns)
{
	const uint64_t now = bht_mono_ns();

	return ns > now ? (int)((ns - now) / MS) + 1 : 0;
}

/* Once, when there are such loops. */
static void say_effect(struct watch *w)
{
	char sentence[1200];

	if (w->effect_said || !foreign_modules(w->foreign)[0])
		return;
	snprintf(sentence, sizeof(sentence), "probes at functions of %s: " FOREIGN_EFFECT, foreign_modules(w->foreign));
	said(w, sentence);
	w->effect_said = true;
}

static void watch(struct watch *w)
{
	char why[BHB_WHY], before[BHB_WHY] = "";

	while (!is_over(w) && take_signals(w) && (!w->out->input || w->out->input())) {
		if (bhb_monitor_round(w->monitor, why) && *why && strcmp(why, before)) {
			said(w, why);
			memcpy(before, why, sizeof(before));
		}
		say_effect(w);
		int ms = watch_hangs_round(w->hangs);
		if (bht_mono_ns() >= w->shown_ns + w->o->interval_ns) {
			w->shown_ns = bht_mono_ns();
			show(w);
		}
		const int table_ms = until_ms(w->shown_ns + w->o->interval_ns);
		const int end_ms = w->o->for_ns ? until_ms(w->began_ns + w->o->for_ns) : table_ms;
		ms = ms < table_ms ? ms : table_ms;
		wait_for_work(w, ms < end_ms ? ms : end_ms);
	}
	show(w);
}

static int run(struct watch *w)
{
	int code = catch_signals(w);

	if (!code && !w->o->all)
		code = hold_command(w);
	if (!code)
		code = open_monitor(w);
	if (code)
		return code;
	/* What rates are made from. Measuring a trap takes half a second, and more on a busy machine: not later. */
	const struct watch_view none = { .trap_ns = trap_ns() };
	if (watch_view_take(w->monitor, w->hangs, &none, &w->view))
		return EXIT_UNDECIDABLE;
	code = w->out->open(w->o);
	if (!code)
		code = follow(w);
	w->began_ns = w->shown_ns = bht_mono_ns();
	if (!code) {
		watch(w);
		code = watch_hangs_code(w->hangs);
	}
	w->out->close();
	return code;
}

static int check(struct watch_options *o)
{
	static const char snapshot[] = "snapshot:";
	const int given = !!o->pid + o->all + !!o->command;

	if (given != 1)
		return opt_usage("watch", given ? "one thing at a time: -p PID, --all or a command"
						: "what? -p PID, --all or a command is needed");
	if (o->plain && o->json)
		return opt_usage("watch", "one form at a time: --plain or --json");
	if (!o->interval_ns || !o->overdue_ns)
		return opt_usage("watch", "--interval and --overdue want more than 0");
	if (o->on_hang && !strncmp(o->on_hang, snapshot, strlen(snapshot))) {
		o->dir = o->on_hang + strlen(snapshot);
		o->on_hang = NULL;
		if (!*o->dir)
			return opt_usage("watch", "--on-hang=snapshot: wants a directory");
	}
	return 0;
}

/* What is to be written later had better be writable. */
static int check_paths(const struct watch_options *o)
{
	const struct watch_view empty = { .n_rows = 0 };
	int rc = o->metrics ? watch_metrics_write(o->metrics, &empty) : 0;
	const char *path = o->metrics;
	char safe[4096];

	if (!rc && o->dir) {
		path = o->dir;
		rc = mkdir(o->dir, 0700) && errno != EEXIST ? -errno : 0;
		if (!rc && access(o->dir, W_OK | X_OK))
			rc = -errno;
	}
	if (!rc)
		return 0;
	fprintf(stderr, "bhtrace: %s: %s\n", bht_escape(safe, sizeof(safe), path), strerror(-rc));
	return EXIT_BAD_INPUT;
}

int cmd_watch(int argc, char **argv)
{
	struct watch_options o = { .interval_ns = 1000 * MS, .overdue_ns = 500 * MS };
	const struct opt options[] = {
		{ OPT_PID, 'p', "pid", &o.pid },
		{ OPT_FLAG, 0, "all", &o.all },
		{ OPT_DURATION, 0, "for", &o.for_ns },
		{ OPT_DURATION, 0, "interval", &o.interval_ns },
		{ OPT_DURATION, 0, "overdue", &o.overdue_ns },
		{ OPT_FLAG, 0, "plain", &o.plain },
		{ OPT_FLAG, 0, "json", &o.json },
		{ OPT_STRING, 0, "metrics", &o.metrics },
		{ OPT_STRING, 0, "on-hang", &o.on_hang },
		{ OPT_COLOR, 0, "color", &o.color },
		{ OPT_ADAPTER, 0, "adapter", NULL },
		{ OPT_COMMAND, 0, NULL, &o.command },
		{ .kind = OPT_END },
	};
	struct watch w = { .o = &o, .target = { .pidfd = -1, .also = -1, .gate = -1, .said = -1 }, .signals = -1 };
	int code;

	if (!opt_parse(argc, argv, help, options, &code))
		return code;
	code = check(&o);
	if (!code)
		code = check_paths(&o);
	if (code)
		return code;
	const bool screen = !o.plain && !o.json && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	w.out = o.json ? &watch_json : screen ? &watch_screen : &watch_plain;
	w.hangs = watch_hangs_new(&o, on_event, &w);
	code = w.hangs ? run(&w) : EXIT_UNDECIDABLE;
	watch_hangs_free(w.hangs);
	watch_view_free(&w.view);
	bhb_monitor_close(w.monitor);
	foreign_free(w.foreign);
	record_target_close(&w.target);
	if (w.signals >= 0)
		close(w.signals);
	return code;
}
