/* SPDX-License-Identifier: MIT */
/* libuv's functions: handles that come and go, sends, executions. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bh-uv.h"
#include "recorder-uv.h"

#define EXPORT __attribute__((visibility("default")))

enum { NEWEST = 1 << 16 | 51 << 8 | 0xff }; /* uv_version(): up to 1.51 a send that sets the flag writes */

__thread struct uvr_thread uvr_thread;
struct uvr_real uvr_real;

EXPORT int uv_loop_init(uv_loop_t *loop);
EXPORT int uv_loop_fork(uv_loop_t *loop);
EXPORT int uv_loop_close(uv_loop_t *loop);
EXPORT int uv_async_init(uv_loop_t *loop, uv_handle_t *handle, uvr_async_cb *cb);
EXPORT int uv_async_send(uv_handle_t *handle);
EXPORT void uv_close(uv_handle_t *handle, uvr_close_cb *cb);

/* --- finding libuv ------------------------------------------------------------------ */

static void *in_caller(const void *caller, const char *name)
{
	Dl_info info;
	void *object = dladdr(caller, &info) ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
	void *function = object ? dlsym(object, name) : NULL;

	if (object)
		dlclose(object);
	return function;
}

/* Behind this library; else, for a plugin whose libuv nobody else sees, where the caller
 * would find it. */
static void *real(const void *caller, const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (!function)
		function = in_caller(caller, name);
	if (!function) {
		fprintf(stderr, "libbh-uv: %s: no libuv has it\n", name);
		abort();
	}
	return function;
}

static bool known_version(unsigned version)
{
	const bool known = version >> 16 == 1 && version <= NEWEST;

	if (!known)
		fprintf(stderr, "libbh-uv: libuv %u.%u is newer than what this recorder knows: nothing is recorded\n",
			version >> 16, version >> 8 & 0xff);
	return known;
}

void uvr_resolve(const void *caller)
{
	unsigned (*version)(void) = (unsigned (*)(void))real(caller, "uv_version");

	uvr_real.loop_init = (int (*)(uv_loop_t *))real(caller, "uv_loop_init");
	uvr_real.loop_fork = (int (*)(uv_loop_t *))real(caller, "uv_loop_fork");
	uvr_real.loop_close = (int (*)(uv_loop_t *))real(caller, "uv_loop_close");
	uvr_real.async_init = (int (*)(uv_loop_t *, uv_handle_t *, uvr_async_cb *))real(caller, "uv_async_init");
	uvr_real.async_send = (int (*)(uv_handle_t *))real(caller, "uv_async_send");
	uvr_real.close = (void (*)(uv_handle_t *, uvr_close_cb *))real(caller, "uv_close");
	uvr_real.run = (int (*)(uv_loop_t *, int))real(caller, "uv_run");
	uvr_real.backend_fd = (int (*)(const uv_loop_t *))real(caller, "uv_backend_fd");
	uvr_real.known = known_version(version());
}

/* Before any thread or signal handler sends, when libuv is there from the start. */
__attribute__((constructor)) static void start(void)
{
	if (dlsym(RTLD_NEXT, "uv_version"))
		uvr_resolve(NULL);
}

/* --- loops ---------------------------------------------------------------------------- */

/* The notifier that libuv makes while F runs is noted. */
static void note_notifier(bool on)
{
	uvr_thread.making = on;
	if (on)
		uvr_thread.made = -1;
}

EXPORT int eventfd(unsigned count, int flags)
{
	static int (*next)(unsigned count, int flags);

	if (!next)
		next = (int (*)(unsigned, int))dlsym(RTLD_NEXT, "eventfd");
	const int fd = next(count, flags);
	if (uvr_thread.making && fd >= 0)
		uvr_thread.made = fd;
	return fd;
}

int uv_loop_init(uv_loop_t *loop)
{
	UVR_NEED(loop_init);
	uvr_remove_loop(loop); /* of an earlier one that was not closed */
	return uvr_real.loop_init(loop);
}

