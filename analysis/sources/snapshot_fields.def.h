/* SPDX-License-Identifier: MIT */
/*
 * What a line of a snapshot's evidence says, in this order. Writer and reader
 * are made from this list. It is format 3: for anything else raise that in
 * snapline.h.
 *
 *   BHT_LINE_BEGIN(word, struct)   BHT_F(kind, member)   BHT_LINE_END
 *
 * Kinds: u unsigned, i signed, f double, b bool, c char, s string.
 */
/* clang-format off */
BHT_LINE_BEGIN(evidence, bht_evidence)
	BHT_F(u, pid) BHT_F(s, command) BHT_F(s, hostname) BHT_F(u, history_until) BHT_F(f, ticks_per_ns) BHT_F(f, clock_error_ns)
	BHT_F(u, stopped_us) BHT_F(u, read_us)
BHT_LINE_END

BHT_LINE_BEGIN(sample, bht_sample)
	BHT_F(u, ticks) BHT_F(u, bytes_read) BHT_F(b, unstable)
BHT_LINE_END

BHT_LINE_BEGIN(loop, bht_loop)
	BHT_F(u, addr) BHT_F(u, serial) BHT_F(s, name) BHT_F(u, protocol) BHT_F(u, owner) BHT_F(u, where) BHT_F(u, depth)
	BHT_F(u, iteration) BHT_F(u, notify_me) BHT_F(i, notifier_fd) BHT_F(i, poll_fd) BHT_F(u, current)
	BHT_F(u, current_callback) BHT_F(u, current_since) BHT_F(i, wait_timeout_ns) BHT_F(i, notifier_count)
	BHT_F(i, notifier_watched) BHT_F(u, notifier_mask) BHT_F(i, embedder_watches) BHT_F(s, adapter) BHT_F(u, traits)
BHT_LINE_END

BHT_LINE_BEGIN(bh, bht_bh)
	BHT_F(u, addr) BHT_F(u, serial) BHT_F(s, name) BHT_F(u, loop) BHT_F(u, callback) BHT_F(u, state) BHT_F(u, flags)
	BHT_F(u, runs) BHT_F(u, last_run)
BHT_LINE_END

BHT_LINE_BEGIN(begun, bht_begun)
	BHT_F(u, loop) BHT_F(u, bh) BHT_F(u, begin) BHT_F(u, tid)
BHT_LINE_END

BHT_LINE_BEGIN(payload, bht_payload)
	BHT_F(s, text) BHT_F(b, first.known) BHT_F(b, first.holds) BHT_F(i, first.left) BHT_F(i, first.right)
	BHT_F(b, last.known) BHT_F(b, last.holds) BHT_F(i, last.left) BHT_F(i, last.right)
BHT_LINE_END

BHT_LINE_BEGIN(thread, bht_thread)
	BHT_F(u, tid) BHT_F(u, ns_tid) BHT_F(s, name) BHT_F(c, state) BHT_F(i, syscall) BHT_F(u, args[0]) BHT_F(u, args[1])
	BHT_F(u, args[2]) BHT_F(u, args[3]) BHT_F(u, args[4]) BHT_F(u, args[5]) BHT_F(s, wchan) BHT_F(u, switches)
	BHT_F(u, cpu_ns) BHT_F(u, lock_word) BHT_F(u, lock_owner)
BHT_LINE_END
/* clang-format on */

#undef BHT_LINE_BEGIN
#undef BHT_F
#undef BHT_LINE_END
