/* SPDX-License-Identifier: MIT */
/* Adapter files: their statements, and what has to fit together in the end. The language is in docs/adapters.md. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adapter_line.h"
#include "diagnosis.h"
#include "refuse.h"
#include "render.h"

static const char *const lists[] = { [BHT_LIST_NONE] = "none",
				     [BHT_LIST_CIRCULAR] = "circular",
				     [BHT_LIST_CHAIN] = "chain",
				     [BHT_LIST_CHAINS] = "chains",
				     [BHT_LIST_QUEUES] = "queues" };
static const char *const whens[] = { [BHT_WHEN_NEVER] = "never",
				     [BHT_WHEN_EFFECTIVE] = "effective",
				     [BHT_WHEN_ASKED] = "asked",
				     [BHT_WHEN_ALWAYS] = "always" };
static const char *const flags[] = { "scheduled", "linked", "idle", "deleted" };
static const uint32_t flag_bits[] = { BHP_FLAG_SCHEDULED, BHP_FLAG_LINKED, BHP_FLAG_IDLE, BHP_FLAG_DELETED };

/* --- statements ------------------------------------------------------------------ */

/* The rest of the line, appended to TO. */
static int take_text(struct bht_adapter_line *l, char *to, size_t size)
{
	const char *text = l->rest + strspn(l->rest, " \t");
	size_t len = strlen(text);
	const size_t have = strlen(to), space = have ? 1 : 0;

	while (len && (text[len - 1] == ' ' || text[len - 1] == '\t'))
		len--;
	if (!len)
		return bht_line_refuse(l, "the text is missing");
	if (have + space + len >= size)
		return bht_line_refuse(l, "the text is longer than %zu bytes", size - 1);
	memcpy(to + have, " ", space);
	memcpy(to + have + space, text, len);
	to[have + space + len] = '\0';
	return 0;
}

