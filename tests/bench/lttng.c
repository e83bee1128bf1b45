/* SPDX-License-Identifier: MIT */
/*
 * lttng PROVIDER: what the LTTng-UST provider costs an event, without a session and
 * with one, beside the flight recorder and an attached USDT probe.
 *
 * Each subject is a process of its own, because the provider is looked for when a
 * process starts; it checks that it is in the state that is to be measured.
 */
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "usdt.h"
#include "bh.h"
#include "bench.h"

/* So few that LTTng's buffers hold them, whenever the consumer gets a processor. */
enum { RUNS = 9, EVENTS = 1000000, RECORDED = 100000, WARM = 10, TRACED_EVENTS = 20000 };

static struct bh_loop *loop;
static struct bh *bh;

/* As in recorder.c: the event that a busy program records most. */
static void emit(uint64_t i)
{
	bhp_emit(schedule, .loop = loop, .bh = bh, .seen = i & 1, .kind = BHP_KIND_NORMAL, .ticket = i);
}

static void traced(uint64_t i)
{
	USDT_SITE(traced, loop, bh, i);
}

static inline __attribute__((always_inline)) double ns_per_event(void (*event)(uint64_t), uint64_t n)
{
	for (uint64_t i = 0; i < n / WARM; i++)
		event(i);
	usdt_drain();
	uint64_t begin = bench_now_ns();
	for (uint64_t i = 0; i < n; i++)
		event(i);
	return (double)(bench_now_ns() - begin) / (double)n;
}

/* --- a subject ------------------------------------------------------------------------ */

static int subject(const char *what)
{
	bool provider = strcmp(what, "none") != 0, session = strcmp(what, "session") == 0;

	loop = bh_loop_new("bench");
	bh = loop ? bh_new(loop, NULL, NULL, "bench") : NULL;
	if (!bh)
		bench_die("no event loop");
	if (provider != (bhp_lttng != NULL))
		bench_die("%s: %s provider", what, provider ? "no" : "a");
	if (provider && session != (*bhp_lttng->event[BHP_ID_schedule].state != 0))
		bench_die("%s: the tracepoint is %s", what, session ? "off" : "on");
	printf("ns %.3f\n", ns_per_event(emit, session ? RECORDED : EVENTS));
	return 0;
}

static void measure_subject(struct bench_set *set, const char *what, const char *flight, const char *key)
{
	if (bench_child(what, flight, key, set) != 0)
		bench_die("subject %s (%s) failed", what, key);
}

/* --- LTTng ------------------------------------------------------------------------------ */

static char home[] = "/tmp/bh-bench-XXXXXX", session_name[32];
static pid_t sessiond;

static int __attribute__((format(printf, 1, 2))) shell(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	return system(command);
}

