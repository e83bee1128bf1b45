#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Two recorded processes stream to one relayd on loopback: each is diagnosed from
# there while it runs, by name of host and process, and from what relayd wrote.
# shellcheck source-path=SCRIPTDIR source=lttng.bash disable=SC2154 # failed is of common.bash
. "$(dirname "$0")/lttng.bash"
[ -x "$OUT/museum/flag-race" ] || skip "no $OUT/museum/flag-race"
[ "$(nproc)" -ge 2 ] || skip "one processor: no two threads to race"

cp "$OUT/museum/flag-race" "$work/target-race" || exit 1

# A callback that takes longer than anybody may wait, again and again.
cat >"$work/late.c" <<'EOC'
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include "bh.h"

static struct bh *work, *hog;

static void do_work(void *opaque)
{
	(void)opaque;
}

static void do_hog(void *opaque)
{
	(void)opaque;
	usleep(800 * 1000);
}

static void *produce(void *arg)
{
	for (;;) {
		usleep(50 * 1000);
		bh_schedule(hog);
		bh_schedule(work);
	}
	return arg;
}

int main(void)
{
	struct bh_loop *loop = bh_loop_new("main");
	pthread_t id;

	alarm(300);
	hog = bh_new(loop, do_hog, NULL, "hog");
	work = bh_new(loop, do_work, NULL, "work");
	pthread_create(&id, NULL, produce, NULL);
	printf("ready pid=%d\n", getpid());
	fflush(stdout);
	bh_loop_run(loop);
	return 0;
}
EOC
"${CC:-gcc}" -std=gnu11 -O2 -D_GNU_SOURCE -Ilib "$work/late.c" -o "$work/target-late" -pthread -L"$OUT" -lbh || exit 1

free_ports() {
	python3 - <<-'EOF'
		import socket
		s = [socket.create_server(("127.0.0.1", 0)) for i in range(3)]
		print(*(x.getsockname()[1] for x in s))
	EOF
}

listens() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # PORT

start_relayd() {
	read -r control data live < <(free_ports)
	start lttng-relayd -C "tcp://127.0.0.1:$control" -D "tcp://127.0.0.1:$data" -L "tcp://127.0.0.1:$live" \
		-o "$work/relay"
	relayd=$pid relayd_log=$log
	wait_until 20 listens "$live" || skip "no relayd: $(cat "$relayd_log")"
	url=net://127.0.0.1:$control:$data:$live
}

# stream COMMAND...: a recorder with a target; sets $session_url.
stream() {
	record_on --to "$url" -- "$@"
	wait_until 20 target_of >/dev/null || fail "$*: no target: $(cat "$record_log")"
	session_url=$(sed -n 's/.*bhtrace diagnose \(net:[^ ]*\).*/\1/p' "$record_log")
	[ "$session_url" = "net://127.0.0.1:$live/host/$(hostname)/${session_url##*/}" ] ||
		fail "$*: read it at '$session_url'? $(cat "$record_log")"
}

# Reads URL for some seconds, until Ctrl-C, and sees what is late.
found_late() { # URL
	timeout --preserve-status --signal=INT 5 "$BHTRACE" diagnose "$1" --json \
		>"$work/report" 2>"$work/error" </dev/null
	code=$?
	[ -s "$work/report" ] && diagnosed target-late slow-callback
}

# The report has a process COMMAND of this host with a finding RULE. A session has
# all processes of its daemon.
diagnosed() { # COMMAND RULE
	[ -z "$(query unmet "any(p['target']['command'] == '$1' and p['target']['hostname'] == '$(hostname)'
		and any(f['rule'] == '$2' for f in p['findings']) for p in d.get('processes', [d]))" 2>&1)" ]
}

# What the report says of each process.
told() {
	cat "$work/error"
	query values '[(p["target"]["command"], p["sentence"], p["loss"], p["reasons"]) for p in d.get("processes", [d])]'
}

# A hang is read from its beginning to the end of its session. Where LTTng had to
# discard events it may be undecidable; never anything else.
hung_live() {
	local reader hung_log
	stream "$work/target-race" --max-seconds 60
	hung_log=$record_log
	timeout 100 "$BHTRACE" diagnose "$session_url" --json >"$work/report" 2>"$work/error" </dev/null &
	reader=$!
	wait_until 60 grep -q "^hung " "$hung_log" || fail "flag-race: did not hang: $(cat "$hung_log")"
	interrupt
	[ "$code" = 0 ] || fail "flag-race: recorder: exit $code: $(cat "$hung_log")"
	wait "$reader"
	code=$?
	[ "$code" = 1 ] && diagnosed target-race flag-race && return
	[ "$code" = 3 ] || fail "hung, live: exit $code: $(told)"
	return 1
}

# Both stream to the same place. One goes on, and is looked at again and again.
two_processes() {
	local late late_url
	stream "$work/target-late"
	late=$recorder late_url=$session_url
	hung_live || hung_live || hung_live || fail "hung, live: undecidable thrice: $(told)"
	wait_until 60 found_late "$late_url" || fail "late, live: $(told)"
	kill -INT "$late"
	wait "$late" || fail "late: recorder: exit $?"
	end_targets
	readable "what relayd wrote" "$work/relay"
}

# Nobody there.
no_relayd() {
	read -r control _ < <(free_ports)
	bhtrace record --via lttng --to "net://127.0.0.1:$control" -- "$work/target-late"
	refused "no relayd" 5 "is lttng-relayd running there"
	pgrep -f "^$work/target-late" >/dev/null && fail "a target was started for nothing"
}

# The network goes away: the target and the recorder go on.
relayd_killed() {
	local id
	stream "$work/target-late"
	id=$(target_of)
	stop "$relayd"
	sleep 1 # it streams into the void
	gone "$id" && fail "the target ended with relayd"
	interrupt
	gone "$id" && fail "the target ended with the recorder"
	[ "$code" = 0 ] || [ -s "$record_log" ] || fail "relayd was killed: exit $code, and no word"
	kill -KILL "$id"
}

start_relayd
two_processes
no_relayd
relayd_killed
no_daemon || fail "the daemon was left running"
[ "$failed" -eq 0 ]
