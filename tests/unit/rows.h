/* SPDX-License-Identifier: MIT */
/*
 * rows.h - tables of stories and what each kind of evidence must say to them
 *
 * Each story is also told with every single event, and then all of them,
 * missing: the verdict may become undecidable, but not another one.
 */
#ifndef ROWS_H
#define ROWS_H

#include "story.h"

struct outcome {
	enum bht_verdict verdict;
	enum bht_rule_id rule; /* BHT_RULES: no finding */
	enum bht_confidence confidence;
};

#define HEALTHY                                                                                                        \
	{                                                                                                              \
		BHT_HEALTHY, BHT_RULES, 0                                                                              \
	}
#define UNDECIDABLE                                                                                                    \
	{                                                                                                              \
		BHT_UNDECIDABLE, BHT_RULES, 0                                                                          \
	}
#define LOST(rule, confidence)                                                                                         \
	{                                                                                                              \
		BHT_LOST, BHT_RULE_##rule, BHT_##confidence                                                            \
	}
#define STUCK(rule, confidence)                                                                                        \
	{                                                                                                              \
		BHT_STUCK, BHT_RULE_##rule, BHT_##confidence                                                           \
	}
#define LATE(rule, confidence)                                                                                         \
	{                                                                                                              \
		BHT_LATE, BHT_RULE_##rule, BHT_##confidence                                                            \
	}

typedef void story_fn(struct story *s);

struct row {
	const char *name;
	story_fn *story;
	struct outcome live, core, rings;
};

/* clang-format off */
#define ROW(story, live, ...) { #story, story, live, __VA_ARGS__ }
/* clang-format on */

static inline struct outcome outcome_of(const struct story *s)
{
	struct bht_diagnosis d;

	story_diagnose(s, &d);
	struct outcome o = { d.verdict, BHT_RULES, 0 };
	if (d.n_findings) {
		const struct bht_finding *f = &d.findings[0];
		o.rule = f->rule;
		o.confidence = f->confidence;
		assert_int_equal(bht_rules[f->rule].verdict, d.verdict);
		assert_true(f->detail[0] && f->refute[0]);
	}
	if (d.n_findings > 1)
		o.rule = BHT_RULES + 1; /* no story has two */
	assert_true(d.verdict != BHT_UNDECIDABLE || d.n_reasons > 0);
	bht_diagnosis_free(&d);
	return o;
}

static inline bool same_verdict(const struct outcome *a, const struct outcome *b)
{
	return a->verdict == b->verdict && a->rule == b->rule;
}

static inline void print_outcome(const char *row, const char *evidence, const char *how, const struct outcome *got,
				 const struct outcome *want)
{
	const struct outcome *const both_of_them[] = { got, want };

	print_message("%s, %s%s:", row, evidence, how);
	for (unsigned i = 0; i < 2; i++) {
		const struct outcome *o = both_of_them[i];
		print_message(" %s %s (%s %s)", i ? ", not" : "", bht_verdict_name(o->verdict),
			      o->rule < BHT_RULES   ? bht_rules[o->rule].id
			      : o->rule > BHT_RULES ? "several"
						    : "nothing",
			      bht_confidence_name(o->confidence));
	}
	print_message("\n");
}

/* What was late leaves no trace but its events. */
static inline bool may_say(const struct outcome *want, const struct outcome *got)
{
	return same_verdict(want, got) || got->verdict == BHT_UNDECIDABLE ||
	       (want->verdict == BHT_LATE && got->verdict == BHT_HEALTHY);
}

/* Number of verdicts that are wrong. */
static inline unsigned check_missing(struct story *s, const struct row *row, enum bht_origin origin,
				     const char *evidence, const struct outcome *want)
{
	unsigned wrong = 0, n = 1;

	for (unsigned i = 0; i <= n; i++) {
		char how[32] = ", nothing left";
		row->story(s);
		story_look(s, origin);
		n = s->n;
		if (i < n) {
			snprintf(how, sizeof(how), " without event %u", i);
			story_delete(s, i);
		} else {
			s->n = 0;
			for (uint32_t t = 0; t < STORY_THREADS; t++)
				story_lose(s, LOOP_TID + t, s->ev.last.ticks);
		}
		struct outcome got = outcome_of(s);
		if (may_say(want, &got))
			continue;
		print_outcome(row->name, evidence, how, &got, want);
		wrong++;
	}
	return wrong;
}

static inline unsigned check_row(struct story *s, const struct row *row, enum bht_origin origin, const char *evidence,
				 const struct outcome *want)
{
	row->story(s);
	story_look(s, origin);
	struct outcome got = outcome_of(s);
	if (!same_verdict(&got, want) || got.confidence != want->confidence) {
		print_outcome(row->name, evidence, "", &got, want);
		return 1;
	}
	return check_missing(s, row, origin, evidence, want);
}

static inline void check_rows(const struct row *rows, size_t n)
{
	struct story *s = calloc(1, sizeof(*s));
	unsigned wrong = 0;

	assert_non_null(s);
	for (const struct row *row = rows; row < rows + n; row++) {
		wrong += check_row(s, row, BHT_FROM_PROCESS, "live", &row->live);
		wrong += check_row(s, row, BHT_FROM_CORE, "core", &row->core);
		wrong += check_row(s, row, BHT_FROM_RINGS, "rings", &row->rings);
	}
	free(s);
	assert_int_equal(wrong, 0);
}

#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

#endif
