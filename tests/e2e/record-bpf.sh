#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bhtrace record --via bpf: what processes do is in the recording, however they come
# to do it; and whoever ends first, they go on and what was recorded stays readable.
#
#   record-bpf.sh [PART...]    a part is a function below
# shellcheck source-path=SCRIPTDIR source=common.bash disable=SC2317 # parts are called by name
. "$(dirname "$0")/common.bash"
parts=(counted attached overloaded forks executes other_namespaces late_library everybody hangs late recorder_killed target_killed
	disk_full privileges_kept refusals nobody)

# busy STEP...: a process that does one step after the other. COUNT are rounds; in each one
# a bottom half is scheduled and waited for.
#   go   wait for SIGUSR1        COUNT   so many rounds, then it says how many there were; COUNT! without pauses
#   fork both go on, the parent after the child      exec:PATH   the other steps are another program's
cat >"$work/busy.c" <<'EOC'
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bh.h"

static sem_t ran;
static unsigned executions;

static void do_work(void *opaque)
{
	(void)opaque;
	executions++;
	sem_post(&ran);
}

static void *run(void *loop)
{
	bh_loop_run(loop);
	return NULL;
}

static void rounds(unsigned n, int pause)
{
	static struct bh *work;
	static pid_t owner;
	pthread_t thread;

	if (owner != getpid()) { /* a loop does not survive fork() */
		struct bh_loop *loop = bh_loop_new("busy");
		work = loop ? bh_new(loop, do_work, NULL, "work") : NULL;
		if (!work || sem_init(&ran, 0, 0) || pthread_create(&thread, NULL, run, loop))
			exit(1);
		owner = getpid();
		executions = 0;
	}
	for (unsigned i = 0; i < n; i++) {
		bh_schedule(work);
		sem_wait(&ran);
		if (pause)
			usleep(20);
	}
	printf("did schedules=%u executions=%u\n", n, executions);
	fflush(stdout);
}

int busy(char **step);
int busy(char **step)
{
	sigset_t usr1;
	int sig, status = 0;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	alarm(120);
	printf("ready pid=%d\n", getpid());
	fflush(stdout);
	for (; *step; step++)
		if (!strcmp(*step, "go"))
			sigwait(&usr1, &sig);
		else if (!strcmp(*step, "fork") && fork())
			wait(&status);
		else if (!strncmp(*step, "exec:", 5))
			return execv(*step + 5, step);
		else if (strcmp(*step, "fork"))
			rounds((unsigned)atoi(*step), !strchr(*step, '!'));
	return status ? 1 : 0;
}

#ifndef LATE
int main(int argc, char **argv)
{
	return argc > 1 ? busy(argv + 1) : 2;
}
#endif
EOC
# late LIBRARY STEP...: loads the library, which has the rest, after SIGUSR1.
cat >"$work/late.c" <<'EOC'
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	sigset_t usr1;
	int sig;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	alarm(120);
	printf("unready pid=%d\n", getpid());
	fflush(stdout);
	sigwait(&usr1, &sig);
	void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
	int (*busy)(char **step) = library ? (int (*)(char **))dlsym(library, "busy") : NULL;
	if (!busy)
		fprintf(stderr, "%s\n", dlerror());
	const int code = busy ? busy(argv + 2) : 2;
	if (library && dlclose(library) != 0)
		fprintf(stderr, "%s\n", dlerror());
	usleep(100000);
	puts("unloaded");
	return code;
}
EOC
compile() { "${CC:-gcc}" -std=gnu11 -O2 -g -D_GNU_SOURCE -Ilib "$@" -pthread || fail "cannot be built"; }
compile "$work/busy.c" -o "$work/busy" "$OUT/libbh.a"
compile "$work/busy.c" -DLATE -fPIC -shared -o "$work/busy.so" -L"$OUT" -lbh -Wl,-rpath,"$OUT"
compile "$work/late.c" -o "$work/late" -ldl
cp "$work/busy" "$work/again"
busy=$work/busy

# --- what was recorded ---------------------------------------------------------------

# record OPTION...: in the background; sets $recorder and $words, the file of its last
# words; its errors go to $words.err.
record() {
	words=$work/words.$((++n_started))
	: >"$words"
	"$BHTRACE" record --via bpf "$@" >"$words" 2>"$words.err" </dev/null &
	recorder=$!
}

# recorded CODE: waits for the recorder, which must exit with CODE.
recorded() {
	local got
	wait_until 60 gone "$recorder" || fail "the recorder does not end"
	wait "$recorder"
	got=$?
	[ $got = "$1" ] || fail "the recorder's exit: $got, not $1: $(cat "$words" "$words.err")"
}

