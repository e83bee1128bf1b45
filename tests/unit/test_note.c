/* SPDX-License-Identifier: MIT */
/* ELF images as they lie in memory: well-formed, damaged, and this program. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <elf.h>
#include <unistd.h>

#include "fake_memory.h"
#include "flight.h"
#include "sources/note.h"
#include "sources/process.h"

#define BASE   UINT64_C(0x7f0000000000)
#define LINKED UINT64_C(0x400000) /* where the linker put it, which is not BASE */

enum { IMAGE_SIZE = 0x2000, NOTES_AT = 0x800, FAR_PHDRS = 0x1000 };

static struct {
	_Alignas(8) unsigned char bytes[IMAGE_SIZE];
	unsigned notes_size;
} image;
static struct fake_memory fake;
static struct bht_notes notes;

static Elf64_Ehdr *ehdr(void)
{
	return (void *)image.bytes;
}

static Elf64_Phdr *phdr(unsigned i)
{
	return (void *)(image.bytes + ehdr()->e_phoff + i * sizeof(Elf64_Phdr));
}

static int setup(void **state)
{
	(void)state;
	memset(&image, 0, sizeof(image));
	*ehdr() = (Elf64_Ehdr){
		.e_type = ET_DYN, .e_phoff = sizeof(Elf64_Ehdr), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 3
	};
	memcpy(ehdr()->e_ident, ELFMAG, SELFMAG);
	ehdr()->e_ident[EI_CLASS] = ELFCLASS64;
	ehdr()->e_ident[EI_DATA] = ELFDATA2LSB;
	*phdr(0) = (Elf64_Phdr){ .p_type = PT_PHDR, .p_vaddr = LINKED + 64 };
	*phdr(1) = (Elf64_Phdr){ .p_type = PT_LOAD, .p_vaddr = LINKED, .p_filesz = IMAGE_SIZE };
	*phdr(2) = (Elf64_Phdr){ .p_type = PT_NOTE, .p_vaddr = LINKED + NOTES_AT, .p_align = 4 };
	fake_init(&fake);
	fake_show_at(&fake, BASE, image.bytes, IMAGE_SIZE);
	return 0;
}

static void put(const void *bytes, size_t len, unsigned align)
{
	memcpy(image.bytes + NOTES_AT + image.notes_size, bytes, len);
	image.notes_size += (unsigned)((len + align - 1) / align * align);
	phdr(2)->p_filesz = image.notes_size;
}

/* Appends a note; gives the offset of its descriptor in the image. */
static unsigned add_note(const char *owner, uint32_t type, const void *desc, uint32_t size)
{
	const unsigned align = phdr(2)->p_align == 8 ? 8 : 4;
	const Elf64_Nhdr n = { (uint32_t)strlen(owner) + 1, size, type };
	unsigned char head[64];

	memcpy(head, &n, sizeof(n));
	memcpy(head + sizeof(n), owner, n.n_namesz);
	put(head, sizeof(n) + n.n_namesz, align);
	put(desc, size, align);
	return NOTES_AT + image.notes_size - (size + align - 1) / align * align;
}

static unsigned add_root_note(int64_t distance)
{
	return add_note(BHP_NOTE_NAME, BHP_NOTE_ROOT, &distance, sizeof(distance));
}

static void find(uint64_t addr)
{
	assert_int_equal(bht_notes_find(&fake.mem, &addr, 1, &notes), 0);
}

static void expect_root(uint64_t root)
{
	find(BASE);
	assert_int_equal(notes.n_images, 1);
	assert_int_equal(notes.n_roots, 1);
	assert_int_equal(notes.root[0], root);
}

static void expect_nothing(void)
{
	find(BASE);
	assert_int_equal(notes.n_roots, 0);
}

static void test_root(void **state)
{
	(void)state;
	add_note("GNU", NT_GNU_BUILD_ID, "12345678901234567890", 20);
	add_note("bhtrac", BHP_NOTE_ROOT, "12345678", 8);
	add_note(BHP_NOTE_NAME, 9, "12345678", 8);
	add_note(BHP_NOTE_NAME, BHP_NOTE_ROOT, "1234", 4);
	const unsigned at = add_root_note(0x3000);
	expect_root(BASE + at + 0x3000);
}

static void test_root_before_the_note(void **state)
{
	(void)state;
	const unsigned at = add_root_note(-0x700);
	expect_root(BASE + at - 0x700);
}

static void test_aligned_to_8(void **state)
{
	(void)state;
	phdr(2)->p_align = 8;
	add_note("GNU", NT_GNU_PROPERTY_TYPE_0, "0123456789abcdef", 16);
	const unsigned at = add_root_note(16);
	expect_root(BASE + at + 16);
}

static void test_first_load_not_at_offset_0(void **state)
{
	(void)state;
	phdr(1)->p_vaddr += 0x40;
	phdr(1)->p_offset = 0x40;
	const unsigned at = add_root_note(8);
	expect_root(BASE + at + 8);
}

