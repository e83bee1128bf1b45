#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Stock libuv, really hung: a program that is started by bhtrace run is diagnosed from
# outside; the one with a fence is healthy; what cannot be recorded is refused.
#
# RUNS of each (3), each of which may take HANG_SECONDS (60) to hang.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"
runs=${RUNS:-3} patience=${HANG_SECONDS:-60}
program=$OUT/foreign/uv-race
[ -x "$program" ] || skip "no $program: libuv1-dev is not installed"
[ -e "$OUT/libbh-uv.so.0" ] || skip "no $OUT/libbh-uv.so.0"

# --- hangs ------------------------------------------------------------------------------

hangs() { # CONFIDENCE OPTION...
	local confidence=$1 run before=$failed
	shift
	for ((run = 1; run <= runs; run++)); do
		start "$BHTRACE" run -- "$program" --max-seconds $((patience + 30)) "$@"
		if await hung "$patience"; then
			diagnose "$pid" --json
			expect "uv-race $*" 1 'd["verdict"] == "lost"' 'f["rule"] == "flag-race"' \
				"f['confidence'] == '$confidence'" 'f["loop"]["name"].startswith("uv-")' \
				'f["bh"]["flags"] == 0' 'd["cost"]["stopped_us"] == 0' 'len(d["findings"]) == 1' \
				'"producer half" in f["explanation"]' \
				'any(e["key"] and e["event"] == "schedule" and e["fields"]["seen"] for e in f["evidence"])'
			rounds+=("$(sed -n 's/^after rounds=//p' "$log")")
		else
			fail "uv-race $*: did not hang in $patience s: $(cat "$log")"
		fi
		stop "$pid"
	done
	echo "uv-race $*: $runs runs, $((failed - before)) failures, wanted flag-race ($confidence)"
}

controls() {
	local run before=$failed
	for ((run = 1; run <= runs; run++)); do
		start "$BHTRACE" run -- "$program" --variant fixed --rounds 100000 --idle-after --max-seconds 120
		if await idle 100; then
			wait_until 5 settled "$pid"
			diagnose "$pid" --json
			expect "the fenced control" 0 'd["verdict"] == "healthy"' 'd["findings"] == []' 'd["looked_at"]["loops"] == 1'
		else
			fail "the fenced control did not come to its end: $(cat "$log")"
		fi
		stop "$pid"
	done
	echo "uv-race, fenced: $runs runs, $((failed - before)) failures, wanted healthy"
}

# The loop polls for a while before it sleeps.
settled() { grep -q '^State:.S' "/proc/$1/status"; }

# --- what is recorded, and kept ------------------------------------------------------------

survives_kill() {
	mkdir "$work/kept"
	start "$BHTRACE" run --flight="file:$work/kept" -- "$program" --max-seconds $((patience + 30))
	await hung "$patience" || fail "--flight: did not hang: $(cat "$log")"
	stop "$pid"
	bhtrace diagnose --ring "$work/kept" --json
	expect "the files of a killed process" 1 'f["rule"] == "flag-race"'
}

# A program without libuv, its exit code, its arguments, and what was preloaded before.
unchanged() {
	local said
	# shellcheck disable=SC2016 # for the shell that is run
	said=$(LD_PRELOAD=$work/none.so "$BHTRACE" run -- sh -c 'echo "$1 $LD_PRELOAD"; exit 7' sh "a b" 2>/dev/null)
	[ $? = 7 ] || fail "the exit code of a program without libuv got lost"
	[ "$said" = "a b $(realpath "$OUT/libbh-uv.so.0"):$work/none.so" ] || fail "the command was changed: '$said'"
}

# --- bad uses ---------------------------------------------------------------------------------

