/* SPDX-License-Identifier: MIT */
/* core_elf.h - what the files of the core reader share */
#ifndef BHT_CORE_ELF_H
#define BHT_CORE_ELF_H

#include <libelf.h>
#include <sys/stat.h>

#include "foreign.h"
#include "note.h"

enum { BHT_CORE_THREADS_MAX = 65536 };

struct bht_core_segment {
	uint64_t start, end; /* of what the file really has */
	uint64_t offset;
};

/* What was mapped, whether the core has it or not. */
struct bht_core_area {
	uint64_t start, end;
	bool writable, executable;
};

struct bht_core {
	struct bht_memory mem; /* first, so that its functions find the rest */
	const char *path;
	int fd;
	Elf *elf;
	uint64_t file_size;
	struct bht_core_segment *segments; /* by address, disjoint */
	size_t n_segments;
	struct bht_core_area *areas; /* by address */
	size_t n_areas;
	uint64_t read_max;   /* bytes, ever */
	uint64_t not_dumped; /* bytes of writable memory that were left out */
	uint64_t cut_off;    /* bytes that should be in the file */
	bool too_much;       /* more was asked for than is ever read */
};

/* The area that holds ADDR, or NULL. */
const struct bht_core_area *bht_core_area(const struct bht_core *core, uint64_t addr);

/* 0 or -errno as bht_core_open(); bht_core_close() in any case. */
int bht_core_elf_open(struct bht_core *core, const char *path, struct bht_refusal *refusal);
void bht_core_elf_close(struct bht_core *core);

/* Opens a regular file for reading, whoever named it. The descriptor or -errno. */
int bht_core_file_open(const char *path, struct stat *st);

/* A note of the system; DESC may be unaligned. 0 or -errno, which ends the walk. */
typedef int bht_core_note(void *arg, uint32_t type, const unsigned char *desc, size_t size);

/* Calls NOTE for all notes as far as the file has them. *CUT: it lacks some.
 * 0 or what NOTE said. */
int bht_core_notes(struct bht_core *core, bht_core_note *note, void *arg, bool *cut);

/* --- core_image.c ---------------------------------------------------------------- */

/* A mapping of a file, from NT_FILE. */
struct bht_core_map {
	uint64_t start, end, offset;
	const char *name; /* in bht_core_maps.text */
};

struct bht_core_maps {
	struct bht_core_map *map;
	size_t n;
	char *text;
	uint64_t entry; /* AT_ENTRY, 0 when not known */
};

/* Takes NT_FILE and NT_AUXV; others are passed over. 0 or -ENOMEM. */
int bht_core_maps_note(struct bht_core_maps *maps, uint32_t type, const unsigned char *desc, size_t size);
void bht_core_maps_free(struct bht_core_maps *maps);

/*
 * Looks for the notes of the images in the core, then of EXE (unless NULL) or
 * the files it had mapped. 0 or -errno.
 */
int bht_core_images(struct bht_core *core, const struct bht_core_maps *maps, const char *exe, struct bht_notes *notes,
		    struct bht_refusal *refusal);

/* --- core_threads.c -------------------------------------------------------------- */

struct bht_core_process {
	uint32_t pid; /* 0 when not known */
	char command[16];
	struct bht_thread *threads; /* owned */
	size_t n_threads;
	struct bht_core_registers {
		uint32_t tid;
		struct bht_registers registers;
	} * registers;      /* of each thread, in the order of the notes; owned */
	unsigned n_strange; /* notes of threads that are none */
};

/* Takes NT_PRSTATUS, NT_PRPSINFO; others are passed over. MEM is asked for the
 * instruction that a thread is at. 0 or -ENOMEM. */
int bht_core_process_note(struct bht_memory *mem, struct bht_core_process *process, uint32_t type,
			  const unsigned char *desc, size_t size);

/* --- core_foreign.c -------------------------------------------------------------- */

/* What foreign.h asks of a core. */
struct bht_core_target {
	struct bht_core *core;
	const struct bht_core_process *process;
	struct bht_images images;
	struct bht_foreign *foreign; /* NULL: not opened */
};

/*
 * Reads the symbols of what was mapped, of EXE (unless NULL) where a file of its name was, and finds what
 * adapters recognise. 0 or as bht_foreign_open(); bht_core_foreign_close() in any case.
 */
int bht_core_foreign_open(struct bht_core_target *t, const struct bht_core_maps *maps, const char *exe,
			  struct bht_refusal *refusal);
void bht_core_foreign_close(struct bht_core_target *t);

#endif
