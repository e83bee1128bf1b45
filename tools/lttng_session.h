/* SPDX-License-Identifier: MIT */
/*
 * lttng_session.h - a recording session of LTTng for the events bh:*, with the
 * daemon behind it
 *
 * Through liblttng-ctl, which talks to the session daemon of this user: of root,
 * when the user is root or belongs to the group tracing. When none runs, one is
 * started; what was started is ended, if nobody else came to use it. Not
 * thread-safe.
 */
#ifndef BHTRACE_LTTNG_SESSION_H
#define BHTRACE_LTTNG_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum session_mode {
	SESSION_FILES,    /* into a directory, all the time */
	SESSION_LIVE,     /* to a relayd, where it can be read meanwhile */
	SESSION_SNAPSHOTS /* kept in memory, written by session_snapshot() */
};

struct session_plan {
	enum session_mode mode;
	const char *output; /* absolute directory, or net://HOST[:CONTROL[:DATA]]; NULL for snapshots */
	uint32_t vpid;      /* only this process, as its own PID namespace numbers it */
};

struct session { /* read only */
	char name[64];
	struct lttng_handle *handle;
	pid_t daemon;         /* started here, else 0 */
	bool created, stuck;  /* stuck: the daemon does not get on with destroying it */
	uint64_t subbuf_size; /* bytes; there are n_subbuf of them a CPU and user */
	unsigned n_subbuf, n_cpus;
};

/* Bytes of all buffers of one user. */
static inline uint64_t session_buffers(const struct session *s)
{
	return s->subbuf_size * s->n_subbuf * s->n_cpus;
}

/* Chooses its name and its buffers. */
void session_init(struct session *s);

/* Starts a session; it records from then on. 0, or an exit code with the reason on
 * stderr. session_close() in any case. */
int session_open(const struct session_plan *plan, struct session *s);

/* Whether process VPID has registered its events bh:* with the daemon. */
bool session_knows(const struct session *s, uint32_t vpid);

/* Writes what is in memory to DIR, an absolute path. 0, or -1 with the reason on
 * stderr. */
int session_snapshot(const struct session *s, const char *dir);

/*
 * Ends the recording and waits until what was recorded has been written. *DISCARDED
 * becomes the number of events that found no room, and of packets that were lost.
 * False when it has not all been written, or nobody knows: the reason is on stderr.
 */
bool session_stop(const struct session *s, uint64_t *discarded);

/* Removes the session, and ends the daemon if it was started here. */
void session_close(struct session *s);

#endif
