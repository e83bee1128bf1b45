/* SPDX-License-Identifier: MIT */
/* recipe.bpf.h - a recipe, carried out. */
#ifndef BHB_RECIPE_BPF_H
#define BHB_RECIPE_BPF_H

#include "handlers.bpf.h"
#include "recipe.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BHB_RECIPES_MAX);
	__type(key, __u32);
	__type(value, struct bhb_recipe);
} recipes SEC(".maps");

/* How often each was carried out: of what is never entered, it says that it is probably inlined. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BHB_RECIPES_MAX);
	__type(key, __u32);
	__type(value, __u64);
} carried_out SEC(".maps");

/* LRU: a thread that exits, or jumps out, never returns. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BHB_FRAMES_MAX);
	__type(key, struct bhb_frame);
	__type(value, struct bhb_call);
} frames SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct bhb_known);
	__type(value, __u8);
} known SEC(".maps");

/* What a probe was attached with; NULL: it is of no process of ours. */
static __always_inline const struct bhb_recipe *bhb_recipe(struct pt_regs *ctx, __u32 *number)
{
	const struct bhb_recipe *r;
	__u64 *n;

	*number = (__u32)bpf_get_attach_cookie(ctx);
	r = bpf_map_lookup_elem(&recipes, number);
	n = bpf_map_lookup_elem(&carried_out, number);
	if (!r || !n || !bhb_hit())
		return NULL;
	++*n;
	return r;
}

/* x86: the call has put the return address there, and the return has taken it. */
static __always_inline __u64 bhb_sp(struct pt_regs *ctx, bool at_return)
{
#if defined(__TARGET_ARCH_x86)
	return PT_REGS_SP(ctx) - (at_return ? 8 : 0);
#else
	return PT_REGS_SP(ctx);
#endif
}

/* The call that begins with REGS. */
static __always_inline struct bhb_call bhb_called(struct pt_regs *ctx)
{
	return (struct bhb_call){ .time = bpf_ktime_get_ns(),
				  .argument = { PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx),
						PT_REGS_PARM4(ctx), PT_REGS_PARM5(ctx),
#if defined(__TARGET_ARCH_x86)
						ctx->r9
#else
						((const bhb_regs *)ctx)->regs[5]
#endif
				  } };
}

static __always_inline void bhb_remember(struct pt_regs *ctx, const struct bhb_recipe *r, const struct bhb_call *call)
{
	const struct bhb_frame frame = { .sp = bhb_sp(ctx, false),
					 .tid = (__u32)bpf_get_current_pid_tgid(),
					 .recipe = r->remember - 1 };

	bpf_map_update_elem(&frames, &frame, call, BPF_ANY);
}

/* The call that returns; false: it began before the probe was there. */
static __always_inline bool bhb_recall(struct pt_regs *ctx, __u32 number, struct bhb_call *call)
{
	const struct bhb_frame frame = { .sp = bhb_sp(ctx, true),
					 .tid = (__u32)bpf_get_current_pid_tgid(),
					 .recipe = number };
	const struct bhb_call *c = bpf_map_lookup_elem(&frames, &frame);

	if (!c)
		return false;
	*call = *c;
	bpf_map_delete_elem(&frames, &frame);
	return true;
}

/* SIZE bytes at ADDR, extended. 0 or what reading them gave. */
static __always_inline long bhb_read_sized(const struct bhb_piece *p, __u64 addr, __u64 *v)
{
	const __u32 size = p->size;
	__u64 raw = 0;
	long rc;

	if (!size || size > 8)
		return -1;
	rc = bpf_probe_read_user(&raw, size, (const void *)addr);
	if (p->is_signed)
		raw = (__u64)((__s64)(raw << (64 - 8 * size)) >> ((64 - 8 * size) & 63));
	*v = raw;
	return rc;
}

/* Follows the pointers from *V. */
static __always_inline long bhb_follow(const struct bhb_piece *p, __u64 *v)
{
	long rc;

	for (int i = 0; i < BHB_HOPS_MAX; i++) {
		const __u64 addr = *v + p->offset[i];
		if (i >= p->hops)
			break;
		rc = i + 1 == p->hops ? bhb_read_sized(p, addr, v)
				      : bpf_probe_read_user(v, sizeof(*v), (const void *)addr);
		if (rc)
			return rc;
	}
	return 0;
}

