/* SPDX-License-Identifier: MIT */
/*
 * What eBPF costs the process that is looked at. A child schedules a bottom half that
 * is pending already, one event each, and counts them; it is traced by the programs of
 * record and watch, and by bpftrace doing the same. The sites are those of this binary.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "bh.h"
#include "capture.h"
#include "flight.h"
#include "monitor.h"

enum { RUNS = 5, HITS = 200000, SECOND_PART = 2 /* a paced run lasts 1/2 s untraced */ };

static const unsigned rates[] = { 10000, 100000, 500000 };
enum { RATES = sizeof(rates) / sizeof(*rates) };

static char self[PATH_MAX];
static double ticks_per_ns;

/* --- the child ---------------------------------------------------------------------------- */

static volatile uint64_t spun;

static void spin(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		spun = spun * 6364136223846793005u + 1;
}

static void do_nothing(void *opaque)
{
	(void)opaque;
}

/* Rounds of spin() in a ns: the best of a few. */
static double spin_rate(void)
{
	const uint64_t n = 2000000;
	double best = 0;

	for (int i = 0; i < 5; i++) {
		const uint64_t began = bench_now_ns();
		spin(n);
		const double rate = (double)n / (double)(bench_now_ns() - began);
		best = rate > best ? rate : best;
	}
	return best;
}

/* For each line "EVENTS RATE" (0: as fast as possible) it says how many ns it took. */
static int work(void)
{
	struct bh_loop *loop = bh_loop_new("bench");
	struct bh *bh = loop ? bh_new(loop, do_nothing, NULL, "bench") : NULL;
	const double rate = spin_rate();
	unsigned long events, a_second;

	if (!bh)
		bench_die("no bottom half");
	bh_schedule(bh);
	puts("ready");
	fflush(stdout);
	while (scanf("%lu %lu", &events, &a_second) == 2) {
		const uint64_t rounds = a_second ? (uint64_t)(1e9 / (double)a_second * rate) : 0;
		const uint64_t began = bench_now_ns();
		for (unsigned long i = 0; i < events; i++) {
			bh_schedule(bh);
			spin(rounds);
		}
		printf("%llu\n", (unsigned long long)(bench_now_ns() - began));
		fflush(stdout);
	}
	return 0;
}

struct child {
	pid_t pid;
	FILE *to, *from;
};

/* Starts a program with pipes to its stdin and from its stdout. */
static struct child start(char *const *argv)
{
	struct child c;
	int in[2], out[2];

