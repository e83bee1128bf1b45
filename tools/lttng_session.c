/* SPDX-License-Identifier: MIT */
#include "lttng_session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lttng/lttng.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bhtrace.h"
#include "patient.h"

#define CHANNEL "bh"
#define PREFIX  "bhtrace-"

enum {
	DAEMON_MS = 10 * 1000,   /* until it is ready, or gone */
	WRITTEN_MS = 30 * 1000,  /* until all data has been written, or relayed */
	SWITCH_US = 1000 * 1000, /* what a killed consumer daemon takes along */
	LIVE_US = 1000 * 1000,   /* how late a live reader is */
	NAP_MS = 20
};

/* Of the buffers of one user. A sub-buffer of 1 MiB holds about 15,000 events. */
enum {
	METADATA_SIZE = 4096,
	SUBBUFS = 8,
	SUBBUF_MIN = 64 * 1024,
	SUBBUF_MAX = 1024 * 1024,
	BUFFERS_MAX = 256 * 1024 * 1024
};

/* ERROR is a negative code of liblttng-ctl. Gives an exit code. */
static int trouble(const char *what, int error)
{
	const char *remedy = "";

	switch (-error) {
	case LTTNG_ERR_EPERM:
		remedy = ": be root, a member of the group tracing, or record processes of your own";
		break;
	case LTTNG_ERR_NO_SESSIOND:
		remedy = ": the daemon went away; start it again with lttng-sessiond --daemonize";
		break;
	case LTTNG_ERR_RELAYD_CONNECT_FAIL:
		remedy = ": is lttng-relayd running there, and do its ports pass the firewall?";
		break;
	case LTTNG_ERR_UST_CONSUMER64_FAIL:
		remedy = ": is lttng-consumerd there? LTTNG_CONSUMERD64_BIN names another";
		break;
	default:
		break;
	}
	fprintf(stderr, "bhtrace: LTTng: %s: %s%s\n", what, lttng_strerror(error), remedy);
	return -error == LTTNG_ERR_EPERM ? EXIT_NOT_PERMITTED : EXIT_BAD_INPUT;
}

/* --- the daemon --------------------------------------------------------------------- */

/* In a session of its own, so that Ctrl-C does not reach it. 0 or an errno. */
static int spawn_daemon(pid_t *pid, const sigset_t *mask)
{
	char *const argv[] = { "lttng-sessiond", "--no-kernel", "--sig-parent", "--quiet", NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;

	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDERR_FILENO);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigmask(&attr, mask);
	int error = posix_spawnp(pid, argv[0], &actions, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

/* It says with SIGUSR1 that it is ready. One that loses the race against another
 * that was started meanwhile exits. */
static bool await_daemon(pid_t *pid, const sigset_t *usr1)
{
	const struct timespec moment = { .tv_nsec = NAP_MS * 1000000 };
	uint64_t deadline = patient_now_ms() + DAEMON_MS;
	siginfo_t info;

	while (patient_now_ms() < deadline) {
		if (*pid && sigtimedwait(usr1, &info, &moment) == SIGUSR1 && info.si_pid == *pid)
			return true;
		if (*pid && waitpid(*pid, NULL, WNOHANG) == *pid)
			*pid = 0;
		if (*pid == 0 && lttng_session_daemon_alive() == 1)
			return true;
		if (*pid == 0)
			patient_nap(NAP_MS);
	}
	return false;
}

static int need_daemon(struct session *s)
{
	sigset_t usr1, before;

	if (lttng_session_daemon_alive() == 1)
		return EXIT_HEALTHY;
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, &before);
	int error = spawn_daemon(&s->daemon, &before);
	bool ready = !error && await_daemon(&s->daemon, &usr1);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (ready)
		return EXIT_HEALTHY;
	if (error)
		s->daemon = 0;
	fprintf(stderr, "bhtrace: lttng-sessiond %s%s\n", error ? "cannot be started: " : "did not get ready",
		error == ENOENT ? "it is not installed (package lttng-tools)"
		: error         ? strerror(error)
				: ": lttng-sessiond --no-kernel by hand says why");
	return EXIT_BAD_INPUT;
}

/* Others may have come to use it. One that does not end, nor its consumer daemon in
 * the same process group, has nothing left to write. */
static void end_daemon(struct session *s)
{
	struct lttng_session *sessions = NULL;
	uint64_t deadline = patient_now_ms() + DAEMON_MS;
	int others = s->stuck ? 0 : lttng_list_sessions(&sessions);

	free(sessions);
	if (others > 0) {
		fprintf(stderr, "bhtrace: lttng-sessiond %d is left running: it has other sessions\n", (int)s->daemon);
		return;
	}
	kill(s->daemon, SIGTERM);
	while (waitpid(s->daemon, NULL, WNOHANG) == 0) {
		if (s->stuck || patient_now_ms() >= deadline)
			kill(-s->daemon, SIGKILL);
		patient_nap(NAP_MS);
	}
}

/* Sessions of recorders that were killed still record, at the cost of everybody. */
static void tell_left_over(void)
{
	struct lttng_session *sessions = NULL;
	int n = lttng_list_sessions(&sessions);

	for (int i = 0; i < n; i++) {
		int pid = 0;

		if (sscanf(sessions[i].name, PREFIX "%d-", &pid) == 1 && pid > 0 && kill(pid, 0) && errno == ESRCH)
			fprintf(stderr,
				"bhtrace: session %.64s was left by a recorder that was killed, and still "
				"records; lttng destroy %.64s ends it\n",
				sessions[i].name, sessions[i].name);
	}
	free(sessions);
}

/* --- the session ---------------------------------------------------------------------- */

/* Buffers are allocated in /dev/shm for every CPU that may come; what does not fit
 * there ends in a channel without streams. */
void session_init(struct session *s)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF);
	struct statvfs shm;
	uint64_t room = BUFFERS_MAX;

	*s = (struct session){ .n_cpus = cpus > 0 ? (unsigned)cpus : 1, .n_subbuf = SUBBUFS };
	snprintf(s->name, sizeof(s->name), PREFIX "%d-%" PRIu64, (int)getpid(), (uint64_t)time(NULL));
	if (!statvfs("/dev/shm", &shm) && (uint64_t)shm.f_bavail * shm.f_frsize / 4 < room)
		room = (uint64_t)shm.f_bavail * shm.f_frsize / 4;
	s->subbuf_size = SUBBUF_MAX;
	while (s->subbuf_size > SUBBUF_MIN && session_buffers(s) > room)
		s->subbuf_size /= 2;
}

