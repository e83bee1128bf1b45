/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "foreign_parts.h"
#include "refuse.h"

/* --- opening ---------------------------------------------------------------------------- */

/* Up to which byte of a loop (or bottom half) its members reach. */
static size_t reach(const struct bht_layout *layout, enum bht_member first, enum bht_member end)
{
	size_t size = 0;

	for (enum bht_member m = first; m < end; m++) {
		const struct bht_place *p = &layout->place[m];
		/* The head and the links of a circular list are two words. */
		const bool two = (m == BHT_LOOP_bhs || m == BHT_BH_link) && layout->adapter->list == BHT_LIST_CIRCULAR;
		const uint64_t last = p->offset[0] + (p->n > 1 ? 8 : two ? 16 : p->size);
		if (p->n && p->offset[0] > BHT_FOREIGN_SIZE_MAX)
			return SIZE_MAX;
		if (p->n && last > size)
			size = last;
	}
	return size;
}

static bool turns(enum bhp_id event)
{
	switch (event) {
	case BHP_ID_poll_begin:
	case BHP_ID_poll_end:
	case BHP_ID_wait_begin:
	case BHP_ID_wait_end:
	case BHP_ID_execute_begin:
	case BHP_ID_execute_end:
		return true;
	default:
		return false;
	}
}

static void find_functions(struct bht_scheme *s)
{
	const struct bht_adapter *a = s->layout.adapter;

	for (unsigned i = 0; i < a->n_probes; i++) {
		struct bht_function *run = &s->run[s->n_run];
		if (!turns(a->probe[i].event))
			continue;
		run->executes = a->probe[i].event == BHP_ID_execute_begin || a->probe[i].event == BHP_ID_execute_end;
		run->addr = bht_image_symbol(s->layout.image, a->probe[i].function, &run->size);
		s->n_run += run->addr && run->size;
	}
}

static int refuse_layout(const struct bht_layout *layout, const char *why, struct bht_refusal *refusal)
{
	return bht_refuse(refusal, -ENOTSUP, 0, "%s in %s (build id %s): %s", layout->adapter->name,
			  bht_image_path(layout->image), bht_image_build_id(layout->image), why);
}

/* What the reading of loops takes for granted. */
static int check_scheme(struct bht_scheme *s, struct bht_refusal *refusal)
{
	const struct bht_layout *layout = &s->layout;

	s->loop_size = reach(layout, BHT_LOOP_poll_fd, BHT_BH_loop);
	s->bh_size = reach(layout, BHT_BH_loop, BHT_MEMBERS);
	if (!s->loop_size || s->loop_size > BHT_FOREIGN_SIZE_MAX || s->bh_size > BHT_FOREIGN_SIZE_MAX)
		return refuse_layout(layout, "a member beyond any structure of that kind", refusal);
	if (!bht_has(s, BHT_LOOP_notifier_fd))
		return refuse_layout(layout, "without loop.notifier_fd no loop can be told from other memory", refusal);
	if (layout->adapter->list != BHT_LIST_NONE && (!bht_has(s, BHT_LOOP_bhs) || layout->place[BHT_BH_link].n != 1))
		return refuse_layout(layout, "its list needs loop.bhs and a bh.link that is in the bottom half itself",
				     refusal);
	return 0;
}

static int add_skipped(struct bht_foreign *f, const struct bht_refusal *refusal)
{
	if (!bht_room_for_one(&f->skipped, f->n_skipped, sizeof(*f->skipped)))
		return -ENOMEM;
	memcpy(f->skipped[f->n_skipped++], refusal->why, sizeof(*f->skipped));
	return 0;
}

static int add_scheme(struct bht_foreign *f, const struct bht_adapter *a, struct bht_image *image,
		      struct bht_refusal *refusal)
{
	struct bht_scheme *s;

	if (!bht_layout_recognises(a, image))
		return 0;
	if (!bht_room_for_one(&f->schemes, f->n_schemes, sizeof(*f->schemes)))
		return bht_refuse(refusal, -ENOMEM, 0, "adapters: no memory");
	s = &f->schemes[f->n_schemes];
	*s = (struct bht_scheme){ .n_run = 0 };
	int rc = bht_layout_find(a, image, &s->layout, refusal);
	if (!rc)
		rc = check_scheme(s, refusal);
	if (rc == -ENOTSUP)
		return add_skipped(f, refusal);
	if (rc)
		return rc;
	find_functions(s);
	f->n_schemes++;
	return 0;
}

