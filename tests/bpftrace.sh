#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The bpftrace scripts on a process that counts for itself what they should show: through
# -p and through a path, for a program with libbh in it and for the shared library.
# shellcheck source=tests/e2e/common.bash
. "$(dirname "$0")/e2e/common.bash"
command -v bpftrace >/dev/null || skip "no bpftrace"
[ "$(id -u)" -eq 0 ] || skip "bpftrace needs root"
bpftrace -e 'BEGIN { exit(); }' >/dev/null 2>&1 || skip "bpftrace cannot load or attach a program here"

# Everything is counted where libbh meets the C library, not where the probes are.
cat >"$work/counting.c" <<-'EOF'
	#include <pthread.h>
	#include <semaphore.h>
	#include <signal.h>
	#include <stdatomic.h>
	#include <stdio.h>
	#include <sys/epoll.h>
	#include <sys/syscall.h>
	#include <unistd.h>
	#include "bh.h"

	enum { ROUNDS = 300, AGAIN = 50, HELD_MS = 300, BEATS = 5, BEAT_MS = 20 };

	static struct bh_loop *loop;
	static struct bh *work, *gate, *late, *stuck;
	static struct bh_timer *timer;
	static sem_t worked, entered, left, beaten;
	static _Atomic long writes, reads, value, waits, timeouts;
	static int beats;

	long __real_syscall(long, long, long, long, long, long, long);
	long __wrap_syscall(long, long, long, long, long, long, long);
	long __wrap_syscall(long n, long a, long b, long c, long d, long e, long f)
	{
		writes += n == SYS_write;
		return __real_syscall(n, a, b, c, d, e, f);
	}

	ssize_t __real_read(int, void *, size_t);
	ssize_t __wrap_read(int, void *, size_t);
	ssize_t __wrap_read(int fd, void *to, size_t size)
	{
		ssize_t n = __real_read(fd, to, size);
		if (size == sizeof(uint64_t) && n == (ssize_t)size) {
			reads++;
			value += (long)*(uint64_t *)to;
		}
		return n;
	}

	static int waited(int n, int may_sleep)
	{
		waits += may_sleep;
		timeouts += may_sleep && n == 0;
		return n;
	}

	int __real_epoll_wait(int, struct epoll_event *, int, int);
	int __wrap_epoll_wait(int, struct epoll_event *, int, int);
	int __wrap_epoll_wait(int fd, struct epoll_event *events, int max, int ms)
	{
		return waited(__real_epoll_wait(fd, events, max, ms), ms != 0);
	}

	int __real_epoll_pwait2(int, struct epoll_event *, int, const struct timespec *, const sigset_t *);
	int __wrap_epoll_pwait2(int, struct epoll_event *, int, const struct timespec *, const sigset_t *);
	int __wrap_epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *t, const sigset_t *s)
	{
		return waited(__real_epoll_pwait2(fd, events, max, t, s), 1);
	}

	static void post(void *sem)
	{
		sem_post(sem);
	}

	static void hold(void *opaque)
	{
		(void)opaque;
		sem_post(&entered);
		sem_wait(&left);
	}

	static void beat(void *opaque)
	{
		if (++beats == BEATS)
			sem_post(opaque);
		else
			bh_timer_set(timer, bh_now_ns() + BEAT_MS * 1000000ull);
	}

	__attribute__((noinline)) void schedule_again(int times);
	void schedule_again(int times)
	{
		while (times-- > 0)
			bh_schedule(work);
	}

	static void *run(void *arg)
	{
		pthread_setname_np(pthread_self(), arg == loop ? "looper" : "sleeper");
		bh_loop_run(arg);
		return NULL;
	}

	static void *produce(void *arg)
	{
		pthread_setname_np(pthread_self(), "producer");
		for (int i = 0; i < ROUNDS; i++) {
			bh_schedule(work);
			sem_wait(&worked);
		}
		bh_schedule(gate); /* and while the loop is in there: */
		sem_wait(&entered);
		bh_schedule(work);
		schedule_again(AGAIN);
		bh_schedule(late);
		usleep(HELD_MS * 1000);
		sem_post(&left);
		sem_wait(&worked);
		sem_wait(&worked);
		bh_timer_set(timer, bh_now_ns() + BEAT_MS * 1000000ull);
		sem_wait(&beaten);
		bh_schedule(gate); /* for good */
		sem_wait(&entered);
		bh_schedule(stuck);
		printf("counted pid=%d\nW=%d\nAGAIN=%d\nWRITES=%ld\nREADS=%ld\nVALUE=%ld\nSLEEPS=%ld\nTIMEOUTS=%ld\n",
		       getpid(), ROUNDS + 1, AGAIN, writes, reads, value, waits, timeouts);
		fflush(stdout);
		for (;;) /* symbols are found through this thread */
			pause();
		return arg;
	}

	int main(void)
	{
		pthread_t thread;
		sigset_t set;
		int sig;

		alarm(60);
		loop = bh_loop_new("main");
		work = bh_new(loop, post, &worked, "work");
		late = bh_new(loop, post, &worked, "late");
		gate = bh_new(loop, hold, NULL, "gate");
		stuck = bh_new(loop, post, &worked, "stuck");
		timer = bh_timer_new(loop, beat, &beaten);
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		pthread_sigmask(SIG_BLOCK, &set, NULL);
		printf("ready pid=%d\n", getpid());
		fflush(stdout);
		sigwait(&set, &sig);
		pthread_create(&thread, NULL, run, bh_loop_new("aside"));
		pthread_create(&thread, NULL, run, loop);
		pthread_create(&thread, NULL, produce, NULL);
		pthread_join(thread, NULL);
		for (;;)
			pause();
	}
