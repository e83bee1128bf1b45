/* SPDX-License-Identifier: MIT */
/*
 * The kernel knows the process of a uprobe by one thread, and by the memory of that thread
 * when the probe is hit. So a probe for a process alone is given its main thread, and
 * is silent once that has exited while others go on. Then the probe is for everybody
 * and the programs choose.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "attach.h"
#include "maps.h"

struct probes {
	struct bpf_link *of[BHB_EVENTS];
};

/* What is known of a file that somebody executes. */
struct file {
	struct stat st;
	uint32_t events;    /* that it has sites of */
	int error;          /* of looking for them */
	char why[BHB_WHY];  /* when there is an error */
	struct probes *all; /* attached for everybody */
	unsigned bystanders;
};

/* A file with sites in a process. */
struct use {
	uint32_t pid;
	uint64_t dev, ino; /* as the maps have them */
	struct file *file;
	struct probes *own; /* attached for it alone; or NULL */
};

/* What is detached beside the way, as the kernel takes 70 to 110 ms for each site, one by one. */
struct grave {
	struct bhb_attached *a;
	struct probes *probes;
	pthread_t digger;
	struct grave *next;
};

struct bhb_attached {
	struct bhb_programs programs;
	bool everybody;
	struct file **files;
	size_t n_files;
	struct use *uses;
	size_t n_uses;
	uint64_t attach_ns;
	struct grave *graves;
	pthread_mutex_t lock; /* what libbpf keeps of all probes: one attaches or detaches at a time, */
	pthread_cond_t free;
	_Atomic bool attaching; /* and this one goes first */
};

static const char *const names[BHB_EVENTS] = {
#define BHP_EVENT(number, name, fields, doc) [number] = #name,
#include "events.def.h"
};

static char said[256];

static int listen_to_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	if (level != LIBBPF_WARN)
		return 0;
	vsnprintf(said, sizeof(said), format, args);
	said[strcspn(said, "\n")] = '\0';
	return 0;
}

void bhb_hush(void)
{
	said[0] = '\0';
	libbpf_set_print(listen_to_libbpf);
}

const char *bhb_said(void)
{
	static const char prefix[] = "libbpf: ";

	return strncmp(said, prefix, sizeof(prefix) - 1) ? said : said + sizeof(prefix) - 1;
}

struct bhb_attached *bhb_attached_new(const struct bhb_programs *programs, bool everybody)
{
	struct bhb_attached *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->programs = *programs;
	a->everybody = everybody;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->free, NULL);
	return a;
}

static void detach(struct bhb_attached *a, struct probes **p)
{
	for (unsigned i = 0; *p && i < BHB_EVENTS; i++) {
		if (!(*p)->of[i])
			continue;
		pthread_mutex_lock(&a->lock);
		while (a->attaching)
			pthread_cond_wait(&a->free, &a->lock);
		bpf_link__destroy((*p)->of[i]);
		pthread_mutex_unlock(&a->lock);
	}
	free(*p);
	*p = NULL;
}

static void *dig(void *arg)
{
	struct grave *g = arg;

	detach(g->a, &g->probes);
	return NULL;
}

/* Detaches P some time soon; at once where there is no thread to be had. */
static void bury(struct bhb_attached *a, struct probes **p)
{
	struct grave *g = *p ? malloc(sizeof(*g)) : NULL;

	if (g) {
		*g = (struct grave){ .a = a, .probes = *p, .next = a->graves };
		if (!pthread_create(&g->digger, NULL, dig, g)) {
			a->graves = g;
			*p = NULL;
			return;
		}
	}
	free(g);
	detach(a, p);
}

void bhb_attached_free(struct bhb_attached *a)
{
	struct grave *g;

	if (!a)
		return;
	while ((g = a->graves)) {
		pthread_join(g->digger, NULL);
		a->graves = g->next;
		free(g);
	}
	for (size_t i = 0; i < a->n_uses; i++)
		detach(a, &a->uses[i].own);
	for (size_t i = 0; i < a->n_files; i++) {
		detach(a, &a->files[i]->all);
		free(a->files[i]);
	}
	pthread_cond_destroy(&a->free);
	pthread_mutex_destroy(&a->lock);
	free(a->uses);
	free(a->files);
	free(a);
}

