/* SPDX-License-Identifier: MIT */
/* progress.h - a sign of life on stderr from what takes longer than a second */
#ifndef BHTRACE_PROGRESS_H
#define BHTRACE_PROGRESS_H

/* When stderr is a terminal, says what is being done once it took a second, and
 * that it still is every second after that, until progress_end(). Uses SIGALRM;
 * one at a time. */
void progress_begin(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Removes the line. */
void progress_end(void);

#endif
