#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Processes of all kinds: each is diagnosed, or refused with the reason.
#
#   targets.sh [PART...]    a part is a function below
# shellcheck source-path=SCRIPTDIR source=common.bash disable=SC2317 # parts are called by name
. "$(dirname "$0")/common.bash"
parts=(stripped pie static shared deleted namespace forked headless stopped recorder_off
	other_user no_libbh no_process kernel_thread zombie bits32 dying churning)
archive=$OUT/libbh.a
nobody=(--reuid=65534 --regid=65534 --clear-groups)

# --- however it was linked -------------------------------------------------------------

# Of program $work/NAME a process that idles, and one that is stuck.
check_program() { # NAME
	start_ready "$work/$1" idle
	diagnose "$pid" --json
	expect "$1, idle" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["loops"] == 1' 'd["history"]["events"] > 0' \
		'd["looked_at"]["bottom_halves"] == 1' 'd["looked_at"]["asleep"] == 1' 'd["cost"]["stopped_us"] == 0'
	stop "$pid"
	check_stuck "$1" "$work/$1" stuck 0
}

check_stuck() { # WHAT COMMAND...
	start_ready "${@:2}"
	diagnose "$pid" --json
	expect "$1, stuck" 1 'f["rule"] == "callback-blocked"' 'f["bh"]["name"] == "flush"' \
		'any(e["key"] and e["event"] == "execute_begin" for e in f["evidence"])' \
		"f['loop']['owner_tid'] == $pid" "d['target']['pid'] == $pid"
	stop "$pid"
}

elf_type() { readelf -h "$work/$1" | sed -n 's/ *Type: *\([A-Z]*\) .*/\1/p'; }

stripped() {
	build stripped "$archive"
	strip -s "$work/stripped"
	check_program stripped
}

pie() {
	build pie -fPIE -pie "$archive"
	[ "$(elf_type pie)" = DYN ] || fail "no PIE"
	check_program pie
}

static() {
	build static -no-pie -static "$archive"
	[ "$(elf_type static)" = EXEC ] || fail "no program at a fixed address"
	strip -s "$work/static"
	check_program static
}

shared() {
	build shared -L"$OUT" -lbh -Wl,-rpath,"$OUT"
	check_program shared
}

# The file is gone: the notes are read from memory.
deleted() {
	build deleted "$archive"
	start_ready "$work/deleted" idle
	rm "$work/deleted"
	diagnose "$pid" --json
	expect "deleted program" 0 'd["looked_at"]["loops"] == 1' 'd["history"]["events"] > 0'
	stop "$pid"
}

# --- namespaces, children, states --------------------------------------------------------

only_child() { pgrep -P "$1"; }

# Its process ids are not ours, and its program is on a file system we do not see.
namespace() {
	local enter=(unshare --pid --fork --kill-child --mount --mount-proc) outer what
	"${enter[@]}" true 2>/dev/null || { echo "namespace: skipped, unshare is not permitted"; return; }
	build inner "$archive"
	for what in idle stuck; do
		# shellcheck disable=SC2016 # for the inner shell
		start_ready "${enter[@]}" sh -c 'mount -t tmpfs none /mnt && cp "$1" /mnt && exec /mnt/inner "$2" 0' \
			sh "$work/inner" $what
		outer=$pid
		grep -q 'pid=1$' "$log" || fail "namespace: it is not process 1 of its own"
		pid=$(only_child "$outer")
		diagnose "$pid" --json
		if [ $what = idle ]; then
			expect "namespace, idle" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["loops"] == 1' \
				"d['target']['pid'] == $pid"
		else
			expect "namespace, stuck" 1 'f["rule"] == "callback-blocked"' 'f["bh"]["name"] == "flush"' \
				"d['target']['pid'] == $pid" "f['loop']['owner_tid'] == $pid" \
				"all(e['thread']['tid'] == $pid for e in f['evidence'])" 'f["evidence"]'
		fi
		stop "$outer"
	done
}

# The child has rings of its own, and its parent's troubles are not its own.
forked() {
	local parent child
	build forked "$archive"
	start_ready "$work/forked" fork
	parent=$pid child=$(only_child "$pid")
	diagnose "$child" --json
	expect "child" 1 'f["rule"] == "callback-blocked"' 'f["bh"]["name"] == "orphan"' 'len(d["findings"]) == 1' \
		'f["loop"]["name"] == "child"' "f['loop']['owner_tid'] == $child" 'f["evidence"]' \
		"all(e['thread']['tid'] == $child for e in f['evidence'])"
	diagnose "$parent" --json
	expect "its parent" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["loops"] == 1' 'd["history"]["events"] > 0'
	stop "$parent"
}

# Its main thread is a zombie, which has neither memory nor files.
headless() {
	build headless "$archive"
	start_ready "$work/headless" headless
	wait_until 10 in_state "$pid" Z || fail "headless: the main thread lives"
	diagnose "$pid" --json
	expect "headless" 1 'f["rule"] == "callback-blocked"' 'f["bh"]["name"] == "flush"' \
		"f['loop']['owner_tid'] != $pid" 'f["loop"]["notifier_watched"]'
	stop "$pid"
}

in_state() { # PID LETTER
	[ "$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status")" = "$2" ]
}

stopped() {
	build stopped "$archive"
	start_ready "$work/stopped" idle
	kill -STOP "$pid"
	wait_until 10 in_state "$pid" T || fail "stopped: it does not stop"
	diagnose "$pid" --json
	expect "stopped" 3 'd["verdict"] == "undecidable"' 'd["findings"] == []' \
		'any("state T" in r for r in d["reasons"])'
	in_state "$pid" T || fail "stopped: it went on"
	kill -CONT "$pid"
	wait_until 10 in_state "$pid" S
	diagnose "$pid"
	expect "stopped, continued" 0
	stop "$pid"
}

