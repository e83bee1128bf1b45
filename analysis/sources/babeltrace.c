/* SPDX-License-Identifier: MIT */
/*
 * What libbabeltrace2 delivers becomes events here: messages in the order of LTTng's
 * stamps go in, events in the order of their own time come out (babeltrace_order.h).
 *
 * The clock of a host (a machine since it was started) is not known before some of
 * its events were read. Until then, everything waits.
 */
#include "epoch.h"
#include "babeltrace_reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "array.h"
#include "clock.h"
#include "refuse.h"

/*
 * A clock is measured over so long: with several hosts, whose times are converted,
 * over longer. Unless AHEAD_MAX events take less, or a live session has no more of
 * them for LIVE_PATIENCE pauses.
 */
static const uint64_t SPAN_NS = 20 * 1000 * 1000, LONG_SPAN_NS = 1000 * 1000 * 1000;
enum { AHEAD_MAX = 1 << 16, PAUSE_NS = 20 * 1000 * 1000, LIVE_PATIENCE = 100 };
/* --- time ----------------------------------------------------------------------- */

static bool is_loss(const struct bht_event *e)
{
	return bht_event_id(e) == BHT_ID_LOSS;
}

/* From here on it is known how many hosts there are: babeltrace2 tells of all streams
 * of directories before the first event. */
static void decide(struct reader *r)
{
	r->in_ns = r->decided ? r->in_ns : r->n_hosts > 1;
	r->decided = true;
}

static void stamp_loss(const struct reader *r, const struct bht_line *line, uint64_t *time, uint64_t ns)
{
	if (*time)
		return;
	if (line->known)
		*time = bht_line_ticks(line, ns);
	else
		*time = r->in_ns ? ns : r->order.latest;
}

static int place(struct reader *r, struct bht_line *line, struct bht_event *e, uint64_t ns)
{
	uint64_t *word = e->r.word;
	const unsigned more = bht_time_word(bht_event_id(e));

	if (is_loss(e))
		stamp_loss(r, line, &word[0], ns);
	else if (ns)
		bht_line_follow(line, (struct bht_instant){ ns, word[0] });
	if (r->in_ns && line->known) {
		word[0] = bht_line_ns(line, word[0]);
		if (more)
			word[more] = bht_line_ns(line, word[more]);
	}
	return bht_order_put(&r->order, e);
}

/* The line of a host through those of its events that wait. */
static int measure(struct reader *r, struct host *h)
{
	struct bht_instant *pair = calloc(r->n_waiting + 1, sizeof(*pair));
	size_t n = 0;

	if (!pair)
		return -ENOMEM;
	for (size_t i = 0; i < r->n_waiting; i++)
		if (r->waiting[i].host == h && !is_loss(&r->waiting[i].e))
			pair[n++] = (struct bht_instant){ r->waiting[i].ns, bht_time(&r->waiting[i].e) };
	if (n)
		bht_line_fit(&h->line, pair, n);
	free(pair);
	return 0;
}

/* Nobody waits any longer. */
static int settle(struct reader *r)
{
	int rc = 0;

	decide(r);
	for (unsigned i = 0; rc == 0 && i < r->n_hosts; i++) {
		struct host *h = &r->host[i];
		if (h->awaited && !h->line.known)
			rc = measure(r, h);
		h->awaited = h->measured = false;
		h->first_ns = 0;
	}
	r->n_awaited = 0;
	for (size_t i = 0; i < r->n_waiting; i++) {
		struct waiting *w = &r->waiting[i];
		if (rc == 0)
			rc = place(r, &w->host->line, &w->e, w->ns);
		else
			free((char *)w->e.text);
	}
	r->n_waiting = 0;
	return rc;
}

static void await(struct reader *r, struct host *h, const struct waiting *w)
{
	if (!h->awaited)
		r->n_awaited++;
	h->awaited = true;
	if (is_loss(&w->e) || h->measured)
		return;
	if (!h->first_ns)
		h->first_ns = w->ns;
	if (w->ns - h->first_ns >= (r->n_hosts > 1 ? LONG_SPAN_NS : SPAN_NS)) {
		h->measured = true;
		r->n_awaited--;
	}
}

/* Takes an event and its text. */
int bht_reader_put(struct reader *r, struct host *h, struct bht_event *e, uint64_t ns)
{
	r->draining = false;
	r->pauses = 0;
	if (!r->n_waiting && h->line.known) {
		decide(r);
		return place(r, &h->line, e, ns);
	}
	if (!bht_room_for_one(&r->waiting, r->n_waiting, sizeof(*r->waiting))) {
		free((char *)e->text);
		return -ENOMEM;
	}
	r->waiting[r->n_waiting] = (struct waiting){ *e, ns, h };
	if (!h->line.known)
		await(r, h, &r->waiting[r->n_waiting]);
	r->n_waiting++;
	return r->n_awaited && r->n_waiting < AHEAD_MAX ? 0 : settle(r);
}

