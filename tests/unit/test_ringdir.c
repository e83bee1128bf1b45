/* SPDX-License-Identifier: MIT */
/*
 * The files of a process that was killed. The process is this program, run again
 * under BH_FLIGHT=file:DIR, because the environment is read before main().
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "support.h"
#include "fields.h"
#include "sources/ringdir.h"

enum { EVENTS = 1000, CAPACITY = 8 * 1024 / 32 };

static char directory[64], complaints[1024];
static struct bht_evidence ev;
static struct bht_source *history;
static struct bht_refusal refusal;
static pid_t target;

/* --- the target ----------------------------------------------------------------- */

static struct bh *work, *idle;
static _Atomic uint64_t consumed;

static void consume(void *opaque)
{
	(void)opaque;
	bh_consume(work, ++consumed);
}

static void *run(void *loop)
{
	pthread_setname_np(pthread_self(), "looper");
	bh_loop_run(loop);
	return loop;
}

static void *visit(void *loop)
{
	pthread_setname_np(pthread_self(), "visitor");
	bh_delete(bh_new(loop, consume, NULL, "short-lived"));
	return NULL;
}

/* Runs a bottom half so often, then hangs by design: it stays scheduled on a loop
 * that nobody polls. */
static void be_target(const char *rounds)
{
	struct bh_loop *loop = bh_loop_new("the loop"), *lonely = bh_loop_new("lonely");
	pthread_t thread;

	work = bh_new(loop, consume, NULL, "work");
	idle = bh_new(lonely, consume, NULL, "never run");
	child_check(pthread_create(&thread, NULL, run, loop) == 0);
	elsewhere(visit, loop);
	for (int i = 1; i <= atoi(rounds); i++) {
		bh_schedule_ticket(work, (uint64_t)i);
		while (consumed < (uint64_t)i)
			sched_yield();
	}
	bh_schedule_ticket(idle, 4711);
	until_asleep(loop);
	raise(SIGKILL);
}

static void leave_files(const char *rounds)
{
	char value[128];
	int status, ends[2];

	snprintf(value, sizeof(value), "file:%s,8K", directory);
	assert_int_equal(pipe(ends), 0);
	target = fork();
	if (target == 0) {
		dup2(ends[1], STDERR_FILENO);
		setenv("BH_FLIGHT", value, 1);
		execl("/proc/self/exe", "test_ringdir", "target", rounds, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	ssize_t n = read(ends[0], complaints, sizeof(complaints) - 1);
	complaints[n > 0 ? n : 0] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(target, &status, 0), target);
	assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : -1, SIGKILL);
	assert_string_equal(complaints, "");
}

/* --- its files ------------------------------------------------------------------ */

static int make_directory(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/bh-test-XXXXXX");
	return mkdtemp(directory) ? 0 : -1;
}

static void release(void)
{
	if (history)
		history->close(history);
	history = NULL;
	bht_evidence_free(&ev);
}

/* Calls F for each path in the directory that contains WHAT. */
static unsigned each(const char *what, void (*f)(const char *path))
{
	char path[512];
	DIR *d = opendir(directory);
	unsigned n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.' || !strstr(e->d_name, what))
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);
		if (f)
			f(path);
		n++;
	}
	closedir(d);
	return n;
}

static void unlink_it(const char *path)
{
	unlink(path);
}

static int remove_directory(void **state)
{
	(void)state;
	release();
	each("", unlink_it);
	return rmdir(directory);
}

static void read_files(uint32_t pid)
{
	release();
	if (bht_ringdir_open(directory, pid, &ev, &history, &refusal))
		fail_msg("%s", refusal.why);
}

static void refused(uint32_t pid, int error, const char *why)
{
	release();
	assert_int_equal(bht_ringdir_open(directory, pid, &ev, &history, &refusal), error);
	if (!strstr(refusal.why, why))
		fail_msg("\"%s\" instead of \"%s\"", refusal.why, why);
	assert_null(history);
	assert_int_equal(ev.n_unseen, 0);
}

/* Reads the history to its end. */
static struct {
	unsigned of[256];
	uint64_t lost, last;
	unsigned lost_of_all, damaged;
} seen;

