/* SPDX-License-Identifier: MIT */
/* bhtrace doctor: what works here, what does not, and what would help */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>

#include "bhtrace.h"
#include "checks.h"
#include "options.h"
#include "render.h"

enum { RESULTS_MAX = 32, STATE = 9, NAME = 16 };

struct result {
	const struct check *check;
	const char *help;
	bool ok;
	char detail[CHECK_DETAIL];
};

struct doctor {
	uint32_t pid; /* 0 for none */
	bool json;
	bool color;
	unsigned width;
	struct result result[RESULTS_MAX];
	unsigned n;
	bool works; /* everything that is required */
};

static const char help[] = "Usage: bhtrace doctor [OPTION]...\n\n"
			   "Tries what this kernel and these privileges allow. Nothing is stopped or changed;\n"
			   "ptrace is neither needed nor used.\n\n"
			   "  -p, --pid=PID  also try process PID\n"
			   "  --json         print JSON, schema bhtrace.doctor/1\n"
			   "  --color=WHEN   auto, always or never\n"
			   "  -h, --help     print this text\n\n"
			   "Exit codes: 0 live diagnosis works, 2 usage, 4 it does not, 5 no such process.\n";

static bool try_feature(struct result *r)
{
	struct bhb_found found;

	bhb_try(r->check->feature, &found);
	r->help = found.remedy;
	snprintf(r->detail, sizeof(r->detail), "%s", found.detail);
	return found.works;
}

static void run(struct doctor *d, const struct check *checks, size_t n)
{
	for (size_t i = 0; i < n && d->n < RESULTS_MAX; i++) {
		struct result *r = &d->result[d->n++];

		r->check = &checks[i];
		r->help = checks[i].help;
		r->ok = checks[i].available ? checks[i].available(d->pid, r->detail) : try_feature(r);
		d->works &= r->ok || !checks[i].required;
	}
}

static void print_result(const struct doctor *d, const struct result *r)
{
	char line[512];

	bht_paint(stdout, d->color, r->ok ? "32" : r->check->required ? "1;31" : "33");
	printf("%-*s", STATE, r->ok ? "ok" : "missing");
	bht_paint(stdout, d->color, "");
	printf("%-*s", NAME, r->check->id);
	if (r->ok)
		snprintf(line, sizeof(line), "%s", r->detail);
	else
		snprintf(line, sizeof(line), "%s. Needed by %s. What would help: %s.", r->detail, r->check->needed_by,
			 r->help);
	bht_wrap(stdout, STATE + NAME, d->width, line);
}

static void print_text(const struct doctor *d)
{
	if (d->pid)
		printf("Live diagnosis of process %u %s here.\n\n", d->pid, d->works ? "works" : "does not work");
	else
		printf("Live diagnosis of your own processes %s here.\n\n", d->works ? "works" : "does not work");
	for (unsigned i = 0; i < d->n; i++)
		print_result(d, &d->result[i]);
	printf("\nptrace is for diagnose --stacks only: nothing else stops a process.\n");
}

static void print_json(const struct doctor *d)
{
	json_t *checks = json_array(), *root;

	for (unsigned i = 0; i < d->n; i++) {
		const struct result *r = &d->result[i];

		json_array_append_new(checks, json_pack("{s:s, s:b, s:b, s:s, s:s, s:s?}", "id", r->check->id, "ok",
							r->ok, "required", r->check->required, "detail", r->detail,
							"needed_by", r->check->needed_by, "help", r->help));
	}
	root = json_pack("{s:s, s:b, s:o, s:o}", "schema", "bhtrace.doctor/1", "live_diagnosis", d->works, "pid",
			 d->pid ? json_integer(d->pid) : json_null(), "checks", checks);
	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

static int examine(struct doctor *d)
{
	if (d->pid && kill((pid_t)d->pid, 0) && errno == ESRCH) {
		fprintf(stderr, "bhtrace doctor: process %u: %s\n", d->pid, strerror(errno));
		return EXIT_BAD_INPUT;
	}
	d->works = true;
	run(d, checks_system, n_checks_system);
	if (d->pid)
		run(d, checks_target, n_checks_target);
	if (d->json)
		print_json(d);
	else
		print_text(d);
	return d->works ? EXIT_HEALTHY : EXIT_NOT_PERMITTED;
}

int cmd_doctor(int argc, char **argv)
{
	struct doctor d = { .width = opt_width(stdout) };
	const struct opt options[] = {
		{ OPT_PID, 'p', "pid", &d.pid },
		{ OPT_FLAG, 0, "json", &d.json },
		{ OPT_COLOR, 0, "color", &d.color },
		{ .kind = OPT_END },
	};
	int code;

	return opt_parse(argc, argv, help, options, &code) ? examine(&d) : code;
}