EOF

compile() { # NAME FLAGS...
	local name=$1
	shift
	"${CC:-gcc}" -std=gnu11 -O2 -g -fno-omit-frame-pointer -D_GNU_SOURCE -DBHTRACE_VERSION='"test"' -Ilib -Iprobes \
		"$work/counting.c" -o "$work/$name" -pthread -Wl,--wrap=syscall,--wrap=read,--wrap=epoll_wait,--wrap=epoll_pwait2 "$@"
}
# A library of its own: through a path every process that uses it is traced.
cp "$OUT/libbh.so.0" "$work/" || exit 1
compile inside probes/*.c lib/*.c && compile outside "$work/libbh.so.0" -Wl,-rpath,"\$ORIGIN" || exit 1

# trace SCRIPT TARGET WHERE: what it prints goes to $work/table, the target's own counts to variables.
# WHERE: "-p" for the process, or a file. Each has files of its own: the kernel takes a second to
# detach whoever was there before, and takes the probes of the next one along.
trace() {
	local script=$1 target=$2 where=$3 of from=() path=()
	files=$(mktemp -d "$work/files.XXXX") && cp "$work/inside" "$work/outside" "$work/libbh.so.0" "$files/" || exit 1
	start_ready "$files/$target"
	of=$pid counts=$log
	if [ "$where" = -p ]; then from=(-p "$of"); else path=("$files/$where"); fi
	start bpftrace "${from[@]}" "bpf/$script.bt" "${path[@]}"
	wait_until 60 grep -q '^Tracing' "$log" || fail "$script, $where: does not begin: $(cat "$log")"
	kill -USR1 "$of"
	wait_until 30 grep -q '^TIMEOUTS' "$counts" || fail "$script, $where: the target stands still: $(cat "$counts")"
	kill -INT "$pid"
	wait "$pid" || fail "$script, $where: exit $?: $(cat "$log")"
	grep -q '^@' "$log" || fail "$script, $where: no event: $(cat -A "$log")"
	stop "$of"
	mv "$log" "$work/table"
	# shellcheck disable=SC1090 # NAME=NUMBER lines
	. <(grep '^[A-Z]*=[0-9]*$' "$counts")
	what="$script on $target through $where"
}

# The value of COLUMN, or the sum of several that begin so. In histograms: of their rows.
total() { # COLUMN
	awk -v column="$1" '
		index($0, "@") == 1 { inside = index($0, column) == 1; if (inside && !/: $/) sum += $NF }
		/^[[(]/ && inside { sub(/^[^)]*\) */, ""); sub(/^\[[^]]*\] */, ""); sum += $1 }
		END { print sum + 0 }' "$work/table"
}

