/* SPDX-License-Identifier: MIT */
/* One comparison of the target's own variables: parsed, looked up, read. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image_inside.h"
#include "refuse.h"
#include "witness.h"

/* --- parsing -------------------------------------------------------------------------- */

struct parser {
	const char *text, *at;
	struct bht_refusal *refusal;
};

static int refuse_at(const struct parser *p, const char *at, const char *what)
{
	return bht_refuse(p->refusal, -EINVAL, 0, "witness: column %zu: %s", (size_t)(at - p->text) + 1, what);
}

static void skip_blanks(struct parser *p)
{
	p->at += strspn(p->at, " \t");
}

/* "u64" and the like, behind an address. */
static bool parse_type(const char *text, size_t len, struct bht_claim_operand *o)
{
	static const struct {
		char name[4];
		unsigned size;
	} types[] = { { "8", 1 }, { "16", 2 }, { "32", 4 }, { "64", 8 } };

	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (len != strlen(types[i].name) + 1 || memcmp(text + 1, types[i].name, len - 1) ||
		    (*text != 'u' && *text != 'i'))
			continue;
		o->size = types[i].size;
		o->is_signed = *text == 'i';
		return true;
	}
	return false;
}

/* A number, or an address with its type, at the parser's place, up to END. */
static int parse_number(const struct parser *p, const char *end, struct bht_claim_operand *o)
{
	const bool negative = *p->at == '-';
	const char *digits = p->at + negative;
	char *rest;

	if (!isdigit((unsigned char)*digits))
		return refuse_at(p, p->at, "a number was expected");
	errno = 0;
	const uint64_t value = strtoull(digits, &rest, strncmp(digits, "0x", 2) ? 10 : 16);
	if (errno || (negative && value > (uint64_t)INT64_MAX + 1))
		return refuse_at(p, p->at, "a number beyond 64 bits");
	if (rest == end) {
		o->constant = true;
		o->value = negative ? 0 - value : value;
		o->is_signed = negative || value <= INT64_MAX;
		return 0;
	}
	if (*rest != ':' || negative)
		return refuse_at(p, rest, "not a part of a number");
	if (!parse_type(rest + 1, (size_t)(end - rest - 1), o))
		return refuse_at(p, rest + 1, "a type was expected: u8 u16 u32 u64 i8 i16 i32 i64");
	o->addr = value;
	return 0;
}

static int parse_operand(struct parser *p, struct bht_claim_operand *o)
{
	skip_blanks(p);
	const size_t len = strcspn(p->at, " \t=!<>");

	if (!len)
		return refuse_at(p, p->at, "an operand was expected: a variable, ADDRESS:TYPE or a number");
	if (len >= sizeof(o->text))
		return refuse_at(p, p->at, "an operand of more than 95 characters");
	memcpy(o->text, p->at, len);
	if (isdigit((unsigned char)*p->at) || *p->at == '-') {
		int rc = parse_number(p, p->at + len, o);
		if (rc)
			return rc;
	} else {
		for (size_t i = 0; i < len; i++)
			if (!isalnum((unsigned char)p->at[i]) && !strchr("_.$", p->at[i]))
				return refuse_at(p, p->at + i, "a character that no variable's name has");
		if (*p->at == '.' || p->at[len - 1] == '.')
			return refuse_at(p, p->at, "a name that begins or ends with a dot");
	}
	p->at += len;
	skip_blanks(p);
	return 0;
}

static int parse_comparison(struct parser *p, enum bht_comparison *comparison)
{
	/* The longer ones first. */
	static const struct {
		char text[3];
		enum bht_comparison comparison;
	} all[] = { { "==", BHT_EQ }, { "!=", BHT_NE }, { "<=", BHT_LE },
		    { ">=", BHT_GE }, { "<", BHT_LT },  { ">", BHT_GT } };

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const size_t len = strlen(all[i].text);
		if (strncmp(p->at, all[i].text, len))
			continue;
		*comparison = all[i].comparison;
		p->at += len;
		return 0;
	}
	return refuse_at(p, p->at, "a comparison was expected: == != < <= > >=");
}

int bht_claim_parse(struct bht_claim *w, const char *text, struct bht_refusal *refusal)
{
	struct parser p = { text, text, refusal };

	memset(w, 0, sizeof(*w));
	if (strlen(text) >= sizeof(w->text))
		return refuse_at(&p, text + sizeof(w->text) - 1, "more than 255 characters");
	memcpy(w->text, text, strlen(text));
	int rc = parse_operand(&p, &w->left);
	if (!rc)
		rc = parse_comparison(&p, &w->comparison);
	if (!rc)
		rc = parse_operand(&p, &w->right);
	if (rc)
		return rc;
	if (*p.at)
		return refuse_at(&p, p.at, "the end was expected: one comparison is all");
	return w->left.constant && w->right.constant ? refuse_at(&p, text, "two numbers tell nothing of the target")
						     : 0;
}

/* --- looking up --------------------------------------------------------------------------- */

/* Whether IMAGE has a symbol for the first part of NAME. */
static bool defines(struct bht_image *image, const char *name)
{
	const struct bht_symbols *symbols = bht_image_symbols(image);
	char first[sizeof(((struct bht_claim_operand *)0)->text)];
	bool ambiguous;

	snprintf(first, sizeof(first), "%.*s", (int)strcspn(name, "."), name);
	return symbols && bht_symbols_find(symbols, first, &ambiguous);
}

