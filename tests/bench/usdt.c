/* SPDX-License-Identifier: MIT */
/* Attaching an eBPF program to our own USDT sites. */
#include "usdt.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "usdt.skel.h"

unsigned short bench_traced_semaphore __attribute__((section(".probes")));
unsigned short bench_untraced_semaphore __attribute__((section(".probes")));

static struct usdt_bpf *skeleton;
static struct ring_buffer *buffer;
static unsigned drained;

static int count(void *unused, void *record, size_t size)
{
	(void)unused, (void)record, (void)size;
	drained++;
	return 0;
}

const char *usdt_attach(void)
{
	/* What libbpf has to say is one line of errno for us. */
	libbpf_set_print(NULL);
	skeleton = usdt_bpf__open_and_load();
	if (!skeleton)
		return errno == EPERM ? "not permitted to load BPF" : "the kernel refused the BPF program";
	skeleton->links.record_event = bpf_program__attach_usdt(skeleton->progs.record_event, getpid(),
								"/proc/self/exe", "bench", "traced", NULL);
	buffer = ring_buffer__new(bpf_map__fd(skeleton->maps.records), count, NULL, NULL);
	if (skeleton->links.record_event && buffer)
		return NULL;
	usdt_detach();
	return "the kernel refused to attach a USDT probe";
}

unsigned usdt_drain(void)
{
	drained = 0;
	if (buffer)
		ring_buffer__consume(buffer);
	return drained;
}

void usdt_detach(void)
{
	ring_buffer__free(buffer);
	usdt_bpf__destroy(skeleton);
	buffer = NULL;
	skeleton = NULL;
}
