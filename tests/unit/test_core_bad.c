/* SPDX-License-Identifier: MIT */
/* Cores that lack something, or lie. */
#include <sys/stat.h>

#include "core_file.h"

/* --- what is not there ---------------------------------------------------------------- */

/* Whatever is missing: refused, or told. */
static void test_truncated(void **state)
{
	(void)state;
	unsigned n_refused = 0, n_opened = 0;

	for (size_t size = 0; size < sizeof(core); size += size < CORE_PAGE ? 8 : 56) {
		int rc = open_part(size, NULL);
		if (rc) {
			n_refused++;
			assert_true(rc == -ENOEXEC || rc == -EBADMSG || rc == -EPROTO);
			continue;
		}
		n_opened++;
		assert_true(unseen("truncated"));
		assert_true(history == NULL || size > CORE_OFFSET(records));
	}
	assert_true(n_refused > 10 && n_opened > 10);
}

static void test_truncated_registry(void **state)
{
	(void)state;
	assert_int_equal(open_part(CORE_OFFSET(loop), NULL), 0);
	assert_true(ev.last.unstable);
	assert_null(history);
	assert_true(unseen("the history: no flight ring"));
}

/* What was not dumped is not taken for zeros. */
static void test_not_dumped(void **state)
{
	(void)state;
	core.p[3].p_filesz = 0;
	opens();
	assert_null(history);
	assert_true(unseen("of writable memory: left out"));
	assert_false(ev.last.unstable);
	core_build(&core);
	core.p[2].p_filesz = offsetof(struct core_target, loop) - offsetof(struct core_target, root);
	opens();
	assert_true(ev.last.unstable);
	assert_int_equal(ev.last.n_loops, 0);
}

static void test_ring_files(void **state)
{
	(void)state;
	core.target.root.mode = BHP_FLIGHT_FILE;
	core.p[3].p_filesz = 0;
	opens();
	assert_true(unseen("--ring DIR"));
	snprintf(core.notes.file_name, sizeof(core.notes.file_name), "/var/lib/x/bh-4000-1f-0.flight");
	opens();
	assert_true(unseen("--ring /var/lib/x reads"));
}

static void test_no_threads(void **state)
{
	(void)state;
	for (int i = 0; i < CORE_THREADS; i++)
		core.notes.thread[i].note.n.n_type = 99;
	opens();
	assert_int_equal(ev.last.n_threads, 0);
	assert_true(unseen("no registers of any"));
}

static void refused(int error, const char *text)
{
	assert_int_equal(open_part(sizeof(core), NULL), error);
	if (!strstr(refusal.why, text))
		fail_msg("'%s' lacks '%s'", refusal.why, text);
	core_build(&core);
}

/* --- lies ---------------------------------------------------------------------------------- */

static void test_no_core(void **state)
{
	(void)state;
	core.e.e_ident[0] = 'x';
	refused(-ENOEXEC, "offset 0x0: not an ELF file");
	memcpy(core.e.e_ident, "\x28\xb5\x2f\xfd", 4);
	refused(-ENOEXEC, "unzstd");
	core.e.e_type = ET_DYN;
	refused(-ENOEXEC, "offset 0x10: ELF type 3, not a core");
	core.e.e_ident[EI_CLASS] = ELFCLASS32;
	refused(-EPROTO, "offset 0x4: of 32 bits");
	core.e.e_ident[EI_DATA] = ELFDATA2MSB;
	refused(-EPROTO, "another byte order");
	core.e.e_machine = EM_PPC64;
	refused(-EPROTO, "offset 0x12: of ELF machine 21");
	core.e.e_phentsize = 8;
	refused(-EBADMSG, "headers of 8 bytes");
	core.e.e_phnum = 0;
	refused(-EBADMSG, "no program headers");
	core.e.e_phoff = UINT64_MAX - 8;
	refused(-EBADMSG, "no program headers");
	core.target.image.note.n.n_type = 99;
	refused(-ENOENT, "not linked with libbh");
	core.target.root.abi = 9;
	refused(-EPROTO, "ABI 9");
	core.target.root.magic[0] = 'x';
	refused(-EBADMSG, "does not begin with BHTRACE");
	assert_int_equal(bht_core_open("/nonexistent", NULL, &ev, &history, &refusal), -ENOENT);
	assert_non_null(strstr(refusal.why, "/nonexistent: No such file"));
	assert_int_equal(bht_core_open("/", NULL, &ev, &history, &refusal), -EINVAL);
	assert_non_null(strstr(refusal.why, "not a regular file"));
}

/* Nobody ever writes to it. */
static void test_fifo(void **state)
{
	(void)state;
	char name[] = "/tmp/bhtrace-fifo.XXXXXX";

	assert_non_null(mkdtemp(name));
	char fifo[sizeof(name) + 5];
	snprintf(fifo, sizeof(fifo), "%s/fifo", name);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	alarm(20);
	int rc = bht_core_open(fifo, NULL, &ev, &history, &refusal);
	alarm(0);
	unlink(fifo);
	rmdir(name);
	assert_int_equal(rc, -EINVAL);
}

