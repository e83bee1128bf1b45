/* SPDX-License-Identifier: MIT */
/*
 * The file: its headers through libelf, its memory with pread(). It is never
 * read as a whole, and never mapped: it may be cut off while it is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core_elf.h"
#include "refuse.h"

enum { PHDRS_MAX = 1 << 18 };

/* What is read in all is bounded by what the file really holds: many headers may
 * name the same bytes, and a file may be nearly all hole. Most is read once, a
 * chunk of the registry twice. */
static const uint64_t READ_MIN = UINT64_C(32) << 20;
enum { READ_FACTOR = 2 };
static const uint64_t NOTES_MAX = UINT64_C(64) << 20;

#if defined(__x86_64__)
enum { NATIVE_MACHINE = EM_X86_64, NATIVE_DATA = ELFDATA2LSB };
#elif defined(__aarch64__)
enum { NATIVE_MACHINE = EM_AARCH64, NATIVE_DATA = ELFDATA2LSB };
#endif

/* --- memory -------------------------------------------------------------------- */

/* The first segment that ends above ADDR. */
static size_t find_segment(const struct bht_core *core, uint64_t addr)
{
	size_t low = 0, high = core->n_segments;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		if (core->segments[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool core_mapped(struct bht_memory *mem, uint64_t addr, uint64_t len)
{
	struct bht_core *core = (struct bht_core *)mem;
	uint64_t end;

	if (__builtin_add_overflow(addr, len, &end))
		return false;
	for (size_t i = find_segment(core, addr); addr < end; i++) {
		if (i == core->n_segments || core->segments[i].start > addr)
			return false;
		addr = core->segments[i].end;
	}
	return true;
}

static int read_file(int fd, void *buf, size_t len, uint64_t offset)
{
	for (size_t done = 0; done < len;) {
		const ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));
		if (n == 0)
			return -EFAULT; /* cut off since it was opened */
		if (n < 0 && errno != EINTR)
			return -EIO;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int read_span(struct bht_core *core, const struct bht_span *span)
{
	uint64_t addr = span->addr;
	size_t done = 0;

	if (span->len > core->read_max - core->mem.bytes_read) {
		core->too_much = true;
		return -EFBIG;
	}
	for (size_t i = find_segment(core, addr); done < span->len; i++) {
		if (i == core->n_segments || core->segments[i].start > addr)
			return -EFAULT;
		const struct bht_core_segment *s = &core->segments[i];
		const uint64_t left = s->end - addr, wanted = span->len - done;
		const size_t n = (size_t)(left < wanted ? left : wanted);
		int rc = read_file(core->fd, (char *)span->buf + done, n, s->offset + (addr - s->start));
		if (rc)
			return rc;
		addr += n;
		done += n;
	}
	core->mem.bytes_read += span->len;
	return 0;
}

static int core_read(struct bht_memory *mem, const struct bht_span *spans, size_t n)
{
	int rc = 0;

	for (size_t i = 0; i < n && !rc; i++)
		rc = read_span((struct bht_core *)mem, &spans[i]);
	return rc;
}

/* --- program headers ------------------------------------------------------------ */

static int by_address(const void *a, const void *b)
{
	const struct bht_core_segment *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

const struct bht_core_area *bht_core_area(const struct bht_core *core, uint64_t addr)
{
	size_t low = 0, high = core->n_areas;

	while (low < high) {
		const size_t middle = low + (high - low) / 2;
		if (core->areas[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low < core->n_areas && core->areas[low].start <= addr ? &core->areas[low] : NULL;
}

static int area_by_address(const void *a, const void *b)
{
	const struct bht_core_area *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static int check_overlap(const struct bht_core *core, struct bht_refusal *refusal)
{
	for (size_t i = 1; i < core->n_segments; i++) {
		const struct bht_core_segment *s = &core->segments[i];
		if (s->start < s[-1].end)
			return bht_refuse(refusal, -EBADMSG, s->offset,
					  "core %s: offset 0x%llx: two segments have the memory at 0x%llx", core->path,
					  (unsigned long long)s->offset, (unsigned long long)s->start);
	}
	return 0;
}

/* Bytes of LEN from OFFSET on that the file has. */
static uint64_t present(const struct bht_core *core, uint64_t offset, uint64_t len)
{
	const uint64_t room = offset < core->file_size ? core->file_size - offset : 0;

	return len < room ? len : room;
}

/* Memory beyond p_filesz was not dumped; it is not known to be zeros. */
static int add_segment(struct bht_core *core, const GElf_Phdr *p, unsigned number, struct bht_refusal *refusal)
{
	const uint64_t dumped = p->p_filesz < p->p_memsz ? p->p_filesz : p->p_memsz;
	const uint64_t len = present(core, p->p_offset, dumped);
	uint64_t end;

	if (__builtin_add_overflow(p->p_vaddr, p->p_memsz, &end))
		return bht_refuse(
			refusal, -EBADMSG, p->p_offset,
			"core %s: offset 0x%llx: segment %u of 0x%llx bytes at 0x%llx leaves the address space",
			core->path, (unsigned long long)p->p_offset, number, (unsigned long long)p->p_memsz,
			(unsigned long long)p->p_vaddr);
	core->cut_off += dumped - len;
	if (p->p_flags & PF_W)
		core->not_dumped += p->p_memsz - dumped;
	core->areas[core->n_areas++] =
		(struct bht_core_area){ p->p_vaddr, end, (p->p_flags & PF_W) != 0, (p->p_flags & PF_X) != 0 };
	if (len)
		core->segments[core->n_segments++] =
			(struct bht_core_segment){ p->p_vaddr, p->p_vaddr + len, p->p_offset };
	return 0;
}

static int read_segments(struct bht_core *core, struct bht_refusal *refusal)
{
	GElf_Phdr p;
	size_t n;
	int rc = 0;

	if (elf_getphdrnum(core->elf, &n) || !n || !gelf_getphdr(core->elf, 0, &p))
		return bht_refuse(refusal, -EBADMSG, 0, "core %s: offset 0x0: no program headers: truncated?",
				  core->path);
	if (n > PHDRS_MAX)
		return bht_refuse(refusal, -E2BIG, 0, "core %s: offset 0x0: %zu program headers, at most %d expected",
				  core->path, n, PHDRS_MAX);
	core->segments = calloc(n, sizeof(*core->segments));
	core->areas = calloc(n, sizeof(*core->areas));
	if (!core->segments || !core->areas)
		return bht_refuse(refusal, -ENOMEM, 0, "core %s: no memory", core->path);
	for (size_t i = 0; i < n && !rc && gelf_getphdr(core->elf, (int)i, &p); i++)
		if (p.p_type == PT_LOAD)
			rc = add_segment(core, &p, (unsigned)i, refusal);
	if (rc)
		return rc;
	qsort(core->segments, core->n_segments, sizeof(*core->segments), by_address);
	qsort(core->areas, core->n_areas, sizeof(*core->areas), area_by_address);
	return check_overlap(core, refusal);
}

/* --- opening -------------------------------------------------------------------- */

int bht_core_file_open(const char *path, struct stat *st)
{
	/* Not blocking, should it be a FIFO. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return -errno;
	int rc = fstat(fd, st) ? -errno : S_ISREG(st->st_mode) ? 0 : -EINVAL;
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

/* Cores are often stored compressed, by systemd for one. */
static const char *compressed(const unsigned char magic[4])
{
	return !memcmp(magic, "\x28\xb5\x2f\xfd", 4)   ? ": compressed, unzstd or coredumpctl dump would do"
	       : !memcmp(magic, "\x04\x22\x4d\x18", 4) ? ": compressed, unlz4 or coredumpctl dump would do"
	       : !memcmp(magic, "\xfd\x37zX", 4)       ? ": compressed, unxz or coredumpctl dump would do"
	       : !memcmp(magic, "\x1f\x8b", 2)         ? ": compressed, gunzip would do"
						       : "";
}

static int check_kind(struct bht_core *core, struct bht_refusal *refusal)
{
	unsigned char ident[EI_NIDENT] = { 0 };
	GElf_Ehdr e;

	if (read_file(core->fd, ident, sizeof(ident), 0) || memcmp(ident, ELFMAG, SELFMAG))
		return bht_refuse(refusal, -ENOEXEC, 0, "core %s: offset 0x0: not an ELF file%s", core->path,
				  compressed(ident));
	if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != NATIVE_DATA)
		return bht_refuse(refusal, -EPROTO, EI_CLASS,
				  "core %s: offset 0x%x: of 32 bits or another byte order; this reader is for 64 bits",
				  core->path, EI_CLASS);
	core->elf = elf_begin(core->fd, ELF_C_READ, NULL);
	if (elf_kind(core->elf) != ELF_K_ELF || !gelf_getehdr(core->elf, &e))
		return bht_refuse(refusal, -EBADMSG, 0, "core %s: offset 0x0: damaged ELF header: %s", core->path,
				  elf_errmsg(-1));
	if (e.e_type != ET_CORE)
		return bht_refuse(refusal, -ENOEXEC, offsetof(Elf64_Ehdr, e_type),
				  "core %s: offset 0x%zx: ELF type %u, not a core", core->path,
				  offsetof(Elf64_Ehdr, e_type), e.e_type);
	if (e.e_machine != NATIVE_MACHINE)
		return bht_refuse(refusal, -EPROTO, offsetof(Elf64_Ehdr, e_machine),
				  "core %s: offset 0x%zx: of ELF machine %u, this reader is for %d", core->path,
				  offsetof(Elf64_Ehdr, e_machine), e.e_machine, NATIVE_MACHINE);
	if (e.e_phentsize != sizeof(Elf64_Phdr))
		return bht_refuse(refusal, -EBADMSG, offsetof(Elf64_Ehdr, e_phentsize),
				  "core %s: offset 0x%zx: program headers of %u bytes", core->path,
				  offsetof(Elf64_Ehdr, e_phentsize), e.e_phentsize);
	return 0;
}

int bht_core_elf_open(struct bht_core *core, const char *path, struct bht_refusal *refusal)
{
	struct stat st = { 0 };

	*core = (struct bht_core){ .mem = { core_read, core_mapped, 0 }, .path = path };
	elf_version(EV_CURRENT);
	core->fd = bht_core_file_open(path, &st);
	if (core->fd < 0)
		return bht_refuse(refusal, core->fd, 0, "core %s: %s", path,
				  core->fd == -EINVAL ? "not a regular file" : strerror(-core->fd));
	core->file_size = (uint64_t)st.st_size;
	core->read_max = READ_MIN + READ_FACTOR * (uint64_t)st.st_blocks * 512;
	int rc = check_kind(core, refusal);
	return rc ? rc : read_segments(core, refusal);
}

void bht_core_elf_close(struct bht_core *core)
{
	elf_end(core->elf);
	if (core->fd >= 0)
		close(core->fd);
	free(core->segments);
	free(core->areas);
}

/* --- notes ---------------------------------------------------------------------- */

static bool of_system(const char *name, size_t len)
{
	return (len == sizeof("CORE") && !memcmp(name, "CORE", len)) ||
	       (len == sizeof("LINUX") && !memcmp(name, "LINUX", len));
}

static int walk_notes(Elf_Data *data, bht_core_note *note, void *arg)
{
	size_t at = 0, next, name, desc;
	GElf_Nhdr n;
	int rc = 0;

	for (; !rc && (next = gelf_getnote(data, at, &n, &name, &desc)) > at; at = next)
		if (of_system((char *)data->d_buf + name, n.n_namesz))
			rc = note(arg, n.n_type, (unsigned char *)data->d_buf + desc, n.n_descsz);
	return rc;
}

int bht_core_notes(struct bht_core *core, bht_core_note *note, void *arg, bool *cut)
{
	uint64_t left = NOTES_MAX;
	GElf_Phdr p;
	size_t n = 0;
	int rc = elf_getphdrnum(core->elf, &n) ? -EBADMSG : 0;

	*cut = false;
	for (size_t i = 0; i < n && !rc && gelf_getphdr(core->elf, (int)i, &p); i++) {
		if (p.p_type != PT_NOTE)
			continue;
		uint64_t len = present(core, p.p_offset, p.p_filesz);
		if (len > left)
			len = left;
		left -= len;
		*cut |= len < p.p_filesz;
		Elf_Data *data = len ? elf_getdata_rawchunk(core->elf, (int64_t)p.p_offset, len,
							    p.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR)
				     : NULL;
		if (data)
			rc = walk_notes(data, note, arg);
		else
			*cut |= p.p_filesz > 0;
	}
	return rc;
}
