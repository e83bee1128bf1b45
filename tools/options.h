/* SPDX-License-Identifier: MIT */
/* options.h - what the subcommands share of their command lines */
#ifndef BHTRACE_OPTIONS_H
#define BHTRACE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum opt_color { OPT_COLOR_AUTO, OPT_COLOR_ALWAYS, OPT_COLOR_NEVER };

/* A process id: decimal digits only, 1 to 4194304 (the kernel's limit). 0 or -EINVAL. */
int opt_pid(const char *s, uint32_t *pid);

/* A duration with its unit: 500ms, 10s, 2m, 1h; at most 24 days. 0 or -EINVAL. */
int opt_duration(const char *s, uint64_t *ns);

/* auto, always or never. 0 or -EINVAL. */
int opt_color(const char *s, enum opt_color *when);

/* Whether to color what goes to OUT; auto obeys NO_COLOR and isatty(). */
bool opt_use_color(enum opt_color when, FILE *out);

/* Columns of the terminal behind OUT, or 100. */
unsigned opt_width(FILE *out);

/* Prints "bhtrace COMMAND: ..." and how to get help on stderr; gives EXIT_USAGE.
 * COMMAND may be NULL. */
int opt_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for what getopt_long() refused: C is '?' or ':'. Wants opterr = 0 and
 * an option string that begins with ':' (after a '+'). */
int opt_refused(char **argv, int c);

/* An argument that is neither option nor wanted. */
int opt_surplus(char **argv, int index);

#endif
