/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "feature.h"
#include "maps.h"
#include "multi.h"
#include "recipes.h"

/* What the kernel gives for an instruction it can put no probe at, with a LOCK prefix say: ENOTSUPP of
 * include/linux/errno.h, which user space has no name for. */
enum { KERNEL_ENOTSUPP = 524 };

/* A recipe in the kernel's table. */
struct used {
	bool taken, at_return;
	uint32_t pid;
	struct bpf_link *link; /* its own, or NULL: it is in one to many */
	dev_t dev;
	ino_t ino;
	uint64_t offset;
	char function[96]; /* "": that it is never entered proves nothing */
	uint32_t event;
};

/* A link to many. */
struct group {
	uint32_t pid;
	int fd;
};

struct bhb_recipes {
	struct bpf_program *entered, *returned;
	const struct bpf_map *table, *counts, *known;
	bool multi;
	unsigned cpus;
	struct used used[BHB_RECIPES_MAX];
	struct group *groups;
	size_t n_groups;
	struct bhb_recipes_stats most;
	uint64_t attach_ns, gone_at_return; /* hits of those that were forgotten */
	char silent[BHB_WHY];               /* of those that were forgotten */
	char impossible[BHB_WHY];
};

void bhb_piece_slot(struct bhb_piece *piece, enum bhp_slot slot)
{
#define S(slot, w, s, n) [BHP_SLOT_##slot] = { w, s, n },
	static const uint8_t place[][3] = { BHP_SLOT_LIST(S) };
#undef S
	const uint8_t *p = slot < sizeof(place) / sizeof(place[0]) ? place[slot] : place[BHP_SLOT_TEXT];

	piece->word = p[0];
	piece->shift = p[1];
	piece->width = p[2];
}

struct bhb_recipes *bhb_recipes_prepare(struct bpf_object *object)
{
	struct bhb_recipes *r = calloc(1, sizeof(*r));
	struct bpf_program *const *each;

	if (!r)
		return NULL;
	r->entered = bpf_object__find_program_by_name(object, "entered");
	r->returned = bpf_object__find_program_by_name(object, "returned");
	r->table = bpf_object__find_map_by_name(object, "recipes");
	r->counts = bpf_object__find_map_by_name(object, "carried_out");
	r->known = bpf_object__find_map_by_name(object, "known");
	r->multi = bhb_multi_works();
	r->cpus = (unsigned)libbpf_num_possible_cpus();
	struct bpf_program *const both[] = { r->entered, r->returned };
	for (each = both; each < both + 2; each++) {
		bpf_program__set_autoattach(*each, false);
		if (r->multi)
			bpf_program__set_expected_attach_type(*each, (enum bpf_attach_type)BHB_TRACE_UPROBE_MULTI);
	}
	return r;
}

/* --- the table ------------------------------------------------------------------------- */

static uint64_t hits(const struct bhb_recipes *r, uint32_t number)
{
	uint64_t *each = calloc(r->cpus, sizeof(*each)), sum = 0;

	if (each && !bpf_map_lookup_elem(bpf_map__fd(r->counts), &number, each))
		for (unsigned i = 0; i < r->cpus; i++)
			sum += each[i];
	free(each);
	return sum;
}

/* A free number, which is U's from here on. -ENOSPC: there is none. */
static int take(struct bhb_recipes *r, const struct used *u)
{
	uint64_t *zero = calloc(r->cpus, sizeof(*zero));
	uint32_t i = 0;

	while (i < BHB_RECIPES_MAX && r->used[i].taken)
		i++;
	if (zero && i < BHB_RECIPES_MAX) {
		r->used[i] = *u;
		r->used[i].taken = true;
		bpf_map_update_elem(bpf_map__fd(r->counts), &i, zero, BPF_ANY);
	}
	free(zero);
	return !zero ? -ENOMEM : i < BHB_RECIPES_MAX ? (int)i : -ENOSPC;
}

static int put(const struct bhb_recipes *r, uint32_t number, const struct bhb_recipe *recipe)
{
	return bpf_map_update_elem(bpf_map__fd(r->table), &number, recipe, BPF_ANY) ? -errno : 0;
}

/* --- attaching --------------------------------------------------------------------------- */

/* What is attached at once: to one file, at entries or at returns. */
struct batch {
	int fd;
	uint64_t offset[2 * BHB_RECIPES_MAX], counter[2 * BHB_RECIPES_MAX], cookie[2 * BHB_RECIPES_MAX];
	uint32_t n;
};

