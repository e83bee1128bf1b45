#!/bin/bash
# SPDX-License-Identifier: MIT
# The command line itself: usage errors, help against man pages, colors, JSON.
set -u
cd "$(dirname "$0")/../.." || exit 1
bhtrace=${BHTRACE:-.output/bhtrace}
[ -x "$bhtrace" ] || { echo "no $bhtrace"; exit 77; }

failed=0
fail() { echo "FAIL: $*"; failed=1; }

# expect CODE TEXT-ON-STDERR ARGUMENT...
expect() {
	local code=$1 text=$2 err got
	shift 2
	err=$("$bhtrace" "$@" 2>&1 >/dev/null </dev/null)
	got=$?
	[ $got = "$code" ] || fail "bhtrace $*: exit $got, not $code"
	[[ $err == *"$text"* ]] || fail "bhtrace $*: stderr '$err' lacks '$text'"
}

json() { # reads it; false when it is none
	if command -v jq >/dev/null; then jq -e . >/dev/null; else python3 -m json.tool >/dev/null; fi
}

# --- usage errors: exit 2, and what to do about it -------------------------------

expect 2 "no command given"
expect 2 "unknown command 'diagnos'" diagnos
expect 2 "Try 'bhtrace --help'" --frobnicate
expect 2 "unknown command 'nosuch'" help nosuch
expect 2 "unknown option '--frobnicate'" doctor --frobnicate
expect 2 "unknown option '-Z'" explain -Z
expect 2 "needs an argument" doctor --pid
expect 2 "unexpected argument 'b'" explain flag-race b
expect 2 "unexpected argument 'x'" doctor x
expect 2 "nearest: flag-race" explain flagrace
expect 2 "notify-stolen" explain notify
expect 2 "'sometimes'" explain --color=sometimes
for pid in 0 -1 +1 1x x1 '' ' 1' 0x10 4194305 99999999999999999999; do
	expect 2 "is no process id" doctor -p "$pid"
done
expect 5 "No such process" doctor -p 4194304
expect 2 "bhtrace diagnose: what?" diagnose
expect 2 "bhtrace diagnose" diagnose -p 1x
expect 2 "bhtrace diagnose" diagnose -p $$ --watch-for=10
expect 2 "bhtrace diagnose" diagnose -p $$ --watch-for=-1s
expect 2 "is no duration" diagnose -p $$ --late=3
for two in "-p $$ --core=x" "-p $$ x" "--core=x --ring=x" "--ring=x x"; do
	# shellcheck disable=SC2086 # several words
	expect 2 "one thing at a time" diagnose $two
done
expect 5 "x: No such file or directory" diagnose x y
expect 2 "--exe is for --core" diagnose -p $$ --exe=x
for kept in --core=x --ring=x "--ring=x -p $$" x; do
	# shellcheck disable=SC2086
	expect 2 "--watch-for is for a live process" diagnose $kept --watch-for=1s
done
expect 2 "bhtrace rescue" rescue --yes
expect 2 "bhtrace rescue" rescue -p 0
expect 2 "bhtrace snapshot" snapshot -p $$
expect 2 "bhtrace snapshot" snapshot -o x

# --- help: exits 0, on stdout, and agrees with the man page ------------------------

options() { # long options of a help text or a page
	sed 's/\\-/-/g; s/\\f.//g' | grep -oE -e '--[a-z]+(-[a-z]+)*' | sort -u
}