static int create(struct session *s, const struct session_plan *plan)
{
	struct lttng_session_descriptor *d =
		plan->mode == SESSION_LIVE
			? lttng_session_descriptor_live_network_create(s->name, plan->output, NULL, LIVE_US)
		: plan->mode == SESSION_SNAPSHOTS ? lttng_session_descriptor_snapshot_create(s->name)
						  : lttng_session_descriptor_local_create(s->name, plan->output);
	enum lttng_error_code code = d ? lttng_create_session_ext(d) : LTTNG_ERR_INVALID;

	lttng_session_descriptor_destroy(d);
	s->created = code == LTTNG_OK;
	return s->created ? 0 : -(int)code;
}

/* Metadata is written when the session stops. A switch timer for its channel would
 * bring that forward, but sessiond 2.13.9 was seen to deadlock when one fired while
 * a session was destroyed: about once in 50 with 100 ms. */
static int add_channel(struct session *s, const struct session_plan *plan)
{
	struct lttng_domain domain = { .type = LTTNG_DOMAIN_UST, .buf_type = LTTNG_BUFFER_PER_UID };
	struct lttng_channel *channel = lttng_channel_create(&domain);
	int r = -LTTNG_ERR_NOMEM;

	s->handle = lttng_create_handle(s->name, &domain);
	if (!s->handle || !channel)
		goto end;
	strcpy(channel->name, CHANNEL);
	channel->attr.overwrite = plan->mode == SESSION_SNAPSHOTS;
	channel->attr.subbuf_size = s->subbuf_size;
	channel->attr.num_subbuf = s->n_subbuf;
	channel->attr.switch_timer_interval = plan->mode == SESSION_FILES ? SWITCH_US : 0;
	channel->attr.read_timer_interval = 0;
	channel->attr.output = LTTNG_EVENT_MMAP;
	r = lttng_enable_channel(s->handle, channel);
end:
	lttng_channel_destroy(channel);
	return r;
}

static int add_contexts(struct session *s, const struct session_plan *plan)
{
	static const enum lttng_event_context_type types[] = {
		LTTNG_EVENT_CONTEXT_VPID,
		LTTNG_EVENT_CONTEXT_VTID,
		LTTNG_EVENT_CONTEXT_PROCNAME,
	};
	int r = 0;

	(void)plan;
	for (unsigned i = 0; !r && i < sizeof(types) / sizeof(types[0]); i++)
		r = lttng_add_context(s->handle, &(struct lttng_event_context){ .ctx = types[i] }, NULL, CHANNEL);
	return r;
}

static int add_events(struct session *s, const struct session_plan *plan)
{
	struct lttng_event *event = lttng_event_create();
	int r = -LTTNG_ERR_NOMEM;

	(void)plan;
	if (!event)
		return r;
	event->type = LTTNG_EVENT_TRACEPOINT;
	event->loglevel_type = LTTNG_EVENT_LOGLEVEL_ALL;
	event->loglevel = -1;
	strcpy(event->name, "bh:*");
	r = lttng_enable_event(s->handle, event, CHANNEL);
	lttng_event_destroy(event);
	return r;
}

