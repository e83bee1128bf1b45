#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Snapshots of real processes as babeltrace2 sees them: no complaint, and every
# field of every event as bhtrace reads it. What is damaged is not healthy.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
command -v babeltrace2 >/dev/null || skip "no babeltrace2"

"${CC:-gcc}" -std=gnu11 -O2 -D_GNU_SOURCE -Iprobes -Ianalysis -Ianalysis/ctf -Ianalysis/sources tests/e2e/ctf_dump.c \
	"$OUT/libanalysis.a" -o "$work/dump" || exit 1

# snapshot NAME COMMAND...: of a process that said "hung" or "ready"; sets $events.
snapshot() {
	local name=$1
	shift
	start "$@"
	wait_until 60 grep -qE '^(hung|ready) ' "$log" || fail "$*: $(cat "$log")"
	bhtrace snapshot -p "$pid" -o "$work/$name" --json
	[ "$code" = 0 ] || fail "snapshot $name: exit $code: $(cat "$work/error")"
	events=$(query values 'd["events"]')
	stop "$pid"
}

# both NAME: what either reader says, in $work/NAME.ours and NAME.theirs.
both() {
	"$work/dump" "$work/$1/history" >"$work/$1.ours" || fail "$1: $(cat "$work/$1.ours")"
	babeltrace2 --clock-cycles --no-delta "$work/$1" >"$work/$1.theirs" 2>"$work/$1.said" ||
		fail "$1: babeltrace2: $(cat "$work/$1.said")"
}

compare() { # NAME
	both "$1"
	python3 - "$work/$1.ours" "$work/$1.theirs" "$events" <<-'EOP' || fail "$1: the two differ"
		import re, sys
		def value(text):
		    return text if text[0] == '"' else int(text, 0)
		def key(event):
		    return [str(x) for x in event]
		def our(line):
		    time, tid, name, *rest = re.findall(r'(?:"[^"]*"|[^ "\n])+', line)
		    return (int(time), int(tid), name, sorted((k, value(v)) for k, v in (f.split("=", 1) for f in rest)))
		def their(line):
		    time, name, context, fields = re.fullmatch(r'\[(\d+)\] \S+ bh:(\w+): \{ (.*?) \}, \{ (.*) \}\n', line).groups()
		    pairs = lambda text: re.findall(r'(\w+) = ("[^"]*"|[^ ,]+)', text)
		    return (int(time), int(dict(pairs(context))["tid"]), name, sorted((k, value(v)) for k, v in pairs(fields)))
		ours = [our(line) for line in open(sys.argv[1]) if not line.startswith("loss")]
		theirs = [their(line) for line in open(sys.argv[2])]
		for a, b in zip(sorted(ours, key=key), sorted(theirs, key=key)):
		    if a != b:
		        sys.exit(f"{a}\n{b}")
		print(f"{len(ours)} events, {len({e[2] for e in ours})} kinds, {sum(len(e[3]) for e in ours)} fields: the same")
		sys.exit(len(ours) != len(theirs) or len(ours) != int(sys.argv[3]) or len(ours) < 20)
	EOP
}

quiet() { # NAME
	[ ! -s "$work/$1.said" ] || fail "$1: babeltrace2 says: $(cat "$work/$1.said")"
	! grep -q ^loss "$work/$1.ours" || fail "$1: $(grep ^loss "$work/$1.ours")"
}

began=$(date +%s)
for piece in notify-missing nested-poll producer-stopped; do
	snapshot "$piece" env BH_FLIGHT=16M "$OUT/museum/$piece" --max-seconds 120
	compare "$piece"
	quiet "$piece"
done

# The clock on the wall, and who it was.
babeltrace2 --clock-seconds --no-delta "$work/notify-missing" | tail -n 1 >"$work/last"
stamp=$(sed 's/^\[\([0-9]*\)\..*/\1/' "$work/last")
if [ "$stamp" -lt $((began - 1)) ] || [ "$stamp" -gt "$(date +%s)" ]; then
	fail "not today: $(cat "$work/last")"
fi
grep -q "$(sed -n 's/^hung pid=//p' "$work/log.1")" "$work/notify-missing/history/metadata" || fail "no process id"
grep -qE '^	build_id = "[0-9a-f]{40}";' "$work/notify-missing/history/metadata" || fail "no build id"

# A ring that is too small: both say so, and have the same events.
snapshot small env BH_FLIGHT=4K "$OUT/museum/notify-missing" --max-seconds 120
compare small
theirs=$(sed -n 's/.* discarded \([0-9]*\) event.*/\1/p' "$work/small.said" | sort)
[ -n "$theirs" ] || fail "small: babeltrace2 saw no loss: $(cat "$work/small.said")"
[ "$theirs" = "$(sed -n 's/^loss //p' "$work/small.ours" | sort)" ] ||
	fail "small: $(grep ^loss "$work/small.ours") here, $(cat "$work/small.said") there"

# Half of it is not all of it, and says so.
build target "$OUT/libbh.a"
snapshot idle env BH_FLIGHT=16M "$work/target" idle
compare idle
quiet idle
bhtrace diagnose "$work/idle" --json
expect "idle" 0 'd["verdict"] == "healthy"' "d['history']['events'] == $events" 'd["loss"]["why"] is None'
for file in "$work/idle/history/"stream-*; do
	truncate -s -32 "$file"
done
bhtrace diagnose "$work/idle" --json
expect "cut" 0 "d['history']['events'] == $events" '"damaged" in d["loss"]["why"]'
rm "$work/idle/history/"stream-*
bhtrace diagnose "$work/idle" --json
expect "no streams" 0 'd["history"]["events"] == 0' '"damaged" in d["loss"]["why"]'
truncate -s 1000 "$work/idle/history/metadata"
bhtrace diagnose "$work/idle" --json
refused "cut metadata" 5 "idle/history/metadata: offset 1000: it ends"
rm "$work/idle/history/metadata"
bhtrace diagnose "$work/idle" --json
refused "no metadata" 5 "idle/history/metadata"
for file in "$work/notify-missing/history/"stream-*; do
	truncate -s -32 "$file"
done
bhtrace diagnose "$work/notify-missing" --json
[ "$code" != 0 ] || fail "a hang whose history is cut is healthy: $(cat "$work/report")"
[ $failed -eq 0 ]