static void read_history(void)
{
	struct bht_event e[BHT_BATCH];
	int n;

	memset(&seen, 0, sizeof(seen));
	while ((n = history->next(history, e, BHT_BATCH)) > 0)
		for (int i = 0; i < n; i++) {
			seen.of[bht_event_id(&e[i])]++;
			if (bht_event_id(&e[i]) == BHT_ID_LOSS) {
				seen.lost += bht_loss_count(&e[i]);
				seen.lost_of_all += !e[i].tid;
				seen.damaged += bht_loss_reason(&e[i]) == BHT_LOSS_DAMAGED;
				continue;
			}
			assert_true(e[i].tid > 0);
			if (bhp_record_time(&e[i].r) > seen.last)
				seen.last = bhp_record_time(&e[i].r);
		}
	assert_int_equal(n, 0);
}

static void expect_unseen(const char *what)
{
	for (unsigned i = 0; i < ev.n_unseen; i++)
		if (strstr(ev.unseen[i], what))
			return;
	fail_msg("not said: %s; but: %s", what, ev.n_unseen ? ev.unseen[0] : "nothing");
}

/* --- tests ---------------------------------------------------------------------- */

static const struct bht_bh *find_bh(const char *name)
{
	for (size_t i = 0; i < ev.last.n_bhs; i++)
		if (!strcmp(ev.last.bhs[i].name, name))
			return &ev.last.bhs[i];
	return NULL;
}

static const struct bht_loop *find_loop(const char *name)
{
	for (size_t i = 0; i < ev.last.n_loops; i++)
		if (!strcmp(ev.last.loops[i].name, name))
			return &ev.last.loops[i];
	return NULL;
}

static void all_is_there(void **state)
{
	(void)state;
	leave_files("20");
	read_files(0);
	assert_int_equal(ev.origin, BHT_FROM_RINGS);
	assert_int_equal(ev.pid, target);
	assert_string_equal(ev.source, directory);
	assert_string_equal(ev.command, "test_ringdir");
	assert_false(ev.live);
	assert_false(ev.last.unstable);
	assert_int_equal(ev.n_unseen, 0);
	assert_true(ev.ticks_per_ns > 0.001 && ev.ticks_per_ns < 100);

	const struct bht_loop *loop = find_loop("the loop"), *lonely = find_loop("lonely");
	const struct bht_bh *w = find_bh("work"), *i = find_bh("never run");
	assert_int_equal(ev.last.n_loops, 2);
	assert_true(loop && lonely && w && i);
	assert_int_equal(w->loop, loop->addr);
	assert_int_equal(i->loop, lonely->addr);
	assert_int_equal(w->runs, 20);
	assert_int_equal(w->flags, 0);
	assert_int_equal(i->flags, BHP_FLAG_SCHEDULED | BHP_FLAG_LINKED);
	assert_int_equal(loop->where, BHP_WAIT);
	assert_int_equal(loop->notify_me, BHP_LOOP_SLEEPING);
	assert_int_equal(loop->protocol, BHP_PROTOCOL_FULL_BARRIER);
	assert_int_equal(loop->notifier_count, -1);
	assert_int_equal(loop->notifier_watched, -1);
	const struct bht_thread *looper = bht_sample_thread(&ev.last, loop->owner);
	assert_int_equal(ev.last.n_threads, 3);
	assert_string_equal(looper->name, "looper");
	assert_int_equal(looper->state, '?');
	assert_int_equal(looper->syscall, BHT_SYSCALL_UNKNOWN);
	const struct bht_thread *main_thread = bht_sample_thread(&ev.last, ev.pid);
	assert_non_null(main_thread);
	read_history();
	assert_int_equal(seen.of[BHP_ID_schedule], 21);
	assert_int_equal(seen.of[BHP_ID_consume], 20);
	assert_int_equal(seen.of[BHP_ID_thread], 3);
	assert_int_equal(seen.of[BHP_ID_bh_new], 3);
	assert_int_equal(seen.of[BHT_ID_LOSS], 0);
	assert_true(ev.last.ticks >= seen.last && ev.last.ticks <= bhp_clock());
	for (size_t k = 0; k < ev.last.n_threads; k++)
		if (!strcmp(ev.last.threads[k].name, "visitor"))
			assert_int_equal(ev.last.threads[k].state, 'X');
}

static void what_was_overwritten_is_loss(void **state)
{
	(void)state;
	leave_files("1000");
	read_files((uint32_t)target);
	read_history();
	assert_true(seen.lost > EVENTS && seen.damaged == 0 && seen.lost_of_all == 0);
	/* What the rings of the two busy threads hold, and the visitor's. */
	unsigned events = 0;
	for (unsigned i = 0; i < BHT_ID_LOSS; i++)
		events += seen.of[i];
	assert_in_range(events, 2 * CAPACITY, 2 * CAPACITY + 8);
	assert_int_equal(ev.n_unseen, 0);
}

