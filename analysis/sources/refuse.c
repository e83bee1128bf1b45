/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "refuse.h"

int bht_refuse(struct bht_refusal *refusal, int error, uint64_t addr, const char *format, ...)
{
	va_list args;

	if (!refusal)
		return error;
	refusal->addr = addr;
	va_start(args, format);
	vsnprintf(refusal->why, sizeof(refusal->why), format, args);
	va_end(args);
	return error;
}

int bht_refuse_read(struct bht_refusal *refusal, int error, uint64_t addr, const char *what)
{
	switch (error) {
	case -EFAULT:
		return bht_refuse(refusal, error, addr, "%s: not mapped", what);
	case -ESRCH:
		return bht_refuse(refusal, error, addr, "%s: the process is gone", what);
	default:
		return bht_refuse(refusal, error, addr, "%s: %s", what, strerror(-error));
	}
}
