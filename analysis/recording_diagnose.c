/* SPDX-License-Identifier: MIT */
/* The history of a recording, read once, fed to the machines of each process. */
#include <errno.h>
#include <stdlib.h>

#include "array.h"
#include "history.h"
#include "recording.h"

struct reading {
	struct bht_recording *rec;
	struct bht_machines *m; /* one for each process */
	unsigned n;
	struct bht_event lost; /* the last loss of all processes; time 0: there was none */
};

static int make_room(struct reading *r)
{
	while (r->n < r->rec->n) {
		if (!bht_room_for_one(&r->m, r->n, sizeof(*r->m)))
			return -ENOMEM;
		bht_machines_begin(&r->m[r->n], &r->rec->process[r->n].ev);
		int rc = bht_time(&r->lost) ? bht_machines_feed(&r->m[r->n], &r->lost) : 0;
		r->n++;
		if (rc)
			return rc;
	}
	return 0;
}

static int feed_all_of_them(struct reading *r, const struct bht_event *e)
{
	int rc = 0;

	r->lost = *e;
	for (unsigned i = 0; i < r->n && !rc; i++)
		rc = bht_machines_feed(&r->m[i], e);
	return rc;
}

static int feed(struct reading *r, const struct bht_event *e)
{
	if (e->process == BHT_ALL_PROCESSES)
		return feed_all_of_them(r, e);
	const struct bht_recorded *p = &r->rec->process[e->process];
	const uint64_t until = p->ev.history_until;
	if (until && bht_time(e) > until && (bht_event_id(e) != BHT_ID_LOSS || p->whole))
		return 0;
	return bht_machines_feed(&r->m[e->process], e);
}

static int read_all(struct reading *r)
{
	struct bht_source *history = r->rec->history;
	struct bht_event e[BHT_BATCH];
	int n = 0, rc = make_room(r);

	while (!rc && history && (n = history->next(history, e, BHT_BATCH)) > 0) {
		rc = make_room(r);
		for (int i = 0; i < n && !rc; i++)
			rc = feed(r, &e[i]);
	}
	return rc ? rc : n;
}

/* A recorder that came later has not seen the beginning; rings tell of that themselves. */
static int note_beginning(const struct bht_recorded *p, struct bht_machines *m)
{
	struct bht_event e = bht_loss(m->first, 0, BHT_LOSS_EARLIER, 0);
	const bool late = p->ev.recorder != BHT_BY_FLIGHT && m->n_events && bht_history_begins_late(m);

	return late ? bht_machines_feed(m, &e) : 0;
}

static int judge(struct bht_recording *rec, unsigned i, struct bht_machines *m, uint64_t late_ns,
		 struct bht_diagnosis *d)
{
	struct bht_recorded *p = &rec->process[i];
	int rc = note_beginning(p, m);

	if (!rc && !p->kept)
		rc = bht_history_evidence(m, &p->ev);
	return rc ? rc : bht_judge(&p->ev, m, m->n_events > 0, late_ns, d);
}

int bht_recording_diagnose(struct bht_recording *rec, uint64_t late_ns, struct bht_diagnosis **d)
{
	struct reading r = { .rec = rec };
	int rc = read_all(&r);

	*d = calloc(rec->n + 1, sizeof(**d));
	if (!*d)
		rc = -ENOMEM;
	for (unsigned i = 0; i < rec->n && !rc; i++)
		rc = judge(rec, i, &r.m[i], late_ns, &(*d)[i]);
	for (unsigned i = 0; i < r.n; i++)
		bht_machines_free(&r.m[i]);
	free(r.m);
	return rc;
}
