/* SPDX-License-Identifier: MIT */
/*
 * Loops that were never instrumented, of a core: it names the files that were mapped, and their symbols
 * are read from those that are still there with the same build id. What descriptors were is not known.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core_elf.h"
#include "refuse.h"

/* gdb leaves out what can be read from the files: their code. */
static bool core_executable(void *arg, uint64_t addr)
{
	struct bht_core_target *t = arg;
	const struct bht_core_area *area = bht_core_area(t->core, addr);

	return area ? area->executable : bht_images_at(&t->images, addr) != NULL;
}

static bool core_writable(void *arg, uint64_t addr)
{
	const struct bht_core_target *t = arg;
	const struct bht_core_area *area = bht_core_area(t->core, addr);

	return area && area->writable;
}

static int core_descriptor(void *arg, int32_t fd)
{
	(void)arg;
	(void)fd;
	return -1;
}

static enum bht_stack_known core_stack(void *arg, const struct bht_thread *thread, struct bht_registers *registers,
				       uint64_t *end)
{
	const struct bht_core_target *t = arg;

	for (size_t i = 0; i < t->process->n_threads; i++) {
		if (t->process->registers[i].tid != thread->tid)
			continue;
		*registers = t->process->registers[i].registers;
		const struct bht_core_area *area = bht_core_area(t->core, registers->value[BHT_REGISTER_SP]);
		if (!area || !area->writable)
			return BHT_STACK_UNKNOWN;
		*end = area->end;
		return BHT_STACK_EXACT;
	}
	return BHT_STACK_UNKNOWN;
}

/* All registers are known. */
static bool core_running(void *arg, const struct bht_thread *thread, struct bht_registers *registers)
{
	(void)arg;
	(void)thread;
	(void)registers;
	return false;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* A path that is relative was one of another directory. */
static const char *file_of(const char *mapped, const char *exe)
{
	if (exe && !strcmp(base_name(mapped), base_name(exe)))
		return exe;
	return mapped[0] == '/' ? mapped : NULL;
}

static int read_images(struct bht_core_target *t, const struct bht_core_maps *maps, const char *exe,
		       struct bht_refusal *refusal)
{
	struct bht_image_map *m = calloc(maps->n + 1, sizeof(*m));

	if (!m)
		return bht_refuse(refusal, -ENOMEM, 0, "files that were mapped: no memory");
	for (size_t i = 0; i < maps->n; i++) {
		const struct bht_core_map *from = &maps->map[i];
		m[i] = (struct bht_image_map){ from->start, from->end, from->offset, from->name,
					       file_of(from->name, exe) };
	}
	int rc = bht_images_of_maps(m, maps->n, &t->core->mem, &t->images, refusal);
	free(m);
	return rc;
}

int bht_core_foreign_open(struct bht_core_target *t, const struct bht_core_maps *maps, const char *exe,
			  struct bht_refusal *refusal)
{
	const struct bht_foreign_target target = { .mem = &t->core->mem,
						   .images = &t->images,
						   .executable = core_executable,
						   .writable = core_writable,
						   .descriptor = core_descriptor,
						   .stack = core_stack,
						   .running = core_running,
						   .arg = t };
	int rc = read_images(t, maps, exe, refusal);

	return rc ? rc : bht_foreign_open(&target, &t->foreign, refusal);
}

void bht_core_foreign_close(struct bht_core_target *t)
{
	bht_foreign_free(t->foreign);
	bht_images_free(&t->images);
}