static __always_inline __u64 bhb_convert(const struct bhb_piece *p, __u64 v)
{
	__u64 sum = 0;

	if (p->is_ms)
		return (__s64)v < 0 ? (__u64)-1 : v * 1000000;
	if (!p->n_bits)
		return v;
	for (int i = 0; i < BHB_BITS_MAX; i++)
		if (i < p->n_bits && (!(v & p->mask[i])) == (p->inverted >> i & 1))
			sum |= p->means[i];
	return sum;
}

static __always_inline __u64 bhb_source(const struct bhb_piece *p, const struct bhb_call *call, __u64 result)
{
	__u64 v = p->value;

	for (int i = 0; i < BHB_ARGUMENTS; i++)
		if (p->from == i + 1)
			v = call->argument[i];
	return p->from == BHB_FROM_RESULT ? result : p->from == BHB_FROM_BEGIN ? call->time : v;
}

/* A value as the registers have it is as wide as its type says: the rest is anything. */
static __always_inline __u64 bhb_narrow(const struct bhb_piece *p, __u64 v)
{
	const __u32 unused = 64 - 8 * (p->size && p->size < 8 ? p->size : 8);

	return p->is_signed ? (__u64)((__s64)(v << unused) >> unused) : v << unused >> unused;
}

/* Whether bottom half BH is scheduled, as far as that can be read. */
static __always_inline bool bhb_is_set(const struct bhb_piece *flag, __u64 bh)
{
	__u64 v = bh;

	return !flag->hops || bhb_follow(flag, &v) || bhb_convert(flag, v);
}

enum bhb_cooked { BHB_NO_EVENT, BHB_EVENT, BHB_UNREADABLE };

/* *R becomes the event of the call, *TEXT its text or NULL. */
static __always_inline enum bhb_cooked bhb_cook(const struct bhb_recipe *recipe, const struct bhb_call *call,
						__u64 result, __u64 time, struct bhp_record *r, const char **text)
{
	__u64 word[4] = { time, recipe->event & 0xff, 0, 0 };

	*text = NULL;
	for (int i = 0; i < BHB_PIECES_MAX; i++) {
		const struct bhb_piece *p = &recipe->piece[i];
		__u64 v;
		if (i >= (int)recipe->n)
			break;
		v = bhb_source(p, call, result);
		if (!p->hops)
			v = bhb_narrow(p, v);
		else if (bhb_follow(p, &v))
			return BHB_UNREADABLE;
		if (p->needed && !v)
			return BHB_NO_EVENT;
		v = bhb_convert(p, v);
		if (!p->width)
			*text = (const char *)v;
		v = (v & (p->width >= 64 ? ~0ULL : (1ULL << (p->width & 63)) - 1)) << (p->shift & 63);
		for (int w = 1; w < 4; w++)
			if (p->word == w)
				word[w] |= v;
	}
	for (int w = 0; w < 4; w++)
		r->word[w] = word[w];
	return BHB_EVENT;
}

/* The function to run, of an event that makes a bottom half; 0: of any other. */
static __always_inline __u64 bhb_new_callback(const struct bhb_recipe *recipe, const struct bhp_record *r)
{
	return recipe->held && recipe->event == BHP_ID_bh_new ? bhp_get_ARG(r) : 0;
}

/* --- the programs ----------------------------------------------------------------------- */

/* What is done with RECIPE's event, at TIME; each object that includes this has its own. */
static __always_inline void bhb_carry_out(const struct bhb_recipe *recipe, const struct bhb_call *call, __u64 result,
					  __u64 time);

SEC("uprobe")
int entered(struct pt_regs *ctx)
{
	__u32 number;
	const struct bhb_recipe *r = bhb_recipe(ctx, &number);

	if (!r)
		return 0;
	const struct bhb_call call = bhb_called(ctx);
	if (r->remember)
		bhb_remember(ctx, r, &call);
	if (r->event)
		bhb_carry_out(r, &call, 0, call.time);
	return 0;
}

SEC("uretprobe")
int returned(struct pt_regs *ctx)
{
	struct bhb_call call;
	__u32 number;
	const struct bhb_recipe *r = bhb_recipe(ctx, &number);

	if (r && bhb_recall(ctx, number, &call))
		bhb_carry_out(r, &call, PT_REGS_RC(ctx), bpf_ktime_get_ns());
	return 0;
}

#endif
