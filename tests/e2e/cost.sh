#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a diagnosis costs its target: nothing is stopped, and reading is short.
# The figures are for a quiet machine; on a busy one they hold SLACK times over.
#
#   cost.sh [THREADS BOTTOM-HALVES READ_US]
#
# Medians of RUNS (7) diagnoses; SLACK is 10 unless set.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
runs=${RUNS:-7} slack=${SLACK:-10}

cost() { # THREADS BOTTOM-HALVES READ_US
	local what="$1 threads, $2 bottom halves" i us stopped=0 once bhs
	local -a read_us=()
	start_ready "$work/crowd" crowd "$1" "$2"
	for ((i = 0; i < runs; i++)); do
		diagnose "$pid" --json
		read -r us once bhs < <(query values 'd["cost"]["read_us"]' 'd["cost"]["stopped_us"]' \
			'd["looked_at"]["bottom_halves"]')
		[[ $code = 0 && $bhs = "$2" ]] || fail "$what: exit $code, $bhs bottom halves"
		read_us+=("$us") stopped=$((stopped + once))
	done
	us=$(median "${read_us[@]}")
	[ "$us" -lt $(($3 * slack)) ] || fail "$what: read for $us us, not less than $(($3 * slack))"
	[ $stopped = 0 ] || fail "$what: stopped for $stopped us"
	[ "$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l)" = "$1" ] || fail "$what: not so many threads"
	echo "$what: read_us $us (median of $runs), wanted less than $(($3 * slack)); stopped_us $stopped"
	stop "$pid"
}

build crowd "$OUT/libbh.a"
if [ $# -eq 3 ]; then
	cost "$@"
else
	cost 3 10 1000
	cost 64 10000 50000
fi
[ $failed -eq 0 ]
