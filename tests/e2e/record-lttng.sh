#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bhtrace record --via lttng: real daemons, real targets; whatever ends first.
#
#   record-lttng.sh [PART...]    a part is a function below
# shellcheck source-path=SCRIPTDIR source=lttng.bash disable=SC2154,SC2317 # failed is of common.bash; parts are called by name
. "$(dirname "$0")/lttng.bash"
build target -L"$OUT" -lbh || exit 1
target=$work/target

# Nothing can be loaded into a process that runs: it is refused, and nothing is left.
unprepared() {
	start_ready "$target" idle
	bhtrace record --via lttng -o "$work/unprepared" -p "$pid"
	refused "a process without the provider" 5 "BH_LTTNG=1"
	[ ! -e "$work/unprepared" ] || fail "a refused recording left its directory"
	no_daemon || fail "a refused recording left a daemon"
	stop "$pid"
}

# Start to end without a daemon before or after.
command_recorded() {
	local dir="$work/a command"
	record_on -o "$dir" -- "$target" brief 700
	wait "$recorder" || fail "a command that exits: exit $?: $(cat "$record_log")"
	no_daemon || fail "the daemon was left running"
	readable "a command that exits" "$dir"
	said "LTTng session bhtrace-$recorder-" || fail "the session is not named: $(cat "$record_log")"
	[ "$(events_in "$dir" 'vpid = .*vtid = .*procname = "target"')" -gt 0 ] || fail "events without contexts"
}

# Its evidence is kept while it lives; it is not ended with the recording.
hang_recorded() {
	local hung
	record_on -o "$work/stuck" -- "$target" stuck 300
	wait_until 20 grep -q "^ready " "$record_log" || fail "no target: $(cat "$record_log")"
	hung=$(target_of)
	interrupt
	[ "$code" = 0 ] || fail "Ctrl-C: exit $code: $(cat "$record_log")"
	gone "$hung" && fail "the target ended with the recording"
	kill -KILL "$hung"
	readable "Ctrl-C" "$work/stuck"
	[ -e "$work/stuck/target-$hung/evidence" ] || fail "no evidence: $(ls -R "$work/stuck")"
	bhtrace diagnose "$work/stuck" --json
	expect "a hang recorded" 1 'f["rule"] == "callback-blocked"' 'f["bh"]["name"] == "flush"'
}

# A callback that polls again has no beginning in LTTng's trace: the evidence has it.
# Without, nothing is claimed.
nested_recorded() {
	local dir=$work/nested
	record_on -o "$dir" -- "$OUT/museum/nested-poll" --variant slice --max-seconds 60
	wait_until 40 grep -q "^hung " "$record_log" || fail "no nested poll: $(cat "$record_log")"
	pid=$(sed -n 's/^hung pid=//p' "$record_log")
	interrupt
	kill -KILL "$pid"
	bhtrace diagnose "$dir" --json
	expect "a nested poll recorded" 1 'f["rule"] == "nested-poll"'
	sed -i '/^begun /d' "$dir/nested-poll-$pid/evidence"
	bhtrace diagnose "$dir" --json
	expect "without its beginning" 3
	rm -r "$dir/nested-poll-$pid"
	bhtrace diagnose "$dir" --json
	expect "from the events alone" 3
}

# A daemon that was there stays, and of two processes only one is recorded.
one_of_two() {
	local id first second
	start lttng-sessiond --no-kernel
	wait_until 20 lttng list >/dev/null 2>&1 || fail "no daemon: $(cat "$log")"
	id=$(daemon)
	start_ready env BH_LTTNG=1 "$target" churn
	first=$pid
	start_ready env BH_LTTNG=1 "$target" churn
	second=$pid
	bhtrace record --via lttng -o "$work/one" -p "$first" --for 1s
	record_log=$work/error
	expect "one of two" 0
	readable "one of two" "$work/one"
	[ "$(events_in "$work/one" "vpid = $second")" = 0 ] || fail "another process was recorded, too"
	[ "$(events_in "$work/one" "vpid = $first")" -gt 0 ] || fail "the process was not recorded"
	[ "$(daemon)" = "$id" ] || fail "the daemon that was there has ended"
	kill -KILL "$first"
	stop "$second"
	end_daemon
}

snapshots() { find "$work/flight" -maxdepth 1 -name 'snapshot-*' | wc -l; }
has_snapshots() { [ "$(snapshots)" -ge "$1" ]; }

