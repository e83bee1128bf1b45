#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Recordings of several machines are diagnosed as one, each with its own clock.
# The second machine is the first one's snapshot under another name, whose real
# time is five seconds ahead.
# shellcheck source=tests/e2e/common.bash
. "$(dirname "$0")/common.bash"
[ -x "$OUT/museum/notify-missing" ] || skip "no $OUT/museum/notify-missing"

snapshot_of() { # NAME MUSEUM-PIECE ARGUMENT...
	local name=$1 piece=$2
	shift 2
	start "$OUT/museum/$piece" "$@" --max-seconds 60
	await "hung\|idle" 30 || fail "$piece: $(cat "$log")"
	"$BHTRACE" snapshot -p "$pid" -o "$work/$name" >/dev/null || fail "no snapshot of $piece"
	stop "$pid"
}

elsewhere() { # NAME HOST: as if it had been taken there
	sed -i "s/ hostname=[^ ]*/ hostname=$2/" "$work/$1/evidence"
	local metadata=$work/$1/history/metadata now offset
	now=$(sed -n 's/.*clock_realtime_ns = \([0-9]*\);/\1/p' "$metadata")
	offset=$(sed -n 's/.*offset_s = \([0-9]*\);/\1/p' "$metadata")
	sed -i "s/hostname = \"[^\"]*\"/hostname = \"$2\"/; s/offset_s = $offset/offset_s = $((offset + 5))/
		s/clock_realtime_ns = $now/clock_realtime_ns = $((now + 5000000000))/" "$metadata"
}

looks() { # WHAT CONDITION: of the JSON in $work/report, as d
	python3 -c "
import json, sys
d = json.load(open(sys.argv[1]))
p = {x['target']['command']: x for x in d['processes']}
sys.exit(0 if $2 else 1)" "$work/report" || fail "$1: $(cat "$work/report")"
}

snapshot_of here flag-race
snapshot_of there notify-missing
"$BHTRACE" diagnose "$work/here" >"$work/alone" || true
elsewhere there "far-away"
"$BHTRACE" diagnose --json "$work/here" "$work/there" >"$work/report"
[ $? = 1 ] || fail "not a finding"
looks "both are named" "len(p) == 2"
looks "the first machine" "p['flag-race']['findings'][0]['rule'] == 'flag-race' and p['flag-race']['findings'][0]['confidence'] == 'proved'"
looks "the second machine" "p['notify-missing']['findings'][0]['rule'] == 'notify-missing' and p['notify-missing']['target']['hostname'] == 'far-away'"

"$BHTRACE" diagnose "$work/here" "$work/there" >"$work/together"
grep -q "on far-away" "$work/together" || fail "the report does not name the host: $(cat "$work/together")"
# In ns instead of ticks, the evidence of the first one says the same.
distance() { grep -m1 -oE "still set [0-9]+ ns (before|after)" "$1"; }
[ -n "$(distance "$work/alone")" ] || fail "no distance: $(cat "$work/alone")"
one=$(distance "$work/alone") both=$(distance "$work/together")
[ "${one##* }" = "${both##* }" ] || fail "the order changed: $one, $both"
one=$(grep -oE '[0-9]+' <<<"$one") both=$(grep -oE '[0-9]+' <<<"$both")
[ $(((one - both) * (one - both))) -le 4 ] || fail "the distance changed: $one ns, $both ns"
exit $failed
