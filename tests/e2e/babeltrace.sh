#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What is read from LTTng's traces is what happened: event by event what the flight
# recorder saw of the same run, and as much as babeltrace2 finds.
# shellcheck source-path=SCRIPTDIR source=lttng.bash
. "$(dirname "$0")/lttng.bash"
piece=$OUT/museum/notify-missing
[ -x "$piece" ] || skip "no $piece"
"${CC:-gcc}" -std=gnu11 -O1 -g -D_GNU_SOURCE -Iprobes -Ianalysis -Ianalysis/sources tests/e2e/babeltrace.c \
	"$OUT/libanalysis.a" -lbabeltrace2 -ljansson -ldw -lelf -o "$work/reader" || exit 1

# --- sessions ----------------------------------------------------------------------

start_daemon() {
	start lttng-sessiond --no-kernel
	wait_until 20 test -S "$LTTNG_HOME/.lttng/client-lttng-sessiond" || skip "no session daemon: $(cat "$log")"
}

# session NAME EVENTS WHERE CHANNEL-OPTION...: starts one that records EVENTS, with
# the contexts $contexts.
contexts="-t vpid -t vtid -t procname"
session() {
	local name=$1 events=$2 where=$3
	shift 3
	# shellcheck disable=SC2086 # WHERE and contexts are several options
	if ! { lttng -q create "$name" $where && lttng -q enable-channel -u events "$@" &&
		lttng -q enable-event -u "$events" -c events &&
		{ [ -z "$contexts" ] || lttng -q add-context -u -c events $contexts; } && lttng -q start "$name"; }; then
		fail "$name: no session"
	fi
}

over() { lttng -q stop "$1" && lttng -q destroy "$1"; } # NAME

run() { # ROUNDS [VARIABLE=VALUE]
	env LD_PRELOAD="$OUT/libbh-lttng.so.0" LTTNG_UST_REGISTER_TIMEOUT=-1 "${@:2}" "$piece" --variant fixed \
		--rounds "$1" --max-seconds 100 >"$work/piece.log" 2>&1 || fail "the piece: $(cat "$work/piece.log")"
}

# look COMMAND...: runs the reader; $work/found has what it found.
look() {
	timeout 60 "$work/reader" "$@" >"$work/found" 2>&1 || fail "reading $*: $(cat "$work/found")"
}

found() { sed -n "s/^$1 //p" "$work/found"; } # KEY

found_to_be() { # WHAT KEY VALUE
	[ "$(found "$2")" = "$3" ] || fail "$1: $2 is not $3: $(cat "$work/found")"
}

# --- cases -------------------------------------------------------------------------

# Both recorders get the same records, so not a bit may differ.
same_as_flight() {
	mkdir "$work/rings"
	session same "bh:*" "--output=$work/same" --subbuf-size=4M --num-subbuf=8
	run 5000 BH_FLIGHT="file:$work/rings,64M"
	over same
	look compare "$work/rings" "$work/same"
	found_to_be "both recorders" same 1
	found_to_be "both recorders" losses 0
	found_to_be "both recorders" processes 1
	found process | grep -q "^[0-9]* notify-missing $(hostname)$" || fail "the process: $(cat "$work/found")"
	[ "$(found events)" -gt 20000 ] || fail "too few events: $(cat "$work/found")"
	echo "$(found events) events, the same from both recorders"
}

# All event names, ours among them, in buffers of each process; read with the other.
several() {
	local wanted
	session several "*" "--output=$work/several" --buffers-pid --subbuf-size=1M --num-subbuf=8
	run 300 && run 300
	over several
	babeltrace2 "$work/several" 2>/dev/null | grep -qv ' bh:' || fail "several: no events of others"
	wanted=$(($(events_in "$work/several" ' bh:') + $(events_in "$work/same" ' bh:')))
	look "$work/several" "$work/same"
	found_to_be "several traces" events "$wanted"
	found_to_be "several traces" processes 3
	found_to_be "several traces" losses 0
}

# Buffers that are too small; what is missing is told of.
discarded() {
	session small "bh:*" "--output=$work/small" --subbuf-size=4K --num-subbuf=2
	run 100000
	over small
	local lost
	lost=$(babeltrace2 "$work/small" 2>&1 >/dev/null | grep -o 'discarded [0-9]* event' | grep -o '[0-9]*' |
		python3 -c 'import sys; print(sum(map(int, sys.stdin)))')
	look "$work/small"
	found_to_be "small buffers" lost "$lost"
	[ "$lost" -gt 0 ] || fail "nothing was discarded"
	found_to_be "small buffers" events "$(events_in "$work/small" ' bh:')"
}

without_contexts() {
	contexts='' session bare "bh:*" "--output=$work/bare"
	run 10
	over bare
	"$work/reader" "$work/bare" >"$work/found" 2>&1
	grep -q '^refused .*neither a context nor its packet names its thread' "$work/found" ||
		fail "no contexts: $(cat "$work/found")"
}

free_ports() {
	python3 - <<-'PYTHON'
		import socket
		s = [socket.create_server(("127.0.0.1", 0)) for i in range(3)]
		print(*(x.getsockname()[1] for x in s))
	PYTHON
}

listens() { (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; } # PORT

# From a relayd while the session goes on, to its end; then one that has no end.
live() {
	local control data port url
	read -r control data port < <(free_ports)
	start lttng-relayd -C "tcp://127.0.0.1:$control" -D "tcp://127.0.0.1:$data" -L "tcp://127.0.0.1:$port" \
		-o "$work/relay"
	url=net://127.0.0.1:$port/host/$(hostname)
	wait_until 20 listens "$port" || skip "no relayd: $(cat "$log")"
	"$work/reader" "$url/nobody" >"$work/found" 2>&1
	grep -q '^refused .*: no such session' "$work/found" || fail "no session: $(cat "$work/found")"

	session live "bh:*" "--live=100000 --set-url=net://127.0.0.1:$control:$data" --subbuf-size=4M --num-subbuf=4
	start timeout 60 "$work/reader" "$url/live"
	local reader=$pid reader_log=$log
	run 3000
	over live
	wait "$reader" || fail "reading live: exit $? $(cat "$reader_log")"
	cp "$reader_log" "$work/found"
	found_to_be "live" events "$(events_in "$work/relay" ' bh:')"
	[ "$(found events)" -gt 10000 ] || fail "live: too few events: $(cat "$work/found")"

	session endless "bh:*" "--live=100000 --set-url=net://127.0.0.1:$control:$data"
	start "$work/reader" "$url/endless"
	reader=$pid reader_log=$log
	run 100
	kill -INT "$reader"
	wait "$reader" || fail "reading live until SIGINT: exit $?: $(cat "$reader_log")"
	grep -q '^events ' "$reader_log" || fail "reading live until SIGINT: $(cat "$reader_log")"
	over endless
}

start_daemon
same_as_flight
several
discarded
without_contexts
live
[ "$failed" -eq 0 ]
