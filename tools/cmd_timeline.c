/* SPDX-License-Identifier: MIT */
/*
 * bhtrace timeline: a recording as a picture. It is read twice: once to diagnose it
 * and to see how long it is, once to draw it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bhtrace.h"
#include "options.h"
#include "progress.h"
#include "render.h"
#include "timeline.h"

static const char help[] = "Usage: bhtrace timeline TRACE... -o FILE.html [OPTION]...\n"
			   "       bhtrace timeline TRACE... -o FILE.json [OPTION]...\n\n"
			   "Draws a recording: threads as lanes, loop turns, sleeps and bottom halves, arrows\n"
			   "from schedule over notify to execution, findings and what was lost.\n\n"
			   "  -o, --output=FILE      .html: one page for a browser, which needs no network;\n"
			   "                         .json: for ui.perfetto.dev or chrome://tracing\n"
			   "      --around=NUMBER    only what lies around this finding, numbered as bhtrace\n"
			   "                         diagnose lists them, from 1\n"
			   "      --since=DUR        only what is later; from the first event on (500ms, 10s)\n"
			   "      --until=DUR        only what is earlier\n"
			   "      --late=DUR         what took less is not called late (default: 500ms)\n"
			   "  -h, --help             this text\n\n"
			   "TRACE is a recording, a snapshot, or a directory of LTTng.\n\n"
			   "Exit codes: 0 written, 2 usage, 3 nothing was recorded, 4 not permitted, 5 bad input\n"
			   "or FILE cannot be written.\n";

struct request {
	struct opt_arguments traces;
	const char *output, *around;
	uint64_t since_ns, until_ns, late_ns; /* until 0: the end */
	unsigned finding;                     /* 0: none */
	bool json;
};

/* What both readings give. */
struct work {
	struct bht_recording first, second;
	struct bht_overview overview;
	struct bht_diagnosis *d;
	struct bht_refusal refusal;
};

static bool ends_with(const char *s, const char *end)
{
	const size_t n = strlen(s), m = strlen(end);

	return n > m && !strcmp(s + n - m, end);
}

/* Gives the exit code; R is a negative errno. */
static int refused(const struct work *w, int r)
{
	if (w->refusal.why[0])
		fprintf(stderr, "bhtrace timeline: %s\n", w->refusal.why);
	else
		fprintf(stderr, "bhtrace timeline: %s\n", strerror(-r));
	return r == -EPERM || r == -EACCES ? EXIT_NOT_PERMITTED : EXIT_BAD_INPUT;
}

/* --- first reading ------------------------------------------------------------- */

static int look(const struct request *q, struct work *w)
{
	int r = bht_recording_open((const char *const *)q->traces.at, q->traces.n, &w->first, &w->refusal);

	if (r == 0 && w->first.history) {
		w->first.history = bht_overview_tap(w->first.history, &w->overview);
		r = w->first.history ? 0 : -ENOMEM;
	}
	return r ? r : bht_recording_diagnose(&w->first, q->late_ns, &w->d);
}

/* The finding of this number, counted over all processes, and whose it is. */
static const struct bht_finding *find(const struct work *w, unsigned number, uint32_t *process)
{
	for (uint32_t i = 0; number && i < w->first.n; i++) {
		if (number <= w->d[i].n_findings) {
			*process = i;
			return &w->d[i].findings[number - 1];
		}
		number -= w->d[i].n_findings;
	}
	return NULL;
}

static unsigned n_findings(const struct work *w)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < w->first.n; i++)
		n += w->d[i].n_findings;
	return n;
}

/* --- which part of it ---------------------------------------------------------- */

static uint64_t ticks_after_first(const struct work *w, uint64_t ns)
{
	const double ticks = (double)ns * w->first.ticks_per_ns;

	return ticks < (double)(UINT64_MAX - w->overview.first) ? w->overview.first + (uint64_t)ticks : UINT64_MAX;
}

/* A tenth of it on each side, or a millisecond. */
static void narrow_around(const struct work *w, const struct bht_finding *f, struct bht_timeline *t)
{
	uint64_t from, to;

	bht_finding_times(f, &from, &to);
	uint64_t margin = (to - from) / 10, least = (uint64_t)(1e6 * w->first.ticks_per_ns);
	if (margin < least)
		margin = least;
	if (from > margin && from - margin > t->since)
		t->since = from - margin;
	if (to + margin > to && to + margin < t->until)
		t->until = to + margin;
}

/* A page that would be too large shows what is around the worst finding, or the
 * beginning. */
static void narrow_page(const struct work *w, struct bht_timeline *t)
{
	uint32_t process;
	const struct bht_finding *f = find(w, t->finding ? t->finding : 1, &process);
	uint64_t from = t->since, to = t->since;

	if (f)
		bht_finding_times(f, &from, &to);
	bht_overview_narrow(&w->overview, t->max_events, from, to, &t->since, &t->until);
}

/* 0 or an exit code. */
static int choose(const struct request *q, const struct work *w, struct bht_timeline *t)
{
	t->since = q->since_ns ? ticks_after_first(w, q->since_ns) : 0;
	t->until = q->until_ns ? ticks_after_first(w, q->until_ns) : UINT64_MAX;
	if (q->finding) {
		const struct bht_finding *f = find(w, q->finding, &t->only);
		if (!f)
			return opt_usage("timeline", "--around=%u: there %s %u finding%s", q->finding,
					 n_findings(w) == 1 ? "is" : "are", n_findings(w),
					 n_findings(w) == 1 ? "" : "s");
		narrow_around(w, f, t);
		t->finding = q->finding;
	}
	if (!q->json)
		narrow_page(w, t);
	return 0;
}

