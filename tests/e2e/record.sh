#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bhtrace record --via flight: what a process did is in the recording, or was
# reported as discarded; and whoever ends first, what was recorded stays readable.
#
#   record.sh [PART...]    a part is a function below
# shellcheck source-path=SCRIPTDIR source=common.bash disable=SC2317 # parts are called by name
. "$(dirname "$0")/common.bash"
parts=(counted overrun idle_cost interrupted time_over target_exits target_killed target_executes recorder_killed
	disk_full hang hang_kept_by_snapshot late_library refusals other_user completion)

# busy PRODUCERS BURSTS PAUSE_US THEN: each producer schedules in bursts of 100; then
# it says what it did, and waits, exits with 7 or executes something else.
cat >"$work/busy.c" <<'EOC'
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bh.h"

enum { BURST = 100, PRODUCERS = 16 };
static struct bh *work, *end;
static _Atomic unsigned long schedules;
static unsigned long executions, ends;
static unsigned bursts, pause_us;
static const char *then;

static void do_work(void *opaque)
{
	(void)opaque;
	executions++;
}

/* What is scheduled before it is done before its second time. */
static void on_end(void *opaque)
{
	(void)opaque;
	if (++ends == 1) {
		bh_schedule(end);
		return;
	}
	printf("ready pid=%d\nschedules=%lu executions=%lu\n", getpid(), schedules + 2, executions + 2);
	fflush(stdout);
	if (!strcmp(then, "exit"))
		exit(7);
	if (!strcmp(then, "execute"))
		execlp("sleep", "sleep", "60", (char *)NULL);
}

static void *produce(void *arg)
{
	for (unsigned i = 0; i < bursts; i++) {
		for (unsigned k = 0; k < BURST; k++)
			bh_schedule(work);
		atomic_fetch_add(&schedules, BURST);
		if (pause_us)
			usleep(pause_us);
	}
	return arg;
}

static void *oversee(void *arg)
{
	pthread_t thread[PRODUCERS];
	unsigned n = *(unsigned *)arg;

	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&thread[i], NULL, produce, NULL))
			exit(1);
	for (unsigned i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	bh_schedule(end);
	return NULL;
}

int main(int argc, char **argv)
{
	struct bh_loop *loop = bh_loop_new("busy");
	unsigned producers = argc == 5 ? (unsigned)atoi(argv[1]) : 0;
	pthread_t thread;

	alarm(120);
	if (!producers || producers > PRODUCERS || !loop)
		return 2;
	bursts = (unsigned)atoi(argv[2]);
	pause_us = (unsigned)atoi(argv[3]);
	then = argv[4];
	work = bh_new(loop, do_work, NULL, "work");
	end = bh_new(loop, on_end, NULL, "end");
	if (!work || !end || pthread_create(&thread, NULL, oversee, &producers))
		return 1;
	return bh_loop_run(loop);
}
EOC
"${CC:-gcc}" -std=gnu11 -O2 -g -D_GNU_SOURCE -Ilib "$work/busy.c" -o "$work/busy" -pthread "$OUT/libbh.a" ||
	fail "busy.c cannot be built"
busy=$work/busy

# --- what was recorded ---------------------------------------------------------------

# record OPTION...: in the background; sets $recorder and $words, the file of its last
# words; its errors go to $words.err.
record() {
	words=$work/words.$((++n_started))
	: >"$words"
	"$BHTRACE" record "$@" >"$words" 2>"$words.err" </dev/null &
	recorder=$!
}

# recorded CODE: waits for the recorder, which must exit with CODE.
recorded() {
	local got
	wait_until 30 gone "$recorder" || fail "the recorder does not end"
	wait "$recorder"
	got=$?
	[ $got = "$1" ] || fail "the recorder's exit: $got, not $1: $(cat "$words" "$words.err")"
}

gone() { ! kill -0 "$1" 2>/dev/null; }

said() { grep -q "$1" "$words" "$words.err" || fail "'$(cat "$words" "$words.err")' lacks '$1'"; }

word() { sed -n "s/^.* \([0-9]*\) $1.*/\1/p" "$words" | head -n 1; } # the number before $1

ready_child() { # the command of the recorder says "ready" on its output
	wait_until 30 grep -q '^ready ' "$words" || fail "not ready: $(cat "$words" "$words.err")"
	pid=$(sed -n 's/^ready pid=//p' "$words")
}

own() { sed -n "s/.*$1=\([0-9]*\).*/\1/p" "$words"; } # schedules or executions

