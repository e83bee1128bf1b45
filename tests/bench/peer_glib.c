/* SPDX-License-Identifier: MIT */
/*
 * GLib: a post is an idle source of normal priority, attached to the loop's
 * context. That is what g_main_context_invoke_full() does from a thread other
 * than the loop's; from the loop's own it would call the callback at once.
 */
#include <glib.h>

#include "peer.h"

struct handle {
	GMainContext *context;
	peer_cb *cb;
	void *arg;
};

struct loop {
	GMainContext *context;
	GMainLoop *main;
	GPtrArray *handles;
};

static void *loop_open(void)
{
	struct loop *loop = g_new(struct loop, 1);

	loop->context = g_main_context_new();
	loop->main = g_main_loop_new(loop->context, FALSE);
	loop->handles = g_ptr_array_new_with_free_func(g_free);
	return loop;
}

static void *handle(void *loop, peer_cb *cb, void *arg)
{
	struct handle *h = g_new(struct handle, 1);

	h->context = ((struct loop *)loop)->context;
	h->cb = cb;
	h->arg = arg;
	g_ptr_array_add(((struct loop *)loop)->handles, h);
	return h;
}

static gboolean on_idle(gpointer arg)
{
	struct handle *h = arg;

	h->cb(h->arg);
	return G_SOURCE_REMOVE;
}

static void post(void *arg)
{
	struct handle *h = arg;
	GSource *source = g_idle_source_new();

	g_source_set_priority(source, G_PRIORITY_DEFAULT);
	g_source_set_callback(source, on_idle, h, NULL);
	g_source_attach(source, h->context);
	g_source_unref(source);
}

static void run(void *loop)
{
	g_main_loop_run(((struct loop *)loop)->main);
}

static void stop(void *loop)
{
	g_main_loop_quit(((struct loop *)loop)->main);
}

static void loop_close(void *arg)
{
	struct loop *loop = arg;

	g_main_loop_unref(loop->main);
	g_main_context_unref(loop->context);
	g_ptr_array_unref(loop->handles);
	g_free(loop);
}

const struct peer peer_glib = { "glib", "GLib idle source", false, loop_open, handle, post, run, stop, loop_close };
