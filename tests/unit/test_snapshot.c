/* SPDX-License-Identifier: MIT */
/* What was kept of a live process is what was seen of it, or is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bh.h"
#include "diagnosis.h"
#include "sources/live.h"
#include "sources/procfs.h"
#include "sources/snapline.h"
#include "sources/snapshot.h"

enum { EVENTS_MAX = 65536 };

static char top[64], dir[80];
static pid_t child;
static struct bht_evidence ev, back;
static struct bht_refusal refusal;

/* A history as it was read: events, and texts beside them. */
struct told {
	struct bht_event e[EVENTS_MAX];
	char text[EVENTS_MAX][BHP_TEXT_MAX + 1];
	int n;
};

static struct told live_told, kept_told;

/* --- the target ----------------------------------------------------------------- */

static struct bh *bhs[3];

static void again(void *opaque)
{
	static uint64_t n;

	bh_consume(bhs[0], ++n);
	if (n < *(uint64_t *)opaque)
		bh_schedule_ticket(bhs[0], n + 1);
}

/* Runs a bottom half so often, then sleeps for ever. */
static void run_target(uint64_t times)
{
	struct bh_loop *loop = bh_loop_new("a loop=\\ \n");

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "tar get \x01");
	bhs[0] = bh_new(loop, again, &times, "again");
	bhs[1] = bh_new(loop, again, &times, "");
	bhs[2] = bh_new(loop, again, &times, "\xff exactly thirty-one bytes long");
	if (!bhs[2])
		_exit(1);
	bh_schedule_ticket(bhs[0], 1);
	bh_loop_run(loop);
	_exit(0);
}

static bool settled(const struct bht_sample *sample)
{
	const struct bht_thread *thread = bht_sample_thread(sample, (uint32_t)child);

	return !sample->unstable && sample->n_loops == 1 && sample->loops[0].where == BHP_WAIT && thread &&
	       thread->state == 'S';
}

static void tell_all(struct bht_source *history, struct told *told)
{
	int n;

	told->n = 0;
	while (history && (n = history->next(history, &told->e[told->n], 100)) > 0) {
		for (int i = told->n; i < told->n + n; i++) {
			snprintf(told->text[i], sizeof(told->text[i]), "%s", told->e[i].text ? told->e[i].text : "");
			told->e[i].text = NULL;
		}
		told->n += n;
		assert_true(told->n < EVENTS_MAX - 100);
	}
}

/* Two samples and the history of a target that ran its bottom half TIMES; kept
 * in DIR. */
static void keep(uint64_t times)
{
	const struct timespec pause = { 0, 1000000 };

	child = fork();
	if (child == 0)
		run_target(times);
	struct bht_live *live = NULL;
	ev = (struct bht_evidence){ .live = true };
	for (int i = 0; i < 10000 && !settled(&ev.first); i++) {
		bht_live_close(live);
		bht_evidence_free(&ev);
		ev.live = true;
		live = bht_live_open((uint32_t)child, &refusal);
		assert_non_null(live);
		assert_int_equal(bht_live_sample(live, &ev, &ev.first, &refusal), 0);
		nanosleep(&pause, NULL);
	}
	struct bht_source *history = bht_live_history(live, &ev, &refusal);
	assert_non_null(history);
	assert_int_equal(bht_live_sample(live, &ev, &ev.last, &refusal), 0);
	bht_unseen(&ev, "something \\ with=\ttrouble in it");
	tell_all(history, &live_told);
	if (bht_snapshot_write(dir, &ev, history, &refusal))
		fail_msg("%s", refusal.why);
	history->close(history);
	bht_live_close(live);
}

/* --- its files ------------------------------------------------------------------ */

static int setup(void **state)
{
	(void)state;
	strcpy(top, "/tmp/bh-test-XXXXXX");
	if (!mkdtemp(top))
		return -1;
	snprintf(dir, sizeof(dir), "%s/kept", top);
	return 0;
}

static void in_dir(char path[512], const char *name)
{
	snprintf(path, 512, "%s/%s", dir, name);
}

static int teardown(void **state)
{
	char path[512];
	DIR *d = opendir(dir);

	(void)state;
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	child = 0;
	for (struct dirent *e; d && (e = readdir(d));) {
		in_dir(path, e->d_name);
		unlink(path);
	}
	if (d) {
		bht_ctf_remove(dirfd(d), "history");
		closedir(d);
	}
	rmdir(dir);
	bht_evidence_free(&ev);
	bht_evidence_free(&back);
	return rmdir(top);
}

static void open_kept(void)
{
	struct bht_source *history;

	bht_evidence_free(&back);
	if (bht_snapshot_open(dir, &back, &history, &refusal))
		fail_msg("%s", refusal.why);
	assert_non_null(history);
	tell_all(history, &kept_told);
	history->close(history);
}

