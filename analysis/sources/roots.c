/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "refuse.h"
#include "roots.h"

/* --- opening ------------------------------------------------------------------ */

static int refuse_notes(const struct bht_notes *notes, const char *subject, struct bht_refusal *refusal)
{
	if (notes->n_foreign && !notes->n_images)
		return bht_refuse(refusal, -EPROTO, notes->foreign,
				  "%s: an ELF image of 32 bits or another byte order; this reader is for 64 bits",
				  subject);
	return bht_refuse(refusal, -ENOENT, 0, "%s: no bhtrace note in %u mapped ELF images: not linked with libbh",
			  subject, notes->n_images);
}

/* Keeps the roots that can be read. An ELF file that the target only maps as
 * data leads to none; the reason matters when it is the only one. */
int bht_roots_open(struct bht_memory *mem, const struct bht_notes *notes, const char *subject, struct bht_roots *roots,
		   struct bht_refusal *refusal)
{
	int rc = 0;

	*roots = (struct bht_roots){ .n = 0 };
	if (!notes->n_roots)
		return refuse_notes(notes, subject, refusal);
	for (unsigned i = 0; i < notes->n_roots; i++) {
		struct bht_refusal why;
		int error = bht_root_read(mem, notes->root[i], &roots->root[roots->n], &why);
		if (!error) {
			roots->addr[roots->n++] = notes->root[i];
		} else if (rc != -EPROTO) {
			rc = error == -EFAULT ? -EBADMSG : error;
			roots->skipped = why;
		}
	}
	if (!roots->n) {
		*refusal = roots->skipped;
		return rc;
	}
	if (rc != -EPROTO)
		roots->skipped.why[0] = '\0';
	return 0;
}

/* --- loops and bottom halves --------------------------------------------------- */

/* A child that was made past fork() still has what libbh knew of its parent. */
static void check_pid(const struct bhp_root *root, uint32_t ns_pid, struct bht_evidence *ev)
{
	if (root->pid && ns_pid && root->pid != ns_pid)
		bht_unseen(ev, "the loops of this process itself: what it shows is a copy of process %u's", root->pid);
}

static void tell(struct bht_evidence *ev, const char *what, const struct bht_refusal *refusal)
{
	bht_unseen(ev, "%s: %s, at 0x%llx", what, refusal->why, (unsigned long long)refusal->addr);
}

/* A registry that is damaged leaves the sample unstable: what was found is
 * shown, nothing is concluded from what was not. */
int bht_roots_sample(struct bht_memory *mem, struct bht_roots *roots, uint32_t ns_pid, struct bht_evidence *ev,
		     struct bht_sample *sample, struct bht_refusal *refusal)
{
	if (roots->skipped.why[0])
		tell(ev, "the loops of another libbh in the same process", &roots->skipped);
	for (unsigned i = 0; i < roots->n; i++) {
		struct bhp_root *root = &roots->root[i];
		struct bhp_root again;
		int rc = bht_root_read(mem, roots->addr[i], root, refusal);
		if (!rc)
			rc = bht_registry_walk(mem, root, sample, refusal);
		if (!rc)
			rc = bht_root_read(mem, roots->addr[i], &again, refusal);
		/* The first bottom half of all came while the loops were read. */
		sample->unstable |= !rc && again.pools != root->pools;
		if (rc == -ESRCH || rc == -EPERM || rc == -ENOMEM)
			return rc;
		if (rc) {
			sample->unstable = true;
			tell(ev, "loops and bottom halves", refusal);
		}
		check_pid(root, ns_pid, ev);
	}
	return 0;
}

void bht_roots_owners(struct bht_sample *sample, struct bht_tids *tids)
{
	for (size_t i = 0; i < sample->n_loops; i++)
		if (sample->loops[i].owner)
			sample->loops[i].owner = bht_tids_map(tids, sample->loops[i].owner);
}

/* --- history ------------------------------------------------------------------ */

/* The merged events, with all that they are decoded from. */
struct bht_flight {
	struct bht_source base;
	struct bht_source *merged;
	struct bht_rings *rings[BHT_ROOTS_MAX];
	unsigned n_rings;
	struct bht_tids tids;
	uint64_t end; /* no loss is later */
};

void bht_flight_free(struct bht_flight *flight)
{
	if (!flight)
		return;
	if (flight->merged)
		flight->merged->close(flight->merged);
	for (unsigned i = 0; i < flight->n_rings; i++)
		bht_rings_free(flight->rings[i]);
	free(flight->tids.pair);
	free(flight);
}

