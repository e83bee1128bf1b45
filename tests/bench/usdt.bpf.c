/* SPDX-License-Identifier: MIT */
/* What a USDT tracer does at the least: a 32-byte record for each event, and
 * nobody is woken for it. */
#include <stdbool.h>
#include <linux/ptrace.h>
#include <linux/bpf.h>
#include <bpf/usdt.bpf.h>

struct record {
	__u64 time;
	__u64 loop;
	__u64 bh;
	__u64 ticket;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} records SEC(".maps");

SEC("usdt")
int BPF_USDT(record_event, void *loop, void *bh, __u64 ticket)
{
	struct record *r = bpf_ringbuf_reserve(&records, sizeof(*r), 0);

	if (!r)
		return 0;
	r->time = bpf_ktime_get_ns();
	r->loop = (__u64)loop;
	r->bh = (__u64)bh;
	r->ticket = ticket;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