static int track(struct session *s, const struct session_plan *plan)
{
	struct lttng_process_attr_tracker_handle *tracker = NULL;

	enum lttng_error_code code = lttng_session_get_tracker_handle(s->name, LTTNG_DOMAIN_UST,
								      LTTNG_PROCESS_ATTR_VIRTUAL_PROCESS_ID, &tracker);
	if (code != LTTNG_OK)
		return -(int)code;
	enum lttng_process_attr_tracker_handle_status status =
		lttng_process_attr_tracker_handle_set_tracking_policy(tracker, LTTNG_TRACKING_POLICY_INCLUDE_SET);
	if (status == LTTNG_PROCESS_ATTR_TRACKER_HANDLE_STATUS_OK)
		status = lttng_process_attr_virtual_process_id_tracker_handle_add_pid(tracker, (pid_t)plan->vpid);
	lttng_process_attr_tracker_handle_destroy(tracker);
	return status == LTTNG_PROCESS_ATTR_TRACKER_HANDLE_STATUS_OK ? 0 : -LTTNG_ERR_INVALID;
}

static int start(struct session *s, const struct session_plan *plan)
{
	int r = lttng_start_tracing(s->name);

	(void)plan;
	return r > 0 ? 0 : r;
}

static const struct {
	const char *what;
	int (*take)(struct session *s, const struct session_plan *plan);
} steps[] = {
	{ "no session can be created", create },      { "the channel cannot be created", add_channel },
	{ "no contexts can be added", add_contexts }, { "the process cannot be picked out", track },
	{ "no events can be enabled", add_events },   { "the recording does not start", start },
};

int session_open(const struct session_plan *plan, struct session *s)
{
	int code = need_daemon(s);
	if (code)
		return code;
	tell_left_over();
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int r = steps[i].take(s, plan);

		if (r)
			return trouble(steps[i].what, r);
	}
	return EXIT_HEALTHY;
}

bool session_knows(const struct session *s, uint32_t vpid)
{
	struct lttng_event *events = NULL;
	int n = lttng_list_tracepoints(s->handle, &events);
	bool found = false;

	for (int i = 0; i < n && !found; i++)
		found = events[i].pid == (pid_t)vpid && !strncmp(events[i].name, "bh:", 3);
	free(events);
	return found;
}

int session_snapshot(const struct session *s, const char *dir)
{
	struct lttng_snapshot_output *output = lttng_snapshot_output_create();
	int r = output ? lttng_snapshot_output_set_local_path(dir, output) : -LTTNG_ERR_NOMEM;

	if (!r)
		r = lttng_snapshot_record(s->name, output, 1);
	lttng_snapshot_output_destroy(output);
	if (r < 0)
		trouble("no snapshot can be taken", r);
	return r < 0 ? -1 : 0;
}

/* --- the end ------------------------------------------------------------------------------ */

static int count_discarded(const struct session *s, uint64_t *discarded)
{
	struct lttng_channel *channels = NULL;
	int n = lttng_list_channels(s->handle, &channels);

	*discarded = 0;
	for (int i = 0; i < n; i++) {
		uint64_t events = 0, packets = 0;

		lttng_channel_get_discarded_event_count(&channels[i], &events);
		/* Overwritten ones, in flight-recorder mode: that is its purpose. */
		if (!channels[i].attr.overwrite)
			lttng_channel_get_lost_packet_count(&channels[i], &packets);
		/* 2.13's consumer takes a count that shrank, as after a process killed while it
		 * recorded, for one that wrapped at 63 bits (consumer.c, "only one wrap"). */
		*discarded += (events & INT64_MAX) + packets;
	}
	free(channels);
	return n < 0 ? n : 0;
}

bool session_stop(const struct session *s, uint64_t *discarded)
{
	uint64_t deadline = patient_now_ms() + WRITTEN_MS;
	int r = lttng_stop_tracing_no_wait(s->name), pending = 1;

	*discarded = 0;
	if (r < 0 && r != -LTTNG_ERR_TRACE_ALREADY_STOPPED) {
		trouble("the recording does not stop", r);
		return false;
	}
	while ((pending = lttng_data_pending(s->name)) == 1 && patient_now_ms() < deadline)
		patient_nap(NAP_MS);
	if (pending == 1)
		fprintf(stderr, "bhtrace: LTTng: not all of it has been written after %d s\n", WRITTEN_MS / 1000);
	else if (pending < 0)
		trouble("whether all of it has been written is not known", pending);
	r = count_discarded(s, discarded);
	if (r < 0)
		trouble("how many events were discarded is not known", r);
	return pending == 0 && r == 0;
}

static void destroy(struct session *s)
{
	struct lttng_destruction_handle *handle = NULL;
	enum lttng_error_code code = lttng_destroy_session_ext(s->name, &handle);

	if (code != LTTNG_OK)
		trouble("the session cannot be destroyed", -(int)code);
	else
		s->stuck = lttng_destruction_handle_wait_for_completion(handle, DAEMON_MS) !=
			   LTTNG_DESTRUCTION_HANDLE_STATUS_COMPLETED;
	if (s->stuck && !s->daemon)
		fprintf(stderr,
			"bhtrace: LTTng: session %s has not ended; if lttng list does not answer, lttng-sessiond must "
			"be "
			"started again\n",
			s->name);
	lttng_destruction_handle_destroy(handle);
}

void session_close(struct session *s)
{
	if (s->created)
		destroy(s);
	lttng_destroy_handle(s->handle);
	if (s->daemon)
		end_daemon(s);
	*s = (struct session){ 0 };
}
