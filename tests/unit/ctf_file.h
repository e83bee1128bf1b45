/* SPDX-License-Identifier: MIT */
/* ctf_file.h - a recording under /tmp, what was put into it and what came out */
#ifndef TEST_CTF_FILE_H
#define TEST_CTF_FILE_H

#include "support.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "ctf.h"
#include "packet.h"

enum { MAX = 40000 };

static char top[64];
static int dir = -1;
static struct bht_refusal refusal;
static struct bht_ctf_about about, back;

/* A history: events, and texts beside them. */
struct told {
	struct bht_event e[MAX];
	char text[MAX][BHP_TEXT_MAX + 1];
	int n;
};

static struct told put, got;
static struct bht_ctf_writer *writer;
static struct bht_ctf_stream *stream[8];

/* --- a recording ------------------------------------------------------------------- */

static inline int setup(void **state)
{
	(void)state;
	strcpy(top, "/tmp/bh-test-XXXXXX");
	dir = mkdtemp(top) ? open(top, O_RDONLY | O_DIRECTORY) : -1;
	about = (struct bht_ctf_about){ .pid = 4711,
					.command = "com \"\\\n\xff\x01",
					.hostname = "h\xc3\xb6st",
					.build_id = "0123456789abcdef0123456789abcdef01234567",
					.ticks_per_ns = 2.5961201,
					.clock = { 65913500221271, 25389152890308 },
					.realtime_ns = 1795380791882939434 };
	put.n = 0;
	writer = NULL;
	return dir < 0;
}

static inline int teardown(void **state)
{
	char command[128];

	(void)state;
	close(dir);
	snprintf(command, sizeof(command), "rm -rf %s", top);
	return system(command);
}

static inline void create(unsigned streams)
{
	writer = bht_ctf_create(dir, "history", top, &about, &refusal);
	if (!writer)
		fail_msg("%s", refusal.why);
	for (unsigned i = 0; i < streams; i++) {
		stream[i] = bht_ctf_add(writer, &refusal);
		assert_non_null(stream[i]);
	}
}

static inline void closed(void)
{
	if (bht_ctf_close(writer, &refusal))
		fail_msg("%s", refusal.why);
	writer = NULL;
}

static inline void keep(struct told *told, const struct bht_event *e)
{
	assert_true(told->n < MAX);
	told->e[told->n] = *e;
	told->e[told->n].text = NULL;
	snprintf(told->text[told->n++], BHP_TEXT_MAX + 1, "%s", e->text ? e->text : "");
}

static inline int put_one(unsigned s, const struct bht_event *e)
{
	keep(&put, e);
	return bht_ctf_put(stream[s], e);
}

static inline struct bht_event a_schedule(uint64_t time, uint32_t tid, uint64_t ticket)
{
	const struct bhp_schedule f = { .loop = (void *)0x7ffffffff000,
					.bh = (void *)0x123456789abc,
					.ticket = ticket };

	return (struct bht_event){ .r = bhp_encode_schedule(time, &f), .tid = tid };
}

static inline struct bht_event a_name(uint64_t time, uint32_t tid, const char *name)
{
	const struct bhp_bh_new f = { .loop = (void *)0x1000, .bh = (void *)0x2000, .callback = (void *)0x3000 };

	return (struct bht_event){ .r = bhp_encode_bh_new(time, &f), .tid = tid, .text = name };
}

static inline int open_it(struct bht_source **history)
{
	return bht_ctf_open(dir, "history", top, &back, history, &refusal);
}

static inline void tell_all(struct bht_source *history)
{
	struct bht_event e[100];
	int n;

	got.n = 0;
	while ((n = history->next(history, e, 1 + (unsigned)got.n % 100)) > 0)
		for (int i = 0; i < n; i++)
			keep(&got, &e[i]);
	assert_int_equal(n, 0);
	history->close(history);
}

static inline void read_it(void)
{
	struct bht_source *history;

	if (open_it(&history))
		fail_msg("%s", refusal.why);
	tell_all(history);
}

static inline void compare(void)
{
	read_it();
	for (int i = 0; i < put.n && i < got.n; i++) {
		if (memcmp(&put.e[i], &got.e[i], sizeof(put.e[i])))
			fail_msg("event %d: id %u, not %u", i, bht_event_id(&got.e[i]), bht_event_id(&put.e[i]));
		assert_string_equal(put.text[i], got.text[i]);
	}
	assert_int_equal(got.n, put.n);
}

/* --- its files ------------------------------------------------------------------------ */

static unsigned char *content;
static size_t length;

static inline void load(const char *name)
{
	int fd = openat(dir, name, O_RDONLY);
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	length = (size_t)st.st_size;
	free(content);
	content = calloc(1, length + 1);
	assert_int_equal(read(fd, content, length), length);
	close(fd);
}

static inline void save(const char *name, size_t n)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT, 0600);

	assert_int_equal(write(fd, content, n), n);
	assert_int_equal(ftruncate(fd, (off_t)n), 0);
	close(fd);
}

static inline void refused(int error, const char *why)
{
	struct bht_source *history;
	int rc = open_it(&history);

	assert_null(history);
	if (rc != error || !strstr(refusal.why, why) || !strstr(refusal.why, top))
		fail_msg("%d \"%s\" instead of %d \"%s\"", rc, refusal.why, error, why);
}

/* --- something to read ---------------------------------------------------------------- */

static inline void put_many(unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		struct bht_event e = i % 50 ? a_schedule(i, 3 + i / 400, i) : a_name(i, 3 + i / 400, "some name");
		put_one(0, &e);
	}
}

static inline void a_few_packets(void)
{
	create(1);
	put_many(1, 120);
	bht_ctf_flush(stream[0]);
	put_many(390, 430); /* the thread changes */
	bht_ctf_flush(stream[0]);
	put_many(430, 440);
	closed();
	compare();
	load("history/stream-0");
}

#endif
