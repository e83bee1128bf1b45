/* SPDX-License-Identifier: MIT */
/* bhtrace - which wakeup was lost, by which mechanism, and what fixes it */
#include <stdio.h>
#include <string.h>

#include "bhtrace.h"
#include "options.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
	{ "diagnose", cmd_diagnose,
	  "name the mechanism of a hang: of a live process, a recording, a core, ring files" },
	{ "snapshot", cmd_snapshot, "keep all evidence of a live process for later" },
	{ "record", cmd_record, "keep the events of a process, or of several, while they run" },
	{ "watch", cmd_watch, "keep an eye on processes in production: only what is overdue is told" },
	{ "run", cmd_run, "run a program with the recorder in its libuv" },
	{ "report", cmd_report, "measure the wakeup gaps of a recording: how long, and what they consist of" },
	{ "timeline", cmd_timeline, "draw a recording: a page for the browser, or JSON for a trace viewer" },
	{ "rescue", cmd_rescue, "wake a loop whose notification was lost, and so test the diagnosis" },
	{ "explain", cmd_explain, "what a rule means, how it is decided, what fixes it" },
	{ "doctor", cmd_doctor, "what this kernel and these privileges allow" },
};

enum { N_COMMANDS = sizeof(commands) / sizeof(*commands) };

static int show_help(void)
{
	printf("Usage: bhtrace COMMAND [OPTION]...\n\n"
	       "Tells which wakeup of an event loop was lost or late, and by which mechanism.\n\n");
	for (unsigned i = 0; i < N_COMMANDS; i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].summary);
	printf("\nbhtrace COMMAND --help, or bhtrace help COMMAND, tells about one of them.\n\n"
	       "Exit codes: 0 healthy, 1 finding, 2 usage, 3 undecidable, 4 not permitted,\n"
	       "5 bad input or the output could not be written.\n");
	return EXIT_HEALTHY;
}

static int run_command(int argc, char **argv)
{
	for (unsigned i = 0; i < N_COMMANDS; i++)
		if (!strcmp(argv[0], commands[i].name))
			return commands[i].run(argc, argv);
	return opt_usage(NULL, "unknown command '%s'", argv[0]);
}

static int dispatch(int argc, char **argv)
{
	static char help[] = "--help";

	if (argc < 2)
		return opt_usage(NULL, "no command given");
	if (!strcmp(argv[1], "--version")) {
		printf("bhtrace %s\n", BHTRACE_VERSION);
		return EXIT_HEALTHY;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || (!strcmp(argv[1], "help") && argc == 2))
		return show_help();
	if (!strcmp(argv[1], "help"))
		return run_command(2, (char *[]){ argv[2], help, NULL });
	return run_command(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	int code = dispatch(argc, argv);

	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "bhtrace: the output could not be written\n");
		return EXIT_BAD_INPUT;
	}
	return code;
}