int uv_loop_close(uv_loop_t *loop)
{
	UVR_NEED(loop_close);
	const int rc = uvr_real.loop_close(loop);
	if (rc == 0)
		uvr_remove_loop(loop);
	return rc;
}

int uv_loop_fork(uv_loop_t *loop)
{
	UVR_NEED(loop_fork);
	note_notifier(true);
	const int rc = uvr_real.loop_fork(loop);
	note_notifier(false);
	if (rc == 0)
		uvr_adopt_loop(loop, uvr_thread.made);
	return rc;
}

/* --- the loop's side -------------------------------------------------------------------- */

struct frame {
	uint32_t where;
	const void *current, *callback;
	uint64_t since;
};

static inline struct frame frame_of(const struct uvr_loop *l)
{
	return (struct frame){ .where = atomic_load_explicit(&l->o.where, memory_order_relaxed),
			       .current = atomic_load_explicit(&l->o.current, memory_order_relaxed),
			       .callback = atomic_load_explicit(&l->o.current_callback, memory_order_relaxed),
			       .since = atomic_load_explicit(&l->o.current_since, memory_order_relaxed) };
}

static inline void set_frame(struct uvr_loop *l, const struct frame *f)
{
	atomic_store_explicit(&l->o.current, f->current, memory_order_relaxed);
	atomic_store_explicit(&l->o.current_callback, f->callback, memory_order_relaxed);
	atomic_store_explicit(&l->o.current_since, f->since, memory_order_relaxed);
	atomic_store_explicit(&l->o.where, f->where, memory_order_relaxed);
}

/*
 * One more set or clear. They alternate, each is counted once, and a set before anybody
 * can know of it: so the flag is what libuv's is, but for the moment between a clear and
 * the end of its callback, in which it may still be as before the clear. A plain store
 * there would be lost, or stay, when it meets a producer's.
 */
static void toggle(struct uvr_handle *h)
{
	atomic_fetch_xor_explicit(&h->o.flags, BHP_FLAG_SCHEDULED, memory_order_relaxed);
}

/*
 * The callback is over, which it may have used to close the handle. There is no event
 * execute_begin: its place, before the clear, is inside libuv, and after it even the
 * recorder's plain stores hid a tenth of the lost wakeups (make bench). That of the end
 * has the time of the beginning; a callback that does not end is seen in the loop itself.
 */
static __attribute__((noinline)) void executed(struct uvr_loop *l, struct uvr_handle *h, const struct frame *outer)
{
	const uint64_t begin = atomic_load_explicit(&l->o.current_since, memory_order_relaxed);

	toggle(h);
	l->stamp = bhp_clock();
	l->progress = true;
	bhp_emit_at(execute_end, l->stamp, .loop = l, .bh = h, .begin = begin);
	set_frame(l, outer);
	if (--h->running == 0 && h->closed)
		uvr_free(h);
}

/* Called by libuv for every handle, just after it cleared the flag. Each nanosecond here
 * is one less in which a wakeup can be lost: plain stores only, nothing computed. */
static void trampoline(uv_handle_t *handle)
{
	struct uvr_handle *h = uvr_find(handle);

	if (__builtin_expect(!h, 0))
		return;
	struct uvr_loop *l = h->loop;
	const struct frame outer = frame_of(l);
	const uint64_t begin = l->stamp;

	set_frame(l, &(struct frame){ BHP_IN_BH, h, (const void *)h->cb, begin });
	h->running++;
	atomic_store_explicit(&h->o.runs, ++h->runs, memory_order_relaxed);
	atomic_store_explicit(&h->o.last_run, begin, memory_order_relaxed);
	if (h->cb)
		h->cb(handle);
	executed(l, h, &outer);
}