static void missing(const char *what, const char *unseen)
{
	each("", unlink_it);
	leave_files("3");
	assert_true(each(what, unlink_it) > 0);
	read_files(0);
	expect_unseen(unseen);
	assert_true(ev.last.unstable);
	read_history();
	assert_true(seen.lost_of_all > 0);
}

static void what_is_missing_is_said(void **state)
{
	(void)state;
	missing("-0.flight", "the history of 1 of 3 rings");
	missing(".flight", "the history of 3 of 3 rings");
	missing("-1.objects", "files of 1 of 2 chunks are not there");
	missing(".objects", "files of 2 of 2 chunks are not there");
	missing(".process", "no file says how many there were");
}

static void alter(const char *path, off_t offset, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, bytes, n, offset), n);
	close(fd);
}

static void drop(const char *path)
{
	const uint64_t dropped = 17;

	alter(path, offsetof(struct bhp_process_file, dropped), &dropped, sizeof(dropped));
}

static void what_was_dropped_is_loss(void **state)
{
	(void)state;
	leave_files("3");
	assert_int_equal(each(".process", drop), 1);
	read_files(0);
	assert_false(ev.last.unstable);
	read_history();
	assert_int_equal(seen.lost_of_all, 1);
	assert_int_equal(seen.lost, 17);
}

static void begin_one(const char *path)
{
	struct bhp_ring h;
	int fd = open(path, O_RDONLY);

	assert_int_equal(read(fd, &h, sizeof(h)), sizeof(h));
	close(fd);
	h.reserved++;
	alter(path, offsetof(struct bhp_ring, reserved), &h.reserved, sizeof(h.reserved));
}

static void an_event_that_was_begun_is_loss(void **state)
{
	(void)state;
	leave_files("3");
	assert_int_equal(each("-0.flight", begin_one), 1);
	read_files(0);
	read_history();
	assert_int_equal(seen.of[BHT_ID_LOSS], 1);
	assert_int_equal(seen.lost, 1);
	assert_int_equal(seen.lost_of_all, 0);
}

static void which_process_is_asked(void **state)
{
	(void)state;
	char expected[64];

	refused(0, -ENOENT, "no files of a recorder");
	leave_files("1");
	const pid_t first = target;
	refused((uint32_t)first + 1, -ENOENT, "no files of process");
	leave_files("1");
	refused(0, -ENOTUNIQ, "which?");
	snprintf(expected, sizeof(expected), " %d", first);
	assert_non_null(strstr(refusal.why, expected));
	read_files((uint32_t)first);
	read_files((uint32_t)target);
	strcat(directory, "/x");
	refused(0, -ENOENT, "No such file");
	directory[strlen(directory) - 2] = '\0';
}

/* --- files that no recorder wrote ------------------------------------------------- */

static void cut(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size - 1), 0);
}

static void empty(const char *path)
{
	assert_int_equal(truncate(path, 0), 0);
}

static void link_it(const char *path)
{
	char other[600];

	snprintf(other, sizeof(other), "%s.moved", path);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
}

static void fifo(const char *path)
{
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
}

static void give_away(const char *path)
{
	assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
}

static void damaged_by(void (*how)(const char *path), const char *what, const char *unseen)
{
	each("", unlink_it);
	leave_files("3");
	assert_int_equal(each(what, how), 1);
	read_files(0);
	expect_unseen(unseen);
	assert_true(ev.last.unstable);
	read_history();
	assert_true(seen.lost_of_all > 0 && seen.damaged > 0);
}

static void a_damaged_file_is_loss_of_all(void **state)
{
	(void)state;
	static const char *const files[] = { "-0.flight", "-1.objects", ".process" };

	for (unsigned i = 0; i < 3; i++) {
		damaged_by(empty, files[i], "offset 0: the file ends");
		damaged_by(link_it, files[i], "a symbolic link");
		damaged_by(fifo, files[i], "no regular file");
	}
	for (unsigned i = 0; i < 2; i++) {
		damaged_by(cut, files[i], "the file ends, not where");
		if (geteuid() == 0)
			damaged_by(give_away, files[i], "belongs to uid 12345");
	}
}

/* Each byte of each header changed in a few ways: never a crash, never more
 * events than there are. */
