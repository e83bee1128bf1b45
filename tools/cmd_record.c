/* SPDX-License-Identifier: MIT */
/* bhtrace record: the events of a process, for as long as it takes, as CTF. How
 * they are had is in record_flight.c, record_lttng.c and record_bpf.c. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "bhtrace.h"
#include "foreign_probes.h"
#include "options.h"
#include "record.h"
#include "render.h"

static const char help[] = "Usage: bhtrace record -o DIR [OPTION]... -p PID\n"
			   "       bhtrace record -o DIR [OPTION]... [--] COMMAND...\n"
			   "       bhtrace record -o DIR --via=bpf --all [OPTION]...\n\n"
			   "Records the events of a process until it exits or Ctrl-C, without stopping it, and\n"
			   "keeps what can be seen of it in the end. bhtrace diagnose DIR reads the recording,\n"
			   "and any reader of CTF.\n\n"
			   "  -p, --pid=PID       a process that runs\n"
			   "  -o, --output=DIR    the directory to write, which must not exist\n"
			   "      --via=RECORDER  flight: the process's own flight recorder, read from outside\n"
			   "                      (the default); lttng: LTTng-UST; bpf: probes in the process, and\n"
			   "                      what the kernel did for it; of the processes it starts, too;\n"
			   "                      also of libuv, QEMU, GLib, libevent that were never instrumented\n"
			   "      --for=DUR       end after that time (10s, 2m, 1h)\n"
			   "      --snapshot      keep nothing until Ctrl-C, SIGUSR1 or a hang, then what there is\n"
			   "      --to=URL        with --via=lttng, instead of -o: send it to a relayd, net://HOST\n"
			   "      --all           with --via=bpf: every process that uses an instrumented file\n"
			   "      --begins        with --via=bpf: probes before callbacks, too, which may hide a race\n"
			   "      --adapter=FILE  with --via=bpf: also loops that FILE describes (docs/adapters.md)\n"
			   "      --no-kernel     with --via=bpf: no events of the scheduler and of system calls\n"
			   "      --json          print JSON, schema bhtrace.record-result/1\n"
			   "  -h, --help          this text\n\n"
			   "COMMAND is started, and goes on when the recording ends; Ctrl-C does not reach it.\n\n"
			   "Exit codes: 0 recorded, 2 usage, 3 the process exited meanwhile, 4 not permitted,\n"
			   "5 no such process or command, not instrumented, or not all could be written.\n";

/* --- what attached probes did --------------------------------------------------------- */

static const char after[] =
	"they stand behind the racing pairs (docs/placement.md), where a race was measured to be as "
	"likely as without them (0.95 to 1.0 times) in a test aligned to it, and 0.3 times in a "
	"loop that runs free";
static const char before[] = "with --begins some stand before a racing pair (docs/placement.md), where 0.08 to 0.004 "
			     "times as many wakeups were measured to be lost: that none is lost proves nothing";

static const char inside[] =
	FOREIGN_EFFECT ". What was seen of the flag at an entry may differ from what the function saw";

static const char *effect(const struct record_probes *p)
{
	return p->modules[0] ? inside : p->begins ? before : after;
}

double record_cost_ns(const struct record_probes *p)
{
	return p->trap_ns ? (double)p->hits * (p->trap_ns + p->program_ns) : 0;
}

double record_cost_share(const struct record_probes *p)
{
	return p->cpu_ns ? record_cost_ns(p) / (double)p->cpu_ns : 0;
}

static void print_cost(const struct record_probes *p)
{
	if (!p->trap_ns) {
		printf("What a hit costs could not be measured on this machine.\n");
		return;
	}
	if (p->program_ns)
		printf("A hit costs %.0f ns: %.0f for the way into the kernel and back, measured in bhtrace itself, "
		       "and "
		       "%.0f for the program, as the kernel counts",
		       p->trap_ns + p->program_ns, p->trap_ns, p->program_ns);
	else
		printf("A hit costs more than %.0f ns, which is the way into the kernel and back, measured in bhtrace "
		       "itself; the program is counted with kernel.bpf_stats_enabled=1",
		       p->trap_ns);
	printf(". All of them: %.1f ms", record_cost_ns(p) / 1e6);
	if (p->cpu_ns)
		printf(", %.2g %% of the %.1f ms of CPU time of what was recorded", 100 * record_cost_share(p),
		       (double)p->cpu_ns / 1e6);
	printf(".\n");
}

/* Of those that the adapters know. */
static void print_functions(const struct record_probes *p)
{
	char modules[2 * sizeof(p->modules)];

	if (!p->modules[0])
		return;
	printf("%u of them are at functions of %s; %u at returns, hit %" PRIu64
	       " times. Such a hit, and one at an instruction that the kernel cannot emulate, costs more: 9 to 13 us "
	       "where "
	       "that was measured.\n",
	       p->functions, bht_escape(modules, sizeof(modules), p->modules), p->returns, p->return_hits);
}

static void print_probes(const struct record_probes *p)
{
	printf("%u probes in %u file%s, attached in %.0f ms, were hit %" PRIu64 " times, and %" PRIu64
	       " times by other processes that use the same files",
	       p->links, p->files, p->files == 1 ? "" : "s", p->attach_ms, p->hits, p->strange);
	if (p->bystanders)
		printf(" (%u of them)", p->bystanders);
	printf(".\n");
	print_cost(p);
	print_functions(p);
	printf("Probe effect: %s.\n", effect(p));
}

