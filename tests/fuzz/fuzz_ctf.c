/* SPDX-License-Identifier: MIT */
/* A directory of hostile files that says that it is a recording. Sums are made
 * right unless the input wants them as they are: nobody guesses them. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "fuzz.h"
#include "packet.h"

enum { STREAMS = 4, FILE_MAX = 1 << 16 };

static char content[FILE_MAX + 1];

static size_t load(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? 0 : read(fd, content, FILE_MAX);

	if (fd >= 0)
		close(fd);
	content[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

static void repair(int dir, uint32_t number, const uint8_t uuid[16])
{
	char name[BHT_CTF_NAME];
	struct bht_ctf_packet p;

	bht_ctf_stream_name(name, number);
	const size_t size = load(dir, name);
	for (size_t at = 0, len; at + sizeof(p) <= size; at += len) {
		memcpy(&p, content + at, sizeof(p));
		len = p.packet_size / 8;
		if (len % sizeof(struct bhp_record) || len < sizeof(p) || len > size - at)
			break;
		p.key = (struct bht_ctf_key){ .magic = BHT_CTF_MAGIC, .stream_instance_id = number };
		memcpy(p.key.uuid, uuid, sizeof(p.key.uuid));
		struct bht_ctf_sum sum = bht_ctf_sum_begin(&p);
		for (size_t i = sizeof(p); i < len; i += sizeof(struct bhp_record)) {
			struct bhp_record r;
			memcpy(&r, content + at + i, sizeof(r));
			bht_ctf_sum(&sum, &r, 1);
		}
		p.checksum = bht_ctf_sum_end(&sum);
		memcpy(content + at, &p, sizeof(p));
	}
	int fd = size ? openat(dir, name, O_WRONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		fuzz_check(write(fd, content, size) == (ssize_t)size);
		close(fd);
	}
}

static void repair_all(int dir)
{
	struct bht_ctf_metadata m;
	const size_t len = load(dir, "metadata");

	if (!bht_ctf_metadata_parse(content, len, "metadata", &m, NULL))
		for (uint32_t i = 0; i < STREAMS; i++)
			repair(dir, i, m.uuid);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct bht_evidence ev = { .origin = BHT_FROM_RINGS, .clock_error_ns = BHT_CLOCK_ERROR_NS };
	struct bht_source *history = NULL;
	struct bht_refusal refusal = { 0 };
	struct bht_ctf_about about;
	uint8_t how;

	fuzz_take(&in, &how, sizeof(how));
	int dir = open(fuzz_directory(&in), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (how & 1)
		repair_all(dir);
	int rc = bht_ctf_open(dir, ".", "recording", &about, &history, &refusal);
	close(dir);
	if (!rc) {
		if (how & 2)
			bht_ctf_until(history, how << 8, 0);
		ev.pid = about.pid;
		ev.ticks_per_ns = about.ticks_per_ns;
		memcpy(ev.command, about.command, sizeof(ev.command));
	}
	fuzz_result(rc, &ev, history, &refusal);
	return 0;
}
