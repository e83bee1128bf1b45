/* SPDX-License-Identifier: MIT */
/* foreign_inside.h - what foreign_probes.c and foreign_events.c know of a process */
#ifndef BHTRACE_FOREIGN_INSIDE_H
#define BHTRACE_FOREIGN_INSIDE_H

#include "foreign_probes.h"
#include "foreign_set.h"
#include "layout.h"
#include "process.h"

enum { MODULES_MAX = 8, WANTED_MAX = 64 };

struct module {
	struct bht_layout layout;
	char path[256];
};

struct one {
	struct one *next;
	uint32_t pid;
	struct bht_process process;
	bool open;
	struct bht_images images;
	struct module module[MODULES_MAX];
	unsigned n_modules;
	struct set bhs, callbacks;
	struct set loops, named; /* of which the descriptors are known; of which a bh_new was passed on */
	struct foreign_calls *calls;
	uint64_t wanted[WANTED_MAX]; /* callbacks */
	unsigned n_wanted;
	bool late;     /* one of them runs already, perhaps */
	uint64_t maps; /* what it executed at the last look, as a sum; 0: there was none */
};

struct foreign {
	struct foreign_ops ops;
	void *arg;
	struct foreign_sink sink;
	struct one *first;
	char modules[600];
};

struct one *foreign_find(const struct foreign *f, uint32_t pid);

/* The value at PLACE, from OBJECT: followed in the memory of the process. */
bool foreign_read(struct one *p, const struct bht_place *place, uint64_t object, uint64_t *v);

/* A loop is there: its descriptors are read. */
void foreign_met_loop(struct foreign *f, struct one *p, uint64_t addr);

#endif
