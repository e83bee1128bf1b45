/* SPDX-License-Identifier: MIT */
/* What functions mean: the statement event. */
#include <errno.h>
#include <string.h>

#include "adapter_line.h"
#include "schema.h"

/* Those that a function can mean: what the recorder or the kernel writes itself is left out. */
#define BHP_EVENT(number, name, fields, doc) { #name, number },
#define BHP_MARK(number, name, fields, doc)
static const struct {
	const char *name;
	enum bhp_id id;
} events[] = {
#include "events.def.h"
};

static bool has_field(enum bhp_id event, const char *field)
{
	struct bhp_field_info table[BHP_FIELD_INFO_MAX];
	const uint32_t n = bhp_schema(table);

	for (uint32_t i = 0; i < n; i++)
		if (table[i].event == event && !strncmp(table[i].name, field, sizeof(table[i].name)))
			return true;
	return event == BHP_ID_wait_begin && !strcmp(field, "timeout_ms");
}

/* argN.MEMBER, ret.MEMBER, or a number. */
static int arg_value(const struct bht_adapter_line *l, struct bht_probe *p, char *text, struct bht_probe_arg *arg)
{
	uint64_t number = 0;
	int rc = 0;

	arg->constant = *text >= '0' && *text <= '9';
	if (arg->constant)
		return bht_line_number(l, arg->field, text, UINT64_MAX, &arg->value);
	char *dot = strchr(text, '.');
	if (dot) {
		*dot = '\0';
		arg->has_member = true;
		rc = bht_line_member(l, dot + 1, &arg->member);
	}
	if (!rc && !strncmp(text, "arg", 3)) {
		rc = bht_line_number(l, arg->field, text + 3, 6, &number);
		if (!rc && !number)
			rc = bht_line_refuse(l, "arguments are arg1 to arg6");
	} else if (!rc && (strcmp(text, "ret") || !p->at_return)) {
		rc = bht_line_refuse(l, "%s: \"%.40s\" is neither argN, nor ret of a return, nor a number", arg->field,
				     text);
	}
	arg->arg = (unsigned)number;
	return rc;
}

static int event_arg(const struct bht_adapter_line *l, struct bht_probe *p, const char *event, char *word)
{
	char *value = strchr(word, '=');

	if (!value)
		return bht_line_refuse(l, "\"%.40s\" is not FIELD=VALUE", word);
	*value++ = '\0';
	if (strlen(word) >= sizeof(p->arg[0].field) || !has_field(p->event, word))
		return bht_line_refuse(l, "%s has no field \"%.40s\"", event, word);
	for (unsigned i = 0; i < p->n_args; i++)
		if (!strcmp(p->arg[i].field, word))
			return bht_line_refuse(l, "%s is there twice", word);
	if (p->n_args == BHT_ADAPTER_ARGS_MAX)
		return bht_line_refuse(l, "more than %d fields", BHT_ADAPTER_ARGS_MAX);
	struct bht_probe_arg *arg = &p->arg[p->n_args++];
	memcpy(arg->field, word, strlen(word) + 1);
	return arg_value(l, p, value, arg);
}

/* What of an event and where; the fields come next. */
static int event_head(struct bht_adapter_line *l, struct bht_probe *p, char **event)
{
	static const char *const places[] = { "entry", "return" };
	unsigned i = 0;
	char *word;
	int rc = bht_line_need(l, "the event", event);

	if (rc)
		return rc;
	while (i < BHT_COUNT(events) && strcmp(events[i].name, *event))
		i++;
	if (i == BHT_COUNT(events))
		return bht_line_refuse(l, "\"%.40s\" is no event that a function can mean", *event);
	p->event = events[i].id;
	rc = bht_line_need(l, "the function", &word);
	if (!rc)
		rc = bht_line_symbol(l, "function", word, p->function, sizeof(p->function));
	if (!rc)
		rc = bht_line_need(l, "entry or return", &word);
	if (!rc)
		rc = bht_line_choice(l, "place", word, places, BHT_COUNT(places), &i);
	p->at_return = i == 1;
	p->line = l->number;
	return rc;
}

int bht_line_event(struct bht_adapter_line *l)
{
	struct bht_adapter *a = l->a;
	char *event, *word;

	if (a->n_probes == BHT_ADAPTER_EVENTS_MAX)
		return bht_line_refuse(l, "more than %d events", BHT_ADAPTER_EVENTS_MAX);
	struct bht_probe *p = &a->probe[a->n_probes];
	int rc = event_head(l, p, &event);
	for (unsigned i = 0; !rc && i < a->n_probes; i++) {
		const struct bht_probe *q = &a->probe[i];
		if (q->event == p->event && q->at_return == p->at_return && !strcmp(q->function, p->function))
			rc = bht_line_refuse(l, "the same event is in line %u already", q->line);
	}
	while (!rc && (word = bht_line_word(l)))
		rc = event_arg(l, p, event, word);
	a->n_probes++;
	return rc;
}
