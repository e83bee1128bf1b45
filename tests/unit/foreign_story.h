/* SPDX-License-Identifier: MIT */
/*
 * foreign_story.h - stories of loops that were never instrumented, and tables of what is said to them
 *
 * Two looks at their memory and at what the kernel shows, and no history. Each story is told without a
 * source of events and with an empty one.
 */
#ifndef FOREIGN_STORY_H
#define FOREIGN_STORY_H

#include <stdio.h>

#include "story.h"

enum {
	WATCHED_NS = 600000000,
	LIBUV = BHT_TRAIT_FOREIGN | BHT_TRAIT_COALESCES | BHT_TRAIT_NOTIFIES,
	GLIB = BHT_TRAIT_FOREIGN | BHT_TRAIT_CANNOT_TURN | BHT_TRAIT_NOTIFIES,
	QEMU = BHT_TRAIT_FOREIGN | BHT_TRAIT_COALESCES | BHT_TRAIT_LISTS_PENDING | BHT_TRAIT_CANNOT_TURN |
	       BHT_TRAIT_ASKS,
	LIBEVENT = BHT_TRAIT_FOREIGN | BHT_TRAIT_COALESCES | BHT_TRAIT_LISTS_PENDING | BHT_TRAIT_CANNOT_TURN |
		   BHT_TRAIT_NOTIFIES
};

/* Two loops of which one is there, asleep and with nothing scheduled, in a process that sleeps. */
static inline void begin(struct story *s, const char *adapter, uint32_t traits, uint32_t protocol)
{
	story_begin(s);
	for (unsigned i = 0; i < STORY_LOOPS; i++) {
		both(s, loop[i].traits, traits);
		both(s, loop[i].protocol, protocol);
		both(s, loop[i].poll_fd, 20 + (int)i);
		strcpy(s->first.loop[i].adapter, adapter);
		strcpy(s->last.loop[i].adapter, adapter);
	}
	for (unsigned t = 1; t < STORY_THREADS; t++)
		both(s, thread[t].syscall, SYS_futex);
	s->ev.last.ticks = s->ev.first.ticks + WATCHED_NS;
}

static inline void libuv(struct story *s)
{
	begin(s, "libuv", LIBUV, 0);
}

static inline void glib(struct story *s)
{
	begin(s, "glib", GLIB, 0);
	both(s, loop[0].iteration, 0);
}

/* Only pending ones are in its list. */
static inline void qemu(struct story *s)
{
	begin(s, "qemu", QEMU, BHP_PROTOCOL_FULL_BARRIER);
	both(s, loop[0].iteration, 0);
	story_more(s, 1, 0);
}

static inline void libevent(struct story *s)
{
	begin(s, "libevent", LIBEVENT, BHP_PROTOCOL_FULL_BARRIER);
	both(s, loop[0].iteration, 0);
	story_more(s, 1, 0);
}

static inline void due(struct story *s)
{
	story_more(s, s->ev.last.n_loops, 1);
	story_due(s, 0);
}

static inline void libuv_due(struct story *s)
{
	libuv(s);
	due(s);
}

static inline void flags_not_known(struct story *s)
{
	glib(s);
	both(s, loop[0].traits, GLIB | BHT_TRAIT_FLAG_UNKNOWN);
}

/* A --witness: whether work was undone at each look. */
static inline void witness(struct story *s, bool first, bool last)
{
	strcpy(s->ev.payload.text, "produced != consumed");
	s->ev.payload.first = (struct bht_payload_look){ true, first, first ? 8 : 7, 7 };
	s->ev.payload.last = (struct bht_payload_look){ true, last, last ? 8 : 7, 7 };
}

/* --- what is said to them ----------------------------------------------------------------- */

#define NOTHING(verdict)  BHT_##verdict, BHT_RULES, 0
#define FOUND(rule, sure) BHT_HEALTHY, BHT_RULE_##rule, BHT_##sure
#define WORDS_MAX         4

struct said {
	const char *name;
	void (*story)(struct story *s);
	enum bht_verdict verdict; /* without a finding */
	enum bht_rule_id rule;
	enum bht_confidence confidence;
	const char *words[WORDS_MAX]; /* in the detail, or in the reasons; with '!' not */
};

/* clang-format off */
#define SAID(story, ...) { #story, story, __VA_ARGS__ }
/* clang-format on */

static inline void diagnose(const struct story *s, bool recorder, struct bht_diagnosis *d)
{
	if (recorder)
		story_diagnose(s, d);
	else
		assert_int_equal(bht_diagnose(&s->ev, NULL, BHT_LATE_NS, d), 0);
}

static inline bool says(const struct bht_diagnosis *d, const char *word)
{
	if (d->n_findings)
		return strstr(d->findings[0].detail, word) != NULL;
	for (unsigned i = 0; i < d->n_reasons; i++)
		if (strstr(d->reasons[i], word))
			return true;
	return false;
}

static inline bool as_said(const struct said *want, const struct bht_diagnosis *d)
{
	const bool found = want->rule != BHT_RULES;
	bool ok = d->n_findings == found;

	if (found && ok)
		ok = d->findings[0].rule == want->rule && d->findings[0].confidence == want->confidence &&
		     d->findings[0].refute[0];
	if (!found)
		ok &= d->verdict == want->verdict;
	for (unsigned i = 0; i < WORDS_MAX && want->words[i]; i++)
		ok &= want->words[i][0] == '!' ? !says(d, want->words[i] + 1) : says(d, want->words[i]);
	return ok;
}

static inline void print_said(const char *name, const struct bht_diagnosis *d)
{
	print_message("%s: %s\n", name, bht_verdict_name(d->verdict));
	for (unsigned i = 0; i < d->n_findings; i++)
		print_message("  %s (%s): %s\n", bht_rules[d->findings[i].rule].id,
			      bht_confidence_name(d->findings[i].confidence), d->findings[i].detail);
	for (unsigned i = 0; i < d->n_reasons; i++)
		print_message("  ? %s\n", d->reasons[i]);
}

static inline void check_said(struct story *s, const struct said *table, size_t n)
{
	struct bht_diagnosis d;
	unsigned wrong = 0;

	for (size_t i = 0; i < n; i++) {
		for (unsigned recorder = 0; recorder < 2; recorder++) {
			table[i].story(s);
			diagnose(s, recorder, &d);
			if (!as_said(&table[i], &d)) {
				print_said(table[i].name, &d);
				wrong++;
			}
			bht_diagnosis_free(&d);
		}
	}
	assert_int_equal(wrong, 0);
}

/* One look, and nothing of what the kernel keeps: what two looks called hung may only be suspected then, and what
 * is lost is never healthy. */
static inline void check_said_at_a_core(struct story *s, const struct said *table, size_t n)
{
	struct bht_diagnosis d;

	for (size_t i = 0; i < n; i++) {
		table[i].story(s);
		story_look(s, BHT_FROM_CORE);
		diagnose(s, false, &d);
		const bool wrong =
			(d.verdict == BHT_HEALTHY && table[i].rule != BHT_RULES) ||
			(d.n_findings && d.findings[0].rule != table[i].rule && table[i].verdict == BHT_HEALTHY);
		if (wrong)
			print_said(table[i].name, &d);
		assert_false(wrong);
		bht_diagnosis_free(&d);
	}
}

#define CHECK_SAID(s, table)                                                                                           \
	do {                                                                                                           \
		check_said(s, table, sizeof(table) / sizeof((table)[0]));                                              \
		check_said_at_a_core(s, table, sizeof(table) / sizeof((table)[0]));                                    \
	} while (0)

#endif
