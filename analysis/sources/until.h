/* SPDX-License-Identifier: MIT */
/*
 * until.h - how far the history beside it is whole
 *
 * A recorder that drains rings writes one file a ring. When it is killed, some of
 * them are ahead of others. File "until" has the time, in ticks, up to which all
 * are on the disk: 20 digits and a newline, written over in one piece. 0: none is.
 */
#ifndef BHT_UNTIL_H
#define BHT_UNTIL_H

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BHT_UNTIL "until"
enum { BHT_UNTIL_SIZE = 21 };

/* 0 or -errno. */
static inline int bht_until_write(int fd, uint64_t ticks)
{
	char text[BHT_UNTIL_SIZE + 1];

	snprintf(text, sizeof(text), "%020" PRIu64 "\n", ticks);
	const ssize_t n = pwrite(fd, text, BHT_UNTIL_SIZE, 0);
	return n == BHT_UNTIL_SIZE ? 0 : n < 0 ? -errno : -ENOSPC;
}

/* 0, or -errno, -EBADMSG for anything else than what was written. */
static inline int bht_until_read(int fd, uint64_t *ticks)
{
	char text[BHT_UNTIL_SIZE + 2] = "", again[BHT_UNTIL_SIZE + 1];
	const ssize_t n = pread(fd, text, BHT_UNTIL_SIZE + 1, 0);

	if (n < 0)
		return -errno;
	if (sscanf(text, "%20" SCNu64, ticks) != 1)
		return -EBADMSG;
	snprintf(again, sizeof(again), "%020" PRIu64 "\n", *ticks);
	return n == BHT_UNTIL_SIZE && !memcmp(text, again, BHT_UNTIL_SIZE) ? 0 : -EBADMSG;
}

#endif