static int add_one(struct bhb_recipes *r, struct batch *b, const struct bhb_probe *p, const struct bhb_recipe *recipe,
		   uint32_t pid, bool at_return)
{
	struct used u = { .at_return = at_return, .pid = pid, .offset = p->offset, .event = recipe->event };
	struct stat st;
	int number;

	if (fstat(p->fd, &st))
		return -errno;
	u.dev = st.st_dev;
	u.ino = st.st_ino;
	snprintf(u.function, sizeof(u.function), "%s", p->function);
	number = take(r, &u);
	if (number < 0)
		return number;
	b->offset[b->n] = p->offset;
	b->cookie[b->n++] = (uint64_t)number;
	const int rc = put(r, (uint32_t)number, recipe);
	return rc ? rc : number;
}

/* An entry of the batch at the same place that does not remember its call for another return yet: so both have the
 * same time. Negative: there is none. */
static int find_entry(const struct bhb_recipes *r, const struct batch *entries, uint64_t offset,
		      struct bhb_recipe *recipe)
{
	for (uint32_t i = 0; i < entries->n; i++) {
		const uint32_t number = (uint32_t)entries->cookie[i];
		if (entries->offset[i] == offset && !bpf_map_lookup_elem(bpf_map__fd(r->table), &number, recipe) &&
		    !recipe->remember)
			return (int)number;
	}
	return -ENOENT;
}

/* P, and at the entry of a function whose return is looked at what remembers the call. */
static int add(struct bhb_recipes *r, struct batch *entries, struct batch *returns, const struct bhb_probe *p,
	       uint32_t pid)
{
	const int number = add_one(r, p->at_return ? returns : entries, p, &p->recipe, pid, p->at_return);

	if (number < 0 || !p->at_return)
		return number < 0 ? number : 0;
	struct bhb_recipe entry = { .event = 0 };
	const int there = find_entry(r, entries, p->offset, &entry);
	entry.remember = (uint32_t)number + 1;
	if (there >= 0)
		return put(r, (uint32_t)there, &entry);
	const struct bhb_recipe alone = { .remember = entry.remember };
	const int rc = add_one(r, entries, p, &alone, pid, false);
	return rc < 0 ? rc : 0;
}

static int keep(struct bhb_recipes *r, uint32_t pid, int fd)
{
	struct group *more = realloc(r->groups, (r->n_groups + 1) * sizeof(*more));

	if (!more) {
		close(fd);
		return -ENOMEM;
	}
	r->groups = more;
	more[r->n_groups++] = (struct group){ pid, fd };
	return 0;
}

/* N of B from FIRST on, through one link. */
static int link_many(struct bhb_recipes *r, const struct batch *b, uint32_t first, uint32_t n, uint32_t pid,
		     bool at_return, const char *path)
{
	const struct bpf_program *program = at_return ? r->returned : r->entered;
	const int fd = bhb_multi_create(bpf_program__fd(program), path, pid, n, b->offset + first, b->counter + first,
					b->cookie + first, at_return);

	return fd < 0 ? fd : keep(r, pid, fd);
}

static int link_one(struct bhb_recipes *r, const struct batch *b, uint32_t i, uint32_t pid, bool at_return,
		    const char *path)
{
	const struct bpf_uprobe_opts o = { .sz = sizeof(o), .retprobe = at_return, .bpf_cookie = b->cookie[i] };

	if (r->multi)
		return link_many(r, b, i, 1, pid, at_return, path);
	r->used[b->cookie[i]].link = bpf_program__attach_uprobe_opts(at_return ? r->returned : r->entered, (pid_t)pid,
								     path, b->offset[i], &o);
	return r->used[b->cookie[i]].link ? 0 : -errno;
}

/* Whether LIST, "a, b", has FUNCTION. */
static bool is_said(const char *list, const char *function)
{
	const size_t n = strlen(function);

	for (const char *at = list; (at = strstr(at, function)); at += n)
		if ((at == list || at[-1] == ' ') && (at[n] == ',' || !at[n]))
			return true;
	return false;
}

static void add_word(char list[BHB_WHY], const char *word)
{
	const size_t at = strlen(list);

	if (!is_said(list, word))
		snprintf(list + at, BHB_WHY - at, "%s%s", at ? ", " : "", word);
}

