/* SPDX-License-Identifier: MIT */
/*
 * BH_FLIGHT: how it is read, and what it makes of a process. The environment is
 * read before main(), so this program runs itself again for each value.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/time.h>

#include "support.h"
#include "recorder.h"

/* --- parsing ------------------------------------------------------------------------- */

#define K                  1024
#define RANGE              "the size must be from 4K to 64M"
#define SYNTAX             "expected off, SIZE or file:DIR[,SIZE]"
#define DIRECTORY          "the directory is empty or longer than 511 bytes"
#define MEMORY(size)       BHP_FLIGHT_MEMORY, (size), "", NULL
#define REFUSED(why)       BHP_FLIGHT_MEMORY, BHP_RING_DEFAULT, "", (why)
#define IN_FILE(dir, size) BHP_FLIGHT_FILE, (size), (dir), NULL

static const struct {
	const char *value;
	enum bhp_flight_mode mode;
	uint64_t size;
	const char *directory, *why;
} values[] = {
	{ NULL, MEMORY(BHP_RING_DEFAULT) },
	{ "", MEMORY(BHP_RING_DEFAULT) },
	{ "off", BHP_FLIGHT_OFF, BHP_RING_DEFAULT, "", NULL },
	{ "4096", MEMORY(4 * K) },
	{ "4K", MEMORY(4 * K) },
	{ "4k", MEMORY(4 * K) },
	{ "5000", MEMORY(4 * K) },
	{ "8191", MEMORY(4 * K) },
	{ "100K", MEMORY(64 * K) },
	{ "1M", MEMORY(1024 * K) },
	{ "64m", MEMORY(64 * 1024 * K) },
	{ "67108864", MEMORY(64 * 1024 * K) },
	{ "file:/tmp", IN_FILE("/tmp", BHP_RING_DEFAULT) },
	{ "file:relative/dir,8K", IN_FILE("relative/dir", 8 * K) },
	{ "file:/a,b,1M", IN_FILE("/a,b", 1024 * K) },
	{ "0", REFUSED(RANGE) },
	{ "4095", REFUSED(RANGE) },
	{ "3K", REFUSED(RANGE) },
	{ "65M", REFUSED(RANGE) },
	{ "67108865", REFUSED(RANGE) },
	{ "18446744073709551615K", REFUSED(RANGE) },
	{ "18014398509481984K", REFUSED(RANGE) },
	{ "file:/tmp,1", REFUSED(RANGE) },
	{ "99999999999999999999999", REFUSED(SYNTAX) },
	{ "-1", REFUSED(SYNTAX) },
	{ "+4096", REFUSED(SYNTAX) },
	{ " 4096", REFUSED(SYNTAX) },
	{ "4096 ", REFUSED(SYNTAX) },
	{ "64KB", REFUSED(SYNTAX) },
	{ "64G", REFUSED(SYNTAX) },
	{ "K", REFUSED(SYNTAX) },
	{ "0x10000", REFUSED(SYNTAX) },
	{ "OFF", REFUSED(SYNTAX) },
	{ "off ", REFUSED(SYNTAX) },
	{ "file", REFUSED(SYNTAX) },
	{ "file:/tmp,", REFUSED(SYNTAX) },
	{ "file:/tmp,x", REFUSED(SYNTAX) },
	{ "file:", REFUSED(DIRECTORY) },
	{ "file:,64K", REFUSED(DIRECTORY) },
};

static void each_value_is_read_or_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct bhp_config config;
		const char *why = NULL;
		int r = bhp_config_parse(values[i].value, &config, &why);

		assert_int_equal(r, values[i].why ? -EINVAL : 0);
		assert_int_equal(config.mode, values[i].mode);
		assert_int_equal(config.size, values[i].size);
		assert_string_equal(config.directory, values[i].directory);
		if (values[i].why)
			assert_string_equal(why, values[i].why);
	}
}

