#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Snapshots leave a hung process hung and a busy one its work.
#
#   SNAPSHOTS    how many in a row of the busy one (50)
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
snapshots=${SNAPSHOTS:-50}
rounds=400000

snapshot() { # DIR
	bhtrace snapshot -p "$pid" -o "$1"
	[ "$code" = 0 ] || fail "snapshot of $pid: exit $code: $(cat "$work/error")"
}

start "$OUT/museum/notify-missing" --max-seconds 120
await hung 60 || fail "did not hang: $(cat "$log")"
diagnose "$pid" --json
owner=$(query values 'f["loop"]["owner_tid"]')
# CPU time, waiting time and time slices: a thread that sleeps on keeps them.
before=$(cat "/proc/$pid/task/$owner/schedstat")
for i in 1 2 3 4 5; do snapshot "$work/hung.$i"; done
[ "$before" = "$(cat "/proc/$pid/task/$owner/schedstat")" ] || fail "the sleeper woke"
diagnose "$pid" --json
expect "still hung" 1 "f['rule'] == 'notify-missing'" 'd["cost"]["stopped_us"] == 0'
stop "$pid"
bhtrace diagnose "$work/hung.5" --json
expect "snapshot of it" 1 "f['rule'] == 'notify-missing'" "f['confidence'] == 'proved'" "f['loop']['owner_tid'] == $owner"

# One that was interrupted while it was written is no evidence.
size=$(stat -c %s "$work/hung.1/evidence")
truncate -s $((size - 5)) "$work/hung.1/evidence"
bhtrace diagnose "$work/hung.1" --json
refused "incomplete" 5 "evidence: offset $((size - 5)): it ends"

# The busy one counts its rounds itself, and ends by itself.
taken=0
start "$OUT/museum/notify-missing" --variant fixed --rounds $((rounds * (1 + snapshots / 50))) --max-seconds 300
while [ $taken -lt "$snapshots" ] && kill -0 "$pid" 2>/dev/null; do
	timeout 30 "$BHTRACE" snapshot -p "$pid" -o "$work/busy" >/dev/null 2>&1 && taken=$((taken + 1))
	rm -rf "$work/busy"
done
wait "$pid" || fail "the busy process left with $?: $(cat "$log")"
grep -q "^done rounds=$((rounds * (1 + snapshots / 50))) " "$log" || fail "the busy process lost work: $(cat "$log")"
[ $taken -gt 0 ] || fail "no snapshot was taken of the busy process"
echo "$taken snapshots of a busy process"
[ $failed -eq 0 ]
