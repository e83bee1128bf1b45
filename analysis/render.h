/* SPDX-License-Identifier: MIT */
/* render.h - what the renderers share: safe text, wrapping, events as words */
#ifndef BHT_RENDER_H
#define BHT_RENDER_H

#include <jansson.h>
#include <stdio.h>

#include "diagnosis.h"
#include "schema.h"

/*
 * Copies S with everything a terminal or a JSON parser might stumble over as
 * \xNN: control characters, direction overrides, bytes that are no UTF-8. Cut
 * to SIZE. What was escaped once passes unchanged, so that a sentence with an
 * escaped name in it may be escaped again. Returns DST.
 */
char *bht_escape(char *dst, size_t size, const char *s);

/* Columns that S (valid UTF-8) takes: one for each code point. */
unsigned bht_columns(const char *s);

/* Bytes of the first line of S when it is broken at WIDTH columns; *NEXT is
 * where the following line begins. */
size_t bht_line(const char *s, unsigned width, const char **next);

/* Prints S, escaped, as lines of at most WIDTH columns, each after INDENT
 * spaces; the first one starts at column INDENT already. */
void bht_wrap(FILE *out, unsigned indent, unsigned width, const char *s);

/* Switches the terminal to SGR ("1;31"), or back to normal for "". */
void bht_paint(FILE *out, bool color, const char *sgr);

/* `bottom half "completion"`, by address when the name is empty. */
enum { BHT_WHO = 192 };
char *bht_who(char dst[BHT_WHO], const char *kind, const char *name, uint64_t addr);

/* Nanoseconds from ORIGIN to TIME, negative before it. */
double bht_since_ns(const struct bht_evidence *ev, uint64_t origin, uint64_t time);

/* What the event is called: of events.def.h, "loss", or "unknown". */
const char *bht_event_name(unsigned id);

/* One field of one event. */
struct bht_field {
	const char *name;
	enum bhp_field_kind kind;
	uint64_t value; /* sign-extended when the kind is signed */
	const char *text;
	char word[40]; /* what the value stands for, "" when it is just a number */
	bool quiet;    /* says nothing: no ticket, the normal kind, ... */
};

/* The fields of E in the order of the schema; gives their number. */
unsigned bht_event_fields(const struct bht_event *e, struct bht_field field[BHP_FIELDS_MAX]);

/*
 * E in words: its name and field=value for all that says something. Loops,
 * bottom halves and callbacks that are those of F are left out.
 */
void bht_event_words(char *dst, size_t size, const struct bht_evidence *ev, const struct bht_finding *f,
		     const struct bht_event *e);

/* One way to write all times of a table. */
struct bht_scale {
	const char *unit;
	double ns;
	int digits;
};

/* For times of up to NS nanoseconds. */
struct bht_scale bht_scale_for(double ns);

/* One sentence on why events are missing. */
const char *bht_loss_name(enum bht_loss_why why);

/* The verdict in one sentence. */
enum { BHT_SENTENCE = 1024 };
void bht_verdict_sentence(char dst[BHT_SENTENCE], const struct bht_diagnosis *d);

/* What was looked at: `Core FILE of process 7 (qemu), looked at once`; and in one
 * word: process, snapshot, core or rings. */
void bht_evidence_words(char dst[BHT_SENTENCE], const struct bht_evidence *ev);
const char *bht_origin_name(enum bht_origin origin);

/* The object of bhtrace.diagnosis/1, to be freed by the caller; NULL without memory. */
json_t *bht_diagnosis_json(const struct bht_evidence *ev, const struct bht_diagnosis *d);

/* What a confidence means, and what the recorder of so many events may hide. */
const char *bht_confidence_meaning(enum bht_confidence confidence);
const char *bht_recorder_note(const struct bht_evidence *ev, uint64_t n_events);

/* The evidence of F: one time axis, one column a thread. */
void bht_render_table(FILE *out, const struct bht_evidence *ev, const struct bht_finding *f,
		      const struct bht_render *how);

#endif