static void test_segments(void **state)
{
	(void)state;
	core.p[3].p_vaddr = core.p[2].p_vaddr;
	refused(-EBADMSG, "two segments have the memory at 0x");
	core.p[3].p_vaddr = UINT64_MAX - 10;
	refused(-EBADMSG, "leaves the address space");
	core.p[3].p_offset = UINT64_MAX - 10;
	opens();
	assert_true(unseen("truncated"));
	core_build(&core);
	core.p[3].p_filesz = core.p[3].p_memsz = UINT64_C(1) << 62;
	opens();
	assert_true(unseen("truncated"));
	core_build(&core);
	core.e.e_phnum = PN_XNUM; /* without the section header that has the number */
	open_part(sizeof(core), NULL);
}

static void test_notes(void **state)
{
	(void)state;
	core.notes.info_note.n.n_descsz = UINT32_MAX;
	opens();
	assert_int_equal(ev.last.n_threads, 0);
	core_build(&core);
	core.notes.info_note.n.n_namesz = UINT32_MAX - 1;
	opens();
	core_build(&core);
	core.notes.info_note.n = (Elf64_Nhdr){ 0, 0, 0 };
	opens();
	core_build(&core);
	core.notes.thread[0].note.n.n_descsz -= 8;
	opens();
	assert_true(unseen("notes that this reader does not understand"));
	core_build(&core);
	core.notes.thread[1].status.pr_pid = -1;
	opens();
	assert_int_equal(ev.last.n_threads, CORE_THREADS - 1);
	core_build(&core);
	core.notes.file[0] = UINT64_MAX / 24;
	opens();
	memset(core.notes.file_name, 'x', sizeof(core.notes.file_name)); /* not terminated */
	core.notes.file[0] = 1;
	opens();
	core_build(&core);
	core.p[0].p_filesz = UINT64_MAX;
	opens();
	assert_true(unseen("notes of the core are truncated"));
}

/* A small file that claims to have more than memory should hold. */
static void test_too_much(void **state)
{
	(void)state;
	enum { RINGS = 16, RING = 4 << 20 };
	const uint64_t size = BHP_RING_HEADER + RING, end = sizeof(core) + RINGS * size;
	const uint64_t base = CORE_BASE + (UINT64_C(1) << 32);
	struct bhp_ring ring = *core_ring(&core.target);

	ring.capacity = RING / sizeof(struct bhp_record);
	ring.head = ring.reserved = ring.capacity;
	core.target.root.rings = (void *)(uintptr_t)base;
	core.p[3] = core_load(0, RINGS * size, PF_R | PF_W);
	core.p[3].p_vaddr = base;
	core.p[3].p_offset = sizeof(core);
	int fd = core_write(&core, sizeof(core), path);
	assert_int_equal(ftruncate(fd, (off_t)end), 0);
	for (unsigned i = 0; i < RINGS; i++) {
		ring.next = (void *)(uintptr_t)(i + 1 < RINGS ? base + (i + 1) * size : 0);
		assert_int_equal(pwrite(fd, &ring, sizeof(ring), (off_t)(sizeof(core) + i * size)), sizeof(ring));
	}
	assert_int_equal(bht_core_open(path, NULL, &ev, &history, &refusal), 0);
	close(fd);
	assert_true(ev.last.bytes_read > RING && ev.last.bytes_read < 10 * RING);
	assert_true(unseen("more was asked for"));
}

/* Any damage is refused or read, nothing else; the sanitizers look on. */
static void test_damage(void **state)
{
	(void)state;
	uint64_t seed = 1;
	unsigned n_opened = 0;

	for (unsigned i = 0; i < 3000; i++) {
		core_build(&core);
		for (unsigned k = 0; k < 1 + i % 4; k++) {
			static const uint64_t odd[] = { 0, 1, 0xff, 0x7fffffff, UINT32_MAX, UINT64_MAX, CORE_PAGE };
			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
			const size_t at = (seed >> 33) % (sizeof(core) / 8);
			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
			const uint64_t value = seed >> 63 ? odd[(seed >> 33) % 7] : seed >> (seed >> 32 & 63);
			/* Half of the time in the headers and notes. */
			memcpy((uint64_t *)&core + (seed >> 62 & 1 ? at : at % (CORE_OFFSET(image.build) / 8)), &value,
			       8);
		}
		n_opened += open_part(sizeof(core), NULL) == 0;
	}
	assert_true(n_opened > 100);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_truncated),  TEST(test_truncated_registry),
		TEST(test_not_dumped), TEST(test_ring_files),
		TEST(test_no_threads), TEST(test_no_core),
		TEST(test_fifo),       TEST(test_segments),
		TEST(test_notes),      TEST(test_too_much),
		TEST(test_damage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
