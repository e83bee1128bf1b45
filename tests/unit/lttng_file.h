/* SPDX-License-Identifier: MIT */
/* lttng_file.h - traces as LTTng writes them, byte by byte; what cannot be written ends
 * the program */
#ifndef LTTNG_FILE_H
#define LTTNG_FILE_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* LTTng's clock at 0, in ns since the Epoch; the ticks at the same instant. */
static const uint64_t EPOCH = UINT64_C(1700000000000000000), START = UINT64_C(900000000000);
static const double TICKS_PER_NS = 2.5;

static char root[64]; /* where traces are written */

/* What differs between traces. */
struct kind {
	const char *name, *hostname;
	uint8_t boot;
	uint32_t env_pid; /* of a buffer of one process; 0: none */
	bool no_contexts;
	bool no_bh; /* schedule has none */
	uint64_t epoch_offset;
};

struct writer {
	const struct kind *kind;
	FILE *out;
	uint8_t packet[1 << 22];
	size_t n;
	uint64_t begin, end, discarded, seq;
};

static inline void need(bool ok)
{
	if (!ok)
		abort();
}

static inline void put(struct writer *w, const void *bytes, size_t n)
{
	need(w->n + n <= sizeof(w->packet));
	memcpy(w->packet + w->n, bytes, n);
	w->n += n;
}

#define PUT(w, type, value) put(w, &(type){ value }, sizeof(type))

static inline FILE *file(const char *dir, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", root, dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/%s/%s", root, dir, name);
	FILE *f = fopen(path, "w");
	need(f);
	return f;
}

static inline void event_class(FILE *m, unsigned id, const char *name, const char *fields)
{
	fprintf(m, "event { name = \"%s\"; id = %u; stream_id = 0; fields := struct { %s }; };\n", name, id, fields);
}

static inline void write_metadata(const struct kind *k)
{
	FILE *m = file(k->name, "metadata");

	fprintf(m,
		"/* CTF 1.8 */\n"
		"typealias integer { size = 8; align = 8; signed = false; } := u8;\n"
		"typealias integer { size = 32; align = 8; signed = false; } := u32;\n"
		"typealias integer { size = 32; align = 8; signed = true; } := i32;\n"
		"typealias integer { size = 64; align = 8; signed = false; } := u64;\n"
		"typealias integer { size = 64; align = 8; signed = true; } := i64;\n"
		"typealias integer { size = 8; align = 8; signed = true; encoding = UTF8; } := character;\n"
		"trace { major = 1; minor = 8; byte_order = le; uuid = \"00000000-0000-0000-0000-0000000000%02x\";\n"
		" packet.header := struct { u32 magic; u8 uuid[16]; u32 stream_id; }; };\n"
		"env { hostname = \"%s\"; domain = \"ust\"; tracer_name = \"lttng-ust\"; tracer_major = 2;\n"
		" tracer_minor = 13; tracer_patchlevel = 5;\n",
		(unsigned)k->name[0], k->hostname);
	if (k->env_pid)
		fprintf(m, " vpid = %u; procname = \"alone\";\n", k->env_pid);
	fprintf(m,
		"};\n"
		"clock { name = \"monotonic\"; uuid = \"%02x000000-0000-0000-0000-000000000000\"; freq = 1000000000;\n"
		" offset = %" PRIu64 "; };\n"
		"typealias integer { size = 64; align = 8; signed = false; map = clock.monotonic.value; } := stamp;\n"
		"stream { id = 0;\n"
		" packet.context := struct { stamp timestamp_begin; stamp timestamp_end; u64 content_size; u64 "
		"packet_size;\n"
		"  u64 packet_seq_num; u64 events_discarded; };\n"
		" event.header := struct { u32 id; stamp timestamp; };\n",
		k->boot, EPOCH + k->epoch_offset);
	if (!k->no_contexts)
		fprintf(m, " event.context := struct { i32 _vpid; i32 _vtid; character _procname[17]; };\n");
	fprintf(m, "};\n");
	event_class(m, 0, "bh:loop_new", "u64 _time; u64 _loop; i32 _notifier_fd; u8 _unknown[3]; string _name;");
	event_class(m, 1, "bh:schedule",
		    k->no_bh ? "u64 _time; u64 _loop; u8 _seen; u64 _ticket;"
			     : "u64 _time; u64 _loop; u64 _bh; u8 _seen; u64 _ticket;");
	event_class(m, 2, "bh:execute_end", "u64 _begin; u64 _bh; u64 _loop; u64 _time;");
	event_class(m, 3, "bh:wait_begin", "u64 _time; u64 _loop; i64 _timeout_ns;");
	event_class(m, 4, "other:schedule", "u64 _time; u64 _loop; u64 _bh;");
	event_class(m, 5, "bh:from_the_future", "u64 _time;");
	event_class(m, 6, "bh:bh_new", "u64 _time; u64 _loop; u64 _bh; u64 _callback; u8 _name[8];");
	fclose(m);
}

static inline struct writer *begin_stream(const struct kind *k, const char *name)
{
	struct writer *w = calloc(1, sizeof(*w));

	need(w);
	w->kind = k;
	w->out = file(k->name, name);
	return w;
}

static inline struct writer *begin(const struct kind *k)
{
	write_metadata(k);
	return begin_stream(k, "stream");
}

/* 4 + 16 + 4 + 6 * 8 */
enum { PACKET_HEADER = 72 };

static inline void end_packet(struct writer *w)
{
	static const uint8_t uuid[15];
	const size_t n = w->n;

	w->n = 0;
	PUT(w, uint32_t, 0xC1FC1FC1);
	put(w, uuid, 15);
	PUT(w, uint8_t, (uint8_t)w->kind->name[0]);
	PUT(w, uint32_t, 0);
	PUT(w, uint64_t, w->begin);
	PUT(w, uint64_t, w->end);
	PUT(w, uint64_t, n * 8);
	PUT(w, uint64_t, n * 8);
	PUT(w, uint64_t, w->seq++);
	PUT(w, uint64_t, w->discarded);
	need(w->n == PACKET_HEADER);
	need(fwrite(w->packet, 1, n, w->out) == n);
	w->n = 0;
}

static inline void end(struct writer *w)
{
	if (w->n)
		end_packet(w);
	fclose(w->out);
	free(w);
}

/* An event of thread TID of process PID, stamped at NS. */
static inline void event(struct writer *w, uint32_t id, uint64_t ns, uint32_t pid, uint32_t tid)
{
	static const char command[17] = "the command";
	static const char worker[17] = "worker";

	if (!w->n) {
		w->n = PACKET_HEADER;
		w->begin = ns;
	}
	w->end = ns;
	PUT(w, uint32_t, id);
	PUT(w, uint64_t, ns);
	if (w->kind->no_contexts)
		return;
	PUT(w, uint32_t, pid);
	PUT(w, uint32_t, tid);
	put(w, pid == tid ? command : worker, 17);
}

/* NS since the trace began, on LTTng's clock and in ticks. */
static inline uint64_t ticks(uint64_t ns)
{
	return START + (uint64_t)((double)ns * TICKS_PER_NS);
}

static inline void schedule(struct writer *w, uint64_t stamp, uint64_t time, uint32_t pid, uint32_t tid,
			    uint64_t ticket)
{
	event(w, 1, stamp, pid, tid);
	PUT(w, uint64_t, time);
	PUT(w, uint64_t, 0x1000);
	if (!w->kind->no_bh)
		PUT(w, uint64_t, 0x2000);
	PUT(w, uint8_t, 1);
	PUT(w, uint64_t, ticket);
}

#endif