/* Room for one more: arrays grow at powers of two. */
static int reserve(void *array, size_t n, size_t size)
{
	void *more, *old;

	if (n & (n - 1))
		return 0;
	memcpy(&old, array, sizeof(old));
	more = realloc(old, (n ? 2 * n : 1) * size);
	if (!more)
		return -ENOMEM;
	memcpy(array, &more, sizeof(more));
	return 0;
}

static bool changed(const struct stat *a, const struct stat *b)
{
	return a->st_size != b->st_size || a->st_ctim.tv_sec != b->st_ctim.tv_sec ||
	       a->st_ctim.tv_nsec != b->st_ctim.tv_nsec;
}

/* The sites of the open file FD; kept, as most processes use the same libraries. */
static struct file *look_into(struct bhb_attached *a, int fd, const struct stat *st, const char *path)
{
	struct file *f = NULL;
	int sites;

	for (size_t i = 0; i < a->n_files && !f; i++)
		if (a->files[i]->st.st_dev == st->st_dev && a->files[i]->st.st_ino == st->st_ino)
			f = a->files[i];
	if (f && (f->all || !changed(&f->st, st)))
		return f;
	if (!f) {
		if (reserve(&a->files, a->n_files, sizeof(struct file *)) || !(f = calloc(1, sizeof(*f))))
			return NULL;
		a->files[a->n_files++] = f;
	}
	f->st = *st;
	sites = bhb_sites_of(fd, path, &f->events, f->why);
	f->error = sites < 0 && sites != -ENOEXEC ? sites : 0;
	return f;
}

static int explain(int error, const char *path, const char *name, char why[BHB_WHY])
{
	const char *because = *bhb_said() ? bhb_said() : strerror(-error);

	if (error == -EPERM || error == -EACCES)
		because = "not permitted: this needs CAP_SYS_ADMIN, or where the kernel is content with it CAP_PERFMON";
	else if (error == -EMFILE || error == -ENFILE)
		because = "too many files are open: raise ulimit -n";
	else if (error == -ESRCH)
		because = "the process has exited";
	snprintf(why, BHB_WHY, "%s: bh:%s cannot be attached: %s", path, name, because);
	return error;
}

/* PID -1: for everybody. By its descriptor, so that it is the file that was looked into. */
static int attach(struct bhb_attached *a, const struct file *f, pid_t pid, int fd, const char *path,
		  struct probes **out, char why[BHB_WHY])
{
	struct probes *p = calloc(1, sizeof(*p));
	const uint64_t before = bhb_mono_ns();
	char self[32];
	int rc = p ? 0 : -ENOMEM;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	a->attaching = true;
	pthread_mutex_lock(&a->lock);
	for (unsigned i = 0; i < BHB_EVENTS && !rc; i++) {
		if (!(f->events >> i & 1) || !a->programs.of[i])
			continue;
		bhb_hush();
		p->of[i] = bpf_program__attach_usdt(a->programs.of[i], pid, self, "bh", names[i], NULL);
		if (!p->of[i])
			rc = explain(-errno, path, names[i], why);
	}
	a->attaching = false;
	pthread_cond_broadcast(&a->free);
	pthread_mutex_unlock(&a->lock);
	a->attach_ns += bhb_mono_ns() - before;
	if (rc)
		detach(a, &p);
	*out = p;
	return rc;
}

static struct use *find_use(const struct bhb_attached *a, uint32_t pid, const struct bhb_map *m)
{
	for (size_t i = 0; i < a->n_uses; i++)
		if (a->uses[i].pid == pid && a->uses[i].dev == m->dev && a->uses[i].ino == m->ino)
			return &a->uses[i];
	return NULL;
}

static unsigned count_bystanders(const struct bhb_attached *a, const struct bhb_map *m)
{
	uint32_t *pids;
	const size_t n = bhb_users(m, &pids);
	unsigned strangers = 0;

	for (size_t i = 0; i < n; i++)
		strangers += !find_use(a, pids[i], m);
	free(pids);
	return strangers;
}

/* Drops the uses of PID, or of file F. */
static void drop_uses(struct bhb_attached *a, uint32_t pid, const struct file *f)
{
	size_t kept = 0;

	for (size_t i = 0; i < a->n_uses; i++) {
		if (a->uses[i].pid == pid || a->uses[i].file == f)
			bury(a, &a->uses[i].own);
		else
			a->uses[kept++] = a->uses[i];
	}
	a->n_uses = kept;
}

