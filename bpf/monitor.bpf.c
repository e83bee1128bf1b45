/* SPDX-License-Identifier: MIT */
/*
 * monitor.bpf.c - bottom halves and loops as counters, no events
 *
 * Probes run when the kernel comes to it, not in the order of what they tell: a
 * producer may be preempted between its exchange and the probe. So everything is
 * decided by the times of the records, and nothing takes a lock: a time only grows,
 * by compare-and-exchange where several threads write it, and whether something
 * waits follows from the times alone (bhb_waits()). Where a schedule lies within an
 * execution, times cannot say on which side of the clear: the flag itself is read.
 */
#include "handlers.bpf.h"
#include "monitor_map.h"
#include "recipe.bpf.h"

enum { TRIES = 8, TICK_SHIFT = 20, LOOKS_PER_S = 20, FLAGS_AT = 4 /* struct bhp_bh_object */ };
enum { RESCUED_NS = 100000000, STALE_NS = 200000000, TURNS_NS = 100000000 };

const volatile bool everybody;
const volatile __u64 overdue_ns, overdue_turns, slack_ticks;
const volatile __u64 ns_mult; /* of ticks, for TICK_SHIFT */
/* Ticks of an event by a recipe, whose time is in ns: one instant, and ticks of a ns for TICK_SHIFT. */
__u64 at_ns, at_ticks, ticks_mult;
const struct bhb_bh no_bh;
const struct bhb_loop no_loop;
/* Entries of both maps. User space removes some, too. */
__u64 inserted, deleted, refused, evicted;
__u64 n_told;

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct bhb_key);
	__type(value, struct bhb_bh);
} bhs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct bhb_key);
	__type(value, struct bhb_loop);
} loops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} told SEC(".maps");

/* The place of a field among the arguments: only those that are needed are fetched. */
#define BHP_F(slot, kind, name, doc) char name;
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	struct at_##name {                                                                                             \
		fields char time;                                                                                      \
	};
#include "events.def.h"
#undef BHP_F

#define ARG(event, field) bhb_arg(&args, __builtin_offsetof(struct at_##event, field))

/* Whether the probe is one of ours; counts it. */
static __always_inline bool hit(void)
{
	struct bhb_counts *c;

	if (!everybody)
		return bhb_hit();
	c = bhb_counts();
	if (c)
		c->hits++;
	return true;
}

static __always_inline struct bhb_key key_of(__u64 addr)
{
	return (struct bhb_key){ .tgid = bpf_get_current_pid_tgid() >> 32, .addr = addr };
}

/* The entry of KEY, a new one when there is none. */
static __always_inline void *entry(void *map, const struct bhb_key *key, const void *empty)
{
	void *e = bpf_map_lookup_elem(map, key);

	if (e)
		return e;
	if (!bpf_map_update_elem(map, key, empty, BPF_NOEXIST))
		__sync_fetch_and_add(&inserted, 1);
	e = bpf_map_lookup_elem(map, key);
	if (!e)
		__sync_fetch_and_add(&refused, 1);
	return e;
}

static __always_inline void drop(void *map, const struct bhb_key *key)
{
	if (!bpf_map_lookup_elem(map, key))
		return;
	/* Before it is gone: the look must never miss it in both places. */
	__sync_fetch_and_add(&deleted, 1);
	if (bpf_map_delete_elem(map, key))
		__sync_fetch_and_add(&deleted, -1);
}

/* *AT becomes TIME when that is later. Gives what it was, or 0: it was later. */
static __always_inline __u64 advance(uint64_t *at, uint64_t time)
{
	__u64 old = *(volatile __u64 *)at;

#pragma unroll
	for (int i = 0; i < TRIES; i++) {
		if (old >= time)
			return 0;
		const __u64 seen = __sync_val_compare_and_swap(at, old, time);
		if (seen == old)
			return old;
		old = seen;
	}
	return 0;
}

/* Whether a schedule is outstanding, as far as that can be read. FLAG: where, when it is no bottom half of libbh. */
static __always_inline bool is_set(__u64 bh, const struct bhb_piece *flag)
{
	__u32 flags;

	if (flag)
		return bhb_is_set(flag, bh);
	return bpf_probe_read_user(&flags, sizeof(flags), (const void *)(bh + FLAGS_AT)) || flags & BHP_FLAG_SCHEDULED;
}