static void a_directory_has_a_longest_name(void **state)
{
	(void)state;
	char value[5 + 512 + 1] = "file:";
	struct bhp_config config;
	const char *why = NULL;

	memset(value + 5, 'd', 511);
	assert_int_equal(bhp_config_parse(value, &config, &why), 0);
	assert_int_equal(strlen(config.directory), 511);
	value[5 + 511] = 'd';
	assert_int_equal(bhp_config_parse(value, &config, &why), -EINVAL);
	assert_string_equal(why, DIRECTORY);
}

/* --- what it makes of a process ---------------------------------------------------------- */

static char directory[64], complaints[4096];

static int make_directory(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/bh-test-XXXXXX");
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	char path[512];
	DIR *d = opendir(directory);

	(void)state;
	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);
		unlink(path);
	}
	if (d)
		closedir(d);
	return rmdir(directory);
}

/* Runs this program again as ACTOR under BH_FLIGHT=VALUE; its stderr goes to
 * complaints. Its wait status. */
static int run(const char *actor, const char *value)
{
	int ends[2], status;
	size_t n = 0;
	ssize_t r;

	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(ends[1], STDERR_FILENO);
		setenv("BH_FLIGHT", value, 1);
		execl("/proc/self/exe", "test_config", actor, directory, (char *)NULL);
		_exit(127);
	}
	close(ends[1]);
	while ((r = read(ends[0], complaints + n, sizeof(complaints) - 1 - n)) > 0)
		n += (size_t)r;
	complaints[n] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int run_in_directory(const char *actor)
{
	char value[128];

	snprintf(value, sizeof(value), "file:%s,8K", directory);
	return run(actor, value);
}

/* Exactly one line, which begins like this. */
static void assert_one_line(const char *beginning)
{
	assert_memory_equal(complaints, beginning, strlen(beginning));
	assert_ptr_equal(strchr(complaints, '\n'), complaints + strlen(complaints) - 1);
}

static void silent_and_fine(const char *actor, const char *value)
{
	assert_int_equal(run(actor, value), 0);
	assert_string_equal(complaints, "");
}

static void off_records_nothing(void **state)
{
	(void)state;
	silent_and_fine("off", "off");
}

static void the_size_is_that_of_the_rings(void **state)
{
	(void)state;
	silent_and_fine("memory-64K", "");
	silent_and_fine("memory-4K", "4K");
	silent_and_fine("memory-4K", "8191");
}

static void a_bad_value_is_one_line_and_the_default(void **state)
{
	(void)state;
	assert_int_equal(run("memory-64K", "lots"), 0);
	assert_one_line("libbh: BH_FLIGHT=lots ignored: " SYNTAX "\n");
	assert_int_equal(run("memory-64K", "1"), 0);
	assert_one_line("libbh: BH_FLIGHT=1 ignored: " RANGE "\n");
	assert_int_equal(run("memory-64K", "a\nb\x1b[31m"), 0);
	assert_one_line("libbh: BH_FLIGHT=");
	assert_null(strchr(complaints, '\x1b'));
}

/* The only file in the directory. */
static void find_file(char *path, size_t size, struct stat *st)
{
	DIR *d = opendir(directory);
	int files = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.') {
			snprintf(path, size, "%s/%s", directory, e->d_name);
			files++;
		}
	closedir(d);
	assert_int_equal(files, 1);
	assert_int_equal(lstat(path, st), 0);
}

static void a_file_survives_sigkill(void **state)
{
	(void)state;
	char path[512];
	struct stat st;
	static char content[BHP_RING_HEADER + 8 * K] __attribute__((aligned(BHP_CACHE_LINE)));
	struct bhp_ring *ring = (void *)content;

	assert_int_equal(WTERMSIG(run_in_directory("killed")), SIGKILL);
	assert_string_equal(complaints, "");
	find_file(path, sizeof(path), &st);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, sizeof(content));
	int fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, content, sizeof(content)), sizeof(content));
	close(fd);
	assert_string_equal(ring->magic, BHP_RING_MAGIC);
	assert_int_equal(ring->capacity, 8 * K / sizeof(struct bhp_record));
	assert_int_equal(ring->head, 1 + 1 + 1); /* the thread, its name, the event */
	assert_true(ring->clock[0].ticks <= bhp_record_time(bhp_ring_slot(ring, 2)));
	assert_int_equal(bhp_decode_consume(bhp_ring_slot(ring, 2)).ticket, 4711);
	struct bhp_field_info table[BHP_FIELD_INFO_MAX];
	assert_int_equal(ring->n_fields, bhp_schema(table));
	assert_memory_equal(ring->fields, table, ring->n_fields * sizeof(table[0]));
}

