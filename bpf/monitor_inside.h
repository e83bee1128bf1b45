/* SPDX-License-Identifier: MIT */
/* monitor_inside.h - the monitor, for its own files */
#ifndef BHB_MONITOR_INSIDE_H
#define BHB_MONITOR_INSIDE_H

#include "flight.h"
#include "monitor.h"

/* The skeleton has the name of the file, as the monitor itself. */
#define bhb_monitor bhb_monitor_bpf
#include "monitor.skel.h"
#undef bhb_monitor

struct bhb_process {
	uint32_t pid;
	int pidfd;
	bool begun;
	bool gone; /* with everybody: /proc does not have it */
	uint64_t looked_ns, next_ns, pause_ns;
};

struct bhb_monitor {
	struct bhb_monitor_options o;
	struct bhb_monitor_sink sink;
	struct bhb_monitor_bpf *skel;
	struct bhb_attached *attached;
	struct bhb_recipes *recipes;
	struct ring_buffer *ring;
	struct bpf_link *looks;
	int epoll, timer, stats;
	struct bhb_process *processes;
	size_t n;
	unsigned processors;
	double ticks_per_ns;
	struct bhp_clock_pair began;
};

#endif