static __always_inline __u64 to_ns(__u64 ticks)
{
	return (ticks >> 40 ? 1ULL << 40 : ticks) * ns_mult >> TICK_SHIFT;
}

static __always_inline __u32 bucket_of(__u64 v)
{
	__u32 n = 0;

	if (v >> 32) {
		v >>= 32;
		n += 32;
	}
	if (v >> 16) {
		v >>= 16;
		n += 16;
	}
	if (v >> 8) {
		v >>= 8;
		n += 8;
	}
	if (v >> 4) {
		v >>= 4;
		n += 4;
	}
	if (v >> 2) {
		v >>= 2;
		n += 2;
	}
	n += v >> 1;
	return n < BHB_BUCKETS ? n : BHB_BUCKETS - 1;
}

static __always_inline void waited(struct bhb_bh *b, struct bhb_loop *l, __u64 ticks)
{
	const __u64 ns = to_ns(ticks);
	const __u32 n = bucket_of(ns);

	__sync_fetch_and_add(&b->bucket[n], 1);
	if (b->worst_ns < ns)
		b->worst_ns = ns;
	if (!l)
		return;
	__sync_fetch_and_add(&l->bucket[n], 1);
	__sync_fetch_and_add(&l->sum_ns, ns);
}

/* What a handler asks for: arguments of a probe, or what a recipe made. */
struct call {
	__u64 loop, bh, name, seen, kind, begin, timeout_ns, woke, time;
	const struct bhb_piece *flag; /* of a recipe */
};

/* A USDT probe of EVENT, with what its handler asks for. */
#define PROBE(event, ...)                                                                                              \
	SEC("usdt") int event(struct pt_regs *ctx)                                                                     \
	{                                                                                                              \
		struct bhb_args args;                                                                                  \
		if (!hit())                                                                                            \
			return 0;                                                                                      \
		bhb_args(ctx, &args);                                                                                  \
		on_##event(&(struct call){ __VA_ARGS__ });                                                             \
		return 0;                                                                                              \
	}

/* --- objects ------------------------------------------------------------------------- */

static __always_inline void on_loop_new(const struct call *a)
{
	struct bhb_loop *l;

	const struct bhb_key key = key_of(a->loop);
	drop(&loops, &key);
	l = entry(&loops, &key, &no_loop);
	if (l)
		bpf_probe_read_user_str(l->name, sizeof(l->name), (const void *)a->name);
}

PROBE(loop_new, .loop = ARG(loop_new, loop), .name = ARG(loop_new, name))

static __always_inline void on_loop_free(const struct call *a)
{
	const struct bhb_key key = key_of(a->loop);
	drop(&loops, &key);
}

PROBE(loop_free, .loop = ARG(loop_free, loop))

static __always_inline void on_bh_new(const struct call *a)
{
	struct bhb_bh *b;

	const struct bhb_key key = key_of(a->bh);
	drop(&bhs, &key);
	b = entry(&bhs, &key, &no_bh);
	if (!b)
		return;
	b->loop = a->loop;
	bpf_probe_read_user_str(b->name, sizeof(b->name), (const void *)a->name);
}

PROBE(bh_new, .bh = ARG(bh_new, bh), .loop = ARG(bh_new, loop), .name = ARG(bh_new, name))

static __always_inline void on_bh_delete(const struct call *a)
{
	const struct bhb_key key = key_of(a->bh);
	drop(&bhs, &key);
}

PROBE(bh_delete, .bh = ARG(bh_delete, bh))

/* --- the flag ------------------------------------------------------------------------- */

static __always_inline void on_schedule(const struct call *a)
{
	struct bhb_bh *b;

	const struct bhb_key key = key_of(a->bh);
	const __u64 time = a->time;
	b = entry(&bhs, &key, &no_bh);
	if (!b)
		return;
	if (!b->loop)
		b->loop = a->loop;
	__sync_fetch_and_add(&b->schedules, 1);
	if ((__u8)a->seen) {
		__sync_fetch_and_add(&b->coalesced, 1);
		advance(&b->joined, time);
		return;
	}
	b->kind = (__u8)a->kind;
	const __u64 before = advance(&b->effective, time);
	if (before)
		b->before = before;
	/*
	 * Before or after the clear of an execution that was told already? The exchange in advance()
	 * pairs with the one of b->ended in execute_end(): one of the two sees the other.
	 */
	if (time > b->served && time <= *(volatile __u64 *)&b->ended && !is_set(key.addr, a->flag)) {
		waited(b, NULL, 0);
		advance(&b->served, time);
	}
}

