/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

/* As much as a target of this many bytes has; a reader of it may take a few
 * times that. */
enum { IMAGE_MAX = 16 << 20, NAME_SIZE = 64, FILES_MAX = 64 };

void fuzz_take(struct fuzz_input *in, void *to, size_t size)
{
	const size_t n = size < in->size ? size : in->size;

	memset(to, 0, size);
	if (n)
		memcpy(to, in->data, n);
	in->data += n;
	in->size -= n;
}

void fuzz_failed(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
	abort();
}

/* --- judging ------------------------------------------------------------------------- */

static void check_verdict(const struct bht_diagnosis *d)
{
	fuzz_check((d->verdict == BHT_HEALTHY) == (!d->n_findings && !d->n_reasons));
	fuzz_check(d->verdict != BHT_UNDECIDABLE || d->n_reasons);
	for (unsigned i = 0; i < d->n_findings; i++)
		fuzz_check(d->findings[i].rule < BHT_RULES && d->findings[i].n_witness <= BHT_WITNESS_MAX);
}

/* Nothing of the target's reaches a terminal as it is. With FUZZ_SHOW one sees
 * how far an input gets. */
static void print_text(const struct bht_evidence *ev, const struct bht_diagnosis *d, unsigned width)
{
	const struct bht_render how = { .all = true, .width = width };
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	fuzz_check(out != NULL);
	fuzz_check(bht_render_text(out, ev, d, &how) == 0);
	fclose(out);
	fuzz_check(size > 0 && text[size - 1] == '\n');
	if (getenv("FUZZ_SHOW"))
		fputs(text, stderr);
	for (size_t i = 0; i < size; i++)
		fuzz_check(text[i] == '\n' || ((unsigned char)text[i] >= ' ' && text[i] != 0x7f));
	free(text);
}

static void print_json(const struct bht_evidence *ev, const struct bht_diagnosis *d)
{
	static FILE *out;

	if (!out)
		out = fopen("/dev/null", "w");
	fuzz_check(out != NULL);
	fuzz_check(bht_render_json(out, ev, d) == 0);
}

void fuzz_judge(struct bht_evidence *ev, struct bht_source *history)
{
	struct bht_diagnosis d;

	if (bht_diagnose(ev, history, BHT_LATE_NS, &d) == 0) {
		check_verdict(&d);
		print_text(ev, &d, 100);
		print_text(ev, &d, 40);
		print_json(ev, &d);
	}
	bht_diagnosis_free(&d);
	if (history)
		history->close(history);
	bht_evidence_free(ev);
}

void fuzz_result(int rc, struct bht_evidence *ev, struct bht_source *history, const struct bht_refusal *refusal)
{
	if (rc == 0)
		fuzz_judge(ev, history);
	else
		fuzz_check(rc < 0 && refusal->why[0]);
}

/* --- a target's memory ------------------------------------------------------------------ */

static const struct fuzz_region *find(const struct fuzz_image *image, uint64_t addr, uint64_t len, unsigned nth)
{
	for (unsigned i = 0; i < image->n; i++) {
		const struct fuzz_region *r = &image->region[i];
		if (addr >= r->addr && addr - r->addr <= r->len && len <= r->len - (addr - r->addr) && nth-- == 0)
			return r;
	}
	return NULL;
}

static bool image_mapped(struct bht_memory *mem, uint64_t addr, uint64_t len)
{
	return find((struct fuzz_image *)mem, addr, len, 0) != NULL;
}

/* Each read sees the next version of what it reads. */
static const struct fuzz_region *find_version(const struct fuzz_image *image, uint64_t addr, uint64_t len)
{
	unsigned n = 0;

	while (find(image, addr, len, n))
		n++;
	return n ? find(image, addr, len, image->reads % n) : NULL;
}

static int image_read(struct bht_memory *mem, const struct bht_span *spans, size_t n)
{
	struct fuzz_image *image = (struct fuzz_image *)mem;

	image->reads++;
	for (size_t i = 0; i < n; i++) {
		const struct fuzz_region *r = find_version(image, spans[i].addr, spans[i].len);
		if (!r)
			return -EFAULT;
		const uint64_t at = spans[i].addr - r->addr;
		const size_t stored = at < r->stored ? r->stored - at : 0;
		const size_t copied = stored < spans[i].len ? stored : spans[i].len;
		memcpy(spans[i].buf, r->bytes + (stored ? at : 0), copied);
		memset((char *)spans[i].buf + copied, 0, spans[i].len - copied);
		mem->bytes_read += spans[i].len;
	}
	return 0;
}

void fuzz_image_open(struct fuzz_image *image, struct fuzz_input *in)
{
	uint64_t left = IMAGE_MAX;

	*image = (struct fuzz_image){ .mem = { image_read, image_mapped, 0 } };
	while (in->size && image->n < FUZZ_REGIONS) {
		struct fuzz_region *r = &image->region[image->n++];
		fuzz_take(in, &r->addr, sizeof(r->addr));
		fuzz_take(in, &r->len, sizeof(r->len));
		fuzz_take(in, &r->stored, sizeof(r->stored));
		if (r->len > left)
			r->len = (uint32_t)left;
		if (r->stored > in->size)
			r->stored = (uint32_t)in->size;
		r->bytes = in->data;
		in->data += r->stored;
		in->size -= r->stored;
		if (r->stored > r->len)
			r->stored = r->len;
		left -= r->len;
	}
}

/* --- a directory ---------------------------------------------------------------------------- */

static char directory[] = "/dev/shm/bhtrace-fuzz.XXXXXX";

static void empty_directory(void)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
}

static void remove_directory(void)
{
	empty_directory();
	rmdir(directory);
}

static bool take_name(struct fuzz_input *in, char name[NAME_SIZE])
{
	const uint8_t *end = memchr(in->data, '\0', in->size);
	const size_t len = end ? (size_t)(end - in->data) : NAME_SIZE;

	if (!len || len >= NAME_SIZE)
		return false;
	fuzz_take(in, name, len + 1);
	return name[0] != '.' && !strchr(name, '/');
}

static void write_file(int dir, const char *name, struct fuzz_input *in)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint32_t len;

	fuzz_take(in, &len, sizeof(len));
	if (len > in->size)
		len = (uint32_t)in->size;
	fuzz_check(fd >= 0 && write(fd, in->data, len) == (ssize_t)len);
	close(fd);
	in->data += len;
	in->size -= len;
}

const char *fuzz_directory(struct fuzz_input *in)
{
	static bool made;
	char name[NAME_SIZE];

	if (!made) {
		fuzz_check(mkdtemp(directory) != NULL);
		atexit(remove_directory);
		made = true;
	}
	empty_directory();
	int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fuzz_check(dir >= 0);
	for (unsigned n = 0; n < FILES_MAX && take_name(in, name); n++)
		write_file(dir, name, in);
	close(dir);
	return directory;
}
