/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bhtrace.h"

enum { PID_LIMIT = 4194304, WIDTH_DEFAULT = 100, WIDTH_MIN = 40, WIDTH_MAX = 1000 };

/* Digits at S up to MAX, *END behind them; false when there are none or too many. */
static bool parse_digits(const char *s, uint64_t max, uint64_t *value, const char **end)
{
	*value = 0;
	for (*end = s; isdigit((unsigned char)**end); (*end)++) {
		*value = *value * 10 + (uint64_t)(**end - '0');
		if (*value > max)
			return false;
	}
	return *end != s;
}

int opt_pid(const char *s, uint32_t *pid)
{
	uint64_t value;
	const char *end;

	if (!parse_digits(s, PID_LIMIT, &value, &end) || *end || !value)
		return -EINVAL;
	*pid = (uint32_t)value;
	return 0;
}

int opt_duration(const char *s, uint64_t *ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = { { "ms", 1000000 }, { "s", 1000000000 }, { "m", 60000000000 }, { "h", 3600000000000 } };
	uint64_t value;
	const char *end;

	if (!parse_digits(s, INT32_MAX, &value, &end))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (!strcmp(end, units[i].unit) && value <= INT32_MAX * UINT64_C(1000000) / units[i].ns) {
			*ns = value * units[i].ns;
			return 0;
		}
	return -EINVAL;
}

int opt_color(const char *s, enum opt_color *when)
{
	static const char *const names[] = { "auto", "always", "never" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(s, names[i])) {
			*when = (enum opt_color)i;
			return 0;
		}
	return -EINVAL;
}

bool opt_use_color(enum opt_color when, FILE *out)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	if (when != OPT_COLOR_AUTO)
		return when == OPT_COLOR_ALWAYS;
	return !(no_color && *no_color) && !(term && !strcmp(term, "dumb")) && isatty(fileno(out));
}

unsigned opt_width(FILE *out)
{
	struct winsize size;

	if (ioctl(fileno(out), TIOCGWINSZ, &size) || !size.ws_col)
		return WIDTH_DEFAULT;
	if (size.ws_col < WIDTH_MIN)
		return WIDTH_MIN;
	return size.ws_col > WIDTH_MAX ? WIDTH_MAX : size.ws_col;
}

int opt_usage(const char *command, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "bhtrace%s%s: ", command ? " " : "", command ? command : "");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nTry 'bhtrace %s%s--help'.\n", command ? command : "", command ? " " : "");
	return EXIT_USAGE;
}

int opt_refused(char **argv, int c)
{
	const char *word = argv[optind - 1];

	if (c == ':')
		return opt_usage(argv[0], "option '%s' needs an argument", word);
	/* A short option that is unknown may stand within a word of several. */
	if (optopt && strncmp(word, "--", 2))
		return opt_usage(argv[0], "unknown option '-%c'", optopt);
	return opt_usage(argv[0], "unknown option '%s', or one that takes no argument", word);
}

int opt_surplus(char **argv, int index)
{
	return opt_usage(argv[0], "unexpected argument '%s'", argv[index]);
}
