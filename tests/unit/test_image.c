/* SPDX-License-Identifier: MIT */
/* Images of this process: their symbols, code and debug information; moved, deleted, exchanged, damaged. */
#include "foreign_image.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

#include "image_inside.h"
#include "note.h"

static struct own_images own;

struct nested {
	char a;
	union {
		int x;
		struct {
			short y;
			long z;
		};
	};
	struct {
		int fd[2];
		unsigned char done;
	} in;
	unsigned bit : 1;
};
typedef struct nested nested_type;

nested_type exported_variable = { .in = { .done = 7 } };
static volatile long static_variable = 3;

int exported_function(int a);
AS_WRITTEN int exported_function(int a)
{
	return a + (int)static_variable + exported_variable.x;
}

static AS_WRITTEN int static_function(int a)
{
	return a - exported_function(a);
}

static int setup(void **state)
{
	(void)state;
	own_open(&own);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	own_close(&own);
	return 0;
}

static uint64_t address(int (*f)(int))
{
	return (uintptr_t)f;
}

/* The path of the library that has ADDR. */
static const char *library(void *addr)
{
	Dl_info info;

	assert_int_not_equal(dladdr(addr, &info), 0);
	return info.dli_fname;
}

/* --- symbols and code ------------------------------------------------------------------- */

static void test_symbols(void **state)
{
	struct bht_image *image = own_image(&own, &exported_variable);
	uint64_t size = 0, off;

	(void)state;
	assert_string_equal(own.refusal.why, "");
	assert_false(bht_image_other_machine(image));
	assert_int_equal(bht_image_symbol(image, "exported_function", &size), address(exported_function));
	assert_in_range(size, 1, 500);
	assert_int_equal(bht_image_symbol(image, "static_function", NULL), address(static_function));
	assert_int_equal(bht_image_symbol(image, "exported_variable", &size), (uintptr_t)&exported_variable);
	assert_int_equal(size, sizeof(exported_variable));
	assert_int_equal(bht_image_symbol(image, "exported_functio", NULL), 0);
	assert_int_equal(bht_image_symbol(image, "", NULL), 0);
	/* Needed, but defined elsewhere. */
	assert_int_equal(bht_image_symbol(image, "dlopen", NULL), 0);
	assert_string_equal(bht_images_name(&own.images, address(static_function) + 2, &off), "static_function");
	assert_int_equal(off, 2);
	assert_string_equal(bht_images_name(&own.images, (uintptr_t)&exported_variable, &off), "");
	assert_string_equal(bht_images_name(&own.images, 1, &off), "");
}

/* What the loader finds. */
static void test_default_version(void **state)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
	static const char *const names[] = { "pthread_cond_wait", "memcpy", "malloc", "realpath", "posix_spawn" };

	(void)state;
	if (!libc)
		skip();
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		void *f = dlsym(libc, names[i]);
		const uint64_t found = bht_image_symbol(own_image(&own, dlsym(libc, "malloc")), names[i], NULL);
		/* Of an indirect function there is the resolver alone, and an old version. */
		assert_int_equal(found, strcmp(names[i], "memcpy") ? (uintptr_t)f : 0);
	}
	dlclose(libc);
}

static void test_build_ids(void **state)
{
	struct bht_notes notes;

	(void)state;
	for (unsigned i = 0; i < own.images.n; i++) {
		const struct bht_image *image = own.images.image[i];
		assert_int_equal(bht_notes_find(&own.process.mem, &image->low, 1, &notes), 0);
		assert_string_equal(bht_image_build_id(image), notes.build_id);
	}
}

static AS_WRITTEN void poke(unsigned char *code, unsigned char byte)
{
	*code = byte;
}

/* A debugger or a uprobe writes to memory, not to the file. */
static void test_code_is_of_the_file(void **state)
{
	struct bht_image *image = own_image(&own, &exported_variable);
	unsigned char *const code = (unsigned char *)(uintptr_t)exported_function, first = *code, bytes[8], again[8];
	unsigned char *const page = (unsigned char *)((uintptr_t)code & ~(uintptr_t)4095);

	(void)state;
	if (mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC))
		skip();
	poke(code, 0xcc);
	assert_int_equal(bht_image_code(image, (uintptr_t)code, bytes, sizeof(bytes)), 0);
	poke(code, first);
	assert_int_equal(mprotect(page, 8192, PROT_READ | PROT_EXEC), 0);
	assert_memory_equal(bytes, code, sizeof(bytes));
	assert_int_equal(
		pread(bht_image_fd(image), again, sizeof(again), (off_t)bht_image_file_offset(image, (uintptr_t)code)),
		sizeof(again));
	assert_memory_equal(again, code, sizeof(again));
	/* Neither data nor anything beyond. */
	assert_int_equal(bht_image_code(image, (uintptr_t)&exported_variable, bytes, 1), -EFAULT);
	assert_int_equal(bht_image_code(image, UINT64_MAX, bytes, sizeof(bytes)), -EFAULT);
	assert_int_equal(bht_image_code(image, (uintptr_t)code, bytes, SIZE_MAX), -EFAULT);
}