static int line_adapter(struct bht_adapter_line *l)
{
	char *word;
	int rc = bht_line_need(l, "the name", &word);

	if (rc)
		return rc;
	const size_t len = strlen(word);
	if (len >= sizeof(l->a->name) || strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-_") != len)
		return bht_line_refuse(l, "\"%.40s\" is no name of 1 to 31 letters a-z, digits, - and _", word);
	memcpy(l->a->name, word, len + 1);
	return bht_line_end(l);
}

static int line_title(struct bht_adapter_line *l)
{
	return take_text(l, l->a->title, sizeof(l->a->title));
}

static int line_needs(struct bht_adapter_line *l)
{
	struct bht_adapter *a = l->a;
	char *word;
	int rc = bht_line_need(l, "a function", &word);

	for (; !rc && word; word = bht_line_word(l)) {
		for (unsigned i = 0; i < a->n_needs; i++)
			if (!strcmp(a->needs[i], word))
				return bht_line_refuse(l, "%.40s is there twice", word);
		if (a->n_needs == BHT_ADAPTER_NEEDS_MAX)
			return bht_line_refuse(l, "more than %d functions", BHT_ADAPTER_NEEDS_MAX);
		rc = bht_line_symbol(l, "function", word, a->needs[a->n_needs], sizeof(a->needs[0]));
		a->n_needs++;
	}
	return rc;
}

static int line_bhs(struct bht_adapter_line *l)
{
	unsigned list;
	char *word;
	int rc = bht_line_need(l, "the kind of list", &word);

	if (!rc)
		rc = bht_line_choice(l, "kind of list", word, lists, BHT_COUNT(lists), &list);
	if (rc)
		return rc;
	l->a->list = (enum bht_list)list;
	if (!(word = bht_line_word(l)))
		return 0;
	l->a->lists_pending_only = !strcmp(word, "pending-only");
	return l->a->lists_pending_only ? bht_line_end(l) : bht_line_refuse(l, "\"%.40s\" is too much", word);
}

static int line_flag(struct bht_adapter_line *l)
{
	struct bht_adapter *a = l->a;
	unsigned index;
	char *word;
	int rc = bht_line_need(l, "the flag", &word);

	if (!rc)
		rc = bht_line_choice(l, "flag", word, flags, BHT_COUNT(flags), &index);
	if (rc)
		return rc;
	for (unsigned i = 0; i < a->n_flags; i++)
		if (a->flag[i].flag == flag_bits[index])
			return bht_line_refuse(l, "%s is there twice", word);
	_Static_assert(BHT_COUNT(flags) <= BHT_ADAPTER_FLAGS_MAX, "each flag is there once");
	a->flag[a->n_flags].flag = flag_bits[index];
	rc = bht_line_need(l, "the mask", &word);
	a->flag[a->n_flags].inverted = !rc && *word == '!';
	if (!rc)
		rc = bht_line_number(l, "mask", word + (*word == '!'), UINT64_MAX, &a->flag[a->n_flags].mask);
	if (!rc && !a->flag[a->n_flags].mask)
		rc = bht_line_refuse(l, "a mask of 0 is never set");
	a->n_flags++;
	return rc ? rc : bht_line_end(l);
}

static int line_known(struct bht_adapter_line *l)
{
	char *word;
	int rc = bht_line_need(l, "the mask", &word);

	if (!rc)
		rc = bht_line_number(l, "mask", word, UINT64_MAX, &l->a->flag_known);
	return rc ? rc : bht_line_end(l);
}

static int line_protocol(struct bht_adapter_line *l)
{
	bool barrier = false, notifies = false;
	unsigned when;
	char *word;
	int rc = 0;

	while (!rc && (word = bht_line_word(l))) {
		if (!strcmp(word, "coalesces") && !l->a->coalesces) {
			l->a->coalesces = true;
		} else if ((!strcmp(word, "barrier=full") || !strcmp(word, "barrier=none")) && !barrier) {
			barrier = true;
			l->a->full_barrier = word[8] == 'f';
		} else if (!strncmp(word, "notifies=", 9) && !notifies) {
			notifies = true;
			rc = bht_line_choice(l, "time to notify", word + 9, whens, BHT_COUNT(whens), &when);
			l->a->notifies = (enum bht_when)when;
		} else {
			rc = bht_line_refuse(
				l, "\"%.40s\" is not known (coalesces, barrier=, notifies=), or is there twice", word);
		}
	}
	return rc || (barrier && notifies) ? rc : bht_line_refuse(l, "barrier= and notifies= are both needed");
}

static int line_remark(struct bht_adapter_line *l)
{
	struct bht_adapter *a = l->a;
	bool known = false;
	char *rule;
	int rc = bht_line_need(l, "the rule", &rule);

	if (rc)
		return rc;
	for (unsigned i = 0; i < BHT_RULES; i++)
		known |= !strcmp(bht_rules[i].id, rule);
	if ((!known && strcmp(rule, "*")) || strlen(rule) >= sizeof(a->remark[0].rule))
		return bht_line_refuse(l, "there is no rule \"%.40s\", and * is for all", rule);
	for (unsigned i = 0; i < a->n_remarks; i++)
		if (!strcmp(a->remark[i].rule, rule))
			return bht_line_refuse(l, "a remark on %s is there already", rule);
	if (a->n_remarks == BHT_ADAPTER_REMARKS_MAX)
		return bht_line_refuse(l, "more than %d remarks", BHT_ADAPTER_REMARKS_MAX);
	memcpy(a->remark[a->n_remarks].rule, rule, strlen(rule) + 1);
	return take_text(l, a->remark[a->n_remarks++].text, sizeof(a->remark[0].text));
}

static int line_more(struct bht_adapter_line *l)
{
	if (!l->a->n_remarks)
		return bht_line_refuse(l, "there is no remark before it");
	return take_text(l, l->a->remark[l->a->n_remarks - 1].text, sizeof(l->a->remark[0].text));
}

enum { ADAPTER = 1, TITLE = 2, BHS = 4, KNOWN = 8, PROTOCOL = 16 };

static const struct {
	const char *word;
	int (*parse)(struct bht_adapter_line *l);
	unsigned once;
} statements[] = {
	{ "adapter", line_adapter, ADAPTER },
	{ "title", line_title, TITLE },
	{ "needs", line_needs, 0 },
	{ "member", bht_line_path, 0 },
	{ "at", bht_line_at, 0 },
	{ "then", bht_line_then, 0 },
	{ "bhs", line_bhs, BHS },
	{ "flag", line_flag, 0 },
	{ "known", line_known, KNOWN },
	{ "root", bht_line_root, 0 },
	{ "event", bht_line_event, 0 },
	{ "protocol", line_protocol, PROTOCOL },
	{ "remark", line_remark, 0 },
	{ "more", line_more, 0 },
};

static int statement(struct bht_adapter_line *l)
{
	const char *word = bht_line_word(l);
	unsigned i = 0;

	if (!word)
		return 0;
	while (i < BHT_COUNT(statements) && strcmp(statements[i].word, word))
		i++;
	if (i == BHT_COUNT(statements))
		return bht_line_refuse(l, "\"%.40s\" is no statement", word);
	if (l->seen & statements[i].once)
		return bht_line_refuse(l, "%s is there twice", word);
	if (!l->seen && statements[i].once != ADAPTER)
		return bht_line_refuse(l, "the first statement is adapter NAME");
	l->seen |= statements[i].once;
	return statements[i].parse(l);
}

/* --- the whole --------------------------------------------------------------------- */

static int check_member(const struct bht_adapter_line *l, enum bht_member member, const char *why)
{
	if (l->a->member[member].n)
		return 0;
	return bht_line_refuse(l, "%s needs the member %s", why, bht_member_name(member));
}

static int check_list(const struct bht_adapter_line *l)
{
	const enum bht_list list = l->a->list;
	int rc = 0;

	if (list == BHT_LIST_NONE)
		return 0;
	rc = check_member(l, BHT_LOOP_bhs, lists[list]);
	if (!rc)
		rc = check_member(l, BHT_BH_link, lists[list]);
	return rc || list != BHT_LIST_QUEUES ? rc : check_member(l, BHT_LOOP_n_queues, lists[list]);
}

static int check_flags(const struct bht_adapter_line *l)
{
	const struct bht_adapter *a = l->a;
	uint64_t used = 0;
	int rc;

	for (unsigned i = 0; i < a->n_flags; i++)
		used |= a->flag[i].mask;
	if (!used && !(l->seen & KNOWN))
		return a->coalesces ? bht_line_refuse(l, "coalesces needs a flag") : 0;
	rc = check_member(l, BHT_BH_flag, "flag");
	if (rc)
		return rc;
	if (!(l->seen & KNOWN))
		return bht_line_refuse(l, "flag needs known");
	const unsigned size = a->member[BHT_BH_flag].size;
	if (size < 8 && (used | a->flag_known) >> 8 * size)
		return bht_line_refuse(l, "a mask does not fit the %u bytes of bh.flag", size);
	return used & ~a->flag_known ? bht_line_refuse(l, "known leaves out bits of a flag") : 0;
}

static int check_events(struct bht_adapter_line *l)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < l->a->n_probes; i++) {
		const struct bht_probe *p = &l->a->probe[i];
		l->number = p->line;
		for (unsigned k = 0; !rc && k < p->n_args; k++)
			if (p->arg[k].has_member)
				rc = check_member(l, p->arg[k].member, p->arg[k].field);
	}
	return rc;
}

