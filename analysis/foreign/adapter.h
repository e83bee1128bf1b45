/* SPDX-License-Identifier: MIT */
/*
 * adapter.h - what is to be known of a loop that was never instrumented
 *
 * One small text file a loop (probes/adapters/NAME.adapter): how it is recognised, what
 * its structures hold and where, which functions mean schedule, notify, execute and
 * wait. Everything in analysis/ and bpf/ works from this; nothing else there knows
 * libuv or QEMU by name. The files of this project are part of the program; users add
 * their own with --adapter FILE. Their language is described in docs/adapters.md.
 */
#ifndef BHT_ADAPTER_H
#define BHT_ADAPTER_H

#include "registry.h"

enum {
	BHT_ADAPTER_NEEDS_MAX = 16,
	BHT_ADAPTER_WAYS_MAX = 6,
	BHT_ADAPTER_STEPS_MAX = 4,
	BHT_ADAPTER_FLAGS_MAX = 8,
	BHT_ADAPTER_ROOTS_MAX = 4,
	BHT_ADAPTER_EVENTS_MAX = 32,
	BHT_ADAPTER_ARGS_MAX = 6,
	BHT_ADAPTER_REMARKS_MAX = 8,
	BHT_ADAPTER_FILE_MAX = 256 * 1024 /* bytes; longer files are refused */
};

/* --- where a member of a structure is ------------------------------------------------ */

/*
 * What the machine code of an exported function does with memory, in the order of its
 * shortest path from entry: "the 4-byte load from the first argument", "the exchange
 * with it". BASE + offset is the address; the offset is what is looked for.
 */
enum bht_code_op {
	BHT_CODE_LOAD,
	BHT_CODE_STORE,
	BHT_CODE_SWAP, /* xchg, cmpxchg, lock or/and/add */
	BHT_CODE_LEA   /* an address that is computed, or what is added to it */
};
enum bht_code_base {
	BHT_BASE_ARG1,
	BHT_BASE_ARG2,
	BHT_BASE_ARG3,
	BHT_BASE_ARG4,
	BHT_BASE_RET,   /* what the function it called first gave back: an allocation */
	BHT_BASE_GLOBAL /* of the module: the address of a variable itself is looked for */
};

struct bht_code_pattern {
	char function[96];
	enum bht_code_op op;
	enum bht_code_base base;
	unsigned size; /* bytes, 0: any; no meaning for LEA */
	unsigned nth;  /* 1: the first that matches */
	/* What is stored, when that is said: a constant, or an argument (1...6). */
	bool has_value;
	uint64_t value;
	unsigned value_arg;
};

enum bht_way_kind { BHT_WAY_DWARF, BHT_WAY_BUILD_ID, BHT_WAY_CODE, BHT_WAY_FIXED };

struct bht_way {
	enum bht_way_kind kind;
	unsigned line; /* of the adapter's file */
	union {
		struct {
			char type[64], member[96]; /* "AioContext" "notifier.rfd" */
		} dwarf;
		struct {
			char build_id[41]; /* hexadecimal, or a prefix of 8 digits and more */
			uint64_t offset;
		} build_id;
		struct bht_code_pattern code;
		uint64_t fixed; /* of a published structure whose layout is part of the ABI */
	};
	int64_t plus; /* added to what it leads to: a neighbour was found */
};

/* An offset; the first way that leads to one is taken. All that do must agree. */
struct bht_step {
	struct bht_way way[BHT_ADAPTER_WAYS_MAX];
	unsigned n;
};

/* A member, perhaps behind pointers: between two steps the 8 bytes there are followed. */
struct bht_path {
	struct bht_step step[BHT_ADAPTER_STEPS_MAX];
	unsigned n;    /* 0: this loop has no such member */
	unsigned size; /* 1, 2, 4, 8 bytes */
	bool is_signed;
	unsigned line;
};

/* Members of a loop and of a bottom half: the vocabulary, one list (members.def.h). */
enum bht_member {
#define BHT_MEMBER(of, name, doc) BHT_##of##_##name,
#include "members.def.h"
	BHT_MEMBERS
};

