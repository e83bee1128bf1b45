/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "render.h"

/* --- reading ------------------------------------------------------------------------ */

static const struct bht_evidence *evidence(const struct bht_report *r, unsigned process)
{
	return &r->rec->process[process].ev;
}

/* In a second reading the losses of the first are at r->gaps already. */
static int begin_process(struct bht_report *r, unsigned process)
{
	struct bht_gaps known = { 0 };

	if (process < r->n)
		known = r->gaps[process];
	else if (!bht_room_for_one(&r->gaps, r->n, sizeof(*r->gaps)))
		return -ENOMEM;
	else
		r->n++;
	struct bht_gaps *g = &r->gaps[process];
	int rc = r->informed ? bht_gaps_begin_again(g, evidence(r, process), &r->how, &known)
			     : bht_gaps_begin(g, evidence(r, process), &r->how);
	return rc || !bht_time(&r->lost) ? rc : bht_gaps_feed(g, evidence(r, process), &r->lost);
}

static int make_room(struct bht_report *r, unsigned *begun)
{
	int rc = 0;

	while (*begun < r->rec->n && !rc)
		rc = begin_process(r, (*begun)++);
	return rc;
}

/* So many nanoseconds after FIRST; a clock that is not credible leads nowhere. */
static uint64_t later(const struct bht_report *r, uint64_t first, double ns)
{
	double ticks = ns * r->rec->ticks_per_ns;

	return ticks >= 0 && ticks < (double)(UINT64_MAX - first) / 2 ? first + (uint64_t)ticks : UINT64_MAX;
}

/* The window is told in time since the first event. */
static void set_window(struct bht_report *r, uint64_t first)
{
	r->first = first;
	r->how.from = r->since_ns > 0 ? later(r, first, r->since_ns) : 0;
	r->how.until = r->until_ns > 0 ? later(r, first, r->until_ns) : UINT64_MAX;
}

static int feed_one(struct bht_report *r, unsigned process, const struct bht_event *e)
{
	const struct bht_evidence *ev = evidence(r, process);
	bool loss = bht_event_id(e) == BHT_ID_LOSS;

	if (bht_is_kernel(bht_event_id(e)))
		return bht_gaps_feed(&r->gaps[process], ev, e);
	/* Of what is later some threads have no more. */
	if (!loss && ev->history_until && bht_time(e) > ev->history_until)
		return 0;
	if (!loss) {
		if (!r->n_events++)
			set_window(r, bht_time(e));
		r->last = bht_time(e);
	}
	return bht_gaps_feed(&r->gaps[process], ev, e);
}

static int feed(struct bht_report *r, const struct bht_event *e)
{
	int rc = 0;

	if (e->process != BHT_ALL_PROCESSES)
		return e->process < r->n ? feed_one(r, e->process, e) : -EINVAL;
	r->lost = *e;
	for (unsigned i = 0; i < r->n && !rc; i++)
		rc = feed_one(r, i, e);
	return rc;
}

int bht_report_read(struct bht_report *r, struct bht_recording *rec)
{
	struct bht_source *history = rec->history;
	struct bht_event e[BHT_BATCH];
	unsigned begun = 0;

	r->rec = rec;
	r->how.until = UINT64_MAX;
	int n = 0, rc = make_room(r, &begun);
	while (!rc && history && (n = history->next(history, e, BHT_BATCH)) > 0) {
		rc = make_room(r, &begun);
		for (int i = 0; i < n && !rc; i++)
			rc = feed(r, &e[i]);
	}
	rc = rc ? rc : n;
	for (unsigned i = 0; i < begun && i < r->n && !rc; i++)
		rc = bht_gaps_finish(&r->gaps[i], evidence(r, i));
	return rc;
}

bool bht_report_wants_again(const struct bht_report *r)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->gaps[i].again)
			return true;
	return false;
}

void bht_report_again(struct bht_report *r)
{
	for (unsigned i = 0; i < r->n; i++) {
		struct bht_losses losses = r->gaps[i].losses;
		r->gaps[i].losses = (struct bht_losses){ 0 };
		bht_gaps_free(&r->gaps[i]);
		r->gaps[i].losses = losses;
	}
	r->lost = (struct bht_event){ 0 };
	r->n_events = r->first = r->last = 0;
	r->informed = true;
}

void bht_report_free(struct bht_report *r)
{
	for (unsigned i = 0; i < r->n; i++)
		bht_gaps_free(&r->gaps[i]);
	free(r->gaps);
	r->gaps = NULL;
	r->n = 0;
}

/* --- what the renderers share --------------------------------------------------------- */

int bht_loop_total(const struct bht_loop_row *loop, struct bht_row *total)
{
	int rc = 0;

	for (unsigned i = 0; i < BHT_COUNTS; i++)
		total->count[i] += loop->count[i];
	for (size_t i = 0; i < loop->n_rows && !rc; i++)
		rc = bht_row_add(total, loop->row[i]);
	return rc;
}