/* "libuv, qemu, glib". */
static void list_names(char *dst, size_t size)
{
	unsigned n;
	const struct bht_adapter *const *a = bht_adapters(&n);
	size_t len = 0;

	dst[0] = '\0';
	for (unsigned i = 0; i < n && len < size; i++)
		len += (size_t)snprintf(dst + len, size - len, "%s%s", i ? ", " : "", a[i]->name);
}

static int conclude(struct bht_foreign *f, struct bht_refusal *refusal)
{
	char names[200];

	if (f->n_schemes)
		return 0;
	if (f->n_skipped)
		return bht_refuse(refusal, -ENOTSUP, 0, "%s", f->skipped[0]);
	list_names(names, sizeof(names));
	return bht_refuse(refusal, -ENOENT, 0, "none of the loops known here (%s; others with --adapter) in %u files",
			  names, f->target.images->n);
}

static int copy_layouts(struct bht_foreign *f, struct bht_refusal *refusal)
{
	f->layouts = calloc(f->n_schemes + 1, sizeof(*f->layouts));
	if (!f->layouts)
		return bht_refuse(refusal, -ENOMEM, 0, "adapters: no memory");
	for (unsigned i = 0; i < f->n_schemes; i++)
		f->layouts[i] = f->schemes[i].layout;
	return 0;
}

int bht_foreign_open(const struct bht_foreign_target *target, struct bht_foreign **foreign, struct bht_refusal *refusal)
{
	struct bht_foreign *f = calloc(1, sizeof(*f));
	unsigned n;
	const struct bht_adapter *const *a = bht_adapters(&n);
	int rc = 0;

	*foreign = NULL;
	if (!f)
		return bht_refuse(refusal, -ENOMEM, 0, "adapters: no memory");
	f->target = *target;
	for (unsigned i = 0; i < n && !rc; i++)
		for (unsigned k = 0; k < target->images->n && !rc; k++)
			rc = add_scheme(f, a[i], target->images->image[k], refusal);
	if (!rc)
		rc = conclude(f, refusal);
	if (!rc)
		rc = copy_layouts(f, refusal);
	if (!rc)
		*foreign = f;
	else
		bht_foreign_free(f);
	return rc;
}

void bht_foreign_free(struct bht_foreign *f)
{
	if (!f)
		return;
	bht_foreign_tables_free(f);
	free(f->layouts);
	free(f->schemes);
	free(f->skipped);
	free(f);
}

const struct bht_layout *bht_foreign_layouts(const struct bht_foreign *foreign, unsigned *n)
{
	*n = foreign->n_schemes;
	return foreign->layouts;
}

/* --- sampling --------------------------------------------------------------------------- */

/* One by debug information, by a table or by the ABI is as its authors wrote it. */
static bool derived(const struct bht_layout *layout)
{
	for (unsigned m = 0; m < BHT_MEMBERS; m++)
		for (unsigned i = 0; i < layout->place[m].n; i++)
			if (layout->place[m].how[i] == BHT_WAY_CODE)
				return true;
	return false;
}

static void tell_limits(const struct bht_foreign *f)
{
	for (unsigned i = 0; i < f->n_skipped; i++)
		bht_unseen(f->ev, "loops: %s", f->skipped[i]);
	for (unsigned i = 0; i < f->n_schemes; i++)
		if (derived(&f->schemes[i].layout))
			bht_unseen(f->ev,
				   "debug information of %s: where members of its structures are was taken from its "
				   "machine code, and checked against the loops",
				   bht_image_path(f->schemes[i].layout.image));
	if (f->too_many)
		bht_unseen(f->ev, "some loops: there are more than %d", BHT_FOREIGN_LOOPS_MAX);
}

/* Nothing can be said of a process whose loops are not found: least of all that it is healthy. */
static int refuse_none(const struct bht_foreign *f, struct bht_refusal *refusal)
{
	return bht_refuse(refusal, -ENOMSG, 0,
			  "%s is there, but neither its variables nor the stack of a thread lead to a loop",
			  f->schemes[0].layout.adapter->name);
}

