/* SPDX-License-Identifier: MIT */
/*
 * babeltrace2's muxer reads the stamps of all streams again for each message, which
 * is 7 % of what reading a trace takes. Here each is read once.
 */
#include "babeltrace_sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The statuses of all functions of libbabeltrace2 are the same numbers. */
enum { OK = 0, ERROR = BT_COMPONENT_CLASS_SINK_CONSUME_METHOD_STATUS_ERROR };

static struct bht_sink *sink_of(bt_self_component_sink *self)
{
	return bt_self_component_get_data(bt_self_component_sink_as_self_component(self));
}

static int fail(bt_self_component_sink *self, const char *why)
{
	BT_CURRENT_THREAD_ERROR_APPEND_CAUSE_FROM_COMPONENT(bt_self_component_sink_as_self_component(self), "%s", why);
	return ERROR;
}

/* --- stamps ------------------------------------------------------------------------ */

/* Whether their stamps can be compared: both count from the Epoch, or they are one. */
static bool is_alike(const bt_clock_class *a, const bt_clock_class *b)
{
	if (!a || !b || bt_clock_class_origin_is_unix_epoch(a) || bt_clock_class_origin_is_unix_epoch(b))
		return a == b ||
		       (a && b && bt_clock_class_origin_is_unix_epoch(a) && bt_clock_class_origin_is_unix_epoch(b));
	const uint8_t *one = bt_clock_class_get_uuid(a), *other = bt_clock_class_get_uuid(b);
	return one && other ? !memcmp(one, other, 16) : one == other;
}

static int begin_stream(bt_self_component_sink *self, struct bht_sink_input *in, const bt_stream *stream)
{
	struct bht_sink *s = sink_of(self);
	const bt_clock_class *clock =
		bt_stream_class_borrow_default_clock_class_const(bt_stream_borrow_class_const(stream));

	if (!s->has_streams)
		s->clock = clock;
	s->has_streams = true;
	in->has_clock = clock;
	return is_alike(clock, s->clock) ? OK : fail(self, "the clocks of its streams have nothing in common");
}

/* NULL for a message that goes right behind the one before it. */
static const bt_clock_snapshot *snapshot_of(const struct bht_sink_input *in, const bt_message *message)
{
	const bt_stream_class *class;

	switch (bt_message_get_type(message)) {
	case BT_MESSAGE_TYPE_EVENT:
		return in->has_clock ? bt_message_event_borrow_default_clock_snapshot_const(message) : NULL;
	case BT_MESSAGE_TYPE_DISCARDED_EVENTS:
		class = bt_stream_borrow_class_const(bt_message_discarded_events_borrow_stream_const(message));
		if (!bt_stream_class_discarded_events_have_default_clock_snapshots(class))
			return NULL;
		return bt_message_discarded_events_borrow_beginning_default_clock_snapshot_const(message);
	case BT_MESSAGE_TYPE_DISCARDED_PACKETS:
		class = bt_stream_borrow_class_const(bt_message_discarded_packets_borrow_stream_const(message));
		if (!bt_stream_class_discarded_packets_have_default_clock_snapshots(class))
			return NULL;
		return bt_message_discarded_packets_borrow_beginning_default_clock_snapshot_const(message);
	default:
		return NULL;
	}
}

static int stamp(bt_self_component_sink *self, struct bht_sink_input *in)
{
	const bt_message *message = in->message[in->at];
	const bt_clock_snapshot *snapshot = snapshot_of(in, message);

	if (snapshot)
		return bt_clock_snapshot_get_ns_from_origin(snapshot, &in->ns)
			       ? fail(self, "a time stamp does not fit 64 bits")
			       : OK;
	if (bt_message_get_type(message) == BT_MESSAGE_TYPE_STREAM_BEGINNING)
		return begin_stream(self, in, bt_message_stream_beginning_borrow_stream_const(message));
	return OK;
}

/* --- merging ------------------------------------------------------------------------- */

/* All inputs have messages afterwards, those that have ended are gone. */
static int fill(bt_self_component_sink *self, struct bht_sink *s)
{
	int status = OK;

	for (unsigned i = 0; i < s->n && status == OK;) {
		struct bht_sink_input *in = &s->input[i];
		if (in->at == in->n) {
			in->at = in->n = 0;
			status = bt_message_iterator_next(in->iterator, &in->message, &in->n);
			if (status == BT_MESSAGE_ITERATOR_NEXT_STATUS_END) {
				bt_message_iterator_put_ref(in->iterator);
				memmove(in, in + 1, (--s->n - i) * sizeof(*in));
				status = OK;
				continue;
			}
			if (status == OK && s->n > 1)
				status = stamp(self, in);
		}
		i++;
	}
	return status;
}