static int copy_rings(struct bht_memory *mem, struct bht_roots *roots, uint64_t (*clock)(void), struct bht_evidence *ev,
		      struct bht_flight *flight, struct bht_refusal *refusal)
{
	for (unsigned i = 0; i < roots->n; i++) {
		struct bhp_root *root = &roots->root[i];
		int rc = bht_root_read(mem, roots->addr[i], root, refusal);
		if (rc)
			return rc;
		refusal->why[0] = '\0';
		flight->rings[i] = bht_rings_copy(mem, root, clock, refusal);
		if (!flight->rings[i])
			return -errno;
		flight->n_rings++;
		if (refusal->why[0])
			tell(ev, "part of the history", refusal);
		if (root->mode == BHP_FLIGHT_OFF)
			bht_unseen(ev, "the history: the flight recorder is off (BH_FLIGHT)");
	}
	return 0;
}

struct bht_flight *bht_roots_flight(struct bht_memory *mem, struct bht_roots *roots, uint64_t (*clock)(void),
				    struct bht_evidence *ev, struct bht_refusal *refusal)
{
	struct bht_flight *flight = calloc(1, sizeof(*flight));

	if (!flight) {
		errno = -bht_refuse(refusal, -ENOMEM, 0, "history: no memory");
		return NULL;
	}
	/* A running target's rings are copied one after the other: of what
	 * happens meanwhile, some threads' events will be there and those of
	 * others not. */
	ev->history_until = clock ? clock() : 0;
	flight->end = UINT64_MAX;
	int rc = copy_rings(mem, roots, clock, ev, flight, refusal);
	if (!rc)
		return flight;
	bht_flight_free(flight);
	errno = -rc;
	return NULL;
}

static int copy_tids(struct bht_tids *to, const struct bht_tids *from)
{
	*to = *from;
	to->pair = malloc((from->n + 1) * sizeof(*to->pair));
	if (!to->pair)
		return -ENOMEM;
	for (size_t i = 0; i < from->n; i++)
		to->pair[i] = from->pair[i];
	return 0;
}

/* Merges the rings of each root, then the roots. */
static int merge_rings(struct bht_flight *flight)
{
	struct bht_source *of_root[BHT_ROOTS_MAX];
	unsigned done = 0;
	int rc = 0;

	for (; done < flight->n_rings; done++) {
		struct bht_source **sources;
		unsigned n;
		rc = bht_rings_sources(flight->rings[done], bht_tids_map, &flight->tids, &sources, &n);
		if (rc)
			break;
		of_root[done] = bht_merge(sources, n);
		free(sources);
		if (!of_root[done]) {
			rc = -errno;
			break;
		}
	}
	if (!rc) {
		flight->merged = bht_merge(of_root, done);
		return flight->merged ? 0 : -errno;
	}
	for (unsigned i = 0; i < done; i++)
		of_root[i]->close(of_root[i]);
	return rc;
}

/* Merges what was copied. */
static int start(struct bht_flight *flight, const struct bht_tids *tids)
{
	free(flight->tids.pair);
	int rc = copy_tids(&flight->tids, tids);

	return rc ? rc : merge_rings(flight);
}

int bht_flight_scan(struct bht_flight *flight, const struct bht_tids *tids,
		    void (*see)(void *arg, const struct bht_event *e), void *arg)
{
	struct bht_event e[BHT_BATCH];
	int n, rc = start(flight, tids);

	if (rc)
		return rc;
	while ((n = flight->merged->next(flight->merged, e, BHT_BATCH)) > 0)
		for (int i = 0; i < n; i++)
			see(arg, &e[i]);
	flight->merged->close(flight->merged);
	flight->merged = NULL;
	return n;
}

void bht_flight_end(struct bht_flight *flight, uint64_t end)
{
	flight->end = end;
}

static int flight_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct bht_flight *flight = (struct bht_flight *)source;
	const int n = flight->merged->next(flight->merged, e, max);

	for (int i = 0; i < n; i++)
		if (bht_event_id(&e[i]) == BHT_ID_LOSS && e[i].r.word[0] > flight->end)
			e[i].r.word[0] = flight->end;
	return n;
}

static void flight_close(struct bht_source *source)
{
	bht_flight_free((struct bht_flight *)source);
}

struct bht_source *bht_flight_source(struct bht_flight *flight, const struct bht_tids *tids)
{
	flight->base = (struct bht_source){ flight_next, flight_close };
	int rc = start(flight, tids);
	if (!rc)
		return &flight->base;
	bht_flight_free(flight);
	errno = -rc;
	return NULL;
}

struct bht_rings *const *bht_flight_rings(const struct bht_source *history, unsigned *n, const struct bht_tids **tids)
{
	const struct bht_flight *flight = (const struct bht_flight *)history;

	*n = flight->n_rings;
	*tids = &flight->tids;
	return flight->rings;
}

double bht_clock_rate(const struct bhp_clock_pair *from, const struct bhp_clock_pair *to, uint64_t span_ns)
{
	if (!from->ticks || to->ticks <= from->ticks || to->mono_ns < from->mono_ns ||
	    to->mono_ns - from->mono_ns < span_ns || to->mono_ns == from->mono_ns)
		return 0;
	const double rate = (double)(to->ticks - from->ticks) / (double)(to->mono_ns - from->mono_ns);
	return rate > 0.001 && rate < 100 ? rate : 0;
}
