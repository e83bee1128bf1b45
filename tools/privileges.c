/* SPDX-License-Identifier: MIT */
#include "privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Leaves those in PERMITTED, of which those in EFFECTIVE have effect. */
static int set(uint64_t permitted, uint64_t effective)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, data))
		return -errno;
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i].permitted &= (uint32_t)(permitted >> 32 * i);
		data[i].effective = data[i].permitted & (uint32_t)(effective >> 32 * i);
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}

int privileges_keep(uint64_t keep, uint64_t perhaps, bool (*works)(void *arg), void *arg)
{
	/* Without CAP_SETPCAP they stay, but no_new_privs keeps this process from getting at them. */
	for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		if (!((keep | perhaps) & PRIVILEGE(capability)))
			prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	int rc = set(keep | perhaps, keep);
	if (rc)
		return rc;
	rc = works(arg) ? set(keep, keep) : set(keep | perhaps, keep | perhaps);
	return rc ? rc : prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}