/* Root's is one for the machine, and may be there already. */
static bool start_sessiond(void)
{
	if (shell("lttng list >%s/log 2>&1", home) == 0)
		return true;
	sessiond = fork();
	if (sessiond == 0) {
		if (freopen("/dev/null", "w", stdout) && freopen("/dev/null", "w", stderr))
			execlp("lttng-sessiond", "lttng-sessiond", "--no-kernel", (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 100; i++) {
		usleep(100000);
		if (shell("lttng list >%s/log 2>&1", home) == 0)
			return true;
		if (waitpid(sessiond, NULL, WNOHANG) == sessiond)
			return sessiond = 0, false;
	}
	return false;
}

/* NULL, or why there is no session. */
static const char *open_session(void)
{
	snprintf(session_name, sizeof(session_name), "bh-bench-%d", (int)getpid());
	if (!mkdtemp(home) || setenv("LTTNG_HOME", home, 1) != 0)
		return "no temporary directory";
	if (system("command -v lttng lttng-sessiond babeltrace2 >/dev/null") != 0)
		return "no lttng-tools or babeltrace2";
	if (!start_sessiond())
		return "no LTTng session daemon";
	if (shell("{ lttng create %s --output=%s/trace &&"
		  " lttng enable-channel -u -s %s --subbuf-size=4M --num-subbuf=8 c &&"
		  " lttng add-context -u -s %s -c c -t vpid -t vtid &&"
		  " lttng enable-event -u -s %s -c c bh:schedule; } >%s/log 2>&1",
		  session_name, home, session_name, session_name, session_name, home) != 0)
		return "no LTTng session";
	return NULL;
}

static void switch_session(const char *how)
{
	if (shell("lttng %s %s >%s/log 2>&1", how, session_name, home) != 0)
		bench_die("lttng %s failed", how);
}

static void close_session(void)
{
	if (*session_name)
		shell("lttng destroy %s >%s/log 2>&1", session_name, home);
	if (sessiond > 0) {
		kill(sessiond, SIGTERM);
		waitpid(sessiond, NULL, 0);
	}
	shell("rm -rf %s", home);
}

static double number_from(const char *command)
{
	double value = NAN;
	FILE *in = popen(command, "r");

	if (in && fscanf(in, "%lf", &value) != 1)
		value = NAN;
	if (in)
		pclose(in);
	return value;
}

/* Of all that was recorded; NAN when events are missing, which would be cheap. */
static double bytes_per_event(void)
{
	char command[256];

	snprintf(command, sizeof(command),
		 "babeltrace2 %s/trace -c sink.utils.counter -p step=+0 2>&1 | awk '/ Event mess/{print $1}'", home);
	double events = number_from(command);
	snprintf(command, sizeof(command), "cat $(find %s/trace -name 'c_*' -not -path '*/index/*') | wc -c", home);
	double bytes = number_from(command);
	if (!(events >= RUNS * 2.0 * RECORDED * (WARM + 1) / WARM))
		bench_die("LTTng kept only %.0f events", events);
	return bytes / events;
}

/* --- measuring ----------------------------------------------------------------------------- */

static double traced_ns(void)
{
	double ns = ns_per_event(traced, TRACED_EVENTS);
	unsigned seen = usdt_drain();

	if (seen != TRACED_EVENTS)
		bench_die("the USDT tracer saw %u of %u events", seen, TRACED_EVENTS);
	return ns;
}

static void measure(struct bench_set *set, const char *provider, bool lttng, bool usdt)
{
	measure_subject(set, "none", "off", "none");
	measure_subject(set, "none", NULL, "flight");
	if (usdt)
		bench_add(set, "usdt", traced_ns());
	setenv("BH_LTTNG", provider, 1);
	measure_subject(set, "provider", "off", "provider");
	measure_subject(set, "provider", NULL, "flight.provider");
	if (lttng) {
		switch_session("start");
		measure_subject(set, "session", "off", "lttng");
		measure_subject(set, "session", NULL, "flight.lttng");
		switch_session("stop");
	}
	unsetenv("BH_LTTNG");
}

static void row(const struct bench_set *set, const char *name, const char *key, const char *peer, const char *target,
		const char *why)
{
	char full[64];

	snprintf(full, sizeof(full), "%s.ns", key);
	double value = bench_median(set, full), peer_value = bench_median(set, "flight.ns");
	bench_print(&(struct bench_row){ .table = "LTTng-UST and one event",
					 .name = name,
					 .value = value,
					 .unit = "ns",
					 .peer = peer,
					 .peer_value = peer_value,
					 .ratio = peer_value / value,
					 .target = target,
					 .note = why });
}

/* What a provider adds while nobody records: runs are compared with themselves. */
static void added_row(const struct bench_set *set, const char *name, const char *with, const char *without)
{
	bench_print(&(struct bench_row){ .table = "LTTng-UST and one event",
					 .name = name,
					 .value = (bench_paired(set, with, without) - 1) * bench_median(set, without),
					 .unit = "ns",
					 .target = "value <= 2" });
}

int main(int argc, char **argv)
{
	static struct bench_set set;

	bench_pin(0);
	if (argc == 2 && *argv[1] != '/')
		return subject(argv[1]);
	if (argc != 2)
		bench_die("usage: lttng /PATH/OF/libbh-lttng.so.0");
	const char *no_lttng = open_session(), *no_usdt = usdt_attach();
	atexit(close_session);
	for (int run = 0; run < RUNS; run++)
		measure(&set, argv[1], !no_lttng, !no_usdt);
	usdt_detach();
	const char *beside = "flight recorder";
	row(&set, "BH_FLIGHT=off, no provider", "none", beside, NULL, NULL);
	row(&set, "BH_FLIGHT=off, provider without a session", "provider", beside, NULL, NULL);
	added_row(&set, "what the provider adds to it", "provider.ns", "none.ns");
	added_row(&set, "what it adds to the flight recorder", "flight.provider.ns", "flight.ns");
	row(&set, "LTTng-UST, session with vpid and vtid", "lttng", beside, NULL, no_lttng);
	row(&set, "both recorders", "flight.lttng", beside, NULL, no_lttng);
	bench_print(&(struct bench_row){ .table = "LTTng-UST and one event",
					 .name = "attached USDT probe",
					 .value = bench_median(&set, "usdt"),
					 .unit = "ns",
					 .note = no_usdt });
	double bytes = no_lttng ? NAN : (switch_session("destroy"), bytes_per_event());
	bench_print(&(struct bench_row){ .table = "LTTng-UST and one event",
					 .name = "size of a recorded event",
					 .value = bytes,
					 .unit = "bytes",
					 .peer = beside,
					 .peer_value = sizeof(struct bhp_record),
					 .ratio = sizeof(struct bhp_record) / bytes,
					 .note = no_lttng });
	return 0;
}
