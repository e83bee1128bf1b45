/* SPDX-License-Identifier: MIT */
/*
 * With libdwfl. While a thread is stopped only its stack is walked: what the
 * walk needs is loaded before, and names are looked up afterwards.
 */
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "array.h"
#include "clock.h"
#include "core_elf.h"
#include "refuse.h"
#include "stacks.h"

struct walk {
	struct bht_stacks *out;
	bool stops; /* the thread is stopped while it is walked */
	int error;
};

/* --- walking ----------------------------------------------------------------------- */

static int add_frame(Dwfl_Frame *state, void *arg)
{
	struct bht_stack *stack = arg;
	Dwarf_Addr pc;
	bool exact;

	if (!dwfl_frame_pc(state, &pc, &exact))
		return -1;
	if (stack->n_frames == BHT_FRAMES_MAX) {
		snprintf(stack->why, sizeof(stack->why), "more than %d frames", BHT_FRAMES_MAX);
		return DWARF_CB_ABORT;
	}
	/* A return address may be the first of the next function: `line` says so
	 * until the names are looked up. */
	stack->frames[stack->n_frames++] = (struct bht_frame){ .address = pc, .line = exact ? 0 : 1 };
	return DWARF_CB_OK;
}

static int add_thread(Dwfl_Thread *thread, void *arg)
{
	struct walk *walk = arg;
	struct bht_stacks *out = walk->out;

	if (out->n == BHT_STACKS_MAX) {
		out->more = true;
		return DWARF_CB_ABORT;
	}
	if (!bht_room_for_one(&out->threads, out->n, sizeof(*out->threads)))
		goto no_memory;
	struct bht_stack *stack = &out->threads[out->n];
	*stack = (struct bht_stack){ .tid = (uint32_t)dwfl_thread_tid(thread) };
	stack->frames = calloc(BHT_FRAMES_MAX, sizeof(*stack->frames));
	if (!stack->frames)
		goto no_memory;
	out->n++;
	const uint64_t began = bht_mono_ns();
	errno = 0;
	/* Stops it, and lets it go when the walk is over. */
	if (dwfl_thread_getframes(thread, add_frame, stack) < 0) {
		if (!stack->n_frames && errno)
			walk->error = -errno;
		snprintf(stack->why, sizeof(stack->why), "%s", dwfl_errmsg(-1));
	}
	if (walk->stops)
		stack->stopped_us = (bht_mono_ns() - began) / 1000;
	return DWARF_CB_OK;
no_memory:
	walk->error = -ENOMEM;
	return DWARF_CB_ABORT;
}

static int load_unwinding(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr start, void *arg)
{
	Dwarf_Addr bias;

	(void)data, (void)name, (void)start, (void)arg;
	dwfl_module_eh_cfi(module, &bias);
	return DWARF_CB_OK;
}

/* --- names ------------------------------------------------------------------------- */

static char *copy(const char *text)
{
	return text && *text ? strdup(text) : NULL;
}

static void name_frame(Dwfl *dwfl, struct bht_frame *frame)
{
	const Dwarf_Addr pc = frame->address - (frame->line ? 1 : 0);
	Dwfl_Module *module = dwfl_addrmodule(dwfl, pc);
	GElf_Off offset = 0;
	GElf_Sym symbol;

	frame->line = 0;
	if (!module)
		return;
	frame->module = copy(dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, NULL, NULL));
	frame->symbol = copy(dwfl_module_addrinfo(module, pc, &offset, &symbol, NULL, NULL, NULL));
	frame->offset = frame->symbol ? offset + (frame->address - pc) : 0;
	Dwfl_Line *line = dwfl_module_getsrc(module, pc);
	if (line)
		frame->file = copy(dwfl_lineinfo(line, NULL, &frame->line, NULL, NULL, NULL));
}

/* --- both ways ---------------------------------------------------------------------- */

/* Walks all threads of what DWFL is attached to. */
static int walk_all(Dwfl *dwfl, bool stops, const char *subject, struct bht_stacks *out, struct bht_refusal *refusal)
{
	struct walk walk = { .out = out, .stops = stops };
	unsigned frames = 0;

	dwfl_getmodules(dwfl, load_unwinding, NULL, 0);
	const int rc = dwfl_getthreads(dwfl, add_thread, &walk);
	if (walk.error == -ENOMEM)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: no memory", subject);
	for (size_t i = 0; i < out->n; i++) {
		for (unsigned k = 0; k < out->threads[i].n_frames; k++)
			name_frame(dwfl, &out->threads[i].frames[k]);
		frames += out->threads[i].n_frames;
	}
	if (frames)
		return 0;
	const char *why = out->n ? out->threads[0].why : rc < 0 ? dwfl_errmsg(-1) : "no threads";
	return bht_refuse(refusal, walk.error ? walk.error : -EBADMSG, 0, "%s: no stack could be walked: %s", subject,
			  why);
}