const char *bht_member_name(enum bht_member member); /* "loop.poll_fd" */

/* How a loop lists its bottom halves. */
enum bht_list {
	BHT_LIST_NONE,
	BHT_LIST_CIRCULAR, /* loop.bhs is the head {next, prev}, bh.link the same in a bottom half */
	BHT_LIST_CHAIN,    /* loop.bhs points at the first, bh.link at the next, 0 ends it */
	BHT_LIST_CHAINS,   /* loop.bhs points at nodes {data, next}; data at a pointer to the first of a chain */
	BHT_LIST_QUEUES    /* loop.bhs points at loop.n_queues pairs {first, last}, each a chain */
};

/* --- what functions mean ----------------------------------------------------------------- */

/* A field of an event: an argument, the value given back, a constant, or a member reached from
 * one of the first two. */
struct bht_probe_arg {
	char field[16]; /* of the event, as events.def.h calls it; or "timeout_ms" */
	bool constant;
	uint64_t value; /* when it is */
	unsigned arg;   /* 1...6; 0: the value given back */
	bool has_member;
	enum bht_member member; /* of the loop or bottom half that the argument is */
};

struct bht_probe {
	enum bhp_id event;
	char function[96]; /* "callback": the functions that bottom halves run */
	bool at_return;
	struct bht_probe_arg arg[BHT_ADAPTER_ARGS_MAX];
	unsigned n_args;
	unsigned line;
};

/* --- an adapter ---------------------------------------------------------------------------- */

enum bht_when { BHT_WHEN_NEVER, BHT_WHEN_EFFECTIVE, BHT_WHEN_ASKED, BHT_WHEN_ALWAYS };

struct bht_adapter {
	char name[32];   /* "libuv" */
	char title[96];  /* "libuv (uv_async_t)" */
	char source[96]; /* the file it came from, or "built in" */
	char needs[BHT_ADAPTER_NEEDS_MAX][96];
	unsigned n_needs; /* functions that one module must define */

	struct bht_path member[BHT_MEMBERS];
	enum bht_list list;
	bool lists_pending_only; /* the list has scheduled ones alone: others are not seen */

	struct {
		uint64_t mask;
		uint32_t flag;         /* enum bhp_flag: set when any bit of the mask is set, */
		bool inverted;         /* or when none is */
	} flag[BHT_ADAPTER_FLAGS_MAX]; /* bits of bh.flag */
	unsigned n_flags;
	uint64_t flag_known; /* bits that bh.flag may have at all */

	/* Global variables: of pointers to loops, or (LEA) loops themselves. */
	struct bht_way root[BHT_ADAPTER_ROOTS_MAX];
	unsigned n_roots;

	bool coalesces;         /* a schedule that sees the flag set does nothing: flag-race is possible */
	bool full_barrier;      /* flag seen and flag cleared by exchanges with a full barrier */
	enum bht_when notifies; /* effective: when the flag was clear; asked: when loop.notify_me is set */

	struct bht_probe probe[BHT_ADAPTER_EVENTS_MAX];
	unsigned n_probes;

	/* What a report says in addition: of one rule, or of all ("*"). */
	struct {
		char rule[32];
		char text[400];
	} remark[BHT_ADAPTER_REMARKS_MAX];
	unsigned n_remarks;
};

/*
 * Parses TEXT of LEN bytes (zero bytes and all: it is not trusted), which is called NAME.
 * 0, or -EINVAL with the refusal "NAME: line N: reason", -E2BIG. Thread-safe.
 */
int bht_adapter_parse(struct bht_adapter *a, const char *name, const char *text, size_t len,
		      struct bht_refusal *refusal);

/* The same of a regular file; also what opening it gives: -ENOENT, -EACCES, -EISDIR... */
int bht_adapter_load(struct bht_adapter *a, const char *path, struct bht_refusal *refusal);

/*
 * Those of this project and, before them, those added with bht_adapter_add() (kept until the end of
 * the program; not thread-safe). *N; the array is the library's.
 */
const struct bht_adapter *const *bht_adapters(unsigned *n);
int bht_adapter_add(const struct bht_adapter *a); /* copies it; -E2BIG after 16 */

#endif
