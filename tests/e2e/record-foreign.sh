#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bhtrace record --via bpf of processes that were never instrumented: what is recorded is what they
# counted themselves, and nothing is found in them that is not there.
#
#   record-foreign.sh [PART...]    a part is a function below
#   MESSAGES=N                     of node, instead of 20000
# shellcheck source-path=SCRIPTDIR source=common.bash disable=SC2317 # parts are called by name
. "$(dirname "$0")/common.bash"
parts=(libuv running watched node node_watched qemu_img impossible)
messages=${MESSAGES:-20000}

# record OPTION...: in the background; sets $recorder and $words, the file of its last words.
record() {
	words=$work/words.$((++n_started))
	: >"$words"
	"$BHTRACE" record --via bpf "$@" >"$words" 2>"$words.err" </dev/null &
	recorder=$!
}

gone() { ! kill -0 "$1" 2>/dev/null; }

# recorded CODE: waits for the recorder, which must exit with CODE.
recorded() {
	local got
	wait_until 240 gone "$recorder" || fail "the recorder does not end"
	wait "$recorder"
	got=$?
	[ $got = "$1" ] || fail "the recorder's exit: $got, not $1: $(cat "$words" "$words.err")"
}

said() { grep -q "$1" "$words" "$words.err" || fail "'$(cat "$words" "$words.err")' lacks '$1'"; }

word() { sed -n "s/.*\b$1=\([0-9]*\).*/\1/p" "$2" | tail -n 1; } # the number of NAME=NUMBER

events() { babeltrace2 "$1" 2>/dev/null | grep -E "[: ]$2: " | grep -cE "${3:-}" || true; } # RECORDING NAME [REGEXP]

# no_finding WHAT RECORDING [CODE]: 0, or 3 unless CODE says which.
no_finding() {
	bhtrace diagnose "$2" --json
	[[ ${3:-0 3} == *"$code"* ]] || fail "$1: diagnose exits $code: $(cat "$work/error" "$work/report")"
	[ "$(query values "len(d['findings'])")" = 0 ] || fail "$1: $(cat "$work/report")"
}

# has RECORDING EXPRESSION...: true of its report.
has() {
	local recording=$1 unmet
	shift
	bhtrace report "$recording" --json
	[ "$code" = 0 ] || fail "report $recording: exit $code: $(cat "$work/error")"
	unmet=$(query unmet "$@" 2>&1)
	[ -z "$unmet" ] || fail "$recording: not true: $unmet: $(head -c 3000 "$work/report")"
}

# counted WHAT RECORDING LOG: schedules and executions of its two bottom halves are those of the program.
counted() {
	local sends callbacks effective
	sends=$(word sends "$3") callbacks=$(word callbacks "$3")
	[ "$(events "$2" schedule)" = $((sends + 1)) ] || fail "$1: $(events "$2" schedule) schedules, $sends and 1 sent"
	[ "$(events "$2" execute_end)" = $((callbacks + 1)) ] ||
		fail "$1: $(events "$2" execute_end) executions, $callbacks and 1 run"
	effective=$(events "$2" schedule "seen = 0")
	[ "$effective" = $((callbacks + 1)) ] || fail "$1: $effective found the flag clear, $callbacks and 1 were run"
	echo "$1: $sends sends, $callbacks callbacks, as the program counts"
}

libuv_program() {
	[ -x "$work/uv-pingpong" ] ||
		"${CC:-gcc}" -O2 -g tests/foreign/uv-pingpong.c -o "$work/uv-pingpong" -luv -pthread 2>"$work/error"
}

libuv() {
	libuv_program || { echo "libuv: skipped, it is not here: $(head -n 1 "$work/error")"; return; }
	record -o "$work/libuv" -- "$work/uv-pingpong" 20000 3
	recorded 0
	said "functions of libuv in"
	said "will hardly happen meanwhile"
	said ", 0 discarded"
	counted "a command" "$work/libuv" "$words"
	no_finding "a command" "$work/libuv" 0
	has "$work/libuv" "d['gaps']['count'] == d['counts']['executions']"
	sed -n '/are at functions/p' "$words"
}

# One that runs: what it has already is found in its memory.
running() {
	libuv_program || { echo "running: skipped, no libuv"; return; }
	start_ready "$work/uv-pingpong" 20000 3 go
	record -o "$work/running" -p "$pid"
	wait_until 30 test -e "$work/running/uv-pingpong-$pid/until" || fail "not begun: $(cat "$words" "$words.err")"
	kill -USR1 "$pid"
	recorded 0
	counted "a process" "$work/running" "$log"
	no_finding "a process" "$work/running"
}

# Each message to the worker, and each one back, is a send to a port.
node() {
	local count
	command -v node >/dev/null || { echo "node: skipped, it is not here"; return; }
	record -o "$work/node" -- node tests/foreign/node-pingpong.js "$messages"
	wait_until 240 grep -q '^idle' "$words" || fail "node: $(cat "$words" "$words.err")"
	pid=$(word pid "$words")
	wait_until 20 grep -q '^sent' "$words"
	kill -INT "$recorder"
	recorded 0
	count=$(word received "$words")
	[ "$count" = "$messages" ] || fail "node: it has $count messages of $messages"
	no_finding node "$work/node"
	has "$work/node"
	python3 - "$work/report" "$count" <<-'EOF' || fail "node: $(head -c 2000 "$work/report")"
		import json, sys
		report = json.load(open(sys.argv[1]))
		rows = [r for l in report["processes"][0]["loops"] for r in l["bottom_halves"]]
		ports = [r for r in rows if r["counts"]["schedules"] >= int(sys.argv[2])]
		for r in ports:
		    n = r["counts"]
		    print(f"node, {sys.argv[2]} messages: {r['name']}: {n['schedules']} sends, {n['coalesced']} coalesced, "
		          f"{n['executions']} run, gaps up to {r['gaps']['max_ns'] / 1e3:.0f} us")
		    assert abs(n["schedules"] - n["coalesced"] - n["executions"]) <= 2, n
		    assert r["gaps"]["count"] > 0.9 * n["executions"], r
		assert ports, [r["name"] for r in rows]
	EOF
	kill -KILL "$pid"
}

