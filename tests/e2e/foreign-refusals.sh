#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Processes that cannot be read, or not with this adapter: a clear answer, never a wrong verdict.
# Those of 32 bits, kernel threads, zombies: targets.sh.
#
#   foreign-refusals.sh [PART...]    a part is a function below
# shellcheck source-path=SCRIPTDIR source=common.bash disable=SC2317 # parts are called by name
. "$(dirname "$0")/common.bash"
# shellcheck source=foreign.bash
. tests/e2e/foreign.bash
parts=(no_loop nobody_there adapter_files adapter_lies wrong_witness without_symbols other_user other_version
	other_namespace replaced)
pkg-config --exists libuv 2>/dev/null || skip "no libuv to build with"
build_foreign uv-callback-blocked
library=$(ldd "$work/uv-callback-blocked" | awk '/libuv/ { print $3 }')
named="f['rule'] == 'callback-blocked'"

# The last command gave no verdict: exit 3, 4 or 5 and a reason that has TEXT.
no_verdict() { # WHAT TEXT
	case $code in
	3) [ ! -s "$work/report" ] || expect "$1" 3 'd["findings"] == []' ;;
	4 | 5) ;;
	*) fail "$1: exit $code: $(cat "$work/error" "$work/report")"; return ;;
	esac
	[[ $(cat "$work/error" "$work/report") == *"$2"* ]] || fail "$1: '$(cat "$work/error" "$work/report")' lacks '$2'"
}

# The last command named what it is, or gave no verdict.
named_or_nothing() { # WHAT
	if [ "$code" = 1 ]; then expect "$1" 1 "$named"; else no_verdict "$1" libuv; fi
	echo "$1: exit $code"
}

no_loop() {
	start sleep 60
	is_sleep() { [ "$(cat "/proc/$pid/comm")" = sleep ]; }
	wait_until 10 is_sleep
	diagnose "$pid" --json
	refused "sleep" 5 "none of the loops"
	bhtrace snapshot -p "$pid" -o "$work/sleep"
	refused "snapshot of sleep" 5 "none of the loops"
	stop "$pid"
}

nobody_there() {
	sleep 0 &
	wait $!
	diagnose $!
	refused "a process that is gone" 5 "does not exist"
}

# --- adapters --------------------------------------------------------------------------------

adapter_files() {
	started hung "$work/uv-callback-blocked" || return
	diagnose "$pid" --adapter "$work/none.adapter"
	refused "no file" 5 "$work/none.adapter"
	diagnose "$pid" --adapter "$work"
	refused "a directory" 5 "$work"
	printf 'adapter other\nmember loop.nothing i32\n' >"$work/bad.adapter"
	diagnose "$pid" --adapter "$work/bad.adapter"
	refused "a bad line" 5 "$work/bad.adapter: line 2"
	head -c 100000 /dev/urandom >"$work/noise.adapter"
	diagnose "$pid" --adapter "$work/noise.adapter"
	refused "noise" 5 "$work/noise.adapter: line"
	# One for another loop changes nothing.
	sed -e 's/^adapter .*/adapter other/' -e 's/^needs .*/needs other_loop_run/' probes/adapters/libuv.adapter >"$work/other.adapter"
	diagnose "$pid" --json --adapter "$work/other.adapter"
	expect "an adapter of another loop" 1 "$named"
	stop "$pid"
}

# What a user's adapter says is checked against the code, then against the live object. Where it is wrong it is said
# so, and the one of the project decides.
adapter_lies() {
	local lie=$work/lie.adapter member
	started hung "$work/uv-callback-blocked" || return
	for member in loop.poll_fd bh.callback bh.flag; do
		lie_about "$member"
		diagnose "$pid" --json --adapter "$lie"
		expect "$member is elsewhere" 1 "$named" "any('$member: ' in u and '0x10' in u for u in d['unseen'])"
	done
	for member in loop.notifier_fd loop.bhs bh.link; do
		lie_about "$member"
		diagnose "$pid" --json --adapter "$lie"
		named_or_nothing "$member is elsewhere"
	done
	stop "$pid"
}

lie_about() { # MEMBER
	sed "/^member $1 /,/at/ s/\\(fixed 0x[0-9a-f]*\\)/fixed 0x10/" probes/adapters/libuv.adapter >"$lie"
	cmp -s "$lie" probes/adapters/libuv.adapter && fail "$1: there is nothing to lie about"
}

wrong_witness() {
	started idle "$work/uv-callback-blocked" --variant fixed || return
	diagnose "$pid" --witness 'produced !='
	refused "half a witness" 2 "witness"
	diagnose "$pid" --witness 'produced != no_such_variable'
	refused "no such variable" 5 "no_such_variable"
	diagnose "$pid" --json --witness '0x10:u64 != 0'
	no_verdict "an address that is not mapped" 0x10
	stop "$pid"
}

