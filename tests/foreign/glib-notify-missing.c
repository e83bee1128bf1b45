/* SPDX-License-Identifier: MIT */
/*
 * glib-notify-missing: a source of its own queue, which is filled without a wakeup.
 *
 * prepare() and check() look at a counter. That is allowed, but GLib cannot know when it
 * changes: who changes it in another thread has to call g_main_context_wakeup(). One path here
 * forgets it, as bindings and plugins do that push into a queue "the loop polls anyway":
 * they work as long as a timer or a descriptor keeps the loop turning.
 */
#include <glib.h>

#include "foreign.h"

static bool pending(void)
{
	return __atomic_load_n(&produced, __ATOMIC_ACQUIRE) != __atomic_load_n(&consumed, __ATOMIC_ACQUIRE);
}

static gboolean queue_prepare(GSource *source, gint *timeout_ms)
{
	(void)source;
	*timeout_ms = -1;
	return pending();
}

static gboolean queue_check(GSource *source)
{
	(void)source;
	return pending();
}

static gboolean queue_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
	(void)source;
	return callback(data);
}

static gboolean answer(gpointer data)
{
	(void)data;
	foreign_answer();
	return G_SOURCE_CONTINUE;
}

static void ask(bool faulty)
{
	if (!faulty)
		g_main_context_wakeup(NULL);
}

int main(int argc, char **argv)
{
	static GSourceFuncs funcs = { .prepare = queue_prepare, .check = queue_check, .dispatch = queue_dispatch };
	struct foreign f = { .name = "glib-notify-missing", .ask = ask };

	foreign_open(&f, argc, argv);
	GSource *source = g_source_new(&funcs, sizeof(*source));
	g_source_set_name(source, "queue");
	g_source_set_callback(source, answer, NULL, NULL);
	g_source_attach(source, NULL);
	foreign_serve(&f);
	g_main_loop_run(g_main_loop_new(NULL, FALSE));
	return 0;
}
