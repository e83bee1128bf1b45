/* SPDX-License-Identifier: MIT */
/*
 * A notifier that nobody watches wakes nobody. "Not watched" accuses the
 * program, so it is said only after the set was searched to its end: also under
 * another number of the same eventfd, and in epoll sets within the set.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "watch.h"

/* An array of poll(2); sets in sets, as the kernel allows them (EP_MAX_NESTS);
 * and what is looked through for one loop. */
enum { POLL_MAX = 4096, NESTS_MAX = 4, LOOKS_MAX = 1 << 16 };

struct watch {
	int32_t fd;
	uint32_t mask; /* EPOLL*, which are POLL* where both exist */
};

struct watches {
	struct watch *watch;
	size_t n;
};

/* "tfd: FD events: MASK data: ..." behind the first colon. */
static struct watch parse_watch(const char *at)
{
	char *end;
	struct watch w = { .fd = (int32_t)strtol(at, &end, 10) };

	end += strspn(end, " \t");
	if (!strncmp(end, "events:", 7))
		w.mask = (uint32_t)strtoul(end + 7, NULL, 16);
	return w;
}

/* What epoll set FD watches; to be freed also after an error. 0 or -errno. */
static int read_set(struct bht_procfs *p, int32_t fd, struct watches *w)
{
	int rc = bht_procfs_is_epoll(p, fd) ? bht_procfs_fdinfo(p, fd) : -EBADF;
	size_t n = 0;

	if (rc)
		return rc;
	for (const char *at = p->text.data; (at = bht_line_value(at, "tfd:"));)
		n++;
	w->watch = calloc(n + 1, sizeof(*w->watch));
	if (!w->watch)
		return -ENOMEM;
	for (const char *at = p->text.data; (at = bht_line_value(at, "tfd:"));)
		w->watch[w->n++] = parse_watch(at);
	return 0;
}

/* The same for the array of a poll(2). */
static int read_array(struct bht_memory *mem, uint64_t addr, uint64_t n, struct watches *w)
{
	struct pollfd *array = n <= POLL_MAX ? calloc(n + 1, sizeof(*array)) : NULL;
	int rc = array ? 0 : n <= POLL_MAX ? -ENOMEM : -E2BIG;

	w->watch = array ? calloc(n + 1, sizeof(*w->watch)) : NULL;
	if (!rc && !w->watch)
		rc = -ENOMEM;
	if (!rc && n)
		rc = bht_read(mem, addr, array, n * sizeof(*array));
	for (; !rc && w->n < n; w->n++)
		w->watch[w->n] = (struct watch){ array[w->n].fd, (uint16_t)array[w->n].events };
	free(array);
	return rc;
}

static bool waits(const struct bht_thread *thread)
{
	switch (thread->syscall) {
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
	case SYS_poll:
#endif
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
#endif
	case SYS_epoll_pwait:
	case SYS_ppoll:
		return true;
	default:
		return false;
	}
}

/* What THREAD, which waits(), waits for. */
static int read_sleeper(struct bht_procfs *p, struct bht_memory *mem, const struct bht_thread *thread,
			struct watches *w)
{
#ifdef SYS_poll
	if (thread->syscall == SYS_poll)
		return read_array(mem, thread->args[0], thread->args[1], w);
#endif
	if (thread->syscall == SYS_ppoll)
		return read_array(mem, thread->args[0], thread->args[1], w);
	return read_set(p, (int32_t)thread->args[0], w);
}

/* --- searching ---------------------------------------------------------------- */

struct search {
	struct bht_procfs *p;
	int32_t fd;
	int64_t eventfd; /* its eventfd-id, -1 for none */
	unsigned looks;
};

static int64_t eventfd_id(struct bht_procfs *p, int32_t fd)
{
	const char *at = bht_procfs_fdinfo(p, fd) ? NULL : bht_line_value(p->text.data, "eventfd-id:");

	return at ? strtoll(at, NULL, 10) : -1;
}

static uint32_t mask_of(const struct watches *w, int32_t fd)
{
	uint32_t mask = 0;

	for (size_t i = 0; i < w->n; i++)
		if (w->watch[i].fd == fd)
			mask |= w->watch[i].mask;
	return mask;
}

/* With which bits W watches the file descriptor, in nested sets included; 0 for
 * not. 0 or -errno, when that could not be found out. */
