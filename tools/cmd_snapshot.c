/* SPDX-License-Identifier: MIT */
/* bhtrace snapshot: all evidence of a live process into a directory, for a
 * diagnosis at another time and place. Nothing is stopped. */
#include <inttypes.h>
#include <jansson.h>

#include "bhtrace.h"
#include "options.h"
#include "patient.h"
#include "render.h"
#include "snapshot.h"
#include "witness.h"

static const char help[] = "Usage: bhtrace snapshot -p PID -o DIR [OPTION]...\n\n"
			   "Keeps all evidence of a process in a directory that bhtrace diagnose DIR reads\n"
			   "later, elsewhere, without the process. The process is not stopped.\n\n"
			   "  -p, --pid=PID       the process\n"
			   "  -o, --output=DIR    the directory, which must not exist\n"
			   "      --adapter=FILE  how to read loops that were never instrumented; may be repeated\n"
			   "      --witness=EXPR  kept with it: true when work is undone, 'produced != consumed'\n"
			   "      --json          print JSON, schema bhtrace.snapshot-result/1\n"
			   "  -h, --help          this text\n\n"
			   "Exit codes: 0 written, 2 usage, 3 the process exited meanwhile, 4 not permitted,\n"
			   "5 no such process, no loop that is known, or DIR cannot be written.\n";

struct request {
	uint32_t pid;
	const char *dir;
	bool json;
	struct bht_claim witness; /* text "": was not given */
};

static void print_text(const struct request *q, const struct patient *p)
{
	const struct bht_evidence *ev = &p->ev;
	char dir[512], command[4 * sizeof(ev->command)];

	printf("%s: process %" PRIu32 " (%s), %" PRIu64 " events of history; read for %" PRIu64
	       " us, stopped for %" PRIu64 " us\n",
	       bht_escape(dir, sizeof(dir), q->dir), ev->pid, bht_escape(command, sizeof(command), ev->command),
	       p->d.n_events, ev->read_us, ev->stopped_us);
}

static void print_json(const struct request *q, const struct patient *p)
{
	const struct bht_evidence *ev = &p->ev;
	const struct bht_sample *s = &ev->last;
	char dir[4096], command[4 * sizeof(ev->command)];
	json_t *root = json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "schema",
				 "bhtrace.snapshot-result/1", "directory", bht_escape(dir, sizeof(dir), q->dir), "pid",
				 (json_int_t)ev->pid, "command", bht_escape(command, sizeof(command), ev->command),
				 "events", (json_int_t)p->d.n_events, "loops", (json_int_t)s->n_loops, "bottom_halves",
				 (json_int_t)s->n_bhs, "threads", (json_int_t)s->n_threads, "read_us",
				 (json_int_t)ev->read_us, "stopped_us", (json_int_t)ev->stopped_us);

	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

static int snapshot(const struct request *q)
{
	struct patient p;
	int r = patient_open(&p, q->pid, BHT_LATE_NS);

	if (r == 0 && q->witness.text[0])
		r = bht_live_witness(p.live, &q->witness, &p.refusal);
	if (r == 0)
		r = patient_examine(&p);
	if (r == 0)
		r = bht_snapshot_write(q->dir, &p.ev, p.history, &p.refusal);
	int code = r == 0 ? EXIT_HEALTHY : patient_refused(&p, -r);
	if (r == 0)
		(q->json ? print_json : print_text)(q, &p);
	patient_close(&p);
	return code;
}

int cmd_snapshot(int argc, char **argv)
{
	struct request q = { 0 };
	const struct opt options[] = {
		{ OPT_PID, 'p', "pid", &q.pid },     { OPT_STRING, 'o', "output", &q.dir },
		{ OPT_ADAPTER, 0, "adapter", NULL }, { OPT_WITNESS, 0, "witness", &q.witness },
		{ OPT_FLAG, 0, "json", &q.json },    { .kind = OPT_END },
	};
	int code;

	if (!opt_parse(argc, argv, help, options, &code))
		return code;
	if (!q.pid || !q.dir)
		return opt_usage(argv[0], "both -p PID and -o DIR are needed");
	return snapshot(&q);
}
