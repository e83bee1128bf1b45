/* SPDX-License-Identifier: MIT */
/* render_text.c - a diagnosis for somebody who was woken by it */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "render.h"

enum { INDENT = 3 };

struct page {
	FILE *out;
	const struct bht_evidence *ev;
	const struct bht_diagnosis *d;
	const struct bht_render *how;
	unsigned width;
};

static const char *verdict_sgr(enum bht_verdict verdict)
{
	static const char *const sgr[] = {
		[BHT_HEALTHY] = "1;32", [BHT_LATE] = "1;33",        [BHT_STUCK] = "1;31",
		[BHT_LOST] = "1;31",    [BHT_UNDECIDABLE] = "1;33",
	};
	return sgr[verdict];
}

static void heading(const struct page *p, unsigned indent, const char *text)
{
	fprintf(p->out, "\n%*s", (int)indent, "");
	bht_paint(p->out, p->how->color, "1");
	fputs(text, p->out);
	bht_paint(p->out, p->how->color, "");
	fputc('\n', p->out);
}

static void paragraph(const struct page *p, const char *text)
{
	fprintf(p->out, "%*s", INDENT, "");
	bht_wrap(p->out, INDENT, p->width, text);
}

/* "label    text", the text wrapped beside its label. */
static void labelled(const struct page *p, const char *label, const char *text)
{
	enum { LABEL = 12 };

	fprintf(p->out, "%*s%-*s", INDENT, "", LABEL, label);
	bht_wrap(p->out, INDENT + LABEL, p->width, text);
}

static void bullet(const struct page *p, const char *text)
{
	fprintf(p->out, "%*s- ", INDENT, "");
	bht_wrap(p->out, INDENT + 2, p->width, text);
}

static void print_verdict(const struct page *p)
{
	char sentence[BHT_SENTENCE], verdict[16] = "";
	const char *name = bht_verdict_name(p->d->verdict);

	for (size_t i = 0; name[i] && i < sizeof(verdict) - 1; i++)
		verdict[i] = (char)toupper((unsigned char)name[i]);
	bht_verdict_sentence(sentence, p->d);
	bht_paint(p->out, p->how->color, verdict_sgr(p->d->verdict));
	fputs(verdict, p->out);
	bht_paint(p->out, p->how->color, "");
	fprintf(p->out, ": %s\n", sentence);
}

static void print_target(const struct page *p)
{
	char evidence[BHT_SENTENCE], line[BHT_SENTENCE + 64];

	bht_evidence_words(evidence, p->ev);
	if (p->d->n_events || !strstr(evidence, "through the adapter"))
		snprintf(line, sizeof(line), "%s; %" PRIu64 " events of history.", evidence, p->d->n_events);
	else
		snprintf(line, sizeof(line), "%s, without a history.", evidence);
	bht_wrap(p->out, 0, p->width, line);
}

static void print_finding(const struct page *p, unsigned index)
{
	const struct bht_finding *f = &p->d->findings[index];
	const struct bht_rule *rule = &bht_rules[f->rule];
	char title[BHT_LINE], who[BHT_WHO], more[64];

	snprintf(title, sizeof(title), "%u. %s, %s: %s", index + 1, rule->id, bht_confidence_name(f->confidence),
		 f->bh.addr ? bht_who(who, "bottom half", f->bh.name, f->bh.addr)
			    : bht_who(who, "loop", f->loop.name, f->loop.addr));
	heading(p, 0, title);
	paragraph(p, f->detail);
	if (f->n_witness) {
		fputc('\n', p->out);
		bht_render_table(p->out, p->ev, f, p->how);
	}
	fputc('\n', p->out);
	labelled(p, bht_confidence_name(f->confidence), bht_confidence_meaning(f->confidence));
	labelled(p, "decided by", rule->decides);
	if (*f->refute)
		labelled(p, "refuted by", f->refute);
	labelled(p, "remedy", rule->remedy);
	snprintf(more, sizeof(more), "bhtrace explain %s", rule->id);
	labelled(p, "more", more);
}

static void look_words(char *dst, size_t size, const struct bht_payload_look *look)
{
	if (look->known)
		snprintf(dst, size, "%s (%" PRId64 " and %" PRId64 ")", look->holds ? "holds" : "does not hold",
			 look->left, look->right);
	else
		snprintf(dst, size, "could not be read");
}

/* What --witness said. */
static void print_payload(const struct page *p)
{
	const struct bht_payload *payload = &p->ev->payload;
	char first[80], last[80], line[BHT_LINE];

	if (!payload->text[0])
		return;
	look_words(first, sizeof(first), &payload->first);
	look_words(last, sizeof(last), &payload->last);
	heading(p, 0, "The payload");
	if (p->ev->live)
		snprintf(line, sizeof(line), "%s: at the first look it %s, at the last it %s", payload->text, first,
			 last);
	else
		snprintf(line, sizeof(line), "%s: it %s", payload->text, last);
	bullet(p, line);
}

