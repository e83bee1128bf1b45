/* SPDX-License-Identifier: MIT */
/*
 * feature.h - what of eBPF works here, found by trying it
 *
 * Not features.h, which the C library includes by this name.
 */
#ifndef BHB_FEATURE_H
#define BHB_FEATURE_H

#include <stdbool.h>
#include <stddef.h>

enum bhb_feature {
	BHB_PERMITTED, /* loading a program of ours */
	BHB_BTF,       /* /sys/kernel/btf/vmlinux */
	BHB_RINGBUF,
	BHB_UPROBES, /* perf_event_open of a uprobe, with a semaphore */
	BHB_RAW_TRACEPOINT,
	BHB_PERF_EVENT, /* programs on a software clock */
	BHB_FEATURES
};

struct bhb_found {
	bool works;
	const char *remedy; /* static; NULL when it works */
	char detail[160];   /* what was tried and what came of it */
};

/* Tries F. Loads and attaches something small where that is the question.
 * Not thread-safe: libbpf is silenced as by bhb_hush(). */
void bhb_try(enum bhb_feature f, struct bhb_found *found);

/* Whether programs can be attached as in multi.h; tried the first time. Not thread-safe. */
bool bhb_multi_works(void);

/* For tests: to attach through libbpf in any case. */
extern bool bhb_multi_off;

/*
 * The sentence for somebody who may not: names the first thing that is missing, and what
 * would do; NULL when nothing is. Static or in BUFFER.
 */
const char *bhb_why_not(char *buffer, size_t size);

#endif
