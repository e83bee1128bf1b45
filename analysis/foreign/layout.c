/* SPDX-License-Identifier: MIT */
/* From an adapter's ways to offsets. All ways are tried, also when one has succeeded: they must agree. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "image_inside.h"
#include "layout.h"
#include "refuse.h"

enum { WHY = 160, TRIED = 288 };
static const uint64_t OFFSET_MAX = 1 << 20; /* no structure is that large */

struct finder {
	const struct bht_adapter *a;
	struct bht_image *image;
	char tried[TRIED]; /* "code: why; dwarf: why" */
	size_t tried_len;
};

const char *bht_way_name(enum bht_way_kind kind)
{
	static const char *const names[] = {
		[BHT_WAY_DWARF] = "dwarf",
		[BHT_WAY_BUILD_ID] = "build-id",
		[BHT_WAY_CODE] = "code",
		[BHT_WAY_FIXED] = "fixed",
	};

	return kind <= BHT_WAY_FIXED ? names[kind] : "?";
}

bool bht_layout_recognises(const struct bht_adapter *a, struct bht_image *image)
{
	if (!a->n_needs || bht_image_other_machine(image))
		return false;
	for (unsigned i = 0; i < a->n_needs; i++)
		if (!bht_image_symbol(image, a->needs[i], NULL))
			return false;
	return true;
}

/* --- one way ----------------------------------------------------------------------------- */

static int by_dwarf(const struct finder *f, const struct bht_way *way, unsigned size, uint64_t *offset, char why[WHY])
{
	uint64_t found = 0;
	int rc = bht_image_dwarf_member(f->image, way->dwarf.type, way->dwarf.member, offset, &found);

	if (rc == -ENOTUNIQ)
		snprintf(why, WHY, "several %.40s with different %.40s", way->dwarf.type, way->dwarf.member);
	else if (rc)
		snprintf(why, WHY, "no %.50s.%.50s in debug information", way->dwarf.type, way->dwarf.member);
	else if (size && found < 8 && found != size) {
		snprintf(why, WHY, "%.40s.%.40s has %llu bytes, not %u", way->dwarf.type, way->dwarf.member,
			 (unsigned long long)found, size);
		rc = -ENOTSUP;
	}
	return rc;
}

static int by_build_id(const struct finder *f, const struct bht_way *way, uint64_t *offset, char why[WHY])
{
	const size_t len = strlen(way->build_id.build_id);

	*offset = way->build_id.offset;
	if (len >= 8 && !strncmp(way->build_id.build_id, bht_image_build_id(f->image), len))
		return 0;
	snprintf(why, WHY, "not %.8s", way->build_id.build_id);
	return -ENOENT;
}

/* The offset that WAY leads to, of a member of SIZE bytes, 0: any. 0, or -errno with WHY. */
static int try_way(const struct finder *f, const struct bht_way *way, unsigned size, uint64_t *offset, char why[WHY])
{
	switch (way->kind) {
	case BHT_WAY_DWARF:
		return by_dwarf(f, way, size, offset, why);
	case BHT_WAY_BUILD_ID:
		return by_build_id(f, way, offset, why);
	case BHT_WAY_CODE:
		return bht_derive(f->image, &way->code, offset, why);
	case BHT_WAY_FIXED:
		*offset = way->fixed;
		return 0;
	}
	snprintf(why, WHY, "no such way");
	return -EINVAL;
}

/* --- all ways of a step --------------------------------------------------------------------- */

