#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# rescue: wakes a loop whose notification was lost and says whether that was it;
# leaves all others alone.
# shellcheck source-path=SCRIPTDIR source=common.bash
. "$(dirname "$0")/common.bash"

rescue() { bhtrace rescue -p "$@"; } # PID OPTION...

# expect_rescue WHAT CODE OUTCOME [EXPRESSION]...: of the last rescue --json.
expect_rescue() {
	local unmet
	[ "$code" = "$2" ] || fail "$1: exit $code, not $2: $(cat "$work/error" "$work/report")"
	unmet=$(python3 - "$work/report" "d['outcome'] == '$3'" "${@:4}" 2>&1 <<-'EOF'
		import json, sys
		d = json.load(open(sys.argv[1]))
		b, a = d["before"], d["after"]
		print(*(e for e in sys.argv[2:] if not eval(e)), sep="; ")
	EOF
	)
	[ -z "$unmet" ] || fail "$1: not true: $unmet: $(cat "$work/report")"
}

start_piece() { # WORD PROGRAM OPTION...
	[ -x "$OUT/museum/$2" ] || skip "no $OUT/museum/$2"
	start "$OUT/museum/$2" --max-seconds 200 "${@:3}"
	await "$1" 100 || fail "${*:2}: not $1: $(cat "$log")"
}

# What a write to the eventfd or a stop would change.
trace() { cat "/proc/$pid/task/$pid/status" /proc/"$pid"/fdinfo/* | grep -E 'ctxt_switches|eventfd-count'; }

# --- a notification that was lost ------------------------------------------------------

start_piece hung notify-missing
before=$(trace)
rescue "$pid" --json
expect_rescue "nobody to ask" 2 "not wanted" 'not d["written"]' 'a is None' 'b["flags"] & 1' \
	'd["rule"] == "notify-missing"'
[ "$before" = "$(trace)" ] || fail "nobody to ask: it was disturbed: $before, then $(trace)"
rescue "$pid" --json --yes
expect_rescue "rescue" 0 confirmed 'd["written"]' 'd["rule"] == "notify-missing"' 'a["runs"] > b["runs"]' \
	'a["iteration"] > b["iteration"]' 'b["notifier_count"] == 0' 'b["flags"] & 1' "d['pid'] == $pid"
diagnose "$pid" --json # it goes on, until it is lost again
expect "after the rescue" 1 'f["rule"] == "notify-missing"' 'f["bh"]["runs"] > 63'
rescue "$pid" --yes
[[ $code = 0 && $(head -n 1 "$work/report") == "CONFIRMED: "* ]] || fail "text: exit $code: $(cat "$work/report")"
grep -q '^   before  loop asleep, .*; bottom half scheduled, ' "$work/report" || fail "text: no state before"
grep -q '^   after   loop ' "$work/report" || fail "text: no state after"

# A container may have no pseudo-terminals.
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then
	ask() { script -qec "$BHTRACE rescue -p $pid" /dev/null <<<"$1" >"$work/report"; }
	ask n
	[ $? = 2 ] || fail "no means no: $(cat "$work/report")"
	grep -q 'Write 1 into eventfd' "$work/report" || fail "it does not ask: $(cat "$work/report")"
	ask y
	grep -q 'CONFIRMED: ' "$work/report" || fail "yes means yes: $(cat "$work/report")"
fi
stop "$pid"

# --- what looks like it and is something else: the bottom half is in no list -------------

cat >"$work/unlisted.c" <<'EOF'
#include <stdio.h>
#include <unistd.h>
#include "loop.h"
#include "protocol.h"
static struct bh_loop *loop;
static struct bh *work;
static void nothing(void *opaque) { (void)opaque; }
static void *producer(void *arg)
{
	while (atomic_load(&loop->o.where) != BHP_WAIT)
		usleep(1000);
	uint32_t old = bh_flag_update(work, BH_OP_SCHEDULE);
	bhp_emit(schedule, .loop = loop, .bh = work, .seen = old & BHP_FLAG_SCHEDULED, .kind = BHP_KIND_NORMAL);
	printf("ready pid=%d\n", getpid());
	fflush(stdout);
	pause();
	return arg;
}
int main(void)
{
	pthread_t thread;
	alarm(200);
	loop = bh_loop_new("main");
	work = bh_new(loop, nothing, NULL, "work");
	pthread_create(&thread, NULL, producer, NULL);
	return bh_loop_run(loop);
}
EOF
"${CC:-gcc}" -std=gnu11 -O2 -D_GNU_SOURCE -Ilib -Iprobes "$work/unlisted.c" -o "$work/unlisted" "$OUT/libbh.a" -pthread ||
	fail "unlisted: does not compile"
start_ready "$work/unlisted"
rescue "$pid" --json --yes
expect_rescue "unlisted" 1 "not confirmed" 'd["written"]' 'a["runs"] == b["runs"]' 'a["flags"] & 1' \
	'a["iteration"] > b["iteration"]' 'd["rule"] == "notify-missing"'
stop "$pid"

# --- what a wakeup does not help with, and who must not be touched ----------------------

refuse_piece() { # TEXT WORD PROGRAM OPTION...
	local before
	start_piece "${@:2}"
	before=$(trace)
	rescue "$pid" --json --yes
	expect_rescue "${*:3}" 3 refused "'$1' in d['sentence']" 'not d["written"]' 'b is None and a is None'
	[ "$before" = "$(trace)" ] || fail "${*:3}: it was disturbed: $before, then $(trace)"
	stop "$pid"
}

[ "$(nproc)" -lt 2 ] || refuse_piece "would find nothing to run" hung flag-race
refuse_piece "does not sleep in its wait" hung callback-blocked
refuse_piece "healthy: " idle notify-missing --variant fixed --rounds 20000 --idle-after

rescue 4194304 --yes
refused "no process" 5 "does not exist"
is_sleep() { [ "$(cat "/proc/$pid/comm")" = sleep ]; }
start sleep 60
wait_until 10 is_sleep
rescue "$pid" --yes
refused "no libbh" 5 "not linked with libbh"
stop "$pid"
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	start_piece hung notify-missing
	cp "$BHTRACE" "$work/bhtrace" && chmod 755 "$work/bhtrace"
	setpriv --reuid=65534 --regid=65534 --clear-groups "$work/bhtrace" rescue -p "$pid" --yes 2>"$work/error"
	code=$?
	refused "another user" 4 CAP_SYS_PTRACE
	stop "$pid"
fi
[ $failed -eq 0 ]
