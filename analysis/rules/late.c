/* SPDX-License-Identifier: MIT */
/*
 * It ran, but late: only because something unrelated woke the loop (rescued),
 * behind other callbacks (slow-callback), or because the thread was slow to wake
 * (slow-wake). A gap in which events may be missing is no gap.
 */
#include "case.h"

enum { LATE_MAX = 8, PARTS = 360 };

struct late {
	const struct bht_bh_machine *m;
	const struct bht_delay *d;
	struct bht_bh bh;
	struct bht_loop loop;
};

static double ms(const struct bht_case *c, const struct bht_event *from, const struct bht_event *to)
{
	return bht_ns(c->ev, bht_time(from), bht_time(to)) / 1e6;
}

/* A bottom half that is gone, or was in no sample, is known by its events. */
static struct late late_of(const struct bht_case *c, const struct bht_bh_machine *m, const struct bht_delay *d)
{
	const struct bht_bh *bh = bht_sample_bh(&c->ev->last, m->addr, 0);
	const struct bht_loop *loop = bht_sample_loop(&c->ev->last, m->loop);
	const struct bht_loop_machine *lm = bht_machine_loop(c->m, m->loop);
	struct late l = { .m = m, .d = d };

	l.bh = bh ? *bh : (struct bht_bh){ .addr = m->addr, .loop = m->loop };
	if (!bh)
		memcpy(l.bh.name, m->name, sizeof(l.bh.name));
	l.loop = loop ? *loop : (struct bht_loop){ .addr = m->loop, .notifier_count = -1, .notifier_watched = -1 };
	if (!loop && lm)
		memcpy(l.loop.name, lm->name, sizeof(l.loop.name));
	return l;
}

/* What the kernel told of the loop's thread, as more parts. */
static void kernel_part(const struct bht_case *c, const struct bht_delay *d, char *buf, size_t size)
{
	const uint64_t from = bht_time(&d->schedule), since = d->queue.begin > from ? d->queue.begin : from;
	char woken[48] = "", queue[48] = "", where[128] = "";

	if (d->woken > from)
		snprintf(woken, sizeof(woken), "; made runnable after %.3f ms", bht_ns(c->ev, from, d->woken) / 1e6);
	if (d->queue.end) {
		snprintf(queue, sizeof(queue), "; run queue %.3f ms ", bht_ns(c->ev, since, d->queue.end) / 1e6);
		bht_queue_words(where, sizeof(where), c->m, c->ev, &d->queue);
	}
	snprintf(buf, size, "%s%s%s", woken, queue, where);
}

/* The gap cut into what is known of it. */
static void segments(const struct bht_case *c, const struct bht_delay *d, char *buf, size_t size)
{
	bool told = bht_time(&d->notify) != 0, woke = bht_time(&d->wait_end) != 0;
	int n = snprintf(buf, size, "schedule to execution %.3f ms", ms(c, &d->schedule, &d->begin));

	if (told)
		n += snprintf(buf + n, size - (size_t)n, ": to notify %.3f", ms(c, &d->schedule, &d->notify));
	if (woke)
		n += snprintf(buf + n, size - (size_t)n, "%s to waking %.3f", told ? "," : ":",
			      ms(c, told ? &d->notify : &d->schedule, &d->wait_end));
	if (told || woke)
		n += snprintf(buf + n, size - (size_t)n, ", to execution %.3f ms",
			      ms(c, woke ? &d->wait_end : &d->notify, &d->begin));
	if ((size_t)n < size)
		kernel_part(c, d, buf + n, size - (size_t)n);
}

static struct bht_finding *report(struct bht_case *c, const struct late *l, enum bht_rule_id rule,
				  enum bht_confidence confidence)
{
	struct bht_finding *f = bht_finding_add(c, rule, confidence, &l->loop, &l->bh);

	if (!f)
		return NULL;
	f->origin = bht_time(&l->d->schedule);
	bht_witness_key(f, &l->d->schedule, "set the flag");
	bht_witness_key(f, &l->d->notify, "its notification");
	bht_witness_key(f, &l->d->wait_end, "the loop woke");
	bht_witness_key(f, &l->d->begin, "executed at last");
	return f;
}

static bool complete(struct bht_case *c, const struct late *l)
{
	if (bht_lossless(c->m, bht_time(&l->d->schedule), bht_time(&l->d->begin)))
		return true;
	bht_reason(c, "bottom half \"%s\" may have run late by %.1f ms, but events are missing in that time",
		   l->bh.name, ms(c, &l->d->schedule, &l->d->begin));
	return false;
}

/* --- rescued ------------------------------------------------------------------------- */

static void woken_by(const struct bht_delay *d, char *buf, size_t size)
{
	struct bhp_wait_end w = bhp_decode_wait_end(&d->wait_end.r);

	if (w.woke & BHP_WOKE_FD)
		snprintf(buf, size, "file descriptor %d", w.fd);
	else
		snprintf(buf, size, "%s", w.woke & BHP_WOKE_TIMEOUT ? "a timer" : "a signal");
}

/* At the end of the history the producer's silence is the last word, if it has
 * gone on to other things or sleeps. */
