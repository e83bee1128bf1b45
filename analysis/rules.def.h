/* SPDX-License-Identifier: MIT */
/*
 * The mechanisms. The only place where a rule's id, verdict and texts are
 * written; `bhtrace explain`, the renderers and docs/mechanisms.md come from it.
 *
 *   BHT_RULE(symbol, "id", verdict, found, "one line", "what decides it", "remedy", "page")
 *
 * Ids are stable. FOUND is whether the analyzer of this version finds it; the
 * others are known, and explained, but never reported. The page is five
 * paragraphs separated by blank lines, each begins with its word of
 * BHT_PAGE_PARTS and a colon.
 */
/* clang-format off */
BHT_RULE(FLAG_RACE, "flag-race", LOST, true,
	"a schedule coalesced with an execution that had already looked",
	"The last schedule saw the flag set, lies so close to the last clear of the flag that either may have come "
	"first, and nothing was scheduled afterwards. A payload ticket that was announced and never consumed proves it, "
	"and so does --witness that the work is undone; without either the finding is consistent at best.",
	"Make both sides an atomic exchange with a full barrier: schedule is old = xchg(flag, 1), and notifies when old "
	"is 0; the loop does xchg(flag, 0) before it calls the callback. No test of the flag by a plain load before "
	"either of them.",
	"What happens: The producer stores its payload and sets the flag; the loop clears the flag and the callback loads "
	"the payload. Each side stores one location and then loads the other, and a CPU may complete the load while its "
	"own store still waits in the store buffer, x86 included. Two halves can fail. Producer half: \"if (scheduled) "
	"return;\" has no full barrier before it, so the flag is read as 1 while the payload is not visible yet; the "
	"callback reads the old payload and nobody is told again. Consumer half: \"scheduled = 0\" is followed by a read "
	"barrier only, so the 0 becomes visible after the callback has read the old payload; a producer in between still "
	"sees 1 and does nothing.\n\n"
	"Memory when hung: Flag 0, eventfd count 0, loop asleep, often without a timeout. It looks perfectly idle; only "
	"the work that nobody does tells.\n\n"
	"Told apart: notify-skipped, notify-stolen and notify-missing leave the flag at 1. A healthy idle bottom half "
	"has the same memory, but its last schedule was effective or lies well before the last clear. Inside the window "
	"time stamps do not order the two sides: about a third of real hangs leave an order that looks legal, so tickets, "
	"or work left undone by a loop that sleeps, decide.\n\n"
	"Real cases: QEMU, \"aio: strengthen memory barriers for bottom half scheduling\", April 2015, message "
	"1428419779-26062-1-git-send-email-pbonzini@redhat.com: both halves; reproduced on x86_64 within 15 minutes. "
	"The consumer half had been left by QEMU commit 924fe12 (2014), where smp_rmb() should have become smp_mb(). "
	"libuv pull request 349: the same producer half, an early test of pending in uv_async_send(). libuv pull "
	"requests 50 and 189: a plain pending = 0 that wiped out a send. QEMU commit ef6dada8b44e (2017): the flag was "
	"cleared by a cancel, a plain store, and a finished request overlooked. libuv issue 4584: a BIND 9 test began to fail "
	"when a read of the eventfd went away; a missing fence in the program was suspected.\n\n"
	"Fix: An atomic exchange with a full barrier on both sides (atomic_exchange with memory_order_seq_cst in C11). "
	"Then either the callback sees the payload, or the producer reads 0 and notifies. One side alone is not enough, "
	"and a release/acquire pair is not enough: the order that is needed is store before load.")

BHT_RULE(NOTIFY_SKIPPED, "notify-skipped", LOST, true,
	"the scheduler set the flag but believed that the loop was awake",
	"The last schedule was effective; the notify after it saw notify_me = awake and wrote nothing; the loop went to "
	"sleep without looking at the flag again.",
	"Put a full barrier between the store of notify_me and the loop's last look at its flags, and one between the "
	"store of the flag and the load of notify_me. Never skip a wakeup because somebody else is dispatching.",
	"What happens: A loop says that it is about to sleep (notify_me), then looks once more for work. A scheduler sets "
	"the flag, then looks at notify_me. When either side's load passes its store, both miss each other: the scheduler "
	"sees a loop that is awake and saves the eventfd write, the loop sees no work and sleeps. The same happens "
	"without any reordering when the optimisation itself is wrong, such as \"somebody is dispatching, so it will look "
	"again\".\n\n"
	"Memory when hung: Flag 1, eventfd count 0, loop asleep.\n\n"
	"Told apart: From notify-stolen by what notify says: it wrote nothing. From notify-missing by being there at all. "
	"From flag-race by the flag, which is 1.\n\n"
	"Real cases: QEMU commit eabc97797310 (2015), the ctx->dispatching shortcut, the aarch64 hang that the barriers "
	"of flag-race did not cure. QEMU commit 5710a3e09f9b (2020, Launchpad bug 1805256), notify_me without a barrier: "
	"qemu-img convert hung in about half of all runs on a 96-core aarch64 machine. GLib pull request 21 (GitHub "
	"mirror): the need_wakeup shortcut of GMainContext.\n\n"
	"Fix: Store notify_me, full barrier, look at the flags, sleep; against store of the flag, full barrier, load of "
	"notify_me. The two barriers pair with each other.")

