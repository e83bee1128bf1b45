/* SPDX-License-Identifier: MIT */
/* The notes of <sys/sdt.h> in an ELF file: which probes of provider "bh" it has. */
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attach.h"
#include "multi.h"

enum { NOTE_TYPE = 3, ADDRESSES = 3 * 8, SITES_MAX = 16384, QUOTED = 40 };

#if defined(__x86_64__)
enum { NATIVE_MACHINE = EM_X86_64 };
#elif defined(__aarch64__)
enum { NATIVE_MACHINE = EM_AARCH64 };
#else
enum { NATIVE_MACHINE = EM_NONE };
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { NATIVE_DATA = ELFDATA2LSB };
#else
enum { NATIVE_DATA = ELFDATA2MSB };
#endif

/* Number, name and number of arguments of each event: its fields and the time. */
static const struct known {
	unsigned number;
	const char *name;
	unsigned args;
} known[] = {
#define BHP_F(slot, kind, name, doc)         +1
#define BHP_EVENT(number, name, fields, doc) { number, #name, 1 fields },
#include "events.def.h"
#undef BHP_F
};

struct search {
	const char *name; /* of the file */
	char *why;
	uint32_t events;
	int sites;
	bool listed;
	struct bhb_site *list; /* of them, when that is asked for */
	Elf *elf;
	uint64_t base; /* address of .stapsdt.base; 0: it has none */
};

__attribute__((format(printf, 3, 4))) static int refuse(const struct search *s, int error, const char *format, ...)
{
	int n = snprintf(s->why, BHB_WHY, "%s: ", s->name);
	va_list args;

	va_start(args, format);
	if (n >= 0 && n < BHB_WHY)
		vsnprintf(s->why + n, BHB_WHY - (size_t)n, format, args);
	va_end(args);
	return error;
}

static unsigned count_args(const char *args)
{
	unsigned n = 0;

	while ((args = strchr(args, '@')))
		args++, n++;
	return n;
}

/* Where in the file ADDRESS is; false: in no part of it that is, or is not, executed. */
static bool find_offset(const struct search *s, uint64_t address, bool executed, uint64_t *offset)
{
	GElf_Phdr segment;
	size_t n;

	if (elf_getphdrnum(s->elf, &n))
		return false;
	for (size_t i = 0; i < n && gelf_getphdr(s->elf, (int)i, &segment); i++) {
		if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X) == executed || address < segment.p_vaddr ||
		    address - segment.p_vaddr >= segment.p_filesz)
			continue;
		*offset = address - segment.p_vaddr + segment.p_offset;
		return true;
	}
	return false;
}

/* How much of TEXT is fit for a terminal. */
static int printable(const char *text)
{
	int n = 0;

	while (n < QUOTED && text[n] > ' ' && text[n] <= '~')
		n++;
	return n;
}

/* DESC and the strings behind it are those of a note of EVENT. */
static int add(struct search *s, const struct known *event, const char *desc, const char *args)
{
	uint64_t address[3]; /* of the probe, of .stapsdt.base when that was linked, of the semaphore */
	struct bhb_site *site, *more = s->list;
	const char *bad = args;
	GElf_Ehdr file;

	if (!gelf_getehdr(s->elf, &file) || file.e_machine != NATIVE_MACHINE)
		return refuse(s, -ENOTSUP, "is for another kind of machine");
	if (s->sites == SITES_MAX)
		return refuse(s, -E2BIG, "has more than %d probes", SITES_MAX);
	if (!(s->sites & (s->sites - 1)))
		more = realloc(s->list, (s->sites ? 2 * (size_t)s->sites : 1) * sizeof(*more));
	if (!more)
		return refuse(s, -ENOMEM, "%s", strerror(ENOMEM));
	s->list = more;
	site = &more[s->sites];
	site->event = event->number;
	site->counter = 0;
	if (bhb_usdt_args(NATIVE_MACHINE, args, &site->spec, &bad) != (int)event->args)
		return refuse(s, -EINVAL, "bh:%s: argument %d, %.*s, is not understood", event->name, site->spec.n + 1,
			      printable(bad), bad);
	memcpy(address, desc, sizeof(address));
	/* both move with it where the file was relocated after it was linked */
	const uint64_t moved = s->base ? s->base - address[1] : 0;
	if (!find_offset(s, address[0] + moved, true, &site->offset))
		return refuse(s, -EBADMSG, "bh:%s at 0x%llx is in no code of this file", event->name,
			      (unsigned long long)address[0]);
	if (address[2] && !find_offset(s, address[2] + moved, false, &site->counter))
		return refuse(s, -EBADMSG, "the semaphore of bh:%s at 0x%llx is in no data of this file", event->name,
			      (unsigned long long)address[2]);
	return 0;
}