/* Attaches to F for everybody; what was attached to it for one process alone goes before that,
 * lest each event come twice. */
static int attach_all(struct bhb_attached *a, struct file *f, const struct bhb_map *m, int fd, char why[BHB_WHY])
{
	int rc;

	for (size_t i = 0; i < a->n_uses; i++)
		if (a->uses[i].file == f)
			detach(a, &a->uses[i].own);
	rc = attach(a, f, -1, fd, m->path, &f->all, why);
	if (rc)
		drop_uses(a, 0, f);
	return rc;
}

/* 1 when M was attached to, 0 when there was nothing to do. */
static int look_at(struct bhb_attached *a, uint32_t pid, const struct bhb_maps *maps, const struct bhb_map *m,
		   char why[BHB_WHY])
{
	const bool alone = !a->everybody && maps->tid == pid;
	struct use u = { .pid = pid, .dev = m->dev, .ino = m->ino };
	struct stat st;
	int rc = 0, fd;

	if (find_use(a, pid, m))
		return 0;
	fd = bhb_map_open(maps, m, &st, why);
	if (fd < 0)
		return fd;
	u.file = look_into(a, fd, &st, m->path);
	if (!u.file || reserve(&a->uses, a->n_uses, sizeof(u))) {
		rc = -ENOMEM;
	} else if (u.file->error) {
		rc = u.file->error;
		memcpy(why, u.file->why, BHB_WHY);
	} else if (u.file->events) {
		if (!u.file->all && alone)
			rc = attach(a, u.file, (pid_t)pid, fd, m->path, &u.own, why);
		else if (!u.file->all)
			rc = attach_all(a, u.file, m, fd, why);
		if (!rc)
			a->uses[a->n_uses++] = u, rc = 1;
		if (u.file->all)
			u.file->bystanders = count_bystanders(a, m);
	}
	close(fd);
	return rc;
}

int bhb_attach(struct bhb_attached *a, uint32_t pid, char why[BHB_WHY])
{
	char reason[BHB_WHY] = "";
	struct bhb_maps maps;
	int rc, error = 0, new = 0;

	why[0] = '\0';
	rc = bhb_maps_read(pid, &maps, why);
	for (size_t i = 0; i < maps.n && !rc; i++) {
		const int found = look_at(a, pid, &maps, &maps.map[i], reason);
		if (found > 0)
			new += found;
		if (found >= 0 || error)
			continue;
		error = found;
		memcpy(why, reason, BHB_WHY);
	}
	bhb_maps_free(&maps);
	if (rc)
		return rc;
	return bhb_attached_any(a, pid) ? new : error;
}

static bool is_used(const struct bhb_attached *a, const struct file *f)
{
	for (size_t i = 0; i < a->n_uses; i++)
		if (a->uses[i].file == f)
			return true;
	return false;
}

void bhb_forget(struct bhb_attached *a, uint32_t pid)
{
	drop_uses(a, pid, NULL);
	for (size_t i = 0; i < a->n_files && !a->everybody; i++)
		if (a->files[i]->all && !is_used(a, a->files[i]))
			bury(a, &a->files[i]->all);
}

bool bhb_attached_any(const struct bhb_attached *a, uint32_t pid)
{
	for (size_t i = 0; i < a->n_uses; i++)
		if (a->uses[i].pid == pid)
			return true;
	return false;
}

bool bhb_attached_to_leader(const struct bhb_attached *a, uint32_t pid)
{
	for (size_t i = 0; i < a->n_uses; i++)
		if (a->uses[i].pid == pid && a->uses[i].own)
			return true;
	return false;
}

static unsigned count(const struct probes *p)
{
	unsigned n = 0;

	for (unsigned i = 0; p && i < BHB_EVENTS; i++)
		n += p->of[i] != NULL;
	return n;
}

struct bhb_attach_stats bhb_attach_stats(const struct bhb_attached *a)
{
	struct bhb_attach_stats s = { .attach_ns = a->attach_ns };

	for (size_t i = 0; i < a->n_files; i++) {
		s.files += a->files[i]->all != NULL;
		s.links += count(a->files[i]->all);
		s.bystanders += a->files[i]->all ? a->files[i]->bystanders : 0;
	}
	for (size_t i = 0; i < a->n_uses; i++) {
		s.files += a->uses[i].own != NULL;
		s.links += count(a->uses[i].own);
	}
	return s;
}