BHT_RULE(NOTIFY_STOLEN, "notify-stolen", LOST, true,
	"the wakeup was written, but somebody else took it before the sleeper saw it",
	"A notify wrote the eventfd after the last effective schedule; the accept that follows was made by another thread "
	"than the one that sleeps, or by the loop itself after its last look at its bottom halves, while it already "
	"counted as asleep.",
	"Clear the notifier before looking at the bottom halves, or let nobody write it while the loop is awake; and let "
	"nobody clear it but the thread that will look.",
	"What happens: The eventfd is a message to the thread that sleeps. When a second poller of the same loop, a nested "
	"poll or an embedding loop reads it, the sleeper does not wake. The same loop can rob itself: it scans its bottom "
	"halves, a schedule and its write come in, and then it clears the notifier as part of handling file "
	"descriptors.\n\n"
	"Memory when hung: Flag 1, eventfd count 0, loop asleep.\n\n"
	"Told apart: The same memory as notify-skipped and notify-missing. Here the eventfd was written, and the record "
	"of who cleared it (accept, with thread and value) comes after the write.\n\n"
	"Real cases: QEMU commit 21a03d17f2ed (2015): the eventfd was cleared after the bottom halves had been run, and a "
	"vCPU thread that polled the main thread's context took its notification. QEMU commit b37548fcd1b8 (2018, Red Hat "
	"bug 1562750): a non-blocking poll by another thread accepted what was meant for an I/O thread in ppoll. Whoever "
	"inherits or guesses the descriptor can do the same and leaves no accept.\n\n"
	"Fix: Clear first, then scan; one accept at the start of each turn. Where several threads may poll one loop, each "
	"must look at the bottom halves after it has cleared.")

BHT_RULE(NOTIFY_MISSING, "notify-missing", LOST, true,
	"work was published and nobody even tried to wake the loop",
	"The last schedule was effective and no notify for it follows in the same thread, whose history is complete up to "
	"now; the loop sleeps with the flag set in both samples.",
	"Call notify on every path that makes the flag go from 0 to 1: also on error paths, in variants of schedule, and "
	"where a disabled source is enabled again.",
	"What happens: Some path sets the flag and returns without a notify. While the loop is busy nobody notices, "
	"because the next turn finds the flag; when it sleeps, the work waits for the next unrelated wakeup, or for "
	"ever.\n\n"
	"Memory when hung: Flag 1, eventfd count 0, loop asleep.\n\n"
	"Told apart: notify-skipped and notify-stolen have a notify event after the schedule. producer-stopped has none "
	"either, but there the producer itself died or stopped in between. An idle schedule does not notify by contract "
	"and waits 10 ms at most: that is no finding. Of a loop seen through an adapter, without a history, this rule "
	"is only suspected, and stands for notify-skipped and notify-stolen as well; or --witness says that work is undone "
	"though nothing was scheduled.\n\n"
	"Real cases: QEMU, \"aio: add missing aio_notify() to aio_enable_external()\" (May 2017): external clients were "
	"enabled again and the sleeping I/O thread never heard of it.\n\n"
	"Fix: Let one function do both, exchange the flag and notify when it was 0, and make it the only way to "
	"schedule.")

