/* SPDX-License-Identifier: MIT */
/*
 * json_put.h - how the renderers build JSON
 *
 * json_object_set_new() and json_array_append_new() fail on a NULL value and
 * free the other side, so each function may build on and report once.
 */
#ifndef BHT_JSON_PUT_H
#define BHT_JSON_PUT_H

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "diagnosis.h"
#include "render.h"

#define PUT(object, key, value) (json_object_set_new(object, key, value) != 0)
#define ADD(array, value)       (json_array_append_new(array, value) != 0)

/* VALUE, or NULL when it failed. */
static inline json_t *unless(json_t *value, bool failed)
{
	if (!failed)
		return value;
	json_decref(value);
	return NULL;
}

/* Names are the target's: what is no UTF-8 is escaped, because jansson refuses
 * it. */
static inline json_t *text(const char *s)
{
	char safe[8 * BHT_LINE];
	json_t *value = json_string(s);

	return value ? value : json_string(bht_escape(safe, sizeof(safe), s));
}

static inline json_t *hex(uint64_t value)
{
	return json_sprintf("0x%" PRIx64, value);
}

/* JSON integers are signed here; a larger number would change its sign. */
static inline json_t *number(uint64_t value)
{
	return value <= INT64_MAX ? json_integer((json_int_t)value) : hex(value);
}

/* JSON has no infinity. */
static inline json_t *real(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

/* Prints ROOT, which it frees, on a line of its own; NULL: no memory. 0, -ENOMEM or -EIO. */
static inline int print_json(FILE *out, json_t *root)
{
	const int error = !root                                                                             ? -ENOMEM
			  : json_dumpf(root, out, JSON_INDENT(2)) || fputc('\n', out) == EOF || fflush(out) ? -EIO
													    : 0;

	json_decref(root);
	return error;
}

#endif
