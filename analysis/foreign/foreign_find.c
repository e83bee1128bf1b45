/* SPDX-License-Identifier: MIT */
/*
 * Where loops may be: behind the variables that an adapter names, and behind any word on the
 * stack of a thread. Most words are nothing, so all are asked for their notifier first, in
 * few reads; what has an eventfd there is looked at in full.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "foreign_parts.h"

enum {
	PART_MAX = 64 * 1024,          /* bytes, of either end of a stack */
	STACKS_MAX = 16 * 1024 * 1024, /* bytes, of all together */
	PART_MIN = 4096,
	BATCH = 256
};

/* --- stacks --------------------------------------------------------------------------- */

static int copy_words(struct bht_foreign *f, struct bht_words *w, uint64_t from, uint64_t to)
{
	from = (from + 7) & ~UINT64_C(7);
	to &= ~UINT64_C(7);
	if (from >= to)
		return 0;
	w->word = malloc(to - from);
	if (!w->word)
		return -ENOMEM;
	w->addr = from;
	w->n = (to - from) / 8;
	int rc = bht_read(f->target.mem, from, w->word, to - from);
	if (rc)
		w->n = 0; /* it is gone, or was moved */
	return rc == -EFAULT || rc == -EFBIG ? 0 : rc;
}

static int copy_stack(struct bht_foreign *f, const struct bht_thread *thread, uint64_t part_max)
{
	struct bht_stack *s = &f->stacks[f->n_stacks];
	uint64_t end = 0;

	*s = (struct bht_stack){ .thread = thread };
	s->known = f->target.stack(f->target.arg, thread, &s->registers, &end);
	const uint64_t sp = s->registers.value[BHT_REGISTER_SP];
	if (s->known == BHT_STACK_UNKNOWN || sp >= end)
		return 0;
	f->n_stacks++;
	if (end - sp <= 2 * part_max)
		return copy_words(f, &s->part[0], sp, end);
	int rc = copy_words(f, &s->part[0], sp, sp + part_max);
	return rc ? rc : copy_words(f, &s->part[1], end - part_max, end);
}

int bht_foreign_stacks(struct bht_foreign *f)
{
	const struct bht_sample *sample = f->sample;
	uint64_t part_max = sample->n_threads ? STACKS_MAX / 2 / sample->n_threads : PART_MAX;
	int rc = 0;

	part_max = part_max > PART_MAX ? PART_MAX : part_max < PART_MIN ? PART_MIN : part_max & ~UINT64_C(7);
	f->stacks = calloc(sample->n_threads + 1, sizeof(*f->stacks));
	if (!f->stacks)
		return -ENOMEM;
	for (size_t i = 0; i < sample->n_threads && !rc; i++)
		rc = copy_stack(f, &sample->threads[i], part_max);
	return rc;
}

void bht_foreign_forget(struct bht_foreign *f)
{
	for (size_t i = 0; i < f->n_stacks; i++) {
		free(f->stacks[i].part[0].word);
		free(f->stacks[i].part[1].word);
	}
	free(f->stacks);
	free(f->sleeps);
	f->stacks = NULL;
	f->sleeps = NULL;
	f->n_stacks = f->n_sleeps = 0;
}

/* --- what is known ---------------------------------------------------------------------- */

static struct bht_known *same_descriptor(struct bht_foreign *f, const struct bht_known *found)
{
	for (size_t i = 0; i < f->n_known; i++)
		if ((found->notifier_fd >= 0 && f->known[i].notifier_fd == found->notifier_fd) ||
		    (found->poll_fd >= 0 && f->known[i].poll_fd == found->poll_fd))
			return &f->known[i];
	return NULL;
}

static bool is_known(const struct bht_foreign *f, const struct bht_scheme *s, uint64_t addr)
{
	for (size_t i = 0; i < f->n_known; i++)
		if (f->known[i].addr == addr && f->known[i].scheme == s)
			return true;
	return false;
}

/* WORDS is 0 for one that a variable of the module points at. No two loops have the same notifier or set: one of them is what is left of another, or none. */
static int consider(struct bht_foreign *f, const struct bht_scheme *s, uint64_t addr, unsigned words)
{
	struct bht_known found = { .scheme = s, .addr = addr, .words = words };
	struct bht_loop loop;

	if (is_known(f, s, addr))
		return 0;
	int rc = bht_foreign_check(f, s, addr, &loop, &found.points);
	if (rc)
		return rc == -ESRCH || rc == -EPERM || rc == -ENOMEM ? rc : 0;
	found.points += 4 * !words; /* a variable says so */
	if (!found.points)
		return 0;
	found.notifier_fd = loop.notifier_fd;
	found.poll_fd = loop.poll_fd;
	struct bht_known *other = same_descriptor(f, &found);
	if (other && (found.points > other->points || (found.points == other->points && found.words > other->words)))
		*other = found;
	if (!other && f->n_known < BHT_FOREIGN_LOOPS_MAX)
		f->known[f->n_known++] = found;
	f->too_many |= !other && f->n_known == BHT_FOREIGN_LOOPS_MAX;
	return 0;
}

