# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2154 # used, and set, by those that source it
# What the tests on stock loops share. To be sourced after common.bash.
programs=tests/foreign

# Of program NAME: its library, for pkg-config.
library_of() {
	case $1 in
	uv-*) echo libuv ;;
	glib-*) echo glib-2.0 ;;
	libevent-*) echo libevent libevent_pthreads ;;
	esac
}

# build_foreign NAME [FLAG]...: into $work/NAME; false when its library is not installed.
build_foreign() {
	local name=$1 libraries flags=
	shift
	libraries=$(library_of "$name")
	# shellcheck disable=SC2086 # one word each
	[ -z "$libraries" ] || flags=$(pkg-config --cflags --libs $libraries 2>/dev/null) || return
	# shellcheck disable=SC2086
	"${CC:-gcc}" -std=gnu11 -O2 -D_GNU_SOURCE -o "$work/$name" "$programs/$name.c" "$programs/foreign.c" -pthread \
		$flags "$@" || fail "$name: cannot be built"
}

# started WORD COMMAND...: and said WORD.
started() {
	local word=$1
	shift
	start "$@"
	await "$word" 30 || { fail "$*: did not say '$word': $(cat "$log")"; return 1; }
}

# The diagnosis of a snapshot of process $pid is that of the process: exit CODE and each EXPRESSION.
check_snapshot() { # WHAT CODE [EXPRESSION]... [-- OPTION...]
	local what=$1 wanted=$2 expressions=()
	shift 2
	while [ $# -gt 0 ] && [ "$1" != -- ]; do expressions+=("$1"); shift; done
	shift $(($# > 0))
	rm -rf "$work/snapshot"
	bhtrace snapshot -p "$pid" -o "$work/snapshot" "$@"
	[ "$code" = 0 ] || { fail "$what: snapshot: exit $code: $(cat "$work/error")"; return; }
	bhtrace diagnose "$work/snapshot" --json
	expect "$what" "$wanted" "${expressions[@]}"
}

# Of a core there is one look without the kernel's part: the same finding, or none. Never another one, never healthy.
check_core() { # WHAT RULE
	command -v gcore >/dev/null || return 0
	gcore -o "$work/core" "$pid" >"$work/gdb" 2>&1 || { fail "$1: gcore: $(cat "$work/gdb")"; return; }
	bhtrace diagnose --core "$work/core.$pid" --json
	rm -f "$work/core.$pid"
	case $code in
	1) expect "$1" 1 "f['rule'] == '$2'" 'd["cost"]["stopped_us"] == 0' ;;
	3) [ ! -s "$work/report" ] || expect "$1" 3 'd["findings"] == []' 'd["reasons"]' ;;
	*) fail "$1: exit $code: $(cat "$work/error" "$work/report")" ;;
	esac
	cores+=("$code")
}
cores=()

unchanged='d["cost"]["stopped_us"] == 0'
