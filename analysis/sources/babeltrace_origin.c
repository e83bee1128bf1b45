/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "babeltrace_reader.h"
#include "refuse.h"

static const char *env_string(const bt_trace *trace, const char *name)
{
	const bt_value *value = bt_trace_borrow_environment_entry_value_by_name_const(trace, name);

	return value && bt_value_is_string(value) ? bt_value_string_get(value) : "";
}

static uint64_t env_integer(const bt_trace *trace, const char *name)
{
	const bt_value *value = bt_trace_borrow_environment_entry_value_by_name_const(trace, name);

	return value && bt_value_is_signed_integer(value) ? (uint64_t)bt_value_integer_signed_get(value) : 0;
}

/* What either of two environments has, LTTng's or ours. */
static const char *env_either(const bt_trace *trace, const char *one, const char *other)
{
	const char *value = env_string(trace, one);

	return *value ? value : env_string(trace, other);
}

static int find_host(struct reader *r, const char *name, const uint8_t *boot, struct host **host)
{
	for (unsigned i = 0; i < r->n_hosts; i++) {
		*host = &r->host[i];
		if (!strncmp((*host)->name, name, sizeof((*host)->name) - 1) &&
		    (!boot || !(*host)->has_boot || !memcmp(boot, (*host)->boot, sizeof((*host)->boot))))
			return 0;
	}
	if (r->decided)
		return bht_refuse(&r->why, -EXDEV, 0, "host \"%s\": began when the clock was already that of another",
				  name);
	if (r->n_hosts == BHT_HOSTS_MAX)
		return bht_refuse(&r->why, -E2BIG, 0, "host \"%s\": more than %u hosts", name, BHT_HOSTS_MAX);
	*host = &r->host[r->n_hosts++];
	snprintf((*host)->name, sizeof((*host)->name), "%s", name);
	(*host)->has_boot = boot;
	if (boot)
		memcpy((*host)->boot, boot, sizeof((*host)->boot));
	return 0;
}

/* Ours says it to the last bit. */
static double rate_of(const bt_trace *bt, const bt_clock_class *clock)
{
	const uint64_t bits = env_integer(bt, "ticks_per_ns_bits");
	double rate;

	memcpy(&rate, &bits, sizeof(rate));
	if (!(rate > 1e-3 && rate < 1e3))
		rate = clock ? (double)bt_clock_class_get_frequency(clock) / 1e9 : 1;
	return rate;
}

static int find_trace(struct reader *r, const bt_trace *bt, const bt_clock_class *clock, struct trace **trace)
{
	struct trace *t = bht_map_get(&r->traces, (uintptr_t)bt);

	*trace = t;
	if (t)
		return 0;
	t = calloc(1, sizeof(*t));
	if (!t || bht_map_put(&r->traces, (uintptr_t)bt, t) != 0) {
		free(t);
		return bht_no_memory(r);
	}
	*trace = t;
	t->bt = bt;
	bt_trace_get_ref(bt);
	t->pid = (uint32_t)(env_integer(bt, "vpid") ? env_integer(bt, "vpid") : env_integer(bt, "pid"));
	t->ticks_per_ns = rate_of(bt, clock);
	snprintf(t->command, sizeof(t->command), "%s", env_either(bt, "procname", "command"));
	return find_host(r, env_string(bt, "hostname"), clock ? bt_clock_class_get_uuid(clock) : NULL, &t->host);
}

static int meet_stream(struct reader *r, const bt_stream *bt, struct stream **stream)
{
	const bt_stream_class *class = bt_stream_borrow_class_const(bt);
	const bt_clock_class *clock = bt_stream_class_borrow_default_clock_class_const(class);
	struct stream *s = calloc(1, sizeof(*s));

	if (!s || bht_map_put(&r->streams, (uintptr_t)bt, s) != 0) {
		free(s);
		return bht_no_memory(r);
	}
	*stream = s;
	s->bt = bt;
	bt_stream_get_ref(bt);
	s->has_clock = clock;
	s->tid_in_packet =
		bht_member_find(bt_stream_class_borrow_packet_context_field_class_const(class), "tid", false);
	return find_trace(r, bt_stream_borrow_trace_const(bt), clock, &s->trace);
}

int bht_find_stream(struct reader *r, const bt_stream *bt, struct stream **stream)
{
	struct stream *s = bht_map_get(&r->streams, (uintptr_t)bt);

	*stream = s;
	return s ? 0 : meet_stream(r, bt, stream);
}

int bht_find_plan(struct reader *r, const bt_event_class *class, struct bht_plan **plan)
{
	*plan = bht_map_get(&r->plans, (uintptr_t) class);
	if (*plan)
		return 0;
	*plan = bht_plan_new(class);
	if (*plan && bht_map_put(&r->plans, (uintptr_t) class, *plan) == 0)
		return 0;
	if (*plan)
		bht_plan_free(*plan);
	return bht_no_memory(r);
}

int bht_find_process(struct reader *r, const struct trace *t, uint32_t pid, struct process **process)
{
	struct process *p = bht_map_get(&t->host->processes, pid);

	*process = p;
	if (p)
		return 0;
	if (r->n_processes == BHT_TRACE_PROCESSES_MAX)
		return bht_refuse(&r->why, -E2BIG, 0, "more than %u processes", BHT_TRACE_PROCESSES_MAX);
	p = calloc(1, sizeof(*p));
	if (!p || !bht_room_for_one(&r->process, r->n_processes, sizeof(*r->process)) ||
	    bht_map_put(&t->host->processes, pid, p) != 0) {
		free(p);
		return bht_no_memory(r);
	}
	*process = p;
	p->pid = pid;
	p->index = r->n_processes++;
	struct bht_trace_process *is = &r->process[p->index];
	*is = (struct bht_trace_process){ .pid = pid };
	memcpy(is->command, t->command, sizeof(is->command));
	memcpy(is->hostname, t->host->name, sizeof(is->hostname));
	return 0;
}

void bht_free_origins(struct reader *r)
{
	BHT_MAP_EACH(&r->plans, e)
	bht_plan_free(e->value);
	BHT_MAP_EACH(&r->streams, e)
	{
		bt_stream_put_ref(((struct stream *)e->value)->bt);
		free(e->value);
	}
	BHT_MAP_EACH(&r->traces, e)
	{
		bt_trace_put_ref(((struct trace *)e->value)->bt);
		free(e->value);
	}
	for (unsigned i = 0; i < r->n_hosts; i++) {
		BHT_MAP_EACH(&r->host[i].processes, e)
		free(e->value);
		bht_map_free(&r->host[i].processes);
	}
	bht_map_free(&r->plans);
	bht_map_free(&r->streams);
	bht_map_free(&r->traces);
}
