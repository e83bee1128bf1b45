/* SPDX-License-Identifier: MIT */
/* For pipes and logs: lines of text, or one JSON object a line. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bhtrace.h"
#include "json_put.h"
#include "options.h"
#include "watch.h"

static bool color;

static int open_plain(const struct watch_options *o)
{
	color = o->color;
	setvbuf(stdout, NULL, _IOLBF, 0);
	return EXIT_HEALTHY;
}

static void close_plain(void)
{
	fflush(stdout);
}

/* Local time of day, with the day before it: logs are read later. */
static char *now(char dst[32])
{
	struct timespec t;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &t);
	localtime_r(&t.tv_sec, &tm);
	const size_t n = strftime(dst, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(dst + n, 32 - n, ".%03ld", t.tv_nsec / 1000000);
	return dst;
}

/* --- text ----------------------------------------------------------------------------- */

static const char *sgr(enum watch_kind kind)
{
	return kind == WATCH_RAISED ? "1;31" : kind == WATCH_UNDECIDED || kind == WATCH_LATE ? "1;33" : "";
}

static void event_text(const struct watch_event *e)
{
	char stamp[32], waited[WATCH_CELL];

	printf("%s ", now(stamp));
	bht_paint(stdout, color && *sgr(e->kind), sgr(e->kind));
	fputs(watch_kinds[e->kind], stdout);
	bht_paint(stdout, color && *sgr(e->kind), "");
	if (e->pid)
		printf(" %s/%" PRIu32, e->process, e->pid);
	if (*e->rule)
		printf(" %s", e->rule);
	if (*e->bh || *e->loop)
		printf(" %s:%s", e->loop, e->bh);
	if (*e->why)
		printf(" %s", e->why);
	if (e->waited_ns)
		printf(" (%s)", watch_time(waited, e->waited_ns));
	if (*e->sentence)
		printf(": %s", e->sentence);
	if (*e->snapshot)
		printf(" [snapshot: %s]", e->snapshot);
	putchar('\n');
	fflush(stdout);
}

static void table_text(const struct watch_view *v)
{
	const unsigned width = opt_width(stdout) > 120 ? opt_width(stdout) : 120;
	const struct watch_row **rows = calloc(v->n_rows + 1, sizeof(*rows));
	char line[WATCH_LINE], stamp[32];

	watch_totals_line(line, &v->totals);
	printf("%s %s\n", now(stamp), line);
	for (size_t i = 0; i <= v->n_loops && v->n_loops; i++) {
		watch_loop_line(line, i ? &v->loops[i - 1] : NULL, width);
		printf("  %s\n", line);
	}
	for (size_t i = 0; rows && i < v->n_rows; i++)
		rows[i] = &v->rows[i];
	if (rows)
		watch_sort(rows, v->n_rows, WATCH_BY_NAME);
	for (size_t i = 0; rows && i <= v->n_rows && v->n_rows; i++) {
		watch_row_line(line, i ? rows[i - 1] : NULL, width);
		printf("  %s\n", line);
	}
	free(rows);
	fflush(stdout);
}

const struct watch_output watch_plain = { open_plain, table_text, event_text, NULL, close_plain };

/* --- JSON --------------------------------------------------------------------------------- */

static void print_line(json_t *root)
{
	if (!root)
		return;
	json_dumpf(root, stdout, JSON_COMPACT);
	putchar('\n');
	fflush(stdout);
	json_decref(root);
}

static json_t *begin_line(const char *type)
{
	char stamp[32];

	return json_pack("{s:s, s:s, s:s}", "schema", "bhtrace.watch/1", "type", type, "time", now(stamp));
}

static json_t *text_or_null(const char *s)
{
	return *s ? text(s) : json_null();
}

static void event_json(const struct watch_event *e)
{
	static const char *const types[WATCH_KINDS] = {
		[WATCH_BEGINS] = "begins",         [WATCH_ENDS] = "ends",     [WATCH_SUSPECTED] = "suspected",
		[WATCH_CLEARED] = "not-confirmed", [WATCH_LATE] = "late",     [WATCH_UNDECIDED] = "undecidable",
		[WATCH_UNREADABLE] = "unreadable", [WATCH_RAISED] = "raised", [WATCH_SAID] = "said",
	};
	json_t *o = begin_line(types[e->kind]);
	const bool failed = PUT(o, "pid", e->pid ? json_integer(e->pid) : json_null()) ||
			    PUT(o, "process", text_or_null(e->process)) || PUT(o, "loop", text_or_null(e->loop)) ||
			    PUT(o, "bh", text_or_null(e->bh)) || PUT(o, "why", text_or_null(e->why)) ||
			    PUT(o, "rule", text_or_null(e->rule)) ||
			    PUT(o, "waited_ns", e->waited_ns ? number(e->waited_ns) : json_null()) ||
			    PUT(o, "sentence", text_or_null(e->sentence)) ||
			    PUT(o, "snapshot", text_or_null(e->snapshot));

	print_line(unless(o, failed));
}

