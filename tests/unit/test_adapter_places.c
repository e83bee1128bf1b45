/* SPDX-License-Identifier: MIT */
/*
 * The adapters of this project on the libraries and programs of this machine: each member is where
 * it was seen in a live process by a debugger, or where the header says. Builds that were not looked at by
 * hand are only asked for members that are part of an ABI.
 */
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "support.h"
#include "fake_memory.h"
#include "layout.h"

#define LIB "/usr/lib/x86_64-linux-gnu/"

enum { NONE = -1 };

#ifdef __x86_64__
enum { X86_64 = true };
#else
enum { X86_64 = false };
#endif

static const struct place {
	const char *file, *adapter;
	const char *build_id; /* NULL: any build has these */
	struct {
		enum bht_member member;
		int offset[2];
	} is[12];
} places[] = {
#define UV                                                                                                             \
	{                                                                                                              \
		{ BHT_LOOP_poll_fd, { 0x40, NONE } }, { BHT_LOOP_notifier_fd, { 0x1f8, NONE } },                       \
			{ BHT_LOOP_iteration, { 0x220, NONE } }, { BHT_LOOP_bhs, { 0x1b0, NONE } },                    \
			{ BHT_BH_loop, { 0x8, NONE } }, { BHT_BH_flag, { 0x78, NONE } },                               \
			{ BHT_BH_callback, { 0x60, NONE } },                                                           \
		{                                                                                                      \
			BHT_BH_link,                                                                                   \
			{                                                                                              \
				0x68, NONE                                                                             \
			}                                                                                              \
		}                                                                                                      \
	}
	{ LIB "libuv.so.1", "libuv", NULL, UV },
	{ "/usr/bin/node", "libuv", NULL, UV },
#define QEMU                                                                                                           \
	{                                                                                                              \
		{ BHT_LOOP_notified, { 0xc0, NONE } }, { BHT_LOOP_notify_me, { 0xa0, NONE } },                         \
			{ BHT_LOOP_notifier_fd, { 0xc4, NONE } }, { BHT_LOOP_bhs, { 0xa8, NONE } },                    \
			{ BHT_BH_loop, { 0, NONE } }, { BHT_BH_name, { 0x8, NONE } },                                  \
			{ BHT_BH_callback, { 0x10, NONE } }, { BHT_BH_link, { 0x20, NONE } },                          \
		{                                                                                                      \
			BHT_BH_flag,                                                                                   \
			{                                                                                              \
				0x28, NONE                                                                             \
			}                                                                                              \
		}                                                                                                      \
	}
	/* 7.2.22 */
	{ "/usr/bin/qemu-img", "qemu", "24fbc3c2", QEMU },
	{ "/usr/bin/qemu-system-x86_64", "qemu", "d9541fd6", QEMU },
#define SOURCE                                                                                                         \
	{ BHT_BH_loop, { 0x20, NONE } }, { BHT_BH_flag, { 0x2c, NONE } }, { BHT_BH_link, { 0x48, NONE } },             \
	{                                                                                                              \
		BHT_BH_name,                                                                                           \
		{                                                                                                      \
			0x50, NONE                                                                                     \
		}                                                                                                      \
	}
	{ LIB "libglib-2.0.so.0", "glib", NULL, { SOURCE } },
	/* 2.74.6 */
	{ LIB "libglib-2.0.so.0",
	  "glib",
	  "edd26445",
	  { SOURCE,
	    { BHT_LOOP_notifier_fd, { 0x80, 0 } },
	    { BHT_LOOP_bhs, { 0x50, NONE } },
	    { BHT_BH_callback, { 0, 0x8 } } } },
#define EVENT                                                                                                          \
	{ BHT_BH_loop, { 0x40, NONE } }, { BHT_BH_flag, { 0x10, NONE } }, { BHT_BH_callback, { 0x18, NONE } },         \
	{                                                                                                              \
		BHT_BH_link,                                                                                           \
		{                                                                                                      \
			0, NONE                                                                                        \
		}                                                                                                      \
	}
#define BASE                                                                                                           \
	{                                                                                                              \
		EVENT, { BHT_LOOP_poll_fd, { 0x8, 0xc } }, { BHT_LOOP_notifier_fd, { 0x1f4, NONE } },                  \
			{ BHT_LOOP_notified, { 0x1f0, NONE } }, { BHT_LOOP_bhs, { 0xf8, NONE } },                      \
		{                                                                                                      \
			BHT_LOOP_n_queues,                                                                             \
			{                                                                                              \
				0x100, NONE                                                                            \
			}                                                                                              \
		}                                                                                                      \
	}
	{ LIB "libevent_core-2.1.so.7", "libevent", NULL, { EVENT } },
	/* 2.1.12 */
	{ LIB "libevent_core-2.1.so.7", "libevent", "3378e16c", BASE },
	{ LIB "libevent-2.1.so.7", "libevent", "debef181", BASE },
};