[[ $("$bhtrace" --version) =~ ^bhtrace\ [0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "--version"
commands=$("$bhtrace" --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
[ -n "$commands" ] || fail "--help names no commands"
[ "$("$bhtrace" --help)" = "$("$bhtrace" help)" ] || fail "help and --help differ"
for command in $commands; do
	page=tools/man/bhtrace-$command.1
	help=$("$bhtrace" "$command" --help 2>/dev/null) || fail "$command --help exits $?"
	[ "$help" = "$("$bhtrace" help "$command")" ] || fail "help $command differs from $command --help"
	[ -f "$page" ] || { fail "$page is missing"; continue; }
	diff <(options <<<"$help") <(sed -n '/^\.SH OPTIONS/,/^\.SH EXIT/p' "$page" | options) ||
		fail "$command --help (<) and $page (>) name different options"
	grep -q "bhtrace.*$command" tools/man/bhtrace.1 || fail "bhtrace.1 does not name $command"
done
if command -v man >/dev/null; then
	for page in tools/man/*.1 lib/man/*.3; do
		read -r first <"$page"
		case $first in
		.so*) [ -f "lib/${first#.so }" ] || [ -f "lib/man/${first#.so man3/}" ] || fail "$page: $first" ;;
		*) warnings=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l "$page" 2>&1 >/dev/null)
		   [ -z "$warnings" ] || fail "$page: $warnings" ;;
		esac
	done
fi

# --- explain: every rule, both forms -----------------------------------------------

list=$("$bhtrace" explain --json) || fail "explain --json exits $?"
json <<<"$list" || fail "explain --json is no JSON"
rules=$(grep -oE '"rule": "[a-z-]+"' <<<"$list" | cut -d'"' -f4)
[ "$(wc -w <<<"$rules")" = 16 ] || fail "16 rules expected, got: $rules"
for rule in $rules; do
	text=$("$bhtrace" explain "$rule") || fail "explain $rule exits $?"
	for part in 'What happens' 'Memory when hung' 'Told apart' 'Real cases' Fix 'Decided by' Remedy; do
		grep -q "^$part$" <<<"$text" || fail "explain $rule lacks '$part'"
	done
	"$bhtrace" explain --json "$rule" | json || fail "explain --json $rule is no JSON"
	"$bhtrace" explain | grep -q " $rule " || fail "the list lacks $rule"
	marked=$(grep -c 'not yet found by this version' <<<"$text")
	"$bhtrace" explain --json "$rule" | grep -q "\"found\": $([ "$marked" = 0 ] && echo true || echo false)" ||
		fail "explain $rule: marked as not yet found: $marked, but --json says otherwise"
done

# --- doctor ------------------------------------------------------------------------

out=$("$bhtrace" doctor)
code=$?
[[ $code = 0 && $out == "Live diagnosis of your own processes works"* ]] ||
	[[ $code = 4 && $out == "Live diagnosis of your own processes does not work"* ]] || fail "doctor: exit $code, $out"
"$bhtrace" doctor --json | json || fail "doctor --json is no JSON"
"$bhtrace" doctor -p $$ --json | grep -q '"target-memory"' || fail "doctor -p does not try the target"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	copy=$(mktemp /tmp/bhtrace.XXXXXX)
	cp "$bhtrace" "$copy" && chmod 755 "$copy"
	out=$(setpriv --reuid=65534 --regid=65534 --clear-groups "$copy" doctor -p $$)
	code=$?
	rm -f "$copy"
	[[ $code = 4 && $out == *"CAP_SYS_PTRACE"* ]] || fail "doctor on another user's process: exit $code, $out"
fi

# --- colors: only when asked, or on a terminal --------------------------------------

escape=$'\e['
[[ $("$bhtrace" explain flag-race) == *"$escape"* ]] && fail "colors in a pipe"
[[ $("$bhtrace" explain --color=always flag-race) == *"$escape"* ]] || fail "--color=always has none"
[[ $(NO_COLOR=1 "$bhtrace" explain --color=always flag-race) == *"$escape"* ]] || fail "NO_COLOR beats --color=always"
# A container may have no pseudo-terminals.
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then
	tty() { TERM=xterm script -qec "$1" /dev/null </dev/null; }
	[[ $(tty "$bhtrace explain flag-race") == *"$escape"* ]] || fail "no colors on a terminal"
	[[ $(NO_COLOR=1 tty "$bhtrace explain flag-race") == *"$escape"* ]] && fail "NO_COLOR is ignored"
	[[ $(tty "$bhtrace explain --color=never flag-race") == *"$escape"* ]] && fail "--color=never is ignored"
fi

# --- output that cannot be written ---------------------------------------------------

if [ -w /dev/full ]; then
	"$bhtrace" explain >/dev/full 2>/dev/null
	[ $? = 5 ] || fail "a full disk goes unnoticed"
fi
exit $failed
