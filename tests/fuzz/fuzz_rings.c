/* SPDX-License-Identifier: MIT */
/*
 * The ring reader on hostile rings: the root is good, what it leads to is not.
 * The first region is the field table, the second the first ring. The state of
 * loops, bottom halves and threads comes from the input, too: rules and
 * renderers see what no registry would show.
 */
#include <stdlib.h>
#include <string.h>

#include "flight.h"
#include "fuzz.h"

enum { LOOPS = 2, BHS = 4, THREADS = 3 };

/* What of the input makes an object. */
struct seed {
	uint64_t addr, time;
	uint8_t a, b, c, d, e, f, g, h;
};

static uint64_t now;

static uint64_t clock_of_target(void)
{
	return now;
}

static uint32_t same_tid(void *arg, uint32_t tid)
{
	(void)arg;
	return tid;
}

static void make_loop(struct bht_loop *loop, const struct seed *s)
{
	*loop = (struct bht_loop){ .addr = s->addr,
				   .serial = s->a & 1,
				   .name = "\xe2\x80\xae\n",
				   .protocol = s->a >> 1 & 3,
				   .owner = (uint32_t)(s->time >> 48),
				   .where = s->c & 7,
				   .depth = s->c >> 3 & 3,
				   .iteration = s->d & 3,
				   .notify_me = s->d >> 2 & 3,
				   .notifier_fd = (int8_t)s->e,
				   .poll_fd = (int8_t)s->f,
				   .current = s->addr + 64 * (s->g & 7),
				   .current_since = s->time << 16 >> 16,
				   .wait_timeout_ns = (s->g >> 3 & 3) - 1,
				   .notifier_count = (s->g >> 5 & 3) - 1,
				   .notifier_watched = (s->a >> 3 & 3) - 1,
				   .notifier_mask = s->a >> 5,
				   .embedder_watches = (s->b >> 3 & 3) - 1 };
}

static void make_bh(struct bht_bh *bh, const struct bht_loop *loop, const struct seed *s)
{
	*bh = (struct bht_bh){ .addr = s->addr,
			       .serial = s->a & 1,
			       .name = "\x1b]0;\a",
			       .loop = loop->addr,
			       .state = s->c & 3,
			       .flags = s->d & 15,
			       .runs = s->e,
			       .last_run = s->time };
}

static void make_thread(struct bht_thread *thread, const struct seed *s)
{
	*thread = (struct bht_thread){ .tid = (uint32_t)s->addr,
				       .ns_tid = (uint32_t)s->addr,
				       .name = "\xff%s\n",
				       .state = "SRDTtZX?"[s->a & 7],
				       .syscall = s->b ? s->b : (int64_t)BHT_SYSCALL_UNKNOWN,
				       .args = { s->c, s->d, s->e, s->f, s->g, s->h },
				       .switches = s->c & 1,
				       .cpu_ns = s->d * UINT64_C(100000000),
				       .lock_word = s->e,
				       .lock_owner = (uint32_t)s->time };
}

static void make_sample(struct bht_sample *sample, struct fuzz_input *in)
{
	struct seed s;

	*sample = (struct bht_sample){ .loops = calloc(LOOPS, sizeof(*sample->loops)),
				       .bhs = calloc(BHS, sizeof(*sample->bhs)),
				       .threads = calloc(THREADS, sizeof(*sample->threads)) };
	fuzz_check(sample->loops && sample->bhs && sample->threads);
	for (; sample->n_loops < LOOPS; sample->n_loops++) {
		fuzz_take(in, &s, sizeof(s));
		make_loop(&sample->loops[sample->n_loops], &s);
	}
	for (; sample->n_bhs < BHS; sample->n_bhs++) {
		fuzz_take(in, &s, sizeof(s));
		make_bh(&sample->bhs[sample->n_bhs], &sample->loops[s.h % LOOPS], &s);
	}
	for (; sample->n_threads < THREADS; sample->n_threads++) {
		fuzz_take(in, &s, sizeof(s));
		make_thread(&sample->threads[sample->n_threads], &s);
	}
	fuzz_take(in, &s, sizeof(s));
	sample->ticks = s.time;
	sample->unstable = s.a & 1;
}

/* What a source must keep to. */
static void check_event(const struct bht_event *e, int i, int n)
{
	fuzz_check(!e->text || i == n - 1);
	fuzz_check(!e->text || strlen(e->text) <= BHP_TEXT_MAX);
	if (bht_event_id(e) == BHT_ID_LOSS)
		fuzz_check(bht_loss_reason(e) >= BHT_LOSS_OVERWRITTEN && bht_loss_reason(e) <= BHT_LOSS_DAMAGED);
}

/* Each ring by itself, in small batches. */
static void drain(struct bht_rings *rings)
{
	struct bht_source **sources;
	struct bht_event e[3];
	unsigned n_sources;
	int n;

	fuzz_check(bht_rings_sources(rings, same_tid, NULL, &sources, &n_sources) == 0);
	for (unsigned s = 0; s < n_sources; s++) {
		while ((n = sources[s]->next(sources[s], e, 1 + s % 3)) > 0)
			for (int i = 0; i < n; i++)
				check_event(&e[i], i, n);
		fuzz_check(n == 0);
		sources[s]->close(sources[s]);
	}
	free(sources);
}

static struct bht_source *merge(struct bht_rings *rings)
{
	struct bht_source **sources;
	unsigned n;

	fuzz_check(bht_rings_sources(rings, same_tid, NULL, &sources, &n) == 0);
	struct bht_source *merged = bht_merge(sources, n);
	free(sources);
	return merged;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct fuzz_image image;
	struct bht_refusal refusal = { 0 };
	struct seed how;

	fuzz_take(&in, &how, sizeof(how));
	struct bht_evidence ev = { .origin = (enum bht_origin)(how.a & 3),
				   .live = how.a & 4,
				   .pid = 1,
				   .ticks_per_ns = how.b & 1 ? 2.5 : 0.001,
				   .clock_error_ns = how.c };
	make_sample(&ev.first, &in);
	make_sample(&ev.last, &in);
	fuzz_image_open(&image, &in);
	struct bhp_root root = { .magic = BHP_ROOT_MAGIC,
				 .abi = BHP_ABI,
				 .size = sizeof(root),
				 .record_size = sizeof(struct bhp_record),
				 .ring_header = BHP_RING_HEADER,
				 .mode = how.d & 3,
				 .fields = (void *)image.region[0].addr,
				 .n_fields = how.e,
				 .rings = (void *)image.region[1].addr,
				 .dropped = how.f & 1 };
	now = ev.last.ticks;
	struct bht_rings *rings = bht_rings_copy(&image.mem, &root, how.g & 1 ? clock_of_target : NULL, &refusal);
	struct bht_source *history = NULL;
	if (rings) {
		drain(rings);
		history = merge(rings);
	} else {
		fuzz_check(refusal.why[0]);
	}
	fuzz_judge(&ev, history);
	bht_rings_free(rings);
	return 0;
}
