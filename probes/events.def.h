/* SPDX-License-Identifier: MIT */
/*
 * The event schema. This list is the only place where an event, its fields and
 * their kinds are written. Flight-recorder records, USDT probes, the decoder's
 * field table and the table in docs/events.md are all expanded from it.
 *
 *   BHP_EVENT(number, name, fields, doc)  an event with a USDT probe
 *   BHP_MARK (number, name, fields, doc)  written by the recorder itself
 *   BHP_KERNEL(number, name, fields, doc) seen by the kernel; a BHP_MARK where that is
 *                                         all the same
 *   BHP_F(slot, kind, name, doc)          a field; slots are in record.h
 *
 * Numbers are append-only: they are on disk and in cores. There is no include
 * guard, because the file is included once for each thing made from it.
 *
 * No field may be called "ctx" (libbpf's BPF_USDT declares it), and no event
 * may have more than 9 fields (LTTng-UST takes 10 arguments). A USDT probe has one
 * argument more, behind its fields: the time of the record, in ticks.
 */

#ifndef BHP_EVENT
#define BHP_EVENT(number, name, fields, doc)
#endif
#ifndef BHP_MARK
#define BHP_MARK(number, name, fields, doc)
#endif
#ifndef BHP_KERNEL
#define BHP_KERNEL BHP_MARK
#endif

/* clang-format off */
BHP_EVENT(1, loop_new,
	BHP_F(LOOP, ptr, loop,        "loop")
	BHP_F(T0,   u8,  protocol,    "what it states of its protocol (enum bhp_protocol, bits)")
	BHP_F(LO2,  i32, notifier_fd, "eventfd that wakes it")
	BHP_F(TEXT, str, name,        "name given by the program"),
	"an event loop was created")

BHP_EVENT(2, loop_free,
	BHP_F(LOOP, ptr, loop, "loop"),
	"an event loop is about to be freed")

BHP_EVENT(3, bh_new,
	BHP_F(LOOP, ptr, loop,     "loop that will run it")
	BHP_F(BH,   ptr, bh,       "bottom half")
	BHP_F(ARG,  ptr, callback, "function it runs")
	BHP_F(TEXT, str, name,     "name given by the program"),
	"a bottom half was created")

BHP_EVENT(4, bh_delete,
	BHP_F(LOOP, ptr, loop,  "loop")
	BHP_F(BH,   ptr, bh,    "bottom half")
	BHP_F(T0,   u8,  flags, "flag word before (enum bhp_flag)"),
	"a bottom half was deleted; its loop frees it later")

BHP_EVENT(5, bh_cancel,
	BHP_F(LOOP, ptr, loop,  "loop")
	BHP_F(BH,   ptr, bh,    "bottom half")
	BHP_F(T0,   u8,  flags, "flag word before (enum bhp_flag)"),
	"a pending schedule was withdrawn")

BHP_EVENT(6, schedule,
	BHP_F(LOOP, ptr, loop,   "loop")
	BHP_F(BH,   ptr, bh,     "bottom half")
	BHP_F(T0,   u8,  seen,   "flag seen: 0 effective, 1 coalesced")
	BHP_F(T1,   u8,  kind,   "enum bhp_schedule_kind")
	BHP_F(HALF, u16, took,   "clock ticks from begin to end, 0 when not measured")
	BHP_F(ARG,  u64, ticket, "work announced, 0 for none"),
	"the flag was exchanged for 1; the time is the end of the exchange")

BHP_EVENT(7, notify,
	BHP_F(LOOP, ptr, loop,      "loop")
	BHP_F(BH,   ptr, bh,        "bottom half it is for, NULL for any other reason")
	BHP_F(T0,   u8,  notify_me, "notify_me seen (enum bhp_notify_me)")
	BHP_F(T1,   u8,  written,   "1 when this call wrote the eventfd, 2 when the write failed"),
	"a scheduler looked whether the loop must be woken")

BHP_EVENT(8, accept,
	BHP_F(LOOP, ptr, loop,  "loop")
	BHP_F(T0,   u8,  by,    "who cleared the notifier (enum bhp_accept_by)")
	BHP_F(ARG2, u64, value, "eventfd count that was read"),
	"the notifier was cleared")

