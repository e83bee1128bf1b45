/* SPDX-License-Identifier: MIT */
/*
 * synthetic EVENTS FILE.html|FILE.json: a history that nobody recorded, drawn. Two
 * loops with producers of their own, nested polls, late wakeups, a loss on one thread
 * and one of all, names that try to be markup; two findings. Always the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "timeline.h"

enum { LOOPS = 2, BHS = 6, PRODUCERS = 3, PID = 4711, CYCLE = 16 /* events at most */ };
enum { GAP_LATE = 3000000 }; /* ns of a late one */

static const char *const loop_names[LOOPS] = { "main", "io </script><script>alert(1)</script>" };
static const char *const bh_names[BHS] = {
	"completion", "timer-expiry", "<img src=x onerror=alert(2)>", "flush \xe2\x80\xae\xff\x1b[31m", "resolver", ""
};

static struct bht_event *event;
static size_t n_events, max_events;
static uint64_t seed = 1;

static uint64_t random_below(uint64_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % n;
}

static void *loop_at(unsigned loop)
{
	return (void *)(uintptr_t)(0x10000 + 0x1000 * loop);
}

static void *bh_at(unsigned loop, unsigned bh)
{
	return (void *)(uintptr_t)(0x20000 + 0x10000 * loop + 0x100 * bh);
}

#define TELL(tid_, time_, name, ...)                                                                                   \
	(event[n_events++] = (struct bht_event){ .r = bhp_encode_##name(time_, &(struct bhp_##name){ __VA_ARGS__ }),   \
						 .tid = (tid_) })

/* One wakeup of a loop: at most CYCLE events. Gives the time after it. */
static uint64_t cycle(unsigned loop, uint64_t t, uint64_t number, bool late)
{
	const unsigned bh = (unsigned)random_below(BHS), self = PID + 10 * loop;
	const unsigned producer = self + 1 + (unsigned)random_below(PRODUCERS), other = self + 1 + producer % PRODUCERS;
	void *const l = loop_at(loop), *const b = bh_at(loop, bh), *const inner = bh_at(loop, (bh + 1) % BHS);

	TELL(producer, t += 200 + random_below(9000), schedule, .loop = l, .bh = b, .took = 40, .ticket = number + 1);
	TELL(producer, t += 60, notify, .loop = l, .bh = b, .notify_me = BHP_LOOP_SLEEPING, .written = !late);
	if (random_below(3) == 0)
		TELL(other, t += 30, schedule, .loop = l, .bh = b, .seen = 1, .took = 35);
	t += late ? GAP_LATE : 1500 + random_below(4000);
	TELL(self, t, wait_end, .loop = l, .woke = late ? BHP_WOKE_TIMEOUT : BHP_WOKE_NOTIFIER, .fd = -1,
	     .ready = !late);
	if (!late)
		TELL(self, t += 300, accept, .loop = l, .by = BHP_BY_POLL, .value = 1);
	const uint64_t begin = t;
	TELL(self, begin, execute_begin, .loop = l, .bh = b, .callback = (void *)0x5000);
	TELL(self, t += 200 + random_below(800), consume, .loop = l, .bh = b, .ticket = number + 1);
	if (random_below(8) == 0) {
		TELL(self, t += 100, schedule, .loop = l, .bh = inner, .took = 30);
		TELL(self, t += 50, notify, .loop = l, .bh = inner, .notify_me = BHP_LOOP_AWAKE);
		TELL(self, t += 50, poll_begin, .loop = l, .depth = 2, .iteration = 2 * number);
		TELL(self, t += 50, execute_begin, .loop = l, .bh = inner, .callback = (void *)0x6000);
		t += 900;
		TELL(self, t, execute_end, .loop = l, .bh = inner, .begin = t - 900);
		TELL(self, t += 50, poll_end, .loop = l, .progress = 1, .depth = 2, .iteration = 2 * number);
	}
	TELL(self, t += 300 + random_below(number % 97 ? 3000 : 300000), execute_end, .loop = l, .bh = b,
	     .begin = begin);
	TELL(self, t += 100, poll_end, .loop = l, .progress = 1, .depth = 1, .iteration = number);
	TELL(self, t += 100, poll_begin, .loop = l, .blocking = 1, .depth = 1, .iteration = number + 1);
	TELL(self, t += 150, wait_begin, .loop = l, .timeout_ns = loop ? 5000000 : -1);
	return t;
}