/* --- the source ----------------------------------------------------------------------- */

/* All that is left may go; WHY and COUNT say what is missing at the end, if anything. */
static int finish(struct reader *r, enum bht_loss_why why, uint64_t count)
{
	struct bht_event e = bht_loss_of_all(why, count);
	int rc = settle(r);

	if (rc == 0 && why) {
		e.r.word[0] = r->order.latest;
		rc = bht_order_put(&r->order, &e);
	}
	r->ended = true;
	return rc;
}

static int end(struct reader *r)
{
	return finish(r, r->n_passed_over > 1 ? BHT_LOSS_DAMAGED : 0, r->n_passed_over - 1);
}

/* Nothing new at the moment: what waits is delivered, then a live session is asked
 * again and again. */
static int pause_reading(struct reader *r)
{
	if (r->n_waiting && ++r->pauses > LIVE_PATIENCE)
		return settle(r);
	if (r->draining || !r->order.n)
		nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS }, NULL);
	r->draining = true;
	return 0;
}

static int advance(struct reader *r)
{
	if (r->live && r->stop && *r->stop)
		return end(r);
	int rc = bht_graph_run(r->graph, &r->why);
	if (rc == 1)
		return 0;
	if (rc == 0)
		return end(r);
	if (rc == -EAGAIN)
		return pause_reading(r);
	if (rc == -ENOMEM || (!r->decided && (rc == -EPROTO || !r->n_waiting)))
		return rc;
	snprintf(r->damage, sizeof(r->damage), "%s", r->why.why);
	return finish(r, BHT_LOSS_DAMAGED, 0);
}

static unsigned take(struct reader *r, struct bht_event *e, unsigned max)
{
	if (r->ended)
		return bht_order_take(&r->order, e, max, 0, UINT64_MAX);
	if (r->draining)
		return bht_order_take(&r->order, e, max, 0, r->order.latest);
	return bht_order_take(&r->order, e, max, BHT_ORDER_HOLD, UINT64_MAX);
}

static int reader_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct reader *r = (struct reader *)source;
	unsigned n;
	int rc = 0;

	while ((n = take(r, e, max)) == 0 && !r->ended && rc == 0)
		rc = advance(r);
	return n ? (int)n : rc;
}

static void reader_close(struct bht_source *source)
{
	struct reader *r = (struct reader *)source;

	bht_free_origins(r);
	if (r->graph)
		bht_graph_close(r->graph);
	for (size_t i = 0; i < r->n_waiting; i++)
		free((char *)r->waiting[i].e.text);
	free(r->waiting);
	free(r->process);
	bht_order_free(&r->order);
	free(r);
}

static int read_ahead(struct reader *r, const char *name)
{
	int rc = 0;

	while (rc == 0 && !r->decided)
		rc = advance(r);
	if (rc == 0 && r->live && r->ended && !r->streams.used && !(r->stop && *r->stop))
		rc = bht_refuse(&r->why, -ENOENT, 0, "%s: no such session, or nothing is traced in it", name);
	return rc;
}

int bht_babeltrace_open(const char *const *traces, unsigned n, const volatile bool *stop, struct bht_source **source,
			struct bht_refusal *refusal)
{
	struct reader *r = calloc(1, sizeof(*r));

	if (!r)
		return bht_refuse(refusal, -ENOMEM, 0, "no memory");
	r->base = (struct bht_source){ reader_next, reader_close };
	r->stop = stop;
	for (unsigned i = 0; i < n; i++)
		r->live |= bht_graph_is_live(traces[i]);
	int rc = bht_graph_open(traces, n, bht_take_message, r, &r->graph, &r->why);
	if (rc == 0)
		rc = read_ahead(r, n ? traces[0] : "");
	if (rc == 0) {
		*source = &r->base;
		return 0;
	}
	bht_refuse(refusal, rc, r->why.addr, "%s", r->why.why);
	reader_close(&r->base);
	return rc;
}

struct bht_trace_info bht_babeltrace_info(const struct bht_source *source)
{
	const struct reader *r = (const struct reader *)source;
	const struct bht_line *line = &r->host[0].line;

	return (struct bht_trace_info){ .ticks_per_ns = r->in_ns || !line->known ? 1 : 1 / line->ns_per_tick,
					.clock_error_ns = BHT_CLOCK_ERROR_NS,
					.process = r->process,
					.n_processes = r->n_processes };
}

const char *bht_babeltrace_damage(const struct bht_source *source)
{
	return ((const struct reader *)source)->damage;
}
