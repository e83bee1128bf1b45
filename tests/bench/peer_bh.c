/* SPDX-License-Identifier: MIT */
#include "bh.h"
#include "peer.h"

static void *loop_open(void)
{
	return bh_loop_new("bench");
}

static void *handle(void *loop, peer_cb *cb, void *arg)
{
	return bh_new(loop, cb, arg, "bench");
}

static void post(void *bh)
{
	bh_schedule(bh);
}

static void run(void *loop)
{
	bh_loop_run(loop);
}

static void stop(void *loop)
{
	bh_loop_stop(loop);
}

static void loop_close(void *loop)
{
	bh_loop_free(loop);
}

const struct peer peer_bh = { "bh", "libbh", true, loop_open, handle, post, run, stop, loop_close };
