/* SPDX-License-Identifier: MIT */
/*
 * bhtrace diagnose: evidence first, twice when it is alive, then the analysis.
 * Nothing is stopped for it, see analysis/sources/live.h; call stacks, which take
 * a stop, come last.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bhtrace.h"
#include "callstacks.h"
#include "core.h"
#include "json_put.h"
#include "options.h"
#include "patient.h"
#include "progress.h"
#include "recording.h"
#include "render.h"
#include "ringdir.h"
#include "witness.h"

enum { WATCH_GAP_MS = 100 };

static const char help[] = "Usage: bhtrace diagnose -p PID [OPTION]...\n"
			   "       bhtrace diagnose --core=CORE [--exe=FILE] [OPTION]...\n"
			   "       bhtrace diagnose --ring=DIR [-p PID] [OPTION]...\n"
			   "       bhtrace diagnose TRACE... [OPTION]...\n\n"
			   "Says whether a wakeup was lost or late, or a loop is stuck, by which mechanism,\n"
			   "how sure that is, and what fixes it. A live process is not stopped for it.\n\n"
			   "  -p, --pid=PID          a live process; with --ring: which of those in DIR\n"
			   "      --core=CORE        a core file, of the kernel or of gcore\n"
			   "      --exe=FILE         the program that dumped it, if it is not where it was\n"
			   "      --ring=DIR         the ring files of a process that was killed\n"
			   "                         (it ran with BH_FLIGHT=file:DIR)\n"
			   "      --adapter=FILE     how to read loops that were never instrumented, beside those\n"
			   "                         that are known already; may be repeated\n"
			   "      --witness=EXPR     true when work is undone: 'produced != consumed'\n"
			   "      --watch-for=DUR    look until there is a finding or DUR is over (10s, 2m)\n"
			   "      --late=DUR         what took less is not called late (default: 500ms)\n"
			   "      --stacks           then also show the call stacks of all threads, which stops\n"
			   "                         a live process for a moment and may end its hang\n"
			   "      --json             print JSON, schema bhtrace.diagnosis/1\n"
			   "      --all              also list what nothing is wrong with\n"
			   "      --color=WHEN       auto, always or never\n"
			   "  -h, --help             this text\n\n"
			   "TRACE is a directory that bhtrace snapshot or bhtrace record wrote, one with\n"
			   "traces of LTTng, or a live session: net://HOST/host/NAME/SESSION. Several\n"
			   "processes are diagnosed one by one, the worst first.\n\n"
			   "Exit codes: 0 healthy, 1 finding, 2 usage, 3 undecidable, 4 not permitted,\n"
			   "5 bad input: no such process, no loop that is known, a file that cannot be read.\n";

struct request {
	uint32_t pid;
	const char *core, *exe, *ring;
	struct opt_arguments traces;
	uint64_t watch_ns; /* 0: one diagnosis */
	uint64_t late_ns;
	bool json, stacks;
	struct bht_render render;
	struct bht_claim witness; /* text "": was not given */
};

static int watch(struct patient *p, uint64_t watch_ms)
{
	uint64_t deadline = patient_now_ms() + watch_ms;
	bool tell = isatty(STDERR_FILENO);
	int r;

	for (;;) {
		r = patient_examine(p);
		if (r != 0 || p->d.n_findings || patient_now_ms() >= deadline || patient_interrupted())
			break;
		if (tell)
			fprintf(stderr, "\rno hang so far, %llu s left ",
				(unsigned long long)(deadline - patient_now_ms()) / 1000);
		patient_nap(WATCH_GAP_MS);
	}
	if (tell)
		fprintf(stderr, "\r\033[K");
	return r;
}

static int diagnose_live(const struct request *q, struct patient *p)
{
	int r = patient_open(p, q->pid, q->late_ns);

	if (r == 0 && q->witness.text[0])
		r = bht_live_witness(p->live, &q->witness, &p->refusal);
	if (r != 0)
		return r;
	return q->watch_ns ? watch(p, (q->watch_ns + 999999) / 1000000) : patient_examine(p);
}

static int open_kept(const struct request *q, struct patient *p, struct bht_source **history)
{
	if (q->core)
		return bht_core_open(q->core, q->exe, &p->ev, history, &p->refusal);
	return bht_ringdir_open(q->ring, q->pid, &p->ev, history, &p->refusal);
}