static int from_roots(struct bht_foreign *f, const struct bht_scheme *s)
{
	int rc = 0;

	for (unsigned i = 0; i < s->layout.n_roots && !rc; i++) {
		uint64_t addr = s->layout.root[i].addr;
		if (!s->layout.root[i].is_loop && bht_read(f->target.mem, addr, &addr, sizeof(addr)))
			continue;
		if (addr)
			rc = consider(f, s, addr, 0);
	}
	return rc;
}

/* --- any words --------------------------------------------------------------------------- */

struct candidate {
	uint64_t addr;
	uint64_t at;    /* where its notifier is, as far as that was followed */
	uint64_t value; /* that was read there */
	unsigned words; /* that are this address */
};

static int by_address(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return (x->addr > y->addr) - (x->addr < y->addr);
}

static size_t take_words(const struct bht_foreign *f, const struct bht_words *w, struct candidate *c)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n; i++) {
		const uint64_t word = w->word[i];
		if (word >= 4096 && !(word % 8) && f->target.writable(f->target.arg, word))
			c[n++] = (struct candidate){ .addr = word, .words = 1 };
	}
	return n;
}

/* All different words that may point at something, in C; *N of them. NULL: no memory. */
static struct candidate *all_words(const struct bht_foreign *f, size_t *n)
{
	size_t most = 1, kept = 0;

	for (size_t i = 0; i < f->n_stacks; i++)
		most += f->stacks[i].part[0].n + f->stacks[i].part[1].n;
	struct candidate *c = malloc(most * sizeof(*c));
	if (!c)
		return NULL;
	*n = 0;
	for (size_t i = 0; i < 2 * f->n_stacks; i++)
		*n += take_words(f, &f->stacks[i / 2].part[i % 2], c + *n);
	if (*n)
		qsort(c, *n, sizeof(*c), by_address);
	for (size_t i = 0; i < *n; i++)
		if (i && c[i].addr == c[kept - 1].addr)
			c[kept - 1].words++;
		else
			c[kept++] = c[i];
	*n = kept;
	return c;
}

/* Reads SIZE bytes at each c[].at; those that cannot be read are dropped. Gives how many are left. */
static size_t read_all(const struct bht_foreign *f, struct candidate *c, size_t n, unsigned size)
{
	struct bht_span spans[BATCH];
	size_t kept = 0;

	for (size_t at = 0; at < n; at += BATCH) {
		const size_t part = n - at < BATCH ? n - at : BATCH;
		for (size_t i = 0; i < part; i++) {
			c[at + i].value = 0;
			spans[i] = (struct bht_span){ c[at + i].at, &c[at + i].value, size };
		}
		const bool whole = !f->target.mem->read(f->target.mem, spans, part);
		for (size_t i = 0; i < part; i++)
			if (whole || !bht_read(f->target.mem, c[at + i].at, &c[at + i].value, size))
				c[kept++] = c[at + i];
	}
	return kept;
}

/* Follows the path to the notifier of all at once. Gives how many are left. */
static size_t read_notifiers(const struct bht_foreign *f, const struct bht_scheme *s, struct candidate *c, size_t n)
{
	const struct bht_place *p = &s->layout.place[BHT_LOOP_notifier_fd];

	for (unsigned step = 0; step < p->n; step++) {
		const unsigned size = step + 1 < p->n ? 8 : p->size;
		size_t kept = 0;
		for (size_t i = 0; i < n; i++) {
			c[i].at = (step ? c[i].value : c[i].addr) + p->offset[step];
			if (f->target.writable(f->target.arg, c[i].at) &&
			    f->target.writable(f->target.arg, c[i].at + size - 1))
				c[kept++] = c[i];
		}
		n = read_all(f, c, kept, size);
	}
	return n;
}

static int from_words(struct bht_foreign *f, const struct bht_scheme *s, const struct candidate *words, size_t n)
{
	struct candidate *c = malloc((n + 1) * sizeof(*c));
	int rc = 0;

	if (!c)
		return -ENOMEM;
	memcpy(c, words, n * sizeof(*c));
	n = read_notifiers(f, s, c, n);
	for (size_t i = 0; i < n && !rc; i++) {
		const int32_t fd = (int32_t)c[i].value;
		const int kind = bht_descriptor(f, fd);
		if (kind == 'e' || kind == -1 || (fd == -1 && bht_has(s, BHT_LOOP_poll_fd)))
			rc = consider(f, s, c[i].addr, c[i].words);
	}
	free(c);
	return rc;
}

int bht_foreign_find(struct bht_foreign *f)
{
	size_t n;
	struct candidate *words = all_words(f, &n);
	int rc = words ? 0 : -ENOMEM;

	for (unsigned i = 0; i < f->n_schemes && !rc; i++) {
		rc = from_roots(f, &f->schemes[i]);
		if (!rc)
			rc = from_words(f, &f->schemes[i], words, n);
	}
	free(words);
	return rc;
}