BHT_RULE(FD_UNWATCHED, "fd-unwatched", LOST, true,
	"the wakeup is in the eventfd, but the sleeper does not watch it",
	"The eventfd count is above 0 in both samples, and the notifier is neither in the epoll set nor in the pollfd array "
	"of the sleeping thread.",
	"Add the notifier to the set of whoever sleeps, after each fork, after each change of the polling backend, and in "
	"the embedding loop; check the result of epoll_ctl().",
	"What happens: The notifier was never added, was removed together with another descriptor of the same number, was "
	"lost when the backend changed between poll and epoll, or the loop is embedded in another one that does not watch "
	"it. Writes succeed and reach nobody.\n\n"
	"Memory when hung: Flag 1, eventfd count above 0, loop asleep.\n\n"
	"Told apart: Only this rule and kernel-lost-wake leave the count above 0. Here the set of the sleeper, as the "
	"kernel shows it in fdinfo or as the blocked call's array says, lacks the notifier.\n\n"
	"Real cases: QEMU commit e62da98 (2023): when the loop went from ppoll to epoll, a handler that was being added "
	"in another thread got into the list and not into the set. kaappi issue 1462: a descriptor watched with "
	"EPOLLONESHOT that one path did not arm again. conmon issue 167 is of the same family, a descriptor closed behind "
	"the loop's back, with another outcome: a busy loop.\n\n"
	"Fix: Register the notifier where the set is made, treat a failure as fatal, and rebuild the set from the list of "
	"handlers when the backend changes.")

BHT_RULE(KERNEL_LOST_WAKE, "kernel-lost-wake", LOST, true,
	"the eventfd is readable and watched, and the kernel does not wake the sleeper",
	"The flag is 1, the eventfd count is above 0, the notifier is in the sleeper's set, and two samples see the same "
	"sleep: every other explanation is excluded.",
	"Look for a known defect of this kernel's epoll or eventfd and update; until then sleep with a time-out.",
	"What happens: The descriptor is ready, the thread waits for it, and the wakeup got lost inside the kernel, for "
	"example between a wait that times out and an event that arrives at that moment.\n\n"
	"Memory when hung: Flag 1, eventfd count above 0, watched, loop asleep in both samples.\n\n"
	"Told apart: It is what is left over. One sample is never enough: a thread that has been woken and has not run "
	"yet looks the same. An edge-triggered set whose edge was consumed looks the same too; check for EPOLLET first.\n\n"
	"Real cases: Linux commit 412895f03cbf (2020) repairs a lost epoll wakeup that came with commit 339ddb53d373; "
	"reports of a second one, for waits that time out, followed it.\n\n"
	"Fix: A kernel with the repair. A bounded time-out turns the hang into a delay.")

BHT_RULE(STRANDED, "stranded", LOST, true,
	"the bottom half waits on a loop that nobody will poll again",
	"The flag is 1 on a loop without a living owner, or whose owner now sleeps in another loop; or on a loop that is "
	"being freed.",
	"Before a loop's thread goes away, drain the loop or move its bottom halves; do not schedule on a loop after it "
	"was detached.",
	"What happens: The schedule worked and the notifier was written, but the thread that used to poll this loop has "
	"exited or polls another one. The bottom half was left behind on the old loop when a device or a connection "
	"moved.\n\n"
	"Memory when hung: Flag 1 on loop X; X's owner does not exist or waits on another loop. The eventfd count is "
	"usually above 0.\n\n"
	"Told apart: In fd-unwatched the owner sleeps in this loop. In callback-blocked the owner is inside this loop's "
	"callback.\n\n"
	"Real cases: QEMU commit c2b6428d388b (2017): a block device moved to another context while bottom halves were "
	"pending in the old one, which nobody polled any more; a guest's I/O stayed stuck. libuv (joyent) issue 419: "
	"uv_async_send() succeeds also when nobody runs the loop.\n\n"
	"Fix: Tie the life of a bottom half to the life of its loop, and make a move of it one operation: delete on the "
	"old loop, create on the new one, schedule again.")

BHT_RULE(CALLBACK_BLOCKED, "callback-blocked", STUCK, true,
	"the loop is inside a callback that sleeps",
	"The loop is inside a callback, its thread is asleep outside the loop's own wait, and in both samples iteration "
	"number, callback and context switches are the same.",
	"Move the blocking call out of the callback: to a worker thread that schedules a bottom half when it is done, or "
	"to an asynchronous form of the call. If it is a lock, find its owner first.",
	"What happens: A callback took a lock, did I/O, waited for another thread or for a child. Everything else on this "
	"loop waits behind it. When what it waits for needs this loop, it is a deadlock.\n\n"
	"Memory when hung: The loop's current callback is set, the thread is in state S or D in a system call that is not "
	"the loop's wait; flags of other bottom halves may be 1.\n\n"
	"Told apart: callback-spinning is on the CPU. loop-blocked is asleep outside every callback. nested-poll is "
	"asleep in the loop's own wait, deeper in. slow-callback comes to an end.\n\n"
	"Real cases: No public report is cited here; synchronous name lookups and locks held across I/O are the usual ones.\n\n"
	"Fix: No call that may sleep in a callback. The report names the callback, the system call and, for a futex, its "
	"address.")