static int diagnose_kept(const struct request *q, struct patient *p)
{
	progress_begin("reading %s ", q->core ? q->core : q->ring);
	int r = open_kept(q, p, &p->history);
	if (r == 0)
		r = bht_diagnose(&p->ev, p->history, q->late_ns, &p->d);
	progress_end();
	return r;
}

/* After the diagnosis is made: of a process this takes a stop of each thread. */
static void collect_stacks(const struct request *q, struct patient *p, struct bht_stacks *stacks)
{
	int r;

	if (!q->core)
		fprintf(stderr, "bhtrace: process %u is stopped for its stacks; a hung loop may go on after that\n",
			q->pid);
	progress_begin("walking stacks ");
	r = q->core ? bht_stacks_core(q->core, q->exe, stacks, &p->refusal)
		    : bht_stacks_collect(q->pid, stacks, &p->refusal);
	progress_end();
	/* Only as long as it lives is the number its own. */
	if (p->live && !bht_live_alive(p->live)) {
		bht_stacks_free(stacks);
		*stacks = (struct bht_stacks){ 0 };
		r = -ESRCH;
	}
	for (size_t i = 0; i < stacks->n; i++)
		p->ev.stopped_us += stacks->threads[i].stopped_us;
	if (r != 0)
		bht_unseen(&p->ev, "call stacks: %s", p->refusal.why[0] ? p->refusal.why : strerror(-r));
}

static int render_json(const struct patient *p, const struct bht_stacks *stacks)
{
	json_t *root = bht_diagnosis_json(&p->ev, &p->d);
	bool failed = root && stacks && PUT(root, "stacks", callstacks_json(stacks));

	return print_json(stdout, unless(root, failed));
}

static int render(const struct request *q, const struct patient *p, const struct bht_stacks *stacks)
{
	int r = q->json ? render_json(p, stacks) : bht_render_text(stdout, &p->ev, &p->d, &q->render);

	if (stacks && !q->json)
		callstacks_print(stacks, &p->ev, q->render.color);
	if (r != 0 || fflush(stdout) != 0) {
		fprintf(stderr, "bhtrace: cannot write the report: %s\n", strerror(r ? -r : errno));
		return EXIT_UNDECIDABLE;
	}
	return bht_exit_code(p->d.verdict);
}

/* --- recordings ---------------------------------------------------------------- */

static int worse(enum bht_verdict a, enum bht_verdict b)
{
	/* Undecidable stands above healthy, below anything found. */
	static const int rank[] = {
		[BHT_HEALTHY] = 0, [BHT_UNDECIDABLE] = 1, [BHT_LATE] = 2, [BHT_STUCK] = 3, [BHT_LOST] = 4
	};

	return rank[a] - rank[b];
}

/* The index of the worst of N that was not told yet. */
static unsigned worst(const struct bht_diagnosis *d, const bool *told, unsigned n)
{
	unsigned best = n;

	for (unsigned i = 0; i < n; i++)
		if (!told[i] && (best == n || worse(d[i].verdict, d[best].verdict) > 0))
			best = i;
	return best;
}

static int print_several(const struct request *q, const struct bht_recording *rec, const struct bht_diagnosis *d,
			 const unsigned *order)
{
	json_t *list = json_array();
	int r = list ? 0 : -ENOMEM;

	for (unsigned i = 0; i < rec->n && r == 0; i++) {
		const struct bht_evidence *ev = &rec->process[order[i]].ev;
		if (q->json)
			r = json_array_append_new(list, bht_diagnosis_json(ev, &d[order[i]])) ? -ENOMEM : 0;
		else if (i == 0 || putchar('\n') != EOF)
			r = bht_render_text(stdout, ev, &d[order[i]], &q->render);
	}
	if (r == 0 && q->json) {
		json_t *all = rec->n == 1 ? json_incref(json_array_get(list, 0))
					  : json_pack("{s:s, s:O}", "schema", "bhtrace.diagnoses/1", "processes", list);
		r = print_json(stdout, all);
	}
	json_decref(list);
	return r;
}

