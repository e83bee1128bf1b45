/* SPDX-License-Identifier: MIT */
/* peer.h - the least that an event loop offers, for libbh and its peers */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdbool.h>

typedef void peer_cb(void *arg);

struct peer {
	const char *key;  /* in samples */
	const char *name; /* in rows */
	bool coalesces;   /* a second post before the callback ran costs no second callback */
	void *(*open)(void);
	/* Something that may be posted; all are made before the loop runs. */
	void *(*handle)(void *loop, peer_cb *cb, void *arg);
	/* Makes the loop call the callback once. Any thread. */
	void (*post)(void *handle);
	void (*run)(void *loop);
	/* Makes run() return. Any thread. */
	void (*stop)(void *loop);
	void (*close)(void *loop);
};

extern const struct peer peer_bh, peer_uv, peer_glib, peer_event;

#endif