static void begin_loop(unsigned loop, uint64_t t)
{
	TELL(PID + 10 * loop, t, poll_begin, .loop = loop_at(loop), .blocking = 1, .depth = 1, .iteration = 1);
	TELL(PID + 10 * loop, t + 100, wait_begin, .loop = loop_at(loop), .timeout_ns = -1);
}

static int by_time(const void *a, const void *b)
{
	const struct bht_event *x = a, *y = b;

	if (bht_time(x) != bht_time(y))
		return bht_time(x) < bht_time(y) ? -1 : 1;
	return x->text < y->text ? -1 : x->text > y->text; /* their order, see make_history() */
}

/* Gives the time at which it is over. */
static uint64_t make_history(void)
{
	uint64_t t[LOOPS] = { 1000000, 1000400 }, number = 1;

	for (unsigned i = 0; i < LOOPS; i++)
		begin_loop(i, t[i]);
	for (; n_events + 2 * CYCLE < max_events; number++) {
		const unsigned loop = t[1] < t[0];
		t[loop] = cycle(loop, t[loop], number, number % 4001 == 4000);
	}
	const uint64_t end = t[0] > t[1] ? t[0] : t[1];
	const uint64_t lost = end / 2;
	event[n_events++] = bht_loss(lost, PID + 11, BHT_LOSS_OVERWRITTEN, 123);
	event[n_events++] = bht_loss(1000400 + (end - 1000400) / 20, 0, BHT_LOSS_DROPPED, 0);
	/* The last one is scheduled, and nobody is told. */
	TELL(PID + 2, end + 5000, schedule, .loop = loop_at(0), .bh = bh_at(0, 0), .took = 40, .ticket = number);
	/* qsort() keeps no order of its own; nobody looks at text but bh_new and thread. */
	for (size_t i = 0; i < n_events; i++)
		event[i].text = (const char *)(uintptr_t)(i + 1);
	qsort(event, n_events, sizeof(*event), by_time);
	for (size_t i = 0; i < n_events; i++)
		event[i].text = NULL;
	return end + 5000;
}

/* --- what was found ------------------------------------------------------------ */

static void add_witness(struct bht_finding *f, unsigned id, unsigned tid, const char *role)
{
	/* The latest such event. */
	for (size_t i = n_events; i-- > 0;)
		if (bht_event_id(&event[i]) == id && event[i].tid == tid) {
			struct bht_witness *w = &f->witness[f->n_witness++];
			w->event = event[i];
			w->key = *role != '\0';
			snprintf(w->role, sizeof(w->role), "%s", role);
			return;
		}
}

static void make_findings(struct bht_finding f[2], const struct bht_sample *s)
{
	f[0] = (struct bht_finding){
		.rule = BHT_RULE_NOTIFY_MISSING, .confidence = BHT_CONSISTENT, .bh = s->bhs[0], .loop = s->loops[0]
	};
	strcpy(f[0].detail,
	       "Thread 4713 scheduled it, and no notification follows; loop \"main\" sleeps with no timeout.");
	strcpy(f[0].refute, "A notify event after the schedule.");
	add_witness(&f[0], BHP_ID_wait_begin, PID, "asleep with work undone");
	add_witness(&f[0], BHP_ID_schedule, PID + 2, "set the flag, told nobody");
	f[0].origin = bht_time(&f[0].witness[1].event);
	f[1] = (struct bht_finding){
		.rule = BHT_RULE_RESCUED, .confidence = BHT_SUSPECTED, .bh = s->bhs[2], .loop = s->loops[1]
	};
	strcpy(f[1].detail, "It ran only because the timeout <b>woke</b> the loop, & not its notification.");
	for (size_t i = 0; i < n_events && f[1].n_witness == 0; i++)
		if (bht_event_id(&event[i]) == BHP_ID_wait_end &&
		    bhp_decode_wait_end(&event[i].r).woke == BHP_WOKE_TIMEOUT)
			f[1].witness[f[1].n_witness++] =
				(struct bht_witness){ .event = event[i], .key = true, .role = "woke by its timeout" };
	f[1].origin = f[1].n_witness ? bht_time(&f[1].witness[0].event) : bht_time(&event[0]);
}

