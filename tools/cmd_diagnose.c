/* SPDX-License-Identifier: MIT */
/*
 * bhtrace diagnose: evidence first, twice, then the analysis. Nothing is
 * stopped; see analysis/sources/live.h.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bhtrace.h"
#include "diagnosis.h"
#include "live.h"
#include "options.h"
#include "status.h"

/* Between two samples; and how long a picture that will not settle is retried
 * before it is called undecidable. */
enum { GAP_MS = 20, SETTLE_MS = 2000, WATCH_GAP_MS = 100 };

static const char help[] = "Usage: bhtrace diagnose -p PID [OPTION]...\n\n"
			   "Says whether a wakeup of the process was lost or its loop is stuck, by which\n"
			   "mechanism, how sure that is, and what fixes it. The process is not stopped.\n\n"
			   "  -p, --pid=PID          the process\n"
			   "      --watch-for=DUR    look until there is a finding or DUR is over (10s, 2m)\n"
			   "      --json             print JSON, schema bhtrace.diagnosis/1\n"
			   "      --all              also list what nothing is wrong with\n"
			   "      --color=WHEN       auto, always or never\n"
			   "  -h, --help             this text\n\n"
			   "Exit codes: 0 healthy, 1 finding, 2 usage, 3 undecidable, 4 not permitted,\n"
			   "5 no such process or not instrumented.\n";

struct request {
	uint32_t pid;
	uint64_t watch_ms; /* 0: one diagnosis */
	bool json;
	struct bht_render render;
};

struct patient {
	struct bht_live *live;
	struct bht_evidence ev;
	struct bht_diagnosis d;
	struct bht_refusal refusal;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static void nap(unsigned ms)
{
	struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

/* One look: history between two samples, so that a loop that slept through
 * both did so while the rings were copied. */
static int look(struct patient *p)
{
	bht_sample_free(&p->ev.last);
	struct bht_source *history = bht_live_history(p->live, &p->ev, &p->refusal);
	if (!history)
		return -errno;
	int r = bht_live_sample(p->live, &p->ev, &p->ev.last, &p->refusal);
	if (r == 0) {
		bht_diagnosis_free(&p->d);
		r = bht_diagnose(&p->ev, history, &p->d);
	}
	history->close(history);
	return r;
}

static void start_over(struct patient *p)
{
	bht_sample_free(&p->ev.first);
	p->ev.first = p->ev.last;
	p->ev.last = (struct bht_sample){ 0 };
}

/* Samples until the picture settles. A verdict that only time can decide
 * (a producer on its way, a thread without CPU) is looked at again. */
static int examine(struct patient *p)
{
	uint64_t deadline = now_ms() + SETTLE_MS;
	int r = bht_live_sample(p->live, &p->ev, &p->ev.first, &p->refusal);

	while (r == 0) {
		nap(GAP_MS);
		r = look(p);
		if (r != 0)
			break;
		enum bht_settled settled = bht_settled(&p->ev);
		if ((settled == BHT_SETTLED && p->d.verdict != BHT_UNDECIDABLE) || now_ms() >= deadline || interrupted)
			break;
		if (settled != BHT_LOOK_AGAIN)
			start_over(p);
	}
	return r;
}

static int watch(struct patient *p, uint64_t watch_ms)
{
	uint64_t deadline = now_ms() + watch_ms;
	bool tell = isatty(STDERR_FILENO);
	int r;

	for (;;) {
		r = examine(p);
		if (r != 0 || p->d.n_findings || now_ms() >= deadline || interrupted)
			break;
		if (tell)
			fprintf(stderr, "\rno hang so far, %llu s left ",
				(unsigned long long)(deadline - now_ms()) / 1000);
		nap(WATCH_GAP_MS);
		bht_sample_free(&p->ev.first);
	}
	if (tell)
		fprintf(stderr, "\r\033[K");
	return r;
}

static int report_refusal(const struct request *q, const struct patient *p, int error)
{
	if (p->refusal.why[0])
		fprintf(stderr, "bhtrace: %s\n", p->refusal.why);
	else
		fprintf(stderr, "bhtrace: process %u: %s\n", q->pid, strerror(error));
	switch (error) {
	case EPERM:
	case EACCES:
		return EXIT_NOT_PERMITTED;
	case ECANCELED: /* it exited while it was read */
	case ENOMEM:
		return EXIT_UNDECIDABLE;
	default:
		return EXIT_BAD_INPUT;
	}
}

static int render(const struct request *q, struct patient *p)
{
	int r = q->json ? bht_render_json(stdout, &p->ev, &p->d) : bht_render_text(stdout, &p->ev, &p->d, &q->render);

	if (r != 0 || fflush(stdout) != 0) {
		fprintf(stderr, "bhtrace: cannot write the report: %s\n", strerror(r ? -r : errno));
		return EXIT_UNDECIDABLE;
	}
	return bht_exit_code(p->d.verdict);
}

static int diagnose(const struct request *q)
{
	struct patient p = { .ev = { .live = true } };
	int status, r;

	signal(SIGINT, on_interrupt);
	p.live = bht_live_open(q->pid, &p.refusal);
	if (!p.live)
		return report_refusal(q, &p, errno);
	r = q->watch_ms ? watch(&p, q->watch_ms) : examine(&p);
	/* It was there when it was opened: it did not refuse, it went away. */
	if (r == -ESRCH)
		r = -ECANCELED;
	status = r == 0 ? render(q, &p) : report_refusal(q, &p, -r);
	bht_live_close(p.live);
	bht_diagnosis_free(&p.d);
	bht_evidence_free(&p.ev);
	return status;
}

/* EXIT_HEALTHY to go on, or the code to leave with; -1 after --help. */
static int parse(int argc, char **argv, struct request *q)
{
	static const struct option options[] = {
		{ "pid", required_argument, NULL, 'p' },
		{ "json", no_argument, NULL, 'j' },
		{ "all", no_argument, NULL, 'a' },
		{ "color", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "watch-for", required_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	enum opt_color color = OPT_COLOR_AUTO;
	uint64_t watch_ns = 0;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":p:h", options, NULL)) != -1) {
		if (c == 'h')
			return fputs(help, stdout), -1;
		if (c == 'p' && opt_pid(optarg, &q->pid))
			return opt_usage(argv[0], "'%s' is no process id", optarg);
		if (c == 'w' && opt_duration(optarg, &watch_ns))
			return opt_usage(argv[0], "'%s' is no duration; write it like 500ms, 10s or 2m", optarg);
		if (c == 'c' && opt_color(optarg, &color))
			return opt_usage(argv[0], "--color wants auto, always or never, not '%s'", optarg);
		if (c == '?' || c == ':')
			return opt_refused(argv, c);
		q->json |= c == 'j';
		q->render.all |= c == 'a';
	}
	if (optind < argc)
		return opt_surplus(argv, optind);
	if (!q->pid)
		return opt_usage(argv[0], "which process? -p PID is needed");
	q->watch_ms = (watch_ns + 999999) / 1000000;
	q->render.color = opt_use_color(color, stdout);
	q->render.width = opt_width(stdout);
	return EXIT_HEALTHY;
}

int cmd_diagnose(int argc, char **argv)
{
	struct request q = { 0 };
	int code = parse(argc, argv, &q);

	if (code != EXIT_HEALTHY)
		return code < 0 ? EXIT_HEALTHY : code;
	return diagnose(&q);
}
