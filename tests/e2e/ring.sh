#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What BH_FLIGHT=file:DIR leaves of a process that was killed, and that nothing
# is called healthy when part of it is missing.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
build target "$OUT/libbh.a"

# leave DIR COMMAND...: runs it until it is ready and kills it.
leave() {
	local dir=$1
	mkdir "$dir"
	start_ready env BH_FLIGHT="file:$dir" "${@:2}"
	stop "$pid"
}

look() { # DIR
	bhtrace diagnose --ring "$1" --json
}

# without NAME PATTERN UNSEEN: the files of an idle process without some of them.
without() {
	cp -r "$work/idle" "$work/$1"
	# shellcheck disable=SC2086 # a pattern
	rm "$work/$1"/$2
	look "$work/$1"
	expect "without $1" 3 "any('$3' in s for s in d['unseen'])"
}

leave "$work/idle" "$work/target" idle
look "$work/idle"
expect "idle" 0 'd["looked_at"]["loops"] == 1' 'd["history"]["events"] > 0' 'not d["target"]["live"]'
without ring "*-0.flight" "there are no files of them"
without objects "*.objects" "chunks are not there"
without counts "*.process" "no file says how many"

cp -r "$work/idle" "$work/cut"
truncate -s -1 "$work"/cut/*-0.flight
look "$work/cut"
expect "a cut ring" 3 "any('-0.flight: offset' in s for s in d['unseen'])"

# A full disk: what did not fit was kept in memory, and is gone with the process.
mkdir "$work/full"
full() { # in a subshell: files of 8 KiB at most, and an error instead of a signal
	trap '' XFSZ
	ulimit -f 8
	exec env BH_FLIGHT="file:$work/full" "$work/target" idle
}
log=$work/full.log
: >"$log"
(full) >"$work/pipe" 2>"$work/full.err" </dev/null &
pid=$!
wait_until 20 grep -q '^ready ' "$work/pipe" || fail "full disk: not ready: $(cat "$work/full.err")"
stop "$pid"
grep -q "recording to memory" "$work/full.err" || fail "full disk: no complaint"
look "$work/full"
expect "full disk" 3 "any('kept in memory' in s for s in d['unseen'])"

# A process that goes on is told from one that was killed.
mkdir "$work/busy"
start env BH_FLIGHT="file:$work/busy" "$OUT/museum/notify-missing" --variant fixed --rounds 0 --max-seconds 120
wait_until 20 has_loop "$pid" || fail "busy: no loop"
# Unless it got no processor meanwhile: then its files show one moment, too.
went_on=0
for _ in {1..20}; do
	look "$work/busy"
	[ "$code" = 3 ] || [ "$code" = 0 ] || fail "busy: exit $code: $(cat "$work/error" "$work/report")"
	grep -q 'went on while' "$work/report" || continue
	went_on=$((went_on + 1))
	expect "busy" 3
done
[ $went_on -gt 0 ] || fail "busy: nobody noticed that it went on"
stop "$pid"

# One look shows where it was, not whether it stays there.
leave "$work/stuck" "$work/target" stuck 0
look "$work/stuck"
[ "$code" != 0 ] || fail "a stuck one is healthy: $(cat "$work/report")"
[ $failed -eq 0 ]