static void what_is_in_the_way_is_left_alone(void **state)
{
	(void)state;
	assert_int_equal(run_in_directory("existing"), 0);
	assert_one_line("libbh: BH_FLIGHT: no ring file in /tmp/bh-test-");
	assert_non_null(strstr(complaints, "File exists; recording to memory\n"));
}

static void a_child_writes_a_file_of_its_own(void **state)
{
	(void)state;
	silent_and_fine("forks", "off");
	assert_int_equal(run_in_directory("forks"), 0);
	assert_string_equal(complaints, "");
}

static void no_directory_falls_back_to_memory(void **state)
{
	(void)state;
	assert_int_equal(run("memory-64K", "file:/nonexistent"), 0);
	assert_one_line("libbh: BH_FLIGHT: no ring file in /nonexistent: No such file");
	assert_int_equal(run("memory-4K", "file:/proc/self,4K"), 0);
	assert_one_line("libbh: BH_FLIGHT: no ring file in /proc/self: ");
	assert_int_equal(run("memory-4K", "file:/dev/null,4K"), 0);
	assert_one_line("libbh: BH_FLIGHT: no ring file in /dev/null: Not a directory");
}

/* A private mount namespace with a file system of 16 KiB. */
static void in_a_full_directory(void)
{
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("none", directory, "tmpfs", 0, "size=16k") != 0)
		_exit(77);
	char value[128], path[512];
	snprintf(value, sizeof(value), "file:%s", directory);
	child_check(run("memory-64K", value) == 0);
	child_check(strstr(complaints, "No space left on device; recording to memory\n"));
	/* Not even an empty file stays. */
	snprintf(path, sizeof(path), "%s/..", directory);
	child_check(rmdir(directory) != 0 && errno == EBUSY && umount(directory) == 0);
}

static void a_full_directory_falls_back_to_memory(void **state)
{
	(void)state;
	int status = in_child(in_a_full_directory, 20);

	if (WEXITSTATUS(status) == 77)
		skip(); /* not permitted to mount */
	assert_int_equal(status, 0);
}

static void signals_do_not_keep_a_file_from_being_made(void **state)
{
	(void)state;
	char value[128];

	if (access("/dev/shm", W_OK) != 0)
		skip();
	remove_directory(NULL);
	strcpy(directory, "/dev/shm/bh-test-XXXXXX");
	assert_non_null(mkdtemp(directory));
	snprintf(value, sizeof(value), "file:%s,1M", directory);
	silent_and_fine("interrupted", value);
}

/* --- the actors ------------------------------------------------------------------------------ */

static void emit_in_ring(enum bhp_flight_mode mode, uint64_t bytes)
{
	bhp_emit(consume, .ticket = 4711);
	child_check(atomic_load(&bhp_flight_root.mode) == mode && bhp_tls_ring);
	child_check(bhp_tls_ring->capacity * sizeof(struct bhp_record) == bytes);
	child_check(atomic_load(&bhp_flight_root.dropped) == 0);
}

static void act_off(void)
{
	bhp_emit(consume, .ticket = 4711);
	child_check(atomic_load(&bhp_flight_root.mode) == BHP_FLIGHT_OFF && !bhp_tls_ring);
	child_check(bhp_flight_root.n_rings == 0 && atomic_load(&bhp_flight_root.dropped) == 0);
	struct bh_loop *loop = bh_loop_new("not recorded");
	int runs = 0;
	bh_schedule(bh_new(loop, count, &runs, "bh"));
	child_check(bh_loop_poll(loop, true) == 1 && runs == 1 && bh_loop_free(loop) == 0);
}

