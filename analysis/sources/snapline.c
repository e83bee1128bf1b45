/* SPDX-License-Identifier: MIT */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "evidence.h"
#include "snapline.h"

struct field {
	const char *name;
	char kind;
	uint16_t offset, size;
};

/* loop_fields() and so on. */
#define BHT_LINE_BEGIN(word, type)                                                                                     \
	static const struct field *word##_fields(unsigned *n)                                                          \
	{                                                                                                              \
		typedef struct type line_type;                                                                         \
		static const struct field fields[] = {
#define BHT_F(kind, member) { #member, #kind[0], offsetof(line_type, member), sizeof(((line_type *)0)->member) },
#define BHT_LINE_END                                                                                                   \
	}                                                                                                              \
	;                                                                                                              \
	*n = sizeof(fields) / sizeof(fields[0]);                                                                       \
	return fields;                                                                                                 \
	}
#include "snapshot_fields.def.h"

static const struct {
	const char *word;
	const struct field *(*fields)(unsigned *n);
} lines[] = {
#define BHT_LINE_BEGIN(word, type) { #word, word##_fields },
#define BHT_F(kind, member)
#define BHT_LINE_END
#include "snapshot_fields.def.h"
};

/* --- numbers ------------------------------------------------------------------- */

/* The integer of SIZE bytes at FROM, and back; false when it does not fit. */
static uint64_t load(const void *from, size_t size, bool is_signed)
{
	union {
		uint8_t u1;
		uint32_t u4;
		uint64_t u8;
	} v = { .u8 = 0 };

	memcpy(&v, from, size);
	if (size == 4)
		return is_signed ? (uint64_t)(int64_t)(int32_t)v.u4 : v.u4;
	return size == 1 ? v.u1 : v.u8;
}

static bool store(void *to, size_t size, bool is_signed, uint64_t value)
{
	const uint32_t u4 = (uint32_t)value;
	const uint8_t u1 = (uint8_t)value;

	memcpy(to, size == 8 ? (const void *)&value : size == 4 ? (const void *)&u4 : &u1, size);
	return load(to, size, is_signed) == value;
}

/* --- strings ------------------------------------------------------------------- */

void bht_snap_escape(FILE *out, const char *text, size_t size)
{
	for (size_t i = 0; i < size && i < BHT_SNAPTEXT && text[i]; i++) {
		const unsigned char c = (unsigned char)text[i];
		if (c <= ' ' || c >= 0x7f || c == '\\')
			fprintf(out, "\\%02x", c);
		else
			fputc(c, out);
	}
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool bht_snap_unescape(const char *from, size_t n, char *to, size_t size)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		int c = (unsigned char)from[i];
		if (c == '\\') {
			const int high = n - i > 2 ? digit(from[i + 1]) : -1, low = n - i > 2 ? digit(from[i + 2]) : -1;
			c = high < 0 || low < 0 ? 0 : high * 16 + low;
			i += 2;
		}
		if (!c || len + 1 >= size)
			return false;
		to[len++] = (char)c;
	}
	to[len] = '\0';
	return true;
}

/* --- lines --------------------------------------------------------------------- */

static void print_value(FILE *out, const struct field *f, const void *at)
{
	switch (f->kind) {
	case 's':
		bht_snap_escape(out, at, f->size);
		break;
	case 'i':
		fprintf(out, "%lld", (long long)load(at, f->size, true));
		break;
	default: /* a double as its bits: exactly, and the same in every locale */
		fprintf(out, "0x%llx", (unsigned long long)load(at, f->size, false));
	}
}

void bht_snap_print(FILE *out, enum bht_snap what, const void *object)
{
	unsigned n;
	const struct field *f = lines[what].fields(&n);

	fputs(lines[what].word, out);
	for (unsigned i = 0; i < n; i++) {
		fprintf(out, " %s=", f[i].name);
		print_value(out, &f[i], (const char *)object + f[i].offset);
	}
	fputc('\n', out);
}

bool bht_snap_is(const char *line, enum bht_snap what)
{
	const size_t n = strlen(lines[what].word);

	return !strncmp(line, lines[what].word, n) && (line[n] == ' ' || !line[n]);
}

static const char *parse_value(const struct field *f, const char *from, size_t n, void *to)
{
	char *end;

	if (f->kind == 's')
		return bht_snap_unescape(from, n, to, f->size) ? NULL : "a string that is too long or damaged";
	if (!n || *from == '+' || (f->kind != 'i' && (*from == '-' || strncmp(from, "0x", 2) != 0)))
		return "no number";
	const uint64_t value = f->kind == 'i' ? (uint64_t)strtoll(from, &end, 10) : strtoull(from, &end, 16);
	if (end != from + n)
		return "no number";
	if (!store(to, f->size, f->kind == 'i', value) || (f->kind == 'b' && value > 1))
		return "a number out of range";
	return NULL;
}

const char *bht_snap_parse(const char *line, enum bht_snap what, void *object, const char **at)
{
	unsigned n;
	const struct field *f = lines[what].fields(&n);
	const char *wrong = NULL;

	*at = line;
	if (!bht_snap_is(line, what))
		return "another kind of line was expected";
	*at += strlen(lines[what].word);
	for (unsigned i = 0; i < n && !wrong; i++) {
		const size_t len = strlen(f[i].name);
		if (**at != ' ' || strncmp(*at + 1, f[i].name, len) != 0 || (*at)[1 + len] != '=')
			return "another field was expected";
		*at += len + 2;
		const size_t value = strcspn(*at, " ");
		wrong = parse_value(&f[i], *at, value, (char *)object + f[i].offset);
		if (!wrong)
			*at += value;
	}
	return wrong ? wrong : **at ? "more than was expected" : NULL;
}
