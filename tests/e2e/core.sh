#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The same diagnosis from a core: of gdb and of the kernel, of every kind of
# program, truncated, without what was filtered out. What a core lacks is said,
# and never makes it healthy.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
patience=${HANG_SECONDS:-60}
museum=$OUT/museum
[ -x "$museum/flag-race" ] || skip "no $museum/flag-race"
[ "$(nproc)" -ge 2 ] || skip "one processor: no two threads to race"

diagnose_core() { # CORE [OPTION]...
	timeout 60 "$BHTRACE" diagnose --core="$1" "${@:2}" >"$work/report" 2>"$work/error"
	code=$?
}

# The pattern is the machine's: a test leaves it alone.
kernel_dumps() {
	local pattern
	pattern=$(cat /proc/sys/kernel/core_pattern)
	[[ $pattern != *[/\|]* && -n $pattern ]] && (ulimit -c unlimited) 2>/dev/null
}

# hang WORD COMMAND...: starts it where its core will lie alone, until it says WORD.
hang() {
	local word=$1
	shift
	dir=$work/dir.$((++n_dirs))
	mkdir "$dir"
	start_in "$dir" "$@"
	await "$word" "$patience" || fail "$*: did not get $word in $patience s: $(cat "$log")"
}
n_dirs=0
limit=unlimited filter=0x33
start_in() { # DIR COMMAND...
	start bash -c 'cd "$1" && ulimit -c "$2" && echo "$3" >/proc/self/coredump_filter && shift 3 && exec "$@"' \
		core "$1" "$limit" "$filter" "${@:2}"
}

# Ends the process that was started last with a core of the kernel; sets $core.
dump() {
	kill -ABRT "$pid"
	wait "$pid" 2>/dev/null
	core=$(find "$dir" -name 'core*' -type f)
	[ -f "$core" ] || { fail "the kernel wrote no core: $(ls "$dir")"; return 1; }
}

by_gdb() {
	core=$work/gcore.$pid
	gcore -o "$work/gcore" "$pid" >"$work/gdb" 2>&1 || fail "gcore: $(cat "$work/gdb")"
	kill -0 "$pid" || fail "gcore: the process is gone"
	stop "$pid"
}

proved=('d["verdict"] == "lost"' 'f["rule"] == "flag-race"' 'f["confidence"] == "proved"'
	'f["bh"]["name"] == "completion"' 'f["loop"]["name"] == "disk"' 'f["loop"]["notifier_count"] is None'
	'd["cost"]["stopped_us"] == 0' 'any("notifier counts" in u for u in d["unseen"])')

check_flag_race() { # WHAT
	diagnose_core "$core" --json
	expect "$1" 1 "${proved[@]}" "d['target']['pid'] == $pid" "d['target']['command'] == 'flag-race'"
	diagnose_core "$core" --stacks
	grep -q "LOST: .*flag-race (proved)" "$work/report" || fail "$1, text: $(cat "$work/report" "$work/error")"
	grep -q "bh_loop_poll" "$work/report" || fail "$1: the stacks lack bh_loop_poll: $(cat "$work/report")"
}

# Whatever is missing at the end: a refusal, or a report that says so.
check_truncated() {
	local size whole
	whole=$(stat -c %s "$core")
	for size in 0 10 64 1000 5000 20000 $((whole / 8)) $((whole / 4)) $((whole / 2)) $((whole * 3 / 4)) \
		$((whole * 9 / 10)) $((whole - 16384)); do
		head -c "$size" "$core" >"$work/truncated"
		diagnose_core "$work/truncated" --json
		case $code in
		5) grep -q "$work/truncated: .*offset 0x" "$work/error" || fail "of $size bytes: $(cat "$work/error")" ;;
		1 | 3) expect "of $size bytes" $code 'any("truncated" in u for u in d["unseen"])' \
			'f is None or f["rule"] == "flag-race"' ;;
		*) fail "of $size bytes: exit $code: $(cat "$work/report" "$work/error")" ;;
		esac
		codes+=("$code")
	done
	rm "$work/truncated"
}

