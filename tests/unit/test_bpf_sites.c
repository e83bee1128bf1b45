/* SPDX-License-Identifier: MIT */
/* The notes of <sys/sdt.h>: of this program, made up, and damaged at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attach.h"

enum { FILE_SIZE = 0x1000, NOTES_AT = 0x100, NAMES_AT = 0x800, SECTIONS_AT = 0x900, SECTIONS = 3 };

static const char names[] = "\0.note.stapsdt\0.shstrtab";
static const char three[] = "8@%rax -4@$1 8@%rdx"; /* of bh:loop_free: loop and time, and one too many */
static struct {
	_Alignas(8) unsigned char bytes[FILE_SIZE];
	size_t notes;
} file;
static char why[BHB_WHY];
static uint32_t events;

static Elf64_Shdr *section(unsigned i)
{
	return (void *)(file.bytes + SECTIONS_AT + i * sizeof(Elf64_Shdr));
}

static int setup(void **state)
{
	Elf64_Ehdr *e = (void *)file.bytes;

	(void)state;
	memset(&file, 0, sizeof(file));
	*e = (Elf64_Ehdr){ .e_type = ET_DYN,
			   .e_version = EV_CURRENT,
			   .e_ehsize = sizeof(*e),
			   .e_shoff = SECTIONS_AT,
			   .e_shentsize = sizeof(Elf64_Shdr),
			   .e_shnum = SECTIONS,
			   .e_shstrndx = 2 };
	memcpy(e->e_ident, ELFMAG, SELFMAG);
	e->e_ident[EI_CLASS] = ELFCLASS64;
	e->e_ident[EI_DATA] = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
	e->e_ident[EI_VERSION] = EV_CURRENT;
	memcpy(file.bytes + NAMES_AT, names, sizeof(names));
	*section(1) = (Elf64_Shdr){ .sh_name = 1, .sh_type = SHT_NOTE, .sh_offset = NOTES_AT, .sh_addralign = 4 };
	*section(2) = (Elf64_Shdr){
		.sh_name = 15, .sh_type = SHT_STRTAB, .sh_offset = NAMES_AT, .sh_size = sizeof(names), .sh_addralign = 1
	};
	return 0;
}

static void put(const void *bytes, size_t len)
{
	memcpy(file.bytes + NOTES_AT + file.notes, bytes, len);
	file.notes += len;
}

static void pad(void)
{
	file.notes = (file.notes + 3) / 4 * 4;
	section(1)->sh_size = file.notes;
}

/* A note of OWNER: addresses, provider, name and arguments. */
static void add(const char *owner, const char *provider, const char *name, const char *args)
{
	const uint64_t addresses[3] = { 0x1000, 0, 0x3000 };
	const size_t size = sizeof(addresses) + strlen(provider) + strlen(name) + strlen(args) + 3;
	const Elf64_Nhdr n = { (uint32_t)strlen(owner) + 1, (uint32_t)size, 3 };

	put(&n, sizeof(n));
	put(owner, strlen(owner) + 1);
	pad();
	put(addresses, sizeof(addresses));
	put(provider, strlen(provider) + 1);
	put(name, strlen(name) + 1);
	put(args, strlen(args) + 1);
	pad();
}

/* bhb_sites_of() of the first SIZE bytes. */
static int sites_of_first(size_t size)
{
	const int fd = memfd_create("sites", MFD_CLOEXEC);
	int sites;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, file.bytes, size), (ssize_t)size);
	sites = bhb_sites_of(fd, "some/file", &events, why);
	close(fd);
	return sites;
}

static int sites(void)
{
	return sites_of_first(FILE_SIZE);
}

static void sites_are_counted(void **state)
{
	(void)state;
	assert_int_equal(sites(), 0);
	add("stapsdt", "bh", "loop_free", "8@%rax 8@-24(%rbp)");
	add("stapsdt", "bh", "loop_free", "8@%rax 8@%rdx");
	add("stapsdt", "bh", "consume", "8@%rax 8@%rbx 8@$0 8@%rdx");
	assert_int_equal(sites(), 3);
	assert_int_equal(events, UINT32_C(1) << BHP_ID_loop_free | UINT32_C(1) << BHP_ID_consume);
	assert_string_equal(why, "");
}

static void others_are_not(void **state)
{
	(void)state;
	add("stapsdt", "libc", "loop_free", "8@%rax 8@%rdx");
	add("stapsdt", "bh", "of_a_later_version", "8@%rax");
	add("stapsdt", "bhx", "loop_free", "8@%rax 8@%rdx");
	add("GNU", "bh", "loop_free", "8@%rax 8@%rdx");
	assert_int_equal(sites(), 0);
	assert_int_equal(events, 0);
	add("stapsdt", "bh", "loop_free", "8@%rax 8@%rdx");
	assert_int_equal(sites(), 1);
}

