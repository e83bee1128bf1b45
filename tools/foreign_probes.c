/* SPDX-License-Identifier: MIT */
#include "foreign_inside.h"

#include <capstone/capstone.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evidence.h"
#include "foreign_recipe.h"
#include "live.h"
#include "maps.h"
#include "process.h"

enum { LOCK = 0xf0, PROBES_MAX = 64 };

static const char callback_word[] = "callback";

/* --- processes -------------------------------------------------------------------------- */

struct foreign *foreign_new(const struct foreign_ops *ops, void *arg, const struct foreign_sink *sink)
{
	struct foreign *f = calloc(1, sizeof(*f));

	if (f)
		*f = (struct foreign){ .ops = *ops, .arg = arg, .sink = *sink };
	return f;
}

struct one *foreign_find(const struct foreign *f, uint32_t pid)
{
	struct one *p = f->first;

	while (p && p->pid != pid)
		p = p->next;
	return p;
}

static void close_one(struct one *p)
{
	bht_images_free(&p->images);
	if (p->open)
		bht_process_close(&p->process);
	free(p->bhs.at);
	free(p->callbacks.at);
	free(p->loops.at);
	free(p->named.at);
	if (p->calls)
		foreign_calls_flush(p->calls, UINT64_MAX);
	free(p->calls);
	*p = (struct one){ .next = p->next, .pid = p->pid };
}

void foreign_forget(struct foreign *f, uint32_t pid)
{
	struct one **at = &f->first, *p;

	while ((p = *at) && p->pid != pid)
		at = &p->next;
	if (!p)
		return;
	*at = p->next;
	close_one(p);
	free(p);
}

void foreign_free(struct foreign *f)
{
	while (f && f->first)
		foreign_forget(f, f->first->pid);
	free(f);
}

/* The process, its maps as they are now. A process that executes another program has lost its probes. */
static int open_one(struct foreign *f, uint32_t pid, struct one **out, struct bht_refusal *refusal)
{
	struct one *p = foreign_find(f, pid);

	if (!p) {
		p = calloc(1, sizeof(*p));
		if (!p)
			return -ENOMEM;
		*p = (struct one){ .next = f->first, .pid = pid };
		f->first = p;
	}
	if (!f->ops.any(f->arg, pid))
		close_one(p);
	bht_images_free(&p->images);
	if (p->open)
		bht_process_close(&p->process);
	const int rc = bht_process_open(&p->process, pid, refusal);
	p->open = true;
	*out = p;
	return rc ? rc : bht_images_of_process(pid, &p->process.mem, &p->images, refusal);
}

/* --- modules ------------------------------------------------------------------------------ */

static void note_module(struct foreign *f, const struct module *m)
{
	const size_t at = strlen(f->modules);
	char text[400];

	snprintf(text, sizeof(text), "%s in %s", m->layout.adapter->name, m->path);
	if (!strstr(f->modules, text))
		snprintf(f->modules + at, sizeof(f->modules) - at, "%s%s", at ? ", " : "", text);
}

static bool has_callbacks(const struct bht_adapter *a)
{
	for (unsigned i = 0; i < a->n_probes; i++)
		if (!strcmp(a->probe[i].function, callback_word))
			return true;
	return false;
}

/*
 * ADDR, or what is behind an instruction with a LOCK prefix: the kernel puts no probe at these, and they leave
 * the registers of the arguments as they are.
 */
static uint64_t behind_lock(struct bht_image *image, uint64_t addr)
{
	uint8_t code[16];
	uint64_t behind = addr;
	cs_insn *insn;
	csh cs;

	if (bht_image_code(image, addr, code, sizeof(code)) || code[0] != LOCK ||
	    cs_open(CS_ARCH_X86, CS_MODE_64, &cs) != CS_ERR_OK)
		return addr;
	if (cs_disasm(cs, code, sizeof(code), addr, 1, &insn) == 1) {
		if (insn->id == X86_INS_AND || insn->id == X86_INS_OR)
			behind += insn->size;
		cs_free(insn, 1);
	}
	cs_close(&cs);
	return behind;
}

/* *BEHIND, unless NULL: the function has changed something already. */
static bool place_probe(struct bht_image *image, uint64_t addr, struct bhb_probe *out, bool *behind)
{
	const uint64_t at = addr ? behind_lock(image, addr) : 0;

	out->fd = bht_image_fd(image);
	out->offset = bht_image_file_offset(image, at);
	if (behind)
		*behind = at != addr;
	return addr && out->fd >= 0;
}

/* Where a turn begins, the descriptors of the loop are known. */
static bool tells_loop(const struct module *m, const struct bht_probe *p, const struct bhb_probe *at,
		       struct bhb_probe *out)
{
	unsigned i = 0;

