/* SPDX-License-Identifier: MIT */
/* Adapters applied to modules: ways that lead somewhere, agree or not, and the loops of this machine. */
#include "foreign_image.h"
#include "layout.h"

/* Nearly nothing here depends on what machine code is read. */
#if defined(__x86_64__)
enum { READS_CODE = 1 };
#else
enum { READS_CODE = 0 };
#endif

static struct own_images own;
static struct bht_adapter adapter;
static struct bht_layout layout;
static struct bht_refusal refusal;

struct peculiar_loop {
	char padding[52];
	int poll_fd;
	long waits;
};

struct peculiar_loop *peculiar_first = NULL;

int peculiar_poll_fd(struct peculiar_loop *loop);
AS_WRITTEN int peculiar_poll_fd(struct peculiar_loop *loop)
{
	return loop->poll_fd;
}

struct peculiar_loop *peculiar_get(void);
AS_WRITTEN struct peculiar_loop *peculiar_get(void)
{
	return peculiar_first;
}

static struct bht_image *self(void)
{
	return own_image(&own, &peculiar_first);
}

static struct bht_way *add_way(enum bht_way_kind kind)
{
	struct bht_path *path = &adapter.member[BHT_LOOP_poll_fd];
	struct bht_way *way = &path->step[0].way[path->step[0].n++];

	path->n = 1;
	path->size = 4;
	*way = (struct bht_way){ .kind = kind, .line = 10 + path->step[0].n };
	return way;
}

static void add_code(const char *function, enum bht_code_op op, unsigned size)
{
	struct bht_way *way = add_way(BHT_WAY_CODE);

	way->code = (struct bht_code_pattern){ .op = op, .size = size, .nth = 1 };
	snprintf(way->code.function, sizeof(way->code.function), "%s", function);
}

static void add_dwarf(const char *type, const char *member)
{
	struct bht_way *way = add_way(BHT_WAY_DWARF);

	snprintf(way->dwarf.type, sizeof(way->dwarf.type), "%s", type);
	snprintf(way->dwarf.member, sizeof(way->dwarf.member), "%s", member);
}

static void expect_place(uint64_t offset, enum bht_way_kind how)
{
	if (bht_layout_find(&adapter, self(), &layout, &refusal))
		fail_msg("%s", refusal.why);
	assert_int_equal(layout.place[BHT_LOOP_poll_fd].n, 1);
	assert_int_equal(layout.place[BHT_LOOP_poll_fd].offset[0], offset);
	assert_int_equal(layout.place[BHT_LOOP_poll_fd].how[0], how);
	assert_int_equal(layout.place[BHT_LOOP_poll_fd].size, 4);
	assert_int_equal(layout.place[BHT_BH_flag].n, 0);
}

static void expect_refusal(const char *const *parts)
{
	assert_int_equal(bht_layout_find(&adapter, self(), &layout, &refusal), -ENOTSUP);
	for (; *parts; parts++)
		if (!strstr(refusal.why, *parts))
			fail_msg("%s: nothing of %s", refusal.why, *parts);
}

#define EXPECT_REFUSAL(...) expect_refusal((const char *const[]){ __VA_ARGS__, NULL })

static int open_self(void **state)
{
	(void)state;
	own_open(&own);
	return 0;
}

static int close_self(void **state)
{
	(void)state;
	own_close(&own);
	return 0;
}

static int setup(void **state)
{
	(void)state;
	memset(&adapter, 0, sizeof(adapter));
	strcpy(adapter.name, "peculiar");
	strcpy(adapter.needs[adapter.n_needs++], "peculiar_get");
	return 0;
}

/* --- by hand ----------------------------------------------------------------------------------- */

static void test_recognises(void **state)
{
	(void)state;
	assert_true(bht_layout_recognises(&adapter, self()));
	strcpy(adapter.needs[adapter.n_needs++], "uv_async_send");
	assert_false(bht_layout_recognises(&adapter, self()));
	adapter.n_needs = 0;
	assert_false(bht_layout_recognises(&adapter, self()));
}