static int find_mask(struct search *s, const struct watches *w, unsigned depth, uint32_t *mask)
{
	int rc = 0;

	*mask = mask_of(w, s->fd);
	for (size_t i = 0; i < w->n && !rc && !(*mask & EPOLLIN); i++) {
		const struct watch *other = &w->watch[i];
		if (other->fd == s->fd || !(other->mask & EPOLLIN))
			continue;
		if (++s->looks > LOOKS_MAX)
			return -E2BIG;
		if (bht_procfs_is_epoll(s->p, other->fd)) {
			struct watches inner = { 0 };
			rc = depth < NESTS_MAX ? read_set(s->p, other->fd, &inner) : -ELOOP;
			if (!rc)
				rc = find_mask(s, &inner, depth + 1, mask);
			free(inner.watch);
		} else if (s->eventfd >= 0 && eventfd_id(s->p, other->fd) == s->eventfd) {
			*mask |= other->mask;
		}
	}
	return rc;
}

static int find_notifier(struct bht_procfs *p, const struct bht_loop *loop, const struct watches *w, uint32_t *mask)
{
	struct search s = { .p = p, .fd = loop->notifier_fd, .eventfd = eventfd_id(p, loop->notifier_fd) };

	return s.fd < 0 ? -EBADF : find_mask(&s, w, 0, mask);
}

/* --- one loop ----------------------------------------------------------------- */

static void read_count(struct bht_procfs *p, struct bht_evidence *ev, struct bht_loop *loop)
{
	int rc = bht_procfs_fdinfo(p, loop->notifier_fd);
	const char *count = rc ? NULL : bht_line_value(p->text.data, "eventfd-count:");

	if (count)
		loop->notifier_count = (int64_t)strtoull(count, NULL, 16);
	else
		bht_unseen(ev, "notifier counts: %s",
			   rc ? strerror(-rc) : "a notifier's file descriptor is no eventfd");
}

/* A loop whose thread is on its way into the wait, or whose call is not known,
 * will wait for its own set; one that sleeps in another call is not known. */
static void read_watched(struct bht_procfs *p, struct bht_memory *mem, struct bht_evidence *ev,
			 const struct bht_thread *owner, struct bht_loop *loop)
{
	struct watches w = { 0 };
	uint32_t mask;
	int rc;

	if (loop->notifier_fd < 0)
		return;
	if (loop->where == BHP_WAIT && owner && waits(owner))
		rc = read_sleeper(p, mem, owner, &w);
	else if (loop->poll_fd < 0 || (loop->where == BHP_WAIT && owner && owner->syscall >= 0))
		return;
	else
		rc = read_set(p, loop->poll_fd, &w);
	if (!rc)
		rc = find_notifier(p, loop, &w, &mask);
	if (!rc) {
		loop->notifier_watched = (mask & EPOLLIN) != 0;
		loop->notifier_mask = mask;
	} else {
		bht_unseen(ev, "whether a notifier is watched: %s", strerror(-rc));
	}
	free(w.watch);
}

/* Nobody polls this loop: it is somebody's who does so when its set is ready. */
static void read_embedder(struct bht_procfs *p, struct bht_memory *mem, const struct bht_thread *owner,
			  struct bht_loop *loop)
{
	struct watches w = { 0 };
	uint32_t mask;

	if (loop->where != BHP_OUTSIDE || loop->notify_me == BHP_LOOP_AWAKE || !owner || !waits(owner))
		return;
	if (!read_sleeper(p, mem, owner, &w)) {
		if (loop->poll_fd >= 0 && mask_of(&w, loop->poll_fd) & EPOLLIN)
			loop->embedder_watches = 1;
		else if (!find_notifier(p, loop, &w, &mask))
			loop->embedder_watches = (mask & EPOLLIN) != 0;
	}
	free(w.watch);
}

void bht_watch_read(struct bht_procfs *p, struct bht_memory *mem, struct bht_evidence *ev, struct bht_sample *sample)
{
	for (size_t i = 0; i < sample->n_loops; i++) {
		struct bht_loop *loop = &sample->loops[i];
		struct bht_thread *owner = (struct bht_thread *)bht_sample_thread(sample, loop->owner);

		if (owner && owner->syscall >= 0 && !owner->wchan[0])
			bht_procfs_wchan(p, owner);
		if (loop->notifier_fd >= 0)
			read_count(p, ev, loop);
		read_watched(p, mem, ev, owner, loop);
		read_embedder(p, mem, owner, loop);
	}
}