static int print_recording(const struct request *q, const struct bht_recording *rec, const struct bht_diagnosis *d)
{
	bool *told = calloc(rec->n + 1, sizeof(*told));
	unsigned *order = calloc(rec->n + 1, sizeof(*order));
	int r = told && order ? 0 : -ENOMEM;

	for (unsigned i = 0; i < rec->n && r == 0; i++) {
		order[i] = worst(d, told, rec->n);
		told[order[i]] = true;
	}
	if (r == 0)
		r = print_several(q, rec, d, order);
	const int code = r == 0 ? bht_exit_code(d[order[0]].verdict) : EXIT_UNDECIDABLE;
	free(told);
	free(order);
	if (r == 0 && fflush(stdout) == 0)
		return code;
	fprintf(stderr, "bhtrace: cannot write the report: %s\n", strerror(r ? -r : errno));
	return EXIT_UNDECIDABLE;
}

static int diagnose_recording(const struct request *q)
{
	struct bht_recording rec = { .stop = patient_catch_interrupt() };
	struct bht_diagnosis *d = NULL;
	struct patient p = { 0 };
	int code;

	progress_begin("reading %s ", q->traces.at[0]);
	int r = bht_recording_open((const char *const *)q->traces.at, q->traces.n, &rec, &p.refusal);
	if (r == 0)
		r = bht_recording_diagnose(&rec, q->late_ns, &d);
	progress_end();
	if (r == 0 && rec.n == 0) {
		fprintf(stderr, "bhtrace: %s: no event of ours in it\n", q->traces.at[0]);
		code = EXIT_UNDECIDABLE;
	} else {
		code = r == 0 ? print_recording(q, &rec, d) : patient_refused(&p, -r);
	}
	for (unsigned i = 0; d && i < rec.n; i++)
		bht_diagnosis_free(&d[i]);
	free(d);
	bht_recording_close(&rec);
	return code;
}

static int diagnose(const struct request *q)
{
	struct patient p = { 0 };
	struct bht_stacks stacks = { 0 };
	bool live = q->pid && !q->ring;
	int code, r = live ? diagnose_live(q, &p) : diagnose_kept(q, &p);

	if (r == 0) {
		if (q->stacks)
			collect_stacks(q, &p, &stacks);
		code = render(q, &p, q->stacks ? &stacks : NULL);
	} else {
		code = patient_refused(&p, -r);
	}
	bht_stacks_free(&stacks);
	patient_close(&p);
	return code;
}

/* What the options allow together; 0 or EXIT_USAGE. */
static int check(const struct request *q)
{
	int inputs = (q->pid && !q->ring) + !!q->core + !!q->ring + !!q->traces.n;

	if (inputs != 1)
		return opt_usage("diagnose", inputs ? "one thing at a time: -p PID, --core, --ring or traces"
						    : "what? -p PID, --core, --ring or a trace is needed");
	if (q->exe && !q->core)
		return opt_usage("diagnose", "--exe is for --core");
	if (q->watch_ns && (!q->pid || q->ring))
		return opt_usage("diagnose", "--watch-for is for a live process");
	if (q->witness.text[0] && (!q->pid || q->ring))
		return opt_usage("diagnose",
				 "--witness is for a live process; a snapshot keeps what it was taken with");
	if (q->stacks && (q->ring || q->traces.n))
		return opt_usage("diagnose", "--stacks is for a live process or a core");
	return 0;
}

int cmd_diagnose(int argc, char **argv)
{
	struct request q = { .late_ns = BHT_LATE_NS, .render = { .width = opt_width(stdout) } };
	const struct opt options[] = {
		{ OPT_PID, 'p', "pid", &q.pid },
		{ OPT_STRING, 0, "core", &q.core },
		{ OPT_STRING, 0, "exe", &q.exe },
		{ OPT_STRING, 0, "ring", &q.ring },
		{ OPT_ADAPTER, 0, "adapter", NULL },
		{ OPT_WITNESS, 0, "witness", &q.witness },
		{ OPT_ARGUMENTS, 0, NULL, &q.traces },
		{ OPT_DURATION, 0, "watch-for", &q.watch_ns },
		{ OPT_DURATION, 0, "late", &q.late_ns },
		{ OPT_FLAG, 0, "stacks", &q.stacks },
		{ OPT_FLAG, 0, "json", &q.json },
		{ OPT_FLAG, 0, "all", &q.render.all },
		{ OPT_COLOR, 0, "color", &q.render.color },
		{ .kind = OPT_END },
	};
	int code;

	if (!opt_parse(argc, argv, help, options, &code))
		return code;
	code = check(&q);
	if (code)
		return code;
	return q.traces.n ? diagnose_recording(&q) : diagnose(&q);
}
