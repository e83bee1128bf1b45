/* SPDX-License-Identifier: MIT */
/* The evidence is written last, and its last line says that it is all. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "refuse.h"
#include "rings.h"
#include "roots.h"
#include "snapline.h"
#include "snapshot.h"

static int refuse(const char *dir, const char *name, int error, struct bht_refusal *refusal)
{
	return bht_refuse(refusal, error, 0, "%s/%s: %s", dir, name, strerror(-error));
}

/* --- evidence ----------------------------------------------------------------- */

static void print_sample(FILE *out, const struct bht_sample *sample)
{
	bht_snap_print(out, BHT_SNAP_sample, sample);
	for (size_t i = 0; i < sample->n_loops; i++)
		bht_snap_print(out, BHT_SNAP_loop, &sample->loops[i]);
	for (size_t i = 0; i < sample->n_bhs; i++)
		bht_snap_print(out, BHT_SNAP_bh, &sample->bhs[i]);
	for (size_t i = 0; i < sample->n_threads; i++)
		bht_snap_print(out, BHT_SNAP_thread, &sample->threads[i]);
}

static void print_evidence(FILE *out, const struct bht_evidence *ev)
{
	struct bht_evidence named = *ev;
	struct utsname machine;

	if (!named.hostname[0] && gethostname(named.hostname, sizeof(named.hostname) - 1))
		named.hostname[0] = '\0';
	fprintf(out, "%s\n", BHT_SNAPSHOT_FIRST);
	fprintf(out, "machine %s\n", uname(&machine) ? "" : machine.machine);
	bht_snap_print(out, BHT_SNAP_evidence, &named);
	for (unsigned i = 0; i < ev->n_unseen; i++) {
		fputs("unseen ", out);
		bht_snap_escape(out, ev->unseen[i], BHT_SNAPTEXT);
		fputc('\n', out);
	}
	print_sample(out, &ev->first);
	print_sample(out, &ev->last);
	for (size_t i = 0; i < ev->n_begun; i++)
		bht_snap_print(out, BHT_SNAP_begun, &ev->begun[i]);
	if (ev->payload.text[0])
		bht_snap_print(out, BHT_SNAP_payload, &ev->payload);
	fputs("end\n", out);
}

static int write_evidence(int dir, const char *path, const struct bht_evidence *ev, struct bht_refusal *refusal)
{
	int fd = openat(dir, "evidence", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
	int rc = out ? 0 : -errno;

	if (out) {
		errno = 0;
		print_evidence(out, ev);
		if (ferror(out) || fflush(out) || fsync(fd))
			rc = errno ? -errno : -EIO;
		if (fclose(out) && !rc)
			rc = -errno;
	} else if (fd >= 0) {
		close(fd);
	}
	if (!rc && fsync(dir))
		rc = -errno;
	if (!rc)
		return 0;
	if (fd >= 0)
		unlinkat(dir, "evidence", 0);
	return refuse(path, "evidence", rc, refusal);
}

static int open_directory(const char *dir, struct bht_refusal *refusal)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? bht_refuse(refusal, -errno, 0, "%s: %s", dir, strerror(errno)) : fd;
}

int bht_evidence_write(const char *dir, const struct bht_evidence *ev, struct bht_refusal *refusal)
{
	int fd = open_directory(dir, refusal);

	if (fd < 0)
		return fd;
	int rc = write_evidence(fd, dir, ev, refusal);
	close(fd);
	return rc;
}

/* --- history ------------------------------------------------------------------ */

/* Writes all of SOURCE into a stream of its own, and closes it. */
static int write_stream(struct bht_ctf_writer *w, struct bht_source *source, const char *path,
			struct bht_refusal *refusal)
{
	struct bht_ctf_stream *s = bht_ctf_add(w, refusal);
	struct bht_event e[BHT_BATCH];
	int n = 0, rc = s ? 0 : -errno;

	while (!rc && (n = source->next(source, e, BHT_BATCH)) > 0)
		for (int i = 0; i < n && !rc; i++) {
			rc = bht_ctf_put(s, &e[i]);
			if (rc)
				refuse(path, "history", rc, refusal);
		}
	if (!rc)
		rc = n < 0 ? refuse(path, "history", n, refusal) : bht_ctf_flush(s);
	source->close(source);
	return rc;
}

static int write_rings(struct bht_ctf_writer *w, struct bht_rings *rings, const struct bht_tids *tids, const char *path,
		       struct bht_refusal *refusal)
{
	struct bht_source **sources;
	unsigned n;
	int rc = bht_rings_sources(rings, bht_tids_map, (void *)tids, &sources, &n);

	if (rc)
		return refuse(path, "history", rc, refusal);
	for (unsigned i = 0; i < n; i++) {
		if (rc)
			sources[i]->close(sources[i]);
		else
			rc = write_stream(w, sources[i], path, refusal);
	}
	free(sources);
	return rc;
}

static int write_history(int dir, const char *path, const struct bht_evidence *ev, const struct bht_source *history,
			 struct bht_refusal *refusal)
{
	struct bht_ctf_about about;
	const struct bht_tids *tids;
	unsigned n;
	struct bht_rings *const *rings = bht_flight_rings(history, &n, &tids);

	bht_ctf_about_evidence(ev, &about);
	struct bht_ctf_writer *w = bht_ctf_create(dir, "history", path, &about, refusal);
	int rc = w ? 0 : -errno;
	for (unsigned i = 0; i < n && !rc; i++)
		rc = write_rings(w, rings[i], tids, path, refusal);
	/* One without events shows that there were none; no stream at all, that they are missing. */
	if (!rc && !bht_ctf_count(w).events && !bht_ctf_count(w).discarded)
		rc = bht_ctf_add(w, refusal) ? 0 : -errno;
	if (w) {
		int end = bht_ctf_close(w, rc ? NULL : refusal);
		rc = rc ? rc : end;
	}
	return rc;
}

/* --- all ---------------------------------------------------------------------- */

int bht_snapshot_write(const char *dir, const struct bht_evidence *ev, const struct bht_source *history,
		       struct bht_refusal *refusal)
{
	if (mkdir(dir, 0700))
		return bht_refuse(refusal, -errno, 0, "%s: %s", dir, strerror(errno));
	int fd = open_directory(dir, refusal);
	int rc = fd < 0 ? fd : 0;
	if (!rc && history)
		rc = write_history(fd, dir, ev, history, refusal);
	if (!rc)
		rc = write_evidence(fd, dir, ev, refusal);
	if (rc && fd >= 0) {
		bht_ctf_remove(fd, "history");
		rmdir(dir);
	}
	if (fd >= 0)
		close(fd);
	return rc;
}