/* Those that are possible: there are instructions that the kernel can put no probe at. */
static int link_each(struct bhb_recipes *r, const struct batch *b, uint32_t pid, bool at_return, const char *path)
{
	bhb_hush();
	for (uint32_t i = 0; i < b->n; i++) {
		struct used *u = &r->used[b->cookie[i]];
		const int rc = link_one(r, b, i, pid, at_return, path);
		if (rc && rc != -KERNEL_ENOTSUPP)
			return rc;
		if (rc)
			add_word(r->impossible, *u->function ? u->function : "a callback");
		if (rc)
			*u = (struct used){ .taken = false };
	}
	return 0;
}

static int link_batch(struct bhb_recipes *r, const struct batch *b, uint32_t pid, bool at_return)
{
	char path[32];

	if (!b->n)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", b->fd);
	const int rc = r->multi ? link_many(r, b, 0, b->n, pid, at_return, path) : -KERNEL_ENOTSUPP;
	return rc == -KERNEL_ENOTSUPP ? link_each(r, b, pid, at_return, path) : rc;
}

/* N probes of one file. Returns are attached first: a call that is remembered and does not come back is worse than
 * one that comes back and is not. */
static int attach_file(struct bhb_recipes *r, uint32_t pid, const struct bhb_probe *probes, size_t n)
{
	struct batch *b = calloc(2, sizeof(*b));
	int rc = b ? 0 : -ENOMEM;

	if (b)
		b[0].fd = b[1].fd = probes[0].fd;
	for (int returns = 0; returns < 2; returns++) /* after the entries that they may find */
		for (size_t i = 0; i < n && !rc; i++)
			if (probes[i].at_return == (returns == 1))
				rc = add(r, &b[0], &b[1], &probes[i], pid);
	if (!rc)
		rc = link_batch(r, &b[1], pid, true);
	if (!rc)
		rc = link_batch(r, &b[0], pid, false);
	free(b);
	return rc;
}

static void explain(int error, char why[BHB_WHY])
{
	const char *because = *bhb_said() ? bhb_said() : strerror(-error);

	if (error == -EPERM || error == -EACCES)
		because = "not permitted: this needs CAP_SYS_ADMIN, or where the kernel is content with it CAP_PERFMON";
	else if (error == -ENOSPC)
		because = "there are too many of them";
	else if (error == -ESRCH)
		because = "the process has exited";
	snprintf(why, BHB_WHY, "probes at functions cannot be attached: %s", because);
}

/* Takes back those from the marks on. */
static void detach(struct bhb_recipes *r, uint32_t pid, const bool *before, size_t groups)
{
	int fds[64];
	size_t kept = groups, n = 0;

	for (size_t i = groups; i < r->n_groups; i++) {
		if (r->groups[i].pid != pid) {
			r->groups[kept++] = r->groups[i];
			continue;
		}
		fds[n++] = r->groups[i].fd;
		if (n == sizeof(fds) / sizeof(fds[0]))
			bhb_multi_close(fds, n), n = 0;
	}
	r->n_groups = kept;
	bhb_multi_close(fds, n);
	for (uint32_t i = 0; i < BHB_RECIPES_MAX; i++) {
		struct used *u = &r->used[i];
		if (!u->taken || u->pid != pid || (before && before[i]))
			continue;
		bpf_link__destroy(u->link);
		r->gone_at_return += u->at_return ? hits(r, i) : 0;
		*u = (struct used){ .taken = false };
	}
}

/* Whether none before I is in the same file. */
static bool is_first_of_file(const struct bhb_recipes *r, uint32_t i)
{
	const struct used *u = &r->used[i];

	while (i-- > 0)
		if (r->used[i].taken && r->used[i].dev == u->dev && r->used[i].ino == u->ino)
			return false;
	return true;
}

static void count(struct bhb_recipes *r)
{
	struct bhb_recipes_stats now = { .links = (unsigned)r->n_groups };

	for (uint32_t i = 0; i < BHB_RECIPES_MAX; i++) {
		if (!r->used[i].taken)
			continue;
		now.probes++;
		now.links += r->used[i].link != NULL;
		now.returns += r->used[i].at_return;
		now.files += is_first_of_file(r, i);
	}
	if (now.probes > r->most.probes)
		r->most = now;
}

