/* SPDX-License-Identifier: MIT */
/* Members that an adapter may place: BHT_MEMBER(of, name, doc). No include guard. */
/* clang-format off */
BHT_MEMBER(LOOP, poll_fd,     "epoll set that it sleeps on")
BHT_MEMBER(LOOP, notifier_fd, "eventfd (or the reading end of a pipe) that wakes it")
BHT_MEMBER(LOOP, notify_me,   "not 0: it sleeps or is about to, and must be woken")
BHT_MEMBER(LOOP, notified,    "not 0: its notifier has been written, or is about to be")
BHT_MEMBER(LOOP, iteration,   "changes whenever it turns: a count, or a time it keeps")
BHT_MEMBER(LOOP, bhs,         "list of its bottom halves")
BHT_MEMBER(LOOP, n_queues,    "length of the array of such lists")
BHT_MEMBER(BH,   loop,        "loop that runs it")
BHT_MEMBER(BH,   flag,        "flag of the protocol, or flag bits")
BHT_MEMBER(BH,   callback,    "function it runs")
BHT_MEMBER(BH,   name,        "pointer to its name, or 0")
BHT_MEMBER(BH,   link,        "next one in the list")
/* clang-format on */
#undef BHT_MEMBER