/* DESC: three addresses, then provider, name and arguments, each ending with a zero. */
static int look_at_note(struct search *s, const char *desc, size_t size, size_t offset)
{
	const char *text[3], *at = desc + ADDRESSES, *end = desc + size;

	for (unsigned i = 0; i < 3; i++) {
		const char *zero = size > ADDRESSES && at < end ? memchr(at, 0, (size_t)(end - at)) : NULL;
		if (!zero)
			return refuse(s, -EBADMSG, "the note at offset 0x%zx of .note.stapsdt has no end", offset);
		text[i] = at;
		at = zero + 1;
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && !strcmp(text[0], "bh"); i++) {
		if (strcmp(text[1], known[i].name))
			continue;
		if (count_args(text[2]) != known[i].args)
			return refuse(s, -ENOTSUP,
				      "bh:%s has %u arguments instead of %u: it was built with "
				      "another version of the probes",
				      text[1], count_args(text[2]), known[i].args);
		const int rc = s->listed ? add(s, &known[i], desc, text[2]) : 0;
		if (rc)
			return rc;
		s->events |= UINT32_C(1) << known[i].number;
		s->sites++;
	}
	return 0;
}

static int look_at_notes(struct search *s, Elf_Scn *section)
{
	Elf_Data *data = elf_getdata(section, NULL);
	size_t at = 0, name, desc;
	GElf_Nhdr note;
	int rc = 0;

	if (!data || (data->d_size && !data->d_buf))
		return refuse(s, -EBADMSG, ".note.stapsdt is not within the file");
	while (!rc && at < data->d_size) {
		const size_t next = gelf_getnote(data, at, &note, &name, &desc);
		const char *bytes = data->d_buf;

		if (!next)
			return refuse(s, -EBADMSG, "the note at offset 0x%zx of .note.stapsdt is damaged", at);
		if (note.n_type == NOTE_TYPE && note.n_namesz == sizeof("stapsdt") &&
		    !memcmp(bytes + name, "stapsdt", sizeof("stapsdt")))
			rc = look_at_note(s, bytes + desc, note.n_descsz, at);
		at = next;
	}
	return rc;
}

/* The next section NAME of TYPE after SECTION; NULL: there is none. */
static Elf_Scn *find_section(Elf *elf, size_t names, Elf_Scn *section, const char *name, GElf_Shdr *header)
{
	while ((section = elf_nextscn(elf, section))) {
		const char *its = gelf_getshdr(section, header) ? elf_strptr(elf, names, header->sh_name) : NULL;
		if (its && !strcmp(its, name))
			break;
	}
	return section;
}

static int look_at_file(struct search *s, Elf *elf)
{
	Elf_Scn *section = NULL;
	size_t names;
	GElf_Shdr header;
	int rc = 0;
	const char *ident = elf_kind(elf) == ELF_K_ELF ? elf_getident(elf, NULL) : NULL;

	if (!ident)
		return refuse(s, -ENOEXEC, "is no ELF file");
	if (ident[EI_CLASS] != ELFCLASS64 || ident[EI_DATA] != NATIVE_DATA)
		return refuse(s, -ENOTSUP, "is for another kind of machine");
	if (elf_getshdrstrndx(elf, &names))
		return refuse(s, -EBADMSG, "its section headers are damaged: %s", elf_errmsg(-1));
	s->base = find_section(elf, names, NULL, ".stapsdt.base", &header) ? header.sh_addr : 0;
	while (!rc && (section = find_section(elf, names, section, ".note.stapsdt", &header)))
		if (header.sh_type == SHT_NOTE)
			rc = look_at_notes(s, section);
	return rc;
}

static int search(struct search *s, int fd)
{
	int rc;

	s->why[0] = '\0';
	if (elf_version(EV_CURRENT) == EV_NONE)
		return refuse(s, -ENOTSUP, "libelf: %s", elf_errmsg(-1));
	/* not mapped: the file may shrink meanwhile */
	s->elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!s->elf)
		return refuse(s, -EBADMSG, "%s", elf_errmsg(-1));
	rc = look_at_file(s, s->elf);
	elf_end(s->elf);
	return rc ? rc : s->sites;
}

int bhb_sites_of(int fd, const char *name, uint32_t *events, char why[BHB_WHY])
{
	struct search s = { .name = name, .why = why };
	const int rc = search(&s, fd);

	*events = rc < 0 ? 0 : s.events;
	return rc;
}

int bhb_sites_list(int fd, const char *name, struct bhb_site **sites, char why[BHB_WHY])
{
	struct search s = { .name = name, .why = why, .listed = true };
	const int rc = search(&s, fd);

	if (rc < 0) {
		free(s.list);
		s.list = NULL;
	}
	*sites = s.list;
	return rc;
}

int bhb_sites(const char *path, char why[BHB_WHY])
{
	/* not to wait for the writer of a FIFO */
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct search s = { .name = path, .why = why };
	uint32_t events;
	struct stat st;
	int rc;

	if (fd < 0)
		return refuse(&s, -errno, "%s", strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		rc = refuse(&s, -ENOEXEC, "is no regular file");
	else
		rc = bhb_sites_of(fd, path, &events, why);
	close(fd);
	return rc;
}
