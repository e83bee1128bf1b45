/* SPDX-License-Identifier: MIT */
/* babeltrace_sink.h - the end of a graph of libbabeltrace2, which merges its inputs */
#ifndef BHT_BABELTRACE_SINK_H
#define BHT_BABELTRACE_SINK_H

#include <babeltrace2/babeltrace.h>
#include <stdbool.h>
#include <stdint.h>

/* Takes a message, which is borrowed. 0 or -errno. */
typedef int (*bht_graph_put)(void *arg, const bt_message *message);

struct bht_sink_input {
	bt_message_iterator *iterator;
	bt_message_array_const message; /* the last few it gave; those from AT on are ours */
	uint64_t at, n;
	int64_t ns;     /* stamp of the next one, or of the last that had any */
	bool has_clock; /* its events have stamps */
};

struct bht_sink {
	bht_graph_put put;
	void *arg;
	int error; /* of put */
	unsigned n;
	struct bht_sink_input *input; /* the component's, as are all below */
	const bt_clock_class *clock;  /* of the first stream, NULL: without stamps */
	bool has_streams;
};

/*
 * Adds a sink with N input ports to GRAPH; it calls sink.put, with sink.arg, for all
 * their messages in the order of their stamps. SINK stays where it is while there is
 * the graph. With several inputs, none may have messages of several streams or nothing
 * now. A status of libbabeltrace2.
 */
int bht_sink_add(bt_graph *graph, struct bht_sink *sink, unsigned n, const bt_component_sink **component);

#endif