int bhb_recipes_attach(struct bhb_recipes *r, uint32_t pid, const struct bhb_probe *probes, size_t n, char why[BHB_WHY])
{
	const uint64_t begun = bhb_mono_ns();
	const size_t groups = r->n_groups;
	bool before[BHB_RECIPES_MAX];
	int rc = 0;

	why[0] = '\0';
	for (uint32_t i = 0; i < BHB_RECIPES_MAX; i++)
		before[i] = r->used[i].taken;
	for (size_t i = 0, end; i < n && !rc; i = end) {
		for (end = i + 1; end < n && probes[end].fd == probes[i].fd;)
			end++;
		rc = attach_file(r, pid, probes + i, end - i);
	}
	if (rc) {
		explain(rc, why);
		detach(r, pid, before, groups);
	}
	count(r);
	r->attach_ns += bhb_mono_ns() - begun;
	return rc;
}

int bhb_recipes_know(struct bhb_recipes *r, uint32_t pid, uint64_t callback)
{
	const struct bhb_known key = { .callback = callback, .tgid = pid };
	const uint8_t one = 1;

	return bpf_map_update_elem(bpf_map__fd(r->known), &key, &one, BPF_ANY) ? -errno : 0;
}

/* --- what came of it ------------------------------------------------------------------------- */

/* Whether another function of the same file and process was entered. */
static bool has_lively_neighbour(const struct bhb_recipes *r, const struct used *u, const uint64_t *n)
{
	for (uint32_t i = 0; i < BHB_RECIPES_MAX; i++) {
		const struct used *v = &r->used[i];
		if (v->taken && n[i] && v->pid == u->pid && v->dev == u->dev && v->ino == u->ino &&
		    strcmp(v->function, u->function) != 0)
			return true;
	}
	return false;
}

static bool was_entered(const struct bhb_recipes *r, const struct used *u, const uint64_t *n)
{
	for (uint32_t i = 0; i < BHB_RECIPES_MAX; i++)
		if (r->used[i].taken && n[i] && r->used[i].pid == u->pid && !strcmp(r->used[i].function, u->function))
			return true;
	return false;
}

static void list_silent(const struct bhb_recipes *r, const struct used *u, const uint64_t *n, char silent[BHB_WHY])
{
	if (u->event && u->function[0] && !was_entered(r, u, n) && has_lively_neighbour(r, u, n))
		add_word(silent, u->function);
}

static void look_at_silent(const struct bhb_recipes *r, uint32_t pid, char silent[BHB_WHY])
{
	uint64_t *n = calloc(BHB_RECIPES_MAX, sizeof(*n));

	for (uint32_t i = 0; n && i < BHB_RECIPES_MAX; i++)
		n[i] = r->used[i].taken ? hits(r, i) : 0;
	for (uint32_t i = 0; n && i < BHB_RECIPES_MAX; i++)
		if (r->used[i].taken && (!pid || r->used[i].pid == pid))
			list_silent(r, &r->used[i], n, silent);
	free(n);
}

struct bhb_recipes_stats bhb_recipes_stats(const struct bhb_recipes *r)
{
	struct bhb_recipes_stats s = r->most;

	s.attach_ns = r->attach_ns;
	s.hits_at_return = r->gone_at_return;
	for (uint32_t i = 0; i < BHB_RECIPES_MAX; i++)
		if (r->used[i].taken && r->used[i].at_return)
			s.hits_at_return += hits(r, i);
	memcpy(s.silent, r->silent, BHB_WHY);
	memcpy(s.impossible, r->impossible, BHB_WHY);
	look_at_silent(r, 0, s.silent);
	return s;
}

bool bhb_recipes_any(const struct bhb_recipes *r, uint32_t pid)
{
	for (uint32_t i = 0; i < BHB_RECIPES_MAX; i++)
		if (r->used[i].taken && r->used[i].pid == pid)
			return true;
	return false;
}

static void forget_known(const struct bhb_recipes *r, uint32_t pid)
{
	const int fd = bpf_map__fd(r->known);
	struct bhb_known key, next;
	int rc = bpf_map_get_next_key(fd, NULL, &next);

	while (!rc) {
		key = next;
		rc = bpf_map_get_next_key(fd, &key, &next);
		if (key.tgid == pid)
			bpf_map_delete_elem(fd, &key);
	}
}

void bhb_recipes_forget(struct bhb_recipes *r, uint32_t pid)
{
	if (!bhb_recipes_any(r, pid))
		return;
	look_at_silent(r, pid, r->silent);
	detach(r, pid, NULL, 0);
	forget_known(r, pid);
}

void bhb_recipes_free(struct bhb_recipes *r)
{
	if (!r)
		return;
	for (uint32_t i = 0; i < BHB_RECIPES_MAX; i++)
		if (r->used[i].taken)
			detach(r, r->used[i].pid, NULL, 0);
	free(r->groups);
	free(r);
}
