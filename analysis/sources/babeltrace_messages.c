/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "babeltrace_reader.h"
#include "refuse.h"

enum { FOLLOW_EVERY = 16 };

static const bt_field *context_of(const bt_event *event)
{
	return bt_event_borrow_common_context_field_const(event);
}

/* LTTng calls a process as it calls the thread. */
static void name_process(struct reader *r, const struct bht_plan *plan, const bt_event *event, struct process *p,
			 bool is_new, bool is_first_thread)
{
	char *command = r->process[p->index].command;

	if (plan->command.index >= 0 && (is_new || is_first_thread))
		bht_member_text(context_of(event), plan->command, command, sizeof(r->process->command));
	p->named |= is_first_thread;
}

static int find_who(struct reader *r, const struct bht_plan *plan, struct stream *s, const bt_event *event,
		    struct bht_event *e)
{
	const bt_field *context = context_of(event);
	const bool has_tid = plan->tid.index >= 0 || s->tid_in_packet.index >= 0, has_pid = plan->pid.index >= 0;
	const uint32_t pid = has_pid ? (uint32_t)bht_member_integer(context, plan->pid) : s->trace->pid;
	const unsigned known = r->n_processes;
	struct process *p = s->process;

	if (!has_tid || (!has_pid && !pid))
		return bht_refuse(&r->why, -EPROTO, 0,
				  "event \"%s\": neither a context nor its packet names its %s (lttng add-context "
				  "--type=vpid --type=vtid)",
				  bt_event_class_get_name(plan->class), has_tid ? "process" : "thread");
	e->tid = plan->tid.index >= 0 ? (uint32_t)bht_member_integer(context, plan->tid) : s->tid;
	int rc = p && p->pid == pid ? 0 : bht_find_process(r, s->trace, pid, &p);
	if (rc)
		return rc;
	s->process = p;
	e->process = p->index;
	if (!p->named && (known != r->n_processes || e->tid == pid))
		name_process(r, plan, event, p, known != r->n_processes, e->tid == pid);
	return 0;
}

static int take_text(struct reader *r, const struct bht_plan *plan, const bt_event *event, struct bht_event *e)
{
	char text[BHP_TEXT_MAX + 1];

	bht_member_text(bt_event_borrow_payload_field_const(event), plan->text, text, sizeof(text));
	if (!text[0])
		return 0;
	e->text = strdup(text);
	return e->text ? 0 : bht_no_memory(r);
}

/* What lacks a field is not taken for zero. */
static int pass_over(struct reader *r, const struct bht_plan *plan, const struct stream *s, uint64_t ns)
{
	struct bht_event e = bht_loss_of_all(BHT_LOSS_DAMAGED, 1);

	if (r->n_passed_over++)
		return 0;
	snprintf(r->damage, sizeof(r->damage), "event \"%s\": has no field \"%s\", and was passed over",
		 bt_event_class_get_name(plan->class), plan->lacks);
	return bht_reader_put(r, s->trace->host, &e, ns);
}

/* LTTng's stamp of an event in ns, where it is needed, and now and then to follow its
 * clock; else 0. */
static int stamp_of(struct reader *r, const struct bht_plan *plan, const struct stream *s, const bt_message *message,
		    int64_t *ns)
{
	const bool needed = !s->trace->host->line.known || r->n_waiting || plan->lacks[0];

	*ns = 0;
	if ((needed || r->n_stamps++ % FOLLOW_EVERY == 0) &&
	    bt_clock_snapshot_get_ns_from_origin(bt_message_event_borrow_default_clock_snapshot_const(message), ns) !=
		    BT_CLOCK_SNAPSHOT_GET_NS_FROM_ORIGIN_STATUS_OK)
		return bht_refuse(&r->why, -EBADMSG, 0, "event \"%s\": its time stamp does not fit 64 bits",
				  bt_event_class_get_name(plan->class));
	return 0;
}

static int on_event(struct reader *r, const bt_message *message)
{
	const bt_event *event = bt_message_event_borrow_event_const(message);
	const bt_event_class *class = bt_event_borrow_class_const(event);
	struct stream *s;
	int64_t ns;
	int rc = bht_find_stream(r, bt_event_borrow_stream_const(event), &s);

	if (rc == 0 && !(s->plan && s->plan->class == class))
		rc = bht_find_plan(r, class, &s->plan);
	if (rc || !s->plan->id)
		return rc;
	const struct bht_plan *plan = s->plan;
	if (!s->has_clock)
		return bht_refuse(&r->why, -EPROTO, 0, "event \"%s\": has no time stamp",
				  bt_event_class_get_name(plan->class));
	rc = stamp_of(r, plan, s, message, &ns);
	if (rc)
		return rc;
	if (plan->lacks[0])
		return pass_over(r, plan, s, (uint64_t)ns);
	struct bht_event e = { .text = NULL };
	bht_plan_record(plan, event, &e.r);
	if (plan->time.index < 0) {
		e.r.word[0] =
			bt_clock_snapshot_get_value(bt_message_event_borrow_default_clock_snapshot_const(message));
		if (!s->trace->host->line.known)
			bht_line_set(&s->trace->host->line, (struct bht_instant){ (uint64_t)ns, e.r.word[0] },
				     s->trace->ticks_per_ns);
	}
	rc = find_who(r, plan, s, event, &e);
	if (rc == 0 && plan->text.index >= 0)
		rc = take_text(r, plan, event, &e);
	return rc ? rc : bht_reader_put(r, s->trace->host, &e, (uint64_t)ns);
}

