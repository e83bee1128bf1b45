/* SPDX-License-Identifier: MIT */
/* foreign_parts.h - what the files that read foreign loops share */
#ifndef BHT_FOREIGN_PARTS_H
#define BHT_FOREIGN_PARTS_H

#include "foreign.h"

enum {
	BHT_FOREIGN_LOOPS_MAX = 1024,
	BHT_FOREIGN_BHS_MAX = 100000, /* of one loop */
	BHT_FOREIGN_SIZE_MAX = 16384, /* bytes of a loop or a bottom half that matter */
	BHT_FOREIGN_FDS = 65536,
	BHT_FRAMES_MAX = 512
};

/* A function of a module that turns its loops: a return address in it means that one is being turned. */
struct bht_function {
	uint64_t addr, size;
	bool executes; /* what it calls is the callback of a bottom half */
};

/* An adapter that fits a module of the target. */
struct bht_scheme {
	struct bht_layout layout;
	size_t loop_size, bh_size; /* up to the end of the last member */
	struct bht_function run[BHT_ADAPTER_EVENTS_MAX];
	unsigned n_run;
};

/* A loop that was found; it is looked at again in each sample. */
struct bht_known {
	const struct bht_scheme *scheme;
	uint64_t addr;
	uint32_t owner; /* the thread that was seen to turn it last, 0 for none */
	int points;     /* what speaks for it, see bht_foreign_check(); */
	unsigned words; /* and how many words on stacks point at it */
	int32_t notifier_fd, poll_fd;
};

/* What a sleeping thread waits for. */
struct bht_sleep {
	uint32_t tid;
	int32_t fd;
	bool epoll;         /* FD is the set; otherwise it is one of a poll(2) array */
	int64_t timeout_ns; /* -1 for ever */
};

/* The live part of a thread's stack, as far as it is read: the innermost frames and the outermost. */
struct bht_stack {
	const struct bht_thread *thread;
	enum bht_stack_known known;
	struct bht_registers registers;
	struct bht_words {
		uint64_t addr;
		uint64_t *word;
		size_t n;
	} part[2]; /* by address */
};

/* What a module has for exceptions. */
struct bht_tables {
	struct bht_image *image;
	struct Elf *elf;
	struct Dwarf_CFI_s *cfi; /* NULL: there is none */
	/* Where functions begin, sorted: pairs of the distance from BASE and another one. */
	const unsigned char *index;
	size_t n_index;
	uint64_t base;
};

struct bht_foreign {
	struct bht_foreign_target target;
	struct bht_layout *layouts;
	struct bht_scheme *schemes;
	unsigned n_schemes;
	struct bht_known known[BHT_FOREIGN_LOOPS_MAX];
	size_t n_known;
	char (*skipped)[400]; /* modules that are recognised and not placed, and why */
	unsigned n_skipped;
	struct bht_tables *tables; /* of the modules that were asked for */
	size_t n_tables;

	/* Of the sample that is being taken. */
	struct bht_sample *sample;
	struct bht_evidence *ev;
	struct bht_stack *stacks;
	size_t n_stacks;
	struct bht_sleep *sleeps;
	size_t n_sleeps;
	signed char kind[BHT_FOREIGN_FDS]; /* what descriptors are, 1: not asked yet */
	bool too_many;
};

/* --- foreign_check.c: members, and what a loop must be like --------------------------- */

static inline bool bht_has(const struct bht_scheme *s, enum bht_member member)
{
	return s->layout.place[member].n != 0;
}

/* The address of MEMBER of the object at ADDR, and its value. OBJECT is a copy of that, or NULL. 0 or -errno. */
int bht_member_addr(struct bht_foreign *f, const struct bht_scheme *s, enum bht_member member, uint64_t addr,
		    const unsigned char *object, uint64_t *at);
int bht_member_value(struct bht_foreign *f, const struct bht_scheme *s, enum bht_member member, uint64_t addr,
		     const unsigned char *object, uint64_t *value);

int bht_descriptor(struct bht_foreign *f, int64_t fd);

/*
 * Whether there is a loop of scheme S at ADDR. LOOP is filled in as far as its own memory tells. *POINTS:
 * how many things speak for it that a number found by chance would not have. 0, -EBADMSG for none, -EAGAIN when its list was
 * damaged or changed, or what reading said.
 */
int bht_foreign_check(struct bht_foreign *f, const struct bht_scheme *s, uint64_t addr, struct bht_loop *loop,
		      int *points);

/* --- foreign_walk.c ----------------------------------------------------------------------- */

/*
 * Appends the bottom halves of LOOP to F->sample, or with PROBE looks at the first few only and appends
 * nothing. *N: how many had what a number found by chance would not have. 0, -EAGAIN, -E2BIG or what reading said; then nothing was appended.
 */
int bht_foreign_walk(struct bht_foreign *f, const struct bht_scheme *s, const struct bht_loop *loop, bool probe,
		     size_t *n);

/*
 * A loop may take all bottom halves of a circular list to one on its stack before it runs them: appends those of
 * LOOP that hang there, in WORDS. 0, or what reading said.
 */
int bht_foreign_walk_stack(struct bht_foreign *f, const struct bht_scheme *s, const struct bht_loop *loop,
			   const struct bht_words *words);

/* --- foreign_find.c ----------------------------------------------------------------------- */

/* Copies the stacks of all threads; frees them. 0 or -ENOMEM. */
int bht_foreign_stacks(struct bht_foreign *f);
void bht_foreign_forget(struct bht_foreign *f);

/* Adds loops that were not known yet to F->known. 0 or -errno. */
int bht_foreign_find(struct bht_foreign *f);

/* --- foreign_unwind.c ------------------------------------------------------------------------ */

/* The program counter and the return addresses of a thread with REGISTERS, innermost first. *WHOLE: the last one is where it
 * began; otherwise others may follow. */
size_t bht_foreign_unwind(struct bht_foreign *f, const struct bht_registers *registers, uint64_t pc[BHT_FRAMES_MAX],
			  bool *whole);

/* Where the function that ADDR is in begins, by the same tables or by symbols; 0 when neither tells. */
uint64_t bht_foreign_function(struct bht_foreign *f, uint64_t addr);
void bht_foreign_tables_free(struct bht_foreign *f);

/* --- foreign_owner.c ---------------------------------------------------------------------- */

/* What the threads sleep in. 0 or -ENOMEM. */
int bht_foreign_sleeps(struct bht_foreign *f);
const struct bht_sleep *bht_foreign_sleeper(const struct bht_foreign *f, const struct bht_loop *loop);

/* Who turns LOOP, and where that thread is. The bottom halves of LOOP are in the sample; those that its turn has taken
 * from its list are added. 0 or -errno. */
int bht_foreign_owner(struct bht_foreign *f, struct bht_known *known, struct bht_loop *loop);

#endif