gone() { ! kill -0 "$1" 2>/dev/null; }

said() { grep -q "$1" "$words" "$words.err" || fail "'$(cat "$words" "$words.err")' lacks '$1'"; }

word() { sed -n "s/^.* \([0-9]*\) $1.*/\1/p" "$words" | head -n 1; } # the number before $1

# begun DIR: the recorder has attached its probes and has begun to write.
begun() { wait_until 30 test -e "$1/until" || fail "$1 was not begun: $(cat "$words" "$words.err")"; }

events() { # RECORDING [NAME]: how many, as another reader counts them
	babeltrace2 "$1" 2>"$work/babeltrace" | grep -cE "${2:+[: ]$2: }" || true
}

# readable RECORDING: by babeltrace2, without a warning, and not empty.
readable() {
	[ "$(events "$1")" -gt 0 ] || fail "$1: no events: $(cat "$work/babeltrace")"
	grep -vi discarded "$work/babeltrace" | grep -qi 'warn\|error' && fail "$1: $(cat "$work/babeltrace")"
	bhtrace diagnose "$1" --json
	[ "$code" = 0 ] || [ "$code" = 3 ] || fail "diagnose $1: exit $code: $(cat "$work/error" "$work/report")"
}

# has WHAT RECORDING ROUNDS: nothing of so many rounds is missing.
has() {
	local schedules executions
	schedules=$(events "$2" schedule) executions=$(events "$2" execute_end)
	[ "$schedules/$executions" = "$3/$3" ] ||
		fail "$1: $schedules schedules and $executions executions recorded, $3 made: $(cat "$words" "$words.err")"
}

# one DIRECTORY COMMAND: sets $found to the only recording of it.
one() {
	found=$(find "$1" -maxdepth 1 -name "$2-*")
	[ -d "$found" ] || fail "$1: not one recording of $2: $(ls "$1")"
}

# untouched PID: the text of its program is that of the file again, without breakpoints.
untouched() {
	python3 - "$1" <<-'EOF'
		import os, sys
		pid = sys.argv[1]
		exe = os.readlink(f"/proc/{pid}/exe")
		mem = open(f"/proc/{pid}/mem", "rb")
		for line in open(f"/proc/{pid}/maps"):
		    span, flags, offset, _, _, *path = line.split()
		    if "x" in flags and path and path[0] == exe:
		        begin, end = (int(x, 16) for x in span.split("-"))
		        mem.seek(begin)
		        image = open(exe, "rb")
		        image.seek(int(offset, 16))
		        text = image.read(end - begin)
		        sys.exit(mem.read(len(text)) != text)
		sys.exit(2)
	EOF
}

no_links_left() { ! bpftool link 2>/dev/null | grep -q bhtrace; }

# --- parts -----------------------------------------------------------------------------

counted() {
	record -o "$work/counted" --json -- sh -c "'$busy' 5000 >'$work/did'"
	recorded 0
	said "ended\": \"the command exited with 0"
	has counted "$work/counted" 5000
	cp "$words" "$work/report"
	unmet=$(query unmet "d['discarded'] == 0" "d['via'] == 'bpf'" "d['probes']['hits'] >= 15000" \
		"d['probes']['cost_ns'] > 0" "d['probes']['processes'] == 1" "not d['probes']['begins']")
	[ -z "$unmet" ] || fail "counted: not true: $unmet: $(cat "$words")"
	[ "$(events "$work/counted")" = "$(query values "d['events']")" ] ||
		fail "counted: $(events "$work/counted") events in it, $(query values "d['events']") said"
	[ "$(events "$work/counted" switch_in)" -gt 0 ] || fail "counted: nothing of the scheduler"
	[ "$(events "$work/counted" execute_begin)" = 0 ] || fail "counted: a probe stood before the callbacks"
	readable "$work/counted"
	[ "$code" = 0 ] || fail "counted: not healthy: $(cat "$work/report")"
	record -o "$work/begins" --no-kernel --begins -- "$busy" 100
	recorded 0
	has begins "$work/begins" 100
	said "can hide a race"
	said "proves nothing"
	[ "$(events "$work/begins" execute_begin)" = 100 ] || fail "begins: $(events "$work/begins" execute_begin)"
	[ "$(events "$work/begins" switch_in)" = 0 ] || fail "begins: --no-kernel was not heard"
}