/* Its list is read once more than for the check: what was there then may have gone. */
static int take_loop(struct bht_foreign *f, const struct bht_known *known, const struct bht_loop *loop)
{
	struct bht_sample *sample = f->sample;
	size_t n;
	int rc = bht_foreign_walk(f, known->scheme, loop, false, &n);

	if (rc == -EAGAIN || rc == -E2BIG) {
		sample->unstable = true;
		rc = 0;
	}
	if (rc)
		return rc;
	if (!bht_room_for_one(&sample->loops, sample->n_loops, sizeof(*loop)))
		return -ENOMEM;
	sample->loops[sample->n_loops++] = *loop;
	return 0;
}

/* Those that are gone are forgotten; those that could not be read are kept in mind. */
static int take_loops(struct bht_foreign *f)
{
	size_t kept = 0;
	int rc = 0;

	for (size_t i = 0; i < f->n_known && !rc; i++) {
		struct bht_known *known = &f->known[i];
		struct bht_loop loop;
		int points;
		rc = bht_foreign_check(f, known->scheme, known->addr, &loop, &points);
		if (rc == -EBADMSG || rc == -EAGAIN || rc == -E2BIG)
			f->sample->unstable = true;
		if (!rc)
			rc = take_loop(f, known, &loop);
		if (rc != -EBADMSG)
			f->known[kept++] = *known;
		if (rc == -EBADMSG || rc == -EAGAIN || rc == -E2BIG)
			rc = 0;
	}
	f->n_known = kept;
	return rc;
}

static struct bht_known *known_loop(struct bht_foreign *f, const struct bht_loop *loop)
{
	for (size_t i = 0; i < f->n_known; i++)
		if (f->known[i].addr == loop->addr && f->known[i].notifier_fd == loop->notifier_fd)
			return &f->known[i];
	return NULL;
}

/* "libuv:node", "libuv:node 2", or "libuv" of a loop that nobody turns. */
static void tell_name(const struct bht_foreign *f, const struct bht_known *known, struct bht_loop *loop)
{
	const struct bht_thread *owner = bht_sample_thread(f->sample, loop->owner);
	const char *adapter = known->scheme->layout.adapter->name;
	unsigned same = 1;
	char who[24] = "";
	int len;

	/* Notes of a core have no names. */
	if (owner && owner->name[0])
		snprintf(who, sizeof(who), ":%s", owner->name);
	else if (owner)
		snprintf(who, sizeof(who), ":%u", owner->tid);
	snprintf(loop->adapter, sizeof(loop->adapter), "%.*s", (int)sizeof(loop->adapter) - 1, adapter);
	len = snprintf(loop->name, sizeof(loop->name), "%.11s%s", adapter, who);
	for (size_t i = 0; &f->sample->loops[i] != loop; i++)
		same += !strncmp(f->sample->loops[i].name, loop->name, (size_t)len) &&
			(!f->sample->loops[i].name[len] || f->sample->loops[i].name[len] == ' ');
	if (same > 1)
		snprintf(loop->name + len, sizeof(loop->name) - (size_t)len, " %u", same);
}

static int sample_all(struct bht_foreign *f, size_t before)
{
	int rc = bht_foreign_sleeps(f);

	if (!rc)
		rc = bht_foreign_stacks(f);
	if (!rc)
		rc = bht_foreign_find(f);
	if (!rc)
		rc = take_loops(f);
	for (size_t i = before; !rc && i < f->sample->n_loops; i++) {
		struct bht_loop *loop = &f->sample->loops[i];
		struct bht_known *known = known_loop(f, loop);
		rc = bht_foreign_owner(f, known, loop);
		tell_name(f, known, loop);
	}
	return rc;
}

int bht_foreign_sample(struct bht_foreign *f, struct bht_evidence *ev, struct bht_sample *sample,
		       struct bht_refusal *refusal)
{
	f->ev = ev;
	f->sample = sample;
	memset(f->kind, 1, sizeof(f->kind));
	int rc = sample_all(f, sample->n_loops);
	bht_foreign_forget(f);
	if (rc)
		return bht_refuse_read(refusal, rc, 0, "loops");
	tell_limits(f);
	return sample->n_loops || sample->unstable ? 0 : refuse_none(f, refusal);
}