/* Whether the stream has events of ours, and whether those have their own time. */
static int look_for_ours(struct reader *r, const bt_stream *stream, bool *ours, bool *own_time)
{
	const bt_stream_class *class = bt_stream_borrow_class_const(stream);
	const uint64_t n = bt_stream_class_get_event_class_count(class);
	struct bht_plan *plan;

	*ours = *own_time = false;
	for (uint64_t i = 0; i < n; i++) {
		int rc = bht_find_plan(r, bt_stream_class_borrow_event_class_by_index_const(class, i), &plan);
		if (rc)
			return rc;
		*ours |= plan->id != 0;
		*own_time |= plan->id && plan->time.index >= 0;
	}
	return 0;
}

/* CLOCK is when the stretch ends in which something was discarded; NULL: not known. */
static int lose(struct reader *r, const bt_stream *stream, const bt_clock_snapshot *clock, uint64_t count)
{
	struct bht_event e = bht_loss_of_all(BHT_LOSS_DROPPED, count);
	struct process *p;
	struct stream *s;
	bool ours, own_time;
	int64_t ns = 0;
	int rc = look_for_ours(r, stream, &ours, &own_time);

	if (rc || !ours)
		return rc;
	rc = bht_find_stream(r, stream, &s);
	if (rc == 0 && s->trace->pid) {
		rc = bht_find_process(r, s->trace, s->trace->pid, &p);
		e.process = rc ? 0 : p->index;
	}
	if (rc)
		return rc;
	if (!clock ||
	    bt_clock_snapshot_get_ns_from_origin(clock, &ns) != BT_CLOCK_SNAPSHOT_GET_NS_FROM_ORIGIN_STATUS_OK)
		e.r.word[0] = r->order.latest;
	else if (!own_time)
		e.r.word[0] = bt_clock_snapshot_get_value(clock);
	return bht_reader_put(r, s->trace->host, &e, (uint64_t)ns);
}

static int on_discarded_events(struct reader *r, const bt_message *message)
{
	const bt_stream *stream = bt_message_discarded_events_borrow_stream_const(message);
	const bt_clock_snapshot *clock = NULL;
	uint64_t count;

	if (bt_stream_class_discarded_events_have_default_clock_snapshots(bt_stream_borrow_class_const(stream)))
		clock = bt_message_discarded_events_borrow_end_default_clock_snapshot_const(message);
	if (bt_message_discarded_events_get_count(message, &count) != BT_PROPERTY_AVAILABILITY_AVAILABLE)
		count = 0;
	return lose(r, stream, clock, count);
}

/* How many events were in them, nobody knows. */
static int on_discarded_packets(struct reader *r, const bt_message *message)
{
	const bt_stream *stream = bt_message_discarded_packets_borrow_stream_const(message);
	const bt_clock_snapshot *clock = NULL;

	if (bt_stream_class_discarded_packets_have_default_clock_snapshots(bt_stream_borrow_class_const(stream)))
		clock = bt_message_discarded_packets_borrow_end_default_clock_snapshot_const(message);
	return lose(r, stream, clock, 0);
}

static int on_packet(struct reader *r, const bt_message *message)
{
	const bt_packet *packet = bt_message_packet_beginning_borrow_packet_const(message);
	struct stream *s;
	int rc = bht_find_stream(r, bt_packet_borrow_stream_const(packet), &s);

	if (rc == 0 && s->tid_in_packet.index >= 0)
		s->tid = (uint32_t)bht_member_integer(bt_packet_borrow_context_field_const(packet), s->tid_in_packet);
	return rc;
}

int bht_take_message(void *reader, const bt_message *message)
{
	struct reader *r = reader;
	struct stream *s;

	switch (bt_message_get_type(message)) {
	case BT_MESSAGE_TYPE_EVENT:
		return on_event(r, message);
	case BT_MESSAGE_TYPE_PACKET_BEGINNING:
		return on_packet(r, message);
	case BT_MESSAGE_TYPE_DISCARDED_EVENTS:
		return on_discarded_events(r, message);
	case BT_MESSAGE_TYPE_DISCARDED_PACKETS:
		return on_discarded_packets(r, message);
	case BT_MESSAGE_TYPE_STREAM_BEGINNING:
		return bht_find_stream(r, bt_message_stream_beginning_borrow_stream_const(message), &s);
	default:
		return 0;
	}
}
