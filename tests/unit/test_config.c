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
#define RANGE              "the size must be from 4K to 2G"
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
	{ "1g", MEMORY(1024 * 1024 * K) },
	{ "2G", MEMORY(2048ull * 1024 * K) },
	{ "2147483648", MEMORY(2048ull * 1024 * K) },
	{ "file:/tmp", IN_FILE("/tmp", BHP_RING_DEFAULT) },
	{ "file:relative/dir,8K", IN_FILE("relative/dir", 8 * K) },
	{ "file:/a,b,1M", IN_FILE("/a,b", 1024 * K) },
	{ "0", REFUSED(RANGE) },
	{ "4095", REFUSED(RANGE) },
	{ "3K", REFUSED(RANGE) },
	{ "3G", REFUSED(RANGE) },
	{ "2049M", REFUSED(RANGE) },
	{ "2147483649", REFUSED(RANGE) },
	{ "17179869184G", REFUSED(RANGE) },
	{ "18446744073709551615K", REFUSED(RANGE) },
	{ "18014398509481984K", REFUSED(RANGE) },
	{ "file:/tmp,1", REFUSED(RANGE) },
	{ "99999999999999999999999", REFUSED(SYNTAX) },
	{ "-1", REFUSED(SYNTAX) },
	{ "+4096", REFUSED(SYNTAX) },
	{ " 4096", REFUSED(SYNTAX) },
	{ "4096 ", REFUSED(SYNTAX) },
	{ "64KB", REFUSED(SYNTAX) },
	{ "64T", REFUSED(SYNTAX) },
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

/* The only file in the directory whose name ends in SUFFIX, opened. */
static int open_file(const char *suffix, struct stat *st)
{
	char path[512];
	DIR *d = opendir(directory);
	int files = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		const char *dot = strrchr(e->d_name, '.');
		if (dot && strcmp(dot, suffix) == 0) {
			snprintf(path, sizeof(path), "%s/%s", directory, e->d_name);
			files++;
		}
	}
	closedir(d);
	assert_int_equal(files, 1);
	int fd = open(path, O_RDONLY | O_NOFOLLOW);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, st), 0);
	assert_true(S_ISREG(st->st_mode));
	assert_int_equal(st->st_mode & 07777, 0600);
	return fd;
}

static void a_file_survives_sigkill(void **state)
{
	(void)state;
	struct stat st;
	static char content[BHP_RING_HEADER + 8 * K] __attribute__((aligned(BHP_CACHE_LINE)));
	struct bhp_ring *ring = (void *)content;

	assert_int_equal(WTERMSIG(run_in_directory("killed")), SIGKILL);
	assert_string_equal(complaints, "");
	int fd = open_file(".flight", &st);
	assert_int_equal(st.st_size, sizeof(content));
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
	assert_int_equal(ring->mark, 1);
}

static void so_does_what_the_rings_belong_to(void **state)
{
	(void)state;
	struct stat st;
	struct bhp_process_file process;
	struct bhp_objects_file header;
	struct bhp_bh_object bh;

	assert_int_equal(WTERMSIG(run_in_directory("killed-bh")), SIGKILL);
	assert_string_equal(complaints, "");
	int fd = open_file(".process", &st);
	assert_int_equal(pread(fd, &process, sizeof(process), 0), sizeof(process));
	close(fd);
	assert_string_equal(process.magic, BHP_PROCESS_MAGIC);
	assert_int_equal(process.abi, BHP_ABI);
	assert_true(process.started > 0);
	assert_int_equal(process.n_rings, 1);
	assert_int_equal(process.n_chunks, 1);
	assert_int_equal(process.dropped, 0);
	assert_true(process.clock[1].ticks > process.clock[0].ticks);
	assert_true(process.clock[1].mono_ns > process.clock[0].mono_ns);
	assert_string_equal(process.command, "test_config");
	fd = open_file(".objects", &st);
	assert_int_equal(pread(fd, &header, sizeof(header), 0), sizeof(header));
	assert_string_equal(header.magic, BHP_OBJECTS_MAGIC);
	assert_int_equal(header.kind, BHP_POOL_BH);
	assert_int_equal(header.pid, process.pid);
	assert_int_equal(header.stride, sizeof(struct bhp_bh_object));
	assert_int_equal(st.st_size, BHP_RING_HEADER + sizeof(struct bhp_chunk) + header.count * header.stride);
	assert_int_equal(pread(fd, &bh, sizeof(bh), BHP_RING_HEADER + sizeof(struct bhp_chunk)), sizeof(bh));
	close(fd);
	assert_int_equal(bh.serial, 1);
	assert_int_equal(bh.runs, 4711);
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

static void a_child_leaves_its_parents_objects_alone(void **state)
{
	(void)state;
	if (UNDER_TSAN)
		skip(); /* a fork copies what other threads write, and here it is seen doing so */
	assert_int_equal(run_in_directory("forks-objects"), 0);
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

static struct bh *inherited;

/* Copies of the parent's objects; new ones in files of its own. */
static void own_objects(void)
{
	uint64_t before = atomic_load(&inherited->o.runs);
	struct bh_loop *loop = bh_loop_new("child");
	int runs = 0;

	atomic_store(&inherited->o.runs, before + 1);
	bh_schedule(bh_new(loop, count, &runs, "child"));
	child_check(bh_loop_poll(loop, true) == 1 && runs == 1 && bh_loop_free(loop) == 0);
	child_check(atomic_load(&inherited->o.runs) == before + 1);
}

static _Atomic bool over;

static void *allocate(void *loop)
{
	while (!over)
		bh_delete(bh_new(loop, count, NULL, "busy"));
	return NULL;
}

static unsigned count_files(const char *suffix)
{
	unsigned files = 0;
	DIR *d = opendir(directory);

	for (struct dirent *e; (e = readdir(d));)
		files += strstr(e->d_name, suffix) != NULL;
	closedir(d);
	return files;
}

static void act_forks_objects(void)
{
	enum { CHILDREN = 5 };
	struct bh_loop *loop = bh_loop_new("parent"), *busy = bh_loop_new("busy");
	pthread_t thread;

	inherited = bh_new(loop, count, NULL, "parent");
	atomic_store(&inherited->o.runs, 7);
	child_check(pthread_create(&thread, NULL, allocate, busy) == 0);
	unsigned before = count_files("");
	for (int i = 0; i < CHILDREN; i++)
		child_check(in_child(own_objects, 10) == 0 && atomic_load(&inherited->o.runs) == 7);
	over = true;
	pthread_join(thread, NULL);
	/* Of each: the process, a ring, loops, bottom halves; the busy thread's own. */
	child_check(count_files(".process") == 1 + CHILDREN && count_files("") >= before + 4 * CHILDREN);
	child_check(bh_loop_free(loop) == 0);
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
	child_check(count_files(".flight") == (bhp_tls_ring ? 2 : 0));
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
	else if (strcmp(actor, "forks-objects") == 0)
		act_forks_objects();
	else if (strcmp(actor, "killed-bh") == 0) {
		static struct bhp_pool pool;
		uint64_t serial;
		struct bhp_bh_object *o;
		emit_in_ring(BHP_FLIGHT_FILE, 8 * K);
		o = bhp_pool_get(&pool, BHP_POOL_BH, sizeof(*o), &serial);
		o->serial = serial;
		o->runs = 4711;
		raise(SIGKILL);
	} else if (strcmp(actor, "killed") == 0) {
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
		test(so_does_what_the_rings_belong_to),
		test(what_is_in_the_way_is_left_alone),
		test(a_child_writes_a_file_of_its_own),
		test(a_child_leaves_its_parents_objects_alone),
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