	while (i < p->n_args && strcmp(p->arg[i].field, "loop") != 0)
		i++;
	if (p->event != BHP_ID_poll_begin || p->at_return || i == p->n_args || !p->arg[i].arg || p->arg[i].has_member)
		return false;
	*out = *at;
	return !foreign_recipe_loop(&m->layout, p->arg[i].arg, &out->recipe);
}

/* The functions of M that are there: of those that it does not need, some may not be. */
static size_t probes_of(const struct module *m, bool calls, struct bhb_probe *out, size_t max)
{
	const struct bht_adapter *a = m->layout.adapter;
	size_t n = 0;

	for (unsigned i = 0; i < a->n_probes && n < max; i++) {
		const struct bht_probe *p = &a->probe[i];
		struct bhb_probe *to = &out[n];
		bool behind;
		const bool wait = p->event == BHP_ID_wait_begin || p->event == BHP_ID_wait_end;
		if ((calls && wait && m->layout.place[BHT_LOOP_poll_fd].n) || !strcmp(p->function, callback_word) ||
		    !place_probe(m->layout.image, bht_image_symbol(m->layout.image, p->function, NULL), to, &behind) ||
		    foreign_recipe(&m->layout, p, 0, &to->recipe))
			continue;
		if (behind && p->event == BHP_ID_bh_cancel)
			foreign_recipe_cancelled(&to->recipe);
		to->at_return = p->at_return;
		to->recipe.held = has_callbacks(a);
		snprintf(to->function, sizeof(to->function), "%s", p->function);
		n++;
		n += calls && n < max && tells_loop(m, p, &out[n - 1], &out[n]);
	}
	return n;
}

/* Attaches to IMAGE as A has it. How many probes, or -errno. */
static int attach_module(struct foreign *f, struct one *p, const struct bht_adapter *a, struct bht_image *image,
			 char why[BHB_WHY])
{
	struct bhb_probe *probes = calloc(PROBES_MAX, sizeof(*probes));
	struct module *m = &p->module[p->n_modules];
	struct bht_refusal refusal = { .why = "" };
	int rc = probes ? bht_layout_find(a, image, &m->layout, &refusal) : -ENOMEM;
	size_t n = 0;

	if (rc) {
		snprintf(why, BHB_WHY, "%.390s", refusal.why);
		rc = rc == -ENOTSUP ? -ENOPKG : rc;
	} else {
		snprintf(m->path, sizeof(m->path), "%s", bht_image_path(image));
		n = probes_of(m, f->ops.calls, probes, PROBES_MAX);
		rc = f->ops.probe(f->arg, p->pid, probes, n, why);
	}
	free(probes);
	if (rc)
		return rc;
	m->layout.image = NULL; /* it will be closed */
	if (!p->calls && (p->calls = calloc(1, sizeof(*p->calls))))
		p->calls->pid = p->pid, p->calls->sink = f->sink;
	p->n_modules++;
	note_module(f, m);
	return (int)n;
}

static bool is_attached(const struct one *p, const struct bht_adapter *a, const struct bht_image *image)
{
	for (unsigned i = 0; i < p->n_modules; i++)
		if (p->module[i].layout.adapter == a && !strcmp(p->module[i].path, bht_image_path(image)))
			return true;
	return false;
}

static int attach_modules(struct foreign *f, struct one *p, char why[BHB_WHY])
{
	unsigned n_adapters;
	const struct bht_adapter *const *a = bht_adapters(&n_adapters);
	int all = 0, error = 0;

	for (unsigned i = 0; i < p->images.n; i++)
		for (unsigned k = 0; k < n_adapters; k++) {
			struct bht_image *image = p->images.image[i];
			if (p->n_modules == MODULES_MAX || is_attached(p, a[k], image) ||
			    !bht_layout_recognises(a[k], image))
				continue;
			const int n = attach_module(f, p, a[k], image, why);
			all += n > 0 ? n : 0;
			error = n < 0 ? n : error;
		}
	return all || p->n_modules ? all : error;
}

/* --- functions that bottom halves run ---------------------------------------------------------- */

bool foreign_read(struct one *p, const struct bht_place *place, uint64_t object, uint64_t *v)
{
	*v = object;
	for (unsigned i = 0; i < place->n; i++) {
		const uint64_t addr = *v + place->offset[i];
		*v = 0;
		if (bht_read(&p->process.mem, addr, v, i + 1 < place->n ? 8 : place->size))
			return false;
	}
	return place->n > 0;
}

static void want(struct one *p, uint64_t callback, bool late)
{
	bool asked = false;

	for (unsigned i = 0; i < p->n_modules; i++)
		asked |= has_callbacks(p->module[i].layout.adapter);
	if (asked && p->n_wanted < WANTED_MAX && set_add(&p->callbacks, callback))
		p->wanted[p->n_wanted++] = callback, p->late |= late;
}

