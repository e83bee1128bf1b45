#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bhtrace report on what the museum left: what was rescued, what waited behind a slow
# callback, and that losses hide what they hide.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"

report() { bhtrace report "$@"; }

# kept PIECE WORD DIR: a snapshot of a piece that got as far as WORD.
kept() {
	start "$OUT/museum/$1" --max-seconds 120
	await "$2" 60 || fail "$1: did not get there: $(cat "$log")"
	bhtrace snapshot -p "$pid" -o "$3"
	[ "$code" = 0 ] || fail "$1: snapshot: exit $code: $(cat "$work/error")"
	stop "$pid"
}

# Sums and counts that must agree in every report.
consistent=(
	'd["schema"] == "bhtrace.report/1"'
	'd["counts"]["executions"] == d["gaps"]["count"] + sum(d["not_measured"].values())'
	'abs(sum(d["segments_ns"].values()) - d["gaps"]["sum_ns"]) <= 1e-9 * d["gaps"]["sum_ns"] + 1'
	'sum(b[2] for b in d["gaps"]["buckets"]) == d["gaps"]["count"]'
	'all(abs(sum(w["segments_ns"].values()) - w["gap_ns"]) < 1 for w in d["worst"])'
	'all(w["events"][0]["event"] == "schedule" and w["events"][-1]["event"] == "execute_begin" for w in d["worst"])'
	'[(not w["rescued"], -w["gap_ns"]) for w in d["worst"]] == sorted((not w["rescued"], -w["gap_ns"]) for w in d["worst"])'
	'all(l["counts"]["schedules"] == sum(b["counts"]["schedules"] for b in l["bottom_halves"]) for p in d["processes"] for l in p["loops"])'
)

# --- rescued: only a timer woke it, and that comes first -----------------------------

kept rescued late "$work/rescued"
report "$work/rescued" --json
expect rescued 0 "${consistent[@]}" 'd["rescued"] > 0' 'd["worst"][0]["rescued"] == "notify-missing"' \
	'd["worst"][0]["gap_ns"] > 1e8' 'd["worst"][0]["segments_ns"]["wake"] > 0.9 * d["worst"][0]["gap_ns"]' \
	'"only a timer woke" in d["worst"][0]["cause"]' 'd["gaps"]["max_ns"] >= d["worst"][0]["gap_ns"]'
worst=$(query values 'd["worst"][0]["at_ns"] / 1e9' 'd["worst"][0]["gap_ns"] / 1e9')
report "$work/rescued"
for text in "only luck woke the loop for" "The worst gaps" "rescued: only a timer woke the loop" "bars are logarithmic"; do
	grep -q "$text" "$work/report" || fail "the text lacks '$text': $(cat "$work/report")"
done
[ "$code" = 0 ] || fail "text: exit $code"
[ "$(grep -c $'\e' "$work/report")" = 0 ] || fail "colors in a file"
report "$work/rescued" --color=always
grep -q $'\e' "$work/report" || fail "--color=always has none"

# The gap belongs to the time in which it ended.
read -r at length <<<"$worst"
middle=$(python3 -c "print(f'{$at + $length / 2:.6f}s')")
report "$work/rescued" --json --until="$middle"
expect "before its end" 0 "${consistent[@]}" 'all(w["at_ns"] + w["gap_ns"] < '"$at * 1e9 + $length * 1e9"' for w in d["worst"])'
before=$(query values 'd["counts"]["executions"]' 'd["counts"]["schedules"]')
report "$work/rescued" --json --since="$middle"
expect "from then on" 0 "${consistent[@]}" "any(abs(w['gap_ns'] - $length * 1e9) < 1e3 for w in d['worst'])"
after=$(query values 'd["counts"]["executions"]' 'd["counts"]["schedules"]')
report "$work/rescued" --json
both=$(query values 'd["counts"]["executions"]' 'd["counts"]["schedules"]')
[ "$(python3 -c "a, b, c = ([int(n) for n in s.split()] for s in ('$before', '$after', '$both')); print([x + y for x, y in zip(a, b)] == c)")" = True ] ||
	fail "until ($before) and since ($after) are not all ($both)"

