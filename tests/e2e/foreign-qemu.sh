#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# QEMU as it is installed, stripped: idle, under load, with a bottom half that a debugger
# left pending, with a stopped thread. And a fixture with the same functions and other
# structures, which shows that the places of the members are found, not known.
#
#   LOOKS        how often QEMU is looked at under load (5)
# shellcheck source-path=SCRIPTDIR source=common.bash disable=SC2317 # some are called by name
. "$(dirname "$0")/common.bash"
# shellcheck source=foreign.bash
. tests/e2e/foreign.bash
looks=${LOOKS:-5}
parts=(fixture compilers idle load left_pending stopped_thread)

has() { command -v "$1" >/dev/null || { echo "${FUNCNAME[1]}: left out, no $1"; return 1; }; }

quiet='d["findings"] == []'

# --- the fixture ---------------------------------------------------------------------------

fixture() {
	build_foreign aio-notify-missing -rdynamic -s
	started hung "$work/aio-notify-missing" || return
	diagnose "$pid" --json
	local expected=('f["rule"] == "notify-missing"' 'f["bh"]["name"] == "request_bh"' 'f["loop"]["notifier_count"] == 0'
		"f['loop']['owner_tid'] == $pid" "$unchanged" 'any("machine code" in u for u in d["unseen"])')
	expect "fixture" 1 "${expected[@]}"
	check_snapshot "fixture, snapshot" 1 "${expected[@]}"
	check_core "fixture, core" notify-missing
	stop "$pid"
	started idle "$work/aio-notify-missing" --variant fixed || return
	diagnose "$pid" --json
	expect "fixture, fixed" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["loops"] == 1'
	stop "$pid"
}

# Whatever a compiler makes of it: the same finding, or a refusal that says what could not be placed.
compilers() {
	local cc flags codes=()
	for cc in gcc clang; do
		command -v $cc >/dev/null || continue
		for flags in -O1 -O2 -O3 -Os "-O2 -fcf-protection -fstack-protector-all" "-O2 -fPIE -pie -fno-plt"; do
			# shellcheck disable=SC2086 # one word each
			CC=$cc build_foreign aio-notify-missing -rdynamic $flags -s
			started hung "$work/aio-notify-missing" || continue
			diagnose "$pid" --json
			case $code in
			1) expect "$cc $flags" 1 'f["rule"] == "notify-missing"' 'f["bh"]["name"] == "request_bh"' ;;
			*) refused "$cc $flags" 3 "aio" ;;
			esac
			codes+=("$code")
			stop "$pid"
		done
	done
	echo "compilers: ${codes[*]}"
}

# --- QEMU ----------------------------------------------------------------------------------

start_qemu() {
	start qemu-system-x86_64 -M none -nodefaults -display none -S -monitor "unix:$work/monitor,server=on,wait=off" \
		-object iothread,id=io0
	wait_until 20 in_ppoll || { fail "qemu: does not get idle: $(cat "$log")"; return 1; }
}

threads() { find "/proc/$1/task" -mindepth 1 -maxdepth 1 | wc -l; }
in_ppoll() { grep -q "^271 " "/proc/$pid/syscall" && [ "$(threads "$pid")" -ge 3 ]; }
in_pool() { [ "$(threads "$pid")" -ge 2 ]; }

idle() {
	has qemu-system-x86_64 && start_qemu || return 0
	diagnose "$pid" --json
	expect "idle" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["loops"] >= 2' "$unchanged"
	check_snapshot "idle, snapshot" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["loops"] >= 2'
	stop "$pid"
}

# Requests through the thread pool: each completion is a bottom half.
load() {
	local i codes=(0 0 0 0) seen=0
	has qemu-img || return 0
	truncate -s 64M "$work/disk"
	start qemu-img bench -c 100000000 -d 64 -s 4096 -f raw -t writeback "$work/disk"
	wait_until 20 in_pool || { fail "load: no thread pool: $(cat "$log")"; return; }
	for ((i = 0; i < looks; i++)); do
		rm -rf "$work/snapshot"
		bhtrace snapshot -p "$pid" -o "$work/snapshot"
		[ "$code" = 0 ] || { fail "load: snapshot: exit $code: $(cat "$work/error")"; break; }
		grep -qs thread_pool_completion_bh "$work/snapshot/evidence" && seen=$((seen + 1))
		bhtrace diagnose "$work/snapshot" --json
		[[ $code = [03] ]] || { fail "load: exit $code: $(cat "$work/error" "$work/report")"; break; }
		expect "load" "$code" "$quiet" 'd["looked_at"]["loops"] >= 1'
		codes[code]=$((codes[code] + 1))
	done
	kill -0 "$pid" || fail "load: it ended: $(cat "$log")"
	stop "$pid"
	echo "load: ${codes[0]} healthy, ${codes[3]} undecidable, thread_pool_completion_bh seen in $seen of $looks"
}

