/* SPDX-License-Identifier: MIT */
/*
 * Any number on a stack may happen to point at memory that looks a little like a loop: so
 * a loop must have an eventfd of this process where its notifier is, all else must be within
 * range, and something must speak for it that no such memory has.
 */
#include <errno.h>
#include <string.h>

#include "foreign_parts.h"

enum { NOTIFY_ME_MAX = 4096, QUEUES_MAX = 4096 };

static uint64_t load(const unsigned char *from, unsigned size, bool is_signed)
{
	uint64_t value = 0;

	memcpy(&value, from, size); /* little-endian: x86_64 and aarch64 */
	if (is_signed && size < 8 && value >> (8 * size - 1))
		value |= UINT64_MAX << (8 * size);
	return value;
}

int bht_member_addr(struct bht_foreign *f, const struct bht_scheme *s, enum bht_member member, uint64_t addr,
		    const unsigned char *object, uint64_t *at)
{
	const struct bht_place *p = &s->layout.place[member];

	*at = addr + p->offset[0];
	for (unsigned i = 1; i < p->n; i++) {
		uint64_t pointer;
		int rc = 0;
		if (i == 1 && object)
			pointer = load(object + p->offset[0], 8, false);
		else
			rc = bht_read(f->target.mem, *at, &pointer, sizeof(pointer));
		if (rc)
			return rc;
		if (!pointer)
			return -ENOENT;
		*at = pointer + p->offset[i];
	}
	return 0;
}

int bht_member_value(struct bht_foreign *f, const struct bht_scheme *s, enum bht_member member, uint64_t addr,
		     const unsigned char *object, uint64_t *value)
{
	const struct bht_place *p = &s->layout.place[member];
	unsigned char bytes[8];
	uint64_t at;

	if (p->n == 1 && object) {
		*value = load(object + p->offset[0], p->size, p->is_signed);
		return 0;
	}
	int rc = bht_member_addr(f, s, member, addr, object, &at);
	if (!rc)
		rc = bht_read(f->target.mem, at, bytes, p->size);
	if (!rc)
		*value = load(bytes, p->size, p->is_signed);
	return rc;
}

int bht_descriptor(struct bht_foreign *f, int64_t fd)
{
	if (fd < 0 || fd > INT32_MAX)
		return 0;
	if (fd >= BHT_FOREIGN_FDS)
		return f->target.descriptor(f->target.arg, (int32_t)fd);
	if (f->kind[fd] == 1)
		f->kind[fd] = (signed char)f->target.descriptor(f->target.arg, (int32_t)fd);
	return f->kind[fd];
}

/* The value of an optional member: 0 when there is none. */
static int optional(struct bht_foreign *f, const struct bht_scheme *s, enum bht_member member, uint64_t addr,
		    const unsigned char *object, uint64_t *value)
{
	*value = 0;
	return bht_has(s, member) ? bht_member_value(f, s, member, addr, object, value) : 0;
}

static uint32_t traits_of(const struct bht_scheme *s)
{
	const struct bht_adapter *a = s->layout.adapter;

	return BHT_TRAIT_FOREIGN | (a->coalesces ? BHT_TRAIT_COALESCES : 0) |
	       (a->lists_pending_only ? BHT_TRAIT_LISTS_PENDING : 0) |
	       (bht_has(s, BHT_BH_flag) ? 0 : BHT_TRAIT_FLAG_UNKNOWN) |
	       (bht_has(s, BHT_LOOP_iteration) ? 0 : BHT_TRAIT_CANNOT_TURN) |
	       (a->notifies == BHT_WHEN_ASKED ? BHT_TRAIT_ASKS : 0) |
	       (a->notifies == BHT_WHEN_EFFECTIVE || a->notifies == BHT_WHEN_ALWAYS ? BHT_TRAIT_NOTIFIES : 0);
}

/* The descriptor in MEMBER: *FD, which is -1 for one that is not in use; *KIND is what it is. */
static int read_descriptor(struct bht_foreign *f, const struct bht_scheme *s, enum bht_member member,
			   const unsigned char *object, const struct bht_loop *loop, int32_t *fd, int *kind)
{
	uint64_t value = UINT32_MAX;
	int rc = optional(f, s, member, loop->addr, object, &value);

	*fd = bht_has(s, member) ? (int32_t)value : -1;
	*kind = rc || *fd == -1 ? 0 : bht_descriptor(f, *fd);
	return rc;
}

/* A loop that one thread uses alone may have no notifier, and one that sleeps in poll(2) no epoll set. */
static int check_descriptors(struct bht_foreign *f, const struct bht_scheme *s, const unsigned char *object,
			     struct bht_loop *loop, int *points)
{
	int notifier, poll;
	int rc = read_descriptor(f, s, BHT_LOOP_notifier_fd, object, loop, &loop->notifier_fd, &notifier);

	if (!rc)
		rc = read_descriptor(f, s, BHT_LOOP_poll_fd, object, loop, &loop->poll_fd, &poll);
	if (rc)
		return rc;
	if ((loop->notifier_fd != -1 && notifier != 'e' && notifier != -1) ||
	    (loop->poll_fd != -1 && poll != 'p' && poll != -1) || loop->notifier_fd == loop->poll_fd)
		return -EBADMSG;
	*points += poll == 'p';
	return 0;
}

static int check_numbers(struct bht_foreign *f, const struct bht_scheme *s, const unsigned char *object,
			 struct bht_loop *loop)
{
	uint64_t notify_me, notified, queues;
	int rc = optional(f, s, BHT_LOOP_notify_me, loop->addr, object, &notify_me);

	if (!rc)
		rc = optional(f, s, BHT_LOOP_notified, loop->addr, object, &notified);
	if (!rc)
		rc = optional(f, s, BHT_LOOP_n_queues, loop->addr, object, &queues);
	if (!rc)
		rc = optional(f, s, BHT_LOOP_iteration, loop->addr, object, &loop->iteration);
	if (rc)
		return rc;
	if (notify_me > NOTIFY_ME_MAX || notified > 1 || queues > QUEUES_MAX)
		return -EBADMSG;
	loop->notify_me = notify_me ? BHP_LOOP_SLEEPING : BHP_LOOP_AWAKE;
	return 0;
}

int bht_foreign_check(struct bht_foreign *f, const struct bht_scheme *s, uint64_t addr, struct bht_loop *loop,
		      int *points)
{
	unsigned char object[BHT_FOREIGN_SIZE_MAX];
	size_t n = 0;
	int rc = addr % 8 ? -EBADMSG : bht_read(f->target.mem, addr, object, s->loop_size);

	*points = 0;
	*loop = (struct bht_loop){ .addr = addr,
				   .serial = addr,
				   .protocol = s->layout.adapter->full_barrier ? BHP_PROTOCOL_FULL_BARRIER : 0,
				   .wait_timeout_ns = -1,
				   .notifier_count = -1,
				   .notifier_watched = -1,
				   .embedder_watches = -1,
				   .traits = traits_of(s) };
	if (!rc)
		rc = check_descriptors(f, s, object, loop, points);
	if (!rc)
		rc = check_numbers(f, s, object, loop);
	if (!rc)
		rc = bht_foreign_walk(f, s, loop, true, &n);
	if (n)
		*points += 2;
	if (bht_foreign_sleeper(f, loop)) /* who has said so, if it has to */
		*points += 1 + (loop->notify_me == BHP_LOOP_SLEEPING);
	return rc == -EFAULT || rc == -ENOENT ? -EBADMSG : rc;
}
