/* SPDX-License-Identifier: MIT */
/*
 * babeltrace_fields.h - from events of libbabeltrace2 to records
 *
 * Names are compared once for each event class, which makes a plan. For each event
 * there are only indices left: which member of it goes to which place of the record.
 */
#ifndef BHT_BABELTRACE_FIELDS_H
#define BHT_BABELTRACE_FIELDS_H

#include <babeltrace2/babeltrace.h>
#include <stdbool.h>

#include "event.h"

/* A member of a structure. */
struct bht_member {
	int32_t index; /* -1: there is none */
	bool is_signed;
};

struct bht_plan {
	const bt_event_class *class; /* with a reference: no other class gets its address */
	uint8_t id;                  /* 0: not an event of ours, or not one that we know */
	uint8_t n_steps;
	struct {
		struct bht_member from;
		uint8_t word, shift;
		uint64_t bits;
	} step[BHP_FIELDS_MAX];
	struct bht_member time, text;        /* in the payload */
	struct bht_member tid, pid, command; /* in the event context */
	char lacks[16];                      /* a field without which the event says nothing, or "" */
};

/* The plan for a class. NULL with errno ENOMEM. */
struct bht_plan *bht_plan_new(const bt_event_class *class);
void bht_plan_free(struct bht_plan *plan);

/* The record of an event, with time 0 when the plan has no time. */
void bht_plan_record(const struct bht_plan *plan, const bt_event *event, struct bhp_record *r);

/* The member NAME that is a text, or an integer. */
struct bht_member bht_member_find(const bt_field_class *structure, const char *name, bool text);

/* What a member that is there says; a text is cut to SIZE - 1 bytes. */
uint64_t bht_member_integer(const bt_field *structure, struct bht_member member);
void bht_member_text(const bt_field *structure, struct bht_member member, char *text, size_t size);

#endif