/* --- second reading ------------------------------------------------------------ */

static int write_file(const struct request *q, struct work *w, struct bht_timeline *t)
{
	int r = bht_recording_open((const char *const *)q->traces.at, q->traces.n, &w->second, &w->refusal);

	if (r)
		return refused(w, r);
	FILE *out = fopen(q->output, "we");
	if (!out) {
		fprintf(stderr, "bhtrace timeline: %s: %s\n", q->output, strerror(errno));
		return EXIT_BAD_INPUT;
	}
	errno = 0;
	r = (q->json ? bht_timeline_json : bht_timeline_html)(t, w->second.history, out);
	int error = ferror(out) ? errno : 0;
	if (fclose(out) && !error)
		error = errno;
	if (!r && !error)
		return EXIT_HEALTHY;
	unlink(q->output);
	if (error)
		fprintf(stderr, "bhtrace timeline: %s: %s\n", q->output, strerror(error));
	else
		fprintf(stderr, "bhtrace timeline: %s: reading it again: %s\n", q->traces.at[0], strerror(-r));
	return EXIT_BAD_INPUT;
}

static void summarise(const struct request *q, const struct work *w, const struct bht_timeline *t)
{
	const unsigned n = n_findings(w);
	size_t n_threads = 0;
	char name[1024];

	for (size_t i = 0; i < t->n_lanes; i++)
		n_threads += t->lane[i]->drawn && t->lane[i]->tid;
	printf("%s: %" PRIu64 " events of %zu threads, %" PRIu64 " arrows, %u finding%s; %.6f s to %.6f s\n",
	       bht_escape(name, sizeof(name), q->output), t->n_events, n_threads, t->n_arrows, n, n == 1 ? "" : "s",
	       bht_timeline_ns(t, t->begin) / 1e9, bht_timeline_ns(t, t->end) / 1e9);
	if (t->n_before || t->n_after)
		printf("left out: %" PRIu64 " events before, %" PRIu64 " after; --since, --until and --around choose\n",
		       t->n_before, t->n_after);
}

static int draw(const struct request *q, struct work *w)
{
	struct bht_timeline t = { .name = w->first.name,
				  .process = w->first.process,
				  .d = w->d,
				  .n_processes = w->first.n,
				  .overview = &w->overview,
				  .only = BHT_ALL_PROCESSES,
				  .max_events = q->json ? UINT64_MAX : BHT_PAGE_EVENTS,
				  .ticks_per_ns = w->first.ticks_per_ns };
	int code = choose(q, w, &t);

	if (!code)
		code = write_file(q, w, &t);
	progress_end();
	if (!code)
		summarise(q, w, &t);
	bht_timeline_free(&t);
	return code;
}

static int timeline(const struct request *q)
{
	struct work *w = calloc(1, sizeof(*w));
	int code;

	if (!w)
		return refused(&(struct work){ .first = { .n = 0 } }, -ENOMEM);
	progress_begin("reading %s ", q->traces.at[0]);
	int r = look(q, w);
	if (r) {
		progress_end();
		code = refused(w, r);
	} else if (!w->overview.n_events) {
		progress_end();
		fprintf(stderr, "bhtrace timeline: %s: nothing was recorded\n", q->traces.at[0]);
		code = EXIT_UNDECIDABLE;
	} else {
		code = draw(q, w);
	}
	for (unsigned i = 0; w->d && i < w->first.n; i++)
		bht_diagnosis_free(&w->d[i]);
	free(w->d);
	bht_overview_free(&w->overview);
	bht_recording_close(&w->first);
	bht_recording_close(&w->second);
	free(w);
	return code;
}

/* --- the command line ---------------------------------------------------------- */

/* 0 or EXIT_USAGE. */
static int check(struct request *q)
{
	char *end;

	if (!q->traces.n || !q->output)
		return opt_usage("timeline", "both a recording and -o FILE are needed");
	for (unsigned i = 0; i < q->traces.n; i++)
		if (strstr(q->traces.at[i], "://"))
			return opt_usage("timeline", "'%s': a live session can be read once only", q->traces.at[i]);
	q->json = ends_with(q->output, ".json");
	if (!q->json && !ends_with(q->output, ".html"))
		return opt_usage("timeline", "'%s' ends neither in .html nor in .json", q->output);
	if (q->until_ns && q->until_ns <= q->since_ns)
		return opt_usage("timeline", "--until is not later than --since");
	if (!q->around)
		return 0;
	const unsigned long number = strtoul(q->around, &end, 10);
	if (*end || number < 1 || number > 9999 || q->around[0] == '-' || q->around[0] == '+')
		return opt_usage("timeline", "'%s' is no number of a finding", q->around);
	q->finding = (unsigned)number;
	return 0;
}

int cmd_timeline(int argc, char **argv)
{
	struct request q = { .late_ns = BHT_LATE_NS };
	const struct opt options[] = {
		{ OPT_STRING, 'o', "output", &q.output },
		{ OPT_STRING, 0, "around", &q.around },
		{ OPT_DURATION, 0, "since", &q.since_ns },
		{ OPT_DURATION, 0, "until", &q.until_ns },
		{ OPT_DURATION, 0, "late", &q.late_ns },
		{ OPT_ARGUMENTS, 0, NULL, &q.traces },
		{ .kind = OPT_END },
	};
	int code;

	if (!opt_parse(argc, argv, help, options, &code))
		return code;
	code = check(&q);
	return code ? code : timeline(&q);
}
