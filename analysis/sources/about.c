/* SPDX-License-Identifier: MIT */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "live.h"
#include "note.h"
#include "process.h"
#include "snapshot.h"

/* One instant on three clocks: the tightest of a few tries. */
static void read_clocks(struct bht_ctf_about *about)
{
	uint64_t narrowest = UINT64_MAX;
	struct timespec t;

	for (int i = 0; i < 5; i++) {
		const uint64_t before = bhp_clock(), ns = bht_mono_ns();
		clock_gettime(CLOCK_REALTIME, &t);
		const uint64_t width = bhp_clock() - before;
		if (width >= narrowest)
			continue;
		narrowest = width;
		about->clock = (struct bhp_clock_pair){ before + width / 2, ns };
		about->realtime_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	}
}

/* Where the ELF header of the executable is: its program headers follow it. */
static uint64_t executable(struct bht_process *p)
{
	struct bht_text *text = &p->proc.text;
	Elf64_auxv_t a;

	if (bht_text_read(text, p->proc.files, "auxv"))
		return 0;
	for (size_t at = 0; at + sizeof(a) <= text->len; at += sizeof(a)) {
		memcpy(&a, text->data + at, sizeof(a));
		if (a.a_type == AT_PHDR)
			return a.a_un.a_val & ~UINT64_C(4095);
	}
	return 0;
}

/* Its number may be another's by now, hardly one of the same name. */
static bool is_called(struct bht_process *p, const char *command)
{
	struct bht_text *text = &p->proc.text;
	const size_t n = strlen(command);

	return !bht_text_read(text, p->proc.dir, "comm") && !strncmp(text->data, command, n) && text->data[n] == '\n';
}

static void find_build_id(struct bht_ctf_about *about)
{
	struct bht_notes notes = { .n_roots = 0 };
	struct bht_refusal refusal;
	struct bht_process p;
	uint64_t image = 0;

	if (!bht_process_open(&p, about->pid, &refusal) && is_called(&p, about->command))
		image = executable(&p);
	if (image && !bht_notes_find(&p.mem, &image, 1, &notes))
		memcpy(about->build_id, notes.build_id, sizeof(about->build_id));
	bht_process_close(&p);
}

void bht_ctf_about_evidence(const struct bht_evidence *ev, struct bht_ctf_about *about)
{
	*about = (struct bht_ctf_about){ .pid = ev->pid, .ticks_per_ns = ev->ticks_per_ns };
	memcpy(about->command, ev->command, sizeof(about->command) - 1);
	memcpy(about->hostname, ev->hostname, sizeof(about->hostname) - 1);
	if (!about->hostname[0] && gethostname(about->hostname, sizeof(about->hostname) - 1))
		about->hostname[0] = '\0';
	read_clocks(about);
	find_build_id(about);
}

int bht_ctf_about(uint32_t pid, struct bht_ctf_about *about, struct bht_refusal *refusal)
{
	struct bht_evidence ev = { .live = true };
	struct bht_live *live = bht_live_open(pid, refusal);
	int rc = live ? bht_live_sample(live, &ev, &ev.last, refusal) : -errno;

	if (!rc)
		bht_ctf_about_evidence(&ev, about);
	bht_live_close(live);
	bht_evidence_free(&ev);
	return rc;
}