static void refused(int error, const char *why)
{
	struct bht_source *history;

	assert_int_equal(bht_snapshot_open(dir, &back, &history, &refusal), error);
	if (!strstr(refusal.why, why))
		fail_msg("\"%s\" instead of \"%s\"", refusal.why, why);
	assert_null(history);
	assert_null(back.last.loops);
}

/* --- tests ---------------------------------------------------------------------- */

static void same_lines(enum bht_snap what, const void *a, const void *b)
{
	char *text[2];
	size_t size[2];

	for (int i = 0; i < 2; i++) {
		FILE *out = open_memstream(&text[i], &size[i]);
		bht_snap_print(out, what, i ? b : a);
		fclose(out);
	}
	assert_string_equal(text[0], text[1]);
	free(text[0]);
	free(text[1]);
}

static void same_sample(const struct bht_sample *a, const struct bht_sample *b)
{
	same_lines(BHT_SNAP_sample, a, b);
	assert_int_equal(a->n_loops, b->n_loops);
	assert_int_equal(a->n_bhs, b->n_bhs);
	assert_int_equal(a->n_threads, b->n_threads);
	for (size_t i = 0; i < a->n_loops; i++)
		same_lines(BHT_SNAP_loop, &a->loops[i], &b->loops[i]);
	for (size_t i = 0; i < a->n_bhs; i++)
		same_lines(BHT_SNAP_bh, &a->bhs[i], &b->bhs[i]);
	for (size_t i = 0; i < a->n_threads; i++)
		same_lines(BHT_SNAP_thread, &a->threads[i], &b->threads[i]);
}

static void compare(void)
{
	open_kept();
	assert_int_equal(back.origin, BHT_FROM_SNAPSHOT);
	assert_string_equal(back.source, dir);
	assert_true(back.live);
	same_lines(BHT_SNAP_evidence, &ev, &back);
	assert_memory_equal(&ev.ticks_per_ns, &back.ticks_per_ns, sizeof(double));
	assert_int_equal(ev.n_unseen, back.n_unseen);
	for (unsigned i = 0; i < ev.n_unseen; i++)
		assert_string_equal(ev.unseen[i], back.unseen[i]);
	same_sample(&ev.first, &back.first);
	same_sample(&ev.last, &back.last);
	assert_int_equal(live_told.n, kept_told.n);
	assert_memory_equal(live_told.e, kept_told.e, sizeof(live_told.e[0]) * (size_t)live_told.n);
	for (int i = 0; i < live_told.n; i++)
		assert_string_equal(live_told.text[i], kept_told.text[i]);
}

static void test_round_trip(void **state)
{
	(void)state;
	keep(10);
	assert_true(live_told.n > 30);
	compare();
	assert_string_equal(back.last.loops[0].name, "a loop=\\ \n");
	assert_int_equal(bht_event_id(&kept_told.e[0]), BHP_ID_thread);
}

/* A ring that wrapped keeps what it tells of its loss. */
static void test_round_trip_of_loss(void **state)
{
	(void)state;
	keep(5000);
	assert_int_equal(bht_event_id(&live_told.e[0]), BHT_ID_LOSS);
	assert_true(bht_loss_count(&live_told.e[0]) > 10000);
	compare();
}

/* Replays what was told. */
struct replay {
	struct bht_source base;
	const struct told *told;
	int at;
};

static int replay_next(struct bht_source *source, struct bht_event *e, unsigned max)
{
	struct replay *r = (struct replay *)source;

	(void)max;
	if (r->at == r->told->n)
		return 0;
	*e = r->told->e[r->at];
	e->text = r->told->text[r->at][0] ? r->told->text[r->at] : NULL;
	r->at++;
	return 1;
}

static void diagnose(const struct bht_evidence *of, const struct told *told, struct bht_diagnosis *d)
{
	struct replay r = { .base = { .next = replay_next }, .told = told };

	assert_int_equal(bht_diagnose(of, &r.base, 0, d), 0);
}

static void test_same_diagnosis(void **state)
{
	(void)state;
	struct bht_diagnosis a, b;

	keep(100);
	/* As if the last schedule had been lost. */
	ev.last.bhs[0].flags = ev.first.bhs[0].flags = BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED;
	open_kept();
	back.last.bhs[0].flags = back.first.bhs[0].flags = BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED;
	diagnose(&ev, &live_told, &a);
	diagnose(&back, &kept_told, &b);
	assert_int_equal(a.verdict, b.verdict);
	assert_int_equal(a.n_findings, b.n_findings);
	assert_int_equal(a.n_reasons, b.n_reasons);
	assert_int_equal(a.n_events, b.n_events);
	assert_string_equal(a.n_reasons ? a.reasons[0] : "", b.n_reasons ? b.reasons[0] : "");
	bht_diagnosis_free(&a);
	bht_diagnosis_free(&b);
}

