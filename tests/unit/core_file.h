/* SPDX-License-Identifier: MIT */
/*
 * core_file.h - an ELF core made by the test
 *
 * Of a process with one loop that sleeps, one bottom half, three threads and one
 * ring. A test may bend everything before core_write().
 */
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include <elf.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/procfs.h>
#include <sys/syscall.h>
#include <sys/user.h>

#include "flight.h"
#include "sources/core.h"
#include "support.h"

#if defined(__x86_64__)
#define CORE_MACHINE EM_X86_64
#else
#define CORE_MACHINE EM_AARCH64
#endif

enum { CORE_PAGE = 4096, CORE_RECORDS = 128, CORE_PID = 4000, CORE_THREADS = 3, CORE_SEGMENTS = 3 };
static const uint64_t CORE_BASE = UINT64_C(0x400000000);

/* Notes are aligned to 4 bytes, what is in them to 8. */
#define CORE_PACKED __attribute__((packed, aligned(4)))

/* The memory of the process. Pointers in it are addresses from CORE_BASE on. */
struct core_target {
	struct {
		Elf64_Ehdr e;
		Elf64_Phdr p[2];
		struct CORE_PACKED {
			Elf64_Nhdr n;
			char name[8];
			int64_t distance;
		} note;
		struct CORE_PACKED {
			Elf64_Nhdr n;
			char name[4];
			unsigned char id[8];
		} build;
	} image;
	_Alignas(CORE_PAGE) struct bhp_root root;
	struct bhp_field_info fields[BHP_FIELD_INFO_MAX];
	struct bhp_pool loops, bhs;
	_Alignas(BHP_CACHE_LINE) unsigned char loop_chunk[sizeof(struct bhp_chunk)];
	struct bhp_loop_object loop;
	_Alignas(BHP_CACHE_LINE) unsigned char bh_chunk[sizeof(struct bhp_chunk)];
	struct bhp_bh_object bh;
	uint32_t mutex[5], pi;
	unsigned char code[8]; /* a system call instruction, and what follows */
	_Alignas(CORE_PAGE) unsigned char ring[CORE_PAGE];
	_Alignas(CORE_PAGE) struct bhp_record records[CORE_RECORDS];
};

struct core_note {
	Elf64_Nhdr n;
	char name[8];
};

struct core_file {
	Elf64_Ehdr e;
	Elf64_Phdr p[1 + CORE_SEGMENTS]; /* notes, image, data, ring */
	struct CORE_PACKED core_notes {
		struct core_note info_note;
		struct elf_prpsinfo info;
		struct CORE_PACKED {
			struct core_note note;
			struct elf_prstatus status;
		} thread[CORE_THREADS];
		struct core_note file_note;
		uint64_t file[5];
		char file_name[64];
		struct core_note auxv_note;
		uint64_t auxv[4];
	} notes;
	_Alignas(CORE_PAGE) struct core_target target;
};

/* Where MEMBER of the target lies in its memory, and in the file. */
#define CORE_AT(member)     (CORE_BASE + offsetof(struct core_target, member))
#define CORE_PTR(member)    ((void *)(uintptr_t)CORE_AT(member))
#define CORE_OFFSET(member) (offsetof(struct core_file, target) + offsetof(struct core_target, member))

static inline struct core_note core_note(uint32_t type, size_t size)
{
	struct core_note note = { .n = { sizeof("CORE"), (uint32_t)size, type }, .name = "CORE" };
	return note;
}

static inline struct bhp_ring *core_ring(struct core_target *t)
{
	return (void *)t->ring;
}

/* Registers of a thread that was taken out of system call NUMBER; of one that
 * runs when it is negative. */
static inline void core_registers(struct core_notes *n, unsigned thread, int64_t number, const uint64_t args[6])
{
	struct user_regs_struct regs = { 0 };

#if defined(__x86_64__)
	regs.orig_rax = (uint64_t)number;
	regs.rip = CORE_AT(code) + 2;
	regs.rax = (uint64_t)-EINTR;
	regs.rdi = args[0];
	regs.rsi = args[1];
	regs.rdx = args[2];
	regs.r10 = args[3];
	regs.r8 = args[4];
	regs.r9 = args[5];
#else
	regs.regs[8] = (uint64_t)number;
	regs.pc = CORE_AT(code) + (number < 0 ? 4 : 0);
	memcpy(regs.regs, args, 6 * sizeof(args[0]));
#endif
	memcpy(n->thread[thread].status.pr_reg, &regs, sizeof(regs));
}

static inline void core_add_event(struct core_target *t, struct bhp_record r)
{
	struct bhp_ring *ring = core_ring(t);

	t->records[ring->head] = r;
	ring->reserved = ++ring->head;
}

