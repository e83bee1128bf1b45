/* SPDX-License-Identifier: MIT */
/* bhtrace record: the events of a process, for as long as it takes, as CTF. How
 * they are had is in record_flight.c and record_lttng.c. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "bhtrace.h"
#include "options.h"
#include "record.h"
#include "render.h"

static const char help[] = "Usage: bhtrace record -o DIR [OPTION]... -p PID\n"
			   "       bhtrace record -o DIR [OPTION]... [--] COMMAND...\n\n"
			   "Records the events of a process until it exits or Ctrl-C, without stopping it, and\n"
			   "keeps what can be seen of it in the end. bhtrace diagnose DIR reads the recording,\n"
			   "and any reader of CTF.\n\n"
			   "  -p, --pid=PID       a process that runs\n"
			   "  -o, --output=DIR    the directory to write, which must not exist\n"
			   "      --via=RECORDER  flight: the process's own flight recorder, read from outside\n"
			   "                      (the default); lttng: LTTng-UST\n"
			   "      --for=DUR       end after that time (10s, 2m, 1h)\n"
			   "      --snapshot      keep nothing until Ctrl-C, SIGUSR1 or a hang, then what there is\n"
			   "      --to=URL        with --via=lttng, instead of -o: send it to a relayd, net://HOST\n"
			   "      --json          print JSON, schema bhtrace.record-result/1\n"
			   "  -h, --help          this text\n\n"
			   "COMMAND is started, and goes on when the recording ends; Ctrl-C does not reach it.\n\n"
			   "Exit codes: 0 recorded, 2 usage, 3 the process exited meanwhile, 4 not permitted,\n"
			   "5 no such process or command, not instrumented, or not all could be written.\n";

static void print_text(const struct record_request *q, const struct record_result *r)
{
	char where[2 * sizeof(r->where)], note[2 * sizeof(r->note)], count[32] = "";

	if (r->events != RECORD_UNCOUNTED)
		snprintf(count, sizeof(count), "%" PRIu64 " ", r->events);
	printf("%s: %sevents of process %" PRIu32 ", %" PRIu64 " discarded, %" PRIu64 " KiB; ended: %s\n",
	       bht_escape(where, sizeof(where), r->where), count, r->target, r->discarded, r->bytes / 1024, r->ended);
	if (r->bytes_read)
		printf("The recorder took %.2f %% of a CPU and read %" PRIu64 " KiB of the process.\n",
		       100 * r->cpu_share, r->bytes_read / 1024);
	if (r->note[0])
		printf("%s\n", bht_escape(note, sizeof(note), r->note));
	if (!q->to)
		printf("Next: bhtrace diagnose %s\n", where);
}

static void print_json(const char *via, const struct record_result *r)
{
	char where[2 * sizeof(r->where)], note[2 * sizeof(r->note)];
	json_t *root = json_pack("{s:s, s:s, s:s, s:I, s:s, s:o, s:I, s:I, s:f, s:I, s:s}", "schema",
				 "bhtrace.record-result/1", "recording", bht_escape(where, sizeof(where), r->where),
				 "via", via, "pid", (json_int_t)r->target, "ended", r->ended, "events",
				 r->events == RECORD_UNCOUNTED ? json_null() : json_integer((json_int_t)r->events),
				 "discarded", (json_int_t)r->discarded, "bytes", (json_int_t)r->bytes, "cpu_share",
				 r->cpu_share, "bytes_read", (json_int_t)r->bytes_read, "note",
				 bht_escape(note, sizeof(note), r->note));

	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

/* What the options allow together; 0 or EXIT_USAGE. */
static int check(const struct record_request *q, const char *via)
{
	const bool lttng = !strcmp(via, "lttng");

	if (!lttng && strcmp(via, "flight"))
		return opt_usage("record", "--via wants flight or lttng, not '%s'", via);
	if (!q->pid == !q->command)
		return opt_usage("record",
				 q->pid ? "either -p PID or a command" : "what? -p PID or a command is needed");
	if (q->to && !lttng)
		return opt_usage("record", "--to is for --via=lttng");
	if (!q->dir == !q->to)
		return opt_usage("record", q->to ? "either -o DIR or --to" : "where to? -o DIR is needed");
	return 0;
}

int cmd_record(int argc, char **argv)
{
	struct record_request q = { 0 };
	struct record_result result = { 0 };
	const char *via = "flight";
	const struct opt options[] = {
		{ OPT_PID, 'p', "pid", &q.pid },
		{ OPT_STRING, 'o', "output", &q.dir },
		{ OPT_STRING, 0, "via", &via },
		{ OPT_DURATION, 0, "for", &q.for_ns },
		{ OPT_FLAG, 0, "snapshot", &q.snapshot },
		{ OPT_STRING, 0, "to", &q.to },
		{ OPT_FLAG, 0, "json", &q.json },
		{ OPT_COMMAND, 0, NULL, &q.command },
		{ .kind = OPT_END },
	};
	int code;

	if (!opt_parse(argc, argv, help, options, &code))
		return code;
	code = check(&q, via);
	if (code)
		return code;
	record_signals();
	code = (strcmp(via, "lttng") ? record_flight : record_lttng)(&q, &result);
	if (!result.ended)
		return code;
	if (q.json)
		print_json(via, &result);
	else
		print_text(&q, &result);
	return code;
}
