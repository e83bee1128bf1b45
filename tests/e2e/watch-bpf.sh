#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# bhtrace watch: raises what hangs, with its evidence, and nothing else.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
"$BHTRACE" watch --help >/dev/null 2>&1 || skip "no bhtrace watch"

# --- what is wrong is refused, with or without privilege ------------------------------

usage() { # TEXT ARGUMENT...
	local text=$1
	shift
	bhtrace watch "$@"
	refused "watch $*" 2 "$text"
}
usage "what? -p PID, --all or a command"
usage "one thing at a time" -p $$ --all
usage "one thing at a time" --all true
usage "one thing at a time" -p $$ -- true
usage "is no process id" -p 0
usage "is no duration" -p $$ --for=10
usage "is no duration" -p $$ --interval=x
usage "more than 0" -p $$ --interval=0s
usage "more than 0" -p $$ --overdue=0ms
usage "wants a directory" -p $$ --on-hang=snapshot:
usage "one form at a time" -p $$ --plain --json
usage "an empty argument" -p $$ --metrics=
usage "takes no argument" -p $$ --all=1
bhtrace watch -p $$ --metrics="$work/no/metrics"
refused "a file that cannot be written" 5 "No such file"
bhtrace watch -p $$ --on-hang="snapshot:$work/no/dir"
refused "a directory that cannot be made" 5 "No such file"
ln -s "$work/aim" "$work/metrics.tmp"
bhtrace watch -p 4194304 --metrics="$work/metrics"
[ ! -e "$work/aim" ] || fail "a link was followed"

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	cp "$BHTRACE" "$work/bhtrace" && chmod 755 "$work/bhtrace"
	timeout 30 setpriv --reuid=65534 --regid=65534 --clear-groups "$work/bhtrace" watch --all --for=1s \
		>"$work/report" 2>"$work/error" </dev/null
	code=$?
	refused "without privilege" 4 CAP_BPF
	refused "without privilege" 4 "bhtrace snapshot"
fi
bhtrace watch -p $$ --plain --for=500ms
[ $code != 4 ] || skip "not permitted: $(cat "$work/error")"
expect "a process without probes" 0
bhtrace watch -p 4194304
refused "no process" 5 "does not exist"
bhtrace watch -- "$work/no-such"
refused "no command" 5 "No such file"

# --- hangs ------------------------------------------------------------------------------

# A piece may hang in its first millisecond; here it begins when the probes are attached.
cat >"$work/delay.c" <<-'EOF2'
	#include <time.h>
	__attribute__((constructor)) static void wait_for_the_observer(void)
	{
		nanosleep(&(struct timespec){ .tv_sec = 1 }, 0);
	}
EOF2
"${CC:-gcc}" -shared -fPIC "$work/delay.c" -o "$work/delay.so" || skip "no compiler"

# Evaluates a Python expression about the lines l of JSON in $log, and the last table t.
lines() { # EXPRESSION
	python3 - "$log" "$1" <<-'EOF2'
		import json, sys
		l = [json.loads(x) for x in open(sys.argv[1]) if x.startswith("{")]
		t = ([x for x in l if x["type"] == "table"] or [None])[-1]
		print(eval(sys.argv[2]))
	EOF2
}

holds() { # WHAT EXPRESSION
	[ "$(lines "$2" 2>&1)" = True ] || fail "$1: not true: $2: $(lines 't and t["totals"]') $(grep -v '"table"' "$log")"
}

ended() { ! kill -0 "$1" 2>/dev/null; }

# end_watch CODE: on Ctrl-C, with that code.
end_watch() {
	kill -INT "$watch"
	wait_until 30 ended "$watch" || fail "it goes on after SIGINT"
	wait "$watch"
	code=$?
	[ $code = "$1" ] || fail "exit $code, not $1: $(cat "$log")"
}

# hang RULE [OPTION]...: the piece of that name.
hang() {
	local rule=$1 target ms=0
	shift
	[ -x "$OUT/museum/$rule" ] || { fail "no $OUT/museum/$rule"; return; }
	rm -f "$work/commands"
	start "$BHTRACE" watch --json --on-hang="$hung_do" --metrics="$work/metrics" --interval=500ms -- \
		env LD_PRELOAD="$work/delay.so" "$OUT/museum/$rule" --max-seconds 60 "$@"
	watch=$pid
	await hung 40 || { fail "$rule did not hang: $(cat "$log")"; return; }
	target=$(sed -n 's/^hung pid=//p' "$log")
	until grep -q '"type":"raised"' "$log" || [ $ms -ge 1000 ]; do
		sleep 0.05
		ms=$((ms + 50))
	done
	holds "$rule, raised within 1 s" "[x['rule'] for x in l if x['type'] == 'raised'] == ['$rule']"
	sleep 1.2
	end_watch 1
	holds "$rule, told once" 'sum(x["type"] == "raised" for x in l) == 1'
	holds "$rule, what left the kernel" 't["totals"]["told"] < 40'
	kill -0 "$target" || fail "$rule: the target did not survive the watch"
	kill -KILL "$target"
}

