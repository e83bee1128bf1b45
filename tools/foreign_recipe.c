/* SPDX-License-Identifier: MIT */
#include "foreign_recipe.h"

#include <errno.h>
#include <string.h>

#include "schema.h"

/* Fields that are 0 or not, whatever the member or argument holds. */
static const char *const truths[] = { "seen", "blocking", "progress", "notify_me", "written" };

/* Where EVENT has FIELD. */
static bool find_field(enum bhp_id event, const char *field, struct bhp_field_info *info)
{
	struct bhp_field_info table[BHP_FIELD_INFO_MAX];
	const uint32_t n = bhp_schema(table);

	for (uint32_t i = 0; i < n; i++)
		if (table[i].event == event && !strncmp(table[i].name, field, sizeof(table[i].name))) {
			*info = table[i];
			return true;
		}
	return false;
}

static bool is_truth(const char *field)
{
	for (size_t i = 0; i < sizeof(truths) / sizeof(truths[0]); i++)
		if (!strcmp(field, truths[i]))
			return true;
	return false;
}

static void add_bit(struct bhb_piece *p, uint64_t mask, uint8_t means, bool inverted)
{
	if (p->n_bits == BHB_BITS_MAX)
		return;
	p->inverted |= (uint8_t)(inverted << p->n_bits);
	p->mask[p->n_bits] = mask;
	p->means[p->n_bits++] = means;
}

/* What the flag member means to FIELD: all flags of "flags", the one that says that it is scheduled of "seen". */
static void add_flags(struct bhb_piece *p, const struct bht_adapter *a, const char *field)
{
	for (unsigned i = 0; i < a->n_flags; i++) {
		const uint32_t flag = strcmp(field, "seen") ? a->flag[i].flag : a->flag[i].flag & BHP_FLAG_SCHEDULED;
		if (flag)
			add_bit(p, a->flag[i].mask, (uint8_t)flag, a->flag[i].inverted);
	}
}

static int add_member(struct bhb_piece *p, const struct bht_layout *layout, enum bht_member member)
{
	const struct bht_place *place = &layout->place[member];

	if (!place->n || place->n > BHB_HOPS_MAX)
		return -ENOTSUP;
	p->hops = (uint8_t)place->n;
	p->size = (uint8_t)place->size;
	p->is_signed = place->is_signed;
	for (unsigned i = 0; i < place->n; i++)
		p->offset[i] = place->offset[i];
	return 0;
}

/* As wide as C has the type of an argument of that kind: the rest of its register is anything. */
static uint8_t width_of(const char *field, unsigned kind)
{
	if (!strcmp(field, "timeout_ms"))
		return 4;
	switch (kind) {
	case BHP_FIELD_u8:
		return 1;
	case BHP_FIELD_u16:
		return 2;
	case BHP_FIELD_u32:
	case BHP_FIELD_i32:
		return 4;
	}
	return 8;
}

static struct bhb_piece *add_piece(struct bhb_recipe *r, unsigned slot)
{
	struct bhb_piece *p = &r->piece[r->n++];

	bhb_piece_slot(p, (enum bhp_slot)slot);
	return p;
}

static int add_field(struct bhb_recipe *r, const struct bht_layout *layout, const struct bht_probe *probe,
		     const struct bht_probe_arg *arg)
{
	const bool ms = !strcmp(arg->field, "timeout_ms");
	struct bhp_field_info info;
	int rc = 0;

	if (r->n == BHB_PIECES_MAX || !find_field(probe->event, ms ? "timeout_ns" : arg->field, &info))
		return -ENOTSUP;
	struct bhb_piece *p = add_piece(r, info.slot);
	p->size = width_of(arg->field, info.kind);
	p->is_signed = p->is_ms = ms;
	p->value = arg->value;
	p->needed = !arg->constant && info.kind == BHP_FIELD_ptr && strcmp(arg->field, "callback") != 0;
	if (arg->constant)
		return 0;
	p->from = (uint8_t)(arg->arg ? arg->arg : BHB_FROM_RESULT);
	if (arg->has_member)
		rc = add_member(p, layout, arg->member);
	if (arg->has_member && arg->member == BHT_BH_flag)
		add_flags(p, layout->adapter, arg->field);
	else if (is_truth(arg->field))
		add_bit(p, UINT64_MAX, 1, false);
	return rc;
}

