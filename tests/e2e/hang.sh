#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A process that really hangs is diagnosed from outside, and not disturbed: it
# is neither traced nor stopped nor healed.
#
#   hang.sh [VARIANT TICKETS]    producer or consumer; tickets or no-tickets
#
# RUNS hangs of each (3), each of which may take HANG_SECONDS (60).
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
runs=${RUNS:-3} patience=${HANG_SECONDS:-60}
piece=$OUT/museum/flag-race
[ -x "$piece" ] || skip "no $piece"
[ "$(nproc)" -ge 2 ] || skip "one processor: no two threads to race"

# Prints the states and tracers of all threads of process PID until it is told
# to end, after "watching".
watch_states() {
	exec python3 - "$1" <<-'EOF'
		import glob, re, signal, sys
		seen, on = set(), True
		def end(*_):
		    global on
		    on = False
		signal.signal(signal.SIGTERM, end)
		print("watching", sys.argv[1], flush=True)
		while on:
		    for path in glob.glob(f"/proc/{sys.argv[1]}/task/*/status"):
		        try:
		            text = open(path).read()
		        except OSError:
		            continue
		        seen.add(re.search(r"State:\t(.)", text)[1] + re.search(r"TracerPid:\t(\d+)", text)[1])
		print("seen", *sorted(seen), flush=True)
	EOF
}

start_watch() {
	local target=$pid target_log=$log
	start watch_states "$target"
	await watching 20 || fail "cannot watch the states of $target: $(cat "$log")"
	watcher=$pid watcher_log=$log pid=$target log=$target_log
}

end_watch() {
	local state
	local -a seen
	kill "$watcher"
	wait "$watcher"
	read -ra seen < <(sed -n 's/^seen //p' "$watcher_log")
	[ ${#seen[@]} -gt 0 ] || fail "no state of $pid was seen"
	for state in "${seen[@]}"; do
		[[ $state == [RSD]0 ]] || fail "a thread was stopped or traced (state, tracer): $state"
	done
}

switches() { # of the main thread, which polls the loop
	grep ctxt_switches "/proc/$1/task/$1/status"
}

loop_state() { query values 'f["loop"]["iteration"]' 'f["loop"]["notify_me"]' 'f["bh"]["flags"]' 'f["bh"]["runs"]'; }

check_text() { # CONFIDENCE
	local first wanted
	wanted="LOST: bottom half \"completion\" of loop \"disk\" lost a wakeup by flag-race ($1)"
	diagnose "$pid"
	IFS= read -r first <"$work/report"
	[[ $code = 1 && $first == "$wanted"* ]] || fail "text: exit $code, '$first'"
}

check_hung() { # CONFIDENCE
	local before after state
	start_watch
	before=$(switches "$pid")
	diagnose "$pid" --json
	expect "first look" 1 'd["verdict"] == "lost"' 'f["rule"] == "flag-race"' "f['confidence'] == '$1'" \
		'f["bh"]["name"] == "completion"' 'f["loop"]["name"] == "disk"' "d['target']['pid'] == $pid" \
		'd["cost"]["stopped_us"] == 0' 'f["bh"]["flags"] == 0' 'f["loop"]["notifier_count"] == 0' \
		'any(e["key"] and e["event"] == "schedule" and e["fields"]["seen"] for e in f["evidence"])' || return
	read_us+=("$(query values 'd["cost"]["read_us"]')")
	state=$(loop_state)
	check_text "$1"
	diagnose "$pid" --json
	expect "after that" 1 'd["verdict"] == "lost"' 'f["rule"] == "flag-race"' || return
	[ "$state" = "$(loop_state)" ] || fail "the loop went on: $state, then $(loop_state)"
	after=$(switches "$pid")
	[ "$before" = "$after" ] || fail "the loop's thread ran: $before, then $after"
	end_watch
}

hangs() { # VARIANT TICKETS
	local confidence=proved before=$failed run began
	local -a options=(--variant "$1") read_us=() seconds=()
	[ "$2" = tickets ] || { confidence=consistent; options+=(--no-tickets); }
	for ((run = 1; run <= runs; run++)); do
		echo "flag-race $1, $2: run $run of $runs" >&2
		began=${EPOCHREALTIME/[.,]/}
		start "$piece" "${options[@]}" --max-seconds $((patience + 60))
		if await hung "$patience"; then
			seconds+=($(((${EPOCHREALTIME/[.,]/} - began) / 100000)))
			check_hung "$confidence"
		else
			fail "flag-race ${options[*]}: did not hang in $patience s: $(cat "$log")"
		fi
		stop "$pid"
	done
	[ ${#seconds[@]} -gt 0 ] || return
	echo "flag-race $1, $2: ${#seconds[@]} hangs in $runs runs, $((failed - before)) failures, wanted $confidence;" \
		"hung after $(median "${seconds[@]}" | sed 's/.$/.&/; s/^\./0./') s, read_us $(median "${read_us[@]}") (medians)"
}

# However little is recorded: the last events are what counts. Without any, the
# state alone must not pass for healthy, and is no finding either.
recorders() {
	local flight
	strip -s -o "$work/stripped" "$piece"
	for flight in 4k "file:$work,16k" off; do
		start env BH_FLIGHT="$flight" "$work/stripped" --max-seconds $((patience + 60))
		await hung "$patience" || fail "BH_FLIGHT=$flight: did not hang in $patience s: $(cat "$log")"
		diagnose "$pid" --json
		if [ "$flight" = off ]; then
			expect "BH_FLIGHT=off" 3 'd["verdict"] == "undecidable"' 'd["findings"] == []' \
				'any("recorder is off" in u for u in d["unseen"])'
		else
			expect "BH_FLIGHT=$flight" 1 'f["rule"] == "flag-race"' 'f["confidence"] == "proved"' \
				'f["bh"]["name"] == "completion"'
		fi
		stop "$pid"
	done
}

if [ $# -eq 2 ]; then
	hangs "$1" "$2"
else
	for variant in producer consumer; do
		for tickets in tickets no-tickets; do
			hangs $variant $tickets
		done
	done
	recorders
fi
[ $failed -eq 0 ]