flag_race() {
	local codes=()
	hang hung "$museum/flag-race" --max-seconds 120
	by_gdb
	check_flag_race "gcore"
	check_truncated
	kernel_dumps || return
	hang hung "$museum/flag-race" --max-seconds 120
	dump || return
	check_flag_race "kernel core"
	check_truncated
	echo "flag-race: exit codes of truncated cores: ${codes[*]}"
	limit=100 # KiB
	hang hung "$museum/flag-race" --max-seconds 120
	limit=unlimited
	dump && diagnose_core "$core" --json
	[[ $code = [35] ]] || fail "cut off by ulimit: exit $code: $(cat "$work/report")"
}

blocked() {
	hang hung "$museum/callback-blocked" --max-seconds 120
	by_gdb
	diagnose_core "$core" --json
	expect "callback-blocked" 1 'f["rule"] == "callback-blocked"' 'f["loop"]["name"] == "database"' \
		'"futex" in f["explanation"]' '"held by writer (tid" in f["explanation"]'
}

controls() {
	local piece
	for piece in flag-race callback-blocked; do
		hang idle "$museum/$piece" --variant fixed --rounds 20000 --idle-after --max-seconds 120
		by_gdb
		diagnose_core "$core" --json
		expect "$piece, fixed" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["asleep"] == 1'
	done
}

# A program that is stuck in a callback, linked in each way. The stripped static
# one has neither symbols nor a dynamic section.
programs() {
	local kind archive=$OUT/libbh.a
	build pie -fPIE -pie "$archive"
	build fixed -no-pie "$archive"
	build static -no-pie -static "$archive"
	build shared -L"$OUT" -lbh -Wl,-rpath,"$OUT"
	strip -s "$work/pie" "$work/static"
	for kind in pie fixed static shared; do
		hang ready "$work/$kind" idle
		if kernel_dumps; then dump || continue; else by_gdb; fi
		diagnose_core "$core" --json
		expect "$kind" 0 'd["verdict"] == "healthy"' 'd["looked_at"]["loops"] == 1' \
			'd["history"]["events"] > 0' "d['target']['pid'] == $pid"
	done
}

# Without the first page of the images (bit 4) the note is read from the file.
filtered() {
	cp "$museum/flag-race" "$work/flag-race"
	filter=0x23
	hang hung "$work/flag-race" --max-seconds 120
	filter=0x33
	dump || return
	diagnose_core "$core" --json
	expect "no ELF headers, the file is there" 1 "${proved[@]}"
	mv "$work/flag-race" "$work/moved"
	diagnose_core "$core" --json
	refused "no ELF headers, the file is gone" 5 "no bhtrace note"
	diagnose_core "$core" --exe="$work/moved" --json
	expect "no ELF headers, --exe" 1 "${proved[@]}"
	diagnose_core "$core" --exe="$museum/callback-blocked" --json
	[[ $code = 5 && $(cat "$work/error") == *"$core"* ]] ||
		fail "a wrong --exe: exit $code: $(cat "$work/report" "$work/error")"
}

# Rings in files are shared mappings, which a core does not have.
ring_files() {
	mkdir "$work/rings"
	hang hung env BH_FLIGHT="file:$work/rings" "$museum/flag-race" --max-seconds 120
	dump || return
	diagnose_core "$core" --json
	expect "rings in files" 3 'd["verdict"] == "undecidable"' \
		"any('--ring $work/rings' in u for u in d['unseen'])"
}

refusals() {
	diagnose_core /nonexistent
	refused "no such file" 5 "/nonexistent: No such file"
	diagnose_core "$BHTRACE"
	refused "a program" 5 "not a core"
	diagnose_core /proc/self/exe/x
	refused "no directory" 5 "Not a directory"
	start sleep 100
	wait_until 10 grep -q '^sleep' "/proc/$pid/comm"
	by_gdb
	diagnose_core "$core"
	refused "not instrumented" 5 "not linked with libbh"
}

command -v gcore >/dev/null || skip "no gcore"
flag_race
blocked
controls
programs
refusals
if kernel_dumps; then
	filtered
	ring_files
else
	echo "cores of the kernel left out: core_pattern is $(cat /proc/sys/kernel/core_pattern), limit $(ulimit -H -c)"
fi
[ $failed -eq 0 ]
