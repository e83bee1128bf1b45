/* SPDX-License-Identifier: MIT */
/*
 * uv-pingpong.c - a stock libuv program that counts what it does
 *
 *   uv-pingpong SENDS BURST [go [stay]]    go: waits for SIGUSR1 first; stay: and in the end
 *
 * A thread sends SENDS times, BURST at once, and then waits for the callback to have seen all. The last line
 * is "did sends=N callbacks=N".
 */
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

static unsigned long sends, burst, callbacks;
static atomic_ulong sent, seen;
static sem_t caught_up;
static uv_async_t work, stop;

static void on_work(uv_async_t *handle)
{
	(void)handle;
	callbacks++;
	atomic_store(&seen, atomic_load(&sent));
	sem_post(&caught_up);
}

static void on_stop(uv_async_t *handle)
{
	uv_close((uv_handle_t *)&work, NULL);
	uv_close((uv_handle_t *)handle, NULL);
}

static void producer(void *arg)
{
	(void)arg;
	for (unsigned long i = 0; i < sends;) {
		for (unsigned long k = 0; k < burst && i < sends; k++, i++) {
			atomic_fetch_add(&sent, 1);
			atomic_thread_fence(memory_order_seq_cst); /* pairs with the exchange of pending in libuv */
			uv_async_send(&work);
		}
		while (atomic_load(&seen) < i)
			sem_wait(&caught_up);
	}
	uv_async_send(&stop);
}

int main(int argc, char **argv)
{
	uv_loop_t *loop = uv_default_loop();
	uv_thread_t thread;
	sigset_t usr1;
	int sig;

	if (argc < 3)
		return 2;
	sends = strtoul(argv[1], NULL, 10);
	burst = strtoul(argv[2], NULL, 10);
	alarm(300);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	if (!burst || sem_init(&caught_up, 0, 0) || uv_async_init(loop, &work, on_work) ||
	    uv_async_init(loop, &stop, on_stop))
		return 1;
	printf("ready pid=%d\n", getpid());
	fflush(stdout);
	if (argc > 3 && !strcmp(argv[3], "go"))
		sigwait(&usr1, &sig);
	if (uv_thread_create(&thread, producer, NULL))
		return 1;
	uv_run(loop, UV_RUN_DEFAULT);
	uv_thread_join(&thread);
	/* and the one that ended the loop */
	printf("did sends=%lu callbacks=%lu\n", sends, callbacks);
	fflush(stdout);
	if (argc > 4)
		sigwait(&usr1, &sig);
	return 0;
}