static void act_memory(uint64_t bytes)
{
	bhp_emit(consume, .ticket = 4711);
	child_check(bhp_tls_ring && bhp_tls_ring->capacity * sizeof(struct bhp_record) == bytes);
	child_check(atomic_load(&bhp_flight_root.dropped) == 0);
}

/* A symbolic link where the ring's file would be, to a file that is not there. */
static void act_existing(void)
{
	char path[512], target[512];
	struct stat st;

	snprintf(path, sizeof(path), "%s/bh-%d-%llx-0.flight", directory, getpid(),
		 (unsigned long long)bhp_flight_root.clock[0].mono_ns);
	snprintf(target, sizeof(target), "%s/target", directory);
	child_check(symlink(target, path) == 0);
	act_memory(8 * K);
	child_check(lstat(target, &st) != 0 && errno == ENOENT);
	child_check(lstat(path, &st) == 0 && S_ISLNK(st.st_mode));
}

static void own_file(void)
{
	bhp_emit(consume, .ticket = 2);
	child_check(!bhp_tls_ring || bhp_tls_ring->pid == (uint32_t)getpid());
}

static void act_forks(void)
{
	bhp_emit(consume, .ticket = 1);
	uint64_t head = bhp_tls_ring ? atomic_load(&bhp_tls_ring->head) : 0;
	child_check(in_child(own_file, 10) == 0);
	child_check(!bhp_tls_ring || atomic_load(&bhp_tls_ring->head) == head);
	int files = 0;
	DIR *d = opendir(directory);
	for (struct dirent *e; (e = readdir(d));)
		files += strstr(e->d_name, ".flight") != NULL;
	closedir(d);
	child_check(files == (bhp_tls_ring ? 2 : 0));
}

static void nothing(int signal_number)
{
	(void)signal_number;
}

static void *first_event(void *arg)
{
	pthread_sigmask(SIG_UNBLOCK, arg, NULL);
	bhp_emit(consume, .ticket = 1);
	return arg;
}

static void act_interrupted(void)
{
	struct sigaction action = { .sa_handler = nothing };
	struct itimerval t = { { 0, 100 }, { 0, 100 } };
	pthread_t thread[30];
	sigset_t alarms;

	/* Delivered to the threads, not to the one that waits for them. */
	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarms, NULL);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
	for (int i = 0; i < 30; i++)
		child_check(pthread_create(&thread[i], NULL, first_event, &alarms) == 0);
	for (int i = 0; i < 30; i++)
		pthread_join(thread[i], NULL);
}

static void act(const char *actor)
{
	if (strcmp(actor, "off") == 0)
		act_off();
	else if (strcmp(actor, "memory-64K") == 0)
		act_memory(64 * K);
	else if (strcmp(actor, "memory-4K") == 0)
		act_memory(4 * K);
	else if (strcmp(actor, "existing") == 0)
		act_existing();
	else if (strcmp(actor, "forks") == 0)
		act_forks();
	else if (strcmp(actor, "interrupted") == 0)
		act_interrupted();
	else if (strcmp(actor, "killed") == 0) {
		emit_in_ring(BHP_FLIGHT_FILE, 8 * K);
		raise(SIGKILL);
	}
}

#define test(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		test(each_value_is_read_or_refused),
		test(a_directory_has_a_longest_name),
		test(off_records_nothing),
		test(the_size_is_that_of_the_rings),
		test(a_bad_value_is_one_line_and_the_default),
		test(a_file_survives_sigkill),
		test(what_is_in_the_way_is_left_alone),
		test(a_child_writes_a_file_of_its_own),
		test(no_directory_falls_back_to_memory),
		test(a_full_directory_falls_back_to_memory),
		test(signals_do_not_keep_a_file_from_being_made),
	};

	if (argc == 3) {
		snprintf(directory, sizeof(directory), "%s", argv[2]);
		act(argv[1]);
		return 0;
	}
	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
