/* SPDX-License-Identifier: MIT */
/*
 * aio-notify-missing: bottom halves under QEMU's names, in structures of its own.
 *
 * QEMU's functions and protocol (docs/devel/multiple-iothreads.txt, include/block/aio.h of 5.2 and
 * later): pending ones in a list, notify_me, notified, an eventfd. The members are in another order
 * and at other offsets than in any QEMU, so who reads them has placed them by the machine code. To be
 * linked with -rdynamic and stripped. One path puts a bottom half into the list and does not notify.
 */
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "foreign.h"

enum { PENDING = 1, SCHEDULED = 2 };

typedef struct {
	int rfd, wfd;
	bool initialized;
} EventNotifier;

typedef struct QEMUBH QEMUBH;

typedef struct {
	char made_by[24];
	bool notified;
	QEMUBH *bh_list;
	uint64_t polls;
	EventNotifier notifier;
	uint32_t spare[5];
	uint32_t notify_me;
} AioContext;

struct QEMUBH {
	uint64_t created;
	unsigned flags;
	QEMUBH *next;
	void *opaque;
	uint64_t runs;
	void (*cb)(void *opaque);
	AioContext *ctx;
	const char *name;
};

/* The interface that an observer recognises. */
#define EXPORTED __attribute__((visibility("default"), noinline))
EXPORTED AioContext *qemu_get_aio_context(void);
EXPORTED void event_notifier_set(EventNotifier *e);
EXPORTED bool event_notifier_test_and_clear(EventNotifier *e);
EXPORTED void aio_notify(AioContext *ctx);
EXPORTED void aio_notify_accept(AioContext *ctx);
EXPORTED QEMUBH *aio_bh_new_full(AioContext *ctx, void (*cb)(void *), void *opaque, const char *name, void *guard);
EXPORTED void qemu_bh_schedule(QEMUBH *bh);
EXPORTED void qemu_bh_cancel(QEMUBH *bh);
EXPORTED void aio_bh_call(QEMUBH *bh);
EXPORTED int aio_bh_poll(AioContext *ctx);
EXPORTED bool aio_poll(AioContext *ctx, bool blocking);

static AioContext *main_context;
static QEMUBH *request;

AioContext *qemu_get_aio_context(void)
{
	return main_context;
}

void event_notifier_set(EventNotifier *e)
{
	const uint64_t one = 1;

	foreign_need(write(e->wfd, &one, sizeof(one)) == sizeof(one), "not written");
}

bool event_notifier_test_and_clear(EventNotifier *e)
{
	uint64_t value;

	return read(e->rfd, &value, sizeof(value)) == sizeof(value);
}

void aio_notify(AioContext *ctx)
{
	__atomic_store_n(&ctx->notified, true, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* pairs with the one in aio_poll() */
	if (__atomic_load_n(&ctx->notify_me, __ATOMIC_RELAXED))
		event_notifier_set(&ctx->notifier);
}

void aio_notify_accept(AioContext *ctx)
{
	__atomic_store_n(&ctx->notified, false, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* before aio_bh_poll() looks at the list */
}

QEMUBH *aio_bh_new_full(AioContext *ctx, void (*cb)(void *), void *opaque, const char *name, void *guard)
{
	QEMUBH *bh = malloc(sizeof(*bh));

	(void)guard;
	foreign_need(bh, "no memory");
	*bh = (QEMUBH){ .ctx = ctx, .cb = cb, .opaque = opaque, .name = name };
	return bh;
}

static inline __attribute__((always_inline)) void enqueue(AioContext *ctx, QEMUBH *bh)
{
	if (__atomic_fetch_or(&bh->flags, PENDING | SCHEDULED, __ATOMIC_SEQ_CST) & PENDING)
		return;
	bh->next = __atomic_load_n(&ctx->bh_list, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&ctx->bh_list, &bh->next, bh, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
}

void qemu_bh_schedule(QEMUBH *bh)
{
	AioContext *ctx = bh->ctx; /* before another thread may run and free it */

	enqueue(ctx, bh);
	aio_notify(ctx);
}

void qemu_bh_cancel(QEMUBH *bh)
{
	__atomic_fetch_and(&bh->flags, ~SCHEDULED, __ATOMIC_SEQ_CST);
}

void aio_bh_call(QEMUBH *bh)
{
	bh->cb(bh->opaque);
}

int aio_bh_poll(AioContext *ctx)
{
	QEMUBH *next, *bh = __atomic_exchange_n(&ctx->bh_list, NULL, __ATOMIC_SEQ_CST);
	int n = 0;

	for (; bh; bh = next, n++) {
		next = bh->next;
		if (__atomic_fetch_and(&bh->flags, ~(PENDING | SCHEDULED), __ATOMIC_SEQ_CST) & SCHEDULED)
			aio_bh_call(bh);
	}
	return n;
}

bool aio_poll(AioContext *ctx, bool blocking)
{
	struct pollfd pfd = { .fd = ctx->notifier.rfd, .events = POLLIN };

	if (blocking) {
		__atomic_store_n(&ctx->notify_me, 2, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST); /* pairs with the one in aio_notify() */
	}
	int idle = blocking && !__atomic_load_n(&ctx->bh_list, __ATOMIC_RELAXED);
	ppoll(&pfd, 1, idle ? NULL : &(const struct timespec){ 0 }, NULL);
	__atomic_store_n(&ctx->notify_me, 0, __ATOMIC_RELEASE);
	aio_notify_accept(ctx);
	event_notifier_test_and_clear(&ctx->notifier);
	ctx->polls++;
	return aio_bh_poll(ctx) > 0;
}

static void answer(void *opaque)
{
	(void)opaque;
	foreign_answer();
}

static void ask(bool faulty)
{
	if (faulty)
		enqueue(request->ctx, request);
	else
		qemu_bh_schedule(request);
}

int main(int argc, char **argv)
{
	struct foreign f = { .name = "aio-notify-missing", .ask = ask };

	foreign_open(&f, argc, argv);
	main_context = calloc(1, sizeof(*main_context));
	foreign_need(main_context, "no memory");
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	foreign_need(fd >= 0, "no eventfd");
	main_context->notifier = (EventNotifier){ .rfd = fd, .wfd = fd, .initialized = true };
	request = aio_bh_new_full(main_context, answer, NULL, "request_bh", NULL);
	foreign_serve(&f);
	for (;;)
		aio_poll(main_context, true);
	return 0;
}
