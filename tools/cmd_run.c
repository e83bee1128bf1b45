/* SPDX-License-Identifier: MIT */
/* bhtrace run -- COMMAND: a program that uses libuv, with the recorder preloaded. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "bhtrace.h"
#include "options.h"
#include "render.h"

#define RECORDER "libbh-uv.so.0"

enum { INTERPRETERS_MAX = 4, LINE_MAX_READ = 256 };

static const char help[] =
	"Usage: bhtrace run [OPTION]... [--] COMMAND [ARGUMENT]...\n\n"
	"Runs COMMAND with a recorder for stock libuv in it, so that diagnose, snapshot, record and\n"
	"watch see its loops as they see those of libbh. A program without libuv runs unchanged.\n\n"
	"  --flight=WHERE  what the flight recorder keeps: a SIZE (64K a thread), file:DIR[,SIZE] for what\n"
	"                  is to survive SIGKILL, or off\n"
	"  -h, --help      print this text\n\n"
	"Exit codes: those of COMMAND; 2 usage, 4 not permitted, 5 when COMMAND cannot be recorded.\n";

/* Says it on stderr; gives CODE. */
static int say(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int say(int code, const char *format, ...)
{
	char text[2 * PATH_MAX], safe[2 * sizeof(text)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "bhtrace: %s\n", bht_escape(safe, sizeof(safe), text));
	return code;
}

/* --- the command ------------------------------------------------------------------- */

/* Where execvp(3) would find NAME; 0 or an errno. */
static int find_command(const char *name, char path[PATH_MAX])
{
	const char *at = getenv("PATH");
	struct stat st;
	int error = ENOENT;

	if (strchr(name, '/')) {
		snprintf(path, PATH_MAX, "%s", name);
		return stat(path, &st) ? errno : S_ISREG(st.st_mode) && !access(path, X_OK) ? 0 : EACCES;
	}
	for (at = at ? at : "/bin:/usr/bin"; at; at = *at ? at + 1 : NULL) {
		const int len = (int)strcspn(at, ":");

		snprintf(path, PATH_MAX, "%.*s%s%s", len, at, len ? "/" : "", name);
		if (!stat(path, &st) && S_ISREG(st.st_mode)) {
			if (!access(path, X_OK))
				return 0;
			error = EACCES;
		}
		at += len;
	}
	return error;
}

/* The interpreter that the first line of FD's file names; false when there is none. */
static bool interpreter_of(int fd, char path[PATH_MAX])
{
	char line[LINE_MAX_READ + 1];
	const ssize_t n = pread(fd, line, LINE_MAX_READ, 0);

	if (n < 3 || line[0] != '#' || line[1] != '!')
		return false;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	const char *from = line + 2 + strspn(line + 2, " \t");
	snprintf(path, PATH_MAX, "%.*s", (int)strcspn(from, " \t"), from);
	return *path;
}

static bool has_interpreter(Elf *elf)
{
	size_t n = 0;
	GElf_Phdr header;

	if (elf_getphdrnum(elf, &n))
		return false;
	for (size_t i = 0; i < n; i++)
		if (gelf_getphdr(elf, (int)i, &header) && header.p_type == PT_INTERP)
			return true;
	return false;
}

/* Whether a symbol table of the file has a function NAME of its own. */
static bool defines(Elf *elf, const char *name)
{
	for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section));) {
		GElf_Shdr header;
		GElf_Sym symbol;

		if (!gelf_getshdr(section, &header) || (header.sh_type != SHT_DYNSYM && header.sh_type != SHT_SYMTAB))
			continue;
		Elf_Data *data = elf_getdata(section, NULL);
		for (int i = 0; data && gelf_getsym(data, i, &symbol); i++) {
			const char *at = elf_strptr(elf, header.sh_link, symbol.st_name);
			if (at && symbol.st_shndx != SHN_UNDEF && !strcmp(at, name))
				return true;
		}
	}
	return false;
}

static int check_elf(const char *path, Elf *elf)
{
	static const char *const other = "use bhtrace diagnose -p, or bhtrace record --via bpf, on it";
	GElf_Ehdr header;

	if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header))
		return say(EXIT_BAD_INPUT, "%s: neither a script nor a program in ELF format", path);
	if (header.e_ident[EI_CLASS] != ELFCLASS64)
		return say(EXIT_BAD_INPUT, "%s: a 32-bit program; the recorder is for 64-bit ones", path);
#if defined(__x86_64__)
	if (header.e_machine != EM_X86_64)
#else
	if (header.e_machine != EM_AARCH64)
#endif
		return say(EXIT_BAD_INPUT, "%s: a program for another processor", path);
	if (!has_interpreter(elf))
		return say(EXIT_BAD_INPUT, "%s: a static program, into which nothing can be preloaded; %s", path,
			   other);
	if (defines(elf, "uv_async_send"))
		return say(EXIT_BAD_INPUT,
			   "%s: brings a libuv of its own, whose calls inside the program cannot be interposed; %s",
			   path, other);
	return EXIT_HEALTHY;
}

/* Programs that get privileges ignore what is to be preloaded. */
static bool gets_privileges(int fd, const struct stat *st)
{
	return (st->st_mode & S_ISUID && st->st_uid != getuid()) || (st->st_mode & S_ISGID && st->st_gid != getgid()) ||
	       (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0);
}

