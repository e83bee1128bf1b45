/* SPDX-License-Identifier: MIT */
/*
 * decode.h - from the records of one ring to events
 *
 * A decoder is a source. It works on a window of records, which may be all of
 * a copied ring or the part of a file that was read last.
 */
#ifndef BHT_DECODE_H
#define BHT_DECODE_H

#include "event.h"
#include "fields.h"
#include "registry.h"

/* What the rings of one root have in common. */
struct bht_decoding {
	struct bht_fields fields;
	bool plain[256]; /* events that are taken as they are, by number */
	/* Where recordings have the text of an event: bytes from its beginning, text
	 * after its last field. 0: in records of its own, as in a ring. */
	uint8_t text_at[256];
	uint64_t now; /* the target's clock; a record that is much later is damaged */
};

/* NOW is the target's clock, UINT64_MAX when it is not known; TABLE is not kept. */
void bht_decoding_init(struct bht_decoding *how, const struct bhp_field_info *table, uint32_t n, uint64_t now);

struct bht_decoder {
	struct bht_source base; /* first: it is one */
	const struct bht_decoding *how;
	const struct bhp_record *records; /* the window */
	uint64_t at, n;                   /* in it */
	/*
	 * Makes record AT the first of the window and adds others behind it, or
	 * drops what is left and tells of it in lost and why. False at the end of
	 * the ring. NULL when the window is all.
	 */
	bool (*refill)(struct bht_decoder *d);
	bht_tid_map map; /* NULL: a mark does not change the writer */
	void *arg;
	uint32_t tid;          /* writer of record AT, in the observer's namespace */
	uint64_t lost;         /* to be told before the next event */
	enum bht_loss_why why; /* 0: nothing is to be told */
	char text[BHP_TEXT_MAX + 1];
};

/* The source's next(). */
int bht_decoder_next(struct bht_source *source, struct bht_event *e, unsigned max);

/* Passes over text at the start of the window: its event was lost. */
void bht_decoder_skip_text(struct bht_decoder *d);

/* Looks for a mark among N records: true with the thread that wrote before it,
 * in the target's namespace. */
bool bht_find_mark(const struct bht_decoding *how, const struct bhp_record *records, uint64_t n, uint32_t *before);

/* A source of one loss event of all threads; NULL with errno ENOMEM. */
struct bht_source *bht_loss_source(uint64_t time, enum bht_loss_why why, uint64_t count);

#endif
