/* SPDX-License-Identifier: MIT */
/*
 * What capture.c loads: each event of our processes goes into one ring, and nobody is
 * woken for it; their life goes into another one, which is waited for.
 */
#include "handlers.bpf.h"
#include "kernel.bpf.h"
#include "recipe.bpf.h"

/* Filled in before it is loaded. */
const volatile bool everybody;
const volatile bool calls;     /* events of system calls are wanted */
const volatile bool has_state; /* sched_switch has the state as its fourth argument */
const volatile __u8 shape_of[BHB_CALLS_MAX];

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 << 10);
} lives SEC(".maps");

/* The system call that a thread is in. */
struct in_call {
	__u8 shape; /* 0: none that is looked at */
	__u8 call;
	__s32 fd;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct in_call);
} in_calls SEC(".maps");

static __always_inline void count_dropped(void)
{
	struct bhb_counts *c = bhb_counts();

	if (!c)
		return;
	c->dropped++;
	c->dropped_ns = bpf_ktime_get_ns();
}

static __always_inline void put(struct bhp_record r, __u32 tid, __u32 tgid)
{
	struct bhb_wire *w = bpf_ringbuf_reserve(&records, sizeof(*w), 0);

	if (!w) {
		count_dropped();
		return;
	}
	*w = (struct bhb_wire){ r, tid, tgid };
	bpf_ringbuf_submit(w, BPF_RB_NO_WAKEUP);
}

static __always_inline void put_text(struct bhp_record r, __u64 id, const char *text)
{
	struct bhb_wire_text *w = bpf_ringbuf_reserve(&records, sizeof(*w), 0);

	if (!w) {
		count_dropped();
		return;
	}
	w->w = (struct bhb_wire){ r, (__u32)id, id >> 32 };
	if (!text || bpf_probe_read_user_str(w->text, BHP_TEXT_MAX + 1, text) < 0)
		w->text[0] = '\0';
	bpf_ringbuf_submit(w, BPF_RB_NO_WAKEUP);
}

/* --- probes of the process --- */

