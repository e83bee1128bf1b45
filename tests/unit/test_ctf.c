/* SPDX-License-Identifier: MIT */
/* What was put into a recording comes out of it. */
#include "ctf_file.h"

#include <sys/resource.h>

/* --- what was put comes out -------------------------------------------------------------- */

static void put_slot(struct bhp_record *r, uint8_t slot, uint64_t value)
{
	switch (slot) {
#define SLOT(name, w, shift, width)                                                                                    \
	case BHP_SLOT_##name:                                                                                          \
		bhp_put_##name(r, value);                                                                              \
		break;
		BHP_SLOT_LIST(SLOT)
#undef SLOT
	}
}

static const char sixty[] = "sixty bytes of \xc3\xa4 name, which is longer than what there is room";

/* An event of number ID with VALUE in all fields, and N bytes of text if it has one. */
static struct bht_event filled(unsigned id, uint64_t time, uint64_t value, int n)
{
	static char text[64];
	struct bhp_field_info table[BHP_FIELD_INFO_MAX];
	const uint32_t rows = bhp_schema(table);
	struct bht_event e = { .r = { { time, id, 0, 0 } }, .tid = 77 };

	for (uint32_t i = 0; i < rows; i++) {
		if (table[i].event != id)
			continue;
		put_slot(&e.r, table[i].slot, value);
		if (table[i].slot != BHP_SLOT_TEXT || !n)
			continue;
		snprintf(text, sizeof(text), "%.*s", n, sixty);
		e.text = text;
	}
	return e;
}

static void test_all_events(void **state)
{
	(void)state;
	static const uint64_t values[] = {
		0, 1, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa
	};
	uint64_t time = 0;

	create(1);
	for (unsigned id = 1; id < 256; id++)
		for (unsigned i = 0; i < sizeof(values) / sizeof(*values); i++)
			for (int n = 0; n <= 48; n += n % 24 == 1 ? 22 : 1) {
				struct bht_event e = filled(id, time, values[i], n);
				if (id >= BHP_ID_loop_new && id <= BHP_ID_call_end)
					assert_int_equal(put_one(0, &e), 0);
				else if (id != BHT_ID_LOSS)
					assert_int_equal(bht_ctf_put(stream[0], &e), -EINVAL);
				time += time >> 62 ? 1 : 1 + time / 8;
			}
	struct bht_event last = filled(BHP_ID_consume, UINT64_MAX, 5, 0);
	put_one(0, &last);
	closed();
	compare();
	/* A text that is too long is cut, as the recorder does it. */
	int n = got.n - 1;
	while (!got.text[n][0])
		n--;
	assert_int_equal(strlen(got.text[n]), 48);
}