/* --- debug information ------------------------------------------------------------------------ */

static void expect_member(const char *member, size_t offset, size_t size)
{
	uint64_t at = 0, len = 0;

	assert_int_equal(bht_image_dwarf_member(own_image(&own, &exported_variable), "nested", member, &at, &len), 0);
	assert_int_equal(at, offset);
	assert_int_equal(len, size);
	assert_int_equal(bht_image_dwarf_member(own_image(&own, &exported_variable), "nested_type", member, &at, NULL),
			 0);
	assert_int_equal(at, offset);
}

static void test_dwarf_members(void **state)
{
	struct bht_image *image = own_image(&own, &exported_variable);
	uint64_t at;

	(void)state;
	if (bht_image_dwarf_member(image, "nested", "a", &at, NULL))
		skip(); /* compiled without -g */
	expect_member("x", offsetof(struct nested, x), sizeof(int));
	expect_member("y", offsetof(struct nested, y), sizeof(short));
	expect_member("z", offsetof(struct nested, z), sizeof(long));
	expect_member("in.fd", offsetof(struct nested, in.fd), 2 * sizeof(int));
	expect_member("in.done", offsetof(struct nested, in.done), 1);
	assert_int_equal(bht_image_dwarf_member(image, "nested", "in.none", &at, NULL), -ENOENT);
	assert_int_equal(bht_image_dwarf_member(image, "nested", "x.y", &at, NULL), -ENOENT);
	assert_int_equal(bht_image_dwarf_member(image, "nested", "bit", &at, NULL), -ENOENT);
	assert_int_equal(bht_image_dwarf_member(image, "neste", "a", &at, NULL), -ENOENT);
}

static void test_variables(void **state)
{
	struct bht_image *image = own_image(&own, &exported_variable);
	uint64_t at, size;
	int is_signed;

	(void)state;
	if (bht_image_dwarf_member(image, "nested", "a", &at, NULL))
		skip();
	assert_int_equal(bht_image_variable(image, "exported_variable.in.done", &at, &size, &is_signed), 0);
	assert_int_equal(at, (uintptr_t)&exported_variable.in.done);
	assert_int_equal(size, 1);
	assert_int_equal(is_signed, 0);
	assert_int_equal(bht_image_variable(image, "static_variable", &at, &size, &is_signed), 0);
	assert_int_equal(at, (uintptr_t)&static_variable);
	assert_int_equal(size, sizeof(static_variable));
	assert_int_equal(is_signed, 1);
	/* No number. */
	assert_int_equal(bht_image_variable(image, "exported_variable", &at, &size, &is_signed), 0);
	assert_int_equal(size, 0);
	assert_int_equal(bht_image_variable(image, "exported_function", &at, &size, &is_signed), -ENOENT);
}

/* --- files that are not where they were ---------------------------------------------------------- */

/* A copy of libcmocka in TMPDIR; PATH has room for 64. */
static void copy_library(char *path)
{
	unsigned char buf[4096];
	const int from = open(library(dlsym(RTLD_DEFAULT, "_assert_true")), O_RDONLY | O_CLOEXEC);
	ssize_t n;

	strcpy(path, "/tmp/bhtrace-image-XXXXXX");
	const int to = mkstemp(path);
	assert_true(from >= 0 && to >= 0);
	while ((n = read(from, buf, sizeof(buf))) > 0)
		assert_int_equal(write(to, buf, (size_t)n), n);
	close(from);
	close(to);
}

static unsigned count_images(const struct own_images *all, const char *path, struct bht_image **last)
{
	unsigned n = 0;

	for (unsigned i = 0; i < all->images.n; i++) {
		if (strncmp(bht_image_path(all->images.image[i]), path, strlen(path)))
			continue;
		*last = all->images.image[i];
		n++;
	}
	return n;
}

static void test_deleted_file(void **state)
{
	struct own_images now;
	struct bht_image *image = NULL;
	char path[64];

	(void)state;
	copy_library(path);
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	assert_non_null(handle);
	unlink(path);
	own_open(&now);
	assert_int_equal(count_images(&now, path, &image), 1);
	assert_int_equal(bht_image_symbol(image, "_assert_true", NULL), (uintptr_t)dlsym(handle, "_assert_true"));
	own_close(&now);
	dlclose(handle);
}