static int check_file(const char *path, char interpreter[PATH_MAX])
{
	struct stat st;
	int code = EXIT_HEALTHY;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	*interpreter = '\0';
	if (fd < 0)
		return errno == EACCES ? say(EXIT_NOT_PERMITTED, "%s: cannot be read, so not be checked: %s", path,
					     strerror(errno))
				       : say(EXIT_BAD_INPUT, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		code = say(EXIT_BAD_INPUT, "%s: not a program", path);
	else if (gets_privileges(fd, &st))
		code = say(EXIT_BAD_INPUT,
			   "%s: a set-user-ID program or one with capabilities; nothing is preloaded into those", path);
	else if (!interpreter_of(fd, interpreter)) {
		elf_version(EV_CURRENT);
		Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
		code = check_elf(path, elf);
		elf_end(elf);
	}
	close(fd);
	return code;
}

/* Whether what will run can be recorded; of a script that is its interpreter. */
static int check_command(const char *name)
{
	char path[PATH_MAX], interpreter[PATH_MAX];
	const int error = find_command(name, path);
	int code;

	if (error)
		return say(error == EACCES ? EXIT_NOT_PERMITTED : EXIT_BAD_INPUT, "%s: %s", name, strerror(error));
	for (unsigned n = 0; n < INTERPRETERS_MAX; n++) {
		code = check_file(path, interpreter);
		if (code || !*interpreter)
			return code;
		memcpy(path, interpreter, sizeof(path));
	}
	return say(EXIT_BAD_INPUT, "%s: a script whose interpreters are scripts", name);
}

/* --- the recorder ---------------------------------------------------------------------- */

/* In the build tree it lies beside the tool, where nobody else looks. */
static bool beside(const char *where, char path[PATH_MAX])
{
	char self[PATH_MAX] = "";
	const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *slash = n > 0 ? strrchr(self, '/') : NULL;
	char file[2 * PATH_MAX];

	snprintf(file, sizeof(file), "%.*s/%s" RECORDER, slash ? (int)(slash - self) : 0, self, where);
	return slash && realpath(file, path);
}

/* As the dynamic linker finds it. */
static bool in_library_path(char path[PATH_MAX])
{
	struct link_map *map = NULL;
	void *library = dlopen(RECORDER, RTLD_LAZY | RTLD_LOCAL);

	return library && !dlinfo(library, RTLD_DI_LINKMAP, &map) && map && realpath(map->l_name, path);
}

static int preload(void)
{
	char path[PATH_MAX];
	const char *before = getenv("LD_PRELOAD");
	char *value = NULL;

	if (!beside("", path) && !beside("../lib/", path) && !in_library_path(path))
		return say(EXIT_BAD_INPUT, RECORDER " is neither beside bhtrace nor in the library path");
	if (strpbrk(path, " :"))
		return say(EXIT_BAD_INPUT, "%s: the dynamic linker takes no path with a space or a colon", path);
	if (asprintf(&value, "%s%s%s", path, before && *before ? ":" : "", before ? before : "") < 0 ||
	    setenv("LD_PRELOAD", value, 1))
		return say(EXIT_BAD_INPUT, "%s", strerror(ENOMEM));
	free(value);
	return EXIT_HEALTHY;
}

/* A directory is made absolute: the command may change to another. */
static int set_flight(const char *flight)
{
	char dir[PATH_MAX], real[PATH_MAX], value[PATH_MAX + 32];
	const char *comma = strrchr(flight, ',');

	if (!strncmp(flight, "file:", 5)) {
		const size_t len = strlen(flight + 5) - (comma ? strlen(comma) : 0);
		snprintf(dir, sizeof(dir), "%.*s", (int)len, flight + 5);
		if (!realpath(dir, real) || access(real, W_OK | X_OK))
			return say(errno == EACCES ? EXIT_NOT_PERMITTED : EXIT_BAD_INPUT, "--flight: %s: %s", dir,
				   strerror(errno));
		snprintf(value, sizeof(value), "file:%s%s", real, comma ? comma : "");
		flight = value;
	} else if (strcmp(flight, "off") && (*flight < '0' || *flight > '9')) {
		return opt_usage("run", "--flight=%s: expected off, SIZE or file:DIR[,SIZE]", flight);
	}
	return setenv("BH_FLIGHT", flight, 1) ? say(EXIT_BAD_INPUT, "%s", strerror(errno)) : EXIT_HEALTHY;
}

int cmd_run(int argc, char **argv)
{
	const char *flight = NULL;
	char **command = NULL;
	const struct opt options[] = {
		{ OPT_STRING, 0, "flight", &flight },
		{ OPT_COMMAND, 0, NULL, &command },
		{ .kind = OPT_END },
	};
	int code;

	if (!opt_parse(argc, argv, help, options, &code))
		return code;
	if (!command)
		return opt_usage("run", "no command given");
	code = check_command(command[0]);
	if (!code && flight)
		code = set_flight(flight);
	if (!code)
		code = preload();
	if (code)
		return code;
	execvp(command[0], command);
	return say(errno == EACCES ? EXIT_NOT_PERMITTED : EXIT_BAD_INPUT, "%s: %s", command[0], strerror(errno));
}
