#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Recordings as pictures: both formats, parts of a recording, several of them, refusals.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"

# keep PIECE WORD DIR: a snapshot of it when it says WORD.
keep() {
	start "$OUT/museum/$1" --max-seconds 120
	await "$2" 60 || fail "$1 did not get $2: $(cat "$log")"
	bhtrace snapshot -p "$pid" -o "$3"
	[ "$code" = 0 ] || fail "snapshot of $1: exit $code: $(cat "$work/error")"
	stop "$pid"
}

# drawn WHAT ARGUMENT...: the file is written, and is what it should be.
drawn() {
	local what=$1 file=$work/$1
	shift
	bhtrace timeline "$@" -o "$file"
	[ "$code" = 0 ] || { fail "$what: exit $code: $(cat "$work/error")"; return 1; }
	case $file in
	*.json) tests/e2e/trace_event.py "$file" >"$work/valid" || fail "$what: $(cat "$work/valid")" ;;
	*.html) names "$file" >"$work/names" || fail "$what: its data are damaged" ;;
	esac
}

# The names in a page, as JSON; fails when a column has not as many numbers as the others.
names() { # PAGE
	python3 - "$1" <<-'EOF_NAMES'
		import base64, json, re, sys
		page = open(sys.argv[1], encoding="utf-8").read()
		data = dict(re.findall(r'<script type="application/[^"]*" id="([a-z-]*)">([^<]*)</script>', page))
		names = json.loads(data.pop("names"))
		size = {"ns": 8, "value": 8, "object": 4, "lane": 4, "half": 2, "id": 1, "bits": 1}
		n = {key: len(base64.b64decode(data["event-" + key], validate=True)) / size[key] for key in size}
		assert len(set(n.values())) == 1, n
		ids = base64.b64decode(data["event-id"])
		assert sum(i < 0x80 for i in ids) >= names["events"], len(ids)
		rows = len(ids)
		for key in ("span-begin", "span-end", "arrow-schedule", "arrow-execute"):
		    column = base64.b64decode(data[key], validate=True)
		    assert all(int.from_bytes(column[i:i + 4], "little") < rows for i in range(0, len(column), 4)), key
		print(json.dumps(names))
	EOF_NAMES
}

# true_of FILE EXPRESSION...: about the JSON document d in it.
true_of() {
	local unmet
	cp "$1" "$work/report"
	shift
	unmet=$(query unmet "$@" 2>&1)
	[ -z "$unmet" ] || fail "not true: $unmet"
}

# --- a hang ----------------------------------------------------------------------

keep notify-missing hung "$work/hang"
bhtrace diagnose "$work/hang" --json
events=$(query values 'd["history"]["events"]')

drawn hang.json "$work/hang"
grep -q "1 finding" "$work/report" || fail "no finding: $(cat "$work/report")"
grep -qE "^events=[0-9]+ spans=[1-9][0-9]* arrows=[1-9][0-9]* processes=1 threads=[2-9]" "$work/valid" ||
	fail "little is drawn: $(cat "$work/valid")"
true_of "$work/hang.json" "d['otherData']['events'] == $events" \
	"any(e['name'].startswith('finding 1: notify-missing') for e in d['traceEvents'] if e['ph'] == 'i')" \
	"'notify-missing' in d['otherData']['verdict_0']" \
	"any(e['ph'] == 'E' and 'goes on' in e['args']['end'] for e in d['traceEvents'])"

drawn hang.html "$work/hang"
true_of "$work/names" "d['events'] == $events" "d['before'] == d['after'] == 0" "len(d['findings']) == 1" \
	"d['findings'][0]['rule'] == 'notify-missing'" "any(w['lane'] >= 0 for w in d['findings'][0]['witnesses'])" \
	"any(l['name'] == 'client' for l in d['lanes'])" "any(o['name'] == 'request' for o in d['objects'])"
grep -qE 'https?://' <(sed 's|http://www.w3.org/2000/svg||' "$work/hang.html") && fail "the page names other sites"

# --- parts of it -------------------------------------------------------------------

keep rescued late "$work/late"
bhtrace diagnose "$work/late" --json
events=$(query values 'd["history"]["events"]')
drawn around.html "$work/late" --around=1
grep -q "^left out: " "$work/report" || fail "what is left out is not said: $(cat "$work/report")"
true_of "$work/names" "d['before'] + d['events'] + d['after'] == $events" "d['before'] + d['after'] > 0" "d['finding'] == 1" \
	"d['begin'] <= d['findings'][0]['from'] and d['findings'][0]['to'] < d['end']"
drawn part.json "$work/late" --since=500ms --until=900ms
true_of "$work/part.json" \
	"d['otherData']['events_before'] + d['otherData']['events'] + d['otherData']['events_after'] == $events" \
	"all(499999 <= e['ts'] <= 9.1e5 for e in d['traceEvents'] if e['ph'] != 'M')"
drawn nothing.html "$work/late" --since=1h
true_of "$work/names" "d['events'] == 0" "d['before'] == $events"

# --- several -------------------------------------------------------------------------

drawn both.json "$work/hang" "$work/late"
grep -q "processes=2" "$work/valid" || fail "two recordings: $(cat "$work/valid")"
grep -q "2 findings" "$work/report" || fail "two recordings: $(cat "$work/report")"
drawn second.html "$work/hang" "$work/late" --around=2
true_of "$work/names" "len(d['findings']) == 2" "len(d['processes']) == 2"

# --- refusals --------------------------------------------------------------------------

for wrong in "$work/hang" "-o x.html" "$work/hang -o x.svg" "$work/hang -o x.html --around=0" \
	"$work/hang -o x.html --around=x" "$work/hang -o x.html --around=2" \
	"$work/hang -o x.html --since=2s --until=1s" "net://host/host/a/b -o x.html"; do
	# shellcheck disable=SC2086 # several words
	bhtrace timeline $wrong
	refused "$wrong" 2 "Try 'bhtrace timeline --help'"
done
bhtrace timeline "$work/nosuch" -o "$work/x.html"
refused "no recording" 5 "nosuch"
bhtrace timeline "$work/hang" -o "$work/nosuch/x.html"
refused "no directory" 5 "nosuch/x.html: No such file"
if [ -w /dev/full ]; then
	ln -s /dev/full "$work/full.json"
	bhtrace timeline "$work/late" -o "$work/full.json"
	refused "a full disk" 5 "full.json: No space left"
	[ ! -L "$work/full.json" ] || fail "what is incomplete is left behind"
fi
[ $failed -eq 0 ]