# --- programs --------------------------------------------------------------------------------

without_symbols() {
	"${CC:-gcc}" -std=gnu11 -O2 -D_GNU_SOURCE -static -s -o "$work/bare" "$programs/uv-callback-blocked.c" \
		"$programs/foreign.c" -l:libuv_a.a -pthread -ldl -lrt 2>"$work/cc" ||
		"${CC:-gcc}" -std=gnu11 -O2 -D_GNU_SOURCE -static -s -o "$work/bare" "$programs/uv-callback-blocked.c" \
			"$programs/foreign.c" -l:libuv.a -pthread -ldl -lrt 2>"$work/cc" ||
		{ echo "without_symbols: left out, no static libuv"; return; }
	started hung "$work/bare" || return
	diagnose "$pid" --json
	refused "static, without symbols" 5 "none of the loops"
	stop "$pid"
}

other_user() {
	local copy=$work/bhtrace saved=$BHTRACE
	[ "$(id -u)" -eq 0 ] || { echo "other_user: left out, not root"; return; }
	cp "$BHTRACE" "$copy"
	chmod 755 "$copy"
	started hung "$work/uv-callback-blocked" || return
	BHTRACE=$work/as_nobody
	printf '#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups %s "$@"\n' "$copy" >"$BHTRACE"
	chmod 755 "$BHTRACE"
	diagnose "$pid" --json
	refused "a process of root" 4 CAP_SYS_PTRACE
	[ -s "$work/report" ] && fail "a process of root: a report all the same"
	stop "$pid"
	# One's own needs no privilege.
	started hung setpriv --reuid=65534 --regid=65534 --clear-groups "$work/uv-callback-blocked" || return
	diagnose "$pid" --json
	expect "one's own process" 1 "$named"
	stop "$pid"
	BHTRACE=$saved
}

# --- libraries -------------------------------------------------------------------------------

build_other_library() {
	# shellcheck disable=SC2046
	"${CC:-gcc}" -std=gnu11 -O2 -D_GNU_SOURCE -shared -fPIC -Wl,-soname,libuv.so.1 -o "$work/libuv.other" \
		"$programs/uv-other-layout.c" $(pkg-config --cflags libuv) || fail "no other library"
}

# libuv's names, not its structures.
other_version() {
	mkdir -p "$work/other"
	build_other_library
	cp "$work/libuv.other" "$work/other/libuv.so.1"
	started hung env LD_LIBRARY_PATH="$work/other" "$work/uv-callback-blocked" || return
	diagnose "$pid" --json
	no_verdict "another layout" libuv
	stop "$pid"
}

# The path is the same, the file is not: the target's counts, whichever side has which.
other_namespace() {
	local enter=(unshare --mount --propagation private)
	"${enter[@]}" true 2>/dev/null || { echo "other_namespace: left out, unshare is not permitted"; return; }
	build_other_library
	# shellcheck disable=SC2016 # for the inner shell
	started hung "${enter[@]}" sh -c 'mount --bind "$1" "$2" && exec "$3"' sh "$work/libuv.other" "$(realpath "$library")" \
		"$work/uv-callback-blocked" || return
	diagnose "$pid" --json
	no_verdict "another libuv in its namespace" libuv
	stop "$pid"
	# shellcheck disable=SC2016
	started hung "${enter[@]}" sh -c 'mount -t tmpfs none /mnt && cp "$1" /mnt/libuv.so.1 && cp "$2" /mnt && LD_LIBRARY_PATH=/mnt exec /mnt/uv-callback-blocked' \
		sh "$(realpath "$library")" "$work/uv-callback-blocked" || return
	diagnose "$pid" --json
	expect "a libuv that only its namespace has" 1 "$named"
	stop "$pid"
	# The observer is in the other one.
	started hung "$work/uv-callback-blocked" || return
	# shellcheck disable=SC2016
	timeout 30 "${enter[@]}" sh -c 'mount --bind "$1" "$2" && exec "$3" diagnose -p "$4" --json' sh "$work/libuv.other" \
		"$(realpath "$library")" "$BHTRACE" "$pid" >"$work/report" 2>"$work/error"
	code=$?
	named_or_nothing "another libuv in ours"
	stop "$pid"
}

# As an upgrade does it: the file that is mapped is no longer there, and another one has its name.
replaced() {
	mkdir -p "$work/mine"
	build_other_library
	cp "$(realpath "$library")" "$work/mine/libuv.so.1"
	started hung env LD_LIBRARY_PATH="$work/mine" "$work/uv-callback-blocked" || return
	mv "$work/libuv.other" "$work/mine/libuv.so.1"
	diagnose "$pid" --json
	named_or_nothing "the library was replaced"
	stop "$pid"
}

for part in "${@:-${parts[@]}}"; do
	$part
done
[ $failed -eq 0 ]