static json_t *row_json(const struct watch_row *r)
{
	json_t *o = json_object();
	const bool failed = PUT(o, "pid", json_integer(r->key.tgid)) || PUT(o, "process", text(r->process)) ||
			    PUT(o, "loop", text(r->loop_name)) || PUT(o, "bh", text(r->name)) ||
			    PUT(o, "addr", hex(r->key.addr)) || PUT(o, "schedules", number(r->schedules)) ||
			    PUT(o, "coalesced", number(r->coalesced)) || PUT(o, "executions", number(r->executions)) ||
			    PUT(o, "rescued", number(r->rescued)) || PUT(o, "schedules_per_s", real(r->rate)) ||
			    PUT(o, "coalesced_share", real(r->share)) || PUT(o, "p50_ns", number(r->p50_ns)) ||
			    PUT(o, "p99_ns", number(r->p99_ns)) || PUT(o, "worst_ns", number(r->worst_ns)) ||
			    PUT(o, "pending_ns", number(r->pending_ns)) ||
			    PUT(o, "overdue", json_boolean(r->overdue)) || PUT(o, "verdict", text_or_null(r->verdict));

	return unless(o, failed);
}

static json_t *loop_json(const struct watch_loop *l)
{
	json_t *o = json_object();
	const bool failed = PUT(o, "pid", json_integer(l->key.tgid)) || PUT(o, "process", text(l->process)) ||
			    PUT(o, "loop", text(l->name)) || PUT(o, "addr", hex(l->key.addr)) ||
			    PUT(o, "turns", number(l->turns)) || PUT(o, "turns_per_s", real(l->rate)) ||
			    PUT(o, "sleeps", number(l->sleeps)) || PUT(o, "asleep_ns", number(l->asleep_ns)) ||
			    PUT(o, "rescued", number(l->rescued)) || PUT(o, "p50_ns", number(l->p50_ns)) ||
			    PUT(o, "p99_ns", number(l->p99_ns)) || PUT(o, "overdue", json_integer(l->overdue));

	return unless(o, failed);
}

static json_t *totals_json(const struct watch_totals *t)
{
	json_t *o = json_object();
	const bool failed = PUT(o, "processes", json_integer(t->processes)) ||
			    PUT(o, "bystanders", json_integer(t->bystanders)) || PUT(o, "hits", number(t->hits)) ||
			    PUT(o, "strange", number(t->strange)) || PUT(o, "told", number(t->told)) ||
			    PUT(o, "evicted", number(t->evicted)) || PUT(o, "overdue", number(t->overdue)) ||
			    PUT(o, "rescued", number(t->rescued)) || PUT(o, "suspected", number(t->suspected)) ||
			    PUT(o, "not_confirmed", number(t->cleared)) ||
			    PUT(o, "undecidable", number(t->undecided)) || PUT(o, "raised", number(t->raised)) ||
			    PUT(o, "hits_per_s", real(t->hits_rate)) || PUT(o, "cpu_share", real(t->cost));

	return unless(o, failed);
}

static void table_json(const struct watch_view *v)
{
	json_t *o = begin_line("table"), *loops = json_array(), *rows = json_array();
	bool failed = false;

	for (size_t i = 0; i < v->n_loops; i++)
		failed |= ADD(loops, loop_json(&v->loops[i]));
	for (size_t i = 0; i < v->n_rows; i++)
		failed |= ADD(rows, row_json(&v->rows[i]));
	failed |= PUT(o, "totals", totals_json(&v->totals));
	failed |= PUT(o, "loops", loops);
	failed |= PUT(o, "bottom_halves", rows);
	print_line(unless(o, failed));
}

const struct watch_output watch_json = { open_plain, table_json, event_json, NULL, close_plain };