# Folded: four frames and whole microseconds, which sum up to the gaps.
sum=$(query values 'd["gaps"]["sum_ns"] / 1e3')
report "$work/rescued" --folded
grep -vqE '^[^;]+;[^;]+;[^;]+;(notify|wake|run|callbacks) [0-9]+$' "$work/report" && fail "folded: $(cat "$work/report")"
awk -v sum="$sum" '{ n += $NF } END { exit !(n > 0 && n - sum < 10 && sum - n < 10) }' "$work/report" ||
	fail "folded does not sum up to $sum: $(cat "$work/report")"

# --- a slow callback is named ----------------------------------------------------------

kept slow-callback late "$work/slow"
report "$work/slow" --json
expect slow-callback 0 "${consistent[@]}" 'd["rescued"] == 0' 'd["worst"][0]["slow_callback"]["name"] == "rebuild"' \
	'"slow callback" in d["worst"][0]["cause"]' \
	'd["worst"][0]["segments_ns"]["callbacks"] > 0.9 * d["worst"][0]["gap_ns"]'
report "$work/slow" --json --bh='reb*' --worst=1
expect "one bottom half" 0 "${consistent[@]}" 'len(d["worst"]) == 1 and d["worst"][0]["bh"] == "rebuild"' \
	'[b["name"] for p in d["processes"] for l in p["loops"] for b in l["bottom_halves"]] == ["rebuild"]'
report "$work/slow" --json --bh=nobody
expect "no bottom half" 0 'd["counts"]["executions"] == 0' 'd["worst"] == []'
report "$work/slow" "$work/rescued" --json
expect "two processes" 0 "${consistent[@]}" 'len(d["processes"]) == 2' 'd["worst"][0]["rescued"]' \
	'len({w["process"] for w in d["worst"]}) == 2'

# --- recorded from its beginning: nothing is missing ------------------------------------

start "$OUT/museum/notify-missing" --variant fixed --rounds 200 --idle-after --max-seconds 120
await idle 60 || fail "did not get idle: $(cat "$log")"
bhtrace record -p "$pid" -o "$work/whole" --for 500ms --json
[ "$code" = 0 ] || fail "record: exit $code: $(cat "$work/error")"
recorded=$(query values 'd["events"]')
stop "$pid"
report "$work/whole" --json
# What is later than the last that is known of some thread does not count.
expect "whole" 0 "${consistent[@]}" "$recorded / 2 < d['events'] <= $recorded" 'd["gaps"]["count"] > 0' \
	'd["not_measured"]["lost-events"] == 0' 'd["processes"][0]["loss"]["events"] == 0' \
	'd["gaps"]["count"] > 0.8 * d["counts"]["executions"]'

# --- loss: what the ring has overwritten ------------------------------------------------

start "$OUT/museum/notify-missing" --variant fixed --rounds 300000 --idle-after --max-seconds 120
await idle 60 || fail "did not get idle: $(cat "$log")"
bhtrace snapshot -p "$pid" -o "$work/lossy"
stop "$pid"
report "$work/lossy" --json
lost=$(query values 'd["processes"][0]["loss"]["events"]')
[ "${lost:-0}" -gt 0 ] || fail "nothing was overwritten"
expect lossy "$(query values '3 if not d["gaps"]["count"] and d["not_measured"]["lost-events"] else 0')" \
	"${consistent[@]}" 'd["processes"][0]["loss"]["times"]["overwritten"] > 0' \
	'len(d["processes"][0]["loss"]["stretches_ns"]) > 0'
report "$work/lossy"
grep -q "events lost, overwritten" "$work/report" || fail "the text does not tell of the loss: $(cat "$work/report")"

# --- what is refused --------------------------------------------------------------------

report
refused "no trace" 2 "a trace is needed"
for option in --since=1 --since=x --until=-1s --worst=-1 --worst=x --worst=1001; do
	report "$work/slow" $option
	refused "$option" 2 "bhtrace report"
done
report "$work/slow" --since=2s --until=1s
refused "backwards" 2 "after --since"
report "$work/slow" --json --folded
refused "two forms" 2 "one form at a time"
report "$work/nothing"
refused "nothing there" 5 "$work/nothing"
[ $failed -eq 0 ]