/* Once more by dlmopen(), and twice as data, which is no image. */
static void test_mapped_again(void **state)
{
	struct own_images now;
	struct bht_image *image = NULL;
	char path[64];

	(void)state;
	copy_library(path);
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL), *other = dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *data = mmap(NULL, 65536, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
	void *more = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 4096);
	close(fd);
	assert_true(handle && data != MAP_FAILED && more != MAP_FAILED);
	own_open(&now);
	assert_int_equal(count_images(&now, path, &image), other ? 2 : 1);
	void *f = dlsym(handle, "_assert_true"), *g = other ? dlsym(other, "_assert_true") : NULL;
	assert_int_equal(bht_image_symbol(own_image(&now, f), "_assert_true", NULL), (uintptr_t)f);
	if (g)
		assert_int_equal(bht_image_symbol(own_image(&now, g), "_assert_true", NULL), (uintptr_t)g);
	assert_null(bht_images_at(&now.images, (uintptr_t)data));
	own_close(&now);
	munmap(data, 65536);
	munmap(more, 4096);
	if (other)
		dlclose(other);
	dlclose(handle);
	unlink(path);
}

struct lines {
	uint64_t base;
	struct bht_image_map map[16];
	unsigned n;
};

/* The lines of libcmocka as it is mapped here. */
static void cmocka_lines(struct lines *lines, const char *path, const char *open_path)
{
	const struct bht_image *image = own_image(&own, dlsym(RTLD_DEFAULT, "_assert_true"));

	lines->n = file_lines(bht_image_path(image), lines->map);
	for (unsigned i = 0; i < lines->n; i++) {
		lines->map[i].start += image->bias - FILE_BASE;
		lines->map[i].end += image->bias - FILE_BASE;
		lines->map[i].path = path;
		lines->map[i].open = open_path;
	}
}

static void test_exchanged_file(void **state)
{
	struct lines lines;
	struct bht_images images;
	struct bht_refusal refusal;

	(void)state;
	cmocka_lines(&lines, "libcmocka", library(dlsym(RTLD_DEFAULT, "malloc")));
	assert_int_equal(bht_images_of_maps(lines.map, lines.n, &own.process.mem, &images, &refusal), 0);
	assert_int_equal(images.n, 0);
	assert_non_null(strstr(refusal.why, "libcmocka: not the file that is mapped"));
	bht_images_free(&images);
	cmocka_lines(&lines, "libcmocka", "/dev/zero");
	assert_int_equal(bht_images_of_maps(lines.map, lines.n, &own.process.mem, &images, &refusal), 0);
	/* No file at all: from memory then. */
	assert_int_equal(images.n, 1);
	assert_int_equal(bht_image_fd(images.image[0]), -1);
	bht_images_free(&images);
}

/* As of a core whose files are gone. */
static void test_from_memory_alone(void **state)
{
	void *f = dlsym(RTLD_DEFAULT, "_assert_true");
	struct bht_image *file = own_image(&own, f);
	struct lines lines;
	struct bht_images images;
	struct bht_refusal refusal;
	unsigned char code[16];
	uint64_t off;

	(void)state;
	cmocka_lines(&lines, "libcmocka", NULL);
	assert_int_equal(bht_images_of_maps(lines.map, lines.n, &own.process.mem, &images, &refusal), 0);
	assert_int_equal(images.n, 1);
	struct bht_image *image = images.image[0];
	assert_int_equal(bht_image_fd(image), -1);
	assert_string_equal(bht_image_build_id(image), bht_image_build_id(file));
	assert_int_equal(bht_image_bias(image), bht_image_bias(file));
	const struct bht_symbols *symbols = bht_image_symbols(image);
	assert_in_range(symbols->n, 50, 10000);
	for (unsigned i = 0; i < symbols->n; i++)
		assert_int_equal(bht_image_symbol(image, symbols->symbol[i].name, NULL),
				 bht_image_symbol(file, symbols->symbol[i].name, NULL));
	assert_int_equal(bht_image_symbol(image, "_assert_true", NULL), (uintptr_t)f);
	assert_string_equal(bht_images_name(&images, (uintptr_t)f + 1, &off), "_assert_true");
	assert_int_equal(bht_image_code(image, (uintptr_t)f, code, sizeof(code)), 0);
	assert_memory_equal(code, f, sizeof(code));
	bht_images_free(&images);
}

/* --- files that nobody should trust ------------------------------------------------------------------- */

static void write_file(const char *path, const void *bytes, size_t len)
{
	const int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	close(fd);
}

