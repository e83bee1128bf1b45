/* SPDX-License-Identifier: MIT */
#include "babeltrace_fields.h"

#include <stdlib.h>
#include <string.h>

#include "schema.h"

static const char prefix[] = "bh:";

static const struct {
	uint8_t word, shift;
	uint64_t bits;
} slots[] = {
#define SLOT(name, w, s, width) [BHP_SLOT_##name] = { w, s, BHP_BITS(width) },
	BHP_SLOT_LIST(SLOT)
#undef SLOT
};

/* --- members -------------------------------------------------------------------- */

static bool is_integer(const bt_field_class *class)
{
	const bt_field_class_type type = bt_field_class_get_type(class);

	return bt_field_class_type_is(type, BT_FIELD_CLASS_TYPE_INTEGER);
}

/* A string, or an array of characters. */
static bool is_text(const bt_field_class *class)
{
	const bt_field_class_type type = bt_field_class_get_type(class);
	const bt_field_class *element;

	if (type == BT_FIELD_CLASS_TYPE_STRING)
		return true;
	if (!bt_field_class_type_is(type, BT_FIELD_CLASS_TYPE_ARRAY))
		return false;
	element = bt_field_class_array_borrow_element_field_class_const(class);
	return is_integer(element) && bt_field_class_integer_get_field_value_range(element) <= 8;
}

struct bht_member bht_member_find(const bt_field_class *structure, const char *name, bool text)
{
	const bt_field_class_structure_member *member =
		structure ? bt_field_class_structure_borrow_member_by_name_const(structure, name) : NULL;
	const bt_field_class *class = member ? bt_field_class_structure_member_borrow_field_class_const(member) : NULL;
	int32_t index = 0;

	if (!class || !(text ? is_text(class) : is_integer(class)))
		return (struct bht_member){ .index = -1 };
	while (bt_field_class_structure_borrow_member_by_index_const(structure, (uint64_t)index) != member)
		index++;
	return (struct bht_member){ index, bt_field_class_type_is(bt_field_class_get_type(class),
								  BT_FIELD_CLASS_TYPE_SIGNED_INTEGER) };
}

uint64_t bht_member_integer(const bt_field *structure, struct bht_member member)
{
	const bt_field *field =
		bt_field_structure_borrow_member_field_by_index_const(structure, (uint64_t)member.index);

	return member.is_signed ? (uint64_t)bt_field_integer_signed_get_value(field)
				: bt_field_integer_unsigned_get_value(field);
}

static char character(const bt_field *array, uint64_t i)
{
	const bt_field *c = bt_field_array_borrow_element_field_by_index_const(array, i);

	if (bt_field_class_type_is(bt_field_get_class_type(c), BT_FIELD_CLASS_TYPE_SIGNED_INTEGER))
		return (char)bt_field_integer_signed_get_value(c);
	return (char)bt_field_integer_unsigned_get_value(c);
}

void bht_member_text(const bt_field *structure, struct bht_member member, char *text, size_t size)
{
	const bt_field *field =
		bt_field_structure_borrow_member_field_by_index_const(structure, (uint64_t)member.index);
	const bool string = bt_field_get_class_type(field) == BT_FIELD_CLASS_TYPE_STRING;
	const uint64_t length = string ? bt_field_string_get_length(field) : bt_field_array_get_length(field);
	size_t n = 0;

	for (; n < size - 1 && n < length; n++)
		if (!(text[n] = string ? bt_field_string_get_value(field)[n] : character(field, n)))
			break;
	text[n] = '\0';
}

/* --- plans ---------------------------------------------------------------------- */

/* No machine can do without the object, nor unfolding without the beginning. */
static bool is_needed(const struct bhp_field_info *f)
{
	return f->slot == BHP_SLOT_LOOP || f->slot == BHP_SLOT_BH || f->kind == BHP_FIELD_time;
}

static void plan_field(struct bht_plan *p, const bt_field_class *payload, const struct bhp_field_info *f)
{
	const struct bht_member from = bht_member_find(payload, f->name, f->kind == BHP_FIELD_str);

	if (f->kind == BHP_FIELD_str) {
		p->text = from;
	} else if (from.index >= 0) {
		p->step[p->n_steps].from = from;
		p->step[p->n_steps].word = slots[f->slot].word;
		p->step[p->n_steps].shift = slots[f->slot].shift;
		p->step[p->n_steps++].bits = slots[f->slot].bits;
	} else if (is_needed(f)) {
		memcpy(p->lacks, f->name, sizeof(f->name));
	}
}

static void plan_fields(struct bht_plan *p, const char *name, const bt_field_class *payload)
{
	struct bhp_field_info table[BHP_FIELD_INFO_MAX];
	const uint32_t n = bhp_schema(table);

	for (uint32_t i = 0; i < n; i++) {
		if (strcmp(table[i].event_name, name) != 0)
			continue;
		p->id = table[i].event;
		plan_field(p, payload, &table[i]);
	}
}

static struct bht_member first_of(const bt_field_class *structure, const char *one, const char *other)
{
	const struct bht_member found = bht_member_find(structure, one, false);

	return found.index >= 0 ? found : bht_member_find(structure, other, false);
}

struct bht_plan *bht_plan_new(const bt_event_class *class)
{
	const bt_field_class *payload = bt_event_class_borrow_payload_field_class_const(class),
			     *context = bt_stream_class_borrow_event_common_context_field_class_const(
				     bt_event_class_borrow_stream_class_const(class));
	const char *name = bt_event_class_get_name(class);
	struct bht_plan *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	bt_event_class_get_ref(class);
	p->class = class;
	p->text = (struct bht_member){ .index = -1 };
	p->time = bht_member_find(payload, "time", false);
	/* The namespace of the process itself first, as the flight recorder has it. */
	p->tid = first_of(context, "vtid", "tid");
	p->pid = first_of(context, "vpid", "pid");
	p->command = bht_member_find(context, "procname", true);
	if (name && !strncmp(name, prefix, sizeof(prefix) - 1))
		plan_fields(p, name + sizeof(prefix) - 1, payload);
	return p;
}

void bht_plan_free(struct bht_plan *plan)
{
	bt_event_class_put_ref(plan->class);
	free(plan);
}

void bht_plan_record(const struct bht_plan *plan, const bt_event *event, struct bhp_record *r)
{
	const bt_field *payload = bt_event_borrow_payload_field_const(event);

	*r = (struct bhp_record){ { 0, plan->id, 0, 0 } };
	if (plan->time.index >= 0)
		r->word[0] = bht_member_integer(payload, plan->time);
	for (unsigned i = 0; i < plan->n_steps; i++)
		r->word[plan->step[i].word] |= (bht_member_integer(payload, plan->step[i].from) & plan->step[i].bits)
					       << plan->step[i].shift;
}
