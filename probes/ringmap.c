/* SPDX-License-Identifier: MIT */
/* Memory for rings and pools: anonymous, or files that survive SIGKILL. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "recorder.h"

/* --- files ---------------------------------------------------------------------- */

static void *map_file(const char *directory, const char *name, size_t size)
{
	char path[sizeof(((struct bhp_config *)0)->directory) + 96];
	void *map = MAP_FAILED;

	/* The start time tells files of a reused process id apart. */
	snprintf(path, sizeof(path), "%s/bh-%d-%llx%s", directory, getpid(),
		 (unsigned long long)bhp_flight_root.clock[0].mono_ns, name);
	/* O_EXCL and O_NOFOLLOW: the directory may be everybody's, like /tmp. */
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return MAP_FAILED;
	/* Not ftruncate(): a store to a hole of a full disk is a SIGBUS. */
	int error;
	do
		error = posix_fallocate(fd, 0, (off_t)size);
	while (error == EINTR);
	if (error == 0) {
		map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		error = map == MAP_FAILED ? errno : 0;
	}
	if (error)
		unlink(path);
	close(fd);
	errno = error;
	return map;
}

/* A file, complaining when there is none for the first time; or MAP_FAILED. */
static void *try_file(const struct bhp_config *config, const char *name, size_t size)
{
	static atomic_flag complained = ATOMIC_FLAG_INIT;
	void *map = map_file(config->directory, name, size);

	if (map == MAP_FAILED && !atomic_flag_test_and_set(&complained))
		fprintf(stderr, "libbh: BH_FLIGHT: no ring file in %s: %s; recording to memory\n", config->directory,
			strerror(errno));
	return map;
}

/* --- the file of the process ------------------------------------------------------ */

static pthread_once_t process_once = PTHREAD_ONCE_INIT;
static struct bhp_process_file *_Atomic process_file; /* NULL: none */

/* Field 22 of /proc/self/stat; 0 when that cannot be read. The second field is
 * a name that may contain anything. */
static uint64_t start_time(void)
{
	char text[1024];
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	const char *at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

static void make_process_file(void)
{
	struct bhp_process_file *file = try_file(bhp_config(), ".process", BHP_RING_HEADER);

	if (file == MAP_FAILED)
		return;
	file->abi = BHP_ABI;
	file->pid = (uint32_t)getpid();
	file->started = start_time();
	file->dropped = bhp_flight_root.dropped;
	file->clock[0] = file->clock[1] = bhp_flight_root.clock[0];
	memcpy(file->command, program_invocation_short_name,
	       strnlen(program_invocation_short_name, sizeof(file->command) - 1));
	memcpy(file->magic, BHP_PROCESS_MAGIC, sizeof(file->magic));
	atomic_store_explicit(&process_file, file, memory_order_release);
}

static struct bhp_process_file *get_process_file(void)
{
	if (bhp_config()->mode != BHP_FLIGHT_FILE)
		return NULL;
	pthread_once(&process_once, make_process_file);
	return atomic_load_explicit(&process_file, memory_order_acquire);
}

void bhp_file_rings(uint32_t n)
{
	struct bhp_process_file *file = get_process_file();

	if (!file)
		return;
	atomic_store_explicit(&file->n_rings, n, memory_order_relaxed);
	/* The process may be killed in between: 0 ticks are no pair. */
	file->clock[1].ticks = 0;
	atomic_signal_fence(memory_order_seq_cst);
	file->clock[1].mono_ns = bhp_flight_root.clock[1].mono_ns;
	atomic_signal_fence(memory_order_seq_cst);
	file->clock[1].ticks = bhp_flight_root.clock[1].ticks;
}

void bhp_file_chunks(uint32_t n)
{
	struct bhp_process_file *file = get_process_file();

	if (file)
		atomic_store_explicit(&file->n_chunks, n, memory_order_relaxed);
}

void bhp_dropped(void)
{
	struct bhp_process_file *file = atomic_load_explicit(&process_file, memory_order_relaxed);

	atomic_fetch_add_explicit(&bhp_flight_root.dropped, 1, memory_order_relaxed);
	if (file)
		atomic_fetch_add_explicit(&file->dropped, 1, memory_order_relaxed);
}

void bhp_files_in_child(void)
{
	struct bhp_process_file *file = atomic_load_explicit(&process_file, memory_order_relaxed);

	if (file)
		munmap(file, BHP_RING_HEADER);
	atomic_store_explicit(&process_file, NULL, memory_order_relaxed);
	process_once = (pthread_once_t)PTHREAD_ONCE_INIT;
}

/* --- rings and chunks --------------------------------------------------------------- */

/* SIZE bytes that begin with a header; *FILE says where they are. */
static void *map(const struct bhp_config *config, const char *kind, unsigned number, size_t size, bool *file)
{
	void *at = MAP_FAILED;
	char name[32];

	if (config->mode == BHP_FLIGHT_FILE) {
		get_process_file(); /* first: it tells of what is missing */
		snprintf(name, sizeof(name), "-%u.%s", number, kind);
		at = try_file(config, name, size);
	}
	*file = at != MAP_FAILED;
	if (at == MAP_FAILED)
		at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return at == MAP_FAILED ? NULL : at;
}

struct bhp_ring *bhp_ring_map(const struct bhp_config *config, size_t size, unsigned number)
{
	bool file;

	return map(config, "flight", number, BHP_RING_HEADER + size, &file);
}

struct bhp_chunk *bhp_chunk_map(const struct bhp_pool *pool, uint32_t count, unsigned number)
{
	bool file;
	struct bhp_objects_file *header =
		map(bhp_config(), "objects", number, BHP_RING_HEADER + bhp_chunk_size(pool, count), &file);

	if (!header)
		return NULL;
	struct bhp_chunk *chunk = (void *)((char *)header + BHP_RING_HEADER);
	chunk->count = count;
	chunk->in_file = file;
	if (file) {
		*header = (struct bhp_objects_file){ .abi = BHP_ABI,
						     .pid = (uint32_t)getpid(),
						     .kind = pool->kind,
						     .stride = pool->stride,
						     .count = count,
						     .chunk = (uintptr_t)chunk };
		memcpy(header->magic, BHP_OBJECTS_MAGIC, sizeof(header->magic));
	}
	return chunk;
}
