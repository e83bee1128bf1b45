/* SPDX-License-Identifier: MIT */
/* options.h - what the subcommands share of their command lines */
#ifndef BHTRACE_OPTIONS_H
#define BHTRACE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum opt_kind {
	OPT_END,
	OPT_FLAG,     /* bool *: was given */
	OPT_PID,      /* uint32_t *: decimal digits only, 1 to 4194304 (the kernel's limit) */
	OPT_DURATION, /* uint64_t *: nanoseconds, from 500ms, 10s, 2m, 1h; at most 24 days */
	OPT_STRING,   /* const char **: not empty */
	OPT_ADAPTER, /* NULL: a file that is added to the adapters, each time it is given; a bad one is EXIT_BAD_INPUT */
	OPT_WITNESS,   /* struct bht_claim *: an expression, see witness.h */
	OPT_COLOR,     /* bool *: whether to color stdout; set in any case, from NO_COLOR and isatty() */
	OPT_ARGUMENT,  /* const char **: what is no option; those before it come first */
	OPT_ARGUMENTS, /* struct opt_arguments *: all that is left, or that follows "--"; not empty strings */
	OPT_COMMAND    /* char ***: a command with its own options, from the first word on that is no option */
};

/* N words, with a NULL behind the last: borrowed from argv. */
struct opt_arguments {
	char **at;
	unsigned n;
};

struct opt {
	enum opt_kind kind;
	char key;         /* short form, '\0' for none */
	const char *name; /* long form; NULL for OPT_ARGUMENT */
	void *into;
};

enum { OPT_MAX = 16 };

/*
 * Reads the command line of the subcommand argv[0] into what OPTIONS, which ends
 * with OPT_END, points to. Gives false when there is nothing left to do: --help
 * was asked for and printed, or the command line was wrong, which is said on
 * stderr. *CODE is then the exit code.
 */
bool opt_parse(int argc, char **argv, const char *help, const struct opt *options, int *code);

/* Columns of the terminal behind OUT, or 100. */
unsigned opt_width(FILE *out);

/* Prints "bhtrace COMMAND: ..." and how to get help on stderr; gives EXIT_USAGE.
 * COMMAND may be NULL. */
int opt_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
