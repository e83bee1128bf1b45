/* SPDX-License-Identifier: MIT */
/* snapline.h - a struct as a line of text, and back */
#ifndef BHT_SNAPLINE_H
#define BHT_SNAPLINE_H

#include <stdbool.h>
#include <stdio.h>

#define BHT_SNAPSHOT_WORD  "bhtrace-snapshot "
#define BHT_SNAPSHOT_FIRST BHT_SNAPSHOT_WORD "3"

enum { BHT_SNAPLINE = 8192, BHT_SNAPTEXT = 1024 /* of one string */ };

enum bht_snap {
#define BHT_LINE_BEGIN(word, type) BHT_SNAP_##word,
#define BHT_F(kind, member)
#define BHT_LINE_END
#include "snapshot_fields.def.h"
	BHT_SNAPS
};

/* "WORD member=value ...\n" of OBJECT, which is of the struct of WHAT. */
void bht_snap_print(FILE *out, enum bht_snap what, const void *object);

/* Fills in the members of OBJECT from LINE (without the newline). NULL, or what
 * is wrong and in *AT where. */
const char *bht_snap_parse(const char *line, enum bht_snap what, void *object, const char **at);

/* Whether LINE begins with the word of WHAT. */
bool bht_snap_is(const char *line, enum bht_snap what);

/* A string without spaces and control characters, at most BHT_SNAPTEXT bytes of
 * it; and back: false when it does not fit SIZE or is no such string. */
void bht_snap_escape(FILE *out, const char *text, size_t size);
bool bht_snap_unescape(const char *from, size_t n, char *to, size_t size);

#endif
