/* SPDX-License-Identifier: MIT */
/* babeltrace_reader.h - what the parts of the reader of LTTng traces share */
#ifndef BHT_BABELTRACE_READER_H
#define BHT_BABELTRACE_READER_H

#include <errno.h>

#include "babeltrace.h"
#include "babeltrace_clock.h"
#include "babeltrace_fields.h"
#include "babeltrace_graph.h"
#include "babeltrace_order.h"
#include "map.h"
#include "refuse.h"

enum { BHT_HOSTS_MAX = 64, BHT_TRACE_PROCESSES_MAX = 65536 };

struct host {
	char name[65];
	uint8_t boot[16];
	bool has_boot;
	bool awaited, measured; /* events wait for its line; they span enough */
	uint64_t first_ns;      /* of these events, 0: there is none */
	struct bht_line line;
	struct bht_map processes; /* struct process, by pid */
};

struct process {
	uint32_t pid, index;
	bool named; /* by its first thread */
};

struct trace {
	const bt_trace *bt; /* with a reference, as the others: no other gets its address */
	struct host *host;
	uint32_t pid; /* 0: of several processes */
	char command[16];
	double ticks_per_ns; /* of its clock */
};

struct stream {
	const bt_stream *bt;
	struct trace *trace;
	struct bht_member tid_in_packet;
	uint32_t tid; /* of this packet */
	bool has_clock;
	struct bht_plan *plan;   /* of its last event, or NULL */
	struct process *process; /* the same */
};

/* An event that waits for its host's clock. A loss of time 0 has only NS. */
struct waiting {
	struct bht_event e;
	uint64_t ns;
	struct host *host;
};

struct reader {
	struct bht_source base;
	struct bht_graph *graph;
	struct bht_order order;
	struct bht_map plans, streams, traces; /* by the address of the object */
	struct host host[BHT_HOSTS_MAX];
	unsigned n_hosts;
	struct bht_trace_process *process;
	unsigned n_processes;
	struct waiting *waiting;
	size_t n_waiting;
	unsigned n_awaited;   /* hosts whose events wait and do not span enough yet */
	bool in_ns, decided;  /* that times are in ns since the Epoch; no more hosts are taken */
	bool draining, ended; /* nothing new at the moment; ever */
	bool live;
	const volatile bool *stop;
	unsigned pauses;
	unsigned n_stamps;
	uint64_t n_passed_over;
	struct bht_refusal why; /* of the last error */
	char damage[400];
};

/* All give 0 or -errno, with the reason in reader.why. */

/* --- where events come from (babeltrace_origin.c); made when they are met first --- */

int bht_find_stream(struct reader *r, const bt_stream *bt, struct stream **stream);
int bht_find_plan(struct reader *r, const bt_event_class *class, struct bht_plan **plan);
int bht_find_process(struct reader *r, const struct trace *t, uint32_t pid, struct process **process);
void bht_free_origins(struct reader *r);

/* --- messages (babeltrace_messages.c) ---------------------------------------------- */

/* Takes a message, as bht_graph_put. */
int bht_take_message(void *reader, const bt_message *message);

/* --- time (babeltrace.c) ----------------------------------------------------------- */

/* Takes an event of the host and its text; NS is LTTng's stamp, 0 when it was not
 * looked at, which is only when nothing waits. */
int bht_reader_put(struct reader *r, struct host *h, struct bht_event *e, uint64_t ns);

static inline int bht_no_memory(struct reader *r)
{
	return bht_refuse(&r->why, -ENOMEM, 0, "no memory");
}

/* A loss of all processes. */
static inline struct bht_event bht_loss_of_all(enum bht_loss_why why, uint64_t count)
{
	struct bht_event e = bht_loss(0, 0, why, count);

	e.process = BHT_ALL_PROCESSES;
	return e;
}

#endif