attached() {
	start_ready "$busy" 10 go 3000 go
	wait_until 10 grep -q '^did' "$log"
	record -o "$work/attached" -p "$pid"
	begun "$work/attached/busy-$pid"
	kill -USR1 "$pid"
	wait_until 30 grep -q 'schedules=3000' "$log" || fail "attached: $(cat "$log")"
	kill -INT "$recorder"
	recorded 0
	said "ended: Ctrl-C"
	said "A hit costs"
	has attached "$work/attached" 3000
	[ -s "$work/attached/busy-$pid/evidence" ] || fail "attached: no evidence was kept: $(cat "$words.err")"
	readable "$work/attached"
	wait_until 10 untouched "$pid" || fail "attached: a probe stayed in the process"
	stop "$pid"
	sed -n '3,4p' "$words"
}

# A recorder that gets no CPU time for a while: what it misses is counted.
overloaded() {
	local got lost
	record -o "$work/overloaded" -- sh -c "'$busy' go 80000!; true"
	wait_until 30 grep -q '^ready' "$words" || fail "overloaded: $(cat "$words" "$words.err")"
	pid=$(sed -n 's/^ready pid=//p' "$words")
	kill -STOP "$recorder"
	kill -USR1 "$pid"
	wait_until 60 grep -q '^did' "$words" || fail "overloaded: the target waits for its recorder: $(cat "$words")"
	kill -CONT "$recorder"
	recorded 0
	got=$(events "$work/overloaded" schedule) lost=$(word discarded)
	((lost > 0 && got < 80000 && got + lost >= 80000)) ||
		fail "overloaded: $got schedules of 80000 recorded, $lost events discarded"
	said "found the buffer full"
	readable "$work/overloaded"
	[ "$(events "$work/overloaded")" = "$(word "events of")" ] ||
		fail "overloaded: $(events "$work/overloaded") events in it, $(word "events of") said"
	echo "overloaded: $got schedules of 80000 recorded, $lost events of all kinds discarded"
}

forks() {
	record -o "$work/forks" -- "$busy" 700 fork 1100
	recorded 0
	[ "$(find "$work/forks" -name 'busy-*' | wc -l)" = 2 ] || fail "forks: $(ls "$work/forks")"
	pid=$(sed -n 's/^ready pid=//p' "$words")
	has "the parent" "$work/forks/busy-$pid" 1800
	found=$(find "$work/forks" -name 'busy-*' ! -name "busy-$pid")
	[ "$(events "$found" schedule)" -gt 900 ] || fail "the child: $(events "$found" schedule) schedules of 1100"
	if [ "$(events "$found" schedule)" -lt 1100 ]; then
		said "1 process ran already"
	fi
	readable "$work/forks"
}

executes() {
	record -o "$work/executes" -- sh -c "'$busy' 300 exec:$work/again 500; true"
	recorded 0
	one "$work/executes" busy
	has "before exec" "$found" 300
	one "$work/executes" again
	has "after exec" "$found" 500
	readable "$work/executes"
}

# Other numbers of processes, and another root of files.
other_namespaces() {
	unshare -mp --fork true 2>/dev/null || { echo "other_namespaces: skipped, no permission to unshare"; return; }
	record -o "$work/spaces" -- unshare -mp --fork --mount-proc "$busy" 900
	recorded 0
	one "$work/spaces" busy
	has "a command in namespaces" "$found" 900
	start_ready unshare -mp --fork --mount-proc "$busy" 10 go 900 go
	pid=$(pgrep -P "$pid")
	record -o "$work/inside" -p "$pid"
	begun "$work/inside/busy-$pid"
	kill -USR1 "$pid"
	wait_until 30 grep -q 'schedules=900' "$log" || fail "inside: $(cat "$log")"
	kill -INT "$recorder"
	recorded 0
	has "a process in namespaces" "$work/inside" 900
	readable "$work/inside"
	kill -KILL "$pid"
}

late_library() {
	record -o "$work/late.1" -- "$work/late" "$work/busy.so" 800
	wait_until 30 grep -q '^unready' "$words" || fail "late: $(cat "$words" "$words.err")"
	kill -USR1 "$(sed -n 's/^unready pid=//p' "$words")"
	recorded 0
	has "a library that is loaded later" "$work/late.1" 800
	grep -q '^unloaded' "$words" || fail "a library that is unloaded again: $(cat "$words")"
	readable "$work/late.1"
}

