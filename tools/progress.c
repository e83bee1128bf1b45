/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static char line[256];
static const char *volatile todo; /* what the next second shows: the line, then dots */

static void on_second(int sig)
{
	(void)sig;
	if (write(STDERR_FILENO, todo, strlen(todo)) < 0)
		return;
	todo = ".";
}

static void every(time_t seconds)
{
	const struct itimerval timer = { { seconds, 0 }, { seconds, 0 } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

void progress_begin(const char *format, ...)
{
	va_list args;

	if (!isatty(STDERR_FILENO))
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	todo = line;
	signal(SIGALRM, on_second);
	every(1);
}

void progress_end(void)
{
	if (!todo)
		return;
	every(0);
	if (todo != line)
		fputs("\r\x1b[K", stderr);
	todo = NULL;
}
