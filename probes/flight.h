/* SPDX-License-Identifier: MIT */
/*
 * flight.h - the flight recorder: one ring a thread, read from outside
 *
 * The owner writes with plain stores: no locked instruction, no system call
 * after its first event, nothing that drains the store buffer, because that
 * would cure the very races that are to be recorded.
 *
 * Two counters delimit what a reader may trust. `reserved` is raised before a
 * record's words are written, `head` after. A reader copies [.., head), then
 * reads `reserved` again: what lies below reserved - capacity may have been
 * overwritten while it copied, and is loss.
 *
 * A signal handler may interrupt the owner in the middle of a record. It takes
 * the next slots and leaves publishing to the record it interrupted.
 */
#ifndef BHP_FLIGHT_H
#define BHP_FLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "objects.h"
#include "record.h"
#include "schema.h"

enum { BHP_RING_HEADER = 4096, BHP_RING_DEFAULT = 64 * 1024, BHP_RING_MIN = 4096 };
#define BHP_RING_MAX (UINT64_C(2) << 30)

#define BHP_ROOT_MAGIC    "BHTRACE"
#define BHP_RING_MAGIC    "BHRING1"
#define BHP_OBJECTS_MAGIC "BHOBJS1"
#define BHP_PROCESS_MAGIC "BHPROC1"

/* The ELF note that leads to the root, also in a stripped binary: its
 * descriptor is the 8-byte distance from itself to bhp_flight_root. */
#define BHP_NOTE_NAME "bhtrace"
enum { BHP_NOTE_ROOT = 1 };

enum bhp_ring_state { BHP_RING_LIVE = 1, BHP_RING_EXITED = 2 };
enum bhp_flight_mode { BHP_FLIGHT_UNSET = 0, BHP_FLIGHT_OFF, BHP_FLIGHT_MEMORY, BHP_FLIGHT_FILE };

/* The same instant on both clocks; ticks of bhp_clock(), CLOCK_MONOTONIC ns. */
struct bhp_clock_pair {
	uint64_t ticks;
	uint64_t mono_ns;
};

/* Starts a mapping of BHP_RING_HEADER bytes; the records follow. In a ring
 * file the rest of the header holds the field table. */
struct bhp_ring {
	char magic[8];
	uint32_t abi;
	uint32_t record_size;
	uint64_t capacity; /* records, a power of two */
	uint32_t pid;      /* getpid() and gettid() in the process's own namespace */
	uint32_t n_fields;
	_Atomic uint32_t tid;
	_Atomic uint32_t state; /* enum bhp_ring_state */
	struct bhp_clock_pair clock[2];
	struct bhp_ring *_Atomic next;
	struct bhp_ring *next_exited; /* private: rings that wait for a new thread */
	_Atomic uint64_t mark;        /* 1 + index of the mark of the thread TID, 0 when not known */

	_Alignas(BHP_CACHE_LINE) _Atomic uint64_t reserved; /* records begun */
	_Atomic uint64_t head;                              /* records complete */
	bool busy;                                          /* private: a record is being written */
	_Alignas(BHP_CACHE_LINE) struct bhp_field_info fields[];
};

struct bhp_root {
	char magic[8];
	uint32_t abi;
	uint32_t size; /* sizeof(struct bhp_root) */
	uint32_t record_size;
	uint32_t ring_header;
	_Atomic uint32_t pid;
	_Atomic uint32_t mode; /* enum bhp_flight_mode */
	const struct bhp_field_info *fields;
	uint32_t n_fields;
	uint32_t n_rings;
	struct bhp_ring *_Atomic rings;
	struct bhp_pool *_Atomic pools;
	_Atomic uint64_t dropped;       /* events that found no ring */
	struct bhp_clock_pair clock[2]; /* at start-up and when the last ring was taken */
};

extern struct bhp_root bhp_flight_root;

/*
 * BH_FLIGHT=file:DIR. What a reader needs once the process was killed: its rings,
 * its pools and, so that nothing is missing unnoticed, a page that counts them.
 *
 *   DIR/bh-PID-START.process     struct bhp_process_file
 *   DIR/bh-PID-START-N.flight    struct bhp_ring, records
 *   DIR/bh-PID-START-N.objects   struct bhp_objects_file, the chunk
 *
 * START is bhp_flight_root.clock[0].mono_ns in hexadecimal. Each begins with
 * BHP_RING_HEADER bytes of header. What had to be kept in memory (a full disk)
 * is counted too. Magic numbers are written last.
 */
struct bhp_process_file {
	char magic[8];
	uint32_t abi;
	uint32_t pid;
	uint64_t started;          /* start time of the process, field 22 of /proc/PID/stat; 0 when not known */
	_Atomic uint32_t n_rings;  /* made so far */
	_Atomic uint32_t n_chunks; /* made so far */
	_Atomic uint64_t dropped;  /* as in struct bhp_root */
	struct bhp_clock_pair clock[2];
	char command[16];
};