on_disk() { [ -n "$(find "$1" -name 'stream-*' -size +0 2>/dev/null)" ]; } # RECORDING

events() { # RECORDING [NAME]: how many, as another reader counts them
	babeltrace2 "$1" 2>"$work/babeltrace" | grep -cE "${2:+[: ]$2: }" || true
}

# readable RECORDING: by babeltrace2, without a warning, and not empty.
readable() {
	[ "$(events "$1")" -gt 0 ] || fail "$1: no events: $(cat "$work/babeltrace")"
	grep -vi discarded "$work/babeltrace" | grep -qi 'warn\|error' && fail "$1: $(cat "$work/babeltrace")"
	diagnose_recording "$1"
	[ "$code" = 0 ] || [ "$code" = 3 ] || fail "diagnose $1: exit $code: $(cat "$work/error" "$work/report")"
}

diagnose_recording() { bhtrace diagnose "$1" --json; }

discarded() { word discarded; }

# --- parts -----------------------------------------------------------------------------

counted() {
	record -o "$work/counted" -- "$busy" 4 3000 500 wait
	ready_child
	kill -INT "$recorder"
	recorded 0
	said "ended: Ctrl-C"
	[ "$(discarded)" = 0 ] || fail "counted: $(discarded) discarded"
	[ "$(events "$work/counted" schedule)" = "$(own schedules)" ] ||
		fail "counted: $(events "$work/counted" schedule) schedules recorded, $(own schedules) made"
	[ "$(events "$work/counted" execute_end)" = "$(own executions)" ] ||
		fail "counted: $(events "$work/counted" execute_end) executions recorded, $(own executions) made"
	[ "$(events "$work/counted")" = "$(word events)" ] ||
		fail "counted: $(events "$work/counted") events in it, $(word events) said"
	readable "$work/counted"
	[ "$code" = 0 ] || fail "counted: not healthy: $(cat "$work/report")"
	echo "counted: $(own schedules) schedules, $(own executions) executions, all recorded; $(sed -n 2p <(grep -v = "$words"))"
	stop "$pid"
}

# Smaller rings than it can read in time.
overrun() {
	local got lost made
	BH_FLIGHT=4K record -o "$work/overrun" -- "$busy" 2 20000 0 wait
	ready_child
	kill -INT "$recorder"
	recorded 0
	got=$(events "$work/overrun" schedule) lost=$(discarded) made=$(own schedules)
	((lost > 0 && got < made && got + lost >= made)) ||
		fail "overrun: $made made, $got recorded, $lost discarded"
	said "BH_FLIGHT=4M"
	readable "$work/overrun"
	stop "$pid"
	echo "overrun: $made schedules made, $got recorded, $lost records of all kinds discarded"
}

cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

idle_cost() {
	local before
	start_ready "$busy" 1 10 0 wait
	record -o "$work/idle" -p "$pid"
	wait_until 10 on_disk "$work/idle" || fail "idle: nothing on the disk"
	before=$(cpu_ticks "$recorder")
	sleep 2 # that long it is looked at
	[ $(($(cpu_ticks "$recorder") - before)) -le 4 ] || # 2 % of a CPU
		fail "idle: $(($(cpu_ticks "$recorder") - before)) ticks of CPU time in two seconds"
	kill -INT "$recorder"
	recorded 0
	stop "$pid"
}

interrupted() {
	record -o "$work/interrupted" --json -- "$busy" 2 1000 1000 wait
	wait_until 10 on_disk "$work/interrupted" || fail "nothing on the disk: $(cat "$words.err")"
	kill -TERM "$recorder"
	recorded 0
	said '"ended": "SIGTERM"'
	said '"schema": "bhtrace.record-result/1"'
	pid=$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' "$words")
	kill -0 "$pid" || fail "the command did not survive its recorder"
	[ "$(ps -o pgid= -p "$pid" | tr -d ' ')" = "$pid" ] || fail "Ctrl-C would reach the command"
	[ -s "$work/interrupted/busy-$pid/evidence" ] || fail "no evidence was kept"
	readable "$work/interrupted"
	kill -KILL "$pid"
}

time_over() {
	start_ready "$busy" 1 10 0 wait
	record -o "$work/time" -p "$pid" --for 500ms
	recorded 0
	said "ended: the time was over"
	readable "$work/time"
	stop "$pid"
}

target_exits() {
	record -o "$work/exits" -- "$busy" 2 1000 500 exit
	recorded 0
	said "ended: the command exited with 7"
	said "BH_FLIGHT=file:DIR"
	readable "$work/exits"
}