# A schedule that does not notify: aio_notify() returns at once while the debugger calls it, from
# the thread that is not a loop's. No offset is needed. ppoll() of the main loop goes on after the stop.
left_pending() {
	local rcu target
	has qemu-system-x86_64 && has gdb && start_qemu || return 0
	rcu=$(grep -l '^202 ' "/proc/$pid"/task/*/syscall | head -n 1 | cut -d/ -f5)
	cat >"$work/leave.gdb" <<-EOF
		set pagination off
		set scheduler-locking on
		python [t.switch() for t in gdb.selected_inferior().threads() if t.ptid[1] == $rcu]
		set \$context = ((void *(*)(void))qemu_get_aio_context)()
		set \$text = ((char *(*)(const char *))g_strdup)("left_pending")
		set \$half = ((void *(*)(void *, void *, void *, char *, void *))aio_bh_new_full)(\$context, (void *)g_free, 0, \$text, 0)
		set \$code = *(unsigned char *)aio_notify
		set {unsigned char}aio_notify = 0xc3
		call ((void (*)(void *))qemu_bh_schedule)(\$half)
		set {unsigned char}aio_notify = \$code
		printf "half=%p\n", \$half
		detach
	EOF
	gdb -q -batch -p "$pid" -x "$work/leave.gdb" >"$work/gdb" 2>&1
	half=$(sed -n 's/^half=//p' "$work/gdb")
	[ -n "$half" ] || { fail "left pending: $(cat "$work/gdb")"; return; }
	wait_until 10 in_ppoll
	diagnose "$pid" --json
	local expected=('f["rule"] == "notify-missing"' 'f["bh"]["name"] == "left_pending"' "f['bh']['addr'] == '$half'"
		"f['loop']['owner_tid'] == $pid" 'len(d["findings"]) == 1' "$unchanged")
	expect "left pending" 1 "${expected[@]}"
	check_snapshot "left pending, snapshot" 1 "${expected[@]}"
	check_core "left pending, core" notify-missing
	# The thread that scheduled it may be about to notify, now that it is stopped.
	target=$pid
	stop_thread "$rcu"
	diagnose "$target" --json
	expect "left pending, its producer stopped" 1 'f["rule"] == "producer-stopped"' 'f["bh"]["name"] == "left_pending"' \
		"'$rcu' in f['explanation']" 'f["confidence"] == "suspected"'
	stop "$pid"
	stop "$target"
}

# One thread alone: a tracer, which becomes $pid, stops it for as long as it lives.
stop_thread() { # TID
	cat >"$work/stop.py" <<-'EOF'
		import ctypes, os, signal, sys
		PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
		tid = int(sys.argv[1])
		libc = ctypes.CDLL(None, use_errno=True)
		for request in PTRACE_SEIZE, PTRACE_INTERRUPT:
		    if libc.ptrace(request, tid, None, None) != 0:
		        sys.exit(os.strerror(ctypes.get_errno()))
		os.waitpid(tid, 0x40000000)  # __WALL
		print(f"ready pid={os.getpid()}", flush=True)
		signal.pause()
	EOF
	start_ready python3 "$work/stop.py" "$1"
}

stopped_thread() {
	local target
	has qemu-system-x86_64 && start_qemu || return 0
	target=$pid
	stop_thread "$target"
	diagnose "$target" --json
	expect "stopped thread" 3 "$quiet" 'any("state t" in r for r in d["reasons"])'
	stop "$pid"
	pid=$target
	wait_until 10 in_ppoll
	diagnose "$pid" --json
	expect "stopped thread, let go" 0 'd["verdict"] == "healthy"'
	stop "$pid"
}

for part in "${@:-${parts[@]}}"; do
	$part
done
[ $failed -eq 0 ]