static void test_far_program_headers(void **state)
{
	(void)state;
	const unsigned at = add_root_note(8);
	memcpy(image.bytes + FAR_PHDRS, phdr(0), 3 * sizeof(Elf64_Phdr));
	ehdr()->e_phoff = FAR_PHDRS;
	expect_root(BASE + at + 8);
	ehdr()->e_phoff = IMAGE_SIZE - 8;
	expect_nothing();
	ehdr()->e_phoff = UINT64_MAX - 64;
	expect_nothing();
}

static void test_damaged_headers(void **state)
{
	(void)state;
	add_root_note(8);
	ehdr()->e_phnum = 0xffff;
	expect_nothing();
	ehdr()->e_phnum = 0;
	expect_nothing();
	ehdr()->e_phnum = 3;
	ehdr()->e_phentsize = 1;
	expect_nothing();
	ehdr()->e_phentsize = sizeof(Elf64_Phdr);
	phdr(1)->p_type = PT_NULL;
	expect_nothing();
	phdr(1)->p_type = PT_LOAD;
	phdr(2)->p_vaddr = UINT64_MAX - 3;
	expect_nothing();
	phdr(2)->p_vaddr = LINKED + NOTES_AT;
	phdr(2)->p_filesz = UINT64_MAX;
	expect_nothing();
	image.bytes[0] = 0;
	expect_nothing();
	assert_int_equal(notes.n_images, 0);
}

static void test_damaged_notes(void **state)
{
	(void)state;
	const Elf64_Nhdr huge[] = { { UINT32_MAX, UINT32_MAX, 1 }, { 8, UINT32_MAX, 1 }, { UINT32_MAX, 8, 1 } };

	for (unsigned i = 0; i < 3; i++) {
		image.notes_size = 0;
		put(&huge[i], sizeof(huge[i]), 4);
		add_root_note(8);
		expect_nothing();
	}
	image.notes_size = 0;
	add_root_note(8);
	for (unsigned len = 0; len < image.notes_size; len++) {
		phdr(2)->p_filesz = len;
		expect_nothing();
	}
}

static void test_foreign(void **state)
{
	(void)state;
	ehdr()->e_ident[EI_CLASS] = ELFCLASS32;
	expect_nothing();
	assert_int_equal(notes.n_foreign, 1);
	assert_int_equal(notes.foreign, BASE);
	ehdr()->e_ident[EI_CLASS] = ELFCLASS64;
	ehdr()->e_ident[EI_DATA] = ELFDATA2MSB;
	expect_nothing();
	assert_int_equal(notes.n_foreign, 1);
}

/* One unreadable image among many costs neither the others nor many reads. */
static void test_unreadable_image(void **state)
{
	(void)state;
	uint64_t addrs[32];

	const unsigned at = add_root_note(8);
	for (unsigned i = 0; i < 32; i++) {
		addrs[i] = BASE + 0x10000 * i;
		if (i && i != 13)
			fake_show_at(&fake, addrs[i], image.bytes, IMAGE_SIZE);
	}
	assert_int_equal(bht_notes_find(&fake.mem, addrs, 32, &notes), 0);
	assert_int_equal(notes.n_images, 31);
	assert_int_equal(notes.n_roots, BHT_ROOTS_MAX);
	assert_int_equal(notes.root[0], BASE + at + 8);
	assert_in_range(fake.reads, 3, 16);
	fake.error = -ESRCH;
	assert_int_equal(bht_notes_find(&fake.mem, addrs, 32, &notes), -ESRCH);
}

static void test_same_root_twice(void **state)
{
	(void)state;
	const uint64_t addrs[] = { BASE, BASE };

	add_root_note(8);
	assert_int_equal(bht_notes_find(&fake.mem, addrs, 2, &notes), 0);
	assert_int_equal(notes.n_roots, 1);
}

static void test_this_program(void **state)
{
	(void)state;
	struct bht_process p;
	struct bht_refusal refusal;
	struct bhp_root root;
	unsigned right = 0;

	assert_int_equal(bht_process_open(&p, (uint32_t)getpid(), &refusal), 0);
	for (size_t i = 0; i < p.n_maps; i++) {
		if (!p.maps[i].file_start)
			continue;
		assert_int_equal(bht_notes_find(&p.mem, &p.maps[i].start, 1, &notes), 0);
		right += notes.n_roots == 1 && notes.root[0] == (uintptr_t)&bhp_flight_root;
	}
	assert_int_equal(right, 1);
	assert_int_equal(bht_root_read(&p.mem, (uintptr_t)&bhp_flight_root, &root, &refusal), 0);
	assert_int_equal(root.pid, getpid());
	bht_process_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_root, setup),
		cmocka_unit_test_setup(test_root_before_the_note, setup),
		cmocka_unit_test_setup(test_aligned_to_8, setup),
		cmocka_unit_test_setup(test_first_load_not_at_offset_0, setup),
		cmocka_unit_test_setup(test_far_program_headers, setup),
		cmocka_unit_test_setup(test_damaged_headers, setup),
		cmocka_unit_test_setup(test_damaged_notes, setup),
		cmocka_unit_test_setup(test_foreign, setup),
		cmocka_unit_test_setup(test_unreadable_image, setup),
		cmocka_unit_test_setup(test_same_root_twice, setup),
		cmocka_unit_test_setup(test_this_program, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
