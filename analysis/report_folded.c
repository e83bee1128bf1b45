/* SPDX-License-Identifier: MIT */
/* report_folded.c - where the time of all gaps went, as folded stacks: one line a stack,
 * frames separated by semicolons, then a blank and microseconds */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "render.h"
#include "report.h"

/* A frame ends at a semicolon. */
static void print_frame(FILE *out, const char *kind, const char *name, uint64_t addr)
{
	char safe[4 * BHP_TEXT_MAX + 4];

	if (*name)
		bht_escape(safe, sizeof(safe), name);
	else
		snprintf(safe, sizeof(safe), "%s 0x%" PRIx64, kind, addr);
	for (char *c = strchr(safe, ';'); c; c = strchr(c, ';'))
		*c = ':';
	fprintf(out, "%s;", safe);
}

static void print_row(FILE *out, const struct bht_report *r, unsigned process, const struct bht_row *row)
{
	const struct bht_evidence *ev = &r->rec->process[process].ev;
	char pid[sizeof(ev->command) + sizeof(ev->hostname) + 16];

	for (unsigned i = 0; i < BHT_SEGMENTS; i++) {
		double us = round(bht_report_ns(r, row->part[i]) / 1e3);
		if (us < 1)
			continue;
		snprintf(pid, sizeof(pid), "%s-%" PRIu32 "%s%s", ev->command, ev->pid, *ev->hostname ? "@" : "",
			 ev->hostname);
		print_frame(out, "process", pid, 0);
		print_frame(out, "loop", row->loop->name, row->loop->addr);
		print_frame(out, "bh", row->name, row->addr);
		fprintf(out, "%s %.0f\n", bht_segments[i].id, us);
	}
}

int bht_report_folded(FILE *out, const struct bht_report *r)
{
	for (unsigned p = 0; p < r->n; p++)
		for (size_t i = 0; i < r->gaps[p].n_loops; i++) {
			const struct bht_loop_row *loop = r->gaps[p].loop[i];
			for (size_t k = 0; k < loop->n_rows; k++)
				print_row(out, r, p, loop->row[k]);
		}
	return fflush(out) || ferror(out) ? -EIO : 0;
}