int bht_report_total(const struct bht_report *r, struct bht_row *total)
{
	int rc = 0;

	for (unsigned p = 0; p < r->n; p++)
		for (size_t i = 0; i < r->gaps[p].n_loops && !rc; i++)
			rc = bht_loop_total(r->gaps[p].loop[i], total);
	return rc;
}

bool bht_report_kernel(const struct bht_report *r)
{
	for (unsigned p = 0; p < r->n; p++)
		if (r->gaps[p].m.n_kernel)
			return true;
	return false;
}

bool bht_report_blind(const struct bht_row *total)
{
	return !total->gap.n && total->unmeasured[BHT_LOST_EVENTS];
}

/* Those of each process are sorted: a merge. */
const struct bht_gap *bht_report_worst(const struct bht_report *r, unsigned n, unsigned *process)
{
	unsigned *at = calloc(r->n + 1, sizeof(*at));
	const struct bht_gap *worst = NULL;

	if (!at || n >= r->how.worst)
		goto out;
	for (unsigned i = 0; i <= n; i++) {
		worst = NULL;
		for (unsigned p = 0; p < r->n; p++)
			if (at[p] < r->gaps[p].n_worst && (!worst || bht_gap_worse(&r->gaps[p].worst[at[p]], worst))) {
				worst = &r->gaps[p].worst[at[p]];
				*process = p;
			}
		if (!worst)
			break;
		at[*process]++;
	}
out:
	free(at);
	return worst;
}

double bht_report_ns(const struct bht_report *r, uint64_t ticks)
{
	const struct bht_evidence clock = { .ticks_per_ns = r->rec->ticks_per_ns };

	return bht_since_ns(&clock, 0, ticks);
}

char *bht_brief_ns(char dst[BHT_BRIEF], double ns)
{
	static const struct {
		const char *name;
		double ns;
	} unit[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 } };
	unsigned i = 0;

	/* What would be rounded to 1000 has the next unit. */
	while (i < 3 && ns / unit[i].ns >= 999.5)
		i++;
	double value = ns / unit[i].ns;
	snprintf(dst, BHT_BRIEF, "%.*f %s", !i || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2, value, unit[i].name);
	return dst;
}

void bht_report_sentence(char dst[BHT_LINE], const struct bht_report *r, const struct bht_row *total)
{
	char half[BHT_BRIEF], most[BHT_BRIEF], max[BHT_BRIEF], luck[80] = "";
	uint64_t n = total->count[BHT_EXECUTIONS], unmeasured = bht_row_unmeasured(total);

	if (!n) {
		snprintf(dst, BHT_LINE, "No bottom half%s ran in what was recorded.",
			 r->how.glob || r->since_ns > 0 || r->until_ns > 0 ? " that was asked for" : "");
		return;
	}
	if (!total->gap.n) {
		snprintf(dst, BHT_LINE, "None of %" PRIu64 " executions could be measured: %s.", n,
			 total->unmeasured[BHT_LOST_EVENTS] ? bht_why_nots[BHT_LOST_EVENTS].meaning
							    : "which schedule each served is not known for sure");
		return;
	}
	if (total->rescued)
		snprintf(luck, sizeof(luck), "; only luck woke the loop for %" PRIu64 " of them", total->rescued);
	snprintf(dst, BHT_LINE,
		 "Of %" PRIu64 " executions half began within %s of their schedule, 99 %% within %s, the slowest after "
		 "%s%s.",
		 total->gap.n, bht_brief_ns(half, bht_report_ns(r, bht_histogram_quantile(&total->gap, 500))),
		 bht_brief_ns(most, bht_report_ns(r, bht_histogram_quantile(&total->gap, 990))),
		 bht_brief_ns(max, bht_report_ns(r, total->gap.max)), luck);
	size_t len = strlen(dst);
	if (unmeasured)
		snprintf(dst + len, BHT_LINE - len, " %" PRIu64 " more could not be measured.", unmeasured);
}

/* --- one gap -------------------------------------------------------------------------- */

unsigned bht_gap_events(const struct bht_gap *gap, struct bht_gap_event events[BHT_GAP_EVENTS])
{
	const struct bht_gap_event all[BHT_GAP_EVENTS] = {
		{ &gap->schedule, "scheduled" }, { &gap->write, "began to notify" }, { &gap->notify, "notified" },
		{ &gap->waking, "was woken" },   { &gap->running, "got a CPU" },     { &gap->wait_end, "woke" },
		{ &gap->begin, "executed" }
	};
	unsigned n = 0;

	for (unsigned i = 0; i < BHT_GAP_EVENTS; i++) {
		if (!bht_time(all[i].event))
			continue;
		unsigned at = n++;
		for (; at > 0 && bht_time(events[at - 1].event) > bht_time(all[i].event); at--)
			events[at] = events[at - 1];
		events[at] = all[i];
	}
	return n;
}