/* libdwfl asks the servers that this names for what it does not find. */
static void no_downloads(void)
{
	setenv("DEBUGINFOD_URLS", "", 1);
}

int bht_stacks_collect(uint32_t pid, struct bht_stacks *out, struct bht_refusal *refusal)
{
	static char *no_path;
	static const Dwfl_Callbacks callbacks = { .find_elf = dwfl_linux_proc_find_elf,
						  .find_debuginfo = dwfl_standard_find_debuginfo,
						  .debuginfo_path = &no_path };
	char subject[32];
	int rc;

	*out = (struct bht_stacks){ .n = 0 };
	no_downloads();
	snprintf(subject, sizeof(subject), "process %u", pid);
	Dwfl *dwfl = dwfl_begin(&callbacks);
	if (!dwfl)
		return bht_refuse(refusal, -ENOMEM, 0, "%s: %s", subject, dwfl_errmsg(-1));
	rc = dwfl_linux_proc_report(dwfl, (pid_t)pid);
	if (!rc)
		rc = dwfl_report_end(dwfl, NULL, NULL);
	if (!rc)
		rc = dwfl_linux_proc_attach(dwfl, (pid_t)pid, false);
	if (rc == ENOENT || rc == ESRCH)
		rc = bht_refuse(refusal, -ESRCH, 0, "%s: does not exist", subject);
	else if (rc > 0)
		rc = bht_refuse(refusal, rc == EACCES ? -EPERM : -rc, 0, "%s: %s", subject, strerror(rc));
	else if (rc < 0)
		rc = bht_refuse(refusal, -EBADMSG, 0, "%s: %s", subject, dwfl_errmsg(-1));
	else
		rc = walk_all(dwfl, true, subject, out, refusal);
	dwfl_end(dwfl);
	return rc;
}

static int walk_core(Dwfl *dwfl, Elf *elf, const char *exe, const char *subject, struct bht_stacks *out,
		     struct bht_refusal *refusal)
{
	if (!dwfl || !elf || dwfl_core_file_report(dwfl, elf, exe) < 0 || dwfl_report_end(dwfl, NULL, NULL) ||
	    dwfl_core_file_attach(dwfl, elf) < 0)
		return bht_refuse(refusal, -EBADMSG, 0, "%s: %s", subject, dwfl_errmsg(-1));
	return walk_all(dwfl, false, subject, out, refusal);
}

int bht_stacks_core(const char *core, const char *exe, struct bht_stacks *out, struct bht_refusal *refusal)
{
	static char *no_path;
	static const Dwfl_Callbacks callbacks = { .find_elf = dwfl_build_id_find_elf,
						  .find_debuginfo = dwfl_standard_find_debuginfo,
						  .debuginfo_path = &no_path };
	char subject[256];
	struct stat st;

	*out = (struct bht_stacks){ .n = 0 };
	no_downloads();
	snprintf(subject, sizeof(subject), "core %s", core);
	int fd = bht_core_file_open(core, &st);
	if (fd < 0)
		return bht_refuse(refusal, fd, 0, "%s: %s", subject, strerror(-fd));
	elf_version(EV_CURRENT);
	/* Of a core that is not mapped libdwfl copies whole segments. */
	Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
	Dwfl *dwfl = dwfl_begin(&callbacks);
	int rc = walk_core(dwfl, elf, exe, subject, out, refusal);
	dwfl_end(dwfl);
	elf_end(elf);
	close(fd);
	return rc;
}

void bht_stacks_free(struct bht_stacks *stacks)
{
	for (size_t i = 0; i < stacks->n; i++) {
		struct bht_stack *stack = &stacks->threads[i];
		for (unsigned k = 0; k < stack->n_frames; k++) {
			free(stack->frames[k].symbol);
			free(stack->frames[k].module);
			free(stack->frames[k].file);
		}
		free(stack->frames);
	}
	free(stacks->threads);
	*stacks = (struct bht_stacks){ .n = 0 };
}