#define BHP_F(slot, kind, name, doc) +_Generic((BHP_C_##kind)0, const char * : 1, default : 0)
#define BHP_EVENT(number, name, fields, doc)                                                                           \
	SEC("usdt") int on_##name(struct pt_regs *ctx)                                                                 \
	{                                                                                                              \
		struct bhp_##name e;                                                                                   \
		const __u64 id = bpf_get_current_pid_tgid();                                                           \
		__u64 time;                                                                                            \
		if (!bhb_hit())                                                                                        \
			return 0;                                                                                      \
		time = bhb_fetch_##name(ctx, &e);                                                                      \
		if (0 fields)                                                                                          \
			put_text(bhp_encode_##name(time, &e), id, bhp_text_of_##name(&e));                             \
		else                                                                                                   \
			put(bhp_encode_##name(time, &e), (__u32)id, id >> 32);                                         \
		return 0;                                                                                              \
	}
#include "events.def.h"
#undef BHP_F

/* --- life of processes --- */

/* FLAGS: of a process that is to stop, if it is gated, until somebody has looked at it. Not when the
 * record is lost: nobody would. */
static __always_inline void tell(enum bhb_life what, __u32 tgid, __u32 other, __u32 more, __u32 flags)
{
	struct bhb_wire *w = bpf_ringbuf_reserve(&lives, sizeof(*w), 0);

	if (!w) {
		count_dropped();
		return;
	}
	*w = (struct bhb_wire){ { { bpf_ktime_get_ns(), what, (__u64)more << 32 | other, 0 } },
				bpf_get_current_pid_tgid(),
				tgid };
	/* first the signal, so that the SIGCONT in answer to the record is later */
	if (flags & BHB_GATED) {
		flags |= BHB_STOPPED_BY_US;
		bpf_map_update_elem(&targets, &tgid, &flags, BPF_EXIST);
		bpf_send_signal(19 /* SIGSTOP */);
	}
	bpf_ringbuf_submit(w, BPF_RB_FORCE_WAKEUP);
}

SEC("tp_btf/sched_process_fork")
int forked(__u64 *ctx)
{
	const struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	const __u32 tgid = child->tgid, flags = bhb_target(parent->tgid) & ~BHB_STOPPED_BY_US;

	if (child->pid != child->tgid || !flags)
		return 0;
	bpf_map_update_elem(&targets, &tgid, &flags, BPF_ANY);
	tell(BHB_FORKED, parent->tgid, tgid, child->mm == parent->mm, 0);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int executed(__u64 *ctx)
{
	const __u32 tgid = bpf_get_current_pid_tgid() >> 32, flags = bhb_target(tgid);

	if (flags || everybody)
		tell(BHB_EXECUTED, tgid, 0, 0, flags);
	return 0;
}

/* Threads that exit at once may all see that none is left: it is told more than once then. */
SEC("tp_btf/sched_process_exit")
int exited(__u64 *ctx)
{
	const struct task_struct *task = (void *)ctx[0];
	const __u32 tgid = task->tgid;

	if (!bhb_target(tgid))
		return 0;
	if (!task->signal->live.counter) {
		bpf_map_delete_elem(&targets, &tgid);
		tell(BHB_EXITED, tgid, 0, 0, 0);
	} else if (task->pid == task->tgid && !(task->signal->flags & BHB_GROUP_EXIT)) {
		tell(BHB_HEADLESS, tgid, 0, 0, 0);
	}
	return 0;
}

/* --- functions of loops that have no probes (recipe.h) --- */

/* Its callback gets its probes before it is scheduled, where the process can be stopped for that. */
static __always_inline void hold(__u64 callback, __u32 tgid)
{
	const struct bhb_known key = { .callback = callback, .tgid = tgid };

	if (!bpf_map_lookup_elem(&known, &key))
		tell(BHB_MADE, tgid, 0, 0, bhb_target(tgid));
}

static __always_inline void bhb_carry_out(const struct bhb_recipe *r, const struct bhb_call *call, __u64 result,
					  __u64 time)
{
	const __u64 id = bpf_get_current_pid_tgid();
	const __u32 tgid = (__u32)(id >> 32) | BHB_IN_NS;
	struct bhp_record record;
	const char *text;
	enum bhb_cooked cooked = bhb_cook(r, call, result, time, &record, &text);

	if (cooked == BHB_NO_EVENT)
		return;
	if (cooked == BHB_UNREADABLE)
		count_dropped();
	else if (text)
		put_text(record, (__u64)tgid << 32 | (__u32)id, text);
	else
		put(record, (__u32)id, tgid);
	const __u64 callback = bhb_new_callback(r, &record);
	if (cooked == BHB_EVENT && callback)
		hold(callback, id >> 32);
}

/* --- scheduler --- */

SEC("tp_btf/sched_waking")
int waking(__u64 *ctx)
{
	const struct task_struct *task = (void *)ctx[0];

	if (bhb_target(task->tgid) & BHB_TARGET)
		put(bhp_encode_waking(bpf_ktime_get_ns(),
				      &(struct bhp_waking){ .waker = (__u32)bpf_get_current_pid_tgid(),
							    .cpu = bpf_get_smp_processor_id() }),
		    task->pid, task->tgid);
	return 0;
}

static __always_inline __u8 why_switched(const __u64 *ctx, const struct task_struct *task)
{
	__u64 state;

	if (has_state)
		state = (__u32)ctx[3];
	else if (bpf_core_field_exists(task->__state))
		state = task->__state;
	else
		state = ((const struct task_struct___state *)task)->state;
	if ((bool)ctx[0] || !state)
		return BHP_PREEMPTED;
	if (state & BHB_DEAD)
		return BHP_GONE;
	if (state & BHB_STOPPED)
		return BHP_HALTED;
	return state & BHB_SLEEPING ? BHP_UNINTERRUPTIBLE : BHP_ASLEEP;
}

SEC("tp_btf/sched_switch")
int switched(__u64 *ctx)
{
	const struct task_struct *before = (void *)ctx[1], *after = (void *)ctx[2];
	const __u32 cpu = bpf_get_smp_processor_id();
	const __u64 now = bpf_ktime_get_ns();

	if (bhb_target(before->tgid) & BHB_TARGET)
		put(bhp_encode_switch_out(now, &(struct bhp_switch_out){ .why = why_switched(ctx, before),
									 .after = after->pid,
									 .cpu = cpu }),
		    before->pid, before->tgid);
	if (bhb_target(after->tgid) & BHB_TARGET)
		put(bhp_encode_switch_in(now, &(struct bhp_switch_in){ .before = before->pid, .cpu = cpu }), after->pid,
		    after->tgid);
	return 0;
}

/* --- system calls --- */

/* A timeout in user memory; -1: none. */
static __always_inline __s64 timeout_at(__u64 address)
{
	struct {
		__s64 s, ns;
	} t = { 0, 0 };

	if (!address)
		return -1;
	bpf_probe_read_user(&t, sizeof(t), (void *)address);
	return t.s * 1000000000 + t.ns;
}

static __always_inline __s64 timeout_ms(int ms)
{
	return ms < 0 ? -1 : ms * 1000000ll;
}

static __always_inline __u8 futex_call(__u32 operation)
{
	switch (operation & 127) { /* <linux/futex.h> */
	case 0:                    /* FUTEX_WAIT */
	case 6:                    /* FUTEX_LOCK_PI */
	case 9:                    /* FUTEX_WAIT_BITSET */
	case 11:                   /* FUTEX_WAIT_REQUEUE_PI */
	case 13:                   /* FUTEX_LOCK_PI2 */
		return BHP_CALL_FUTEX_WAIT;
	case 1:  /* FUTEX_WAKE */
	case 3:  /* FUTEX_REQUEUE */
	case 4:  /* FUTEX_CMP_REQUEUE */
	case 5:  /* FUTEX_WAKE_OP */
	case 7:  /* FUTEX_UNLOCK_PI */
	case 10: /* FUTEX_WAKE_BITSET */
	case 12: /* FUTEX_CMP_REQUEUE_PI */
		return BHP_CALL_FUTEX_WAKE;
	}
	return 0;
}

/* What is to be said of the call; false: nothing. */
static __always_inline bool look_at_call(__u8 shape, const struct pt_regs___call *regs, struct bhp_call_begin *e)
{
	e->fd = -1;
	switch (shape) {
	case BHB_SHAPE_READ:
	case BHB_SHAPE_WRITE:
		e->call = shape == BHB_SHAPE_READ ? BHP_CALL_READ : BHP_CALL_WRITE;
		e->fd = (int)BHB_ARG1(regs);
		if (shape == BHB_SHAPE_WRITE)
			bpf_probe_read_user(&e->arg, sizeof(e->arg), (void *)BHB_ARG2(regs));
		return BHB_ARG3(regs) == 8 || (shape == BHB_SHAPE_READ && BHB_ARG3(regs) == BHB_READ_MORE);
	case BHB_SHAPE_POLL_MS3:
		e->arg = timeout_ms((int)BHB_ARG3(regs));
		break;
	case BHB_SHAPE_POLL_TS3:
		e->arg = timeout_at(BHB_ARG3(regs));
		break;
	case BHB_SHAPE_EPOLL_MS:
		e->fd = (int)BHB_ARG1(regs);
		e->arg = timeout_ms((int)BHB_ARG4(regs));
		break;
	case BHB_SHAPE_EPOLL_TS:
		e->fd = (int)BHB_ARG1(regs);
		e->arg = timeout_at(BHB_ARG4(regs));
		break;
	case BHB_SHAPE_FUTEX:
		e->call = futex_call((__u32)BHB_ARG2(regs));
		e->arg = (__s64)BHB_ARG1(regs);
		return e->call;
	default:
		return false;
	}
	e->call = BHP_CALL_POLL;
	return true;
}

/* Files that are mapped to be executed: PROT_EXEC, not MAP_ANONYMOUS. */
static __always_inline bool maps_code(const struct pt_regs___call *regs)
{
	return (BHB_ARG3(regs) & 4) && !(BHB_ARG4(regs) & 0x20);
}

SEC("tp_btf/sys_enter")
int call_entered(__u64 *ctx)
{
	const struct pt_regs___call *regs = (void *)ctx[0];
	const __u64 number = ctx[1], id = bpf_get_current_pid_tgid();
	struct bhp_call_begin e = { .cpu = bpf_get_smp_processor_id() };
	struct in_call *in;
	__u8 shape;

	if (number >= BHB_CALLS_MAX || !(shape = shape_of[number]) || (!everybody && !bhb_target(id >> 32)))
		return 0;
	if (shape == BHB_SHAPE_MMAP ? !maps_code(regs) : !calls || !look_at_call(shape, regs, &e))
		return 0;
	in = bpf_task_storage_get(&in_calls, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!in) {
		count_dropped();
		return 0;
	}
	*in = (struct in_call){ shape, e.call, e.fd };
	if (e.call && bhb_target(id >> 32) & BHB_TARGET)
		put(bhp_encode_call_begin(bpf_ktime_get_ns(), &e), (__u32)id, id >> 32);
	return 0;
}

SEC("tp_btf/sys_exit")
int call_left(__u64 *ctx)
{
	const __s64 result = (__s64)ctx[1];
	const __u64 id = bpf_get_current_pid_tgid();
	const __u32 flags = bhb_target(id >> 32);
	struct in_call *in;

	if (!flags && !everybody)
		return 0;
	in = bpf_task_storage_get(&in_calls, bpf_get_current_task_btf(), NULL, 0);
	if (!in || !in->shape)
		return 0;
	if (in->shape == BHB_SHAPE_MMAP && (result >= 0 || result < -4095))
		tell(BHB_MAPPED, id >> 32, 0, 0, flags);
	else if (in->shape != BHB_SHAPE_MMAP && flags & BHB_TARGET)
		put(bhp_encode_call_end(bpf_ktime_get_ns(), &(struct bhp_call_end){ .call = in->call,
										    .fd = in->fd,
										    .cpu = bpf_get_smp_processor_id(),
										    .result = result }),
		    (__u32)id, id >> 32);
	in->shape = BHB_SHAPE_NONE;
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
