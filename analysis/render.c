/* SPDX-License-Identifier: MIT */
#include "render.h"

#include <inttypes.h>
#include <string.h>

enum { PARAGRAPH = 4096 };

/* Bytes of the UTF-8 sequence at S and its code point; 0 when it is none. */
static unsigned utf8_decode(const char *s, uint32_t *code)
{
	const unsigned char *u = (const unsigned char *)s;
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned n = u[0] < 0x80 ? 1 : (u[0] >> 5) == 6 ? 2 : (u[0] >> 4) == 14 ? 3 : (u[0] >> 3) == 30 ? 4 : 0;

	*code = n > 1 ? u[0] & (0x7fu >> n) : u[0];
	for (unsigned i = 1; i < n; i++) {
		if ((u[i] & 0xc0) != 0x80)
			return 0;
		*code = *code << 6 | (u[i] & 0x3f);
	}
	if (*code < least[n] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
		return 0;
	return n;
}

static bool is_printable(uint32_t code)
{
	bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
	bool separator = code == 0x2028 || code == 0x2029;
	bool direction = code == 0x061c || code == 0x200e || code == 0x200f || (code >= 0x202a && code <= 0x202e) ||
			 (code >= 0x2066 && code <= 0x2069);

	return !control && !separator && !direction;
}

char *bht_escape(char *dst, size_t size, const char *s)
{
	char *d = dst, *end = dst + size;

	while (*s) {
		uint32_t code;
		unsigned n = utf8_decode(s, &code);
		bool plain = n && is_printable(code);
		size_t need = plain ? n : 4 * (n ? n : 1);

		if (need >= (size_t)(end - d))
			break;
		if (plain) {
			memcpy(d, s, n);
			d += n;
		} else {
			for (unsigned i = 0; i < (n ? n : 1); i++)
				d += snprintf(d, (size_t)(end - d), "\\x%02x", (unsigned char)s[i]);
		}
		s += n ? n : 1;
	}
	*d = '\0';
	return dst;
}

unsigned bht_columns(const char *s)
{
	unsigned n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

size_t bht_line(const char *s, unsigned width, const char **next)
{
	const char *blank = NULL, *p = s;

	for (unsigned column = 0; *p && column <= width; column++) {
		if (*p == ' ')
			blank = p;
		if (column == width)
			break;
		do
			p++;
		while (((unsigned char)*p & 0xc0) == 0x80);
	}
	const char *end = *p && blank && blank > s ? blank : p;

	*next = end;
	while (**next == ' ')
		(*next)++;
	return (size_t)(end - s);
}

void bht_wrap(FILE *out, unsigned indent, unsigned width, const char *s)
{
	char safe[PARAGRAPH];
	const char *next = bht_escape(safe, sizeof(safe), s);
	unsigned room = width > indent + 20 ? width - indent : 20;

	do {
		const char *line = next;
		int len = (int)bht_line(line, room, &next);
		fprintf(out, "%.*s\n", len, line);
		if (*next)
			fprintf(out, "%*s", (int)indent, "");
	} while (*next);
}

void bht_paint(FILE *out, bool color, const char *sgr)
{
	if (color)
		fprintf(out, "\x1b[%sm", sgr);
}

char *bht_who(char dst[BHT_WHO], const char *kind, const char *name, uint64_t addr)
{
	char safe[4 * BHP_NAME_SIZE];

	if (*name)
		snprintf(dst, BHT_WHO, "%s \"%s\"", kind, bht_escape(safe, sizeof(safe), name));
	else
		snprintf(dst, BHT_WHO, "%s 0x%" PRIx64, kind, addr);
	return dst;
}

double bht_since_ns(const struct bht_evidence *ev, uint64_t origin, uint64_t time)
{
	/* A damaged target may leave no credible rate; ticks are then shown as ns. */
	bool credible = ev->ticks_per_ns > 1e-6 && ev->ticks_per_ns < 1e6;
	double rate = credible ? ev->ticks_per_ns : 1.0;

	return (double)(int64_t)(time - origin) / rate;
}

struct bht_scale bht_scale_for(double ns)
{
	static const struct bht_scale us = { "us", 1e3, 2 }, ms = { "ms", 1e6, 3 };

	return ns < 1e9 ? us : ms;
}

const char *bht_loss_name(enum bht_loss_why why)
{
	switch (why) {
	case BHT_LOSS_OVERWRITTEN:
		return "overwritten";
	case BHT_LOSS_UNSTABLE:
		return "unstable";
	case BHT_LOSS_DROPPED:
		return "dropped";
	case BHT_LOSS_DAMAGED:
		return "damaged";
	case BHT_LOSS_EARLIER:
		return "earlier";
	}
	return "unknown";
}

static void finding_sentence(char dst[BHT_SENTENCE], const struct bht_finding *f, unsigned more)
{
	static const char *const fate[] = {
		[BHT_LATE] = "ran late", [BHT_STUCK] = "is stuck", [BHT_LOST] = "lost a wakeup"
	};
	const struct bht_rule *rule = &bht_rules[f->rule];
	char bh[BHT_WHO], loop[BHT_WHO], rest[48] = "";

	if (more)
		snprintf(rest, sizeof(rest), "; %u more finding%s below", more, more == 1 ? "" : "s");
	bht_who(bh, "bottom half", f->bh.name, f->bh.addr);
	bht_who(loop, "loop", f->loop.name, f->loop.addr);
	snprintf(dst, BHT_SENTENCE, "%s%s%s %s by %s (%s): %s%s.", f->bh.addr ? bh : "", f->bh.addr ? " of " : "", loop,
		 fate[rule->verdict], rule->id, bht_confidence_name(f->confidence), rule->line, rest);
}

static void healthy_sentence(char dst[BHT_SENTENCE], const struct bht_diagnosis *d)
{
	const unsigned rest = d->n_loops - d->n_running - d->n_asleep;
	char left[48] = "";

	if (rest)
		snprintf(left, sizeof(left), ", %u polled by nobody", rest);
	snprintf(dst, BHT_SENTENCE,
		 "%u loop%s, %u bottom hal%s: %u loop%s running, %u asleep with nothing left to do%s.", d->n_loops,
		 d->n_loops == 1 ? "" : "s", d->n_bhs, d->n_bhs == 1 ? "f" : "ves", d->n_running,
		 d->n_running == 1 ? "" : "s", d->n_asleep, left);
}

void bht_verdict_sentence(char dst[BHT_SENTENCE], const struct bht_diagnosis *d)
{
	if (d->verdict == BHT_UNDECIDABLE)
		bht_escape(dst, BHT_SENTENCE, d->n_reasons ? d->reasons[0] : "no reason was given.");
	else if (d->verdict != BHT_HEALTHY && d->n_findings)
		finding_sentence(dst, &d->findings[0], d->n_findings - 1);
	else
		healthy_sentence(dst, d);
}

/* ", through the adapter libuv": all that were needed. */
static void adapter_words(char *dst, size_t size, const struct bht_evidence *ev)
{
	const struct bht_sample *s = &ev->last;
	char safe[4 * sizeof(s->loops->adapter)], names[128] = "";
	size_t used = 0;
	unsigned n = 0;

	for (size_t i = 0; i < s->n_loops && used < sizeof(names); i++) {
		size_t k = 0;
		while (k < i && strcmp(s->loops[k].adapter, s->loops[i].adapter) != 0)
			k++;
		if (k == i && s->loops[i].traits & BHT_TRAIT_FOREIGN)
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", n++ ? " and " : "",
						 bht_escape(safe, sizeof(safe), s->loops[i].adapter));
	}
	*dst = '\0';
	if (n)
		snprintf(dst, size, ", through the adapter%s %s", n > 1 ? "s" : "", names);
}

void bht_evidence_words(char dst[BHT_SENTENCE], const struct bht_evidence *ev)
{
	static const char *const kinds[] = {
		[BHT_FROM_SNAPSHOT] = "Snapshot",
		[BHT_FROM_CORE] = "Core",
		[BHT_FROM_RINGS] = "Ring files",
		[BHT_FROM_HISTORY] = "History",
	};
	const char *looks = ev->live ? ", looked at twice" : ev->origin == BHT_FROM_HISTORY ? "" : ", looked at once";
	char host[4 * sizeof(ev->hostname)], on[sizeof(host) + 8] = "", safe[4 * sizeof(ev->command)],
							       command[sizeof(safe) + 4] = "", source[512],
							       through[160];

	if (*ev->command)
		snprintf(command, sizeof(command), " (%s)", bht_escape(safe, sizeof(safe), ev->command));
	if (*ev->hostname)
		snprintf(on, sizeof(on), " on %s", bht_escape(host, sizeof(host), ev->hostname));
	adapter_words(through, sizeof(through), ev);
	if (ev->origin == BHT_FROM_PROCESS)
		snprintf(dst, BHT_SENTENCE, "Process %" PRIu32 "%s, live%s%s", ev->pid, command, looks, through);
	else
		snprintf(dst, BHT_SENTENCE, "%s %s of process %" PRIu32 "%s%s%s%s", kinds[ev->origin],
			 bht_escape(source, sizeof(source), ev->source ? ev->source : ""), ev->pid, command, on, looks,
			 through);
}

const char *bht_origin_name(enum bht_origin origin)
{
	static const char *const names[] = {
		[BHT_FROM_PROCESS] = "process", [BHT_FROM_SNAPSHOT] = "snapshot", [BHT_FROM_CORE] = "core",
		[BHT_FROM_RINGS] = "rings",     [BHT_FROM_HISTORY] = "history",
	};
	return names[origin];
}

const char *bht_confidence_meaning(enum bht_confidence confidence)
{
	switch (confidence) {
	case BHT_PROVED:
		return "what was seen can have no other cause: tickets or the program's variables show the "
		       "undone work, or two looks show the same call without progress.";
	case BHT_CONSISTENT:
		return "everything that was seen fits this mechanism and no other; what would prove it (payload "
		       "tickets, "
		       "for a lost wakeup) was not recorded.";
	case BHT_SUSPECTED:
		return "it fits what was seen, but something that could exclude it was not seen.";
	}
	return "";
}

static bool is_foreign(const struct bht_evidence *ev)
{
	for (size_t i = 0; i < ev->last.n_loops; i++)
		if (ev->last.loops[i].traits & BHT_TRAIT_FOREIGN)
			return true;
	return false;
}

const char *bht_recorder_note(const struct bht_evidence *ev, uint64_t n_events)
{
	if (!n_events && ev->last.n_loops && ev->last.loops[0].traits & BHT_TRAIT_FOREIGN)
		return "none: the program was not instrumented. Its memory was read through an adapter, and with what "
		       "the kernel shows of its threads and descriptors that is all there is: no event history.";
	if (!n_events)
		return "no event history: the recorder was off, or has no events. Only the state could be judged.";
	if (ev->recorder == BHT_BY_LTTNG)
		return "LTTng-UST: tracepoints after the racing pairs. In a free-running loop that kept about 0.3 of "
		       "the untraced rate of lost wakeups where it was measured, so such a race may hide from it. See "
		       "docs/placement.md.";
	if (ev->recorder == BHT_BY_BPF && is_foreign(ev))
		return "eBPF: uprobes inside the racing pairs of these loops, at the entry of the function that "
		       "schedules and of the callback. A race on the flag will hardly happen while it is recorded, so "
		       "that none was lost proves nothing. See docs/placement.md.";
	if (ev->recorder == BHT_BY_BPF)
		return "eBPF: USDT probes after the racing pairs. In a free-running loop that kept about 0.3 of the "
		       "untraced rate of lost wakeups where it was measured, so such a race may hide from it; with "
		       "--begins, a probe before each callback too, nearly all of them do. See docs/placement.md.";
	return "flight recorder: plain stores and an unordered clock, outside the racing pairs. That kept 0.7 to 1 of "
	       "the untraced rate of lost wakeups where it was measured; a record inside a pair, which a foreign loop "
	       "might have, would hide them. See docs/placement.md.";
}