hung_do=snapshot:$work/kept
mkdir "$work/kept"
for rule in flag-race notify-skipped callback-blocked starved; do
	hang $rule
	bhtrace diagnose "$work/kept/${rule:0:15}"-* --json
	expect "$rule, from its snapshot" 1 "f['rule'] == '$rule'"
	[ $rule != flag-race ] || holds "$rule, all was counted" 't["totals"]["hits"] > 100'
done

# shellcheck disable=SC2016 # for the shell that runs it
hung_do="echo \$BHTRACE_PID \$BHTRACE_RULE \"\$BHTRACE_SENTENCE\" >>$work/commands"
hang notify-skipped
[ "$(wc -l <"$work/commands")" = 1 ] || fail "the command ran $(wc -l <"$work/commands") times"
grep -q '^[0-9]* notify-skipped bottom half "request" of loop' "$work/commands" || fail "it was told: $(cat "$work/commands")"

# --- the metrics are OpenMetrics ----------------------------------------------------------

cat >"$work/parse.py" <<-'EOF2'
	import re, sys
	text = open(sys.argv[1]).read()
	assert text.endswith("# EOF\n") and text.count("# EOF") == 1
	series, types, last = {}, {}, None
	line = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? ([0-9.e+-]+|\+Inf)$')
	for l in text.splitlines()[:-1]:
	    if l.startswith("# TYPE "):
	        _, _, last, kind = l.split(" ")
	        assert last not in types, l
	        types[last] = kind
	        continue
	    if l.startswith("# "):
	        assert l.split(" ")[1] in ("HELP", "UNIT") and l.split(" ")[2] == last, l
	        continue
	    m = line.match(l)
	    assert m, l
	    name, labels, value = m.group(1), m.group(2) or "", float(m.group(3))
	    suffix = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}[types[last]]
	    assert name in [last + s for s in suffix], l
	    assert (name, labels) not in series, l
	    series[name, labels] = value
	assert series["bhtrace_hangs_total", ""] == 1
	groups = {}
	for (name, labels), value in series.items():
	    if name.endswith("_bucket"):
	        rest, bound = re.match(r'(.*),le="(.*)"', labels).groups()
	        groups.setdefault(rest, []).append((float(bound.replace("+Inf", "inf")), value))
	assert groups
	for rest, buckets in groups.items():
	    assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets), rest
	    assert buckets[-1] == (float("inf"), series["bhtrace_gap_seconds_count", rest]), rest
EOF2
python3 "$work/parse.py" "$work/metrics" || fail "the metrics: $(cat "$work/metrics")"

# --- what is healthy is left alone -----------------------------------------------------------

# healthy PID SECONDS HITS: watched for so long, so much was counted.
healthy() {
	start "$BHTRACE" watch -p "$1" --json --for="$2s"
	wait "$pid"
	code=$?
	[ $code = 0 ] || fail "a healthy process: exit $code: $(grep -v '"table"' "$log")"
	holds "a healthy process" 't["totals"]["raised"] == 0 and t["totals"]["evicted"] == 0'
	holds "a healthy process" "t['totals']['hits'] > $3 and t['totals']['told'] < 100 + $2"
}

start "$OUT/museum/flag-race" --variant fixed --rounds 0 --max-seconds 60
target=$pid
wait_until 20 has_loop "$target" || fail "no loop yet"
healthy "$target" 3 1000
stop "$target"
if [ -x "$OUT/storm/storm" ]; then
	start "$OUT/storm/storm" 2000000000 "$work/status"
	target=$pid
	wait_until 20 has_loop "$target" || fail "no loop yet"
	healthy "$target" "${STORM_SECONDS:-20}" 100000
	kill -0 "$target" || fail "the storm did not survive: $(cat "$log")"
	stop "$target"
fi

# --- a terminal --------------------------------------------------------------------------------

if script -qec true /dev/null </dev/null >/dev/null 2>&1; then
	start "$OUT/museum/flag-race" --variant fixed --rounds 0 --max-seconds 60
	target=$pid
	(sleep 3; echo q) | TERM=xterm script -qec "'$BHTRACE' watch -p $target" "$work/screen" >/dev/null
	grep -q "BOTTOM" "$work/screen" || fail "no table on the screen"
	grep -q complet "$work/screen" || fail "no bottom half on the screen"
	grep -qF $'\e[?1049l' "$work/screen" || fail "the terminal was not restored"
	stop "$target"
fi
[ $failed -eq 0 ]
