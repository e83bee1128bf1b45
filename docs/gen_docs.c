/* SPDX-License-Identifier: MIT */
/* gen_docs mechanisms|events - the tables of docs/ from the lists they belong to */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "diagnosis.h"

static const char *const verdict_titles[] = {
	[BHT_LOST] = "Lost: work was published and nobody will run it",
	[BHT_STUCK] = "Stuck: somebody will run it, but cannot get there",
	[BHT_LATE] = "Late: it ran, but by luck or slowly",
};

static void rule_table(FILE *out, enum bht_verdict verdict)
{
	fprintf(out, "\n## %s\n\n| rule | what happened | what decides it | found |\n| --- | --- | --- | --- |\n",
		verdict_titles[verdict]);
	for (unsigned i = 0; i < BHT_RULES; i++) {
		const struct bht_rule *r = &bht_rules[i];
		if (r->verdict == verdict)
			fprintf(out, "| [`%s`](#%s) | %s | %s | %s |\n", r->id, r->id, r->line, r->decides,
				r->found ? "yes" : "not yet");
	}
}

/* One paragraph of the page; "What happens:" becomes bold. */
static const char *rule_paragraph(FILE *out, const char *page)
{
	const char *colon = strchr(page, ':'), *end = strstr(page, "\n\n");
	size_t len = end ? (size_t)(end - page) : strlen(page);

	fprintf(out, "\n**%.*s.**%.*s\n", (int)(colon - page), page, (int)(len - (size_t)(colon + 1 - page)),
		colon + 1);
	return end ? end + 2 : NULL;
}

static void gen_mechanisms(FILE *out)
{
	fprintf(out,
		"<!-- made by `make docs` from analysis/rules.def.h -->\n# Mechanisms\n\n"
		"Every finding names one of these rules. `bhtrace explain RULE` shows the same text. \"Found\" says\n"
		"whether the analyzer of this version finds it.\n");
	rule_table(out, BHT_LOST);
	rule_table(out, BHT_STUCK);
	rule_table(out, BHT_LATE);
	for (unsigned i = 0; i < BHT_RULES; i++) {
		fprintf(out, "\n## %s\n\n%s: %s.\n", bht_rules[i].id, bht_verdict_name(bht_rules[i].verdict),
			bht_rules[i].line);
		for (const char *page = bht_rules[i].page; page;)
			page = rule_paragraph(out, page);
		fprintf(out, "\n**Remedy.** %s\n", bht_rules[i].remedy);
	}
}

static void gen_events(FILE *out)
{
	fprintf(out,
		"<!-- made by `make docs` from probes/events.def.h -->\n# Events\n\n"
		"Provider `bh`. Each event is a record of the flight recorder; those marked USDT are a probe\n"
		"`bh:NAME` too, with the fields as arguments in this order and the time of the record, in ticks, as\n"
		"the last one. The slot is the place in the record, see probes/record.h.\n\n"
		"Those marked LTTng are a tracepoint `bh:NAME` of the LTTng-UST provider, too. Its fields are\n"
		"`time`, in ticks and the same as in the record, and then these; a ptr is written in hexadecimal.\n"
		"`execute_begin` is one only with BH_LTTNG_BEGIN=1, see placement.md.\n\n"
		"Those marked eBPF only are seen by the kernel and recorded by `bhtrace record --via bpf`. They are "
		"about\n"
		"the thread they are recorded for, and no loop.\n");
#define BHP_F(slot, kind, name, doc) fprintf(out, "| `%s` | %s | %s | %s |\n", #name, #kind, #slot, doc);
#define EVENT(number, name, fields, doc, how)                                                                          \
	fprintf(out, "\n## %d %s\n\n%s%s.\n\n| field | kind | slot | meaning |\n| --- | --- | --- | --- |\n", number,  \
		#name, how, doc);                                                                                      \
	fields
#define BHP_EVENT(number, name, fields, doc)  EVENT(number, name, fields, doc, "USDT, LTTng: ")
#define BHP_MARK(number, name, fields, doc)   EVENT(number, name, fields, doc, "Recorder only: ")
#define BHP_KERNEL(number, name, fields, doc) EVENT(number, name, fields, doc, "eBPF only: ")
#include "events.def.h"
#undef BHP_F
#undef EVENT
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "mechanisms"))
		gen_mechanisms(stdout);
	else if (argc == 2 && !strcmp(argv[1], "events"))
		gen_events(stdout);
	else
		return fprintf(stderr, "usage: gen_docs mechanisms|events\n"), EXIT_FAILURE;
	return fflush(stdout) || ferror(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}