/* What no single line can tell. */
static int check(struct bht_adapter_line *l)
{
	const unsigned last = l->number;
	int rc;

	if (!(l->seen & ADAPTER))
		return bht_line_refuse(l, "there is no statement, the first is adapter NAME");
	if (!l->a->n_needs)
		return bht_line_refuse(l, "needs is missing");
	if (!(l->seen & PROTOCOL))
		return bht_line_refuse(l, "protocol is missing");
	for (unsigned i = 0; i < BHT_MEMBERS; i++) {
		l->number = l->a->member[i].line;
		if (l->number && !l->a->member[i].n)
			return bht_line_refuse(l, "%s has no at statement", bht_member_name((enum bht_member)i));
	}
	l->number = last;
	rc = check_member(l, BHT_LOOP_notifier_fd, "an adapter");
	if (!rc)
		rc = check_list(l);
	if (!rc)
		rc = check_flags(l);
	if (!rc && l->a->notifies == BHT_WHEN_ASKED)
		rc = check_member(l, BHT_LOOP_notify_me, "notifies=asked");
	return rc ? rc : check_events(l);
}

/* Copies the line of LEN bytes at TEXT to BUF: no control characters but tabs, valid UTF-8. */
static int copy_line(const struct bht_adapter_line *l, const char *text, size_t len, char *buf)
{
	char escaped[BHT_ADAPTER_LINE_MAX * 4 + 1];

	if (len >= BHT_ADAPTER_LINE_MAX)
		return bht_line_refuse(l, "longer than %d bytes", BHT_ADAPTER_LINE_MAX - 1);
	if (memchr(text, '\0', len))
		return bht_line_refuse(l, "a zero byte: no text");
	memcpy(buf, text, len);
	buf[len] = '\0';
	for (char *tab = buf; (tab = strchr(tab, '\t'));)
		*tab = ' ';
	return strcmp(buf, bht_escape(escaped, sizeof(escaped), buf))
		       ? bht_line_refuse(l, "control characters, or no UTF-8")
		       : 0;
}