/* Whatever is asked of it; the memory says that it is the mapped one. */
static void use(const char *path, struct file_image *file)
{
	struct bht_image_map maps[16];
	unsigned char code[16];
	uint64_t off, size;
	int is_signed;

	const unsigned n = file_lines(path, maps);
	assert_int_equal(bht_images_of_maps(maps, n, &file->fake.mem, &file->images, &file->refusal), 0);
	for (unsigned i = 0; i < file->images.n; i++) {
		struct bht_image *image = file->images.image[i];
		const uint64_t at = bht_image_symbol(image, "_assert_true", NULL);
		bht_image_code(image, at, code, sizeof(code));
		bht_images_name(&file->images, at, &off);
		/* Its length may be damaged, too. */
		for (uint64_t got = image->low; got < image->low + 65536; got += 512)
			bht_image_got(image, got, &off);
		bht_image_variable(image, "global_source_location", &off, &size, &is_signed);
	}
	bht_images_free(&file->images);
}

static void test_damaged_files(void **state)
{
	static unsigned char bytes[1 << 20];
	struct file_image file;
	char path[64];
	Elf64_Ehdr e;

	(void)state;
	copy_library(path);
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const ssize_t len = read(fd, bytes, sizeof(bytes));
	close(fd);
	assert_in_range(len, 4096, sizeof(bytes) - 1);
	assert_non_null(file_open(&file, path));
	assert_int_not_equal(bht_image_symbol(file.images.image[0], "_assert_true", NULL), 0);
	bht_images_free(&file.images);
	memcpy(&e, bytes, sizeof(e));
	const size_t sections = e.e_shnum * sizeof(Elf64_Shdr);
	/* The headers, then a part of the tables, then the section headers. */
	for (size_t i = 0; i < sizeof(e) + 14 * sizeof(Elf64_Phdr) + 256 + sections; i++) {
		const size_t at = i < (size_t)len - sections && i < 1100 ? i : e.e_shoff + (i - 1100) % sections;
		const unsigned char was = bytes[at];
		bytes[at] ^= (unsigned char)(i % 3 ? 0xff : 0x40);
		write_file(path, bytes, (size_t)len);
		use(path, &file);
		bytes[at] = was;
	}
	for (size_t cut = 0; cut < (size_t)len; cut += 997) {
		write_file(path, bytes, cut);
		use(path, &file);
	}
	unlink(path);
}

static void test_other_machine(void **state)
{
	struct bht_image_map map = { FILE_BASE, FILE_BASE + 4096, 0, "/lib/other", NULL };
	struct {
		Elf32_Ehdr e;
		Elf32_Phdr p;
		char rest[4096];
	} elf = { .e = { .e_type = ET_DYN,
			 .e_machine = EM_386,
			 .e_version = EV_CURRENT,
			 .e_phoff = sizeof(Elf32_Ehdr),
			 .e_ehsize = sizeof(Elf32_Ehdr),
			 .e_phentsize = sizeof(Elf32_Phdr),
			 .e_phnum = 1 },
		  .p = { .p_type = PT_LOAD, .p_filesz = 4096, .p_memsz = 4096, .p_flags = PF_R | PF_X } };
	struct fake_memory fake;
	struct bht_images images;
	struct bht_refusal refusal;
	char path[] = "/tmp/bhtrace-image-XXXXXX";

	(void)state;
	memcpy(elf.e.e_ident, ELFMAG, SELFMAG);
	elf.e.e_ident[EI_CLASS] = ELFCLASS32;
	elf.e.e_ident[EI_DATA] = ELFDATA2LSB;
	elf.e.e_ident[EI_VERSION] = EV_CURRENT;
	close(mkstemp(path));
	write_file(path, &elf, sizeof(elf));
	fake_init(&fake);
	fake_show_at(&fake, FILE_BASE, &elf, sizeof(elf));
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(bht_images_of_maps(&map, 1, &fake.mem, &images, &refusal), 0);
		assert_int_equal(images.n, 1);
		assert_true(bht_image_other_machine(images.image[0]));
		assert_int_equal(bht_image_symbol(images.image[0], "main", NULL), 0);
		bht_images_free(&images);
		map.open = path;
	}
	unlink(path);
}

static void test_no_process(void **state)
{
	struct bht_images images;
	struct bht_refusal refusal;

	(void)state;
	assert_int_equal(bht_images_of_process(INT32_MAX, &own.process.mem, &images, &refusal), -ENOENT);
	assert_non_null(strstr(refusal.why, "2147483647"));
	assert_int_equal(images.n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_symbols),        cmocka_unit_test(test_default_version),
		cmocka_unit_test(test_build_ids),      cmocka_unit_test(test_code_is_of_the_file),
		cmocka_unit_test(test_dwarf_members),  cmocka_unit_test(test_variables),
		cmocka_unit_test(test_deleted_file),   cmocka_unit_test(test_mapped_again),
		cmocka_unit_test(test_exchanged_file), cmocka_unit_test(test_from_memory_alone),
		cmocka_unit_test(test_damaged_files),  cmocka_unit_test(test_other_machine),
		cmocka_unit_test(test_no_process),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
