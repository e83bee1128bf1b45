#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What is left of a process - a snapshot, a core, ring files - gives the verdict
# that the process gave; what is none of these is refused, with file and reason.
#
#   inputs.sh [PART...]    a part is a function below
# shellcheck source-path=SCRIPTDIR source=common.bash disable=SC2317 # parts are called by name
. "$(dirname "$0")/common.bash"
parts=(snapshots cores rings stacks nonsense)

build target "$OUT/libbh.a"
kept() { bhtrace diagnose "$@" --json; }

# expect_flush WHAT ORIGIN SOURCE [EXPRESSION]...: the verdict on a stuck target.
expect_flush() {
	expect "$1" 1 'f["rule"] == "callback-blocked"' 'f["bh"]["name"] == "flush"' "d['target']['pid'] == $pid" \
		"d['evidence'] == {'origin': '$2', 'source': '$3'}" "f['loop']['owner_tid'] == $pid" \
		'any(e["key"] and e["event"] == "execute_begin" for e in f["evidence"])' 'd["cost"]["stopped_us"] == 0' "${@:4}"
}

snapshots() {
	local dir=$work/snapshot
	start_ready "$work/target" stuck 0
	bhtrace snapshot -p "$pid" -o "$dir"
	[[ $code = 0 && $(cat "$work/report") =~ ^"$dir: process $pid (target), "[0-9]+" events of history; read for "[0-9]+" us, stopped for 0 us"$ ]] ||
		fail "snapshot: exit $code: $(cat "$work/report" "$work/error")"
	bhtrace snapshot -p "$pid" -o "$dir"
	refused "a second snapshot" 5 "$dir"
	bhtrace snapshot -p "$pid" -o "$work/two" --json
	[ $code = 0 ] || fail "snapshot --json: exit $code: $(cat "$work/error")"
	[ "$(query values 'd["schema"]' 'd["pid"]' 'd["stopped_us"]' 'd["loops"]' 'd["events"] > 0' 'd["directory"]')" = \
		"bhtrace.snapshot-result/1 $pid 0 1 True $work/two" ] || fail "snapshot --json: $(cat "$work/report")"
	in_state "$pid" S || fail "snapshot: it was stopped"
	stop "$pid"
	kept "$dir"
	expect_flush "snapshot" snapshot "$dir" 'd["target"]["live"]'
	bhtrace diagnose "$dir"
	grep -qF "Snapshot $dir of process $pid (target), looked at twice; " "$work/report" || fail "snapshot, text"
	start_ready "$work/target" idle
	bhtrace snapshot -p "$pid" -o "$work/idle"
	stop "$pid"
	kept "$work/idle"
	expect "idle snapshot" 0 'd["verdict"] == "healthy"' 'd["history"]["events"] > 0' 'd["looked_at"]["asleep"] == 1'
	bhtrace snapshot -p 4194304 -o "$work/none"
	refused "snapshot of nothing" 5 "does not exist"
	[ ! -e "$work/none" ] || fail "snapshot of nothing: $work/none is there"
}

in_state() { # PID LETTER
	[ "$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status")" = "$2" ]
}

# See core.sh for all kinds of cores. One look cannot tell a callback that sleeps
# for ever from one that sleeps for a moment.
cores() {
	command -v gcore >/dev/null || { echo "cores: skipped, no gcore"; return; }
	local core said
	start_ready "$work/target" stuck 0
	core=$work/core.$pid
	gcore -o "$work/core" "$pid" >"$work/gcore" 2>&1 || fail "gcore: $(cat "$work/gcore")"
	stop "$pid"
	said=('any("sleeps in pause" in r for r in d["reasons"])' "d['evidence'] == {'origin': 'core', 'source': '$core'}"
		"d['target']['pid'] == $pid" 'not d["target"]["live"]' 'd["unseen"]' 'd["cost"]["stopped_us"] == 0')
	kept --core="$core"
	expect "core" 3 "${said[@]}" '"stacks" not in d'
	kept --core="$core" --exe="$work/target" --stacks
	expect "core with stacks" 3 "${said[@]}" 'any(s["symbol"] == "get_stuck" for t in d["stacks"] for s in t["frames"])'
	bhtrace diagnose --core="$core"
	grep -qF "Core $core of process $pid (target), looked at once; " "$work/report" || fail "core, text"
}

rings() {
	local dir=$work/rings first second
	mkdir "$dir"
	start_ready env BH_FLIGHT="file:$dir" "$work/target" idle
	first=$pid
	stop "$pid"
	kept --ring="$dir"
	expect "ring files" 0 'd["verdict"] == "healthy"' 'd["history"]["events"] > 0' 'd["looked_at"]["loops"] == 1' \
		"d['evidence'] == {'origin': 'rings', 'source': '$dir'}" "d['target']['pid'] == $first"
	start_ready env BH_FLIGHT="file:$dir" "$work/target" stuck 0
	second=$pid
	stop "$pid"
	kept --ring="$dir"
	refused "two processes" 5 "$first"
	refused "two processes" 5 "$second"
	kept --ring="$dir" -p "$first"
	expect "first of two" 0 "d['target']['pid'] == $first"
	kept --ring="$dir" -p "$second"
	[ "$code" != 0 ] || fail "the stuck one of two is healthy: $(cat "$work/report")"
	kept --ring="$dir" -p 4194304
	refused "none of the two" 5 "$dir"
}

stacks() {
	start_ready "$work/target" stuck 0
	diagnose "$pid" --json --stacks
	expect "stacks" 1 'f["rule"] == "callback-blocked"' 'd["cost"]["stopped_us"] > 0' \
		'any(s["symbol"] == "get_stuck" for t in d["stacks"] for s in t["frames"])' \
		'sum(t["stopped_us"] for t in d["stacks"]) == d["cost"]["stopped_us"]'
	grep -q "process $pid is stopped for its stacks" "$work/error" || fail "stacks: no warning: $(cat "$work/error")"
	diagnose "$pid" --stacks
	grep -q '#[0-9]* .*get_stuck' "$work/report" || fail "stacks, text: $(cat "$work/report")"
	stop "$pid"
}

nonsense() {
	local kind file empty=$work/empty
	mkdir "$empty" "$work/garbage"
	echo "no core" >"$work/text"
	: >"$work/nothing"
	mkfifo "$work/fifo"
	head -c 100000 /dev/urandom | tee "$work/garbage/snapshot" >"$work/garbage/events"
	for kind in --core= --ring= ""; do
		for file in "$work/missing" "$work/text" "$work/nothing" "$work/fifo" "$work/target" "$empty" "$work/garbage"; do
			kept "$kind$file"
			refused "$kind$file" 5 "$file"
			[ ! -s "$work/report" ] || fail "$kind$file: a report all the same"
		done
	done
	if [ "$(id -u)" != 0 ]; then
		chmod 0 "$work/text"
		kept --core="$work/text"
		refused "unreadable" 4 "$work/text"
	fi
}

for part in "${@:-${parts[@]}}"; do
	$part
done
[ $failed -eq 0 ]