static void print_reasons(const struct page *p)
{
	/* The first reason of an undecidable diagnosis is its verdict already. */
	unsigned first = p->d->verdict == BHT_UNDECIDABLE;

	if (p->d->n_reasons <= first)
		return;
	heading(p, 0, first ? "Why else it is undecidable" : "Not decided");
	for (unsigned i = first; i < p->d->n_reasons; i++)
		bullet(p, p->d->reasons[i]);
}

static void print_blind_spots(const struct page *p)
{
	char line[BHT_LINE + 64];

	if (!p->ev->n_unseen && !*p->d->loss_why && !p->d->lost_events)
		return;
	heading(p, 0, "What could not be seen");
	for (unsigned i = 0; i < p->ev->n_unseen; i++)
		bullet(p, p->ev->unseen[i]);
	if (p->d->lost_events)
		snprintf(line, sizeof(line), "%" PRIu64 " event%s of the history lost: %s", p->d->lost_events,
			 p->d->lost_events == 1 ? "" : "s", p->d->loss_why);
	else
		snprintf(line, sizeof(line), "history lost, how much is not known: %s", p->d->loss_why);
	if (*p->d->loss_why || p->d->lost_events)
		bullet(p, line);
}

static const char *where_name(uint32_t where)
{
	static const char *const names[] = {
		[BHP_OUTSIDE] = "not polled",     [BHP_DISPATCH] = "dispatching", [BHP_WAIT] = "asleep",
		[BHP_IN_BH] = "in a bottom half", [BHP_IN_FD] = "in a handler",   [BHP_IN_TIMER] = "in a timer"
	};

	return where < sizeof(names) / sizeof(*names) ? names[where] : "in an unknown place";
}

static void print_loop(const struct page *p, const struct bht_loop *loop)
{
	char line[BHT_LINE], who[BHT_WHO], turn[48] = "", through[48] = "";

	if (!(loop->traits & BHT_TRAIT_CANNOT_TURN))
		snprintf(turn, sizeof(turn), ", turn %" PRIu64, loop->iteration);
	if (loop->traits & BHT_TRAIT_FOREIGN)
		snprintf(through, sizeof(through), ", through %s", loop->adapter);
	snprintf(line, sizeof(line), "%s: thread %" PRIu32 ", %s%s, eventfd count %" PRId64 "%s",
		 bht_who(who, "loop", loop->name, loop->addr), loop->owner, where_name(loop->where), turn,
		 loop->notifier_count, through);
	bullet(p, line);
}

/* Why nothing is wrong with one that no finding names. */
static const char *standing_name(enum bht_standing standing)
{
	static const char *const names[] = {
		[BHT_IS_IDLE] = "idle",           [BHT_IS_DUE] = "scheduled",
		[BHT_IS_CANCELLED] = "cancelled", [BHT_IS_THROTTLED] = "scheduled idly, waits up to 10 ms on purpose",
		[BHT_IS_DELETED] = "deleted",
	};

	return names[standing];
}

static void print_bh(const struct page *p, size_t i)
{
	const struct bht_bh *bh = &p->ev->last.bhs[i];
	const struct bht_loop *loop = bht_sample_loop(&p->ev->last, bh->loop);
	char line[BHT_LINE], who[BHT_WHO], on[BHT_WHO], runs[48] = "";

	/* A foreign loop does not count them. */
	if (!loop || !(loop->traits & BHT_TRAIT_FOREIGN))
		snprintf(runs, sizeof(runs), ", %" PRIu64 " executions", bh->runs);
	snprintf(line, sizeof(line), "%s of %s: %s%s", bht_who(who, "bottom half", bh->name, bh->addr),
		 bht_who(on, "loop", loop ? loop->name : "", bh->loop), standing_name(p->d->standing[i]), runs);
	bullet(p, line);
}

static void print_all(const struct page *p)
{
	const struct bht_sample *s = &p->ev->last;

	heading(p, 0, "Everything that was looked at");
	for (size_t i = 0; i < s->n_loops; i++)
		print_loop(p, &s->loops[i]);
	for (size_t i = 0; i < s->n_bhs; i++)
		print_bh(p, i);
}

static void print_cost(const struct page *p)
{
	char line[160];

	heading(p, 0, "How it was seen");
	snprintf(line, sizeof(line), "target stopped for %" PRIu64 " us, read for %" PRIu64 " us", p->ev->stopped_us,
		 p->ev->read_us);
	labelled(p, "cost", line);
	labelled(p, "recorder", bht_recorder_note(p->ev, p->d->n_events));
}

int bht_render_text(FILE *out, const struct bht_evidence *ev, const struct bht_diagnosis *d,
		    const struct bht_render *how)
{
	struct page p = { out, ev, d, how, how->width ? how->width : 100 };

	print_verdict(&p);
	print_target(&p);
	for (unsigned i = 0; i < d->n_findings; i++)
		print_finding(&p, i);
	print_payload(&p);
	print_reasons(&p);
	print_blind_spots(&p);
	if (how->all)
		print_all(&p);
	print_cost(&p);
	return fflush(out) || ferror(out) ? -EIO : 0;
}