int bht_adapter_parse(struct bht_adapter *a, const char *name, const char *text, size_t len,
		      struct bht_refusal *refusal)
{
	struct bht_adapter_line l = { .a = a, .name = name, .refusal = refusal };
	char buf[BHT_ADAPTER_LINE_MAX];
	int rc = 0;

	memset(a, 0, sizeof(*a));
	if (len > BHT_ADAPTER_FILE_MAX)
		return bht_refuse(refusal, -E2BIG, 0, "%s: longer than %d bytes", name, BHT_ADAPTER_FILE_MAX);
	strncpy(a->source, name, sizeof(a->source) - 1);
	for (size_t at = 0, n; !rc && at < len; at += n + 1) {
		const char *end = memchr(text + at, '\n', len - at);

		n = end ? (size_t)(end - text) - at : len - at;
		l.number++;
		l.rest = buf;
		rc = copy_line(&l, text + at, n, buf);
		if (!rc)
			rc = statement(&l);
	}
	if (!rc)
		rc = check(&l);
	if (!rc && !*a->title)
		memcpy(a->title, a->name, sizeof(a->name));
	return rc;
}

/* Reads at most one byte too many, which the parser refuses. */
static int read_file(int fd, char *text, size_t size, size_t *len)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	for (*len = 0; *len < size;) {
		const ssize_t n = read(fd, text + *len, size - *len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : 0;
		*len += (size_t)n;
	}
	return 0;
}

int bht_adapter_load(struct bht_adapter *a, const char *path, struct bht_refusal *refusal)
{
	const size_t size = BHT_ADAPTER_FILE_MAX + 1;
	size_t len = 0;
	char *text = malloc(size);
	/* A fifo must not make it wait. */
	int fd = text ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
	int rc = fd < 0 ? -errno : read_file(fd, text, size, &len);

	if (rc == -EINVAL)
		bht_refuse(refusal, rc, 0, "%s: not a regular file", path);
	else if (rc)
		bht_refuse(refusal, rc, 0, "%s: %s", path, strerror(-rc));
	else
		rc = bht_adapter_parse(a, path, text, len, refusal);
	if (fd >= 0)
		close(fd);
	free(text);
	return rc;
}
