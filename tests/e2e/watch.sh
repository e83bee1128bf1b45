#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# diagnose --watch-for: waits for a hang, and neither misses nor invents one.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
piece=$OUT/museum/flag-race
[ -x "$piece" ] || skip "no $piece"
[ "$(nproc)" -ge 2 ] || skip "one processor: no two threads to race"

# Starts to watch $target; its JSON will be in $log.
start_watch() { start "$BHTRACE" diagnose -p "$target" --json --watch-for="$1"; }

ended() { ! kill -0 "$1" 2>/dev/null; }

# Sets $code; the report is where a diagnosis would leave it.
end_watch() { # SECONDS
	wait_until "$1" ended "$pid" || fail "still watching after $1 s"
	wait "$pid"
	code=$?
	cp "$log" "$work/report"
	: >"$work/error"
}

start_piece() {
	start "$piece" --max-seconds 150 "$@"
	target=$pid target_log=$log
	wait_until 20 has_loop "$target" || fail "no loop yet: $(cat "$work/error")"
}

# The piece takes half a second to be sure of its hang: a finding that comes
# before is none until the piece agrees.
start_piece --variant producer
start_watch 60s
end_watch 80
expect "watching a hang" 1 'd["verdict"] == "lost"' 'f["rule"] == "flag-race"' 'f["confidence"] == "proved"'
pid=$target log=$target_log
await hung 5 || fail "a hang was found that is none"
stop "$target"

build later "$OUT/libbh.a"
start "$work/later" stuck 1500
target=$pid
wait_until 20 has_loop "$target" || fail "no loop yet: $(cat "$work/error")"
start_watch 60s
end_watch 80
expect "watching for a hang to come" 1 'f["rule"] == "callback-blocked"' 'f["bh"]["name"] == "flush"'
stop "$target"

start_piece --variant fixed --rounds 0
began=$SECONDS
start_watch 2s
end_watch 30
expect "watching the control" 0 'd["verdict"] == "healthy"'
[ $((SECONDS - began)) -ge 1 ] || fail "it did not watch for 2 s"

# Before the handler is there it would just end.
catches_int() { [ $((0x$(awk '/^SigCgt:/ { print $2 }' "/proc/$pid/status") & 2)) -ne 0 ]; }
start_watch 10m
wait_until 20 catches_int || fail "it does not catch SIGINT"
kill -INT "$pid"
wait_until 20 ended "$pid" || fail "it goes on after SIGINT"
end_watch 1
expect "watching, interrupted" 0 'd["verdict"] == "healthy"'
stop "$target"
[ $failed -eq 0 ]