/* The input whose turn it is, until the stamp of another one. */
static struct bht_sink_input *earliest(struct bht_sink *s, int64_t *until)
{
	struct bht_sink_input *first = s->input;

	*until = INT64_MAX;
	for (struct bht_sink_input *in = s->input + 1; in < s->input + s->n; in++) {
		*until = in->ns < first->ns ? first->ns : in->ns < *until ? in->ns : *until;
		if (in->ns < first->ns)
			first = in;
	}
	return first;
}

/* Goes on until an input has no more. */
static bt_component_class_sink_consume_method_status consume(bt_self_component_sink *self)
{
	struct bht_sink *s = sink_of(self);
	struct bht_sink_input *in = NULL;
	int64_t until = 0;
	int status = fill(self, s);

	if (status == OK && !s->n)
		status = BT_COMPONENT_CLASS_SINK_CONSUME_METHOD_STATUS_END;
	while (status == OK && (!in || in->at < in->n)) {
		if (!in || in->ns >= until)
			in = earliest(s, &until);
		const bt_message *message = in->message[in->at++];
		s->error = s->put(s->arg, message);
		bt_message_put_ref(message);
		if (s->error)
			status = ERROR;
		else if (in->at < in->n && s->n > 1)
			status = stamp(self, in);
	}
	return (bt_component_class_sink_consume_method_status)status;
}

/* --- the component ------------------------------------------------------------------- */

static bt_component_class_initialize_method_status initialize(bt_self_component_sink *self,
							      bt_self_component_sink_configuration *configuration,
							      const bt_value *params, void *sink)
{
	struct bht_sink *s = sink;
	int status = OK;
	char name[16];

	(void)configuration;
	(void)params;
	bt_self_component_set_data(bt_self_component_sink_as_self_component(self), s);
	for (unsigned i = 0; i < s->n && status == OK; i++) {
		snprintf(name, sizeof(name), "%u", i);
		status = bt_self_component_sink_add_input_port(self, name, NULL, NULL);
	}
	return (bt_component_class_initialize_method_status)status;
}

static bt_component_class_sink_graph_is_configured_method_status configured(bt_self_component_sink *self)
{
	struct bht_sink *s = sink_of(self);
	const unsigned n = s->n;
	int status = OK;

	s->n = 0;
	s->input = calloc(n, sizeof(*s->input));
	if (!s->input)
		return BT_COMPONENT_CLASS_SINK_GRAPH_IS_CONFIGURED_METHOD_STATUS_MEMORY_ERROR;
	while (s->n < n && status == OK) {
		struct bht_sink_input *in = &s->input[s->n];
		in->ns = INT64_MIN;
		status = bt_message_iterator_create_from_sink_component(
			self, bt_self_component_sink_borrow_input_port_by_index(self, s->n), &in->iterator);
		s->n += status == OK;
	}
	return (bt_component_class_sink_graph_is_configured_method_status)status;
}

static void finalize(bt_self_component_sink *self)
{
	struct bht_sink *s = sink_of(self);

	for (unsigned i = 0; s->input && i < s->n; i++) {
		struct bht_sink_input *in = &s->input[i];
		while (in->at < in->n)
			bt_message_put_ref(in->message[in->at++]);
		bt_message_iterator_put_ref(in->iterator);
	}
	free(s->input);
}

int bht_sink_add(bt_graph *graph, struct bht_sink *sink, unsigned n, const bt_component_sink **component)
{
	bt_component_class_sink *class = bt_component_class_sink_create("events", consume);
	int status = BT_GRAPH_ADD_COMPONENT_STATUS_MEMORY_ERROR;

	if (!class)
		return status;
	sink->n = n;
	bt_component_class_sink_set_initialize_method(class, initialize);
	bt_component_class_sink_set_graph_is_configured_method(class, configured);
	bt_component_class_sink_set_finalize_method(class, finalize);
	status = bt_graph_add_sink_component_with_initialize_method_data(graph, class, "events", NULL, sink,
									 BT_LOGGING_LEVEL_NONE, component);
	bt_component_class_sink_put_ref(class);
	return status;
}