# The kernel's counters, while the program is still there.
# watch_until SIGNAL REGEXP: the target that was started last begins with SIGNAL, when its probes are there, and has
# done when it says REGEXP; $did and $watch_log are what the two have said.
watch_until() {
	local target=$pid watcher
	did=$log
	start "$BHTRACE" watch -p "$target" --json --interval 200ms
	watcher=$pid watch_log=$log
	wait_until 20 grep -q '"probes at functions of libuv' "$watch_log" || fail "watch: $(cat "$watch_log")"
	kill -"$1" "$target"
	wait_until 240 grep -q "$2" "$did" || fail "watch: $(cat "$did")"
	sed 1q <(tail -n 0 -f "$watch_log") >/dev/null # one more table
	kill -INT "$watcher"
	wait "$watcher" || fail "watch: exit $?: $(tail -n 3 "$watch_log" | head -c 2000)"
	stop "$target"
}

watched() {
	libuv_program || { echo "watched: skipped, no libuv"; return; }
	start_ready "$work/uv-pingpong" 20000 3 go stay
	watch_until USR1 '^did'
	python3 - "$watch_log" "$(word sends "$did")" "$(word callbacks "$did")" <<-'EOF' || fail "watched: $(tail -n 2 "$watch_log")"
		import json, sys
		lines = [json.loads(l) for l in open(sys.argv[1])]
		table = [l for l in lines if "bottom_halves" in l][-1]
		row = [r for r in table["bottom_halves"] if r["bh"] == "on_work"][0]
		print("watched:", {k: row[k] for k in ("schedules", "coalesced", "executions")})
		assert row["schedules"] == int(sys.argv[2]) and row["executions"] == int(sys.argv[3]), row
		assert table["totals"]["raised"] == 0, table["totals"]
	EOF
}

# Each of the two ports is sent to once for each message; their few sends of their own come on top.
node_watched() {
	type -P node >/dev/null || { echo "node_watched: skipped, it is not here"; return; }
	start_ready "$(type -P node)" tests/foreign/node-pingpong.js "$messages" go
	watch_until USR2 '^sent'
	python3 - "$watch_log" "$messages" <<-'EOF' || fail "node_watched: $(tail -n 2 "$watch_log" | head -c 2000)"
		import json, sys
		lines = [json.loads(l) for l in open(sys.argv[1])]
		table = [l for l in lines if "bottom_halves" in l][-1]
		count = int(sys.argv[2])
		ports = [r for r in table["bottom_halves"] if r["schedules"] >= count // 2]
		for r in ports:
		    print(f"node, {count} messages, watched: {r['schedules']} sends, {r['coalesced']} coalesced, {r['executions']} run")
		    assert count <= r["schedules"] <= count + 10, r
		assert len(ports) == 2, ports
		assert table["totals"]["raised"] == 0 and table["totals"]["evicted"] == 0, table["totals"]
	EOF
}

qemu_img() {
	local schedules notified written executions
	command -v qemu-img >/dev/null || { echo "qemu_img: skipped, it is not here"; return; }
	truncate -s 16M "$work/raw"
	record -o "$work/qemu" -- qemu-img bench -c 2000 -d 4 -s 4096 -f raw -t none -i threads "$work/raw"
	recorded 0
	said "functions of qemu in"
	no_finding qemu-img "$work/qemu"
	has "$work/qemu" "any(r['name'] == 'thread_pool_completion_bh' for l in d['processes'][0]['loops'] for r in l['bottom_halves'])"
	schedules=$(events "$work/qemu" schedule) executions=$(events "$work/qemu" execute_end)
	notified=$(events "$work/qemu" notify "written = 1") written=$(events "$work/qemu" call_begin "call = 2")
	# one schedule a request at least; who writes found the loop asleep
	((schedules >= 2000 && executions > 0 && written > 0)) ||
		fail "qemu-img: $schedules schedules, $executions executions, $written writes"
	((notified >= written / 2 && notified <= schedules)) || fail "qemu-img: $notified notifications, $written writes"
	echo "qemu-img: 2000 requests, $schedules schedules, $executions executions, $notified notifications, $written writes"
}

impossible() {
	bhtrace record --via bpf -o "$work/none" -- sleep 0
	refused "no loop" 5 "no process hit a probe"
	sleep 60 &
	sleeper=$!
	bhtrace record --via bpf -o "$work/none" -p $sleeper
	refused "no loop" 5 "no loop that an adapter knows"
	stop $sleeper
	[ ! -e "$work/none" ] || fail "a refused recording left $(find "$work/none")"
}

PATH=$PATH:/usr/sbin
command -v babeltrace2 >/dev/null || skip "no babeltrace2"
[ "$(id -u)" = 0 ] || skip "not root"
bhtrace record --via bpf -o "$work/try" -- true
[ "$code" != 4 ] || skip "no BPF here: $(cat "$work/error")"
[ $# -gt 0 ] || set -- "${parts[@]}"
for part in "$@"; do
	[[ " ${parts[*]} " == *" $part "* ]] || { echo "no part $part"; exit 2; }
	"$part"
done
[ $failed -eq 0 ]