	if (pipe(in) || pipe(out))
		bench_die("no pipe");
	c.pid = fork();
	if (c.pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		for (int fd = 3; fd < 1024; fd++)
			close(fd);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	c.to = fdopen(in[1], "w");
	c.from = fdopen(out[0], "r");
	if (c.pid < 0 || !c.to || !c.from)
		bench_die("no child");
	return c;
}

static void stop(struct child *c, int sig)
{
	fclose(c->to);
	if (sig)
		kill(c->pid, sig);
	fclose(c->from);
	waitpid(c->pid, NULL, 0);
}

static bool said(const struct child *c, const char *word)
{
	char line[256];

	while (fgets(line, sizeof(line), c->from))
		if (strstr(line, word))
			return true;
	return false;
}

static void ask(const struct child *c, unsigned long events, unsigned a_second)
{
	fprintf(c->to, "%lu %u\n", events, a_second);
	fflush(c->to);
}

static double answer(const struct child *c)
{
	unsigned long long ns = 0;

	if (fscanf(c->from, "%llu", &ns) != 1)
		bench_die("the traced process has ended");
	return (double)ns;
}

/* --- tracers ------------------------------------------------------------------------------ */

enum tracer { NOBODY, RECORD, WATCH, BPFTRACE_RECORD, BPFTRACE_WATCH, TRACERS };

static const char *const keys[TRACERS] = { "nobody", "record", "watch", "bt-record", "bt-watch" };
static bool has_bpftrace;

/* A record is a line that nobody reads; what watch keeps is in maps. */
static const char *const scripts[TRACERS] = {
	[BPFTRACE_RECORD] =
		"usdt:%s:bh:schedule { printf(\"%%lx %%d %%lx %%lx %%d %%d %%d %%lx\\n\", nsecs, tid, arg0, arg1, "
		"arg2, arg3, arg4, arg5); } BEGIN { printf(\"ready\\n\"); }",
	[BPFTRACE_WATCH] =
		"usdt:%s:bh:schedule { if (arg2 == 0) { @at[pid, arg1] = nsecs; } else { @coalesced[pid, arg1]++; } "
		"@schedules[pid, arg1]++; } BEGIN { printf(\"ready\\n\"); }",
};

struct traced {
	uint64_t events, lost;
};

static void on_event(void *arg, uint32_t tgid, uint32_t tid, bool kernel, const struct bhp_record *r, const char *text)
{
	struct traced *t = arg;

	(void)tgid, (void)tid, (void)kernel, (void)text;
	t->events += bhp_record_id(r) == BHP_ID_schedule;
}

static void on_lost(void *arg, uint64_t time, uint64_t count)
{
	struct traced *t = arg;

	(void)time;
	t->lost += count;
}

static void on_begin(void *arg, uint32_t tgid, uint64_t time, bool whole)
{
	(void)arg, (void)tgid, (void)time, (void)whole;
}

static void on_end(void *arg, uint32_t tgid, uint64_t time)
{
	(void)arg, (void)tgid, (void)time;
}

static void on_overdue(void *arg, const struct bhb_key *key, enum bhb_overdue why, uint64_t now,
		       const struct bhb_bh *bh)
{
	(void)arg, (void)key, (void)why, (void)now, (void)bh;
}

static void on_process(void *arg, uint32_t tgid)
{
	(void)arg, (void)tgid;
}

static bool answered(const struct child *c)
{
	struct timeval none = { 0 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(fileno(c->from), &set);
	return select(fileno(c->from) + 1, &set, NULL, NULL, &none) == 1;
}

/* One run of the child under a tracer; ns. Adds how long it took to attach and detach. */
static double under_record(struct bench_set *set, const struct child *c, unsigned long events, unsigned a_second,
			   struct traced *t)
{
	const struct bhb_options o = { .ticks_per_ns = ticks_per_ns };
	const struct bhb_sink sink = {
		.event = on_event, .lost = on_lost, .begins = on_begin, .ends = on_end, .arg = t
	};
	char why[BHB_WHY];
	struct bhb_capture *capture = bhb_capture_open(&o, &sink, why);

	*t = (struct traced){ 0 };
	if (!capture || bhb_capture_follow(capture, (uint32_t)c->pid, false, why) != 0)
		bench_die("%s", why);
	bench_add(set, "record.attach", (double)bhb_capture_stats(capture).attach.attach_ns / 1e6);
	ask(c, events, a_second);
	while (!answered(c)) {
		if (bhb_capture_round(capture, why) != 0)
			bench_die("%s", why);
		usleep(1000 * bhb_capture_pause_ms(capture));
	}
	const double ns = answer(c);
	bhb_capture_round(capture, why);
	const uint64_t began = bench_now_ns();
	bhb_capture_close(capture);
	bench_add(set, "record.detach", (double)(bench_now_ns() - began) / 1e6);
	return ns;
}

static double under_watch(struct bench_set *set, const struct child *c, unsigned long events, unsigned a_second)
{
	const struct bhb_monitor_options o = { .everybody = false };
	const struct bhb_monitor_sink sink = { .overdue = on_overdue, .begins = on_process, .ends = on_process };
	char why[BHB_WHY];
	struct bhb_monitor *monitor = bhb_monitor_open(&o, &sink, why);

	if (!monitor || bhb_monitor_follow(monitor, (uint32_t)c->pid, why) != 0)
		bench_die("%s", why);
	bench_add(set, "watch.attach", (double)bhb_monitor_stats(monitor).attach.attach_ns / 1e6);
	ask(c, events, a_second);
	const double ns = answer(c);
	if (bhb_monitor_stats(monitor).hits < events)
		bench_die("watch saw fewer events than there were");
	const uint64_t began = bench_now_ns();
	bhb_monitor_close(monitor);
	bench_add(set, "watch.detach", (double)(bench_now_ns() - began) / 1e6);
	return ns;
}

static double under_bpftrace(const struct child *c, enum tracer who, unsigned long events)
{
	char script[PATH_MAX + 512], pid[16];
	char *argv[] = { "sh", "-c", "exec bpftrace -p \"$1\" -e \"$2\"", "sh", pid, script, NULL };

	snprintf(pid, sizeof(pid), "%d", c->pid);
	snprintf(script, sizeof(script), scripts[who], self);
	struct child bt = start(argv);
	if (!said(&bt, "ready"))
		bench_die("bpftrace does not start");
	/* Its lines are read, as by a file they would be written to. */
	const pid_t reader = fork();
	if (reader == 0) {
		char buffer[65536];
		while (read(fileno(bt.from), buffer, sizeof(buffer)) > 0)
			;
		_exit(0);
	}
	ask(c, events, 0);
	const double ns = answer(c);
	stop(&bt, SIGINT);
	waitpid(reader, NULL, 0);
	return ns;
}

/* --- measuring ------------------------------------------------------------------------------- */

static void add(struct bench_set *set, enum tracer who, const char *what, double value)
{
	char key[64];

	snprintf(key, sizeof(key), "%s.%s", keys[who], what);
	bench_add(set, key, value);
}

static double alone(const struct child *c, unsigned long events, unsigned a_second)
{
	ask(c, events, a_second);
	return answer(c);
}

static void measure_hit(struct bench_set *set, const struct child *c)
{
	struct traced t;
	const double none = alone(c, HITS, 0) / HITS;

	add(set, NOBODY, "hit", none);
	add(set, RECORD, "hit", under_record(set, c, HITS, 0, &t) / HITS - none);
	if (t.events + t.lost != HITS)
		bench_die("record: %llu events and %llu lost of %d", (unsigned long long)t.events,
			  (unsigned long long)t.lost, HITS);
	add(set, WATCH, "hit", under_watch(set, c, HITS, 0) / HITS - none);
	for (enum tracer who = BPFTRACE_RECORD; has_bpftrace && who <= BPFTRACE_WATCH; who++)
		add(set, who, "hit", under_bpftrace(c, who, HITS) / HITS - none);
}

static void measure_rate(struct bench_set *set, const struct child *c, unsigned rate)
{
	const unsigned long events = rate / SECOND_PART;
	struct traced t;
	char key[32];

	const double none = alone(c, events, rate);
	const double record = under_record(set, c, events, rate, &t), watch = under_watch(set, c, events, rate);
	snprintf(key, sizeof(key), "slower-%u", rate);
	add(set, RECORD, key, 100 * (record / none - 1));
	add(set, WATCH, key, 100 * (watch / none - 1));
	snprintf(key, sizeof(key), "lost-%u", rate);
	add(set, RECORD, key, 100 * (double)t.lost / (double)events);
	snprintf(key, sizeof(key), "wrong-%u", rate);
	add(set, RECORD, key, fabs((double)(t.events + t.lost) - (double)events));
}

/* --- size ------------------------------------------------------------------------------------ */

/* Instructions that the verifier looked at in the programs loaded since FIRST, and how
 * many programs; gives the highest id. */
static uint32_t count_programs(uint32_t first, double *insns, unsigned *programs)
{
	uint32_t next = first;

	*insns = 0;
	*programs = 0;
	while (bpf_prog_get_next_id(next, &next) == 0) {
		struct bpf_prog_info info = { 0 };
		uint32_t size = sizeof(info);
		const int fd = bpf_prog_get_fd_by_id(next);
		if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0) {
			*insns += info.verified_insns;
			++*programs;
		}
		if (fd >= 0)
			close(fd);
	}
	return next;
}

static void print_size(const char *name, double insns, unsigned programs)
{
	char note[32];

	snprintf(note, sizeof(note), "%u programs", programs);
	bench_print(&(struct bench_row){
		.table = "eBPF programs", .name = name, .value = insns, .unit = "verified insns", .note = note });
}

static void print_sizes(void)
{
	const struct bhb_options o = { .ticks_per_ns = ticks_per_ns, .kernel = true };
	const struct bhb_monitor_options m = { .everybody = false };
	const struct bhb_sink sink = { .event = on_event, .lost = on_lost, .begins = on_begin, .ends = on_end };
	const struct bhb_monitor_sink watch = { .overdue = on_overdue, .begins = on_process, .ends = on_process };
	char why[BHB_WHY];
	unsigned programs;
	double insns;

	uint32_t first = count_programs(0, &insns, &programs);
	struct bhb_capture *capture = bhb_capture_open(&o, &sink, why);
	if (!capture)
		bench_die("%s", why);
	first = count_programs(first, &insns, &programs);
	print_size("record", insns, programs);
	bhb_capture_close(capture);
	struct bhb_monitor *monitor = bhb_monitor_open(&m, &watch, why);
	if (!monitor)
		bench_die("%s", why);
	count_programs(first, &insns, &programs);
	print_size("watch", insns, programs);
	bhb_monitor_close(monitor);
}

/* --- rows ---------------------------------------------------------------------------------- */

static void print_hit(const struct bench_set *set, enum tracer who, const char *name, enum tracer beside)
{
	char key[64], base[64];

	snprintf(key, sizeof(key), "%s.hit", keys[who]);
	snprintf(base, sizeof(base), "%s.hit", keys[beside]);
	bench_print(&(struct bench_row){ .table = "One hit of an attached probe",
					 .name = name,
					 .value = bench_median(set, key),
					 .unit = "ns",
					 .peer = has_bpftrace ? "bpftrace, the same" : NULL,
					 .peer_value = bench_median(set, base),
					 .ratio = has_bpftrace ? bench_paired(set, base, key) : NAN,
					 .target = has_bpftrace ? "ratio >= 1" : NULL,
					 .note = has_bpftrace ? NULL : "no bpftrace here" });
}

static void print_time(const struct bench_set *set, const char *name, const char *key)
{
	bench_print(&(struct bench_row){
		.table = "One hit of an attached probe", .name = name, .value = bench_median(set, key), .unit = "ms" });
}

static void print_rate(const struct bench_set *set, enum tracer who, unsigned rate)
{
	char key[64], name[64], note[96] = "";

	if (who == RECORD) {
		snprintf(key, sizeof(key), "record.lost-%u", rate);
		snprintf(name, sizeof(name), "record.wrong-%u", rate);
		snprintf(note, sizeof(note), "%.2f %% dropped; told less true: %.0f events", bench_median(set, key),
			 bench_median(set, name));
	}
	snprintf(key, sizeof(key), "%s.slower-%u", keys[who], rate);
	snprintf(name, sizeof(name), "%s, %u k events/s", keys[who], rate / 1000);
	bench_print(&(struct bench_row){ .table = "Slowdown of a process that is traced",
					 .name = name,
					 .value = bench_median(set, key),
					 .unit = "%",
					 .note = *note ? note : NULL });
}

int main(int argc, char **argv)
{
	static struct bench_set set;
	char *child[] = { self, "work", NULL };

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		bench_die("no /proc");
	if (argc == 2 && !strcmp(argv[1], "work"))
		return work();
	const uint64_t ns = bench_now_ns(), ticks = bhp_clock();
	usleep(100000);
	ticks_per_ns = (double)(bhp_clock() - ticks) / (double)(bench_now_ns() - ns);
	has_bpftrace = system("command -v bpftrace >/dev/null") == 0;
	unsetenv("BH_FLIGHT");
	print_sizes();
	for (unsigned run = 0; run < RUNS; run++) {
		struct child c = start(child);
		if (!said(&c, "ready"))
			bench_die("no target");
		measure_hit(&set, &c);
		for (unsigned i = 0; i < RATES; i++)
			measure_rate(&set, &c, rates[i]);
		stop(&c, 0);
	}
	print_hit(&set, RECORD, "record", BPFTRACE_RECORD);
	print_hit(&set, WATCH, "watch", BPFTRACE_WATCH);
	print_time(&set, "attach, record", "record.attach");
	print_time(&set, "detach, record", "record.detach");
	print_time(&set, "attach, watch", "watch.attach");
	print_time(&set, "detach, watch", "watch.detach");
	for (unsigned i = 0; i < RATES; i++) {
		print_rate(&set, RECORD, rates[i]);
		print_rate(&set, WATCH, rates[i]);
	}
	return 0;
}