int uv_async_init(uv_loop_t *loop, uv_handle_t *handle, uvr_async_cb *cb)
{
	UVR_NEED(async_init);
	struct uvr_handle *h = uvr_real.known ? uvr_add(loop, handle, cb) : NULL;
	if (!h)
		return uvr_real.async_init(loop, handle, cb);
	note_notifier(true);
	const int rc = uvr_real.async_init(loop, handle, trampoline);
	note_notifier(false);
	uvr_added(h, uvr_thread.made, rc == 0);
	return rc;
}

void uv_close(uv_handle_t *handle, uvr_close_cb *cb)
{
	UVR_NEED(close);
	uvr_real.close(handle, cb);
	uvr_remove(handle);
}

/* --- the producer's side -------------------------------------------------------------------- */

static uint64_t take_ticket(const uv_handle_t *handle)
{
	if (uvr_thread.announced != handle)
		return 0;
	uvr_thread.announced = NULL;
	return uvr_thread.ticket;
}

/* This thread's send has set the flag and is about to write the notifier. */
static void set_flag(int fd)
{
	struct uvr_handle *h = uvr_find(uvr_thread.sending);

	if (!h || uvr_thread.written || (h->loop->o.notifier_fd >= 0 && h->loop->o.notifier_fd != fd))
		return;
	uvr_thread.written = h;
	toggle(h);
	bhp_emit(schedule, .loop = h->loop, .bh = h, .seen = 0, .kind = BHP_KIND_NORMAL,
		 .ticket = take_ticket(uvr_thread.sending));
}

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
	static ssize_t (*next)(int fd, const void *data, size_t size);

	if (__builtin_expect(!next, 0))
		next = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
	if (__builtin_expect(uvr_thread.sending != NULL, 0))
		set_flag(fd);
	return next(fd, data, size);
}

/* After libuv: what it did is recorded. Gives RC. */
static __attribute__((noinline)) int sent(int rc)
{
	const uv_handle_t *handle = uvr_thread.sending;
	struct uvr_handle *h = uvr_thread.written;

	uvr_thread.sending = NULL;
	uvr_thread.written = NULL;
	if (h) {
		bhp_emit(notify, .loop = h->loop, .bh = h, .notify_me = BHP_LOOP_SLEEPING, .written = 1);
		return rc;
	}
	h = rc == 0 ? uvr_find(handle) : NULL;
	if (h)
		bhp_emit(schedule, .loop = h->loop, .bh = h, .seen = 1, .kind = BHP_KIND_NORMAL,
			 .ticket = take_ticket(handle));
	return rc;
}

/* The first send, and one in a signal handler that came in the middle of another. */
static __attribute__((noinline)) int send_slowly(uv_handle_t *handle, const void *caller)
{
	const uv_handle_t *sending = uvr_thread.sending;
	struct uvr_handle *written = uvr_thread.written;

	if (!uvr_real.async_send)
		uvr_resolve(caller);
	uvr_thread.written = NULL;
	uvr_thread.sending = handle;
	const int rc = sent(uvr_real.async_send(handle));
	uvr_thread.written = written;
	uvr_thread.sending = sending;
	return rc;
}

/*
 * What stands before libuv's look at the flag is as little as can be: one store besides
 * the return address. Nothing is kept on the stack, because where the store buffer is
 * full, as it is after real work, the look waits until there is room for every store
 * before it.
 */
int uv_async_send(uv_handle_t *handle)
{
	if (__builtin_expect(uvr_thread.sending || !uvr_real.async_send, 0))
		return send_slowly(handle, __builtin_return_address(0));
	uvr_thread.sending = handle;
	return sent(uvr_real.async_send(handle));
}

EXPORT void bh_uv_ticket(const void *handle, uint64_t ticket)
{
	uvr_thread.announced = handle;
	uvr_thread.ticket = ticket;
}

EXPORT void bh_uv_consume(const void *handle, uint64_t ticket)
{
	const struct uvr_handle *h = uvr_find(handle);

	if (h)
		bhp_emit(consume, .loop = h->loop, .bh = h, .ticket = ticket);
}
