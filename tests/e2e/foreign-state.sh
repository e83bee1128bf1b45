#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Stock libuv, GLib and libevent, started plainly and really hung: what their memory
# shows is named, from the process, a snapshot and a core. The fixed ones are never accused.
#
#   RUNS         how often each (1)
#   foreign-state.sh [PROGRAM...]
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
# shellcheck source=foreign.bash
. tests/e2e/foreign.bash
runs=${RUNS:-1}
command -v pkg-config >/dev/null || skip "no pkg-config"

witness='produced != consumed'
declare -A rule=(
	[uv-callback-blocked]=callback-blocked
	[uv-callback-spinning]=callback-spinning
	[uv-notify-stolen]=notify-stolen
	[uv-fd-unwatched]=fd-unwatched
	[uv-stranded]=stranded
	[glib-notify-missing]=notify-missing
	[glib-callback-blocked]=callback-blocked
	[libevent-notify-missing]=notify-missing
	[libevent-callback-blocked]=callback-blocked
)
# Its queue is its own, in no structure of GLib's: only the witness knows of it.
declare -A needs_witness=([glib-notify-missing]=1)

# What each has to say besides its rule.
details() {
	echo "f['loop']['owner_tid'] == $([[ $1 = uv-stranded ]] && echo None || echo "$pid")"
	case $1 in
	uv-notify-stolen) echo 'f["loop"]["notifier_count"] == 0' ;;
	uv-fd-unwatched) echo 'f["loop"]["notifier_count"] == 1 and f["loop"]["notifier_watched"] is False' ;;
	*-callback-blocked) echo '"futex" in f["explanation"] and "client" in f["explanation"]' ;;
	esac
}

# The process of PROGRAM that is hung. One that only the witness tells is undecidable without it: it looks idle.
check_hung() { # PROGRAM
	local expected=("f['rule'] == '${rule[$1]}'" "$unchanged") options=()
	mapfile -t -O ${#expected[@]} expected < <(details "$1")
	if [ -n "${needs_witness[$1]:-}" ]; then
		diagnose "$pid" --json
		expect "$1, no witness" 3 'd["findings"] == []' 'any("--witness" in r for r in d["reasons"])'
		options=(--witness "$witness")
	fi
	diagnose "$pid" --json "${options[@]}"
	expect "$1" 1 "${expected[@]}"
	check_snapshot "$1, snapshot" 1 "${expected[@]}" -- "${options[@]}"
	# Nothing of this woke it.
	diagnose "$pid" --json --witness "$witness"
	expect "$1, again, witness" 1 "f['rule'] == '${rule[$1]}'"
}

# Healthy; or idle in a way that a lost wakeup would also look, which is said with what would decide it.
check_idle() { # WHAT
	diagnose "$pid" --json
	case $code in
	0) expect "$1" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["loops"] >= 1' ;;
	*) expect "$1" 3 'd["findings"] == []' 'any("--witness" in r for r in d["reasons"])' ;;
	esac
	idle_codes+=("$code")
	diagnose "$pid" --json --witness "$witness"
	expect "$1, witness" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["loops"] >= 1'
	check_snapshot "$1, snapshot" 0 'd["verdict"] == "healthy"' -- --witness "$witness"
}
idle_codes=()

check() { # PROGRAM
	local i
	build_foreign "$1" || { echo "$1: left out, no $(library_of "$1")"; return; }
	for ((i = 0; i < runs; i++)); do
		started hung "$work/$1" && check_hung "$1"
		[ $i -gt 0 ] || [ -n "${needs_witness[$1]:-}" ] || check_core "$1, core" "${rule[$1]}"
		stop "$pid"
		started idle "$work/$1" --variant fixed && check_idle "$1, fixed"
		stop "$pid"
		started ready "$work/$1" --variant fixed --rounds 1000000000 && check_busy "$1" 1
		stop "$pid"
	done
	checked=$((checked + 1))
}
checked=0

# It works: nothing is overdue in either look, however it is caught.
check_busy() { # PROGRAM LOOKS
	local i
	for ((i = 0; i < $2; i++)); do
		diagnose "$pid" --json
		[[ $code = [03] ]] || { fail "$1, busy: exit $code: $(cat "$work/error" "$work/report")"; return; }
		expect "$1, busy" "$code" 'd["findings"] == []' 'd["looked_at"]["loops"] >= 1'
		busy_codes+=("$code")
	done
}
busy_codes=()

healthy() {
	build_foreign uv-healthy || return 0
	started idle "$work/uv-healthy" --variant fixed && check_idle uv-healthy
	stop "$pid"
	started ready "$work/uv-healthy" --variant fixed --rounds 1000000000 && check_busy uv-healthy $((10 * runs))
	stop "$pid"
}

for program in "${@:-${!rule[@]}}"; do
	check "$program"
done
[ $checked -gt 0 ] || skip "neither libuv, nor GLib, nor libevent to build with"
[ $# -gt 0 ] || healthy
echo "$checked programs, $runs times each; idle ones: ${idle_codes[*]}; busy ones: ${busy_codes[*]}; cores: ${cores[*]}"
[ $failed -eq 0 ]
