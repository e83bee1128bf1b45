/* SPDX-License-Identifier: MIT */
/* The loops and handles of libuv that are known, and how they are found again. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "recorder-uv.h"
#include "recorder.h"

/*
 * An open-addressed table. A slot's handle is stored last, so whoever finds it finds
 * the object, too. Slots of handles that were closed are GONE, not empty: searches go on
 * behind them.
 */
enum { SLOTS = 1 << 14, SLOTS_USED_MAX = SLOTS / 4 * 3 };

static struct slot {
	const uv_handle_t *_Atomic handle;
	struct uvr_handle *_Atomic object;
} slots[SLOTS];

static const char gone_mark;
#define GONE ((const uv_handle_t *)&gone_mark)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned n_used; /* slots that are not empty */
static struct uvr_loop *loops;
static struct bhp_pool loop_pool, handle_pool;
struct uvr_loop *_Atomic uvr_notifier[UVR_NOTIFIERS];

/* --- the table --------------------------------------------------------------------- */

static unsigned hash(const uv_handle_t *handle)
{
	return (unsigned)((uintptr_t)handle * UINT64_C(0x9e3779b97f4a7c15) >> 50);
}

static struct slot *find(const uv_handle_t *handle)
{
	for (unsigned i = hash(handle);; i = (i + 1) % SLOTS) {
		/* Pairs with the release in insert(). */
		const uv_handle_t *at = atomic_load_explicit(&slots[i].handle, memory_order_acquire);
		if (at == handle)
			return &slots[i];
		if (!at)
			return NULL;
	}
}

struct uvr_handle *uvr_find(const uv_handle_t *handle)
{
	struct slot *slot = find(handle);

	return slot ? atomic_load_explicit(&slot->object, memory_order_relaxed) : NULL;
}

/* There is room, and HANDLE is not in the table. */
static void insert(const uv_handle_t *handle, struct uvr_handle *h)
{
	unsigned i = hash(handle);
	const uv_handle_t *at;

	while ((at = atomic_load_explicit(&slots[i].handle, memory_order_relaxed)) && at != GONE)
		i = (i + 1) % SLOTS;
	n_used += !at;
	atomic_store_explicit(&slots[i].object, h, memory_order_relaxed);
	atomic_store_explicit(&slots[i].handle, handle, memory_order_release);
}

/* What is last in its run becomes empty again, and so does what is GONE before it. */
static void erase(struct slot *slot)
{
	unsigned i = (unsigned)(slot - slots);

	atomic_store_explicit(&slot->handle, GONE, memory_order_relaxed);
	if (atomic_load_explicit(&slots[(i + 1) % SLOTS].handle, memory_order_relaxed))
		return;
	for (; atomic_load_explicit(&slots[i].handle, memory_order_relaxed) == GONE; i = (i + SLOTS - 1) % SLOTS) {
		atomic_store_explicit(&slots[i].handle, NULL, memory_order_relaxed);
		n_used--;
	}
}

/* --- loops --------------------------------------------------------------------------- */

uint32_t uvr_tid(void)
{
	if (!uvr_thread.tid)
		uvr_thread.tid = (uint32_t)syscall(SYS_gettid);
	return uvr_thread.tid;
}

static struct uvr_loop *find_loop(const uv_loop_t *uv)
{
	struct uvr_loop *l = loops;

	while (l && l->uv != uv)
		l = l->next;
	return l;
}

struct uvr_loop *uvr_find_loop(const uv_loop_t *uv)
{
	pthread_mutex_lock(&lock);
	struct uvr_loop *l = find_loop(uv);
	pthread_mutex_unlock(&lock);
	return l;
}

static size_t stride(size_t size)
{
	return (size + BHP_CACHE_LINE - 1) & -(size_t)BHP_CACHE_LINE;
}

static struct uvr_loop *make_loop(const uv_loop_t *uv)
{
	uint64_t serial;
	struct uvr_loop *l = bhp_pool_get(&loop_pool, BHP_POOL_LOOP, stride(sizeof(*l)), &serial);

