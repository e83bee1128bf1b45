#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Each of the museum's other mechanisms is told by name; its control is healthy.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"

# piece NAME VERDICT CONFIDENCE LOOP BOTTOM-HALF
piece() {
	local program=$OUT/museum/$1 first
	[ -x "$program" ] || { fail "no $program"; return; }

	start "$program" --max-seconds 120
	await hung 60 || fail "$1: did not hang: $(cat "$log")"
	diagnose "$pid" --json
	expect "$1" 1 "d['verdict'] == '$2'" "f['rule'] == '$1'" "f['confidence'] == '$3'" \
		"f['loop']['name'] == '$4'" "f['bh']['name'] == '$5'" 'len(d["findings"]) == 1' \
		'f["explanation"] and f["remedy"] and f["refuted_by"] and f["evidence"]' 'd["cost"]["stopped_us"] == 0'
	diagnose "$pid"
	IFS= read -r first <"$work/report"
	[[ $code = 1 && $first == "${2^^}: "*"\"$5\" of loop \"$4\""*"$1 ($3)"* ]] || fail "$1, text: exit $code, '$first'"
	stop "$pid"

	start "$program" --variant fixed --rounds 20000 --idle-after --max-seconds 120
	await idle 60 || fail "$1 fixed: did not come to its end: $(cat "$log")"
	diagnose "$pid" --json
	expect "$1 fixed, idle" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["asleep"] == 1'
	stop "$pid"

	start "$program" --variant fixed --rounds 0 --max-seconds 120
	wait_until 20 has_loop "$pid" || fail "$1 fixed: no loop yet: $(cat "$work/error")"
	for _ in 1 2 3 4 5; do
		diagnose "$pid" --json
		expect "$1 fixed, running" 0 'd["verdict"] == "healthy"'
	done
	stop "$pid"
}

piece callback-blocked stuck consistent database flush
piece callback-spinning stuck consistent storage drain
piece notify-missing lost proved server request
[ $failed -eq 0 ]