static const struct bht_delay *doubtful(const struct bht_case *c, const struct bht_bh_machine *m)
{
	const struct bht_event *e = &m->doubtful.schedule;
	const struct bht_thread_machine *t = bht_machine_thread(c->m, e->tid);
	const struct bht_thread *now = bht_sample_thread(&c->ev->last, e->tid);

	if (m->doubtful.rescue == BHT_NOT_RESCUED || !t)
		return NULL;
	if (t->last > bht_time(e) || (now && now->state != '?' && bht_thread_still(c->ev, now)))
		return &m->doubtful;
	return NULL;
}

static void rescued(struct bht_case *c, const struct late *l)
{
	static const char *const how[] = {
		[BHT_RESCUED_MISSING] = "nobody notified the loop (notify-missing)",
		[BHT_RESCUED_SKIPPED] = "the notification was skipped, the loop looked awake (notify-skipped)",
		[BHT_RESCUED_STOLEN] = "another thread took the notification (notify-stolen)"
	};
	struct bht_finding *f = report(c, l, BHT_RULE_RESCUED, BHT_CONSISTENT);
	unsigned times = l->m->n_rescued + (doubtful(c, l->m) != NULL);
	char by[48], parts[PARTS];

	if (!f)
		return;
	woken_by(l->d, by, sizeof(by));
	segments(c, l->d, parts, sizeof(parts));
	snprintf(f->detail, sizeof(f->detail),
		 "It ran %u time%s only because %s woke the loop, at worst %.3f ms late: %s. The worst: %s.", times,
		 times == 1 ? "" : "s", by, ms(c, &l->d->schedule, &l->d->begin), how[l->d->rescue], parts);
	snprintf(f->refute, sizeof(f->refute),
		 "A notify of that schedule that wrote the eventfd before the loop woke.");
	bht_witness_fill(c, f);
}

static bool look_rescued(struct bht_case *c, const struct bht_bh_machine *m)
{
	const struct bht_delay *d = doubtful(c, m);

	if (!d || (m->n_rescued && bht_delay_length(&m->rescued) > bht_delay_length(d)))
		d = m->n_rescued ? &m->rescued : d;
	if (!d)
		return false;
	struct late l = late_of(c, m, d);
	if (complete(c, &l))
		rescued(c, &l);
	return true;
}

/* --- slow ------------------------------------------------------------------------------ */

static void slow_callback(struct bht_case *c, const struct late *l)
{
	const struct bht_bh *by = bht_sample_bh(&c->ev->last, l->d->blamed, 0);
	const struct bht_bh_machine *m = bht_machine_bh(c->m, l->d->blamed);
	struct bht_finding *f = report(c, l, BHT_RULE_SLOW_CALLBACK, BHT_CONSISTENT);
	char parts[PARTS];

	if (!f)
		return;
	segments(c, l->d, parts, sizeof(parts));
	snprintf(f->detail, sizeof(f->detail),
		 "It waited %.3f ms while the loop executed other callbacks for %.3f ms, the longest of them \"%s\", "
		 "for "
		 "%.3f ms. In parts: %s.",
		 ms(c, &l->d->schedule, &l->d->begin), (double)l->d->busy / c->ev->ticks_per_ns / 1e6,
		 by  ? by->name
		 : m ? m->name
		     : "",
		 bht_ns(c->ev, l->d->blamed_begin, l->d->blamed_end) / 1e6, parts);
	snprintf(f->refute, sizeof(f->refute), "An execution of it while that callback ran.");
	bht_witness_fill(c, f);
}

static void slow_wake(struct bht_case *c, const struct late *l, bool on_cpu)
{
	struct bht_finding *f = report(c, l, BHT_RULE_SLOW_WAKE, on_cpu ? BHT_SUSPECTED : BHT_CONSISTENT);
	char parts[PARTS];

	if (!f)
		return;
	segments(c, l->d, parts, sizeof(parts));
	snprintf(f->detail, sizeof(f->detail), "%s. In parts: %s.",
		 on_cpu ? "The loop had woken and executed nothing else: its thread had no CPU, or was in handlers of "
			  "descriptors or timers, which are not recorded"
			: "The loop was notified in time, and its thread took that long to wake",
		 parts);
	snprintf(f->refute, sizeof(f->refute), "A wait_end soon after the notify.");
	bht_witness_fill(c, f);
}

/* Which part makes up at least half of the gap. */
static void look_slow(struct bht_case *c, const struct bht_bh_machine *m)
{
	const struct bht_delay *d = &m->slowest;
	uint64_t half = bht_delay_length(d) / 2;
	bool woke = bht_time(&d->wait_end) > bht_time(&d->schedule);
	bool told = woke && bht_time(&d->notify) && bhp_decode_wait_end(&d->wait_end.r).woke & BHP_WOKE_NOTIFIER;

	if (!bht_time(&d->schedule) || (double)bht_delay_length(d) < (double)c->late_ns * c->ev->ticks_per_ns)
		return;
	struct late l = late_of(c, m, d);
	if (!complete(c, &l))
		return;
	if (d->busy >= half)
		slow_callback(c, &l);
	else if (told && bht_time(&d->wait_end) >= bht_time(&d->notify) + half)
		slow_wake(c, &l, false);
	else if (told && bht_time(&d->begin) - bht_time(&d->wait_end) >= half)
		slow_wake(c, &l, true);
}

void bht_rule_late(struct bht_case *c)
{
	unsigned before = c->d->n_findings;

	BHT_MAP_EACH(&c->m->bhs, e)
	{
		if (c->d->n_findings - before >= LATE_MAX)
			return;
		if (!look_rescued(c, e->value))
			look_slow(c, e->value);
	}
}
