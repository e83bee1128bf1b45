/* SPDX-License-Identifier: MIT */
/* render_json.c - a diagnosis for programs: schema bhtrace.diagnosis/1, docs/json.md */
#include <errno.h>
#include <string.h>

#include "json_put.h"

static json_t *field_value(const struct bht_field *f)
{
	switch (f->kind) {
	case BHP_FIELD_ptr:
		return f->value ? hex(f->value) : json_null();
	case BHP_FIELD_str:
		return f->text ? text(f->text) : json_null();
	case BHP_FIELD_i32:
	case BHP_FIELD_i64:
		return json_integer((json_int_t)f->value);
	default:
		return number(f->value);
	}
}

static json_t *event_fields(const struct bht_event *e)
{
	struct bht_field field[BHP_FIELDS_MAX];
	unsigned n = bht_event_fields(e, field);
	json_t *o = json_object();
	bool failed = false;

	for (unsigned i = 0; i < n; i++)
		failed |= PUT(o, field[i].name, field_value(&field[i]));
	return unless(o, failed);
}

static json_t *thread(const struct bht_evidence *ev, uint32_t tid)
{
	const struct bht_thread *t = bht_sample_thread(&ev->last, tid);
	json_t *o = json_object();
	bool failed = PUT(o, "tid", tid ? json_integer(tid) : json_null());

	failed |= PUT(o, "name", t ? text(t->name) : json_null());
	return unless(o, failed);
}

static json_t *witness(const struct bht_evidence *ev, const struct bht_finding *f, const struct bht_witness *w)
{
	uint64_t time = bht_time(&w->event);
	json_t *o = json_object();
	char words[512];
	bool failed = PUT(o, "event", json_string(bht_event_name(bht_event_id(&w->event))));

	bht_event_words(words, sizeof(words), ev, f, &w->event);
	failed |= PUT(o, "time_ns", real(bht_since_ns(ev, f->origin, time)));
	failed |= PUT(o, "ticks", number(time));
	failed |= PUT(o, "thread", thread(ev, w->event.tid));
	failed |= PUT(o, "key", json_boolean(w->key));
	failed |= PUT(o, "role", text(w->role));
	failed |= PUT(o, "words", text(words));
	failed |= PUT(o, "fields", event_fields(&w->event));
	return unless(o, failed);
}

static json_t *bottom_half(const struct bht_bh *bh)
{
	json_t *o = json_object();
	bool failed = PUT(o, "name", text(bh->name));

	failed |= PUT(o, "addr", hex(bh->addr));
	failed |= PUT(o, "callback", hex(bh->callback));
	failed |= PUT(o, "flags", json_integer(bh->flags));
	failed |= PUT(o, "runs", number(bh->runs));
	return unless(o, failed);
}

static json_t *loop(const struct bht_loop *l)
{
	json_t *o = json_object();
	bool failed = PUT(o, "name", text(l->name));

	failed |= PUT(o, "addr", hex(l->addr));
	failed |= PUT(o, "owner_tid", l->owner ? json_integer(l->owner) : json_null());
	failed |= PUT(o, "where", json_integer(l->where));
	failed |= PUT(o, "adapter", *l->adapter ? text(l->adapter) : json_null());
	failed |= PUT(o, "iteration", l->traits & BHT_TRAIT_CANNOT_TURN ? json_null() : number(l->iteration));
	failed |= PUT(o, "depth", json_integer(l->depth));
	failed |= PUT(o, "notify_me", json_integer(l->notify_me));
	failed |= PUT(o, "notifier_fd", json_integer(l->notifier_fd));
	failed |= PUT(o, "notifier_count", l->notifier_count < 0 ? json_null() : json_integer(l->notifier_count));
	failed |= PUT(o, "notifier_watched", l->notifier_watched < 0 ? json_null() : json_boolean(l->notifier_watched));
	return unless(o, failed);
}

static json_t *evidence(const struct bht_evidence *ev, const struct bht_finding *f)
{
	json_t *a = json_array();
	bool failed = false;

	for (unsigned i = 0; i < f->n_witness; i++)
		failed |= json_array_append_new(a, witness(ev, f, &f->witness[i])) != 0;
	return unless(a, failed);
}

static json_t *finding(const struct bht_evidence *ev, const struct bht_finding *f)
{
	const struct bht_rule *rule = &bht_rules[f->rule];
	json_t *o = json_object();
	bool failed = PUT(o, "rule", json_string(rule->id));

	failed |= PUT(o, "verdict", json_string(bht_verdict_name(rule->verdict)));
	failed |= PUT(o, "confidence", json_string(bht_confidence_name(f->confidence)));
	failed |= PUT(o, "bh", f->bh.addr ? bottom_half(&f->bh) : json_null());
	failed |= PUT(o, "loop", loop(&f->loop));
	failed |= PUT(o, "summary", json_string(rule->line));
	failed |= PUT(o, "explanation", text(f->detail));
	failed |= PUT(o, "decided_by", json_string(rule->decides));
	failed |= PUT(o, "refuted_by", text(f->refute));
	failed |= PUT(o, "remedy", json_string(rule->remedy));
	failed |= PUT(o, "origin_ticks", number(f->origin));
	failed |= PUT(o, "evidence", evidence(ev, f));
	return unless(o, failed);
}

