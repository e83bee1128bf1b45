/* SPDX-License-Identifier: MIT */
/*
 * glib-callback-blocked: a callback waits for a lock whose holder waits for the loop.
 *
 * The client hands a function to the loop and waits until it has run; one path does so with a
 * lock held that the function takes. The same knot is made of g_main_context_invoke() and an
 * interpreter's global lock.
 */
#include <glib.h>

#include "foreign.h"

static gboolean answer(gpointer data)
{
	(void)data;
	foreign_answer();
	return G_SOURCE_REMOVE;
}

static void ask(bool faulty)
{
	(void)faulty;
	g_idle_add(answer, NULL);
}

int main(int argc, char **argv)
{
	struct foreign f = { .name = "glib-callback-blocked", .ask = ask, .locks = true };

	foreign_open(&f, argc, argv);
	foreign_serve(&f);
	g_main_loop_run(g_main_loop_new(NULL, FALSE));
	return 0;
}