BHT_RULE(CALLBACK_SPINNING, "callback-spinning", STUCK, true,
	"the loop is inside a callback that uses the CPU and does not return",
	"The loop is inside the same execution of a callback in both samples, the iteration number stands still, and the "
	"thread used CPU time in between.",
	"Bound the work of one execution: do a part, schedule again, return. If it polls a variable, let the writer "
	"schedule a bottom half.",
	"What happens: The callback loops: over a list with a cycle, on a variable that another thread should change, on "
	"a retry without end, or simply over very much work.\n\n"
	"Memory when hung: The loop's current callback is set, the thread is in state R, the iteration number does not "
	"move while CPU time does.\n\n"
	"Told apart: callback-blocked is asleep. starved goes on turning, only this bottom half is never reached. In "
	"slow-callback the execution ends; a callback that is still running is judged by progress between two samples, "
	"not by its duration alone.\n\n"
	"Real cases: No public report is cited here.\n\n"
	"Fix: A bound for the work of each execution, and a bottom half that schedules itself for the rest.")

BHT_RULE(LOOP_BLOCKED, "loop-blocked", STUCK, true,
	"the loop's thread sleeps, but neither in its wait nor in a callback of a bottom half",
	"The owner is asleep in a system call that is not the loop's wait, the loop is in a handler or between callbacks, "
	"and two samples see no progress.",
	"Find what the thread sleeps in (system call and argument are in the report) and take it out of the loop's thread.",
	"What happens: The thread is held by a file descriptor's handler, a timer's callback, a lock of the loop itself, "
	"or code that runs between two turns.\n\n"
	"Memory when hung: No current bottom half, thread asleep, iteration number stands still.\n\n"
	"Told apart: callback-blocked names a bottom half. A healthy idle loop sleeps in its own wait.\n\n"
	"Real cases: syslog-ng pull request 3515 (2020): a timer's tick in the main loop took a parser's lock, whose "
	"holder waited for the main loop. mavlink-router pull request 256 (2021): a handler read a blocking timer "
	"descriptor that another handler of the same turn had disarmed.\n\n"
	"Fix: As for callback-blocked; for a lock, do not hold it over anything that may sleep.")

BHT_RULE(NESTED_POLL, "nested-poll", STUCK, true,
	"a callback polls the loop again and waits for something that only the outer turn can run",
	"The loop's depth is 2 or more, the inner turn sleeps, and the work it waits for is held by an execution that has "
	"begun further out.",
	"Do not wait for completion inside a callback. Where it cannot be avoided, schedule again before the nested poll "
	"what the outer turn still holds.",
	"What happens: A callback calls the poll function and waits until some condition holds. The outer turn had already "
	"taken a slice of bottom halves, or cleared their flags; the inner turn cannot see them, so the condition never "
	"comes true.\n\n"
	"Memory when hung: Depth 2 or more, loop asleep in its wait; the missing bottom half has flag 0 or hangs in a list "
	"that only the outer turn knows.\n\n"
	"Told apart: flag-race also shows flag 0 and a sleeping loop, but at depth 1. callback-blocked does not sleep in "
	"the loop's wait.\n\n"
	"Real cases: QEMU commit 3c80ca158c96 (2014): two requests of the thread pool were done before its completion "
	"bottom half ran; the callback of the first polled the context and waited for the second, whose completion the "
	"outer execution still held.\n\n"
	"Fix: Make the waiting code a state that a later callback continues; and let a nested turn start with what the "
	"outer one has left.")

BHT_RULE(PRODUCER_STOPPED, "producer-stopped", STUCK, true,
	"a producer died or stopped between setting the flag and waking the loop",
	"The last schedule was effective, no notify follows, and its thread has exited, is stopped, or has not run since.",
	"Do not kill or suspend threads inside schedule. Mask asynchronous cancellation there; continue a thread that a "
	"debugger or SIGSTOP holds.",
	"What happens: Schedule is several steps: set the flag, link, notify. A thread that stops between them leaves a "
	"bottom half that everybody takes for scheduled; later schedules coalesce with it and do nothing.\n\n"
	"Memory when hung: Flag 1, perhaps not linked, eventfd count 0, loop asleep, producer in state T, Z or gone.\n\n"
	"Told apart: In notify-missing the producer lives and went on. In notify-skipped there is a notify event.\n\n"
	"Real cases: curl pull request 18540 (2025) removed the cancellation of threads again, because what they leave "
	"half done cannot be known. libbh itself wrote the notifier by write(3), a cancellation point, so that a "
	"cancelled thread left the loop notified and asleep.\n\n"
	"Fix: Keep the steps short and uncancellable; after a fork or a killed thread make the loop look at everything "
	"once.")