everybody() {
	local first second
	start_ready "$busy" go 600 go
	first=$pid
	start_ready "$busy" go 600 go
	second=$pid
	record -o "$work/all" --all
	begun "$work/all/busy-$first"
	begun "$work/all/busy-$second"
	kill -USR1 "$first" "$second"
	"$busy" 400 >"$log.third" || fail "everybody: the third"
	wait_until 30 grep -q 'schedules=600' "$log" || fail "everybody: $(cat "$log")"
	kill -INT "$recorder"
	recorded 0
	has "the first of all" "$work/all/busy-$first" 600
	has "the second of all" "$work/all/busy-$second" 600
	[ -s "$work/all/busy-$first/evidence" ] && [ -s "$work/all/busy-$second/evidence" ] ||
		fail "everybody: no evidence: $(cat "$words.err")"
	[ "$(find "$work/all" -name 'busy-*' | wc -l)" = 3 ] || fail "everybody: $(ls "$work/all")"
	readable "$work/all/busy-$first" # and whatever else runs on this machine
	readable "$work/all/busy-$second"
	stop "$first"
	stop "$second"
}

# As from the live process; of a command and of one that runs.
hangs() {
	local piece
	for piece in flag-race notify-skipped callback-blocked; do
		record -o "$work/hang.$piece" -- "$OUT/museum/$piece" --max-seconds 60
		wait_until 60 grep -q '^hung ' "$words" || fail "$piece did not hang: $(cat "$words" "$words.err")"
		kill -INT "$recorder"
		recorded 0
		kill -KILL "$(sed -n 's/^hung pid=//p' "$words")"
		bhtrace diagnose "$work/hang.$piece" --json
		expect "recorded $piece" 1 "f['rule'] == '$piece'"
	done
	start "$OUT/museum/callback-blocked" --max-seconds 60
	await hung 60 || fail "did not hang: $(cat "$log")"
	record -o "$work/hang.pid" -p "$pid" --for 1s
	recorded 0
	bhtrace diagnose "$work/hang.pid" --json
	expect "recorded when it had hung" 1 "f['rule'] == 'callback-blocked'"
	stop "$pid"
}

# late_by PIECE SEGMENT: its worst gap is that one's, and all add up.
late_by() {
	record -o "$work/late.$1" -- "$OUT/museum/$1" --max-seconds 60
	wait_until 60 grep -q '^late ' "$words" || fail "$1 is not late: $(cat "$words" "$words.err")"
	kill -INT "$recorder"
	recorded 0
	kill -KILL "$(sed -n 's/^late pid=//p' "$words")"
	bhtrace report "$work/late.$1" --json
	python3 - "$@" "$work/report" <<-'EOF' || fail "$1: $(cat "$work/report")"
		import json, sys
		piece, segment, report = sys.argv[1:]
		worst = json.load(open(report))["worst"]
		for gap in worst:
		    off = abs(sum(gap["segments_ns"].values()) - gap["gap_ns"])
		    assert off <= max(2000, 0.01 * gap["gap_ns"]), (off, gap)
		parts = worst[0]["segments_ns"]
		assert parts[segment] > 0.9 * worst[0]["gap_ns"], parts
		assert bool(worst[0]["rescued"]) == (piece == "rescued"), worst[0]
	EOF
}

late() {
	late_by slow-callback callbacks
	late_by slow-wake run-queue
	late_by rescued waking
}

cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

works_on() { [ "$(cpu_ticks "$1")" -gt $(($2 + 2)) ]; }

# At any moment: what is there is whole. KILLS times each (3); make soak wants more.
recorder_killed() {
	local i before
	for ((i = 1; i <= ${KILLS:-3}; i++)); do
		start_ready "$busy" 100000000
		record -o "$work/cut" -p "$pid"
		((i % 2)) && begun "$work/cut/busy-$pid" # or it is still busy with its start
		sleep 0."$((RANDOM % 10))"
		stop "$recorder"
		wait_until 20 untouched "$pid" || fail "a probe stayed in the process"
		no_links_left || fail "links stayed: $(bpftool link)"
		[ ! -e "$work/cut/busy-$pid/history/metadata" ] || readable "$work/cut"
		rm -rf "$work/cut"
		before=$(cpu_ticks "$pid")
		wait_until 10 works_on "$pid" "$before" || fail "the target noticed: $(cat "/proc/$pid/status")"
		stop "$pid"
	done
	# One that it has started, in its first moments.
	for ((i = 1; i <= ${KILLS:-3}; i++)); do
		record -o "$work/cut.command.$i" -- "$busy" 500
		sleep 0."$((RANDOM % 5))"
		stop "$recorder"
		pid=$(sed -n 's/^ready pid=//p' "$words")
		[ -z "$pid" ] || wait_until 20 gone "$pid" || fail "the command does not go on: $(cat "/proc/$pid/status")"
	done
}

target_killed() {
	start_ready "$busy" go 1000000
	record -o "$work/killed" -p "$pid"
	begun "$work/killed/busy-$pid"
	kill -USR1 "$pid"
	sleep 0.3 # of its work
	stop "$pid"
	recorded 0
	said "ended: the target exited"
	readable "$work/killed"
}

