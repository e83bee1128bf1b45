/* SPDX-License-Identifier: MIT */
/* adapter_line.h - one line of an adapter's file, taken apart word by word; private to adapter*.c */
#ifndef BHT_ADAPTER_LINE_H
#define BHT_ADAPTER_LINE_H

#include "adapter.h"

enum { BHT_ADAPTER_LINE_MAX = 1000 };

struct bht_adapter_line {
	struct bht_adapter *a;
	const char *name; /* of the file */
	unsigned number;
	char *rest;            /* what was not taken yet */
	struct bht_path *path; /* of the last member statement, which at and then add to */
	unsigned seen;         /* statements that may stand there once, bits */
	struct bht_refusal *refusal;
};

/* Refuses the line with "NAME: line N: reason": -EINVAL. */
int bht_line_refuse(const struct bht_adapter_line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The next word, or NULL at the end of the line or at a comment. */
char *bht_line_word(struct bht_adapter_line *l);
/* The same, but there has to be one: WHAT it is. */
int bht_line_need(struct bht_adapter_line *l, const char *what, char **word);
int bht_line_end(struct bht_adapter_line *l);

/* Copies WORD, a symbol of C or C++, to TO of SIZE bytes. */
int bht_line_symbol(const struct bht_adapter_line *l, const char *what, const char *word, char *to, size_t size);
/* The index of WORD in LIST of N. */
int bht_line_choice(const struct bht_adapter_line *l, const char *what, const char *word, const char *const *list,
		    unsigned n, unsigned *index);
/* Decimal, or hexadecimal with 0x; at most MAX. */
int bht_line_number(const struct bht_adapter_line *l, const char *what, const char *word, uint64_t max,
		    uint64_t *value);
int bht_line_member(const struct bht_adapter_line *l, const char *word, enum bht_member *member);

/* Statements: adapter_ways.c, adapter_events.c. */
int bht_line_path(struct bht_adapter_line *l); /* member */
int bht_line_at(struct bht_adapter_line *l);
int bht_line_then(struct bht_adapter_line *l);
int bht_line_root(struct bht_adapter_line *l);
int bht_line_event(struct bht_adapter_line *l);

#define BHT_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