static void note_failure(struct finder *f, const struct bht_way *way, const char *why)
{
	const size_t room = sizeof(f->tried) - f->tried_len;
	const int n = snprintf(f->tried + f->tried_len, room, "%s%s: %s", f->tried_len ? "; " : "",
			       bht_way_name(way->kind), why);

	f->tried_len += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

/* "libuv: /usr/lib/libuv.so.1 (build id 12345678): loop.bhs: " and what is wrong. */
__attribute__((format(printf, 4, 5))) static int refuse(const struct finder *f, const char *what,
							struct bht_refusal *refusal, const char *format, ...)
{
	const char *path = bht_image_path(f->image), *id = bht_image_build_id(f->image);
	const size_t len = strlen(path);
	char text[sizeof(refusal->why)];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return bht_refuse(refusal, -ENOTSUP, f->image->low, "%s: %s (build id %.16s): %s: %s", f->a->name,
			  len > 64 ? path + len - 64 : path, *id ? id : "none", what, text);
}

static int find_step(struct finder *f, const char *what, const struct bht_step *step, unsigned size, uint64_t *offset,
		     enum bht_way_kind *how, struct bht_refusal *refusal)
{
	bool found = false;

	f->tried_len = 0;
	f->tried[0] = '\0';
	for (unsigned i = 0; i < step->n; i++) {
		const struct bht_way *way = &step->way[i];
		char why[WHY] = "";
		uint64_t at;
		int rc = try_way(f, way, size, &at, why);
		at = rc ? 0 : at + (uint64_t)way->plus;
		if (at > OFFSET_MAX) {
			snprintf(why, sizeof(why), "leads to 0x%llx: too far for a member", (unsigned long long)at);
			rc = -ERANGE;
		}
		if (rc) {
			note_failure(f, way, why);
		} else if (!found) {
			*offset = at;
			*how = way->kind;
			found = true;
		} else if (*offset != at) {
			return refuse(f, what, refusal,
				      "%s says 0x%llx, but %s (line %u) 0x%llx: not the version it is for",
				      bht_way_name(*how), (unsigned long long)*offset, bht_way_name(way->kind),
				      way->line, (unsigned long long)at);
		}
	}
	return found ? 0
		     : refuse(f, what, refusal,
			      "%s. Its debug information (package -dbgsym, below /usr/lib/debug) or a build-id line "
			      "would do",
			      f->tried_len ? f->tried : "no way is given");
}

static int find_member(struct finder *f, enum bht_member member, struct bht_place *place, struct bht_refusal *refusal)
{
	const struct bht_path *path = &f->a->member[member];
	int rc = 0;

	*place = (struct bht_place){ .n = path->n, .size = path->size, .is_signed = path->is_signed };
	for (unsigned i = 0; i < path->n && !rc; i++)
		rc = find_step(f, bht_member_name(member), &path->step[i], i + 1 == path->n ? path->size : 8,
			       &place->offset[i], &place->how[i], refusal);
	return rc;
}

/* --- roots ---------------------------------------------------------------------------------------- */

/* A root of a function that this build does not have is none of its roots. */
static int find_root(struct finder *f, const struct bht_way *way, struct bht_layout *layout,
		     struct bht_refusal *refusal)
{
	const uint64_t bias = bht_image_bias(f->image);
	char why[WHY] = "";
	uint64_t addr;

	if (way->kind == BHT_WAY_CODE && !bht_image_symbol(f->image, way->code.function, NULL))
		return 0;
	int rc = try_way(f, way, 0, &addr, why);
	if (rc)
		return refuse(f, "root", refusal, "line %u: %s", way->line, why);
	addr += (uint64_t)way->plus;
	const struct bht_segment *s = way->kind == BHT_WAY_CODE ? bht_image_segment(f->image, addr - bias) : NULL;
	if (!s || !(s->flags & PF_W))
		return refuse(f, "root", refusal, "line %u: leads to 0x%llx, where no variable is", way->line,
			      (unsigned long long)(addr - bias));
	layout->root[layout->n_roots++] = (struct bht_layout_root){ addr, way->code.op == BHT_CODE_LEA };
	return 0;
}

int bht_layout_find(const struct bht_adapter *a, struct bht_image *image, struct bht_layout *layout,
		    struct bht_refusal *refusal)
{
	struct finder f = { .a = a, .image = image };
	int rc = 0;

	*layout = (struct bht_layout){ .adapter = a, .image = image };
	for (unsigned i = 0; i < BHT_MEMBERS && !rc; i++)
		rc = find_member(&f, i, &layout->place[i], refusal);
	for (unsigned i = 0; i < a->n_roots && !rc; i++)
		rc = find_root(&f, &a->root[i], layout, refusal);
	return rc;
}
