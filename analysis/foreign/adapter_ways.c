/* SPDX-License-Identifier: MIT */
/* Where things are: the statements member, at, then and root. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "adapter_line.h"

static const char *const ops[] = {
	[BHT_CODE_LOAD] = "load", [BHT_CODE_STORE] = "store", [BHT_CODE_SWAP] = "swap", [BHT_CODE_LEA] = "lea"
};
static const char *const bases[] = {
	[BHT_BASE_ARG1] = "arg1", [BHT_BASE_ARG2] = "arg2", [BHT_BASE_ARG3] = "arg3",
	[BHT_BASE_ARG4] = "arg4", [BHT_BASE_RET] = "ret",   [BHT_BASE_GLOBAL] = "global",
};
static const char *const kinds[] = {
	[BHT_WAY_DWARF] = "dwarf", [BHT_WAY_BUILD_ID] = "build-id", [BHT_WAY_CODE] = "code", [BHT_WAY_FIXED] = "fixed"
};

enum { OFFSET_MAX = 1 << 24 }; /* no structure is larger */

static int dwarf_way(struct bht_adapter_line *l, struct bht_way *way)
{
	char *word, *dot;
	int rc = bht_line_need(l, "TYPE.MEMBER", &word);

	if (rc)
		return rc;
	dot = strchr(word, '.');
	if (!dot)
		return bht_line_refuse(l, "\"%.40s\" is not TYPE.MEMBER", word);
	*dot = '\0';
	rc = bht_line_symbol(l, "type", word, way->dwarf.type, sizeof(way->dwarf.type));
	return rc ? rc : bht_line_symbol(l, "member", dot + 1, way->dwarf.member, sizeof(way->dwarf.member));
}

static int build_id_way(struct bht_adapter_line *l, struct bht_way *way, uint64_t max)
{
	char *word;
	int rc = bht_line_need(l, "the build id", &word);

	if (rc)
		return rc;
	const size_t len = strlen(word);
	if (len < 8 || len >= sizeof(way->build_id.build_id) || strspn(word, "0123456789abcdef") != len)
		return bht_line_refuse(l, "build id \"%.48s\" is not 8 to 40 digits of 0-9 and a-f", word);
	memcpy(way->build_id.build_id, word, len + 1);
	rc = bht_line_need(l, "the offset", &word);
	return rc ? rc : bht_line_number(l, "offset", word, max, &way->build_id.offset);
}

static int fixed_way(struct bht_adapter_line *l, struct bht_way *way, uint64_t max)
{
	char *word;
	int rc = bht_line_need(l, "the offset", &word);

	return rc ? rc : bht_line_number(l, "offset", word, max, &way->fixed);
}

static int code_way(struct bht_adapter_line *l, struct bht_way *way)
{
	struct bht_code_pattern *p = &way->code;
	unsigned index;
	char *word;
	int rc = bht_line_need(l, "the function", &word);

	if (!rc)
		rc = bht_line_symbol(l, "function", word, p->function, sizeof(p->function));
	if (!rc)
		rc = bht_line_need(l, "what it does", &word);
	if (!rc)
		rc = bht_line_choice(l, "operation", word, ops, BHT_COUNT(ops), &index);
	if (rc)
		return rc;
	p->op = (enum bht_code_op)index;
	rc = bht_line_need(l, "the base", &word);
	if (!rc)
		rc = bht_line_choice(l, "base", word, bases, BHT_COUNT(bases), &index);
	p->base = (enum bht_code_base)index;
	return rc;
}

/* --- options of a way: NAME=VALUE ---------------------------------------------------- */

static int option_plus(struct bht_adapter_line *l, const char *text, struct bht_way *way)
{
	const bool minus = *text == '-';
	uint64_t n;
	int rc = bht_line_number(l, "plus", text + minus, OFFSET_MAX, &n);

	if (!rc && (way->plus || !n))
		rc = bht_line_refuse(l, "plus is there once, and not 0");
	way->plus = minus ? -(int64_t)n : (int64_t)n;
	return rc;
}

static int option_size(struct bht_adapter_line *l, const char *text, struct bht_code_pattern *p)
{
	uint64_t n;
	int rc = bht_line_number(l, "size", text, 8, &n);

	if (!rc && (p->size || p->op == BHT_CODE_LEA || !n || (n & (n - 1))))
		rc = bht_line_refuse(l, "size is there once: 1, 2, 4 or 8; and not with lea");
	p->size = (unsigned)n;
	return rc;
}

static int option_nth(struct bht_adapter_line *l, const char *text, struct bht_code_pattern *p)
{
	uint64_t n;
	int rc = bht_line_number(l, "nth", text, 64, &n);

	if (!rc && (p->nth || !n))
		rc = bht_line_refuse(l, "nth is there once, and counts from 1");
	p->nth = (unsigned)n;
	return rc;
}

/* A constant, or an argument of the function. */
static int option_value(struct bht_adapter_line *l, const char *text, struct bht_code_pattern *p)
{
	uint64_t arg;
	int rc;

	if (p->has_value || p->op != BHT_CODE_STORE)
		return bht_line_refuse(l, "value is there once, and only with store");
	p->has_value = true;
	if (strncmp(text, "arg", 3))
		return bht_line_number(l, "value", text, UINT64_MAX, &p->value);
	rc = bht_line_number(l, "value", text + 3, 6, &arg);
	if (!rc && !arg)
		rc = bht_line_refuse(l, "arguments are arg1 to arg6");
	p->value_arg = (unsigned)arg;
	return rc;
}