static const struct bht_adapter *adapter_of(const char *name)
{
	unsigned n;
	const struct bht_adapter *const *all = bht_adapters(&n);

	for (unsigned i = 0; i < n; i++)
		if (!strcmp(all[i]->name, name))
			return all[i];
	fail_msg("no adapter %s", name);
	return NULL;
}

static void compare(const struct place *p, const struct bht_layout *layout)
{
	for (size_t i = 0; i < sizeof(p->is) / sizeof(p->is[0]); i++) {
		const struct bht_place *is = &layout->place[p->is[i].member];
		const unsigned n = p->is[i].offset[1] == NONE ? 1 : 2;
		if (!p->is[i].offset[0] && !p->is[i].offset[1] && !p->is[i].member)
			break; /* the end of the table */
		if (is->n != n || is->offset[0] != (uint64_t)p->is[i].offset[0] ||
		    (n == 2 && is->offset[1] != (uint64_t)p->is[i].offset[1]))
			fail_msg("%s: %s: %s is in %u steps at 0x%llx, 0x%llx", p->file, p->adapter,
				 bht_member_name(p->is[i].member), is->n, (unsigned long long)is->offset[0],
				 (unsigned long long)is->offset[1]);
	}
}

enum { MAPS = 16, PAGE = 4096 };

/* A file as if it had been loaded; its memory is what is in the file. */
struct loaded {
	void *bytes;
	size_t size;
	struct bht_image_map map[MAPS];
	unsigned n;
	struct fake_memory fake;
	struct bht_images images;
};

static void map_segments(struct loaded *l, const char *file)
{
	const Elf64_Ehdr *e = l->bytes;
	const Elf64_Phdr *p = (const Elf64_Phdr *)((const char *)l->bytes + e->e_phoff);
	const uint64_t bias = e->e_type == ET_DYN ? 0x7f0000000000 : 0;

	l->n = 0;
	fake_init(&l->fake);
	for (unsigned i = 0; i < e->e_phnum && l->n < MAPS; i++) {
		const uint64_t in_page = p[i].p_vaddr % PAGE, offset = p[i].p_offset - in_page;
		const uint64_t start = bias + p[i].p_vaddr - in_page, len = p[i].p_filesz + in_page;
		if (p[i].p_type != PT_LOAD)
			continue;
		l->map[l->n++] = (struct bht_image_map){ start, (start + len + PAGE - 1) & ~(uint64_t)(PAGE - 1),
							 offset, file, file };
		fake_show_at(&l->fake, start, (const char *)l->bytes + offset, len);
	}
}

/* False when there is no such file for this processor. */
static bool load(struct loaded *l, const char *file)
{
	struct bht_refusal refusal = { 0 };
	struct stat st;
	int fd = X86_64 ? open(file, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0)
		return false;
	assert_int_equal(fstat(fd, &st), 0);
	l->size = (size_t)st.st_size;
	l->bytes = mmap(NULL, l->size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	assert_true(l->bytes != MAP_FAILED);
	map_segments(l, file);
	if (bht_images_of_maps(l->map, l->n, &l->fake.mem, &l->images, &refusal) || l->images.n != 1)
		fail_msg("%s: %s", file, refusal.why);
	return true;
}

static void unload(struct loaded *l)
{
	bht_images_free(&l->images);
	munmap(l->bytes, l->size);
}

static bool check_place(const struct place *p)
{
	const struct bht_adapter *a = adapter_of(p->adapter);
	struct bht_refusal refusal = { 0 };
	struct bht_layout layout;
	struct loaded l;

	if (!load(&l, p->file))
		return false;
	struct bht_image *image = l.images.image[0];
	bool ours = !p->build_id || !strncmp(bht_image_build_id(image), p->build_id, strlen(p->build_id));
	if (!bht_layout_recognises(a, image))
		fail_msg("%s is no %s", p->file, p->adapter);
	int rc = ours ? bht_layout_find(a, image, &layout, &refusal) : 0;
	/* All of libuv is public; of the others another build may be one that has to be refused. */
	if (rc && (p->build_id || !strcmp(p->adapter, "libuv")))
		fail_msg("%s", refusal.why);
	ours = ours && !rc;
	if (ours) {
		compare(p, &layout);
		assert_int_equal(layout.n_roots, a->n_roots);
	}
	unload(&l);
	return ours;
}

static void test_places(void **state)
{
	unsigned compared = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		compared += check_place(&places[i]);
	if (!compared)
		skip();
}

/* No adapter takes what another one is for. */
static void test_only_their_own(void **state)
{
	unsigned n;
	const struct bht_adapter *const *all = bht_adapters(&n);

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct loaded l;
		if (!load(&l, places[i].file))
			continue;
		for (unsigned k = 0; k < n; k++)
			assert_int_equal(bht_layout_recognises(all[k], l.images.image[0]),
					 !strcmp(all[k]->name, places[i].adapter));
		unload(&l);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_only_their_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