target_killed() {
	start "$busy" 2 100000 1000 wait
	wait_until 20 has_loop "$pid" || fail "no loop"
	record -o "$work/killed" -p "$pid"
	wait_until 10 on_disk "$work/killed" || fail "nothing on the disk: $(cat "$words.err")"
	stop "$pid"
	recorded 0
	said "ended: the target exited"
	readable "$work/killed"
}

target_executes() {
	record -o "$work/executes" -- "$busy" 2 1000 500 execute
	recorded 0
	said "ended: the target executed another program"
	readable "$work/executes"
	pid=$(sed -n 's/^ready pid=//p' "$words")
	kill -KILL "$pid"
}

# At any moment: what is there is whole.
recorder_killed() {
	local i
	start "$busy" 4 1000000 500 wait
	wait_until 20 has_loop "$pid" || fail "no loop"
	for i in 1 2 3 4 5; do
		record -o "$work/cut.$i" -p "$pid"
		wait_until 10 on_disk "$work/cut.$i" || fail "nothing on the disk: $(cat "$words.err")"
		sleep 0."$((RANDOM % 10))"
		stop "$recorder"
		readable "$work/cut.$i"
	done
	kill -0 "$pid" || fail "the target noticed"
	stop "$pid"
}

disk_full() {
	local disk=$work/disk
	mkdir "$disk"
	mount -t tmpfs -o size=512k tmpfs "$disk" 2>/dev/null || { echo "disk_full: skipped, no permission to mount"; return; }
	record -o "$disk/full" -- "$busy" 4 4000 500 wait
	ready_child
	kill -INT "$recorder"
	recorded 5
	said "No space left on device; recording goes on"
	[ "$(wc -l <"$words.err")" -le 2 ] || fail "disk full: said too much: $(cat "$words.err")"
	(($(events "$disk/full" schedule) + $(discarded) >= $(own schedules))) ||
		fail "disk full: $(events "$disk/full" schedule) recorded, $(discarded) discarded, $(own schedules) made"
	[ "$(discarded)" -gt 0 ] || fail "disk full: nothing discarded"
	diagnose_recording "$disk/full"
	[ "$code" = 3 ] || [ "$code" = 0 ] || fail "disk full: diagnose: exit $code: $(cat "$work/error" "$work/report")"
	kill -0 "$pid" || fail "the target noticed"
	kill -KILL "$pid"
	umount "$disk"
}

# Recorded from its beginning, and diagnosed without it.
hang() {
	record -o "$work/hang" -- "$OUT/museum/notify-missing" --max-seconds 60
	wait_until 30 grep -q '^hung ' "$words" || fail "did not hang: $(cat "$words" "$words.err")"
	kill -INT "$recorder"
	recorded 0
	pid=$(sed -n 's/^hung pid=//p' "$words")
	kill -KILL "$pid"
	diagnose_recording "$work/hang"
	expect "recorded hang" 1 "f['rule'] == 'notify-missing'" "f['confidence'] == 'proved'"
	[ "$(events "$work/hang")" = "$(word events)" ] || fail "hang: $(events "$work/hang") events, $(word events) said"
}

snapshots() { find "$work/kept" -mindepth 1 -maxdepth 1 -name "*-$1" 2>/dev/null | grep -q .; } # NUMBER

hang_kept_by_snapshot() {
	start "$OUT/museum/notify-missing" --max-seconds 60
	await hung 60 || fail "did not hang: $(cat "$log")"
	record -o "$work/kept" --snapshot -p "$pid"
	wait_until 20 snapshots 1 || fail "the hang was not kept: $(cat "$words.err")"
	kill -USR1 "$recorder"
	wait_until 20 snapshots 2 || fail "SIGUSR1 was not heard: $(cat "$words.err")"
	kill -INT "$recorder"
	recorded 0
	snapshots 3 || fail "nothing was kept at the end"
	snapshots 4 && fail "the same hang was kept twice"
	stop "$pid"
	for i in 1 2 3; do
		diagnose_recording "$work/kept/notify-missing-$pid-$i"
		expect "snapshot $i" 1 "f['rule'] == 'notify-missing'"
	done
	start_ready "$busy" 1 10 0 wait
	record -o "$work/unkept" --snapshot -p "$pid"
	wait_until 10 test -d "$work/unkept" || fail "no directory"
	stop "$pid"
	recorded 0
	said "No snapshot was taken"
}