PROBE(schedule, .bh = ARG(schedule, bh), .kind = ARG(schedule, kind), .loop = ARG(schedule, loop),
      .seen = ARG(schedule, seen), .time = ARG(schedule, time))

/* It had waited while the loop slept, and what ended that was no notification. */
static __always_inline bool is_rescue(const struct bhb_bh *b, const struct bhb_loop *l, __u64 scheduled)
{
	const __u64 from = scheduled > l->slept ? scheduled : l->slept;

	return b->kind != BHP_KIND_IDLE && !(l->woke & BHP_WOKE_NOTIFIER) && l->waked > from &&
	       to_ns(l->waked - from) >= RESCUED_NS;
}

static __always_inline void on_execute_end(const struct call *a)
{
	struct bhb_bh *b;
	struct bhb_loop *l;

	const struct bhb_key key = key_of(a->bh), of_loop = key_of(a->loop);
	const __u64 begin = a->begin, end = a->time;
	/* Not made here: it may have deleted itself. */
	b = bpf_map_lookup_elem(&bhs, &key);
	if (!b)
		return;
	l = entry(&loops, &of_loop, &no_loop);
	__sync_fetch_and_add(&b->executions, 1);
	advance(&b->ended, end);

	const __u64 last = *(volatile __u64 *)&b->effective, before = b->before, served = b->served;
	const bool later = last > begin, set = later && is_set(key.addr, a->flag);
	const __u64 mine = later ? before : last; /* that it served, unless that was another one's */
	if (mine > served && mine <= begin) {
		waited(b, l, begin - mine);
		if (l && is_rescue(b, l, mine)) {
			__sync_fetch_and_add(&b->rescued, 1);
			__sync_fetch_and_add(&l->rescued, 1);
		}
	} else if (later && last > served && !set) {
		waited(b, l, 0); /* between the stamp and the clear */
	}
	advance(&b->served, later && !set ? end : begin);
	advance(&b->cleared, begin > slack_ticks ? begin - slack_ticks : 0);
}

PROBE(execute_end, .begin = ARG(execute_end, begin), .bh = ARG(execute_end, bh), .loop = ARG(execute_end, loop),
      .time = ARG(execute_end, time))

static __always_inline void on_bh_cancel(const struct call *a)
{
	struct bhb_bh *b;

	const struct bhb_key key = key_of(a->bh);
	const __u64 time = a->time;
	b = bpf_map_lookup_elem(&bhs, &key);
	if (!b)
		return;
	__sync_fetch_and_add(&b->cancels, 1);
	if (!is_set(key.addr, a->flag)) {
		advance(&b->served, time);
		advance(&b->cleared, time);
	}
}

PROBE(bh_cancel, .bh = ARG(bh_cancel, bh), .time = ARG(bh_cancel, time))

/* --- the loop: one thread at a time ------------------------------------------------------ */

static __always_inline void on_poll_begin(const struct call *a)
{
	struct bhb_loop *l;

	const struct bhb_key key = key_of(a->loop);
	l = entry(&loops, &key, &no_loop);
	if (!l)
		return;
	l->turns++;
	l->tid = (__u32)bpf_get_current_pid_tgid();
}

PROBE(poll_begin, .loop = ARG(poll_begin, loop))

static __always_inline void on_wait_begin(const struct call *a)
{
	struct bhb_loop *l;

	const struct bhb_key key = key_of(a->loop);
	l = entry(&loops, &key, &no_loop);
	if (!l)
		return;
	l->sleeps++;
	l->timeout_ns = (__s64)a->timeout_ns;
	l->slept = a->time;
	l->waked = 0;
}

PROBE(wait_begin, .loop = ARG(wait_begin, loop), .time = ARG(wait_begin, time),
      .timeout_ns = ARG(wait_begin, timeout_ns))

static __always_inline void on_wait_end(const struct call *a)
{
	struct bhb_loop *l;

	const struct bhb_key key = key_of(a->loop);
	l = bpf_map_lookup_elem(&loops, &key);
	if (!l)
		return;
	l->woke = (__u8)a->woke;
	l->waked = a->time;
}

PROBE(wait_end, .loop = ARG(wait_end, loop), .time = ARG(wait_end, time), .woke = ARG(wait_end, woke))

