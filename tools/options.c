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

#include "adapter.h"
#include "bhtrace.h"
#include "refuse.h"
#include "render.h"
#include "witness.h"

enum { PID_LIMIT = 4194304, WIDTH_DEFAULT = 100, WIDTH_MIN = 40, WIDTH_MAX = 1000 };
enum { LONG_ONLY = 0x100 }; /* what getopt_long() gives for options without a short form */

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

unsigned opt_width(FILE *out)
{
	struct winsize size;

	if (ioctl(fileno(out), TIOCGWINSZ, &size) || !size.ws_col)
		return WIDTH_DEFAULT;
	if (size.ws_col < WIDTH_MIN)
		return WIDTH_MIN;
	return size.ws_col > WIDTH_MAX ? WIDTH_MAX : size.ws_col;
}

/* --- values ------------------------------------------------------------------- */

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

static bool parse_pid(const char *s, uint32_t *pid)
{
	uint64_t value;
	const char *end;

	if (!parse_digits(s, PID_LIMIT, &value, &end) || *end || !value)
		return false;
	*pid = (uint32_t)value;
	return true;
}

static bool parse_duration(const char *s, uint64_t *ns)
{
	static const struct {
		const char *unit;
		uint64_t ns;
	} units[] = { { "ms", 1000000 }, { "s", 1000000000 }, { "m", 60000000000 }, { "h", 3600000000000 } };
	uint64_t value;
	const char *end;

	if (!parse_digits(s, INT32_MAX, &value, &end))
		return false;
	for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
		if (!strcmp(end, units[i].unit) && value <= INT32_MAX * UINT64_C(1000000) / units[i].ns) {
			*ns = value * units[i].ns;
			return true;
		}
	return false;
}

static bool auto_color(void)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return !(no_color && *no_color) && !(term && !strcmp(term, "dumb")) && isatty(STDOUT_FILENO);
}

static bool parse_color(const char *s, bool *color)
{
	*color = strcmp(s, "auto") ? !strcmp(s, "always") : auto_color();
	return !strcmp(s, "auto") || !strcmp(s, "always") || !strcmp(s, "never");
}

/* Says why something was refused; gives CODE. */
static int refused(const char *command, const struct bht_refusal *refusal, int rc, int code)
{
	char safe[2 * sizeof(refusal->why)];

	fprintf(stderr, "bhtrace %s: %s\n", command,
		refusal->why[0] ? bht_escape(safe, sizeof(safe), refusal->why) : strerror(-rc));
	return code;
}

static int add_adapter(const char *command, const char *path)
{
	struct bht_adapter *a = calloc(1, sizeof(*a)); /* large */
	struct bht_refusal refusal = { 0 };
	int rc = a ? bht_adapter_load(a, path, &refusal) : -ENOMEM;

	if (!rc && (rc = bht_adapter_add(a)))
		bht_refuse(&refusal, rc, 0, "%s: %s", path, rc == -E2BIG ? "too many adapters" : strerror(-rc));
	free(a);
	return rc ? refused(command, &refusal, rc, EXIT_BAD_INPUT) : 0;
}

static int parse_witness(const char *command, const char *s, struct bht_claim *w)
{
	struct bht_refusal refusal = { 0 };
	int rc = bht_claim_parse(w, s, &refusal);

	return rc ? refused(command, &refusal, rc, EXIT_USAGE) : 0;
}

/* Takes VALUE for O of COMMAND; 0 or an exit code. */
static int take(const char *command, const struct opt *o, const char *value)
{
	switch (o->kind) {
	case OPT_FLAG:
		*(bool *)o->into = true;
		return 0;
	case OPT_PID:
		return parse_pid(value, o->into) ? 0 : opt_usage(command, "'%s' is no process id", value);
	case OPT_DURATION:
		if (parse_duration(value, o->into))
			return 0;
		return opt_usage(command, "'%s' is no duration; write it like 500ms, 10s or 2m", value);
	case OPT_COLOR:
		if (parse_color(value, o->into))
			return 0;
		return opt_usage(command, "--%s wants auto, always or never, not '%s'", o->name, value);
	case OPT_ADAPTER:
		return add_adapter(command, value);
	case OPT_WITNESS:
		return parse_witness(command, value, o->into);
	default:
		*(const char **)o->into = value;
		return *value ? 0 : opt_usage(command, "an empty argument");
	}
}

