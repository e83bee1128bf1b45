/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guard.h"
#include "wire.h"

static void keep_only(int a, int b)
{
	const unsigned low = (unsigned)(a < b ? a : b), high = (unsigned)(a < b ? b : a);

	if (low)
		close_range(0, low - 1, 0);
	if (high > low + 1)
		close_range(low + 1, high - 1, 0);
	close_range(high + 1, ~0u, 0);
}

/* A pidfd can be read once all files of its process are closed: nobody is stopped any more. */
static void watch(int pidfd, int targets)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	uint32_t pid, *last = NULL, flags;

	setsid();
	keep_only(pidfd, targets);
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	for (; !bpf_map_get_next_key(targets, last, &pid); last = &pid)
		if (!bpf_map_lookup_elem(targets, &pid, &flags) && flags & BHB_STOPPED_BY_US)
			kill((pid_t)pid, SIGCONT);
}

int bhb_guard_start(int targets, pid_t *guard)
{
	const int pidfd = pidfd_open(getpid(), 0);
	int rc = pidfd < 0 ? -errno : 0;

	*guard = -1;
	/* without a signal at its end, so that nobody who waits for children gets this one */
	if (!rc)
		*guard = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
	if (!*guard) {
		watch(pidfd, targets);
		_exit(0);
	}
	if (!rc && *guard < 0)
		rc = -errno;
	if (pidfd >= 0)
		close(pidfd);
	return rc;
}

void bhb_guard_end(pid_t guard)
{
	if (guard <= 0)
		return;
	kill(guard, SIGKILL);
	waitpid(guard, NULL, __WALL);
}