static void test_each_way(void **state)
{
	const uint64_t truth = offsetof(struct peculiar_loop, poll_fd);
	uint64_t at;

	(void)state;
	add_way(BHT_WAY_FIXED)->fixed = truth;
	expect_place(truth, BHT_WAY_FIXED);
	setup(state);
	struct bht_way *way = add_way(BHT_WAY_BUILD_ID);
	snprintf(way->build_id.build_id, sizeof(way->build_id.build_id), "%.12s", bht_image_build_id(self()));
	way->build_id.offset = truth - 4;
	way->plus = 4;
	if (*bht_image_build_id(self()))
		expect_place(truth, BHT_WAY_BUILD_ID);
	if (READS_CODE) {
		setup(state);
		add_code("peculiar_poll_fd", BHT_CODE_LOAD, 4);
		expect_place(truth, BHT_WAY_CODE);
	}
	if (bht_image_dwarf_member(self(), "peculiar_loop", "poll_fd", &at, NULL) == 0) {
		setup(state);
		add_dwarf("peculiar_loop", "poll_fd");
		expect_place(truth, BHT_WAY_DWARF);
	}
}

/* What fails is passed over; what succeeds agrees; the first of these is named. */
static void test_agreement(void **state)
{
	(void)state;
	add_code("no_such_function", BHT_CODE_LOAD, 4);
	strcpy(add_way(BHT_WAY_BUILD_ID)->build_id.build_id, "0123456789");
	if (READS_CODE)
		add_code("peculiar_poll_fd", BHT_CODE_LOAD, 4);
	add_way(BHT_WAY_FIXED)->fixed = offsetof(struct peculiar_loop, poll_fd);
	expect_place(offsetof(struct peculiar_loop, poll_fd), READS_CODE ? BHT_WAY_CODE : BHT_WAY_FIXED);
	add_way(BHT_WAY_FIXED)->fixed = 8;
	EXPECT_REFUSAL("peculiar: ", "test_layout", "loop.poll_fd: ", "says 0x34, but fixed (line 15) 0x8");
}

static void test_nothing_leads_there(void **state)
{
	(void)state;
	add_dwarf("peculiar_loop", "no_such_member");
	strcpy(add_way(BHT_WAY_BUILD_ID)->build_id.build_id, "0123456789");
	add_code("no_such_function", BHT_CODE_LOAD, 4);
	add_way(BHT_WAY_FIXED)->fixed = UINT64_MAX - 3;
	EXPECT_REFUSAL("peculiar: ", "test_layout", "loop.poll_fd: dwarf: no peculiar_loop.no_such_member",
		       "build-id: not 01234567", "code: no_such_function: not defined",
		       "fixed: leads to 0xfffffffffffffffc: too far", "would do");
	/* The id of another build does not lead to an offset of this one, however short it is. */
	setup(state);
	struct bht_way *way = add_way(BHT_WAY_BUILD_ID);
	snprintf(way->build_id.build_id, sizeof(way->build_id.build_id), "%.7s", bht_image_build_id(self()));
	EXPECT_REFUSAL("build-id: not");
}

/* A member of another size is another member. */
static void test_size_by_dwarf(void **state)
{
	uint64_t at;

	(void)state;
	if (bht_image_dwarf_member(self(), "peculiar_loop", "poll_fd", &at, NULL))
		skip();
	add_dwarf("peculiar_loop", "poll_fd");
	adapter.member[BHT_LOOP_poll_fd].size = 2;
	EXPECT_REFUSAL("peculiar_loop.poll_fd has 4 bytes, not 2");
	adapter.member[BHT_LOOP_poll_fd].size = 8;
	EXPECT_REFUSAL("peculiar_loop.poll_fd has 4 bytes, not 8");
}

static void test_roots(void **state)
{
	struct bht_way *way = &adapter.root[adapter.n_roots++];

	(void)state;
	if (!READS_CODE)
		skip();
	*way = (struct bht_way){ .kind = BHT_WAY_CODE,
				 .line = 77,
				 .code = { .function = "peculiar_get",
					   .op = BHT_CODE_LOAD,
					   .base = BHT_BASE_GLOBAL,
					   .size = 8,
					   .nth = 1 } };
	assert_int_equal(bht_layout_find(&adapter, self(), &layout, &refusal), 0);
	assert_int_equal(layout.n_roots, 1);
	assert_int_equal(layout.root[0].addr, (uintptr_t)&peculiar_first);
	assert_false(layout.root[0].is_loop);
	/* Another build may be without it, but not do something else. */
	strcpy(way->code.function, "no_such_function");
	assert_int_equal(bht_layout_find(&adapter, self(), &layout, &refusal), 0);
	assert_int_equal(layout.n_roots, 0);
	strcpy(way->code.function, "peculiar_poll_fd");
	EXPECT_REFUSAL("root: line 77: peculiar_poll_fd: no such access");
	strcpy(way->code.function, "peculiar_get");
	way->plus = INT64_C(1) << 40;
	EXPECT_REFUSAL("root: line 77: leads to ", "where no variable is");
}

