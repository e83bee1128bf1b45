/* SPDX-License-Identifier: MIT */
/* What the records of a process mean: names, descriptors, callbacks that have no probes yet. */
#include "foreign_inside.h"

#include <stdio.h>
#include <string.h>

/* Which adapter it is of is known when one module alone has such descriptors. */
static void put_loop(struct one *p, struct foreign_loop *loop)
{
	unsigned n = 0;

	for (unsigned i = 0; i < p->n_modules; i++) {
		const struct bht_layout *l = &p->module[i].layout;
		if (l->place[BHT_LOOP_poll_fd].n)
			loop->exact = ++n == 1 && l->adapter->notifies == BHT_WHEN_EFFECTIVE;
	}
	set_add(&p->loops, loop->addr);
	foreign_calls_loop(p->calls, loop);
}

/* The descriptors of a loop. They are not made yet when its first bottom half is. */
void foreign_met_loop(struct foreign *f, struct one *p, uint64_t addr)
{
	struct foreign_loop loop = { .addr = addr };
	uint64_t fd;

	if (!f->ops.calls || !set_add(&p->loops, addr))
		return;
	for (unsigned i = 0; i < p->n_modules; i++) {
		const struct bht_layout *l = &p->module[i].layout;
		loop.poll_fd = foreign_read(p, &l->place[BHT_LOOP_poll_fd], addr, &fd) ? (int32_t)fd : -1;
		loop.notifier_fd = foreign_read(p, &l->place[BHT_LOOP_notifier_fd], addr, &fd) ? (int32_t)fd : -1;
		if (loop.poll_fd > 0 && loop.notifier_fd > 0)
			put_loop(p, &loop);
	}
}

/* "on_work", or "libuv.so.1.0.0+0x1c20" where the file does not say. NULL: it is in no file. */
static const char *name_of(struct one *p, uint64_t callback, char name[96])
{
	const struct bht_image *image = bht_images_at(&p->images, callback);
	const char *file = image ? strrchr(bht_image_path(image), '/') : NULL;
	uint64_t off = 0;
	const char *symbol = bht_images_name(&p->images, callback, &off);

	if (!image || (*symbol && !off))
		return image ? symbol : NULL;
	snprintf(name, 96, "%.60s+0x%llx", file ? file + 1 : bht_image_path(image),
		 (unsigned long long)(callback - bht_image_bias(image)));
	return name;
}

/* What the program calls BH, which runs CALLBACK; NULL: that cannot be told. */
static const char *given_name(struct one *p, const struct bht_layout *l, uint64_t bh, uint64_t callback, char name[96])
{
	uint64_t at;

	memset(name, 0, 96);
	if (!foreign_read(p, &l->place[BHT_BH_name], bh, &at) || !at)
		return name_of(p, callback, name);
	for (unsigned i = 0; i < BHP_TEXT_MAX; i++) /* it may end where the next page is none */
		if (bht_read(&p->process.mem, at + i, name + i, 1) || !name[i])
			break;
	return name[0] ? name : name_of(p, callback, name);
}

/*
 * A bottom half that was there before is met when a schedule finds its flag clear: from there on all is known of it, as
 * if it were made now. So it has a name in a recording whose process is gone in the end.
 */
static void introduce(struct one *p, uint32_t tid, const struct bhp_record *schedule)
{
	const struct bhp_schedule s = bhp_decode_schedule(schedule);
	const uint64_t bh = BHP_TO_ptr(s.bh);
	uint64_t callback = 0;
	char name[96];

	for (unsigned i = 0; i < p->n_modules && !s.seen; i++) {
		const struct bht_layout *l = &p->module[i].layout;
		if (!foreign_read(p, &l->place[BHT_BH_callback], bh, &callback) || !bht_images_at(&p->images, callback))
			continue;
		const struct bhp_record r = bhp_encode_bh_new(
			bhp_record_time(schedule),
			&(struct bhp_bh_new){ .loop = s.loop, .bh = s.bh, .callback = BHP_FROM_ptr(callback) });
		set_add(&p->named, bh);
		foreign_calls_event(p->calls, tid, false, &r, given_name(p, l, bh, callback, name));
		break;
	}
}

/* Whether the record is of a bottom half. */
static bool take_note(struct foreign *f, struct one *p, uint32_t tid, const struct bhp_record *r, const char **text,
		      char name[96])
{
	const uint64_t bh = bhp_get_BH(r);

	if ((unsigned)bhp_record_id(r) == BHB_TELLS_LOOP) {
		put_loop(p, &(struct foreign_loop){ bhp_get_LOOP(r), (int32_t)bhp_get_LO(r), (int32_t)bhp_get_HI(r),
						    false });
		return false;
	}
	switch (bhp_record_id(r)) {
	case BHP_ID_bh_new:
		if (!*text)
			*text = name_of(p, bhp_get_ARG(r), name);
		set_drop(&p->loops, bhp_get_LOOP(r));
		set_add(&p->named, bh);
		foreign_met(f, p->pid, bh, bhp_get_ARG(r));
		return true;
	case BHP_ID_schedule:
		if (!set_has(&p->named, bh))
			introduce(p, tid, r);
		/* fall through */
	case BHP_ID_execute_begin:
		foreign_met_loop(f, p, bhp_get_LOOP(r));
		foreign_met(f, p->pid, bh, 0);
		return true;
	case BHP_ID_bh_delete:
	case BHP_ID_bh_cancel:
		return set_has(&p->bhs, bh);
	default:
		return true;
	}
}

void foreign_event(struct foreign *f, uint32_t pid, uint32_t tid, bool kernel, const struct bhp_record *r,
		   const char *text)
{
	struct one *p = foreign_find(f, pid);
	char name[96];

	if (!p || !p->n_modules || !p->calls)
		f->sink.event(f->sink.arg, pid, tid, kernel, r, text);
	else if (take_note(f, p, tid, r, &text, name))
		foreign_calls_event(p->calls, tid, kernel, r, text);
}

uint64_t foreign_flush(struct foreign *f, uint64_t before, uint64_t until)
{
	for (struct one *p = f->first; p; p = p->next) {
		const uint64_t left = p->calls ? foreign_calls_flush(p->calls, before) : UINT64_MAX;
		until = left < until ? left : until;
	}
	return until;
}