BHP_EVENT(9, execute_begin,
	BHP_F(LOOP, ptr, loop,     "loop")
	BHP_F(BH,   ptr, bh,       "bottom half")
	BHP_F(ARG,  ptr, callback, "function about to run"),
	"about to clear the flag and run the callback; stamped with the loop's last event")

BHP_EVENT(10, execute_end,
	BHP_F(LOOP, ptr,  loop,  "loop")
	BHP_F(BH,   ptr,  bh,    "bottom half")
	BHP_F(ARG,  time, begin, "time of execute_begin; the clear lies in [begin, end]"),
	"the callback returned")

BHP_EVENT(11, poll_begin,
	BHP_F(LOOP, ptr, loop,      "loop")
	BHP_F(T0,   u8,  blocking,  "1 when the poll may sleep")
	BHP_F(T1,   u8,  depth,     "1 outermost, 2 and more nested; 15 stands for 15 or more")
	BHP_F(ARG2, u64, iteration, "number of this poll"),
	"one turn of the loop begins")

BHP_EVENT(12, poll_end,
	BHP_F(LOOP, ptr, loop,      "loop")
	BHP_F(T0,   u8,  progress,  "1 when anything ran")
	BHP_F(T1,   u8,  depth,     "as in poll_begin")
	BHP_F(ARG2, u64, iteration, "as in poll_begin"),
	"one turn of the loop ended")

BHP_EVENT(13, wait_begin,
	BHP_F(LOOP, ptr, loop,       "loop")
	BHP_F(ARG2, i64, timeout_ns, "longest sleep in ns, -1 for ever"),
	"the loop found nothing pending and goes to sleep")

BHP_EVENT(14, wait_end,
	BHP_F(LOOP, ptr, loop,  "loop")
	BHP_F(T0,   u8,  woke,  "why it woke (enum bhp_woke, bits)")
	BHP_F(LO2,  i32, fd,    "first other file descriptor that was ready, -1 for none")
	BHP_F(HI2,  u32, ready, "number of ready file descriptors"),
	"the loop woke")

BHP_EVENT(15, consume,
	BHP_F(LOOP, ptr, loop,   "loop")
	BHP_F(BH,   ptr, bh,     "bottom half")
	BHP_F(ARG,  u64, ticket, "work that the callback has seen"),
	"the callback says which announced work it handled")

BHP_MARK(16, thread,
	BHP_F(LO2,  u32, tid,      "thread that writes from here on")
	BHP_F(HI2,  u32, previous, "thread that wrote before, 0 for none")
	BHP_F(TEXT, str, name,     "thread name"),
	"a thread took over this ring")

BHP_KERNEL(17, waking,
	BHP_F(LO2,  u32, waker, "thread that wakes it, or that was interrupted for it")
	BHP_F(HI2,  u32, cpu,   "processor on which that happens"),
	"the thread is made runnable")

BHP_KERNEL(18, switch_in,
	BHP_F(LO2,  u32, before, "thread that had the processor, 0 when it was idle")
	BHP_F(HI2,  u32, cpu,    "processor"),
	"the thread gets a processor")

BHP_KERNEL(19, switch_out,
	BHP_F(T0,   u8,  why,   "enum bhp_switched")
	BHP_F(LO2,  u32, after, "thread that gets the processor, 0 when it becomes idle")
	BHP_F(HI2,  u32, cpu,   "processor"),
	"the thread leaves its processor")

BHP_KERNEL(20, call_begin,
	BHP_F(T0,   u8,  call, "enum bhp_call")
	BHP_F(LO2,  i32, fd,   "file descriptor, -1 for none")
	BHP_F(HI2,  u32, cpu,  "processor")
	BHP_F(ARG,  i64, arg,  "timeout in ns (-1 for ever), value written, or address of the futex"),
	"the thread enters a system call")

BHP_KERNEL(21, call_end,
	BHP_F(T0,   u8,  call,   "enum bhp_call")
	BHP_F(LO2,  i32, fd,     "as in call_begin")
	BHP_F(HI2,  u32, cpu,    "processor")
	BHP_F(ARG,  i64, result, "what the call gives, -errno when it fails"),
	"the thread leaves it")
/* clang-format on */

#undef BHP_EVENT
#undef BHP_MARK
#undef BHP_KERNEL