	if (!l)
		return NULL;
	l->o.serial = serial;
	l->o.notifier_fd = -1;
	l->o.poll_fd = -1;
	l->uv = uv;
	snprintf(l->o.name, sizeof(l->o.name), "uv-%llu", (unsigned long long)serial);
	l->next = loops;
	loops = l;
	return l;
}

static void set_notifier(struct uvr_loop *l, struct uvr_loop *to)
{
	if (l->o.notifier_fd >= 0 && l->o.notifier_fd < UVR_NOTIFIERS)
		atomic_store_explicit(&uvr_notifier[l->o.notifier_fd], to, memory_order_release);
}

/* libuv clears `pending` by an exchange, which with x86 is a full barrier. */
#if defined(__x86_64__)
enum { PROTOCOL = BHP_PROTOCOL_CLEAR_BARRIER };
#else
enum { PROTOCOL = 0 };
#endif

static void show_loop(struct uvr_loop *l, int notifier_fd)
{
	l->o.protocol = PROTOCOL;
	memcpy(l->o.family, "libuv", sizeof("libuv"));
	l->o.notifier_fd = notifier_fd;
	l->o.poll_fd = uvr_real.backend_fd(l->uv);
	set_notifier(l, l);
	atomic_store_explicit(&l->o.state, BHP_LIVE, memory_order_release);
	bhp_emit(loop_new, .loop = l, .protocol = PROTOCOL, .notifier_fd = notifier_fd, .name = l->o.name);
}

/* --- handles ----------------------------------------------------------------------------- */

/* The callback's name when it is exported, or where it is. */
static void name_callback(char name[BHP_NAME_SIZE], const void *cb)
{
	Dl_info info;
	const char *slash;

	if (!cb || !dladdr(cb, &info) || !info.dli_fname)
		return;
	slash = strrchr(info.dli_fname, '/');
	if (info.dli_sname && info.dli_saddr == cb)
		snprintf(name, BHP_NAME_SIZE, "%s", info.dli_sname);
	else
		snprintf(name, BHP_NAME_SIZE, "%.20s+0x%lx", slash ? slash + 1 : info.dli_fname,
			 (unsigned long)((uintptr_t)cb - (uintptr_t)info.dli_fbase));
}

static struct uvr_handle *make_handle(struct uvr_loop *l, const uv_handle_t *handle, uvr_async_cb *cb)
{
	uint64_t serial;
	struct uvr_handle *h = bhp_pool_get(&handle_pool, BHP_POOL_BH, stride(sizeof(*h)), &serial);

	if (!h)
		return NULL;
	h->o.serial = serial;
	h->o.loop = h->loop = l;
	h->o.callback = (const void *)cb;
	h->cb = cb;
	h->o.opaque = handle;
	name_callback(h->o.name, (const void *)cb);
	return h;
}

static void show_handle(struct uvr_handle *h)
{
	atomic_store_explicit(&h->o.state, BHP_LIVE, memory_order_release);
	bhp_emit(bh_new, .loop = h->loop, .bh = h, .callback = h->o.callback, .name = h->o.name);
}

void uvr_free(struct uvr_handle *h)
{
	bhp_pool_put(&handle_pool, h);
}

static void drop(struct slot *slot)
{
	struct uvr_handle *h = atomic_load_explicit(&slot->object, memory_order_relaxed);

	erase(slot);
	if (atomic_load_explicit(&h->o.state, memory_order_relaxed) == BHP_LIVE)
		bhp_emit(bh_delete, .loop = h->loop, .bh = h,
			 .flags = (uint8_t)atomic_load_explicit(&h->o.flags, memory_order_relaxed));
	atomic_store_explicit(&h->o.state, BHP_DYING, memory_order_relaxed);
	h->closed = true;
	if (!h->running)
		uvr_free(h);
}

static struct uvr_handle *add(const uv_loop_t *uv, const uv_handle_t *handle, uvr_async_cb *cb)
{
	struct slot *old = find(handle);
	struct uvr_loop *l = find_loop(uv);

	if (old)
		drop(old);
	if (n_used >= SLOTS_USED_MAX)
		return NULL;
	if (!l)
		l = make_loop(uv);
	struct uvr_handle *h = l ? make_handle(l, handle, cb) : NULL;
	if (h)
		insert(handle, h);
	return h;
}

