/* SPDX-License-Identifier: MIT */
/* packet.h - what writing and reading recordings share: packets and metadata */
#ifndef BHT_CTF_PACKET_H
#define BHT_CTF_PACKET_H

#include <stdio.h>

#include "ctf.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the bits of a record are described for little-endian machines"
#endif

enum {
	BHT_CTF_MAGIC = (int)0xC1FC1FC1, /* of the format */
	BHT_CTF_METADATA_MAX = 64 * 1024,
	BHT_CTF_NAME = 24 /* of a stream's file */
};

/* Begins a packet; metadata.c describes it. */
struct bht_ctf_packet {
	struct bht_ctf_key { /* the same in all packets of a stream */
		int32_t magic;
		uint8_t uuid[16];
		uint32_t stream_id;
		uint64_t stream_instance_id;
	} key;
	uint64_t timestamp_begin; /* of the first event, or of the loss before it */
	uint64_t timestamp_end;
	uint64_t content_size, packet_size; /* bits */
	uint64_t events_before;             /* in the stream */
	uint64_t events_discarded;          /* in the stream up to here; 1 for a loss that is not counted */
	uint64_t checksum;                  /* of the packet, itself 0 */
	uint32_t tid;
	uint16_t events;
	uint8_t loss;  /* before the first event: enum bht_loss_why; BHT_CTF_COUNTED: it is counted */
	uint8_t ended; /* the stream was closed: nothing follows */
};

/* A write that SIGKILL cuts short ends between two pages. So no packet crosses into another one: the file
 * has whole packets at any moment. */
enum { BHT_CTF_PAGE = 4096 };

enum { BHT_CTF_COUNTED = 0x10, BHT_CTF_HEADER = sizeof(struct bht_ctf_packet) / sizeof(struct bhp_record) };

_Static_assert(sizeof(struct bht_ctf_key) == sizeof(struct bhp_record), "the key of a packet has a gap");
_Static_assert(sizeof(struct bht_ctf_packet) == 3 * sizeof(struct bhp_record), "a packet does not begin with records");

/*
 * Four sums side by side, one a word. Each step can be undone, so one changed
 * word always changes its sum, and the multiplications do not wait for each other.
 */
struct bht_ctf_sum {
	uint64_t lane[4];
};

static inline uint64_t bht_ctf_mix(uint64_t sum, uint64_t word)
{
	const uint64_t x = sum ^ word;

	return (x << 29 | x >> 35) * UINT64_C(0x9e3779b97f4a7c15);
}

static inline void bht_ctf_sum(struct bht_ctf_sum *sum, const struct bhp_record *r, size_t n)
{
	struct bht_ctf_sum s = *sum;

	for (size_t i = 0; i < n; i++)
		for (unsigned k = 0; k < 4; k++)
			s.lane[k] = bht_ctf_mix(s.lane[k], r[i].word[k]);
	*sum = s;
}

/* Of the header alone. */
static inline struct bht_ctf_sum bht_ctf_sum_begin(const struct bht_ctf_packet *p)
{
	struct bht_ctf_sum sum = { { 0 } };
	struct bhp_record r[BHT_CTF_HEADER];
	struct bht_ctf_packet copy = *p;

	copy.checksum = 0;
	memcpy(r, &copy, sizeof(r));
	bht_ctf_sum(&sum, r, BHT_CTF_HEADER);
	return sum;
}

static inline uint64_t bht_ctf_sum_end(const struct bht_ctf_sum *sum)
{
	uint64_t all = 0;

	for (unsigned k = 0; k < 4; k++)
		all = bht_ctf_mix(all, sum->lane[k]);
	return all;
}

/* "stream-N". */
static inline void bht_ctf_stream_name(char name[BHT_CTF_NAME], uint32_t number)
{
	snprintf(name, BHT_CTF_NAME, "stream-%u", number);
}

/* --- metadata -------------------------------------------------------------------- */

struct bht_ctf_metadata {
	struct bht_ctf_about about;
	uint8_t uuid[16];
	char machine[65];
	struct bhp_field_info field[BHP_FIELD_INFO_MAX]; /* those of an event by their place in the record */
	uint32_t n_fields;
	uint32_t n_events; /* as it says, so that one is noticed that is cut between two; 0: it does not */
};

/* Where events end and have their text, by number. */
struct bht_ctf_layout {
	uint16_t bits[256];   /* from its beginning; 0: there is no such event */
	uint8_t text_at[256]; /* bytes from its beginning; 0: it has none */
};

static inline unsigned bht_ctf_records(unsigned bits)
{
	return (bits + 255) / 256;
}

/* The schema of this build, by place. */
void bht_ctf_schema(struct bht_ctf_metadata *m);

/* Whether the fields of M can lie in a record so. */
bool bht_ctf_layout(const struct bht_ctf_metadata *m, struct bht_ctf_layout *layout);

void bht_ctf_metadata_print(FILE *out, const struct bht_ctf_metadata *m);

/*
 * Reads TEXT, LEN bytes and a NUL behind them: exactly what
 * bht_ctf_metadata_print() writes of M. PATH names the file. 0 or -errno.
 */
int bht_ctf_metadata_parse(const char *text, size_t len, const char *path, struct bht_ctf_metadata *m,
			   struct bht_refusal *refusal);

#endif
