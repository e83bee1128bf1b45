/* SPDX-License-Identifier: MIT */
/*
 * handlers.bpf.h - what all eBPF programs of this project begin with
 *
 * bhb_fetch_schedule(ctx, &e) and so on, expanded from the schema: the arguments of a
 * USDT probe become the fields of its event; gives the time of the record, in ticks.
 */
#ifndef BHB_HANDLERS_BPF_H
#define BHB_HANDLERS_BPF_H

#include <stdbool.h>
#include <linux/ptrace.h>
#include <linux/bpf.h>
/* Each event of each process has one and, where the compiler chose other registers, more. */
#define BPF_USDT_MAX_SPEC_CNT 2048
#include <bpf/usdt.bpf.h>
#include <bpf/bpf_core_read.h>

#include "wire.h"

enum { BHB_TARGETS_MAX = 65536 };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, BHB_TARGETS_MAX);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bhb_counts);
} counts SEC(".maps");

/* The flags of a process; 0: it is none of ours. */
static __always_inline __u32 bhb_target(__u32 tgid)
{
	const __u32 *flags = bpf_map_lookup_elem(&targets, &tgid);

	return flags ? *flags : 0;
}

static __always_inline struct bhb_counts *bhb_counts(void)
{
	const __u32 zero = 0;

	return bpf_map_lookup_elem(&counts, &zero);
}

/* Whether the probe that was hit is of a process of ours; counts it. */
static __always_inline bool bhb_hit(void)
{
	const bool ours = bhb_target(bpf_get_current_pid_tgid() >> 32) & BHB_TARGET;
	struct bhb_counts *c = bhb_counts();

	if (c && ours)
		c->hits++;
	else if (c)
		c->strange++;
	return ours;
}

#if defined(__TARGET_ARCH_x86)
typedef struct pt_regs bhb_regs;
#else
typedef struct user_pt_regs bhb_regs;
#endif
enum { BHB_REGS = sizeof(bhb_regs) / sizeof(__u64) };

/* The arguments of the probe that was hit. bpf_usdt_arg() looks up where they are, and calls the kernel
 * to read a register, for each of them: that took half of the time of a hit. */
struct bhb_args {
	struct pt_regs *ctx;
	const struct __bpf_usdt_spec *spec; /* NULL: bpf_usdt_arg() will say why */
	__u64 regs[BHB_REGS];
};

static __always_inline void bhb_args(struct pt_regs *ctx, struct bhb_args *a)
{
	const int id = __bpf_usdt_spec_id(ctx);

	a->ctx = ctx;
	a->spec = id < 0 ? NULL : bpf_map_lookup_elem(&__bpf_usdt_specs, &id);
#pragma unroll
	for (int i = 0; i < BHB_REGS; i++)
		a->regs[i] = ((const __u64 *)ctx)[i];
}

static __always_inline __u64 bhb_arg(const struct bhb_args *a, __u32 i)
{
	const struct __bpf_usdt_arg_spec *arg = &a->spec->args[i];
	__u64 v = 0;

	if (!a->spec || i >= BPF_USDT_MAX_ARG_CNT || arg->arg_type != BPF_USDT_ARG_REG) {
		bpf_usdt_arg(a->ctx, i, (long *)&v);
		return v;
	}
	/* In bytes, as the verifier follows it. */
	const __u32 at = (__u16)arg->reg_off;
	if (at > sizeof(a->regs) - sizeof(__u64))
		return 0;
	v = *(const __u64 *)((const char *)a->regs + (at & ~7u)) << arg->arg_bitshift;
	return arg->arg_signed ? (__u64)((__s64)v >> arg->arg_bitshift) : v >> arg->arg_bitshift;
}

#define BHP_F(slot, kind, name, doc) e->name = (BHP_C_##kind)bhb_arg(&a, i++);
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	static __always_inline __u64 bhb_fetch_##name(struct pt_regs *ctx, struct bhp_##name *e)                       \
	{                                                                                                              \
		struct bhb_args a;                                                                                     \
		__u32 i = 0;                                                                                           \
		bhb_args(ctx, &a);                                                                                     \
		fields return bhb_arg(&a, i);                                                                          \
	}
#include "events.def.h"
#undef BHP_F

#endif