static bool has_field(const struct bht_probe *p, const char *field)
{
	for (unsigned i = 0; i < p->n_args; i++)
		if (!strcmp(p->arg[i].field, field))
			return true;
	return false;
}

static void add_constant(struct bhb_recipe *r, const struct bht_probe *p, const char *field, unsigned from,
			 uint64_t value)
{
	struct bhp_field_info info;

	if (has_field(p, field) || r->n == BHB_PIECES_MAX || !find_field(p->event, field, &info))
		return;
	struct bhb_piece *piece = add_piece(r, info.slot);
	piece->from = (uint8_t)from;
	piece->size = 8;
	piece->value = value;
}

/* What the function does not tell, so that nothing is concluded from it. */
static void add_unknown(struct bhb_recipe *r, const struct bht_layout *layout, const struct bht_probe *p)
{
	if (p->event == BHP_ID_wait_end) /* it may have been the notifier: not luck */
		add_constant(r, p, "woke", BHB_FROM_VALUE, BHP_WOKE_NOTIFIER | BHP_WOKE_FD);
	if (p->event == BHP_ID_wait_begin && !has_field(p, "timeout_ms"))
		add_constant(r, p, "timeout_ns", BHB_FROM_VALUE, UINT64_MAX);
	if (p->event == BHP_ID_poll_begin || p->event == BHP_ID_poll_end)
		add_constant(r, p, "depth", BHB_FROM_VALUE, 1);
	if (p->event == BHP_ID_poll_begin)
		add_constant(r, p, "blocking", BHB_FROM_VALUE, 1);
	if (p->event != BHP_ID_notify)
		return;
	if (!has_field(p, "notify_me"))
		add_constant(r, p, "notify_me", BHB_FROM_VALUE, BHP_LOOP_SLEEPING);
	for (unsigned i = 0; i < p->n_args && !has_field(p, "written"); i++) { /* it is when it was asked for */
		struct bht_probe_arg arg = p->arg[i];
		if (strcmp(arg.field, "notify_me"))
			continue;
		memcpy(arg.field, "written", sizeof("written"));
		add_field(r, layout, p, &arg);
	}
}

int foreign_recipe(const struct bht_layout *layout, const struct bht_probe *p, uint64_t callback,
		   struct bhb_recipe *recipe)
{
	int rc = 0;

	memset(recipe, 0, sizeof(*recipe));
	recipe->event = p->event;
	for (unsigned i = 0; i < p->n_args && !rc; i++)
		rc = add_field(recipe, layout, p, &p->arg[i]);
	if (p->event == BHP_ID_execute_end)
		add_constant(recipe, p, "begin", BHB_FROM_BEGIN, 0);
	if (p->event == BHP_ID_execute_begin && callback)
		add_constant(recipe, p, "callback", BHB_FROM_VALUE, callback);
	add_unknown(recipe, layout, p);
	if (!add_member(&recipe->flag, layout, BHT_BH_flag))
		add_flags(&recipe->flag, layout->adapter, "seen");
	return rc;
}

int foreign_recipe_loop(const struct bht_layout *layout, unsigned arg, struct bhb_recipe *recipe)
{
	static const struct {
		enum bhp_slot slot;
		enum bht_member member;
	} fd[] = { { BHP_SLOT_LO, BHT_LOOP_poll_fd }, { BHP_SLOT_HI, BHT_LOOP_notifier_fd } };
	int rc = 0;

	memset(recipe, 0, sizeof(*recipe));
	recipe->event = BHB_TELLS_LOOP;
	struct bhb_piece *loop = add_piece(recipe, BHP_SLOT_LOOP);
	loop->from = (uint8_t)arg;
	loop->size = 8;
	for (unsigned i = 0; i < 2 && !rc; i++) {
		struct bhb_piece *p = add_piece(recipe, fd[i].slot);
		p->from = (uint8_t)arg;
		rc = add_member(p, layout, fd[i].member);
	}
	return rc;
}

void foreign_recipe_cancelled(struct bhb_recipe *recipe)
{
	struct bhb_piece flags = { .value = BHP_FLAG_SCHEDULED, .size = 8 };

	bhb_piece_slot(&flags, BHP_SLOT_T0);
	for (unsigned i = 0; i < recipe->n; i++)
		if (recipe->piece[i].word == flags.word && recipe->piece[i].shift == flags.shift)
			recipe->piece[i] = flags;
}