static void test_modes(void **state)
{
	(void)state;
	char path[512];
	struct stat st;

	keep(1);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	in_dir(path, "evidence");
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	in_dir(path, "history");
	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	/* What is there is left alone. */
	assert_int_equal(bht_snapshot_write(dir, &ev, NULL, &refusal), -EEXIST);
	assert_non_null(strstr(refusal.why, "File exists"));
	compare();
}

static void test_without_history(void **state)
{
	(void)state;
	struct bht_source *history;

	ev.ticks_per_ns = 2.5;
	assert_int_equal(bht_snapshot_write(dir, &ev, NULL, &refusal), 0);
	assert_int_equal(bht_snapshot_open(dir, &back, &history, &refusal), 0);
	assert_null(history);
	same_lines(BHT_SNAP_evidence, &ev, &back);
	/* Evidence alone does not replace what is there. */
	assert_int_equal(bht_evidence_write(dir, &ev, &refusal), -EEXIST);
}

/* Evidence beside a history that something else records. */
static void test_evidence_alone(void **state)
{
	(void)state;
	struct bht_source *history;
	char path[512];

	assert_int_equal(bht_evidence_write(dir, &ev, &refusal), -ENOENT);
	assert_int_equal(mkdir(dir, 0700), 0);
	ev.ticks_per_ns = 0.5;
	strcpy(ev.hostname, "another \\ host");
	assert_int_equal(bht_evidence_write(dir, &ev, &refusal), 0);
	assert_int_equal(bht_snapshot_open(dir, &back, &history, &refusal), 0);
	assert_null(history);
	same_lines(BHT_SNAP_evidence, &ev, &back);
	/* A history that is damaged is not none. */
	in_dir(path, "history");
	assert_int_equal(mkdir(path, 0700), 0);
	bht_evidence_free(&back);
	refused(-ENOENT, "history/metadata: No such file");
}

/* A stream whose end is cut off: what is missing may be as late as the evidence. */
static void test_history_cut(void **state)
{
	(void)state;
	char path[512];
	struct stat st;

	keep(100);
	in_dir(path, "history/stream-0");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 1), 0);
	open_kept();
	const struct bht_event *last = &kept_told.e[kept_told.n - 1];
	assert_int_equal(bht_event_id(last), BHT_ID_LOSS);
	assert_int_equal(bht_loss_reason(last), BHT_LOSS_DAMAGED);
	assert_int_equal(last->tid, 0);
	assert_int_equal(bht_time(last), ev.last.ticks);
}

static void test_about(void **state)
{
	(void)state;
	struct bht_ctf_about about;
	char host[65] = "";

	keep(1);
	assert_int_equal(bht_ctf_about((uint32_t)child, &about, &refusal), 0);
	gethostname(host, sizeof(host) - 1);
	assert_int_equal(about.pid, child);
	assert_string_equal(about.hostname, host);
	assert_string_equal(about.command, "tar get \x01");
	assert_true(about.ticks_per_ns > ev.ticks_per_ns * 0.99 && about.ticks_per_ns < ev.ticks_per_ns * 1.01);
	assert_true(about.clock.ticks > ev.last.ticks && about.clock.ticks <= bhp_clock());
	assert_true(about.realtime_ns / 1000000000 - (uint64_t)time(NULL) + 5 <= 10);
	assert_int_equal(strlen(about.build_id) % 2, 0);
	assert_int_equal(strspn(about.build_id, "0123456789abcdef"), strlen(about.build_id));
	/* The number is another's, or nobody's. */
	strcpy(ev.command, "no such");
	bht_ctf_about_evidence(&ev, &about);
	assert_string_equal(about.build_id, "");
	assert_string_equal(about.command, "no such");
	ev.pid = 4194304 - 1;
	bht_ctf_about_evidence(&ev, &about);
	assert_int_equal(about.pid, ev.pid);
	assert_int_equal(bht_ctf_about(ev.pid, &about, &refusal), -ESRCH);
}

/* --- what nobody wrote ------------------------------------------------------------ */

static char *content;
static size_t length;

static void load(const char *name)
{
	char path[512];
	struct stat st;

	in_dir(path, name);
	int fd = open(path, O_RDONLY);
	assert_int_equal(fstat(fd, &st), 0);
	length = (size_t)st.st_size;
	free(content);
	content = malloc(length + 1);
	assert_int_equal(read(fd, content, length), length);
	content[length] = '\0';
	close(fd);
}

static void save(const char *name, size_t n)
{
	char path[512];

	in_dir(path, name);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, content, n), n);
	assert_int_equal(ftruncate(fd, (off_t)n), 0);
	close(fd);
}

