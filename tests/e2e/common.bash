# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the end-to-end tests share: processes that are started and surely ended,
# conditions that are waited for, reports that are looked into. To be sourced.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
OUT=$(realpath "${OUT:-.output}")
BHTRACE=${BHTRACE:-$OUT/bhtrace}
failed=0

skip() { echo "$*"; exit 77; }
fail() { echo "FAIL: $*"; failed=$((failed + 1)); }

[ -x "$BHTRACE" ] || skip "no $BHTRACE"
command -v python3 >/dev/null || skip "no python3"

work=$(mktemp -d /tmp/bhtrace-e2e.XXXXXX) || exit 1
chmod 755 "$work" # other users look in
cleanup() {
	local running
	running=$(jobs -rp)
	# shellcheck disable=SC2086 # one word each
	[ -z "$running" ] || { kill -KILL $running; wait $running; } 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

# --- processes ---------------------------------------------------------------------

n_started=0

# start COMMAND...: in the background; sets $pid, and $log to what it prints.
start() {
	log=$work/log.$((++n_started))
	: >"$log" # here: the background shell may be late
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
}

stop() { # PID
	kill -KILL "$1" && wait "$1"
} 2>/dev/null

# wait_until SECONDS COMMAND...: until it succeeds.
wait_until() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || return 1
		sleep 0.05
	done
}

said_or_gone() { grep -q "^$1 " "$log" || ! kill -0 "$pid" 2>/dev/null; }

# await WORD SECONDS: until the process started last says "WORD pid=N".
await() {
	wait_until "$2" said_or_gone "$1" && grep -q "^$1 " "$log"
}

# start_ready COMMAND...: one that says "ready".
start_ready() {
	start "$@"
	await ready 20 || fail "$*: did not get ready: $(cat "$log")"
}

# build NAME FLAGS...: target.c into $work/NAME.
build() {
	local name=$1
	shift
	"${CC:-gcc}" -std=gnu11 -O2 -g -D_GNU_SOURCE -Ilib tests/e2e/target.c -o "$work/$name" -pthread "$@"
}

# --- reports -----------------------------------------------------------------------

# bhtrace COMMAND OPTION...: sets $code; the report and the errors go to files.
bhtrace() {
	timeout 30 "$BHTRACE" "$@" >"$work/report" 2>"$work/error" </dev/null
	code=$?
}

diagnose() { bhtrace diagnose -p "$@"; } # PID OPTION...

# Whether process PID got as far as having a loop.
has_loop() {
	diagnose "$1" --json
	grep -q '"loops": [1-9]' "$work/report"
}

# Evaluates Python expressions about the JSON report d and its first finding f:
# "values" prints what they are on one line, "unmet" those that are not true.
query() { # values|unmet EXPRESSION...
	python3 - "$work/report" "$@" <<-'EOF'
		import json, sys
		d = json.load(open(sys.argv[1]))
		f = (d.get("findings") or [None])[0]
		expressions = sys.argv[3:]
		if sys.argv[2] == "values":
		    print(*(eval(e) for e in expressions))
		else:
		    print(*(e for e in expressions if not eval(e)), sep="; ")
	EOF
}

# expect WHAT CODE [EXPRESSION]...: the last diagnosis left with CODE, and each
# expression about its JSON report is true.
expect() {
	local what=$1 wanted=$2 unmet
	shift 2
	if [ "$code" != "$wanted" ]; then
		fail "$what: exit $code, not $wanted: $(cat "$work/error"; head -c 2000 "$work/report")"
		return 1
	fi
	[ $# -gt 0 ] || return 0
	unmet=$(query unmet "$@" 2>&1)
	[ -z "$unmet" ] || fail "$what: not true: $unmet: $(cat "$work/report")"
}

# refused WHAT CODE TEXT: the last command left with CODE and said TEXT.
refused() {
	[ "$code" = "$2" ] || fail "$1: exit $code, not $2: $(cat "$work/error")"
	[[ $(cat "$work/error") == *"$3"* ]] || fail "$1: '$(cat "$work/error")' lacks '$3'"
}

median() { # NUMBER...
	printf '%s\n' "$@" | sort -n | sed -n "$(((${#} + 1) / 2))p"
}