equal() { # COLUMN NUMBER
	local sum
	sum=$(total "$1")
	[ "$sum" = "$2" ] || fail "$what: $1 is $sum, not $2: $(cat "$work/table")"
}

has() { grep -Eq "$1" "$work/table" || fail "$what: no $1: $(cat "$work/table")"; } # REGEX
lacks() { ! grep -Eq "$1" "$work/table" || fail "$what: has $1: $(cat "$work/table")"; } # REGEX

# The 300 ms that "late" was held up.
held='^(@longest_us\[late, post\]: [3-9][0-9]{5}|\[256K, 512K\) +1 .*)$'

latency() {
	equal '@wait_us[work, post]' "$W"
	equal '@run_us[work, post]' "$W"
	equal '@wait_us[late, post]' 1
	equal '@run_us[gate, hold]' 1 # the other has not returned
	has "$held"
}

coalesced() {
	equal '@schedules[work, post, effective]' "$W"
	equal '@schedules[work, post, coalesced]' "$AGAIN"
	equal '@schedules[' $((W + AGAIN + 4))
	has '^]?, work, producer\]: '"$AGAIN"'$'
}

pending() {
	has "$held"
	has '^@pending\[[0-9]+, [0-9]+\]: \([0-9]+, 0, stuck, producer\)$'
	[ "$(grep -c '^@pending' "$work/table")" -le 2 ] || fail "$what: too many pending: $(cat "$work/table")"
	lacks '^@pending.*(work|late)'
}

# Exactly what the target counted.
trace bhlatency inside -p
latency
trace bhlatency inside inside
latency
trace bhcoalesce inside -p
coalesced
has '^ *schedule_again\+'
trace bhcoalesce outside -p
coalesced
trace bhpending inside -p
pending
trace bhpending outside libbh.so.0
pending

trace bhnotify inside -p
equal '@wrote[' "$WRITES"
equal '@wrote[main, producer]' "$WRITES"
equal '@read[main, looper, 0]' "$READS"
equal '@read_value[main, looper]' "$VALUE"
has '^@spared\[main, producer\]: [1-9]'
lacks '@write_failed'

trace bhsleep inside -p
equal '@sleep_us[main]' "$SLEEPS"
equal '@woke[main, 4]' "$TIMEOUTS"
equal '@woke[' "$SLEEPS"
equal '@late_us[main]' "$TIMEOUTS"
has '^@slept_ms\[main\]: [1-9]'
has '^@asleep\[[0-9]+, [0-9]+\]: \([0-9]+, -1, aside\)$'
(( TIMEOUTS >= 5 && WRITES >= 1 )) || fail "the target does not do what it is for: $(cat "$counts")"

# At full speed the events of two threads overtake one another on their way: each run still has its
# schedule, but for some of a thousand, and nothing is pending when all is done.
start "$OUT/museum/flag-race" --variant fixed --seconds 3 --idle-after
of=$pid counts=$log what="at full speed"
start bpftrace -p "$of" bpf/bhpending.bt
pending=$pid pending_log=$log
bpftrace -p "$of" bpf/bhlatency.bt '*' 1 >"$work/table" 2>&1 || fail "$what: $(cat "$work/table")"
waits=$(total '@wait_us[completion') runs=$(total '@run_us[completion')
(( runs > 1000 && waits > runs * 98 / 100 && waits < runs * 102 / 100 )) ||
	fail "$what: $waits waits of $runs runs: $(cat "$work/table")"
wait_until 60 grep -q '^Tracing' "$pending_log"
wait_until 60 grep -q '^idle' "$counts" || fail "$what: the target does not end: $(cat "$counts")"
kill -INT "$pending"
wait "$pending"
stop "$of"
mv "$pending_log" "$work/table"
has '^@longest_us\[completion, complete\]: [0-9]'
lacks '^@pending'
[ "$failed" -eq 0 ]
