/* SPDX-License-Identifier: MIT */
#include "protocol.h"

#undef epoll_wait

enum bh_fault bh_fault = BH_FAULT_NONE;
_Atomic bool bh_fault_dispatching;
void (*bh_fault_wait_begin)(void), (*bh_fault_wait_end)(void);

int bh_fault_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout_ms)
{
	bool sleeps = timeout_ms != 0;

	if (sleeps && bh_fault_wait_begin)
		bh_fault_wait_begin();
	int n = epoll_wait(epfd, events, max, timeout_ms);
	if (sleeps && bh_fault_wait_end)
		bh_fault_wait_end();
	return n;
}
