/* SPDX-License-Identifier: MIT */
/*
 * diagnosis.h - from evidence and history to a verdict
 *
 * The pipeline: a source of events is fed through the machines (one for each
 * bottom half, loop and thread), then each rule looks at machines and evidence
 * and gives a finding, nothing, or a reason why it cannot decide. A renderer
 * turns the diagnosis into text or JSON.
 */
#ifndef BHT_DIAGNOSIS_H
#define BHT_DIAGNOSIS_H

#include <stdio.h>

#include "event.h"
#include "evidence.h"

enum bht_verdict { BHT_HEALTHY, BHT_LATE, BHT_STUCK, BHT_LOST, BHT_UNDECIDABLE };
enum bht_confidence { BHT_SUSPECTED, BHT_CONSISTENT, BHT_PROVED };

enum bht_rule_id {
#define BHT_RULE(symbol, id, verdict, found, line, decides, remedy, page) BHT_RULE_##symbol,
#include "rules.def.h"
#undef BHT_RULE
	BHT_RULES
};

struct bht_rule {
	const char *id;
	enum bht_verdict verdict;
	bool found;          /* this version's analyzer finds it */
	const char *line;    /* one line: what happened */
	const char *decides; /* what evidence decides it */
	const char *remedy;
	const char *page; /* for `bhtrace explain`: one paragraph for each of BHT_PAGE_PARTS */
};

extern const struct bht_rule bht_rules[BHT_RULES];

#define BHT_PAGE_PARTS "What happens", "Memory when hung", "Told apart", "Real cases", "Fix"

const char *bht_verdict_name(enum bht_verdict verdict);          /* "healthy", "lost", ... */
const char *bht_confidence_name(enum bht_confidence confidence); /* "proved", ... */

enum { BHT_WITNESS_MAX = 24, BHT_REASONS_MAX = 16, BHT_LINE = 640, BHT_DETAIL = 1280 };

/* One event of the evidence, with what it means here. */
struct bht_witness {
	struct bht_event event; /* event.text is not valid */
	bool key;               /* without this one the rule would not hold */
	char role[80];          /* "saw the flag still set", or "" */
};

struct bht_finding {
	enum bht_rule_id rule;
	enum bht_confidence confidence;
	struct bht_bh bh; /* addr 0 when the finding is about a loop alone */
	struct bht_loop loop;
	char detail[BHT_DETAIL];                     /* some sentences of what happened here, with names and numbers */
	char refute[BHT_LINE];                       /* which observation would refute it */
	uint64_t origin;                             /* time that witnesses are shown relative to */
	struct bht_witness witness[BHT_WITNESS_MAX]; /* by time */
	unsigned n_witness;
};

/* Why nothing is wrong with a bottom half. */
enum bht_standing {
	BHT_IS_IDLE,      /* nobody scheduled it since it ran */
	BHT_IS_DUE,       /* scheduled, and will be run */
	BHT_IS_THROTTLED, /* an idle schedule waits for its 10 ms, on purpose */
	BHT_IS_CANCELLED, /* its schedule was withdrawn */
	BHT_IS_DELETED
};

struct bht_diagnosis {
	enum bht_verdict verdict;
	struct bht_finding *findings; /* worst first; owned */
	unsigned n_findings;
	char reasons[BHT_REASONS_MAX][BHT_LINE]; /* why something is undecidable */
	unsigned n_reasons;
	unsigned n_lasting; /* of them: another look will not tell */
	uint64_t n_events;
	uint64_t lost_events;        /* that the history is known to lack */
	char loss_why[BHT_LINE];     /* "" when nothing is missing */
	enum bht_standing *standing; /* of each bottom half of the last sample; owned */
	struct bht_begun *begun;     /* executions that go on, as far as the history says; owned */
	size_t n_begun;
	/* What was looked at, for the healthy sentence. */
	unsigned n_loops, n_bhs, n_running, n_asleep;
};

enum { BHT_LATE_NS = 500 * 1000 * 1000 }; /* a good LATE_NS */

/*
 * Diagnoses. HISTORY may be NULL (no recorder); it is read to its end, not
 * closed. What ran less than LATE_NS after its schedule was not slow. 0, or -errno when memory ran out or the history failed. The result
 * is freed with bht_diagnosis_free() in any case.
 */
int bht_diagnose(const struct bht_evidence *ev, struct bht_source *history, uint64_t late_ns, struct bht_diagnosis *d);
void bht_diagnosis_free(struct bht_diagnosis *d);

/*
 * The same in steps, for a history that several processes share: the machines are
 * begun, fed with the events of one process, and judged. They are the caller's.
 */
struct bht_machines;
void bht_machines_begin(struct bht_machines *m, const struct bht_evidence *ev);
int bht_judge(const struct bht_evidence *ev, const struct bht_machines *m, bool history, uint64_t late_ns,
	      struct bht_diagnosis *d);

struct bht_render {
	bool color;
	bool all;       /* also the innocents */
	unsigned width; /* columns of the terminal, 0 for 100 */
};

/* Human-readable; the verdict in one sentence comes first. 0 or -EIO. */
int bht_render_text(FILE *out, const struct bht_evidence *ev, const struct bht_diagnosis *d,
		    const struct bht_render *how);
/* Schema bhtrace.diagnosis/1, docs/json.md. 0, -ENOMEM or -EIO. */
int bht_render_json(FILE *out, const struct bht_evidence *ev, const struct bht_diagnosis *d);

/* Exit code of a verdict: 0 healthy, 1 finding, 3 undecidable. */
int bht_exit_code(enum bht_verdict verdict);

#endif
