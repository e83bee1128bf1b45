/* SPDX-License-Identifier: MIT */
/* OpenMetrics text, version 1.0, for a directory that a node exporter reads. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "watch.h"

/* Buckets of less are one: a microsecond is below what a probe costs. */
enum { FIRST_BUCKET = 10, LAST_BUCKET = 36 };

/* Names are escaped, so a line feed is none here; a backslash may be part of that. */
static void put_label(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s=\"", name);
	for (; *value; value++)
		if (*value == '\n')
			fputs("\\n", out);
		else
			fprintf(out, "%s%c", *value == '"' || *value == '\\' ? "\\" : "", *value);
	fputc('"', out);
}

/* NAME{pid="...",process="...",loop="...": a series of one loop, to be closed. Addresses tell
 * loops of one name apart. */
static void begin_series(FILE *out, const char *name, const struct watch_loop *l)
{
	fprintf(out, "%s{pid=\"%" PRIu32 "\",", name, l->key.tgid);
	put_label(out, "process", l->process);
	fputc(',', out);
	put_label(out, "loop", l->name);
	fprintf(out, ",address=\"0x%" PRIx64 "\"", l->key.addr);
}

static void put_histogram(FILE *out, const struct watch_loop *l)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < BHB_BUCKETS; i++) {
		n += l->bucket[i];
		if (i < FIRST_BUCKET || i > LAST_BUCKET)
			continue;
		begin_series(out, "bhtrace_gap_seconds_bucket", l);
		fprintf(out, ",le=\"%.9g\"} %" PRIu64 "\n", (double)(UINT64_C(2) << i) / 1e9, n);
	}
	begin_series(out, "bhtrace_gap_seconds_bucket", l);
	fprintf(out, ",le=\"+Inf\"} %" PRIu64 "\n", n);
	begin_series(out, "bhtrace_gap_seconds_count", l);
	fprintf(out, "} %" PRIu64 "\n", n);
	begin_series(out, "bhtrace_gap_seconds_sum", l);
	fprintf(out, "} %.9f\n", (double)l->sum_ns / 1e9);
}

/* A family of all loops: VALUE of each. */
static void put_family(FILE *out, const struct watch_view *v, const char *name, const char *type, const char *help,
		       uint64_t (*value)(const struct watch_loop *l))
{
	char series[64];

	fprintf(out, "# TYPE %s %s\n# HELP %s %s\n", name, type, name, help);
	snprintf(series, sizeof(series), "%s%s", name, strcmp(type, "counter") ? "" : "_total");
	for (size_t i = 0; i < v->n_loops; i++) {
		begin_series(out, series, &v->loops[i]);
		fprintf(out, "} %" PRIu64 "\n", value(&v->loops[i]));
	}
}

static uint64_t rescued(const struct watch_loop *l)
{
	return l->rescued;
}

static uint64_t turns(const struct watch_loop *l)
{
	return l->turns;
}

static uint64_t overdue(const struct watch_loop *l)
{
	return l->overdue;
}

static void put_totals(FILE *out, const struct watch_totals *t)
{
	const struct {
		const char *name, *help;
		uint64_t value;
	} totals[] = {
		{ "bhtrace_probe_hits", "Probes hit in the processes that are watched.", t->hits },
		{ "bhtrace_bystander_hits", "Probes hit in others that use the same files.", t->strange },
		{ "bhtrace_evicted", "Objects that the kernel's maps had no room for.", t->evicted },
		{ "bhtrace_suspected", "Objects that seemed overdue.", t->suspected },
		{ "bhtrace_not_confirmed", "Suspicions that a diagnosis did not confirm.", t->cleared },
		{ "bhtrace_undecidable", "Suspicions that a diagnosis could not decide.", t->undecided },
		{ "bhtrace_hangs", "Stable hangs.", t->raised },
	};

	for (size_t i = 0; i < sizeof(totals) / sizeof(*totals); i++)
		fprintf(out, "# TYPE %s counter\n# HELP %s %s\n%s_total %" PRIu64 "\n", totals[i].name, totals[i].name,
			totals[i].help, totals[i].name, totals[i].value);
	fprintf(out,
		"# TYPE bhtrace_processes gauge\n# HELP bhtrace_processes Processes that are watched.\n"
		"bhtrace_processes %u\n",
		t->processes);
	fprintf(out,
		"# TYPE bhtrace_cost_ratio gauge\n# UNIT bhtrace_cost_ratio ratio\n"
		"# HELP bhtrace_cost_ratio Estimated cost of the probes, 1 is one CPU.\nbhtrace_cost_ratio %.6f\n",
		t->cost);
}

int watch_metrics(FILE *out, const struct watch_view *v)
{
	fprintf(out, "# TYPE bhtrace_gap_seconds histogram\n# UNIT bhtrace_gap_seconds seconds\n"
		     "# HELP bhtrace_gap_seconds Time from the schedule of a bottom half to its execution.\n");
	for (size_t i = 0; i < v->n_loops; i++)
		put_histogram(out, &v->loops[i]);
	put_family(out, v, "bhtrace_rescued", "counter",
		   "Executions that waited while the loop slept, and that no notification ended.", rescued);
	put_family(out, v, "bhtrace_turns", "counter", "Turns of the loop that found something to do.", turns);
	put_family(out, v, "bhtrace_overdue", "gauge", "Bottom halves that seem overdue now.", overdue);
	put_totals(out, &v->totals);
	fputs("# EOF\n", out);
	return ferror(out) ? -EIO : 0;
}

int watch_metrics_write(const char *path, const struct watch_view *v)
{
	char tmp[4096];
	int rc = 0;

	if (snprintf(tmp, sizeof(tmp), "%s.tmp", path) >= (int)sizeof(tmp))
		return -ENAMETOOLONG;
	/* One that is left over goes; what else may stand there, such as a link, is not followed. */
	unlink(tmp);
	const int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
	if (!out)
		return -errno;
	rc = watch_metrics(out, v);
	if (fclose(out) && !rc)
		rc = -errno;
	if (!rc && rename(tmp, path))
		rc = -errno;
	if (rc)
		unlink(tmp);
	return rc;
}