# What is started first need not be what is recorded.
late_library() {
	record -o "$work/late" -- sh -c "sleep 1.5; exec '$busy' 2 100 3000 exit"
	recorded 0
	said "has not loaded libbh so far"
	said "ended: the command exited with 7"
	readable "$work/late"
}

refusals() {
	local sleeper
	bhtrace record -p $$
	refused "no directory" 2 "-o DIR is needed"
	bhtrace record -o "$work/x"
	refused "no target" 2 "-p PID or a command is needed"
	bhtrace record -o "$work/x" -p $$ true
	refused "two targets" 2 "either -p PID or a command"
	bhtrace record -o "$work/x" --via=smoke -p $$
	refused "--via" 2 "not 'smoke'"
	bhtrace record -o "$work/x" --to=net://localhost -p $$
	refused "--to" 2 "--to is for --via=lttng"
	bhtrace record -o "$work/x" --for=3 -p $$
	refused "--for" 2 "is no duration"
	bhtrace record -o "$work" -p $$
	refused "DIR exists" 5 "File exists"
	bhtrace record -o "$work/no/x" -p $$
	refused "no place for DIR" 5 "No such file or directory"
	bhtrace record -o "$work/x" -p 4194304
	refused "no process" 5 "process 4194304: does not exist"
	bhtrace record -o "$work/x" -- "$work/nosuch"
	refused "no command" 5 "nosuch: No such file or directory"
	bhtrace record -o "$work/x" -- sh -c 'exit 3'
	refused "not instrumented" 5 "the command exited with 3"
	sleep 60 &
	sleeper=$!
	bhtrace record -o "$work/x" -p $sleeper
	refused "no libbh" 5 "not linked with libbh"
	stop $sleeper
	start_ready env BH_FLIGHT=off "$busy" 1 10 0 wait
	bhtrace record -o "$work/x" -p "$pid"
	refused "recorder off" 5 "BH_FLIGHT=off"
	stop "$pid"
	[ ! -e "$work/x" ] || fail "a refused recording left $(find "$work/x")"
}

other_user() {
	local copy=$work/bhtrace
	if [ "$(id -u)" != 0 ] || ! command -v setpriv >/dev/null; then
		echo "other_user: skipped, not root"
		return
	fi
	cp "$BHTRACE" "$copy" && chmod 755 "$copy"
	mkdir -m 777 "$work/other"
	start_ready "$busy" 1 10 0 wait
	BHTRACE=setpriv bhtrace --reuid=65534 --regid=65534 --clear-groups "$copy" record -o "$work/other/x" -p "$pid"
	refused "another user's" 4 "CAP_SYS_PTRACE"
	[ ! -e "$work/other/x" ] || fail "a refused recording left $(find "$work/other/x")"
	# One's own needs no root.
	record_as_nobody
	stop "$pid"
}

record_as_nobody() {
	setpriv --reuid=65534 --regid=65534 --clear-groups "$copy" record -o "$work/other/own" -- "$busy" 2 200 500 exit \
		>"$work/report" 2>"$work/error" </dev/null || fail "one's own, without root: exit $?: $(cat "$work/error")"
}

# complete WORD...: what bash offers for the last word.
complete_words() {
	bash -c '
		PATH=$1:$PATH; . tools/completion/bhtrace.bash; shift
		COMP_WORDS=(bhtrace "$@") COMP_CWORD=$#
		_bhtrace
		printf "%s\n" "${COMPREPLY[@]}"' bash "$(dirname "$BHTRACE")" "$@"
}

completion() {
	[ "$(complete_words rec)" = record ] || fail "completion of rec: $(complete_words rec)"
	[ "$(complete_words record --sna)" = --snapshot ] || fail "completion of --sna: $(complete_words record --sna)"
	[ "$(complete_words record --via = lt)" = lttng ] || fail "completion of --via=lt: $(complete_words record --via = lt)"
	[ "$(complete_words explain fd)" = fd-unwatched ] || fail "completion of a rule: $(complete_words explain fd)"
	complete_words diagnose -p '' | grep -qx $$ || fail "completion of a process id"
	complete_words diagnose tests/e2e/recor | grep -qx tests/e2e/record.sh || fail "completion of a file"
}

command -v babeltrace2 >/dev/null || skip "no babeltrace2"
[ $# -gt 0 ] || set -- "${parts[@]}"
for part in "$@"; do
	[[ " ${parts[*]} " == *" $part "* ]] || { echo "no part $part"; exit 2; }
	"$part"
done
[ $failed -eq 0 ]