/* Asks the images that have such a symbol, or else all: a stripped one may have a debug file. */
static int find_variable(struct bht_claim_operand *o, struct bht_images *images, struct bht_refusal *refusal)
{
	struct bht_image *found = NULL;
	uint64_t addr, size = 0;
	bool defined = false;
	int is_signed = -1;

	for (unsigned i = 0; i < images->n; i++)
		defined |= defines(images->image[i], o->text);
	for (unsigned i = 0; i < images->n; i++) {
		struct bht_image *image = images->image[i];
		if (defined && !defines(image, o->text))
			continue;
		int rc = bht_image_variable(image, o->text, &addr, &size, &is_signed);
		if (rc == -ENOTUNIQ)
			return bht_refuse(refusal, rc, 0,
					  "witness: %s: %s has several of that name; ADDRESS:TYPE would do", o->text,
					  bht_image_path(image));
		if (!rc && found)
			return bht_refuse(refusal, -ENOTUNIQ, addr,
					  "witness: %s: %.100s and %.100s both have one; ADDRESS:TYPE would do",
					  o->text, bht_image_path(found), bht_image_path(image));
		if (rc)
			continue;
		found = image;
		o->addr = addr;
		o->size = size <= 8 ? (unsigned)size : 0;
		o->is_signed = is_signed == 1;
		o->sign_unknown = is_signed < 0;
	}
	if (!found)
		return bht_refuse(refusal, -ENOENT, 0,
				  "witness: %s: no variable of that name in symbols or debug information; ADDRESS:TYPE "
				  "would do",
				  o->text);
	if (o->size == 1 || o->size == 2 || o->size == 4 || o->size == 8)
		return 0;
	return bht_refuse(
		refusal, -EINVAL, o->addr,
		"witness: %s of %s: no integer of 1, 2, 4 or 8 bytes; a member (NAME.MEMBER) or ADDRESS:TYPE would do",
		o->text, bht_image_path(found));
}

int bht_claim_resolve(struct bht_claim *w, struct bht_images *images, struct bht_refusal *refusal)
{
	struct bht_claim_operand *const operands[] = { &w->left, &w->right };
	int rc = 0;

	for (unsigned i = 0; i < 2 && !rc; i++)
		if (!operands[i]->constant && !isdigit((unsigned char)operands[i]->text[0]))
			rc = find_variable(operands[i], images, refusal);
	return rc;
}

/* --- reading ---------------------------------------------------------------------------------- */

static uint64_t extend(uint64_t value, unsigned size, bool is_signed)
{
	const unsigned unused = 64 - 8 * size;

	return is_signed ? (uint64_t)((int64_t)(value << unused) >> unused) : value << unused >> unused;
}

static bool compare(uint64_t left, uint64_t right, bool is_signed, enum bht_comparison comparison)
{
	const bool less = is_signed ? (int64_t)left < (int64_t)right : left < right;

	switch (comparison) {
	case BHT_EQ:
		return left == right;
	case BHT_NE:
		return left != right;
	case BHT_LT:
		return less;
	case BHT_LE:
		return less || left == right;
	case BHT_GT:
		return !less && left != right;
	case BHT_GE:
		return !less;
	}
	return false;
}

/* The answer, should the operands of unknown sign have these. */
static bool answer(const struct bht_claim *w, bool left_signed, bool right_signed)
{
	const struct bht_claim_operand *l = &w->left, *r = &w->right;
	const uint64_t left = l->constant ? l->value : extend(l->value, l->size, left_signed);
	const uint64_t right = r->constant ? r->value : extend(r->value, r->size, right_signed);

	return compare(left, right, left_signed && right_signed, w->comparison);
}

int bht_claim_read(struct bht_claim *w, struct bht_memory *mem, bool *holds, struct bht_refusal *refusal)
{
	struct bht_claim_operand *const operands[] = { &w->left, &w->right };
	struct bht_span spans[2];
	uint64_t raw[2] = { 0, 0 };
	size_t n = 0;

	for (unsigned i = 0; i < 2; i++)
		if (!operands[i]->constant)
			spans[n++] = (struct bht_span){ operands[i]->addr, &raw[i], operands[i]->size };
	int rc = mem->read(mem, spans, n);
	if (rc)
		return bht_refuse_read(refusal, rc, spans[0].addr, w->text);
	for (unsigned i = 0; i < 2; i++)
		if (!operands[i]->constant)
			operands[i]->value = extend(raw[i], operands[i]->size, operands[i]->is_signed);
	*holds = answer(w, w->left.is_signed, w->right.is_signed);
	/* Two of one type have the same sign. */
	const bool left = w->left.sign_unknown || w->left.is_signed,
		   right = w->right.sign_unknown || w->right.is_signed;
	const bool same = w->left.sign_unknown && w->right.sign_unknown && w->left.size == w->right.size;
	if (answer(w, left, right) != *holds ||
	    (!same && (answer(w, w->left.is_signed, right) != *holds || answer(w, left, w->right.is_signed) != *holds)))
		return bht_refuse(
			refusal, -ERANGE, spans[0].addr,
			"%s: depends on a sign that is not known without debug information; ADDRESS:TYPE would do",
			w->text);
	return 0;
}
