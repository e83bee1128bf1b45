/* SPDX-License-Identifier: MIT */
/*
 * The kernel knows the process of a uprobe by its main thread, and whether it wants a breakpoint by the memory
 * of that thread. Once that has exited while others go on, the probe is silent: at once, or for a link to
 * many when somebody else detaches from the file. Then the probe is for everybody and the programs choose.
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
#include "multi.h"

/* One of both. */
struct probes {
	struct bpf_link *of[BHB_EVENTS];
	int multi[BHB_EVENTS];
};

/* What is known of a file that somebody executes. */
struct file {
	struct stat st;
	uint32_t events;   /* that it has sites of */
	int error;         /* of looking for them */
	char why[BHB_WHY]; /* when there is an error */
	struct bhb_site *sites;
	size_t n_sites;     /* for links to many */
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
	uint32_t pid; /* that had them alone; 0: everybody */
	pthread_t digger;
	_Atomic bool done;
	struct grave *next;
};

struct bhb_attached {
	struct bhb_programs programs;
	struct bhb_specs specs;
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
	a->specs.map = programs->specs;
	a->everybody = everybody;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->free, NULL);
	return a;
}

static void detach(struct bhb_attached *a, struct probes **p)
{
	if (*p)
		bhb_multi_close((*p)->multi, BHB_EVENTS);
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
	g->done = true;
	return NULL;
}

/* What has been detached. Links to many fire for PID until that is done, and are waited for: lest
 * each event come twice when it is attached again. */
static void clear_graves(struct bhb_attached *a, uint32_t pid)
{
	struct grave **at = &a->graves, *g;

	while ((g = *at)) {
		if (!g->done && !(a->programs.specs && (!g->pid || g->pid == pid))) {
			at = &g->next;
			continue;
		}
		*at = g->next;
		pthread_join(g->digger, NULL);
		free(g);
	}
}

/* Detaches P some time soon; at once where there is no thread to be had. */
static void bury(struct bhb_attached *a, uint32_t pid, struct probes **p)
{
	struct grave *g = *p ? malloc(sizeof(*g)) : NULL;

	if (g) {
		*g = (struct grave){ .a = a, .probes = *p, .pid = pid, .next = a->graves };
		if (!pthread_create(&g->digger, NULL, dig, g)) {
			a->graves = g;
			*p = NULL;
			return;
		}
	}
	free(g);
	detach(a, p);
}

static void gather(struct probes **p, int *fds)
{
	for (unsigned i = 0; i < BHB_EVENTS; i++)
		fds[i] = *p ? (*p)->multi[i] : -1;
	free(*p);
	*p = NULL;
}

/* Links to many, all at once, as they wait together. */
static void close_all(struct bhb_attached *a)
{
	const size_t n = (a->n_uses + a->n_files) * BHB_EVENTS;
	int *fds = a->programs.specs && n ? malloc(n * sizeof(*fds)) : NULL;

	if (!fds)
		return;
	for (size_t i = 0; i < a->n_uses; i++)
		gather(&a->uses[i].own, fds + i * BHB_EVENTS);
	for (size_t i = 0; i < a->n_files; i++)
		gather(&a->files[i]->all, fds + (a->n_uses + i) * BHB_EVENTS);
	bhb_multi_close(fds, n);
	free(fds);
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
	close_all(a);
	for (size_t i = 0; i < a->n_uses; i++)
		detach(a, &a->uses[i].own);
	for (size_t i = 0; i < a->n_files; i++) {
		detach(a, &a->files[i]->all);
		free(a->files[i]->sites);
		free(a->files[i]);
	}
	free(a->specs.spec);
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
	free(f->sites);
	f->sites = NULL;
	f->events = 0;
	sites = a->programs.specs ? bhb_sites_list(fd, path, &f->sites, f->why)
				  : bhb_sites_of(fd, path, &f->events, f->why);
	f->n_sites = f->sites ? (size_t)sites : 0;
	for (size_t i = 0; i < f->n_sites; i++)
		f->events |= UINT32_C(1) << f->sites[i].event;
	f->error = sites < 0 && sites != -ENOEXEC ? sites : 0;
	return f;
}

static void explain(int error, const char *path, const char *name, char why[BHB_WHY])
{
	const char *because = *bhb_said() ? bhb_said() : strerror(-error);

	if (error == -EPERM || error == -EACCES)
		because = "not permitted: this needs CAP_SYS_ADMIN, or where the kernel is content with it CAP_PERFMON";
	else if (error == -EMFILE || error == -ENFILE)
		because = "too many files are open: raise ulimit -n";
	else if (error == -ESRCH)
		because = "the process has exited";
	snprintf(why, BHB_WHY, "%s: bh:%s cannot be attached: %s", path, name, because);
}

static int attach_event(struct bhb_attached *a, const struct file *f, pid_t pid, const char *path, unsigned event,
			struct probes *p)
{
	const struct bpf_program *program = a->programs.of[event];

	bhb_hush();
	if (a->programs.specs) {
		p->multi[event] = bhb_multi_link(&a->specs, program, path, pid < 0 ? 0 : (uint32_t)pid, f->sites,
						 f->n_sites, event);
		return p->multi[event] < 0 ? p->multi[event] : 0;
	}
	p->of[event] = bpf_program__attach_usdt(program, pid, path, "bh", names[event], NULL);
	return p->of[event] ? 0 : -errno;
}

/* PID -1: for everybody. By its descriptor, so that it is the file that was looked into. */
static int attach(struct bhb_attached *a, const struct file *f, pid_t pid, int fd, const char *path,
		  struct probes **out, char why[BHB_WHY])
{
	struct probes *p = calloc(1, sizeof(*p));
	const uint64_t before = bhb_mono_ns();
	char self[32];
	int rc = p ? 0 : -ENOMEM;

	if (p)
		memset(p->multi, -1, sizeof(p->multi));
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	a->attaching = true;
	pthread_mutex_lock(&a->lock);
	for (unsigned i = 0; i < BHB_EVENTS && !rc; i++) {
		if (!(f->events >> i & 1) || !a->programs.of[i])
			continue;
		if ((rc = attach_event(a, f, pid, self, i, p)))
			explain(rc, path, names[i], why);
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
			bury(a, a->uses[i].pid, &a->uses[i].own);
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
		clear_graves(a, pid);
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
			bury(a, 0, &a->files[i]->all);
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

bool bhb_attached_by_memory(const struct bhb_attached *a)
{
	return a->everybody || !a->programs.specs;
}

static unsigned count(const struct probes *p)
{
	unsigned n = 0;

	for (unsigned i = 0; p && i < BHB_EVENTS; i++)
		n += p->of[i] || p->multi[i] >= 0;
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