char *bht_gap_thread(char dst[BHT_THREAD_LABEL], const struct bht_report *r, unsigned process, uint32_t tid)
{
	const struct bht_thread_machine *m = bht_machine_thread(&r->gaps[process].m, tid);
	const struct bht_thread *now = bht_sample_thread(&evidence(r, process)->last, tid);
	const char *name = m && m->name[0] ? m->name : now && now->name[0] ? now->name : "thread";
	char safe[4 * BHP_TEXT_MAX + 4];

	snprintf(dst, BHT_THREAD_LABEL, "%s (tid %" PRIu32 ")", bht_escape(safe, sizeof(safe), name), tid);
	return dst;
}

static void woken_by(char *dst, size_t size, const struct bht_gap *gap)
{
	struct bhp_wait_end w = bhp_decode_wait_end(&gap->wait_end.r);

	if (w.woke & BHP_WOKE_FD)
		snprintf(dst, size, "file descriptor %d", w.fd);
	else
		snprintf(dst, size, "%s", w.woke & BHP_WOKE_TIMEOUT ? "a timer" : "a signal");
}

static void rescue_cause(char dst[BHT_LINE], const struct bht_gap *gap)
{
	static const char *const how[] = {
		[BHT_RESCUED_MISSING] = "nobody notified the loop (notify-missing)",
		[BHT_RESCUED_SKIPPED] = "the notification was skipped, the loop looked awake (notify-skipped)",
		[BHT_RESCUED_STOLEN] = "another thread took the notification (notify-stolen)"
	};
	char by[48];

	woken_by(by, sizeof(by), gap);
	snprintf(dst, BHT_LINE, "rescued: only %s woke the loop; %s", by, how[gap->rescue]);
}

static void callback_cause(char dst[BHT_LINE], const struct bht_report *r, const struct bht_gap *gap)
{
	char safe[BHT_WHO], all[BHT_BRIEF], longest[BHT_BRIEF];
	const char *own = gap->blamed == gap->row ? ", of this one itself" : "";

	bht_brief_ns(all, bht_report_ns(r, gap->part[BHT_IN_CALLBACKS]));
	if (!gap->blamed) {
		snprintf(dst, BHT_LINE, "the loop was in callbacks for %s", all);
		return;
	}
	bht_who(safe, "callback of", gap->blamed->name, gap->blamed->addr);
	snprintf(dst, BHT_LINE, "slow callback: the loop was in callbacks for %s; the longest, %s%s, took %s", all,
		 safe, own, bht_brief_ns(longest, bht_report_ns(r, gap->blamed_end - gap->blamed_begin)));
}

static void sleep_cause(char dst[BHT_LINE], const struct bht_gap *gap, const char *part)
{
	const bool notified =
		bht_time(&gap->wait_end) && bhp_decode_wait_end(&gap->wait_end.r).woke & BHP_WOKE_NOTIFIER;
	char by[48];

	woken_by(by, sizeof(by), gap);
	if (!gap->kernel)
		snprintf(dst, BHT_LINE, "%s: %s until the wait ended; run queue unknown without kernel events",
			 notified ? "woken late" : "the loop slept on", part);
	else if (notified)
		snprintf(dst, BHT_LINE, "woken late: %s until the kernel made its thread runnable", part);
	else
		snprintf(dst, BHT_LINE, "woken but not by its notifier: the loop slept on for %s, until %s woke it",
			 part, by);
}

static void queue_cause(char dst[BHT_LINE], const struct bht_report *r, unsigned process, const struct bht_gap *gap,
			const char *part)
{
	char where[BHT_THREAD_LABEL] = "";

	if (gap->queue.end)
		bht_queue_words(where, sizeof(where), &r->gaps[process].m, evidence(r, process), &gap->queue);
	snprintf(dst, BHT_LINE, "run queue %s%s%s", part, *where ? " " : "", where);
}

void bht_gap_cause(char dst[BHT_LINE], const struct bht_report *r, unsigned process, const struct bht_gap *gap)
{
	char thread[BHT_THREAD_LABEL], part[BHT_BRIEF];
	unsigned most = 0;

	for (unsigned i = 1; i < BHT_SEGMENTS; i++)
		if (gap->part[i] > gap->part[most])
			most = i;
	bht_brief_ns(part, bht_report_ns(r, gap->part[most]));
	if (gap->rescue)
		rescue_cause(dst, gap);
	else if (most == BHT_IN_CALLBACKS)
		callback_cause(dst, r, gap);
	else if (most == BHT_TO_NOTIFY)
		snprintf(dst, BHT_LINE, "%s took %s from the schedule to its notify",
			 bht_gap_thread(thread, r, process, gap->schedule.tid), part);
	else if (most == BHT_RUN_QUEUE)
		queue_cause(dst, r, process, gap, part);
	else if (most == BHT_TO_WAKING || (most == BHT_TO_WAKE && !gap->kernel))
		sleep_cause(dst, gap, part);
	else if (most == BHT_TO_WAKE)
		snprintf(dst, BHT_LINE, "its thread ran for %s until the wait ended", part);
	else
		snprintf(dst, BHT_LINE,
			 "the loop was awake and executed nothing for %s: %shandlers of descriptors or timers, "
			 "which are not recorded",
			 part, gap->kernel ? "" : "no CPU, or ");
}
