/* SPDX-License-Identifier: MIT */
/*
 * rescued: nobody wakes the loop, but a heartbeat does, half a second later.
 *
 * A client asks a loop and waits for the answer. When it comes back after a
 * pause, and so finds the loop asleep, its request is queued and the loop not
 * told:
 *
 * missing  that path forgets to.
 * skipped  it is believed that somebody is dispatching and will look again; the
 *          mark that says so was left behind. notify-skipped shows how.
 *
 * The loop also has a heartbeat, and looks around when that is due. It beats as
 * long as anything is asked: after a few such requests all is quiet.
 */
#include "museum.h"
#include "protocol.h"

enum { MISSING, SKIPPED };
enum { RARE = 64, ENOUGH = 3, HEARTBEAT_MS = 499 };

static struct museum museum;
static struct bh_loop *loop;
static struct bh_timer *heartbeat;
static struct museum_service service;

static void beat(void *opaque)
{
	static uint64_t before;
	uint64_t asked = atomic_load_explicit(&service.asked, memory_order_relaxed);

	(void)opaque;
	if (asked != before || asked == 0)
		bh_timer_set(heartbeat, bh_now_ns() + HEARTBEAT_MS * 1000000u);
	before = asked;
}

static void ask_after_pause(uint64_t ticket)
{
	while (!museum_loop_asleep(loop))
		museum_relax();
	if (museum.variant == MISSING) {
		museum_ask_silently(&service, ticket);
		return;
	}
	/* Trusted by BH_FAULT_DISPATCHING only. */
	atomic_store(&bh_fault_dispatching, true);
	museum_ask(&service, ticket);
	atomic_store(&bh_fault_dispatching, false);
}

static void *client(void *arg)
{
	pthread_setname_np(pthread_self(), "client");
	for (uint64_t ticket = 1; museum.fixed || ticket <= RARE * ENOUGH; ticket++) {
		if (ticket % RARE == 0)
			ask_after_pause(ticket);
		else
			museum_ask(&service, ticket);
		museum_await(&service, 0);
	}
	museum_late(&museum, loop);
	return arg;
}

int main(int argc, char **argv)
{
	static const char *const variants[] = { "missing", "skipped", "fixed", NULL };
	static const struct museum_piece piece = { "rescued", "nobody wakes the loop, but an unrelated timer does",
						   variants, 100000, false };

	museum_open(&museum, &piece, 1, argc, argv);
	bh_fault = museum.variant == SKIPPED ? BH_FAULT_DISPATCHING : BH_FAULT_NONE;
	loop = bh_loop_new("monitor");
	museum_need(loop, "no loop");
	museum_service_open(&service, &museum, loop);
	heartbeat = bh_timer_new(loop, beat, NULL);
	museum_need(heartbeat, "no timer");
	beat(NULL);
	museum_thread(client, NULL);
	museum_run(&museum, loop, 0);
	return 0;
}
