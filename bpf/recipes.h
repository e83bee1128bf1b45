/* SPDX-License-Identifier: MIT */
/*
 * recipes.h - uprobes at functions of processes, each with a recipe (recipe.h)
 *
 * What the functions mean is for the caller to know: here are places in files, and
 * numbers. Not thread-safe.
 */
#ifndef BHB_RECIPES_H
#define BHB_RECIPES_H

#include "attach.h"
#include "recipe.h"

/* The function at OFFSET of the open file FD; what is remembered between entry and return is seen to. */
struct bhb_probe {
	int fd;
	uint64_t offset;
	bool at_return;
	char function[96]; /* as people call it; "": it is no news that it is never entered */
	struct bhb_recipe recipe;
};

/* A field of EVENT goes to SLOT of its record (record.h). */
void bhb_piece_slot(struct bhb_piece *piece, enum bhp_slot slot);

struct bhb_recipes;

/* The two programs of OBJECT, which is not loaded yet: chooses how they will be attached. NULL without memory. */
struct bhb_recipes *bhb_recipes_prepare(struct bpf_object *object);

/* Attaches them to process PID. 0, or -errno with a sentence in WHY and nothing attached: ENOSPC when there are
 * more than BHB_RECIPES_MAX, and what the kernel gives. */
int bhb_recipes_attach(struct bhb_recipes *r, uint32_t pid, const struct bhb_probe *probes, size_t n,
		       char why[BHB_WHY]);

/* CALLBACK of PID has its probes, or will have none. 0 or -errno. */
int bhb_recipes_know(struct bhb_recipes *r, uint32_t pid, uint64_t callback);

/* The process has exited, or executes another program. Waits until its probes are gone. */
void bhb_recipes_forget(struct bhb_recipes *r, uint32_t pid);
bool bhb_recipes_any(const struct bhb_recipes *r, uint32_t pid);

struct bhb_recipes_stats {
	unsigned files, links, probes, returns; /* the most that were attached at a time */
	uint64_t attach_ns;
	uint64_t hits_at_return; /* ever */
	/* Functions that were never entered while others of their file were, as "a, b": inlined, or never used. */
	char silent[BHB_WHY];
	char impossible[BHB_WHY]; /* functions that the kernel can put no probe at */
};
struct bhb_recipes_stats bhb_recipes_stats(const struct bhb_recipes *r);

void bhb_recipes_free(struct bhb_recipes *r);

#endif