static int option(struct bht_adapter_line *l, char *word, struct bht_way *way)
{
	char *value = strchr(word, '=');

	if (!value)
		return bht_line_refuse(l, "\"%.40s\" is too much", word);
	*value++ = '\0';
	if (!strcmp(word, "plus"))
		return option_plus(l, value, way);
	if (way->kind == BHT_WAY_CODE && !strcmp(word, "size"))
		return option_size(l, value, &way->code);
	if (way->kind == BHT_WAY_CODE && !strcmp(word, "nth"))
		return option_nth(l, value, &way->code);
	if (way->kind == BHT_WAY_CODE && !strcmp(word, "value"))
		return option_value(l, value, &way->code);
	return bht_line_refuse(l, "%s has no option \"%.40s\"", kinds[way->kind], word);
}

/* One way with its options, and the "|" behind it: *MORE. */
static int one_way(struct bht_adapter_line *l, struct bht_way *way, uint64_t max, bool *more)
{
	unsigned kind;
	char *word;
	int rc = bht_line_need(l, "a way (dwarf, build-id, code, fixed)", &word);

	*more = false;
	if (!rc)
		rc = bht_line_choice(l, "way", word, kinds, BHT_COUNT(kinds), &kind);
	if (rc)
		return rc;
	*way = (struct bht_way){ .kind = (enum bht_way_kind)kind, .line = l->number };
	switch (way->kind) {
	case BHT_WAY_DWARF:
		rc = dwarf_way(l, way);
		break;
	case BHT_WAY_BUILD_ID:
		rc = build_id_way(l, way, max);
		break;
	case BHT_WAY_CODE:
		rc = code_way(l, way);
		break;
	case BHT_WAY_FIXED:
		rc = fixed_way(l, way, max);
		break;
	}
	while (!rc && (word = bht_line_word(l)) && !(*more = !strcmp(word, "|")))
		rc = option(l, word, way);
	if (way->kind == BHT_WAY_CODE && !way->code.nth)
		way->code.nth = 1;
	return rc;
}

/* WAY | WAY ..., of the last step of the member. */
static int step_ways(struct bht_adapter_line *l, struct bht_step *step)
{
	bool more = true;
	int rc = 0;

	while (!rc && more) {
		if (step->n == BHT_ADAPTER_WAYS_MAX)
			return bht_line_refuse(l, "more than %d ways", BHT_ADAPTER_WAYS_MAX);
		struct bht_way *way = &step->way[step->n++];
		rc = one_way(l, way, OFFSET_MAX, &more);
		if (!rc && way->kind == BHT_WAY_CODE && way->code.base == BHT_BASE_GLOBAL)
			rc = bht_line_refuse(l, "global is for roots, a member has an offset");
	}
	return rc;
}

int bht_line_at(struct bht_adapter_line *l)
{
	if (!l->path)
		return bht_line_refuse(l, "there is no member statement before it");
	if (l->path->n > 1)
		return bht_line_refuse(l, "at comes before then");
	l->path->n = 1; /* several at statements make one list */
	return step_ways(l, &l->path->step[0]);
}

int bht_line_then(struct bht_adapter_line *l)
{
	if (!l->path || !l->path->n)
		return bht_line_refuse(l, "there is no at statement before it");
	if (l->path->n == BHT_ADAPTER_STEPS_MAX)
		return bht_line_refuse(l, "more than %d steps", BHT_ADAPTER_STEPS_MAX);
	return step_ways(l, &l->path->step[l->path->n++]);
}

int bht_line_path(struct bht_adapter_line *l)
{
	static const char *const types[] = { "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "ptr" };
	enum bht_member member;
	unsigned type;
	char *word;
	int rc = bht_line_need(l, "the member", &word);

	if (!rc)
		rc = bht_line_member(l, word, &member);
	if (rc)
		return rc;
	l->path = &l->a->member[member];
	if (l->path->line)
		return bht_line_refuse(l, "%s is there already, in line %u", bht_member_name(member), l->path->line);
	rc = bht_line_need(l, "the type", &word);
	if (!rc)
		rc = bht_line_choice(l, "type", word, types, BHT_COUNT(types), &type);
	if (rc)
		return rc;
	l->path->line = l->number;
	l->path->size = type == 8 ? 8 : 1u << (type & 3);
	l->path->is_signed = type >= 4 && type < 8;
	return bht_line_end(l);
}

int bht_line_root(struct bht_adapter_line *l)
{
	bool more;

	if (l->a->n_roots == BHT_ADAPTER_ROOTS_MAX)
		return bht_line_refuse(l, "more than %d roots", BHT_ADAPTER_ROOTS_MAX);
	struct bht_way *way = &l->a->root[l->a->n_roots++];
	int rc = one_way(l, way, UINT64_MAX >> 1, &more);
	if (rc)
		return rc;
	if (more)
		return bht_line_refuse(l, "a root has one way; another root has a line of its own");
	if (way->kind != BHT_WAY_BUILD_ID && (way->kind != BHT_WAY_CODE || way->code.base != BHT_BASE_GLOBAL))
		return bht_line_refuse(l, "a root is \"code FUNCTION OPERATION global\", or a build-id");
	return 0;
}