# Its exchanges are full barriers, so that nothing hides behind the silence.
recorder_off() {
	local blind='any("recorder is off" in u for u in d["unseen"])'
	build silent "$archive"
	start_ready env BH_FLIGHT=off "$work/silent" idle
	diagnose "$pid" --json
	expect "recorder off" 0 'd["verdict"] == "healthy"' "$blind" 'd["history"]["events"] == 0'
	stop "$pid"
	start_ready env BH_FLIGHT=off "$work/silent" stuck 0
	diagnose "$pid" --json
	expect "recorder off, stuck" 1 'f["rule"] == "callback-blocked"' 'f["bh"]["name"] == "flush"' "$blind"
	stop "$pid"
}

# --- refusals ----------------------------------------------------------------------------

other_user() {
	local copy=$work/bhtrace
	if [ "$(id -u)" -ne 0 ]; then
		diagnose 1
		refused "process 1" 4 CAP_SYS_PTRACE
		return
	fi
	build others "$archive"
	cp "$BHTRACE" "$copy"
	chmod 755 "$copy" "$work/others"
	start_ready "$work/others" idle
	BHTRACE=$work/as_nobody
	printf '#!/bin/sh\nexec setpriv %s %s "$@"\n' "${nobody[*]}" "$copy" >"$BHTRACE"
	chmod 755 "$BHTRACE"
	diagnose "$pid"
	refused "a process of root" 4 CAP_SYS_PTRACE
	refused "a process of root" 4 "uid 0"
	[ -s "$work/report" ] && fail "a process of root: a report all the same"
	stop "$pid"
	start_ready setpriv "${nobody[@]}" "$work/others" idle
	diagnose "$pid"
	expect "one's own process" 0
	stop "$pid"
	BHTRACE=$copy
}

no_libbh() {
	start sleep 60
	is_sleep() { [ "$(cat "/proc/$pid/comm")" = sleep ]; }
	wait_until 10 is_sleep
	diagnose "$pid"
	refused "a process without libbh" 5 "not linked with libbh"
	stop "$pid"
}

no_process() {
	sleep 0 &
	wait $!
	diagnose $!
	refused "a process that is gone" 5 "does not exist"
	build threads "$archive"
	start_ready "$work/threads" idle
	diagnose "$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 ! -name "$pid" -printf '%f\n')"
	refused "a thread" 5 "no process id"
	stop "$pid"
}

kernel_thread() {
	local kthread
	kthread=$(pgrep -o -x kthreadd) || { echo "kernel_thread: skipped, none is visible"; return; }
	diagnose "$kthread"
	refused "a kernel thread" 5 "a kernel thread"
}

zombie() {
	start bash -c 'sleep 0 & exec sleep 60'
	has_zombie() { local child; child=$(only_child "$pid") && in_state "$child" Z; }
	wait_until 10 has_zombie || fail "no zombie"
	diagnose "$(only_child "$pid")"
	refused "a zombie" 5 "a zombie"
	stop "$pid"
}

bits32() {
	# shellcheck disable=SC2016 # C, not shell
	local source='void _start(void) { for (;;) __asm__ volatile("int $0x80" : : "a"(29) : "memory"); }'
	gcc -m32 -nostdlib -static -x c -o "$work/bits32" - <<<"$source" 2>/dev/null || {
		echo "bits32: skipped, the compiler cannot"
		return
	}
	start "$work/bits32"
	runs_bits32() { [ "$(readlink "/proc/$pid/exe")" = "$work/bits32" ]; }
	wait_until 5 runs_bits32 || { echo "bits32: skipped, the kernel cannot"; return; }
	diagnose "$pid"
	refused "a 32-bit process" 5 "32 bits"
	stop "$pid"
}

# --- moving targets ------------------------------------------------------------------------

# Processes that end at any moment of the diagnosis, before and after it.
dying() {
	local i counts=(0 0 0 0 0 0)
	build brief "$archive"
	for ((i = 0; i < 50; i++)); do
		start "$work/brief" brief $((RANDOM % 50 + 1))
		sleep "0.00$((RANDOM % 10))"
		diagnose "$pid"
		case $code in
		0) [[ $(head -n 1 "$work/report") == HEALTHY:* ]] || fail "dying: exit 0, '$(cat "$work/report")'" ;;
		3) [ -s "$work/report" ] || refused "dying" 3 "exited while it was read" ;;
		5) grep -qE 'not linked with libbh|zombie|does not exist|exited while' "$work/error" ||
			fail "dying: exit 5, '$(cat "$work/error")'" ;;
		*) fail "dying: exit $code: $(cat "$work/error" "$work/report")" ;;
		esac
		((code <= 5)) && counts[code]=$((counts[code] + 1))
		stop "$pid"
	done
	echo "dying: ${counts[0]} healthy, ${counts[3]} undecidable, ${counts[5]} refused"
	[ "${counts[3]}" -gt 0 ] || fail "dying: none of them died during the read"
}

churning() {
	local i counts=(0 0 0 0)
	build churn "$archive"
	start_ready "$work/churn" churn
	for ((i = 0; i < 200; i++)); do
		diagnose "$pid"
		[[ $code = 0 || $code = 3 ]] || fail "churning: exit $code: $(cat "$work/error" "$work/report")"
		((code <= 3)) && counts[code]=$((counts[code] + 1))
	done
	kill -0 "$pid" || fail "churning: it ended: $(cat "$log")"
	stop "$pid"
	echo "churning: ${counts[0]} healthy, ${counts[3]} undecidable"
}

for part in "${@:-${parts[@]}}"; do
	$part
done
[ $failed -eq 0 ]
