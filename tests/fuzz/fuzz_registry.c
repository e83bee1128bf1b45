/* SPDX-License-Identifier: MIT */
/*
 * A hostile memory image, from the notes of its ELF images to the diagnosis: an
 * image may begin at each region. The loops have owners, whose state and that of
 * the notifiers is what the first bytes say.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "roots.h"

enum { THREADS = 4, FIRST_TID = 1000 };

static void add_threads(struct bht_sample *s, const uint8_t control[8], bool last)
{
	s->threads = calloc(THREADS, sizeof(*s->threads));
	fuzz_check(s->threads != NULL);
	for (; s->n_threads < THREADS; s->n_threads++) {
		const unsigned how = control[s->n_threads];
		const uint32_t tid = s->n_threads < s->n_loops ? s->loops[s->n_threads].owner : FIRST_TID;
		s->threads[s->n_threads] = (struct bht_thread){ .tid = tid,
								.ns_tid = tid,
								.name = "\033[2J\xff",
								.state = "SSRTDXt?"[how & 7],
								.syscall = (how & 8) ? 232 : BHT_SYSCALL_RUNNING,
								.switches = last && how & 16,
								.cpu_ns = last && how & 32 ? 1000000000 : 0 };
	}
}

static int sample(struct fuzz_image *image, struct bht_roots *roots, const uint8_t control[8], struct bht_evidence *ev,
		  struct bht_sample *s, struct bht_refusal *refusal)
{
	struct bht_tids same = { .same = true };
	int rc = bht_roots_sample(&image->mem, roots, 0, ev, s, refusal);

	s->ticks = s == &ev->first ? 1 : UINT64_C(1) << (control[5] & 63);
	bht_roots_owners(s, &same);
	add_threads(s, control, s == &ev->last);
	for (size_t i = 0; i < s->n_loops; i++) {
		s->loops[i].notifier_count = control[6] & 3;
		s->loops[i].notifier_watched = (control[6] >> 2 & 3) - 1;
		s->loops[i].embedder_watches = (control[6] >> 4 & 3) - 1;
	}
	return rc;
}

/* As a live process is read: a sample, the rings, a sample. */
static int look(struct fuzz_image *image, struct bht_roots *roots, const uint8_t control[8], struct bht_evidence *ev,
		struct bht_source **history, struct bht_refusal *refusal)
{
	const struct bht_tids same = { .same = true };
	int rc = ev->live ? sample(image, roots, control, ev, &ev->first, refusal) : 0;
	struct bht_flight *flight = rc ? NULL : bht_roots_flight(&image->mem, roots, NULL, ev, refusal);

	*history = flight ? bht_flight_source(flight, &same) : NULL;
	if (!*history)
		return rc ? rc : -EIO;
	return sample(image, roots, control, ev, &ev->last, refusal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct fuzz_image image;
	struct bht_notes notes;
	struct bht_roots roots;
	struct bht_refusal refusal = { 0 };
	struct bht_source *history = NULL;
	uint64_t addrs[FUZZ_REGIONS];
	uint8_t control[8];

	fuzz_take(&in, control, sizeof(control));
	fuzz_image_open(&image, &in);
	for (unsigned i = 0; i < image.n; i++)
		addrs[i] = image.region[i].addr;
	fuzz_check(bht_notes_find(&image.mem, addrs, image.n, &notes) == 0);
	int rc = bht_roots_open(&image.mem, &notes, "fuzz", &roots, &refusal);
	if (rc) {
		fuzz_result(rc, NULL, NULL, &refusal);
		return 0;
	}
	struct bht_evidence ev = { .origin = (enum bht_origin)(control[7] & 3),
				   .live = control[7] & 4,
				   .ticks_per_ns = 2.5,
				   .clock_error_ns = 250 };
	rc = look(&image, &roots, control, &ev, &history, &refusal);
	if (rc) {
		fuzz_check(refusal.why[0]);
		if (history)
			history->close(history);
		bht_evidence_free(&ev);
	} else {
		fuzz_judge(&ev, history);
	}
	return 0;
}
