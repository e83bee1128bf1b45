/* SPDX-License-Identifier: MIT */
/*
 * bh-uv.h - what a program that uses libuv may tell the recorder of `bhtrace run`
 *
 *	if (bh_uv_ticket)
 *		bh_uv_ticket(&async, n);
 *	queue[n % SIZE] = work;
 *	uv_async_send(&async);
 *
 * and in the callback, after it has looked at its queue,
 *
 *	if (bh_uv_consume)
 *		bh_uv_consume(handle, n);
 *
 * Tickets let `bhtrace diagnose` prove that a piece of work was lost, where without
 * them it can only find everything consistent with that. Both functions are weak:
 * a program needs no library for them, and they are NULL unless it was started by
 * `bhtrace run`. Neither waits, locks or allocates, but for the first event of a thread.
 */
#ifndef BH_UV_H
#define BH_UV_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * HANDLE is a uv_async_t. The next uv_async_send() of it by this thread announces
 * the work that is numbered TICKET, which is not 0. To be called before the work is
 * published, not between that and the send. Any thread, also in signal handlers.
 */
__attribute__((weak)) void bh_uv_ticket(const void *handle, uint64_t ticket);

/* The callback of HANDLE has seen the work TICKET. Loop thread. */
__attribute__((weak)) void bh_uv_consume(const void *handle, uint64_t ticket);

#ifdef __cplusplus
}
#endif
#endif