/* --- processes ------------------------------------------------------------------------------ */

struct task_struct {
	int tgid;
} __attribute__((preserve_access_index));

/* Wakes user space. Whether it could. */
static __always_inline bool tell(__u32 what, const struct bhb_key *key, __u64 ns)
{
	struct bhb_told *t = bpf_ringbuf_reserve(&told, sizeof(*t), 0);

	if (!t)
		return false;
	*t = (struct bhb_told){ .what = what, .key = *key, .ns = ns };
	bpf_ringbuf_submit(t, BPF_RB_FORCE_WAKEUP);
	__sync_fetch_and_add(&n_told, 1);
	return true;
}

SEC("raw_tp/sched_process_fork")
int forked(struct bpf_raw_tracepoint_args *ctx)
{
	const struct task_struct *parent = (const void *)ctx->args[0], *child = (const void *)ctx->args[1];
	const __u32 tgid = BPF_CORE_READ(parent, tgid), new_tgid = BPF_CORE_READ(child, tgid);
	const __u32 flags = bhb_target(tgid);

	if (!flags || tgid == new_tgid)
		return 0;
	bpf_map_update_elem(&targets, &new_tgid, &flags, BPF_ANY);
	tell(BHB_FORKED, &(struct bhb_key){ .tgid = tgid, .addr = new_tgid }, bpf_ktime_get_ns());
	return 0;
}

SEC("raw_tp/sched_process_exec")
int executed(struct bpf_raw_tracepoint_args *ctx)
{
	const struct bhb_key key = key_of(0);

	if (bhb_target(key.tgid))
		tell(BHB_EXECUTED, &key, bpf_ktime_get_ns());
	return 0;
}

#include "monitor_recipe.bpf.h"

/* --- what is overdue ------------------------------------------------------------------------- */

static __always_inline __u64 turns_of(const struct bhb_key *key, const struct bhb_bh *b)
{
	const struct bhb_key of_loop = { .tgid = key->tgid, .addr = b->loop };
	const struct bhb_loop *l = bpf_map_lookup_elem(&loops, &of_loop);

	return l ? l->turns : 0;
}

/* Why B, which has waited for NS, is overdue; 0: it is not. */
static __always_inline __u32 overdue(const struct bhb_key *key, const struct bhb_bh *b, __u64 ns, bool waits)
{
	if (!waits)
		return ns > STALE_NS ? BHB_STALE : 0;
	if (ns > overdue_ns)
		return BHB_PENDING_LONG;
	return ns > TURNS_NS && turns_of(key, b) > b->turn + overdue_turns ? BHB_PENDING_TURNS : 0;
}

struct bpf_map;

static long look_at(struct bpf_map *map, const struct bhb_key *key, struct bhb_bh *b, const __u64 *now)
{
	const __u64 waits = bhb_waits(b), time = waits ? waits : bhb_stale(b);
	const __u64 rescued = b->rescued;

	if (rescued != b->told_rescued && tell(BHB_RESCUED, key, 0))
		b->told_rescued = rescued;
	if (!time)
		return 0;
	if (time != b->watched) {
		b->watched = time;
		b->since_ns = *now;
		b->turn = turns_of(key, b);
		b->told_ns = 0;
		return 0;
	}
	const __u64 ns = *now - b->since_ns;
	/* Again when it has waited for twice as long: the first look may have been too early. */
	const __u32 why = ns / 2 < b->told_ns ? 0 : overdue(key, b, ns, waits);
	if (why && tell(why, key, ns))
		b->told_ns = ns;
	return 0;
}

static long count_it(struct bpf_map *map, const void *key, void *value, void *unused)
{
	return 0;
}

/* Once a second: entries that were made and are not there, as far as that is sure meanwhile. */
SEC("perf_event")
int look(void *ctx)
{
	static __u32 looks;
	const __u64 made = *(volatile __u64 *)&inserted;
	__u64 now = bpf_ktime_get_ns();
	long n = bpf_for_each_map_elem(&bhs, look_at, &now, 0);

	if (++looks % LOOKS_PER_S)
		return 0;
	n += bpf_for_each_map_elem(&loops, count_it, &now, 0);
	const __u64 there = n + *(volatile __u64 *)&deleted;
	if (n >= 0 && made > there + evicted)
		evicted = made - there;
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