struct uvr_handle *uvr_add(const uv_loop_t *uv, const uv_handle_t *handle, uvr_async_cb *cb)
{
	pthread_mutex_lock(&lock);
	struct uvr_handle *h = add(uv, handle, cb);
	pthread_mutex_unlock(&lock);
	if (!h)
		bhp_dropped();
	return h;
}

void uvr_added(struct uvr_handle *h, int notifier_fd, bool ok)
{
	struct uvr_loop *l = h->loop;

	pthread_mutex_lock(&lock);
	if (!ok) {
		drop(find(h->o.opaque));
	} else {
		if (atomic_load_explicit(&l->o.state, memory_order_relaxed) != BHP_LIVE)
			show_loop(l, notifier_fd);
		show_handle(h);
	}
	pthread_mutex_unlock(&lock);
}

void uvr_remove(const uv_handle_t *handle)
{
	pthread_mutex_lock(&lock);
	struct slot *slot = find(handle);
	if (slot)
		drop(slot);
	pthread_mutex_unlock(&lock);
}

/* Calls F for each handle of L. */
static void each_handle(const struct uvr_loop *l, void (*f)(struct slot *slot))
{
	for (unsigned i = 0; i < SLOTS; i++) {
		const uv_handle_t *at = atomic_load_explicit(&slots[i].handle, memory_order_relaxed);
		if (at && at != GONE && atomic_load_explicit(&slots[i].object, memory_order_relaxed)->loop == l)
			f(&slots[i]);
	}
}

static void remove_loop(struct uvr_loop *l)
{
	struct uvr_loop **at = &loops;

	each_handle(l, drop);
	set_notifier(l, NULL);
	if (atomic_load_explicit(&l->o.state, memory_order_relaxed) == BHP_LIVE)
		bhp_emit(loop_free, .loop = l);
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	bhp_pool_put(&loop_pool, l);
}

void uvr_remove_loop(const uv_loop_t *uv)
{
	pthread_mutex_lock(&lock);
	struct uvr_loop *l = find_loop(uv);
	if (l)
		remove_loop(l);
	pthread_mutex_unlock(&lock);
}

/* --- fork ------------------------------------------------------------------------------- */

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void in_parent(void)
{
	pthread_mutex_unlock(&lock);
}

static void hide_handle(struct slot *slot)
{
	atomic_store_explicit(&atomic_load_explicit(&slot->object, memory_order_relaxed)->o.state, BHP_FREE,
			      memory_order_relaxed);
}

/* The loops are the parent's. The table stays: libuv calls the trampoline also in a
 * child that polls one of them, with or without uv_loop_fork(). */
static void in_child(void)
{
	uvr_thread.tid = 0;
	for (struct uvr_loop *l = loops; l; l = l->next) {
		each_handle(l, hide_handle);
		atomic_store_explicit(&l->o.state, BHP_FREE, memory_order_relaxed);
	}
	pthread_mutex_unlock(&lock);
}

/* Objects of its own: the old ones may lie where the child's pools do not. */
static void adopt_handle(struct slot *slot)
{
	const struct uvr_handle *old = atomic_load_explicit(&slot->object, memory_order_relaxed);
	struct uvr_handle *h = make_handle(loops, old->o.opaque, old->cb);

	if (!h)
		return;
	atomic_store_explicit(&slot->object, h, memory_order_relaxed);
	show_handle(h);
}

void uvr_adopt_loop(const uv_loop_t *uv, int notifier_fd)
{
	pthread_mutex_lock(&lock);
	struct uvr_loop *old = find_loop(uv), **at = &loops;
	struct uvr_loop *l = old ? make_loop(uv) : NULL; /* now the first of the list */
	if (l) {
		set_notifier(old, NULL);
		show_loop(l, notifier_fd);
		each_handle(old, adopt_handle);
		while (*at != old)
			at = &(*at)->next;
		*at = old->next;
	}
	pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void start(void)
{
	pthread_atfork(before_fork, in_parent, in_child);
}