static void test_about(void **state)
{
	(void)state;
	static const double rates[] = { 0.0010000001, 0.024, 1, 2.5961201, 99.999 };
	struct stat st;

	for (unsigned i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
		about.ticks_per_ns = rates[i];
		create(1);
		assert_int_equal(fstatat(dir, "history", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0700);
		assert_int_equal(fstatat(dir, "history/stream-0", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		/* What is there is left alone. */
		assert_null(bht_ctf_create(dir, "history", top, &about, &refusal));
		assert_int_equal(errno, EEXIST);
		closed();
		read_it();
		assert_int_equal(got.n, 0);
		assert_int_equal(back.pid, about.pid);
		assert_string_equal(back.command, about.command);
		assert_string_equal(back.hostname, about.hostname);
		assert_string_equal(back.build_id, about.build_id);
		assert_memory_equal(&back.ticks_per_ns, &about.ticks_per_ns, sizeof(double));
		assert_memory_equal(&back.clock, &about.clock, sizeof(about.clock));
		assert_int_equal(back.realtime_ns, about.realtime_ns);
		bht_ctf_remove(dir, "history");
		assert_int_equal(fstatat(dir, "history", &st, 0), -1);
	}
}

/* Who recorded it; a recording that does not say so, nor how many events there are, is
 * an older one. */
static void test_recorder(void **state)
{
	(void)state;
	static const char count[] = "\tevents = ";

	for (unsigned r = 0; r < BHT_RECORDERS; r++) {
		about.recorder = (enum bht_recorder)r;
		create(1);
		struct bht_event e = filled(BHP_ID_switch_out, 7, BHP_UNINTERRUPTIBLE, 0);
		put_one(0, &e);
		closed();
		compare();
		assert_int_equal(back.recorder, r);
		load("history/metadata");
		assert_int_equal(strstr((char *)content, "recorder = ") != NULL, r != BHT_BY_FLIGHT);
		char *from = strstr((char *)content, count), *to = strchr(from, '\n') + 1;
		memmove(from, to, length - (size_t)(to - (char *)content) + 1);
		save("history/metadata", strlen((char *)content));
		compare();
		assert_int_equal(back.recorder, r);
		bht_ctf_remove(dir, "history");
		put.n = 0;
	}
}

static void test_losses(void **state)
{
	(void)state;
	uint64_t time = 10;

	create(1);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned why = BHT_LOSS_OVERWRITTEN; why <= BHT_LOSS_EARLIER; why++)
			for (unsigned i = 0; i < 4; i++) {
				static const uint64_t counts[] = { 0, 1, 5, UINT64_C(1) << 60 };
				struct bht_event e = bht_loss(time, i * 3, (enum bht_loss_why)why, counts[i]);
				put_one(0, &e);
				time++;
				e = a_schedule(time, i % 2 * 3, time);
				if (round != 1)
					put_one(0, &e);
				if (round == 2)
					bht_ctf_flush(stream[0]);
			}
	struct bht_event e = bht_loss(time + 5, 9, BHT_LOSS_DROPPED, 17);
	put_one(0, &e);
	closed();
	compare();
}

/* Full packets, with texts at their ends, those of changing threads, and some that
 * are flushed. */
static void test_packets(void **state)
{
	(void)state;
	create(1);
	for (unsigned i = 0; i < 30000; i++) {
		const bool named = i % 11 == 3 || (i > 2020 && i < 2060);
		const uint32_t tid = i < 20000 ? 5 : i / 3;
		struct bht_event e = named ? a_name(i + 7, tid, sixty + i % 60) : a_schedule(i + 7, tid, i);
		assert_int_equal(put_one(0, &e), 0);
		if (i > 10000 && i % 1000 < 7)
			assert_int_equal(bht_ctf_flush(stream[0]), 0);
	}
	const struct bht_ctf_count count = bht_ctf_count(writer);
	assert_true(count.events > 30000 - BHT_CTF_PACKET / 32 && count.events <= 30000 &&
		    count.bytes > 32 * count.events);
	closed();
	compare();
	/* A recorder that is killed leaves the pages that it has written: whole packets. */
	load("history/stream-0");
	for (size_t at = 0, size; at < length; at += size) {
		size = ((struct bht_ctf_packet *)(content + at))->packet_size / 8;
		assert_in_range(size, sizeof(struct bht_ctf_packet), BHT_CTF_PAGE);
		assert_int_equal(at / BHT_CTF_PAGE, (at + size - 1) / BHT_CTF_PAGE);
	}
}

static void test_merged(void **state)
{
	(void)state;
	create(3);
	for (unsigned i = 0; i < 9000; i++) {
		struct bht_event e = i % 100 ? a_schedule(i / 2, i % 3, i) : a_name(i / 2, i % 3, "merged");
		put_one(i / 2 % 3, &e); /* ties only within a stream */
	}
	closed();
	compare();
}

static void test_time_goes_on(void **state)
{
	(void)state;
	create(1);
	struct bht_event e = a_schedule(100, 1, 1);
	put_one(0, &e);
	e = a_schedule(90, 1, 2);
	put_one(0, &e);
	put.e[1].r.word[0] = 100;
	closed();
	compare();
}

/* More streams than there are whole windows or descriptors for. */
static void test_many_streams(void **state)
{
	(void)state;
	enum { STREAMS = 3000 };
	struct rlimit limit, few;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = limit;
	few.rlim_cur = 64;
	setrlimit(RLIMIT_NOFILE, &few);
	create(2);
	for (unsigned i = 2; i < STREAMS; i++) {
		stream[2] = bht_ctf_add(writer, &refusal);
		struct bht_event e = a_schedule(i, i, i);
		assert_int_equal(put_one(2, &e), 0);
		bht_ctf_flush(stream[2]);
	}
	for (unsigned i = STREAMS; i < 20000; i++) {
		struct bht_event e = i % 7 ? a_schedule(i, 1, i) : a_name(i, 1, "name");
		put_one(i / 1000 % 2, &e);
	}
	closed();
	compare();
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* --- recorders that do not end ------------------------------------------------------------- */

static void test_not_closed(void **state)
{
	(void)state;
	struct bht_source *history;

	create(1);
	put_many(1, 1000);
	bht_ctf_flush(stream[0]);
	struct bht_event lost = bht_loss(999, 0, BHT_LOSS_DAMAGED, 0);
	lost.r.word[0] = about.clock.ticks; /* when the recording was made: it is later */
	keep(&put, &lost);
	compare();
	/* It left word that this was all. */
	put.n--;
	assert_int_equal(open_it(&history), 0);
	bht_ctf_until(history, 999, 0);
	tell_all(history);
	assert_int_equal(got.n, put.n);
	/* But not when a packet from before is only half there. */
	load("history/stream-0");
	save("history/stream-0", length - 32);
	assert_int_equal(open_it(&history), 0);
	bht_ctf_until(history, 999, UINT64_MAX - 1);
	tell_all(history);
	assert_int_equal(bht_event_id(&got.e[got.n - 1]), BHT_ID_LOSS);
	assert_int_equal(bht_time(&got.e[got.n - 1]), UINT64_MAX - 1);
	/* One that was begun later may be. */
	assert_int_equal(open_it(&history), 0);
	bht_ctf_until(history, 700, UINT64_MAX - 1);
	tell_all(history);
	assert_true(got.n > 700 && bht_event_id(&got.e[got.n - 1]) != BHT_ID_LOSS);
	save("history/stream-0", length);
	closed();
	compare();
}

static void allow(rlim_t size)
{
	const struct rlimit limit = { size, RLIM_INFINITY };

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* What cannot be written is told of as soon as there is room for that. */
static void test_disk_full(void **state)
{
	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	create(1);
	put_many(1, 400);
	assert_int_equal(bht_ctf_flush(stream[0]), 0);
	const uint64_t size = bht_ctf_count(writer).bytes;
	allow(size + 2000); /* in the middle of a packet */
	const int before = put.n;
	put_many(400, 800);
	assert_int_equal(bht_ctf_flush(stream[0]), -EFBIG);
	allow(size);
	put_many(800, 810);
	assert_int_equal(bht_ctf_flush(stream[0]), -EFBIG);
	assert_int_equal(bht_ctf_count(writer).discarded, 410);
	assert_int_equal(bht_ctf_count(writer).events, 399);
	put.n = before;
	struct bht_event e = bht_loss(900, 0, BHT_LOSS_DROPPED, 410);
	keep(&put, &e);
	e = bht_loss(900, 4, BHT_LOSS_OVERWRITTEN, 1000);
	put_one(0, &e);
	allow(RLIM_INFINITY);
	e = a_schedule(900, 9, 9);
	put_one(0, &e);
	closed();
	compare();
}

/* --- other schemas ------------------------------------------------------------------- */

/* The metadata of another schema for the same packets. */
static void rewrite(void (*change)(struct bht_ctf_metadata *m))
{
	struct bht_ctf_metadata m;

	load("history/metadata");
	assert_int_equal(bht_ctf_metadata_parse((char *)content, length, "metadata", &m, &refusal), 0);
	change(&m);
	free(content);
	FILE *out = open_memstream((char **)&content, &length);
	bht_ctf_metadata_print(out, &m);
	fclose(out);
	save("history/metadata", length);
}

/* Schedules had another name for their ticket, and bottom halves no callback. */
static void older(struct bht_ctf_metadata *m)
{
	for (uint32_t i = 0; i < m->n_fields; i++) {
		struct bhp_field_info *f = &m->field[i];
		if (f->event == BHP_ID_schedule && !strcmp(f->name, "ticket"))
			strcpy(f->name, "work");
		if (f->event == BHP_ID_bh_new && !strcmp(f->name, "callback"))
			strcpy(f->name, "function");
		if (f->event == BHP_ID_bh_cancel)
			f->event = 200;
		if (f->event == BHP_ID_bh_delete)
			strcpy(f->event_name, "bh_remove");
	}
}

static void test_older_schema(void **state)
{
	(void)state;
	create(1);
	struct bht_event e = filled(BHP_ID_bh_delete, 1, UINT64_MAX, 0);
	bht_ctf_put(stream[0], &e); /* not known any more */
	e = filled(BHP_ID_schedule, 2, UINT64_MAX, 0);
	e.r.word[3] = 0;
	put_one(0, &e);
	e = filled(BHP_ID_bh_new, 3, UINT64_MAX, 48);
	e.r.word[3] = 0;
	put_one(0, &e);
	e = filled(BHP_ID_loop_new, 4, UINT64_MAX, 30);
	put_one(0, &e);
	e = filled(BHP_ID_bh_cancel, 5, UINT64_MAX, 0);
	bht_ctf_put(stream[0], &e); /* its number is another's */
	e = bht_loss(6, 77, BHT_LOSS_DAMAGED, 1);
	keep(&put, &e);
	e = filled(BHP_ID_thread, 6, 0x1234567812345678, 48);
	put_one(0, &e);
	closed();
	rewrite(older);
	compare();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_all_events), TEST(test_about),        TEST(test_losses),       TEST(test_packets),
		TEST(test_merged),     TEST(test_time_goes_on), TEST(test_many_streams), TEST(test_not_closed),
		TEST(test_disk_full),  TEST(test_older_schema), TEST(test_recorder),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