/* --- the loops of this machine -------------------------------------------------------------------- */

static const struct bht_adapter *builtin(const char *name)
{
	unsigned n;
	const struct bht_adapter *const *all = bht_adapters(&n);

	for (unsigned i = 0; i < n; i++)
		if (!strcmp(all[i]->name, name))
			return all[i];
	fail_msg("no adapter %s", name);
	return NULL;
}

/* Whether all members of NAME can be placed in one of PATHS; false: none of them is there. */
static bool place(const char *name, const char *const *paths, struct file_image *file)
{
	for (; *paths; paths++) {
		struct bht_image *image = file_open(file, *paths);
		if (!image)
			continue;
		if (bht_layout_recognises(builtin(name), image)) {
			if (bht_layout_find(builtin(name), image, &layout, &refusal))
				fail_msg("%s", refusal.why);
			return true;
		}
		bht_images_free(&file->images);
	}
	return false;
}

#define PLACE(name, file, ...) place(name, (const char *const[]){ __VA_ARGS__, NULL }, file)

static uint64_t offset_of(enum bht_member member)
{
	assert_true(layout.place[member].n > 0);
	return layout.place[member].offset[0];
}

/* uv.h cannot change within 1.x. */
static void test_libuv(void **state)
{
	static struct file_image file;

	(void)state;
	if (!READS_CODE || !PLACE("libuv", &file, "/usr/lib/x86_64-linux-gnu/libuv.so.1", "/usr/bin/node"))
		skip();
	assert_int_equal(offset_of(BHT_BH_loop), 0x8);
	assert_int_equal(offset_of(BHT_BH_flag), 0x78);
	assert_int_equal(layout.place[BHT_BH_flag].how[0], BHT_WAY_CODE);
	assert_int_equal(offset_of(BHT_LOOP_poll_fd), 0x40);
	assert_int_equal(layout.n_roots, 1);
	bht_images_free(&file.images);
}

/* None of these is in a header: two members do not share a place, and numbers are aligned. */
static void expect_sound(void)
{
	for (unsigned i = 0; i < BHT_MEMBERS; i++) {
		const struct bht_place *a = &layout.place[i];
		if (!a->n)
			continue;
		assert_true(a->offset[a->n - 1] % a->size == 0);
		for (unsigned k = i + 1; k < BHT_MEMBERS; k++) {
			const struct bht_place *b = &layout.place[k];
			const bool same_structure = (i < BHT_BH_loop) == (k < BHT_BH_loop) && a->n == 1 && b->n == 1;
			if (same_structure && a->offset[0] == b->offset[0])
				fail_msg("%s is %s", bht_member_name(i), bht_member_name(k));
		}
	}
}

static void test_qemu(void **state)
{
	static struct file_image file;

	(void)state;
	if (!READS_CODE || !PLACE("qemu", &file, "/usr/bin/qemu-img", "/usr/bin/qemu-system-x86_64"))
		skip();
	expect_sound();
	assert_int_equal(layout.place[BHT_LOOP_notified].how[0], BHT_WAY_CODE);
	assert_int_equal(layout.place[BHT_BH_flag].how[0], BHT_WAY_CODE);
	assert_int_equal(layout.n_roots, 1);
	bht_images_free(&file.images);
}

static void test_glib_and_libevent(void **state)
{
	static struct file_image file;

	(void)state;
	if (!READS_CODE)
		skip();
	if (PLACE("glib", &file, "/usr/lib/x86_64-linux-gnu/libglib-2.0.so.0")) {
		expect_sound();
		assert_int_equal(offset_of(BHT_BH_flag), 0x2c);
		bht_images_free(&file.images);
	}
	if (PLACE("libevent", &file, "/usr/lib/x86_64-linux-gnu/libevent_core-2.1.so.7")) {
		expect_sound();
		assert_int_equal(offset_of(BHT_BH_loop), 0x40);
		bht_images_free(&file.images);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_recognises, setup),
		cmocka_unit_test_setup(test_each_way, setup),
		cmocka_unit_test_setup(test_agreement, setup),
		cmocka_unit_test_setup(test_nothing_leads_there, setup),
		cmocka_unit_test_setup(test_size_by_dwarf, setup),
		cmocka_unit_test_setup(test_roots, setup),
		cmocka_unit_test(test_libuv),
		cmocka_unit_test(test_qemu),
		cmocka_unit_test(test_glib_and_libevent),
	};

	return cmocka_run_group_tests(tests, open_self, close_self);
}
