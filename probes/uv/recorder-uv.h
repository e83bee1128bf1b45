/* SPDX-License-Identifier: MIT */
/*
 * recorder-uv.h - libbh-uv: what `bhtrace run` preloads into programs that use libuv
 *
 * A uv_loop_t is shown as a loop, a uv_async_t as a bottom half. Nothing is known
 * here of libuv's structures: what the recorder says it saw happen at the functions
 * that libuv exports and at the C library's that it calls.
 *
 *   uv_async_send   coalesced, unless libuv writes the notifier in it: then it is the
 *                   one that set `pending`, and is recorded just before the write
 *   the callback    a trampoline in its place, after libuv has cleared `pending`
 *   read            of the notifier: accept
 *   epoll_[p]wait   on the loop's epoll set: the end of a turn, the wait, the next turn
 *
 * Placement (bhp.h). The producer's pair is the caller's store and libuv's load of
 * `pending`; before that stands one thread-local store. The loop's pair is libuv's
 * clear and the callback's first load; in between the trampoline finds the callback
 * and says where the loop is, by plain stores to lines that no producer reads. It reads
 * no clock: an execution begins with the time of the loop's last event, before the clear.
 *
 * Locks are taken where handles come and go, never where they are used.
 */
#ifndef BH_RECORDER_UV_H
#define BH_RECORDER_UV_H

#include <dlfcn.h>
#include <stdbool.h>
#include <sys/types.h>

#include "bhp.h"

struct epoll_event;
typedef struct uv_loop_s uv_loop_t;
typedef struct uv_handle_s uv_handle_t; /* a uv_async_t is one */
typedef void uvr_async_cb(uv_handle_t *handle);
typedef void uvr_close_cb(uv_handle_t *handle);

enum { UVR_NOTIFIERS = 4096 /* descriptors below are known at once as a loop's */ };

struct uvr_loop {
	struct bhp_loop_object o;
	const uv_loop_t *uv;
	struct uvr_loop *next;
	/* Of the thread that polls. */
	uint64_t stamp; /* bhp_clock() of its last event */
	uint8_t depth;  /* of the current turn */
	bool blocking, announced, progress;
};

/* Producers write to the first line of the object. A load of it by the loop, between its
 * clear and the callback's first load, would wait for the other processor and so hide the
 * race: what the trampoline needs is in lines of its own. */
struct uvr_handle {
	struct bhp_bh_object o; /* its argument is the uv_async_t, its flag the parity of sets and clears */
	struct uvr_loop *loop;
	uvr_async_cb *cb;
	/* Of the thread that polls. */
	_Alignas(BHP_CACHE_LINE) uint64_t runs;
	unsigned running; /* the callback is on the stack */
	bool closed;      /* free it when it is not any more */
};

/* What the thread is in the middle of. */
struct uvr_thread {
	const uv_handle_t *sending; /* in uv_async_send() of this */
	struct uvr_handle *written; /* it set the flag and wrote */
	struct uvr_loop *polling;   /* in uv_run() of this */
	bool making;                /* libuv makes a notifier, which is */
	int made;
	const uv_handle_t *announced; /* bh_uv_ticket() */
	uint64_t ticket;
	uint32_t tid;
};

extern BHP_HIDDEN __thread struct uvr_thread uvr_thread __attribute__((tls_model("initial-exec")));
extern BHP_HIDDEN struct uvr_loop *_Atomic uvr_notifier[UVR_NOTIFIERS];

/* The functions behind those that are interposed. */
struct uvr_real {
	int (*loop_init)(uv_loop_t *loop);
	int (*loop_fork)(uv_loop_t *loop);
	int (*loop_close)(uv_loop_t *loop);
	int (*async_init)(uv_loop_t *loop, uv_handle_t *handle, uvr_async_cb *cb);
	int (*async_send)(uv_handle_t *handle);
	void (*close)(uv_handle_t *handle, uvr_close_cb *cb);
	int (*run)(uv_loop_t *loop, int mode);
	int (*backend_fd)(const uv_loop_t *loop);
	bool known; /* libuv is of a version whose sends are understood */
};
extern BHP_HIDDEN struct uvr_real uvr_real;

/* Finds libuv's functions for a caller at CALLER; does not return when there are none. */
BHP_HIDDEN void uvr_resolve(const void *caller);

/* Whoever calls an interposed function of libuv before the first uvr_resolve(). */
#define UVR_NEED(function)                                                                                             \
	do {                                                                                                           \
		if (__builtin_expect(!uvr_real.function, 0))                                                           \
			uvr_resolve(__builtin_return_address(0));                                                      \
	} while (0)

/* --- the registry: objects.c ---------------------------------------------------------- */

/* The handle's object; NULL when it is not known. Any thread, also in signal handlers. */
BHP_HIDDEN struct uvr_handle *uvr_find(const uv_handle_t *handle);

/* The loop's object, NULL when it is not known. */
BHP_HIDDEN struct uvr_loop *uvr_find_loop(const uv_loop_t *loop);

/* Before libuv initialises HANDLE: makes its object and, for the first one, its
 * loop's, neither of them visible yet. NULL: it cannot be recorded, which is counted. */
BHP_HIDDEN struct uvr_handle *uvr_add(const uv_loop_t *loop, const uv_handle_t *handle, uvr_async_cb *cb);

/* After that: shows them, or with OK false forgets the handle. */
BHP_HIDDEN void uvr_added(struct uvr_handle *h, int notifier_fd, bool ok);

/* The handle is closed: its object is freed, by whoever runs it when that is the case. */
BHP_HIDDEN void uvr_remove(const uv_handle_t *handle);
BHP_HIDDEN void uvr_free(struct uvr_handle *h);

/* The loop and all handles that it had are gone; nothing happens when it is not known. */
BHP_HIDDEN void uvr_remove_loop(const uv_loop_t *loop);

/* In a child of fork(), libuv gave LOOP a new notifier: it is the child's from now on. */
BHP_HIDDEN void uvr_adopt_loop(const uv_loop_t *loop, int notifier_fd);

BHP_HIDDEN uint32_t uvr_tid(void);

#endif
