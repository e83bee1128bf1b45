/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter_line.h"
#include "refuse.h"

#define PREFIX_LOOP               "loop."
#define PREFIX_BH                 "bh."
#define BHT_MEMBER(of, name, doc) [BHT_##of##_##name] = PREFIX_##of #name,
static const char *const member_names[] = {
#include "members.def.h"
};

int bht_line_refuse(const struct bht_adapter_line *l, const char *format, ...)
{
	char why[256];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	return bht_refuse(l->refusal, -EINVAL, 0, "%s: line %u: %s", l->name, l->number, why);
}

char *bht_line_word(struct bht_adapter_line *l)
{
	char *word = l->rest + strspn(l->rest, " \t");

	if (!*word || *word == '#') {
		l->rest = word + strlen(word);
		return NULL;
	}
	l->rest = word + strcspn(word, " \t");
	if (*l->rest)
		*l->rest++ = '\0';
	return word;
}

int bht_line_need(struct bht_adapter_line *l, const char *what, char **word)
{
	*word = bht_line_word(l);
	return *word ? 0 : bht_line_refuse(l, "%s is missing", what);
}

int bht_line_end(struct bht_adapter_line *l)
{
	const char *word = bht_line_word(l);

	return word ? bht_line_refuse(l, "\"%.40s\" is too much", word) : 0;
}

int bht_line_symbol(const struct bht_adapter_line *l, const char *what, const char *word, char *to, size_t size)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_$.0123456789";
	const size_t len = strlen(word);

	if (!len || strspn(word, letters) != len || (*word >= '0' && *word <= '9'))
		return bht_line_refuse(l, "\"%.40s\" is no name of a %s", word, what);
	if (len >= size)
		return bht_line_refuse(l, "%s \"%.40s...\" is too long, %zu bytes at most", what, word, size - 1);
	memcpy(to, word, len + 1);
	return 0;
}

int bht_line_choice(const struct bht_adapter_line *l, const char *what, const char *word, const char *const *list,
		    unsigned n, unsigned *index)
{
	char all[200] = "";
	size_t len = 0;

	for (*index = 0; *index < n; ++*index)
		if (!strcmp(word, list[*index]))
			return 0;
	for (unsigned i = 0; i < n && len < sizeof(all); i++)
		len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", i ? ", " : "", list[i]);
	return bht_line_refuse(l, "\"%.40s\" is no %s (%s)", word, what, all);
}

int bht_line_number(const struct bht_adapter_line *l, const char *what, const char *word, uint64_t max, uint64_t *value)
{
	const bool hex = !strncmp(word, "0x", 2);
	const char *digits = hex ? word + 2 : word;

	if (!*digits || strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789") != strlen(digits))
		return bht_line_refuse(l, "%s: \"%.40s\" is no number", what, word);
	errno = 0;
	*value = strtoull(digits, NULL, hex ? 16 : 10);
	if (errno || *value > max)
		return bht_line_refuse(l, "%s: %.40s is out of range, 0x%llx at most", what, word,
				       (unsigned long long)max);
	return 0;
}

const char *bht_member_name(enum bht_member member)
{
	return member_names[member];
}

int bht_line_member(const struct bht_adapter_line *l, const char *word, enum bht_member *member)
{
	unsigned index;
	int rc = bht_line_choice(l, "member", word, member_names, BHT_MEMBERS, &index);

	*member = (enum bht_member)index;
	return rc;
}
