/* SPDX-License-Identifier: MIT */
/* bhtrace explain [RULE]: the mechanisms, from rules.def.h */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bhtrace.h"
#include "options.h"
#include "render.h"

enum { PROSE = 100, INDENT = 3, NAME = 20 };

struct explain {
	const char *rule;
	bool json;
	bool color;
	unsigned width;
};

static const char help[] = "Usage: bhtrace explain [OPTION]... [RULE]\n\n"
			   "Explains one of the mechanisms by which wakeups are lost or late; without RULE\n"
			   "lists them all.\n\n"
			   "  --json        print JSON, schema bhtrace.rules/1\n"
			   "  --color=WHEN  auto, always or never\n"
			   "  -h, --help    print this text\n\n"
			   "Exit codes: 0, or 2 when there is no such rule.\n";

static void print_list(const struct explain *o)
{
	for (unsigned i = 0; i < BHT_RULES; i++) {
		const struct bht_rule *r = &bht_rules[i];

		if (!i || r->verdict != bht_rules[i - 1].verdict) {
			bht_paint(stdout, o->color, "1");
			printf("%s%s", i ? "\n" : "", bht_verdict_name(r->verdict));
			bht_paint(stdout, o->color, "");
			putchar('\n');
		}
		printf(" %c %-*s", r->found ? ' ' : '*', NAME, r->id);
		bht_wrap(stdout, INDENT + NAME, o->width, r->line);
	}
	printf("\n * known, but not yet found by this version\n"
	       "\nbhtrace explain RULE tells all about one of them.\n");
}

static void print_part(const struct explain *o, const char *heading, size_t len, const char *text)
{
	putchar('\n');
	bht_paint(stdout, o->color, "1");
	printf("%.*s", (int)len, heading);
	bht_paint(stdout, o->color, "");
	printf("\n%*s", INDENT, "");
	bht_wrap(stdout, INDENT, o->width, text);
}

/* Calls PART for each paragraph of the page with its heading. */
static void each_part(const struct bht_rule *r,
		      void (*part)(void *arg, const char *heading, size_t len, const char *text), void *arg)
{
	char *page = strdup(r->page), *rest = page;

	while (rest && *rest) {
		char *paragraph = rest, *end = strstr(rest, "\n\n");
		rest = end ? end + 2 : NULL;
		if (end)
			*end = '\0';
		char *colon = strstr(paragraph, ": ");
		if (colon)
			part(arg, paragraph, (size_t)(colon - paragraph), colon + 2);
	}
	free(page);
}

static void text_part(void *arg, const char *heading, size_t len, const char *text)
{
	print_part(arg, heading, len, text);
}

static void print_rule(struct explain *o, const struct bht_rule *r)
{
	char title[512];

	snprintf(title, sizeof(title), "%s (%s): %s.", r->id, bht_verdict_name(r->verdict), r->line);
	bht_paint(stdout, o->color, "1");
	bht_wrap(stdout, 0, o->width, title);
	bht_paint(stdout, o->color, "");
	if (!r->found)
		puts("Known, but not yet found by this version of bhtrace.");
	each_part(r, text_part, o);
	print_part(o, "Decided by", strlen("Decided by"), r->decides);
	print_part(o, "Remedy", strlen("Remedy"), r->remedy);
}

static void json_part(void *arg, const char *heading, size_t len, const char *text)
{
	char key[32];

	snprintf(key, sizeof(key), "%.*s", (int)len, heading);
	for (char *c = key; *c; c++)
		*c = *c == ' ' ? '_' : (char)(*c | 0x20);
	json_object_set_new(arg, key, json_string(text));
}

static json_t *rule_json(const struct bht_rule *r)
{
	json_t *page = json_object();

	each_part(r, json_part, page);
	return json_pack("{s:s, s:s, s:b, s:s, s:s, s:s, s:o}", "rule", r->id, "verdict", bht_verdict_name(r->verdict),
			 "found", r->found, "summary", r->line, "decided_by", r->decides, "remedy", r->remedy, "page",
			 page);
}

static void print_json(const struct bht_rule *only)
{
	json_t *rules = json_array(), *root;

	for (unsigned i = 0; i < BHT_RULES; i++)
		if (!only || only == &bht_rules[i])
			json_array_append_new(rules, rule_json(&bht_rules[i]));
	root = json_pack("{s:s, s:o}", "schema", "bhtrace.rules/1", "rules", rules);
	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

/* Edit distance of two short words. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[64], n = (unsigned)strnlen(b, 63);

	for (unsigned k = 0; k <= n; k++)
		row[k] = k;
	for (unsigned i = 1; *a; i++, a++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned k = 1; k <= n; k++) {
			unsigned best = diagonal + (*a != b[k - 1]);

			diagonal = row[k];
			best = row[k] + 1 < best ? row[k] + 1 : best;
			row[k] = row[k - 1] + 1 < best ? row[k - 1] + 1 : best;
		}
	}
	return row[n];
}

/* Whether rule ID is worth suggesting instead of NAME, whose best distance from
 * any rule is BEST. */
static bool is_near(const char *name, const char *id, unsigned best)
{
	return (*name && strstr(id, name)) || distance(name, id) == best;
}

static int unknown_rule(const char *name)
{
	char near[512] = "", safe[64];
	unsigned best = UINT32_MAX;
	size_t len = 0;

	for (unsigned i = 0; i < BHT_RULES; i++) {
		unsigned d = distance(name, bht_rules[i].id);
		best = d < best ? d : best;
	}
	for (unsigned i = 0; i < BHT_RULES && len < sizeof(near); i++)
		if (is_near(name, bht_rules[i].id, best))
			len += (size_t)snprintf(near + len, sizeof(near) - len, "%s%s", len ? ", " : "",
						bht_rules[i].id);
	return opt_usage("explain", "no rule is called '%s'; the nearest: %s", bht_escape(safe, sizeof(safe), name),
			 near);
}

static const struct bht_rule *find_rule(const char *name)
{
	for (unsigned i = 0; i < BHT_RULES; i++)
		if (!strcmp(bht_rules[i].id, name))
			return &bht_rules[i];
	return NULL;
}

static int explain(struct explain *o)
{
	const struct bht_rule *rule = o->rule ? find_rule(o->rule) : NULL;

	if (o->rule && !rule)
		return unknown_rule(o->rule);
	if (o->json)
		print_json(rule);
	else if (rule)
		print_rule(o, rule);
	else
		print_list(o);
	return EXIT_HEALTHY;
}

int cmd_explain(int argc, char **argv)
{
	struct explain o = { .width = opt_width(stdout) < PROSE ? opt_width(stdout) : PROSE };
	const struct opt options[] = {
		{ OPT_ARGUMENT, 0, NULL, &o.rule },
		{ OPT_FLAG, 0, "json", &o.json },
		{ OPT_COLOR, 0, "color", &o.color },
		{ .kind = OPT_END },
	};
	int code;

	return opt_parse(argc, argv, help, options, &code) ? explain(&o) : code;
}
