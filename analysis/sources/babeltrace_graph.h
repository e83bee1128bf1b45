/* SPDX-License-Identifier: MIT */
/* babeltrace_graph.h - from names of traces to the messages of libbabeltrace2 */
#ifndef BHT_BABELTRACE_GRAPH_H
#define BHT_BABELTRACE_GRAPH_H

#include <babeltrace2/babeltrace.h>

#include "babeltrace_sink.h"
#include "registry.h"

enum { BHT_GRAPH_TRACES_MAX = 4096 };

struct bht_graph;

/*
 * A graph of sources for all of TRACES and a sink that calls PUT. 0, or
 * -errno with the refusal:
 *   ENOENT         no trace there, or no plugin that reads it
 *   ELOOP          a trace with a symbolic link in it, which is not followed
 *   EBADMSG, EIO   what babeltrace2 says
 */
int bht_graph_open(const char *const *traces, unsigned n, bht_graph_put put, void *arg, struct bht_graph **graph,
		   struct bht_refusal *refusal);

/* Delivers the next few messages: 1; 0 at the end; -EAGAIN when there is nothing
 * now; what PUT gave; -ENOMEM; -EBADMSG with the refusal. After an error or the end
 * it is not called again. */
int bht_graph_run(struct bht_graph *graph, struct bht_refusal *refusal);

void bht_graph_close(struct bht_graph *graph);

/* Whether TRACE names a live session. */
bool bht_graph_is_live(const char *trace);

/* Files of LTTng whose sizes babeltrace2 must not believe (babeltrace_check.c). 0, or
 * -errno with file, offset and reason; others are 0. */
int bht_check_metadata(const char *path, struct bht_refusal *refusal);
int bht_check_index(const char *path, struct bht_refusal *refusal);

#endif