struct bhp_objects_file {
	char magic[8];
	uint32_t abi;
	uint32_t pid;
	uint32_t kind; /* enum bhp_pool_kind */
	uint32_t stride;
	uint32_t count;
	uint32_t reserved;
	uint64_t chunk; /* where the process had it */
};

#define BHP_HIDDEN __attribute__((visibility("hidden")))

/* initial-exec: one instruction, and no allocation behind __tls_get_addr,
 * which a signal handler could not afford. */
extern BHP_HIDDEN __thread struct bhp_ring *bhp_tls_ring __attribute__((tls_model("initial-exec")));

/* A ring for the calling thread, whose first event happened at NOW. NULL when the
 * recorder is off or there is no memory (counted in bhp_flight_root.dropped). */
BHP_HIDDEN struct bhp_ring *bhp_ring_get(uint64_t now);

/* The clock of all time stamps, in ticks. Not ordered against memory accesses:
 * it must not be, see above. */
static inline uint64_t bhp_clock(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
	uint64_t t;
	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
	return t;
#else
#error "no cheap unordered clock known for this architecture"
#endif
}

/* Adds N to *P in one instruction as far as this thread's own signal handlers
 * can tell; no other thread writes *P. */
static inline uint64_t bhp_signal_add(_Atomic uint64_t *p, uint64_t n)
{
#if defined(__x86_64__)
	__asm__ volatile("xaddq %0, %1" : "+r"(n), "+m"(*p) : : "cc", "memory");
	return n;
#else
	return atomic_fetch_add_explicit(p, n, memory_order_relaxed);
#endif
}

static inline struct bhp_record *bhp_ring_slot(struct bhp_ring *ring, uint64_t index)
{
	struct bhp_record *records = (struct bhp_record *)((char *)ring + BHP_RING_HEADER);
	return &records[index & (ring->capacity - 1)];
}

static inline void bhp_ring_text(struct bhp_ring *ring, uint64_t index, unsigned n, const char *text, size_t len)
{
	for (unsigned k = 0; k < n; k++) {
		struct bhp_record t = { { 0, BHP_ID_TEXT, 0, 0 } };
		size_t part = len < BHP_TEXT_PER_RECORD ? len : BHP_TEXT_PER_RECORD;

		/* words 0, 2 and 3 carry text, word 1 says so */
		memcpy(&t.word[0], text, part < 8 ? part : 8);
		if (part > 8)
			memcpy(&t.word[2], text + 8, part - 8);
		t.word[1] |= (uint64_t)part << 8;
		*bhp_ring_slot(ring, index + k) = t;
		text += part;
		len -= part;
	}
}

/* Raises head over all that is written and ends being busy. */
static inline uint64_t bhp_ring_publish(struct bhp_ring *ring)
{
	/* Pairs with the reader's first read of head: the records below it,
	 * those of interrupting signal handlers included, are complete. */
	uint64_t end = atomic_load_explicit(&ring->reserved, memory_order_relaxed);

	atomic_store_explicit(&ring->head, end, memory_order_release);
	atomic_signal_fence(memory_order_seq_cst);
	ring->busy = false;
	atomic_signal_fence(memory_order_seq_cst);
	return end;
}

/* Writes one event to a ring of the calling thread. TEXT may be NULL. */
static inline __attribute__((always_inline)) void bhp_ring_write(struct bhp_ring *ring, struct bhp_record r,
								 const char *text)
{
	unsigned more = 0;
	size_t len = 0;

	if (text) {
		while (len < BHP_TEXT_MAX && text[len])
			len++;
		more = (unsigned)((len + BHP_TEXT_PER_RECORD - 1) / BHP_TEXT_PER_RECORD);
	}
	bool nested = ring->busy;
	ring->busy = true;
	atomic_signal_fence(memory_order_seq_cst);
	uint64_t i = bhp_signal_add(&ring->reserved, 1 + more);
	/* Pairs with the acquire fence between the two reads of a reader:
	 * whoever sees a word of this record also sees it reserved. */
	atomic_thread_fence(memory_order_release);
	*bhp_ring_slot(ring, i) = r;
	if (more)
		bhp_ring_text(ring, i + 1, more, text, len);
	if (nested)
		return;
	uint64_t end = bhp_ring_publish(ring);
	/* A handler that came while busy was still set did not publish. Busy
	 * again before a second look: a handler that publishes by itself in
	 * between must not have its head overwritten by an older one. */
	while (__builtin_expect(end != atomic_load_explicit(&ring->reserved, memory_order_relaxed), 0)) {
		ring->busy = true;
		atomic_signal_fence(memory_order_seq_cst);
		end = bhp_ring_publish(ring);
	}
}

/* Writes one event of the calling thread. Async-signal-safe once the thread
 * has a ring. TEXT may be NULL. */
static inline __attribute__((always_inline)) void bhp_flight_write(struct bhp_record r, const char *text)
{
	struct bhp_ring *ring = bhp_tls_ring;

	if (__builtin_expect(!ring, 0)) {
		ring = bhp_ring_get(bhp_record_time(&r));
		if (!ring)
			return;
	}
	bhp_ring_write(ring, r, text);
}

#endif
