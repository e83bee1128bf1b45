#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The fixed control never hangs and is never said to: healthy during the run,
# while other processes fight for the CPUs, and when it is idle.
#
# DIAGNOSES (20) during a run of ROUNDS (5000000), PACE (0) seconds apart, and as
# many when it is idle. The run may take CONTROL_SECONDS (150).
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
diagnoses=${DIAGNOSES:-20} rounds=${ROUNDS:-5000000} pace=${PACE:-0}
patience=${CONTROL_SECONDS:-150}
piece=$OUT/museum/flag-race
[ -x "$piece" ] || skip "no $piece"

running() { ! said_or_gone idle; }

hog() { while :; do :; done; }

# diagnose_many WHAT PAUSE CONDITION: DIAGNOSES times while CONDITION holds; the
# second half of them with as many hogs as there are CPUs. Sets $healthy.
diagnose_many() {
	local what=$1 pause=$2 hogs=() i
	shift 2
	healthy=0
	for ((i = 1; i <= diagnoses; i++)); do
		if [ "$i" = $((diagnoses / 2 + 1)) ]; then
			for ((; ${#hogs[@]} < $(nproc); )); do
				hog &
				hogs+=($!)
			done
		fi
		"$@" || { fail "$what: over after $((i - 1)) diagnoses; a smaller PACE, or more ROUNDS"; break; }
		diagnose "$control"
		if [[ $code = 0 && $(head -n 1 "$work/report") == "HEALTHY: 1 loop, "* ]]; then
			healthy=$((healthy + 1))
		else
			fail "$what, diagnosis $i: exit $code: $(cat "$work/error" "$work/report")"
		fi
		((i % 50)) || echo "$what: $i of $diagnoses" >&2
		sleep "$pause"
	done
	for i in "${hogs[@]}"; do stop "$i"; done
	[ $healthy = "$diagnoses" ] || fail "$what: $healthy of $diagnoses were healthy"
}

start "$piece" --variant fixed --rounds "$rounds" --idle-after --max-seconds $((patience + 60))
control=$pid
wait_until 20 has_loop "$control" || fail "no loop yet: $(cat "$work/error")"
diagnose_many "during the run" "$pace" running
during=$healthy
began=$SECONDS
await idle "$patience" || fail "not done after $((SECONDS - began)) s: $(cat "$log")"
diagnose_many idle 0 kill -0 "$control"
diagnose "$control" --json
expect "when idle" 0 'd["verdict"] == "healthy"' 'd["findings"] == []' 'd["reasons"] == []' \
	'd["looked_at"]["asleep"] == 1' 'd["cost"]["stopped_us"] == 0'
stop "$control"
echo "fixed control, $rounds rounds: healthy $during of $diagnoses during the run, $healthy of $diagnoses when idle"
[ $failed -eq 0 ]