BHT_RULE(STARVED, "starved", STUCK, true,
	"the loop turns and turns, but this bottom half is never reached",
	"The flag stays 1 over many turns while iteration numbers rise and other work runs; or the thread is runnable and "
	"gets no CPU.",
	"Bound what one turn may run, run each scheduled bottom half once a turn, and look for the source that is always "
	"ready.",
	"What happens: A storm of other work, a descriptor that is always ready, a bottom half that schedules itself ahead "
	"of the rest, or a priority below a busy neighbour on the CPU.\n\n"
	"Memory when hung: Flag 1, loop awake, iteration number rising.\n\n"
	"Told apart: All lost rules have a loop that sleeps. In callback-spinning the iteration number stands still. In "
	"slow-callback it does run in the end.\n\n"
	"Real cases: libuv (joyent) issue 154 (2011): under a storm of UDP packets timers were never called. Node.js "
	"warns of process.nextTick() that calls itself: it starves all I/O.\n\n"
	"Fix: First in, first out within a turn, and a limit for each turn; for the CPU, affinity and priority.")

BHT_RULE(RESCUED, "rescued", LATE, true,
	"it ran, but only because something unrelated woke the loop",
	"The wakeup that preceded the execution came from a time-out or another descriptor, and the history before it "
	"fits one of the lost rules.",
	"Treat it as the lost rule that it names. The timer hides the defect; it will hang when the timer is gone.",
	"What happens: The wakeup was lost, then a heartbeat timer, a network packet or a signal made the loop look "
	"again. The program only feels slow from time to time.\n\n"
	"Memory when hung: It is not hung any more. Only the history shows it.\n\n"
	"Told apart: In slow-wake the notifier itself woke the loop. In slow-callback the loop was not asleep.\n\n"
	"Real cases: QEMU commit 2ae361e (2026): a path that forgot to notify, rescued 499 ms later by a timer. QEMU's "
	"hang of 2020 (commit 5710a3e09f9b): in a running guest timers and other workers kept waking the main loop, so "
	"that only qemu-img, which has none, hung for good.\n\n"
	"Fix: That of the lost rule which the finding names.")

BHT_RULE(SLOW_CALLBACK, "slow-callback", LATE, true,
	"it ran late because other callbacks of the same loop ran first",
	"Between schedule and execute the loop was executing other callbacks; the longest of them is named.",
	"Split the callback that holds up the line, or give it a loop of its own.",
	"What happens: One loop runs one callback at a time. Whoever stands behind a long one waits for it.\n\n"
	"Memory when hung: It is not hung; the current callback is an old one.\n\n"
	"Told apart: callback-blocked and callback-spinning do not end. slow-wake spends its time before the loop is "
	"awake.\n\n"
	"Real cases: every event loop has it; Python's asyncio logs callbacks that take longer than "
	"slow_callback_duration since 2014 (Tulip issue 105).\n\n"
	"Fix: Shorter callbacks, work moved to threads, or a second loop.")

BHT_RULE(SLOW_WAKE, "slow-wake", LATE, true,
	"it ran late because the loop's thread took long to wake and get a CPU",
	"The notifier was written in time; the gap lies between that write and wait_end, or between wait_end and running.",
	"Look at CPU load, priorities, affinity, cgroup limits and idle states of the CPU that the thread runs on.",
	"What happens: The wakeup is on its way: the scheduler has not put the thread on a CPU, the CPU is in a deep idle "
	"state, or a cgroup has used up its quota.\n\n"
	"Memory when hung: It is not hung. During the gap: flag 1, thread in state R or just woken.\n\n"
	"Told apart: In rescued something unrelated woke the loop. In slow-callback the loop was busy, not waking.\n\n"
	"Real cases: a group of processes that has used up its CPU quota stands still for the rest of the period, up to a "
	"second in Aurae's issue 407 (2023).\n\n"
	"Fix: A matter of the system's scheduling, seldom of the program.")
/* clang-format on */