disk_full() {
	local disk=$work/disk
	mkdir "$disk"
	mount -t tmpfs -o size=512k tmpfs "$disk" 2>/dev/null || { echo "disk_full: skipped, no permission to mount"; return; }
	record -o "$disk/full" -- "$busy" 20000
	recorded 5
	said "No space left on device; recording goes on"
	grep -q 'executions=20000' "$words" || fail "disk full: the target noticed: $(cat "$words")"
	[ "$(word discarded)" -gt 0 ] || fail "disk full: nothing discarded"
	bhtrace diagnose "$disk/full" --json
	[ "$code" = 3 ] || [ "$code" = 0 ] || fail "disk full: diagnose: exit $code: $(cat "$work/error" "$work/report")"
	umount "$disk"
}

capabilities() { sed -n 's/^CapEff:\t//p' "/proc/$1/status"; }

# The command has those that it would have without the recorder, which keeps few.
privileges_kept() {
	start_ready "$busy" go go
	record -o "$work/caps" -p "$pid"
	begun "$work/caps/busy-$pid"
	wait_until 10 fewer "$recorder" || fail "the recorder keeps its privileges: $(capabilities "$recorder")"
	kill -INT "$recorder"
	recorded 0
	stop "$pid"
	record -o "$work/caps.command" -- sh -c "grep CapEff /proc/self/status; exec '$busy' 10"
	recorded 0
	said "$(capabilities $$)"
}

fewer() { [ "$(capabilities "$1")" != "$(capabilities $$)" ]; }

refusals() {
	local sleeper
	bhtrace record --via bpf -o "$work/x" --all -p $$
	refused "--all and -p" 2 "either --all, or"
	bhtrace record -o "$work/x" --all
	refused "--all without bpf" 2 "--all is for --via=bpf"
	bhtrace record -o "$work/x" --via lttng --begins -p $$
	refused "--begins without bpf" 2 "--begins is for --via=bpf"
	bhtrace record -o "$work/x" --no-kernel -p $$
	refused "--no-kernel without bpf" 2 "--no-kernel is for --via=bpf"
	bhtrace record --via bpf -o "$work/x" --snapshot -p $$
	refused "--snapshot" 2 "--snapshot is for"
	bhtrace record --via bpf --to=net://localhost -p $$
	refused "--to" 2 "--to is for --via=lttng"
	bhtrace record --via bpf -o "$work/x"
	refused "no target" 2 "-p PID or a command is needed"
	bhtrace record --via bpf -o "$work" --all
	refused "DIR exists" 5 "File exists"
	bhtrace record --via bpf -o "$work/x" -p 4194304
	refused "no process" 5 "process 4194304: does not exist"
	bhtrace record --via bpf -o "$work/x" -- "$work/nosuch"
	refused "no command" 5 "nosuch: No such file or directory"
	bhtrace record --via bpf -o "$work/x" -- sh -c 'exit 3'
	refused "not instrumented" 5 "the command exited with 3"
	sleep 60 &
	sleeper=$!
	bhtrace record --via bpf -o "$work/x" -p $sleeper
	[ "$code" = 5 ] || fail "no probes: exit $code: $(cat "$work/error")"
	stop $sleeper
	[ ! -e "$work/x" ] || fail "a refused recording left $(find "$work/x")"
}

nobody() {
	local copy=$work/bhtrace
	command -v setpriv >/dev/null || { echo "nobody: skipped, no setpriv"; return; }
	cp "$BHTRACE" "$copy" && chmod 755 "$copy"
	mkdir -m 777 "$work/other"
	BHTRACE=setpriv bhtrace --reuid=65534 --regid=65534 --clear-groups "$copy" record --via bpf \
		-o "$work/other/x" -- "$busy" 10
	refused "nobody" 4 "bhtrace snapshot"
	refused "nobody" 4 "--via flight"
	[ ! -e "$work/other/x" ] || fail "a refused recording left $(find "$work/other/x")"
}

PATH=$PATH:/usr/sbin
command -v babeltrace2 >/dev/null || skip "no babeltrace2"
[ "$(id -u)" = 0 ] || skip "not root"
bhtrace record --via bpf -o "$work/try" -- "$busy" 1
[ "$code" != 4 ] || skip "no BPF here: $(cat "$work/error")"
[ $# -gt 0 ] || set -- "${parts[@]}"
for part in "$@"; do
	[[ " ${parts[*]} " == *" $part "* ]] || { echo "no part $part"; exit 2; }
	"$part"
done
[ $failed -eq 0 ]