/* A mark of thread TID, with its name. */
static inline void core_add_thread(struct core_target *t, uint64_t time, uint32_t tid, const char *name)
{
	struct bhp_record text = { { 0, BHP_ID_TEXT | strlen(name) << 8, 0, 0 } };

	memcpy(&text.word[0], name, strlen(name));
	core_add_event(t, bhp_encode_thread(time, &(struct bhp_thread){ .tid = tid }));
	core_add_event(t, text);
}

static inline void core_build_image(struct core_target *t)
{
	memcpy(t->image.e.e_ident, ELFMAG, SELFMAG);
	t->image.e.e_ident[EI_CLASS] = ELFCLASS64;
	t->image.e.e_ident[EI_DATA] = ELFDATA2LSB;
	t->image.e.e_ident[EI_VERSION] = EV_CURRENT;
	t->image.e.e_type = ET_DYN;
	t->image.e.e_machine = CORE_MACHINE;
	t->image.e.e_version = EV_CURRENT;
	t->image.e.e_entry = offsetof(struct core_target, code);
	t->image.e.e_phoff = offsetof(struct core_target, image.p);
	t->image.e.e_ehsize = sizeof(t->image.e);
	t->image.e.e_phentsize = sizeof(Elf64_Phdr);
	t->image.e.e_phnum = 2;
	t->image.p[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_filesz = sizeof(t->image), .p_memsz = sizeof(t->image) };
	t->image.p[1] = (Elf64_Phdr){ .p_type = PT_NOTE,
				      .p_offset = offsetof(struct core_target, image.note),
				      .p_vaddr = offsetof(struct core_target, image.note),
				      .p_filesz = sizeof(t->image.note) + sizeof(t->image.build),
				      .p_memsz = sizeof(t->image.note) + sizeof(t->image.build),
				      .p_align = 4 };
	t->image.note.n = (Elf64_Nhdr){ sizeof(BHP_NOTE_NAME), sizeof(int64_t), BHP_NOTE_ROOT };
	memcpy(t->image.note.name, BHP_NOTE_NAME, sizeof(BHP_NOTE_NAME));
	t->image.note.distance = (int64_t)(CORE_AT(root) - CORE_AT(image.note.distance));
	t->image.build.n = (Elf64_Nhdr){ sizeof(ELF_NOTE_GNU), sizeof(t->image.build.id), NT_GNU_BUILD_ID };
	memcpy(t->image.build.name, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU));
	memset(t->image.build.id, 0xb1, sizeof(t->image.build.id));
}

static inline void core_build_objects(struct core_target *t)
{
	t->root = (struct bhp_root){ .magic = BHP_ROOT_MAGIC,
				     .abi = BHP_ABI,
				     .size = sizeof(t->root),
				     .record_size = sizeof(struct bhp_record),
				     .ring_header = BHP_RING_HEADER,
				     .pid = CORE_PID,
				     .mode = BHP_FLIGHT_MEMORY,
				     .fields = CORE_PTR(fields),
				     .rings = CORE_PTR(ring),
				     .pools = CORE_PTR(loops),
				     .clock = { { 1000, 1000 }, { 1000 + 40 * MS, 1000 + 20 * MS } } };
	t->root.n_fields = bhp_schema(t->fields);
	t->loops = (struct bhp_pool){
		.next = CORE_PTR(bhs), .kind = BHP_POOL_LOOP, .stride = sizeof(t->loop), .chunks = CORE_PTR(loop_chunk)
	};
	t->bhs = (struct bhp_pool){ .kind = BHP_POOL_BH, .stride = 128, .chunks = CORE_PTR(bh_chunk) };
	((struct bhp_chunk *)(void *)t->loop_chunk)->count = 1;
	((struct bhp_chunk *)(void *)t->bh_chunk)->count = 1;
	t->loop = (struct bhp_loop_object){ .state = BHP_LIVE,
					    .serial = 1,
					    .notifier_fd = 5,
					    .poll_fd = 4,
					    .name = "disk",
					    .owner_tid = CORE_PID,
					    .where = BHP_WAIT,
					    .iteration = 17,
					    .depth = 1,
					    .current_since = 7000 };
	t->bh = (struct bhp_bh_object){ .state = BHP_LIVE,
					.serial = 2,
					.loop = CORE_PTR(loop),
					.runs = 3,
					.last_run = 5000,
					.name = "completion" };
	t->mutex[0] = 2;
	t->mutex[2] = CORE_PID;
	t->mutex[3] = 1;
#if defined(__x86_64__)
	memcpy(t->code, "\x0f\x05", 2);
#else
	memcpy(t->code, "\x01\x00\x00\xd4", 4);
#endif
}

