/* SPDX-License-Identifier: MIT */
/* bhtrace.h - what the subcommands share */
#ifndef BHTRACE_H
#define BHTRACE_H

enum {
	EXIT_HEALTHY = 0,
	EXIT_FINDING = 1,
	EXIT_USAGE = 2,
	EXIT_UNDECIDABLE = 3,
	EXIT_NOT_PERMITTED = 4,
	EXIT_BAD_INPUT = 5
};

/* argv[0] is the subcommand's name; gives the exit code. */
int cmd_diagnose(int argc, char **argv);
int cmd_snapshot(int argc, char **argv);
int cmd_record(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_timeline(int argc, char **argv);
int cmd_rescue(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

#endif