# Kept in memory until asked for, and once when a hang is seen.
flight_recorder() {
	local hung
	record_on --snapshot -o "$work/flight" -- "$target" stuck 6000
	wait_until 20 said "LTTng session" || fail "no session: $(cat "$record_log")"
	wait_until 20 target_of >/dev/null || fail "no target: $(cat "$record_log")"
	hung=$(target_of)
	wait_until 20 has_loop "$hung" || fail "no loop: $(cat "$record_log")"
	[ "$(snapshots)" = 0 ] || fail "a snapshot that nobody asked for"
	kill -USR1 "$recorder"
	wait_until 20 said "snapshot-1: asked for" || fail "no snapshot on SIGUSR1: $(cat "$record_log")"
	wait_until 30 said "snapshot-2: callback-blocked" || fail "no snapshot of the hang: $(cat "$record_log")"
	sleep 2 # four more looks at the same hang
	[ "$(snapshots)" = 2 ] || fail "$(snapshots) snapshots, not 2: $(cat "$record_log")"
	interrupt
	[ "$code" = 0 ] || fail "--snapshot: exit $code: $(cat "$record_log")"
	kill -KILL "$hung"
	has_snapshots 3 || fail "no snapshot on Ctrl-C: $(cat "$record_log")"
	for n in 1 2 3; do readable "snapshot $n" "$work/flight/snapshot-$n"; done
	[ -e "$work/flight/snapshot-2/target-$hung/evidence" ] || fail "a snapshot without evidence"
}

# LTTng goes on without the recorder, the target does not notice, and the next
# recording says what was left.
recorder_killed() {
	local id left session
	record_on -o "$work/killed" -- "$target" churn
	wait_until 20 grep -q "^ready " "$record_log" || fail "no target: $(cat "$record_log")"
	left=$(target_of) session=$(sed -n 's/.*LTTng session \([^:]*\):.*/\1/p' "$record_log")
	stop "$recorder"
	gone "$left" && fail "the target ended with its recorder"
	id=$(daemon) || fail "the daemon ended with its recorder"
	bhtrace record --via lttng -o "$work/next" --for 1s -- "$target" churn
	record_log=$work/error
	expect "after a killed recorder" 0
	said "lttng destroy $session" || fail "what was left is not told: $(cat "$record_log")"
	readable "after a killed recorder" "$work/next"
	[ "$(daemon)" = "$id" ] || fail "the daemon of a killed recorder has ended"
	lttng destroy "$session" >/dev/null || fail "lttng destroy $session"
	readable "what a killed recorder left" "$work/killed"
	end_targets
	end_daemon
}

# A target that is killed at any moment takes nothing along.
target_killed() {
	record_on -o "$work/victim" -- "$target" churn
	wait_until 20 grep -q "^ready " "$record_log" || fail "no target: $(cat "$record_log")"
	kill -KILL "$(target_of)"
	wait "$recorder" || fail "a target that is killed: exit $?: $(cat "$record_log")"
	readable "a target that is killed" "$work/victim"
	no_daemon || fail "the daemon was left running"
}

# It ends while there is room for what is in the buffers; all of it can be read.
disk_full() {
	[ -n "${SMALL_DISK:-}" ] || { echo "disk_full: skipped, no permission to mount"; return; }
	record_on -o "$SMALL_DISK/full" -- "$target" churn
	wait "$recorder"
	code=$?
	[ "$code" = 5 ] || fail "a full disk: exit $code: $(cat "$record_log")"
	said "the disk was nearly full" || fail "a full disk: not told: $(cat "$record_log")"
	readable "a full disk" "$SMALL_DISK/full"
	pgrep -f "^$target churn" >/dev/null || fail "the target noticed that the disk was full"
	end_targets
	head -c 40m /dev/zero >"$SMALL_DISK/full/zero" 2>/dev/null
	bhtrace record --via lttng -o "$SMALL_DISK/next" -- "$target" idle
	refused "no room from the beginning" 5 "are free, the buffers alone may fill"
	[ ! -e "$SMALL_DISK/next" ] || fail "a refused recording left its directory"
}

[ $# -gt 0 ] || set -- unprepared command_recorded hang_recorded nested_recorded one_of_two flight_recorder \
	recorder_killed target_killed disk_full
for part in "$@"; do
	$part
done
[ "$failed" -eq 0 ]