static json_t *findings(const struct bht_evidence *ev, const struct bht_diagnosis *d)
{
	json_t *a = json_array();
	bool failed = false;

	for (unsigned i = 0; i < d->n_findings; i++)
		failed |= json_array_append_new(a, finding(ev, &d->findings[i])) != 0;
	return unless(a, failed);
}

static json_t *target(const struct bht_evidence *ev)
{
	json_t *o = json_object();
	bool failed = PUT(o, "pid", json_integer(ev->pid));

	failed |= PUT(o, "command", text(ev->command));
	failed |= PUT(o, "hostname", *ev->hostname ? text(ev->hostname) : json_null());
	failed |= PUT(o, "live", json_boolean(ev->live));
	return unless(o, failed);
}

static json_t *origin(const struct bht_evidence *ev)
{
	json_t *o = json_object();
	bool failed = PUT(o, "origin", json_string(bht_origin_name(ev->origin)));

	failed |= PUT(o, "source", ev->source ? text(ev->source) : json_null());
	return unless(o, failed);
}

static json_t *payload_look(const struct bht_payload_look *look)
{
	json_t *o;

	if (!look->known)
		return json_null();
	o = json_object();
	bool failed = PUT(o, "holds", json_boolean(look->holds));
	failed |= PUT(o, "left", json_integer(look->left));
	failed |= PUT(o, "right", json_integer(look->right));
	return unless(o, failed);
}

static json_t *payload(const struct bht_payload *p)
{
	json_t *o;

	if (!p->text[0])
		return json_null();
	o = json_object();
	bool failed = PUT(o, "expression", text(p->text));
	failed |= PUT(o, "first", payload_look(&p->first));
	failed |= PUT(o, "last", payload_look(&p->last));
	return unless(o, failed);
}

static json_t *loss(const struct bht_diagnosis *d)
{
	json_t *o = json_object();
	bool failed = PUT(o, "events", number(d->lost_events));

	failed |= PUT(o, "why", *d->loss_why ? text(d->loss_why) : json_null());
	return unless(o, failed);
}

static json_t *cost(const struct bht_evidence *ev)
{
	json_t *o = json_object();
	bool failed = PUT(o, "stopped_us", number(ev->stopped_us));

	failed |= PUT(o, "read_us", number(ev->read_us));
	failed |= PUT(o, "bytes_read", number(ev->first.bytes_read + ev->last.bytes_read));
	return unless(o, failed);
}

static json_t *history(const struct bht_evidence *ev, const struct bht_diagnosis *d)
{
	json_t *o = json_object();
	bool failed = PUT(o, "recorder", d->n_events ? json_string(bht_recorder_name(ev->recorder)) : json_null());

	failed |= PUT(o, "events", number(d->n_events));
	failed |= PUT(o, "note", json_string(bht_recorder_note(ev, d->n_events)));
	failed |= PUT(o, "clock_error_ns", real(ev->clock_error_ns));
	return unless(o, failed);
}

static json_t *looked_at(const struct bht_diagnosis *d)
{
	json_t *o = json_object();
	bool failed = PUT(o, "loops", json_integer(d->n_loops));

	failed |= PUT(o, "bottom_halves", json_integer(d->n_bhs));
	failed |= PUT(o, "running", json_integer(d->n_running));
	failed |= PUT(o, "asleep", json_integer(d->n_asleep));
	return unless(o, failed);
}

static json_t *reasons(const struct bht_diagnosis *d)
{
	json_t *a = json_array();
	bool failed = false;

	for (unsigned i = 0; i < d->n_reasons; i++)
		failed |= json_array_append_new(a, text(d->reasons[i])) != 0;
	return unless(a, failed);
}

static json_t *unseen(const struct bht_evidence *ev)
{
	json_t *a = json_array();
	bool failed = false;

	for (unsigned i = 0; i < ev->n_unseen; i++)
		failed |= json_array_append_new(a, text(ev->unseen[i])) != 0;
	return unless(a, failed);
}

json_t *bht_diagnosis_json(const struct bht_evidence *ev, const struct bht_diagnosis *d)
{
	char sentence[BHT_SENTENCE];
	json_t *o = json_object();
	bool failed = PUT(o, "schema", json_string("bhtrace.diagnosis/1"));

	bht_verdict_sentence(sentence, d);
	failed |= PUT(o, "target", target(ev));
	failed |= PUT(o, "evidence", origin(ev));
	failed |= PUT(o, "verdict", json_string(bht_verdict_name(d->verdict)));
	failed |= PUT(o, "sentence", text(sentence));
	failed |= PUT(o, "findings", findings(ev, d));
	failed |= PUT(o, "reasons", reasons(d));
	failed |= PUT(o, "unseen", unseen(ev));
	failed |= PUT(o, "looked_at", looked_at(d));
	failed |= PUT(o, "history", history(ev, d));
	failed |= PUT(o, "payload", payload(&ev->payload));
	failed |= PUT(o, "loss", loss(d));
	failed |= PUT(o, "cost", cost(ev));
	return unless(o, failed);
}

int bht_render_json(FILE *out, const struct bht_evidence *ev, const struct bht_diagnosis *d)
{
	return print_json(out, bht_diagnosis_json(ev, d));
}