/* Their last argument would be taken for the time. */
static void of_another_version(void **state)
{
	(void)state;
	add("stapsdt", "bh", "consume", "8@%rax 8@%rbx 8@%rcx 8@%rdx");
	add("stapsdt", "bh", "loop_free", three);
	assert_int_equal(sites(), -ENOTSUP);
	assert_int_equal(events, 0);
	assert_string_equal(why,
			    "some/file: bh:loop_free has 3 arguments instead of 2: it was built with another version "
			    "of the probes");
}

static void for_another_machine(void **state)
{
	(void)state;
	add("stapsdt", "bh", "loop_free", "8@%rax 8@%rdx");
	file.bytes[EI_DATA] ^= ELFDATA2LSB ^ ELFDATA2MSB;
	assert_int_equal(sites(), -ENOTSUP);
	file.bytes[EI_DATA] ^= ELFDATA2LSB ^ ELFDATA2MSB;
	file.bytes[EI_CLASS] = ELFCLASS32;
	assert_int_equal(sites(), -ENOTSUP);
	assert_string_equal(why, "some/file: is for another kind of machine");
}

static void damaged_notes_are_refused(void **state)
{
	const char *const text = "the note at offset 0x0 of .note.stapsdt has no end";

	(void)state;
	add("stapsdt", "bh", "loop_free", "8@%rax 8@%rdx");
	/* without the zero at the end */
	memset(file.bytes + NOTES_AT + 20 + 24 + 13, 'x', 16);
	assert_int_equal(sites(), -EBADMSG);
	assert_non_null(strstr(why, text));
	/* a descriptor that ends within the addresses */
	((Elf64_Nhdr *)(file.bytes + NOTES_AT))->n_descsz = 16;
	section(1)->sh_size = 20 + 16;
	assert_int_equal(sites(), -EBADMSG);
	assert_non_null(strstr(why, text));
	/* one that is longer than the section */
	((Elf64_Nhdr *)(file.bytes + NOTES_AT))->n_descsz = 0x7fffffff;
	assert_int_equal(sites(), -EBADMSG);
	assert_non_null(strstr(why, "the note at offset 0x0 of .note.stapsdt is damaged"));
}

static void damaged_sections_are_refused(void **state)
{
	(void)state;
	add("stapsdt", "bh", "loop_free", "8@%rax 8@%rdx");
	section(1)->sh_size = UINT64_C(1) << 60;
	assert_int_equal(sites(), -EBADMSG);
	section(1)->sh_size = file.notes;
	section(1)->sh_offset = UINT64_MAX - 8;
	assert_int_equal(sites(), -EBADMSG);
	assert_string_equal(why, "some/file: .note.stapsdt is not within the file");
}

/* Nothing but an answer is expected of these; the sanitizers look on. */
static void cut_or_changed_anywhere(void **state)
{
	const size_t used = SECTIONS_AT + SECTIONS * sizeof(Elf64_Shdr);

	(void)state;
	add("stapsdt", "bh", "loop_free", "8@%rax 8@%rdx");
	add("stapsdt", "bh", "consume", "8@%rax 8@%rbx 8@%rcx 8@%rdx");
	for (size_t size = 0; size < used; size += 7)
		assert_true(sites_of_first(size) <= 0);
	for (size_t at = 0; at < used; at++) {
		const unsigned char was = file.bytes[at];
		if (at == NOTES_AT + file.notes)
			at = NAMES_AT;
		file.bytes[at] ^= 0xff;
		const int n = sites();
		assert_true(n <= 2);
		assert_true(n < 0 ? *why && !events : !*why);
		file.bytes[at] = was;
	}
	assert_int_equal(sites(), 2);
}

static void no_elf_file(void **state)
{
	char fifo[] = "/tmp/test_bpf_sites.XXXXXX";

	(void)state;
	assert_int_equal(bhb_sites("/no/such/file", why), -ENOENT);
	assert_int_equal(bhb_sites("/proc/self/status", why), -ENOEXEC);
	assert_int_equal(bhb_sites("/", why), -ENOEXEC);
	assert_string_equal(why, "/: is no regular file");
	/* nobody writes to it, and nobody waits for that */
	assert_non_null(mkdtemp(fifo));
	assert_int_equal(rmdir(fifo), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(bhb_sites(fifo, why), -ENOEXEC);
	unlink(fifo);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(sites_are_counted, setup),
		cmocka_unit_test_setup(others_are_not, setup),
		cmocka_unit_test_setup(of_another_version, setup),
		cmocka_unit_test_setup(for_another_machine, setup),
		cmocka_unit_test_setup(damaged_notes_are_refused, setup),
		cmocka_unit_test_setup(damaged_sections_are_refused, setup),
		cmocka_unit_test_setup(cut_or_changed_anywhere, setup),
		cmocka_unit_test(no_elf_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