void foreign_met(struct foreign *f, uint32_t pid, uint64_t bh, uint64_t callback)
{
	struct one *p = foreign_find(f, pid);

	if (!p || (!set_add(&p->bhs, bh) && !callback))
		return;
	if (callback)
		want(p, callback, false);
	for (unsigned i = 0; i < p->n_modules && !callback; i++) {
		const struct bht_layout *l = &p->module[i].layout;
		if (has_callbacks(l->adapter) && foreign_read(p, &l->place[BHT_BH_callback], bh, &callback) &&
		    bht_images_at(&p->images, callback))
			want(p, callback, true);
		callback = 0;
	}
}

/* The probes of CALLBACK by all adapters that have some; 0: it is in no file. */
static size_t callback_probes(struct one *p, uint64_t callback, struct bhb_probe *out, size_t max)
{
	struct bht_image *image = bht_images_at(&p->images, callback);
	size_t n = 0;

	for (unsigned i = 0; image && i < p->n_modules; i++) {
		const struct bht_layout *l = &p->module[i].layout;
		for (unsigned k = 0; k < l->adapter->n_probes && n < max; k++) {
			const struct bht_probe *probe = &l->adapter->probe[k];
			if (strcmp(probe->function, callback_word) || !place_probe(image, callback, &out[n], NULL) ||
			    foreign_recipe(l, probe, callback, &out[n].recipe))
				continue;
			out[n++].at_return = probe->at_return;
		}
	}
	return n;
}

static int attach_callbacks(struct foreign *f, struct one *p, char why[BHB_WHY])
{
	struct bhb_probe *probes = calloc(PROBES_MAX, sizeof(*probes));
	int rc = probes ? 0 : -ENOMEM, all = 0;

	for (unsigned i = 0; i < p->n_wanted && !rc; i++) {
		memset(probes, 0, PROBES_MAX * sizeof(*probes));
		const size_t n = callback_probes(p, p->wanted[i], probes, PROBES_MAX);
		if (n)
			rc = f->ops.probe(f->arg, p->pid, probes, n, why);
		if (!rc)
			rc = f->ops.know(f->arg, p->pid, p->wanted[i]);
		all += rc ? 0 : (int)n;
	}
	p->n_wanted = 0;
	p->late = false;
	free(probes);
	return rc ? rc : all;
}

/* What is there already in a process that was not probed so far, as bhtrace diagnose finds it. */
static void meet_all(struct foreign *f, struct one *p)
{
	struct bht_evidence ev = { .live = true };
	struct bht_refusal refusal;
	struct bht_live *live = bht_live_open(p->pid, &refusal);

	if (live && !bht_live_sample(live, &ev, &ev.last, &refusal)) {
		for (size_t i = 0; i < ev.last.n_loops; i++)
			foreign_met_loop(f, p, ev.last.loops[i].addr);
		for (size_t i = 0; i < ev.last.n_bhs; i++)
			foreign_met(f, p->pid, ev.last.bhs[i].addr, ev.last.bhs[i].callback);
	}
	bht_evidence_free(&ev);
	bht_live_close(live);
}

/* --- together ------------------------------------------------------------------------------------ */

static int look(struct foreign *f, uint32_t pid, uint64_t maps, char why[BHB_WHY])
{
	struct bht_refusal refusal = { .why = "" };
	struct one *p = NULL;
	int rc = open_one(f, pid, &p, &refusal);

	why[0] = '\0';
	if (rc) {
		snprintf(why, BHB_WHY, "%.390s", refusal.why);
		return rc;
	}
	p->maps = maps;
	const bool first = !p->n_modules;
	const int n = attach_modules(f, p, why);
	if (first && p->n_modules)
		meet_all(f, p);
	rc = n < 0 ? n : attach_callbacks(f, p, why);
	return rc < 0 ? rc : n + rc;
}

/* Of all that PID executes; 0 when that cannot be read. */
static uint64_t sum_maps(uint32_t pid)
{
	uint64_t sum = UINT64_C(0xcbf29ce484222325);
	char why[BHB_WHY];
	struct bhb_maps maps;

	if (bhb_maps_read(pid, &maps, why))
		sum = 0;
	for (size_t i = 0; i < maps.n && sum; i++) {
		const uint64_t words[] = { maps.map[i].start, maps.map[i].dev, maps.map[i].ino };
		for (unsigned k = 0; k < 3; k++)
			sum = (sum ^ words[k]) * UINT64_C(0x100000001b3) | 1;
	}
	bhb_maps_free(&maps);
	return sum;
}

int foreign_look(struct foreign *f, uint32_t pid, char why[BHB_WHY])
{
	const uint64_t maps = sum_maps(pid);
	const struct one *known = foreign_find(f, pid);

	if (known && known->maps == maps && !known->n_wanted && (!known->n_modules || f->ops.any(f->arg, pid)))
		return 0;
	return look(f, pid, maps, why);
}

uint32_t foreign_due(const struct foreign *f)
{
	for (const struct one *p = f->first; p; p = p->next)
		if (p->late)
			return p->pid;
	return 0;
}

const char *foreign_modules(const struct foreign *f)
{
	return f->modules;
}