static void test_incomplete(void **state)
{
	(void)state;
	keep(1);
	load("evidence");
	for (size_t n = 0; n < length; n += n < length - 300 ? 7 : 1) {
		save("evidence", n);
		refused(-EBADMSG, n ? "interrupted" : "");
		assert_true(refusal.addr <= n);
	}
	save("evidence", length);
	compare();
	free(content);
	content = NULL;
}

static void replace(const char *what, const char *by, int error, const char *why)
{
	load("evidence");
	char *at = strstr(content, what);
	const size_t n = strlen(what), m = strlen(by);

	assert_non_null(at);
	char *other = NULL;
	const int other_length = asprintf(&other, "%.*s%s%s", (int)(at - content), content, by, at + n);
	assert_int_equal(other_length, length - n + m);
	char *original = content;
	const size_t original_length = length;
	content = other;
	save("evidence", length - n + m);
	refused(error, why);
	free(other);
	content = original;
	length = original_length;
	save("evidence", length);
}

static void test_damaged_lines(void **state)
{
	(void)state;
	keep(1);
	replace("bhtrace-snapshot 3", "bhtrace-snapsho? 2", -EPROTO, "offset 0: does not begin with");
	replace("bhtrace-snapshot 3", "bhtrace-snapshot 2", -EPROTO,
		"offset 0: of another format than bhtrace-snapshot 3");
	replace("machine ", "machine x", -EPROTO, "another kind of machine");
	replace(" pid=", " pit=", -EBADMSG, "another field");
	replace(" pid=0x", " pid=0x1ffffffff", -EBADMSG, "out of range");
	replace(" pid=0x", " pid=", -EBADMSG, "no number");
	replace(" pid=0x", " pid=-0x", -EBADMSG, "no number");
	replace("\nsample ", "\nsimple ", -EBADMSG, "another kind of line");
	replace("unstable=0x0", "unstable=0x2", -EBADMSG, "out of range");
	replace("unstable=0x0", "unstable=0x0 more=0x1", -EBADMSG, "more than was expected");
	replace("name=again", "name=again\\", -EBADMSG, "string");
	replace("name=again", "name=again\\0", -EBADMSG, "string");
	replace("name=again", "name=again\\00", -EBADMSG, "string");
	replace("name=again", "name=againagainagainagainagainagain..", -EBADMSG, "string");
	replace("ticks_per_ns=0x", "ticks_per_ns=0x7ff8000000000000 ", -EBADMSG, "");
	replace("\nend\n", "\nend\nx", -EBADMSG, "more than was expected");
	compare();
	char *line = malloc(9001);
	memset(line, 'x', 9000);
	line[9000] = '\0';
	replace("\nend\n", line, -EBADMSG, "too long");
	free(line);
	free(content);
	content = NULL;
}

/* Any byte: refused or read, never worse. */
static void test_any_byte(void **state)
{
	(void)state;
	struct bht_source *history;

	keep(1);
	for (int file = 0; file < 2; file++) {
		const char *name = file ? "history/metadata" : "evidence";
		load(name);
		for (size_t i = 0; i < length; i += 1 + i % 3) {
			const char byte = content[i];
			content[i] = (char)(byte ^ (1 << i % 8));
			save(name, length);
			content[i] = byte;
			bht_evidence_free(&back);
			if (bht_snapshot_open(dir, &back, &history, &refusal)) {
				assert_true(refusal.why[0]);
			} else if (history) {
				tell_all(history, &kept_told);
				history->close(history);
			}
		}
		save(name, length);
	}
	compare();
	free(content);
	content = NULL;
}

static void test_strange_files(void **state)
{
	(void)state;
	char path[512], other[512];

	refused(-ENOENT, "No such file");
	keep(1);
	const char *const names[] = { "evidence", "history/metadata" };
	for (unsigned i = 0; i < 2; i++) {
		in_dir(path, names[i]);
		in_dir(other, "moved");
		assert_int_equal(rename(path, other), 0);
		refused(-ENOENT, names[i]);
		assert_int_equal(symlink(other, path), 0);
		refused(-ELOOP, "a symbolic link");
		unlink(path);
		assert_int_equal(mkfifo(path, 0600), 0);
		refused(-EBADMSG, "no regular file");
		assert_int_equal(rename(other, path), 0);
	}
	compare();
	in_dir(path, "history");
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
	refused(-ENOTDIR, "history");
	unlink(path);
	assert_int_equal(rename(other, path), 0);
	compare();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip),     TEST(test_round_trip_of_loss), TEST(test_same_diagnosis),
		TEST(test_modes),          TEST(test_without_history),    TEST(test_incomplete),
		TEST(test_damaged_lines),  TEST(test_any_byte),           TEST(test_strange_files),
		TEST(test_evidence_alone), TEST(test_history_cut),        TEST(test_about),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