static inline void core_build_ring(struct core_target *t)
{
	struct bhp_ring *ring = core_ring(t);

	memcpy(ring->magic, BHP_RING_MAGIC, sizeof(ring->magic));
	ring->abi = BHP_ABI;
	ring->record_size = sizeof(struct bhp_record);
	ring->capacity = CORE_RECORDS;
	ring->tid = CORE_PID;
	ring->state = BHP_RING_LIVE;
	core_add_event(t, bhp_encode_thread(2000, &(struct bhp_thread){ .tid = CORE_PID }));
	core_add_thread(t, 3000, CORE_PID + 1, "worker");
	core_add_event(t, bhp_encode_consume(9000, &(struct bhp_consume){ .bh = CORE_PTR(bh), .ticket = 77 }));
}

static inline void core_build_notes(struct core_notes *n)
{
	const uint64_t in_epoll[6] = { 4 }, in_futex[6] = { CORE_AT(mutex), FUTEX_WAIT_PRIVATE, 2 };

	n->info_note = core_note(NT_PRPSINFO, sizeof(n->info));
	n->info.pr_pid = CORE_PID;
	memcpy(n->info.pr_fname, "the target", sizeof("the target"));
	for (int i = 0; i < CORE_THREADS; i++) {
		n->thread[i].note = core_note(NT_PRSTATUS, sizeof(n->thread[i].status));
		n->thread[i].status.pr_pid = CORE_PID + i;
	}
	core_registers(n, 0, SYS_epoll_pwait, in_epoll);
	core_registers(n, 1, SYS_futex, in_futex);
	core_registers(n, 2, -1, in_epoll);
	n->file_note = core_note(NT_FILE, sizeof(n->file) + sizeof(n->file_name));
	n->file[0] = 1;
	n->file[1] = CORE_PAGE;
	n->file[2] = CORE_BASE;
	n->file[3] = CORE_BASE + CORE_PAGE;
	memcpy(n->file_name, "/nonexistent/target", sizeof("/nonexistent/target"));
	n->auxv_note = core_note(NT_AUXV, sizeof(n->auxv));
	n->auxv[0] = AT_ENTRY;
	n->auxv[1] = CORE_AT(code);
}

static inline Elf64_Phdr core_load(size_t from, size_t to, uint32_t flags)
{
	return (Elf64_Phdr){ .p_type = PT_LOAD,
			     .p_flags = flags,
			     .p_offset = offsetof(struct core_file, target) + from,
			     .p_vaddr = CORE_BASE + from,
			     .p_filesz = to - from,
			     .p_memsz = to - from,
			     .p_align = CORE_PAGE };
}

static inline void core_build(struct core_file *f)
{
	const size_t data = offsetof(struct core_target, root), ring = offsetof(struct core_target, ring);

	memset(f, 0, sizeof(*f));
	core_build_image(&f->target);
	core_build_objects(&f->target);
	core_build_ring(&f->target);
	core_build_notes(&f->notes);
	f->e = f->target.image.e;
	f->e.e_type = ET_CORE;
	f->e.e_entry = 0;
	f->e.e_phoff = offsetof(struct core_file, p);
	f->e.e_phnum = 1 + CORE_SEGMENTS;
	f->p[0] = (Elf64_Phdr){ .p_type = PT_NOTE,
				.p_offset = offsetof(struct core_file, notes),
				.p_filesz = sizeof(f->notes),
				.p_align = 4 };
	f->p[1] = core_load(0, data, PF_R);
	f->p[2] = core_load(data, ring, PF_R | PF_W);
	f->p[3] = core_load(ring, sizeof(struct core_target), PF_R | PF_W);
}

/* A file without a name that holds SIZE bytes of DATA; its path is in PATH. */
static inline int core_write(const void *data, size_t size, char path[64])
{
	int fd = memfd_create("core", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, size), size);
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

/* --- what each test has ------------------------------------------------------------- */

static struct core_file core;
static struct bht_evidence ev;
static struct bht_source *history;
static struct bht_refusal refusal;
static char path[64];

static int setup(void **state)
{
	(void)state;
	core_build(&core);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (history)
		history->close(history);
	history = NULL;
	bht_evidence_free(&ev);
	return 0;
}

/* Opens the first SIZE bytes of the core. */
static int open_part(size_t size, const char *exe)
{
	teardown(NULL);
	int fd = core_write(&core, size, path);
	int rc = bht_core_open(path, exe, &ev, &history, &refusal);

	close(fd);
	if (rc) {
		assert_null(history);
		assert_int_equal(ev.last.n_loops + ev.last.n_threads + ev.n_unseen, 0);
		assert_non_null(strstr(refusal.why, path));
	}
	return rc;
}

static inline void opens(void)
{
	if (open_part(sizeof(core), NULL))
		fail_msg("%s", refusal.why);
}

static inline bool unseen(const char *text)
{
	for (unsigned i = 0; i < ev.n_unseen; i++)
		if (strstr(ev.unseen[i], text))
			return true;
	return false;
}

#endif