/* --- the command line ----------------------------------------------------------- */

/* OPTIONS and --help in the form of getopt_long(). */
static void translate(const struct opt *options, struct option table[OPT_MAX + 2], char shorts[2 * OPT_MAX + 5])
{
	const struct opt *o = options;

	while (o->kind != OPT_END && o->kind != OPT_COMMAND)
		o++;
	if (o->kind == OPT_COMMAND)
		*shorts++ = '+'; /* what follows it is its own */
	*shorts++ = ':';
	*shorts++ = 'h';
	o = options;
	for (; o->kind != OPT_END; o++) {
		int argument = o->kind == OPT_FLAG ? no_argument : required_argument;

		if (o->kind == OPT_ARGUMENT || o->kind == OPT_ARGUMENTS || o->kind == OPT_COMMAND)
			continue;
		*table++ = (struct option){ o->name, argument, NULL, LONG_ONLY + (int)(o - options) };
		if (!o->key)
			continue;
		*shorts++ = o->key;
		if (argument == required_argument)
			*shorts++ = ':';
	}
	*shorts = '\0';
	*table++ = (struct option){ "help", no_argument, NULL, 'h' };
	*table = (struct option){ 0 };
}

/* The option that getopt_long() gave C for. */
static const struct opt *find(const struct opt *options, int c)
{
	if (c >= LONG_ONLY)
		return &options[c - LONG_ONLY];
	while (options->key != c)
		options++;
	return options;
}

/* What getopt_long() refused: C is '?' or ':'. */
static int refuse(char **argv, int c)
{
	const char *word = argv[optind - 1];

	if (c == ':')
		return opt_usage(argv[0], "option '%s' needs an argument", word);
	/* A short option that is unknown may stand within a word of several. */
	if (optopt && strncmp(word, "--", 2))
		return opt_usage(argv[0], "unknown option '-%c'", optopt);
	return opt_usage(argv[0], "unknown option '%s', or one that takes no argument", word);
}

/* All that is left. */
static int take_rest(int argc, char **argv, struct opt_arguments *into)
{
	*into = (struct opt_arguments){ argv + optind, (unsigned)(argc - optind) };
	for (; optind < argc; optind++)
		if (!*argv[optind])
			return opt_usage(argv[0], "an empty argument");
	return 0;
}

static int take_arguments(int argc, char **argv, const struct opt *options)
{
	for (; options->kind != OPT_END && optind < argc; options++) {
		if (options->kind == OPT_ARGUMENT && take(argv[0], options, argv[optind++]))
			return EXIT_USAGE;
		if (options->kind == OPT_ARGUMENTS && take_rest(argc, argv, options->into))
			return EXIT_USAGE;
		if (options->kind == OPT_COMMAND) {
			*(char ***)options->into = argv + optind;
			optind = argc;
		}
	}
	return optind < argc ? opt_usage(argv[0], "unexpected argument '%s'", argv[optind]) : 0;
}

bool opt_parse(int argc, char **argv, const char *help, const struct opt *options, int *code)
{
	struct option table[OPT_MAX + 2];
	char shorts[2 * OPT_MAX + 5];
	int c;

	for (const struct opt *o = options; o->kind != OPT_END; o++)
		if (o->kind == OPT_COLOR)
			*(bool *)o->into = auto_color();
	translate(options, table, shorts);
	opterr = 0;
	*code = 0;
	while (!*code && (c = getopt_long(argc, argv, shorts, table, NULL)) != -1) {
		if (c == 'h')
			return fputs(help, stdout), false;
		*code = c == '?' || c == ':' ? refuse(argv, c) : take(argv[0], find(options, c), optarg);
	}
	if (!*code)
		*code = take_arguments(argc, argv, options);
	return !*code;
}