static json_t *probes_json(const struct record_probes *p)
{
	char modules[2 * sizeof(p->modules)];

	return json_pack("{s:i, s:i, s:i, s:f, s:I, s:I, s:i, s:f, s:f, s:f, s:I, s:f, s:b, s:i, s:i, s:I, s:s, s:s}",
			 "processes", (int)p->processes, "files", (int)p->files, "links", (int)p->links, "attach_ms",
			 p->attach_ms, "hits", (json_int_t)p->hits, "strange_hits", (json_int_t)p->strange,
			 "bystanders", (int)p->bystanders, "trap_ns", p->trap_ns, "program_ns", p->program_ns,
			 "cost_ns", record_cost_ns(p), "cpu_ns", (json_int_t)p->cpu_ns, "cpu_share",
			 record_cost_share(p), "begins", p->begins, "functions", (int)p->functions, "returns",
			 (int)p->returns, "return_hits", (json_int_t)p->return_hits, "modules",
			 bht_escape(modules, sizeof(modules), p->modules), "effect", effect(p));
}

/* --- the last words ------------------------------------------------------------------ */

/* What was recorded of a command may be what it has started. */
static void print_whose(const struct record_request *q, const struct record_result *r)
{
	if (r->probed && (!q->pid || r->probes.processes != 1))
		printf("events of %u process%s", r->probes.processes, r->probes.processes == 1 ? "" : "es");
	else
		printf("events of process %" PRIu32, r->target);
}

static void print_text(const struct record_request *q, const struct record_result *r)
{
	char where[2 * sizeof(r->where)], note[2 * sizeof(r->note)], count[32] = "";

	if (r->events != RECORD_UNCOUNTED)
		snprintf(count, sizeof(count), "%" PRIu64 " ", r->events);
	printf("%s: %s", bht_escape(where, sizeof(where), r->where), count);
	print_whose(q, r);
	printf(", %" PRIu64 " discarded, %" PRIu64 " KiB; ended: %s\n", r->discarded, r->bytes / 1024, r->ended);
	if (r->bytes_read)
		printf("The recorder took %.2f %% of a CPU and read %" PRIu64 " KiB of the process.\n",
		       100 * r->cpu_share, r->bytes_read / 1024);
	else if (r->probed)
		printf("The recorder took %.2f %% of a CPU.\n", 100 * r->cpu_share);
	if (r->probed)
		print_probes(&r->probes);
	if (r->note[0])
		printf("%s\n", bht_escape(note, sizeof(note), r->note));
	if (!q->to)
		printf("Next: bhtrace diagnose %s\n", where);
}

static void print_json(const char *via, const struct record_result *r)
{
	char where[2 * sizeof(r->where)], note[2 * sizeof(r->note)];
	json_t *root = json_pack("{s:s, s:s, s:s, s:I, s:s, s:o, s:I, s:I, s:f, s:I, s:s, s:o}", "schema",
				 "bhtrace.record-result/1", "recording", bht_escape(where, sizeof(where), r->where),
				 "via", via, "pid", (json_int_t)r->target, "ended", r->ended, "events",
				 r->events == RECORD_UNCOUNTED ? json_null() : json_integer((json_int_t)r->events),
				 "discarded", (json_int_t)r->discarded, "bytes", (json_int_t)r->bytes, "cpu_share",
				 r->cpu_share, "bytes_read", (json_int_t)r->bytes_read, "note",
				 bht_escape(note, sizeof(note), r->note), "probes",
				 r->probed ? probes_json(&r->probes) : json_null());

	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

/* The ways to record, and what each of them can do besides. */
static const struct way {
	const char *name;
	int (*record)(const struct record_request *q, struct record_result *result);
	bool to, snapshot, probes;
} ways[] = {
	{ "flight", record_flight, .snapshot = true },
	{ "lttng", record_lttng, .snapshot = true, .to = true },
	{ "bpf", record_bpf, .probes = true },
};

static const struct way *find_way(const char *name)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
		if (!strcmp(name, ways[i].name))
			return &ways[i];
	return NULL;
}

/* What the options allow together; 0 or EXIT_USAGE. */
static int check(const struct record_request *q, const struct way *way)
{
	if (!way->probes && (q->all || q->begins || q->no_kernel))
		return opt_usage("record", "%s is for --via=bpf",
				 q->all      ? "--all"
				 : q->begins ? "--begins"
					     : "--no-kernel");
	if (q->all && (q->pid || q->command))
		return opt_usage("record", "either --all, or -p PID or a command");
	if (!q->all && !q->pid == !q->command)
		return opt_usage("record",
				 q->pid ? "either -p PID or a command" : "what? -p PID or a command is needed");
	if (q->to && !way->to)
		return opt_usage("record", "--to is for --via=lttng");
	if (q->snapshot && !way->snapshot)
		return opt_usage("record", "--snapshot is for --via=flight and --via=lttng");
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
		{ OPT_FLAG, 0, "all", &q.all },
		{ OPT_FLAG, 0, "begins", &q.begins },
		{ OPT_FLAG, 0, "no-kernel", &q.no_kernel },
		{ OPT_FLAG, 0, "json", &q.json },
		{ OPT_ADAPTER, 0, "adapter", NULL },
		{ OPT_COMMAND, 0, NULL, &q.command },
		{ .kind = OPT_END },
	};
	int code;

	if (!opt_parse(argc, argv, help, options, &code))
		return code;
	const struct way *way = find_way(via);
	if (!way)
		return opt_usage("record", "--via wants flight, lttng or bpf, not '%s'", via);
	code = check(&q, way);
	if (code)
		return code;
	record_signals();
	code = way->record(&q, &result);
	if (!result.ended)
		return code;
	if (q.json)
		print_json(via, &result);
	else
		print_text(&q, &result);
	return code;
}