static void damage(const char *path)
{
	static unsigned char page[BHP_RING_HEADER];
	const size_t interesting = strstr(path, ".flight") ? offsetof(struct bhp_ring, fields) + 64 : 128;
	int fd = open(path, O_RDWR);

	assert_true(pread(fd, page, sizeof(page), 0) > 0);
	for (size_t i = 0; i < interesting; i++)
		for (unsigned k = 0; k < 3; k++) {
			const unsigned char other = (unsigned char)(k == 0 ? page[i] ^ 1 : k == 1 ? 0xff : 0x7f);
			assert_int_equal(pwrite(fd, &other, 1, (off_t)i), 1);
			release();
			if (!bht_ringdir_open(directory, 0, &ev, &history, &refusal))
				read_history();
			else
				assert_true(refusal.why[0]);
			assert_int_equal(pwrite(fd, &page[i], 1, (off_t)i), 1);
		}
	close(fd);
}

static void be_of_a_later_kind(const char *path)
{
	const uint32_t kind_and_stride[] = { 9, 0 };

	alter(path, offsetof(struct bhp_objects_file, kind), kind_and_stride, sizeof(kind_and_stride));
	assert_int_equal(truncate(path, BHP_RING_HEADER + sizeof(struct bhp_chunk)), 0);
}

static void objects_of_a_later_kind_are_passed_over(void **state)
{
	(void)state;
	leave_files("3");
	each("-0.objects", be_of_a_later_kind);
	read_files(0);
	assert_int_equal(ev.n_unseen, 0);
	assert_true(!ev.last.n_loops != !ev.last.n_bhs);
}

static void any_header_is_survived(void **state)
{
	(void)state;
	leave_files("3");
	each("-0.flight", damage);
	each("-0.objects", damage);
	each(".process", damage);
	read_files(0);
	assert_int_equal(ev.n_unseen, 0);
}

static void strange_names_are_passed_over(void **state)
{
	(void)state;
	static const char *const names[] = { "bh-",
					     "bh-1",
					     "bh-01-2-3.flight",
					     "bh-1-2-3.flight.x",
					     "bh-1-2.flight",
					     "bh-1-0x2-3.flight",
					     "bh-1-2-3.process",
					     "bh- 1-2-3.flight",
					     "bh-4294967297-2-3.flight",
					     "bh-0-2-3.flight",
					     "bh-1-2--3.flight",
					     "bh-1-2-3.objects ",
					     "bh-1-02.process" };
	char path[512];

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		close(open(path, O_WRONLY | O_CREAT, 0600));
	}
	refused(0, -ENOENT, "no files of a recorder");
	snprintf(path, sizeof(path), "%s/bh-1-2-3.flight", directory);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	refused(0, -EBADMSG, "bh-1-2-3.flight: offset 0: the file ends");
}

/* --- a writer that goes on ----------------------------------------------------------- */

static char ring_path[512];

static void remember(const char *path)
{
	snprintf(ring_path, sizeof(ring_path), "%s", path);
}

/* Between opening and reading, the writer overtakes by so many records. */
static void overtake(uint64_t by)
{
	struct bhp_ring h;

	read_files(0);
	int fd = open(ring_path, O_RDWR);
	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	h.reserved += by;
	assert_int_equal(pwrite(fd, &h.reserved, 8, offsetof(struct bhp_ring, reserved)), 8);
	read_history();
	const uint64_t gone = h.reserved - CAPACITY;
	assert_int_equal(seen.lost, (gone < h.head ? gone : h.head));
	h.reserved -= by;
	assert_int_equal(pwrite(fd, &h.reserved, 8, offsetof(struct bhp_ring, reserved)), 8);
	close(fd);
}

static void what_is_overwritten_while_read_is_loss(void **state)
{
	(void)state;
	leave_files("1000");
	each("-1.flight", unlink_it); /* only the main thread's */
	each("-2.flight", unlink_it);
	each(".process", unlink_it);
	assert_int_equal(each("-0.flight", remember), 1);
	overtake(1);
	overtake(7);
	overtake(CAPACITY - 1);
	overtake(CAPACITY);
	overtake(10 * CAPACITY);
}

#define test(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		test(all_is_there),
		test(what_was_overwritten_is_loss),
		test(what_is_missing_is_said),
		test(what_was_dropped_is_loss),
		test(an_event_that_was_begun_is_loss),
		test(which_process_is_asked),
		test(a_damaged_file_is_loss_of_all),
		test(any_header_is_survived),
		test(objects_of_a_later_kind_are_passed_over),
		test(strange_names_are_passed_over),
		test(what_is_overwritten_while_read_is_loss),
	};

	if (argc == 3) {
		be_target(argv[2]);
		return 1;
	}
	return cmocka_run_group_tests_name("ringdir", tests, NULL, NULL);
}