refusals() {
	bhtrace run
	refused "no command" 2 "no command given"
	bhtrace run --flight=often true
	refused "a bad --flight" 2 "--flight=often"
	bhtrace run --flight=file:"$work/missing" true
	refused "no directory" 5 "No such file"
	bhtrace run "$work/missing"
	refused "no such command" 5 "No such file"
	echo text >"$work/text"
	bhtrace run "$work/text"
	refused "not executable" 4 "Permission denied"
	chmod +x "$work/text"
	bhtrace run "$work/text"
	refused "not a program" 5 "neither a script nor a program"
	printf '#!%s\n' "$work/script" >"$work/script"
	chmod +x "$work/script"
	bhtrace run "$work/script"
	refused "a script of itself" 5 "interpreters are scripts"
	echo 'int main(void) { return 0; }' >"$work/main.c"
	"${CC:-gcc}" -static "$work/main.c" -o "$work/static" && bhtrace run "$work/static" &&
		refused "a static program" 5 "a static program"
	python3 - "$work/static" "$work/small" <<-'EOF2'
		import sys
		b = bytearray(open(sys.argv[1], "rb").read())
		b[4] = 1 # ELFCLASS32
		open(sys.argv[2], "wb").write(b)
	EOF2
	chmod +x "$work/small"
	bhtrace run "$work/small"
	refused "a 32-bit program" 5 "32-bit"
	echo 'int uv_async_send(void *h) { return h != 0; } int main(void) { return uv_async_send(0); }' >"$work/own.c"
	"${CC:-gcc}" -rdynamic "$work/own.c" -o "$work/own" && bhtrace run "$work/own" && refused "a libuv of its own" 5 "libuv of its own"
	privileged
	# The recorder is missing.
	cp "$BHTRACE" "$work/bhtrace"
	timeout 30 "$work/bhtrace" run true >"$work/report" 2>"$work/error"
	code=$?
	[ $code = 0 ] || refused "no recorder" 5 "neither beside bhtrace"
}

privileged() {
	[ "$(id -u)" = 0 ] || return
	cp /bin/true "$work/privileged"
	chown 65534 "$work/privileged" && chmod u+s "$work/privileged" || return
	bhtrace run "$work/privileged"
	refused "a set-user-ID program" 5 "set-user-ID"
}

# What is recorded of it is what it counts itself.
recorded() {
	local target did recorder
	"${CC:-gcc}" -O2 -g tests/foreign/uv-pingpong.c -o "$work/uv-pingpong" -pthread -luv || { fail "uv-pingpong"; return; }
	start_ready "$BHTRACE" run --flight=4M -- "$work/uv-pingpong" 20000 3 go stay
	target=$pid did=$log
	start "$BHTRACE" record --via flight -o "$work/recording" -p "$target"
	recorder=$pid
	wait_until 20 test -e "$work/recording" || fail "no recording: $(cat "$log")"
	kill -USR1 "$target"
	wait_until 60 grep -q '^did' "$did" || fail "uv-pingpong: $(cat "$did")"
	kill -INT "$recorder"
	wait "$recorder" || fail "record: exit $?: $(cat "$log")"
	bhtrace report "$work/recording" --json
	python3 - "$work/report" "$did" <<-'EOF' || fail "recorded: $(head -c 2000 "$work/report" "$work/error")"
		import json, re, sys
		report, did = json.load(open(sys.argv[1])), dict(re.findall(r"(\w+)=(\d+)", open(sys.argv[2]).read()))
		rows = [r for l in report["processes"][0]["loops"] for r in l["bottom_halves"]]
		row = max(rows, key=lambda r: r["counts"]["schedules"])
		counts, gaps = row["counts"], row["gaps"]["count"]
		print("recorded:", counts["schedules"], "sends,", counts["executions"], "callbacks,", gaps, "gaps")
		assert counts["schedules"] == int(did["sends"]) and counts["executions"] == int(did["callbacks"]), (counts, did)
		assert gaps == counts["executions"], row
	EOF
	stop "$target"
}

rounds=()
if [ "$(nproc)" -ge 2 ]; then
	hangs proved
	hangs consistent --no-tickets
	echo "hung after $(median "${rounds[@]}") rounds (median)"
	survives_kill
fi
controls
recorded
unchanged
refusals
[ $failed -eq 0 ]
