/* SPDX-License-Identifier: MIT */
/* bhtrace report: how long bottom halves waited, and for what */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bhtrace.h"
#include "options.h"
#include "patient.h"
#include "progress.h"
#include "report.h"

enum { WORST = 10, WORST_MAX = 1000 };

static const char help[] = "Usage: bhtrace report TRACE... [OPTION]...\n\n"
			   "Measures how long bottom halves waited from their schedule to their execution, what\n"
			   "they waited for, and which of them only luck woke.\n\n"
			   "      --since=TIME    count from then on: 1.5s, 300ms, 2m after the first event\n"
			   "      --until=TIME    count until then\n"
			   "      --bh=NAME       only bottom halves of that name; * and ? stand for others\n"
			   "      --worst=N       show the N worst gaps (default: 10)\n"
			   "      --json          print JSON, schema bhtrace.report/1\n"
			   "      --folded        print folded stacks in us, for a flame graph\n"
			   "      --color=WHEN    auto, always or never\n"
			   "  -h, --help          this text\n\n"
			   "TRACE is a directory that bhtrace snapshot or bhtrace record wrote, one with\n"
			   "traces of LTTng, or a live session: net://HOST/host/NAME/SESSION.\n\n"
			   "Exit codes: 0 measured, or nothing ran, 2 usage, 3 lost events hide every gap,\n"
			   "4 not permitted, 5 no trace, or one that cannot be read.\n";

struct request {
	struct opt_arguments traces;
	const char *since, *until, *worst;
	bool json, folded, color;
	struct bht_report report;
};

/* Decimal time with a unit in ns; false when it is none. */
static bool parse_time(const char *s, double *ns)
{
	static const struct {
		const char *unit;
		double ns;
	} units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 }, { "m", 60e9 }, { "h", 3600e9 } };
	const char *end = s + strspn(s, "0123456789.");
	char *stop;

	*ns = strtod(s, &stop);
	if (stop != end || end == s)
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (!strcmp(end, units[i].unit)) {
			*ns *= units[i].ns;
			return *ns < 1e18;
		}
	return false;
}

static bool parse_count(const char *s, unsigned max, unsigned *n)
{
	char *end;
	unsigned long value = strtoul(s, &end, 10);

	*n = (unsigned)value;
	return isdigit((unsigned char)*s) && !*end && value <= max;
}

/* What the options allow; 0 or EXIT_USAGE. */
static int check(struct request *q)
{
	static const char no_time[] = "'%s' is no time; write it like 300ms, 1.5s or 2m";
	struct bht_report *r = &q->report;

	if (!q->traces.n)
		return opt_usage("report", "what? a trace is needed");
	if (q->since && !parse_time(q->since, &r->since_ns))
		return opt_usage("report", no_time, q->since);
	if (q->until && !parse_time(q->until, &r->until_ns))
		return opt_usage("report", no_time, q->until);
	if (q->until && r->until_ns <= r->since_ns)
		return opt_usage("report", "--until must be after --since, and after 0");
	if (q->worst && !parse_count(q->worst, WORST_MAX, &r->how.worst))
		return opt_usage("report", "--worst wants a number up to %d, not '%s'", WORST_MAX, q->worst);
	if (q->json && q->folded)
		return opt_usage("report", "one form at a time: --json or --folded");
	return 0;
}

static int open_and_read(struct request *q, struct bht_recording *rec, struct bht_refusal *refusal)
{
	int r = bht_recording_open((const char *const *)q->traces.at, q->traces.n, rec, refusal);

	return r ? r : bht_report_read(&q->report, rec);
}

static bool is_live(const struct opt_arguments *traces)
{
	for (unsigned i = 0; i < traces->n; i++)
		if (!strncmp(traces->at[i], "net", 3) && strstr(traces->at[i], "://"))
			return true;
	return false;
}

/* Once more when losses came to light that reach back; a live session is gone then. */
static int read_all(struct request *q, struct bht_recording *rec, struct bht_refusal *refusal)
{
	progress_begin("reading %s ", q->traces.at[0]);
	int r = open_and_read(q, rec, refusal);
	if (r == 0 && bht_report_wants_again(&q->report) && !is_live(&q->traces)) {
		bht_report_again(&q->report);
		bht_recording_close(rec);
		r = open_and_read(q, rec, refusal);
	}
	progress_end();
	return r;
}

static int render(const struct request *q)
{
	const struct bht_report *report = &q->report;
	struct bht_row total = { 0 };
	int r = q->json     ? bht_report_json(stdout, report)
		: q->folded ? bht_report_folded(stdout, report)
			    : bht_report_text(stdout, report, q->color, opt_width(stdout));

	if (r == 0)
		r = bht_report_total(report, &total);
	int code = bht_report_blind(&total) ? EXIT_UNDECIDABLE : EXIT_HEALTHY;
	bht_row_clear(&total);
	if (r == 0)
		return code;
	fprintf(stderr, "bhtrace: cannot write the report: %s\n", strerror(-r));
	return r == -ENOMEM ? EXIT_UNDECIDABLE : EXIT_BAD_INPUT;
}

static int report(struct request *q)
{
	struct bht_recording rec = { .stop = patient_catch_interrupt() };
	struct patient p = { 0 };
	int code, r = read_all(q, &rec, &p.refusal);

	if (r == 0 && rec.n == 0) {
		fprintf(stderr, "bhtrace: %s: no event of ours in it\n", q->traces.at[0]);
		code = EXIT_UNDECIDABLE;
	} else {
		code = r == 0 ? render(q) : patient_refused(&p, -r);
	}
	bht_report_free(&q->report);
	bht_recording_close(&rec);
	return code;
}

int cmd_report(int argc, char **argv)
{
	struct request q = { .report = { .how = { .worst = WORST } } };
	const struct opt options[] = {
		{ OPT_ARGUMENTS, 0, NULL, &q.traces },
		{ OPT_STRING, 0, "since", &q.since },
		{ OPT_STRING, 0, "until", &q.until },
		{ OPT_STRING, 0, "bh", &q.report.how.glob },
		{ OPT_STRING, 0, "worst", &q.worst },
		{ OPT_FLAG, 0, "json", &q.json },
		{ OPT_FLAG, 0, "folded", &q.folded },
		{ OPT_COLOR, 0, "color", &q.color },
		{ .kind = OPT_END },
	};
	int code;

	if (!opt_parse(argc, argv, help, options, &code))
		return code;
	code = check(&q);
	return code ? code : report(&q);
}