static void name_all(struct bht_sample *s)
{
	for (unsigned l = 0; l < LOOPS; l++) {
		s->loops[l] = (struct bht_loop){ .addr = (uintptr_t)loop_at(l), .owner = PID + 10 * l };
		snprintf(s->loops[l].name, BHP_NAME_SIZE, "%s", loop_names[l]);
		for (unsigned b = 0; b < BHS; b++) {
			struct bht_bh *bh = &s->bhs[l * BHS + b];
			*bh = (struct bht_bh){ .addr = (uintptr_t)bh_at(l, b), .loop = s->loops[l].addr };
			snprintf(bh->name, BHP_NAME_SIZE, "%s", bh_names[b]);
		}
		for (unsigned p = 0; p <= PRODUCERS; p++) {
			struct bht_thread *thread = &s->threads[l * (PRODUCERS + 1) + p];
			thread->tid = PID + 10 * l + p;
			snprintf(thread->name, sizeof(thread->name), p ? "worker-%u" : "loop-%u", p ? p : l);
		}
	}
}

/* --- drawing ------------------------------------------------------------------- */

struct list {
	struct bht_source base;
	size_t at;
};

static int list_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct list *list = (struct list *)source;
	unsigned n = 0;

	while (n < max && list->at < n_events)
		e[n++] = event[list->at++];
	return (int)n;
}

static void list_close(struct bht_source *source)
{
	(void)source;
}

static void look(struct bht_overview *o)
{
	struct list list = { { list_next, list_close }, 0 };
	struct bht_source *tap = bht_overview_tap(&list.base, o);
	struct bht_event e[BHT_BATCH];

	while (tap && tap->next(tap, e, BHT_BATCH) > 0)
		;
	if (tap)
		tap->close(tap);
}

static int draw(const char *file, struct bht_timeline *t)
{
	struct list list = { { list_next, list_close }, 0 };
	FILE *out = fopen(file, "we");
	const bool json = strstr(file, ".json") != NULL;

	if (!out)
		return 1;
	int rc = (json ? bht_timeline_json : bht_timeline_html)(t, &list.base, out);
	fclose(out);
	printf("%s: %llu events, %llu arrows, %zu lanes\n", file, (unsigned long long)t->n_events,
	       (unsigned long long)t->n_arrows, t->n_lanes);
	return rc != 0;
}

int main(int argc, char **argv)
{
	static struct bht_loop loops[LOOPS];
	static struct bht_bh bhs[LOOPS * BHS];
	static struct bht_thread threads[LOOPS * (PRODUCERS + 1)];
	static struct bht_finding finding[2];
	struct bht_recorded process = { .ev = { .pid = PID,
						.command = "a<b>\"&'",
						.ticks_per_ns = 1,
						.clock_error_ns = 250,
						.last = { .loops = loops,
							  .n_loops = LOOPS,
							  .bhs = bhs,
							  .n_bhs = LOOPS * BHS,
							  .threads = threads,
							  .n_threads = LOOPS * (PRODUCERS + 1) } } };
	struct bht_diagnosis d = { .verdict = BHT_LOST, .findings = finding, .n_findings = 2, .lost_events = 123 };
	struct bht_overview overview = { 0 };

	if (argc != 3)
		return 2;
	max_events = strtoul(argv[1], NULL, 10) + 4 * (size_t)CYCLE;
	event = calloc(max_events + CYCLE, sizeof(*event));
	if (!event)
		return 1;
	make_history();
	name_all(&process.ev.last);
	make_findings(finding, &process.ev.last);
	strcpy(d.loss_why, "overwritten by newer ones");
	look(&overview);
	struct bht_timeline t = { .name = "synthetic </title>",
				  .process = &process,
				  .d = &d,
				  .n_processes = 1,
				  .overview = &overview,
				  .only = BHT_ALL_PROCESSES,
				  .until = UINT64_MAX,
				  .max_events = BHT_PAGE_EVENTS,
				  .ticks_per_ns = 1 };
	int rc = draw(argv[2], &t);
	bht_timeline_free(&t);
	bht_overview_free(&overview);
	free(event);
	return rc;
}
